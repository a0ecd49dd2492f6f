//! Figures that are no rates of requests: the generator's precision, idle connections, and the engine without HTTP.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Suite, quantiles, say};
use crate::apply::{self, ApplyOptions};
use crate::calibrate;
use crate::cpu;
use crate::error::Result;
use crate::idle::IdlePlan;
use crate::interrupt;
use crate::node::Node;
use crate::report::{Fact, Report};

const IDLE_KIB: f64 = 16.0;
const APPLY_RATE: f64 = 250_000.0;
const APPLY_IF_RATE: f64 = 150_000.0;
/// Of each of the calibration's steps.
const CALIBRATION: Duration = Duration::from_millis(600);
const PARTITIONS: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");

impl Suite<'_> {
    /// How right the latencies are that follow.
    pub(super) fn calibration(&self, report: &mut Report) -> Result<()> {
        say("answers that take a known time");
        let calibration = calibrate::run(self.places.server, CALIBRATION)?;
        say(&format!("latencies are right to within {:.1} µs", calibration.precision_us()));
        let value = calibration.precision_us();
        let wanted = calibrate::WANTED_US;
        report.facts.push(Fact {
            name: "largest error of a measured p50, against answers that take a known time".into(),
            value,
            unit: "µs".into(),
            target: Some((format!("≤ {wanted:.0} µs"), value <= wanted)),
        });
        Ok(())
    }

    /// What idle connections cost the server, and everybody else.
    pub(super) fn idle_connections(&self, report: &mut Report, node: &Node) -> Result<()> {
        say(&format!("{} idle connections", self.idle));
        let idle = IdlePlan {
            target: node.api().clone(),
            pid: node.pid(),
            connections: self.idle,
            set: self.set,
            measured: self.measured,
        };
        let idle = idle.run()?;
        let each = idle.bytes_per_connection / 1024.0;
        report.facts.push(Fact {
            name: format!("{} idle connections, memory each", idle.connections),
            value: each,
            unit: "KiB".into(),
            target: Some(("≤ 16 KiB".into(), each <= IDLE_KIB)),
        });
        for (name, latency) in [("without them", &idle.quiet), ("beside them", &idle.beside)] {
            quantiles(report, &format!("10,000 gets/s {name}"), latency);
        }
        Ok(())
    }

    /// Applying mutations and reading records in this process.
    pub(super) fn engine(&self, report: &mut Report) -> Result<()> {
        say("the engine alone");
        cpu::pin_to(&[self.places.server, self.places.load])?;
        let engine = apply::run(&ApplyOptions {
            mutations: self.set.records,
            batch: 1000,
            value_bytes: self.set.value_bytes,
            partitions: PARTITIONS,
            gets: self.set.records,
            cpu: self.places.server,
            json: None,
        })?;
        // Nothing in there waits, so nothing in there looks.
        interrupt::check()?;
        cpu::pin(self.places.load)?;
        for apply in &engine.applies {
            let least = match apply.kind.as_str() {
                "puts, one if on each" => Some(("≥ 150,000/s", APPLY_IF_RATE)),
                kind if kind.contains("if") => None,
                _ => Some(("≥ 250,000/s", APPLY_RATE)),
            };
            report.facts.push(Fact {
                name: format!("apply: {}", apply.kind),
                value: apply.rate,
                unit: "/s".into(),
                target: least.map(|(text, least)| (text.to_owned(), apply.rate >= least)),
            });
        }
        for get in &engine.gets {
            report.facts.push(Fact {
                name: format!("engine get, {}", get.kind),
                value: get.mean_ns,
                unit: "ns".into(),
                target: None,
            });
        }
        Ok(())
    }
}

//! The open loop: what a request waits, by load and by connections.
//!
//! Every figure is from when a request was due; the uncorrected twin stands beside it in the report.
//!
//! **Not here**: what a core does at most (`lines`), which sets the loads that are tried, reads beside writes (`beside`), and
//! time lines (`disturbed`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{FEW, Suite, Yardsticks, tell};
use crate::error::{Result, Tried};
use crate::load::{LoadPlan, LoadReport, Measured};
use crate::node::Node;
use crate::process::Process;
use crate::report::{Fact, Point, Quantile, Report, Sweep};
use crate::request::Workload;
use crate::summary;

/// Offered loads, as shares of what the closed loop reached.
const LOADS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Warm-up for each connection.
const PER_CONNECTION: Duration = Duration::from_micros(200);
/// The load at which single requests are judged.
const JUDGED: f64 = 0.7;
const P50_US: f64 = 100.0;
const P999_US: f64 = 1_000.0;
/// Loads that the yardsticks are put under as well.
const PACED: [f64; 3] = [0.3, 0.5, 0.7];
/// Behind the name of a figure: what it is taken over.
pub(super) const CALM: &str = ", undisturbed windows";
pub(super) const ALL: &str = ", all windows";
/// Quantiles of a curve: half of what is left, again and again.
const HALVINGS: i32 = 17;

impl Suite<'_> {
    pub(super) fn paced(&self, server: &Process, rate: f64, connections: usize) -> LoadPlan {
        let mut plan = self.plan(server, Workload::Get(1), FEW);
        plan.rate = Some(rate);
        plan.connections = connections;
        // Accepting them all takes a while, and each should have had its first request.
        plan.warmup = plan.warmup.max(PER_CONNECTION * u32::try_from(connections).unwrap_or(u32::MAX));
        plan
    }

    /// One measurement of a sweep; its histogram is kept beside the report.
    pub(super) fn point(&self, name: &str, at: f64, measured: &Measured) -> Result<Point> {
        tell(name, &measured.report);
        let halves = (1..=HALVINGS).map(|n| 1.0 - 0.5_f64.powi(n));
        let curve = [0.0].into_iter().chain(halves).map(|quantile| Quantile {
            quantile,
            us: measured.latency.value_at_quantile(quantile) as f64 / 1000.0,
        });
        let file = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let path = self.histograms()?.join(format!("{file}.hlog"));
        let took = Duration::from_secs_f64(measured.report.seconds);
        summary::write_log(&path, measured.started, took, &measured.latency)?;
        let doubt = measured.report.doubt();
        Ok(Point { at, report: measured.report.clone(), curve: curve.collect(), doubt })
    }

    /// One measurement; at the judged load, of as many as a line has rounds the one in the middle by its p99.9: what the
    /// machine does once in a second and a half should not decide. Doubtful ones count as the worst.
    fn measured_at(&self, share: f64, name: &str, plan: &LoadPlan) -> Result<Measured> {
        if !is_judged(share) {
            return plan.measure();
        }
        let mut all = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            let measured = plan.measure()?;
            tell(&format!("{name}, one of {}", self.rounds), &measured.report);
            all.push(measured);
        }
        all.sort_by(|a, b| tail(&a.report).total_cmp(&tail(&b.report)));
        Ok(all.swap_remove(all.len() / 2))
    }

    /// Where histograms are kept.
    fn histograms(&self) -> Result<PathBuf> {
        let directory = self.options.out.join("hlog");
        fs::create_dir_all(&directory).tried(|| format!("create {}", directory.display()))?;
        Ok(directory)
    }

    /// Latency against load, and against the number of connections.
    pub(super) fn latencies(
        &self,
        report: &mut Report,
        yardsticks: &Yardsticks,
        node: &Node,
        knee: f64,
    ) -> Result<()> {
        let mut points = Vec::new();
        for share in LOADS {
            let name = format!("{:.0} % load", share * 100.0);
            let rate = if is_judged(share) { self.most(node, FEW)? } else { knee } * share;
            let plan = self.paced(node.process(), rate, 64);
            let measured = self.measured_at(share, &name, &plan)?;
            points.push(self.point(&name, rate, &measured)?);
            if is_judged(share) {
                judge(report, &measured);
            }
        }
        report.sweeps.push(Sweep {
            name: "One cached key, one core".into(),
            axis: "offered load, requests/s".into(),
            points,
        });
        self.yardsticks_paced(report, yardsticks, knee)?;
        let mut points = Vec::new();
        let mut counts = vec![64, 1_000, self.idle];
        // A quick run has no more idle ones than that.
        counts.dedup();
        for connections in counts {
            let measured = self.paced(node.process(), knee * 0.3, connections).measure()?;
            points.push(self.point(&format!("{connections} connections"), connections as f64, &measured)?);
        }
        report.sweeps.push(Sweep {
            name: "One cached key at 30 % of the most".into(),
            axis: "connections".into(),
            points,
        });
        Ok(())
    }

    /// The yardsticks under the loads that the node had: what of a tail is the machine's.
    fn yardsticks_paced(&self, report: &mut Report, yardsticks: &Yardsticks, knee: f64) -> Result<()> {
        let servers = [
            ("constant answer on the same runtime", Some(&yardsticks.constant)),
            ("nginx", yardsticks.nginx.as_ref()),
        ];
        for (name, server) in servers {
            let Some(server) = server else { continue };
            let mut points = Vec::new();
            for share in PACED {
                let mut plan = self.paced(server, knee * share, 64);
                plan.workload = Workload::Constant;
                let name = format!("{name}, {:.0} %", share * 100.0);
                let measured = self.measured_at(share, &name, &plan)?;
                points.push(self.point(&name, knee * share, &measured)?);
            }
            report.sweeps.push(Sweep {
                name: format!("For comparison: {name}, at the same loads"),
                axis: "offered load, requests/s".into(),
                points,
            });
        }
        Ok(())
    }
}

fn is_judged(share: f64) -> bool {
    (share - JUDGED).abs() < f64::EPSILON
}

/// The p99.9 by which a point is judged.
fn tail(report: &LoadReport) -> f64 {
    match report.doubt() {
        Some(_) => f64::INFINITY,
        None => report.judged().p999_us,
    }
}

fn judge(report: &mut Report, measured: &Measured) {
    let load = &measured.report;
    if let Some(doubt) = load.doubt() {
        report.notes.push(format!("Latency at 70 % of the most is not quoted: {doubt}."));
        return;
    }
    let of = "of one cached key at 70 % of the most";
    let calm = load.calm();
    let judged = load.judged();
    let (which, all) = if calm.is_some() { (CALM, ALL) } else { ("", "") };
    for (name, value, most) in [("p50", judged.p50_us, P50_US), ("p99.9", judged.p999_us, P999_US)] {
        report.facts.push(Fact {
            name: format!("{name} {of}{which}"),
            value,
            unit: "µs".into(),
            target: Some((format!("< {most:.0} µs"), value < most)),
        });
    }
    let Some(calm) = calm else { return };
    for (name, value) in [("p50", load.latency.p50_us), ("p99.9", load.latency.p999_us)] {
        report.facts.push(plain(format!("{name} {of}{all}"), value, "µs"));
    }
    report.facts.push(plain("undisturbed windows at 70 % of the most".into(), calm.share * 100.0, "%"));
}

/// A figure without a target.
pub(super) fn plain(name: String, value: f64, unit: &str) -> Fact {
    Fact { name, value, unit: unit.into(), target: None }
}

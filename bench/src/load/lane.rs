//! One of the loads of a plan: what it asks, how often, and what was measured of it.
//!
//! **Not here**: connections in flight (`connection`), and the loop that keeps the pace (`generator`).

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::LoadPlan;
use super::connection::Connection;
use crate::dataset::{DataSet, LISTED, Shape};
use crate::error::{BenchError, Result};
use crate::picker::Picker;
use crate::request::{Template, Workload};
use crate::summary::latencies;

/// One of the loads of a plan.
pub(super) struct Lane {
    workload: Workload,
    pub(super) template: Template,
    pub(super) picker: Picker,
    /// Its connections without a request, used in turn.
    pub(super) idle: VecDeque<usize>,
    /// Time between two requests in the open loop, in ns; 0 in the closed loop.
    pub(super) interval: f64,
    /// Requests sent since the pace was last restarted, and when that was.
    pub(super) paced: u64,
    pub(super) pace_from: u64,
    /// Length of every answer's body, learnt from the first one that was compared.
    pub(super) length: Option<usize>,
    pub(super) requests: u64,
    /// From due to answered, and from sent to answered.
    pub(super) latency: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    /// From when it was due and a connection was free until it was sent: the generator's own delay.
    pub(super) delay: Histogram<u64>,
}

impl Lane {
    /// A lane at its start; without a rate it is a closed loop.
    pub(super) fn new(plan: &LoadPlan, workload: Workload, rate: Option<f64>) -> Result<Self> {
        Ok(Self {
            workload,
            template: Template::new(workload, plan.set, &plan.target.host, plan.protocol)?,
            picker: Picker::new(
                plan.seed.wrapping_add(u64::from(workload == Workload::Put)),
                plan.range,
                plan.distribution,
            ),
            idle: VecDeque::new(),
            interval: rate.map_or(0.0, |rate| 1e9 / rate),
            paced: 0,
            pace_from: 0,
            length: None,
            requests: 0,
            latency: latencies(),
            service: latencies(),
            delay: latencies(),
        })
    }

    /// Forgets what was measured and starts the pace anew.
    pub(super) fn restart(&mut self, from: u64) {
        self.latency.reset();
        self.service.reset();
        self.delay.reset();
        self.requests = 0;
        self.paced = 0;
        self.pace_from = from;
    }

    /// When the next request is due.
    pub(super) fn next_due(&self) -> u64 {
        self.pace_from + (self.paced as f64 * self.interval) as u64
    }

    /// Ends the run if an answer is not what this load must get.
    pub(super) fn check(
        &mut self,
        set: &DataSet,
        connection: &Connection,
        status: u16,
        length: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let body = connection.reader.body();
        if status != 200 || self.length.is_some_and(|expected| expected != length) {
            let expected = self.length.map_or(String::new(), |expected| format!(" instead of {expected}"));
            let body = String::from_utf8_lossy(body);
            return Err(BenchError::Answer(format!("status {status}, {length} bytes{expected} {body}")));
        }
        if !connection.sampled {
            return Ok(());
        }
        match self.workload {
            Workload::Get(_) => set.check(&connection.numbers, body, scratch)?,
            Workload::List => {
                assert!(set.shape == Shape::Listed, "a list is planned over listed records");
                let first = connection.numbers[0] / LISTED * LISTED;
                let numbers: Vec<u32> = (first..first + LISTED).collect();
                set.check(&numbers, body, scratch)?;
            }
            Workload::Miss => {
                if body != br#"{"Records":[]}"# {
                    return Err(BenchError::Answer("a record that nobody put is there".into()));
                }
            }
            Workload::Put | Workload::Constant => {}
        }
        self.length = Some(length);
        Ok(())
    }
}

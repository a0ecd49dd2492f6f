//! What one load measurement found, for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::summary::Summary;

/// Above this share of its CPU, the generator itself may have been what limited a closed loop.
const BUSY: f64 = 0.97;
/// Above this own delay (p99, µs) an open loop's figures say more about the generator than about the server.
const LATE_US: f64 = 100.0;

/// CPU time used by the generator's thread and by the server's process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) own: Duration,
    pub(super) server: Option<Duration>,
}

impl Usage {
    pub(super) fn since(&self, before: &Self) -> Self {
        let server = self.server.zip(before.server).map(|(now, then)| now.saturating_sub(then));
        Self { own: self.own.saturating_sub(before.own), server }
    }
}

/// Rate and latencies of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    pub(crate) target: String,
    pub(crate) workload: String,
    pub(crate) connections: usize,
    /// Records in the data set, and how many of them were asked for.
    pub(crate) records: u32,
    pub(crate) asked_records: u32,
    pub(crate) value_bytes: usize,
    /// Length of every answer's body.
    pub(crate) answer_bytes: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    /// Requests and records a second.
    pub(crate) rate: f64,
    pub(crate) records_rate: f64,
    /// The open loop's pace, requests a second.
    pub(crate) offered_rate: Option<f64>,
    /// Requests that were due and never sent, because every connection was busy.
    pub(crate) unsent: u64,
    /// In the open loop from when a request was due, else from when it was sent.
    pub(crate) latency: Summary,
    /// From when it was sent (open loop only).
    pub(crate) service: Option<Summary>,
    /// The generator's own delay in sending what was due (open loop only).
    pub(crate) delay: Option<Summary>,
    /// Latency of the writes beside the reads, if there were any, from when they were due.
    #[serde(default)]
    pub(crate) writes: Option<Summary>,
    /// CPUs used, 1.0 = one whole.
    pub(crate) generator_cpu: f64,
    pub(crate) server_cpu: Option<f64>,
}

impl LoadReport {
    /// Requests for each second of CPU time that the server's process used.
    pub(crate) fn rate_per_server_cpu(&self) -> Option<f64> {
        self.server_cpu.filter(|&cpu| cpu > 0.0).map(|cpu| self.rate / cpu)
    }

    /// What makes the figures doubtful, if anything.
    pub(crate) fn doubt(&self) -> Option<String> {
        if self.offered_rate.is_none() && self.generator_cpu > BUSY {
            return Some(format!(
                "the generator used {:.0} % of its CPU and may be the limit",
                self.generator_cpu * 100.0
            ));
        }
        if let Some(delay) = self.delay.filter(|delay| delay.p99_us > LATE_US) {
            return Some(format!("the generator itself was late by {:.0} µs (p99)", delay.p99_us));
        }
        (self.unsent > 0)
            .then(|| format!("{} requests were due and never sent: more than the server takes", self.unsent))
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = self.offered_rate.map_or("closed loop".into(), |rate| format!("open loop at {rate:.0}/s"));
        writeln!(
            f,
            "{} on {}, {} connections, {pace}, {:.1} s",
            self.workload, self.target, self.connections, self.seconds
        )?;
        writeln!(
            f,
            "  {:.0} requests/s  {:.0} records/s  ({} requests)",
            self.rate, self.records_rate, self.requests
        )?;
        writeln!(f, "  latency      {}", self.latency.line())?;
        if let Some(service) = &self.service {
            writeln!(f, "  uncorrected  {}", service.line())?;
        }
        if let Some(delay) = &self.delay {
            writeln!(f, "  own delay    {}", delay.line())?;
        }
        if let Some(writes) = &self.writes {
            writeln!(f, "  writes       {}", writes.line())?;
        }
        write!(f, "  CPU: generator {:.0} %", self.generator_cpu * 100.0)?;
        if let Some(server) = self.server_cpu {
            write!(f, ", server {:.0} %", server * 100.0)?;
        }
        writeln!(f)?;
        if let Some(doubt) = self.doubt() {
            writeln!(f, "  DOUBTFUL: {doubt}")?;
        }
        Ok(())
    }
}

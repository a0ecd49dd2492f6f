//! What one load measurement found, for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::again::Resent;
use crate::summary::Summary;

/// Above this share of its CPU spent on work, the generator itself may have been the limit.
const BUSY: f64 = 0.97;
/// Above this own delay (p99, µs) an open loop's figures say more about the generator than about the server.
const LATE_US: f64 = 100.0;
/// Undisturbed windows are judged by when they are so large a share of all, and hold so many answers: of fewer, p99.9
/// would be a handful of values.
const ENOUGH_WINDOWS: f64 = 0.2;
const ENOUGH_VALUES: u64 = 10_000;

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

/// The open loop's latencies over those windows alone in which the machine kept nobody off a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Undisturbed {
    /// As in the whole report: from due, from sent, and the generator's own delay.
    pub(crate) latency: Summary,
    pub(crate) service: Summary,
    pub(crate) delay: Summary,
    /// Windows in all, and the share of undisturbed ones.
    pub(crate) windows: u64,
    pub(crate) share: f64,
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
    /// The same three over undisturbed windows (open loop only).
    #[serde(default)]
    pub(crate) undisturbed: Option<Undisturbed>,
    /// Latency of the writes beside the reads, if there were any, from when they were due.
    #[serde(default)]
    pub(crate) writes: Option<Summary>,
    /// CPUs used, 1.0 = one whole; the generator's without what it spun.
    pub(crate) generator_cpu: f64,
    pub(crate) server_cpu: Option<f64>,
    /// The generator was not allowed the priority that keeps ordinary threads from delaying it, or the witnesses theirs.
    #[serde(default)]
    pub(crate) normal_priority: bool,
    /// What had to be sent again, in a run that goes on over a restart of the server.
    #[serde(default)]
    pub(crate) resent: Option<Resent>,
}

impl LoadReport {
    /// Requests for each second of CPU time that the server's process used.
    pub(crate) fn rate_per_server_cpu(&self) -> Option<f64> {
        self.server_cpu.filter(|&cpu| cpu > 0.0).map(|cpu| self.rate / cpu)
    }

    /// The figures of the undisturbed windows, when there are enough of them to judge by.
    pub(crate) fn calm(&self) -> Option<&Undisturbed> {
        let is_enough =
            |calm: &&Undisturbed| calm.share >= ENOUGH_WINDOWS && calm.latency.count >= ENOUGH_VALUES;
        self.undisturbed.as_ref().filter(is_enough)
    }

    /// The latencies to judge by: over undisturbed windows if there are enough, else over everything.
    pub(crate) fn judged(&self) -> Summary {
        self.calm().map_or(self.latency, |calm| calm.latency)
    }

    /// What makes the figures doubtful, if anything.
    pub(crate) fn doubt(&self) -> Option<String> {
        if self.generator_cpu > BUSY {
            return Some(format!(
                "the generator used {:.0} % of its CPU and may be the limit",
                self.generator_cpu * 100.0
            ));
        }
        let calm = self.calm();
        let delay = calm.map(|calm| calm.delay).or(self.delay);
        if let Some(delay) = delay.filter(|delay| delay.p99_us > LATE_US) {
            let when = if calm.is_some() { " in undisturbed windows" } else { "" };
            return Some(format!("the generator itself was late by {:.0} µs (p99){when}", delay.p99_us));
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
        if let Some(Undisturbed { latency, delay, windows, share, .. }) = &self.undisturbed {
            if latency.count > 0 {
                writeln!(f, "  undisturbed  {}", latency.line())?;
                writeln!(f, "    own delay  {}", delay.line())?;
            }
            writeln!(f, "  {:.0} % of {windows} windows undisturbed by other programs", share * 100.0)?;
        }
        if let Some(writes) = &self.writes {
            writeln!(f, "  writes       {}", writes.line())?;
        }
        write!(f, "  CPU: generator {:.0} %", self.generator_cpu * 100.0)?;
        if let Some(server) = self.server_cpu {
            write!(f, ", server {:.0} %", server * 100.0)?;
        }
        writeln!(f)?;
        if let Some(Resent { cut, refused, again, longest_gap_us }) = &self.resent {
            writeln!(
                f,
                "  {again} requests sent again: {cut} were cut, {refused} refused; longest without answer {:.0} ms",
                longest_gap_us / 1000.0
            )?;
        }
        if self.normal_priority {
            writeln!(f, "  the generator ran at normal priority")?;
        }
        if let Some(doubt) = self.doubt() {
            writeln!(f, "  DOUBTFUL: {doubt}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An open loop whose generator was late, but not in its undisturbed windows.
    fn open_loop(share: f64, values: u64) -> LoadReport {
        let delay = |p99_us| Summary { count: values, p99_us, ..Summary::default() };
        let calm = Undisturbed {
            latency: Summary { count: values, ..Summary::default() },
            service: Summary::default(),
            delay: delay(20.0),
            windows: 30,
            share,
        };
        LoadReport {
            target: String::new(),
            workload: String::new(),
            connections: 1,
            records: 1,
            asked_records: 1,
            value_bytes: 1,
            answer_bytes: 1,
            seconds: 1.5,
            requests: values,
            rate: 1.0,
            records_rate: 1.0,
            offered_rate: Some(1.0),
            unsent: 0,
            latency: Summary::default(),
            service: None,
            delay: Some(delay(3_000.0)),
            undisturbed: Some(calm),
            writes: None,
            generator_cpu: 0.6,
            server_cpu: None,
            normal_priority: false,
            resent: None,
        }
    }

    #[test]
    fn undisturbed_windows_decide_when_there_are_enough() {
        assert_eq!(open_loop(0.2, 10_000).doubt(), None);
        for (share, values) in [(0.19, 10_000), (0.9, 9_999)] {
            let report = open_loop(share, values);
            let doubt = report.doubt().expect("late over everything");
            assert!(report.calm().is_none() && doubt.ends_with("late by 3000 µs (p99)"), "{doubt}");
        }
        let mut late = open_loop(1.0, 10_000);
        late.undisturbed.as_mut().expect("open loop").delay.p99_us = 101.0;
        assert!(late.doubt().is_some_and(|doubt| doubt.ends_with("101 µs (p99) in undisturbed windows")));
    }

    #[test]
    fn both_tails_are_printed() {
        let text = open_loop(0.5, 10_000).to_string();
        assert!(text.contains("latency ") && text.contains("undisturbed  p50"), "{text}");
        assert!(text.contains("  50 % of 30 windows undisturbed"), "{text}");
    }
}

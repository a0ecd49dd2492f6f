//! A run cut into pieces of the same length, each with its own latencies: for a line over time.
//!
//! **Not here**: which pieces the machine disturbed (`window`).

use hdrhistogram::Histogram;

use crate::report::Interval;
use crate::summary::{Summary, latencies};

/// The latencies of one piece of the run after another.
pub(super) struct Pieces {
    length: u64,
    from: u64,
    current: Histogram<u64>,
    start: u64,
    pub(super) done: Vec<Interval>,
}

impl Pieces {
    /// Pieces of `length` from `from` on, both in ns.
    pub(super) fn new(length: u64, from: u64) -> Self {
        Self { length: length.max(1), from, current: latencies(), start: from, done: Vec::new() }
    }

    /// Adds the latency of an answer that came at `now`.
    pub(super) fn record(&mut self, now: u64, latency: u64) {
        while now >= self.from + self.length {
            self.close();
        }
        self.current.saturating_record(latency);
    }

    fn close(&mut self) {
        let summary = Summary::of(&self.current);
        self.done.push(Interval {
            from_s: (self.from - self.start) as f64 / 1e9,
            rate: summary.count as f64 / (self.length as f64 / 1e9),
            p50_us: summary.p50_us,
            p99_us: summary.p99_us,
            max_us: summary.max_us,
        });
        self.current.reset();
        self.from += self.length;
    }
}

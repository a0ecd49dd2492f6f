//! What a run of the suite found: everything that its tables and pictures are made from, as JSON.
//!
//! Units are in the names: `_us` microseconds, `_s` seconds, rates per second. A later program must be able to read a
//! report of an earlier one: fields are added with a default, never renamed.
//!
//! **Not here**: measuring (`suite`), and how it looks (`markdown`, `html`).

use serde::{Deserialize, Serialize};

use crate::load::LoadReport;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What was run, for the heading.
    pub(crate) title: String,
    /// The commit of the measured build, if the suite ran inside a clone.
    #[serde(default)]
    pub(crate) commit: Option<String>,
    /// Unix time of the start, in seconds, and how long it took.
    pub(crate) started_s: u64,
    pub(crate) took_s: f64,
    pub(crate) machine: Machine,
    /// Rates, each with its rounds.
    pub(crate) lines: Vec<Line>,
    /// Figures that are no rate of requests: memory, shares, ratios of latencies.
    #[serde(default)]
    pub(crate) facts: Vec<Fact>,
    /// Latency against something that was varied.
    #[serde(default)]
    pub(crate) sweeps: Vec<Sweep>,
    /// Latency over time, with what disturbed it.
    #[serde(default)]
    pub(crate) timelines: Vec<Timeline>,
    /// What the reader must know: what was left out, and why.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// Where it ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) memory_gib: f64,
}

/// One closed-loop line: what a server does at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The name of the line that each round is compared with.
    #[serde(default)]
    pub(crate) against: Option<String>,
    /// The ratio to it that is wanted at least.
    #[serde(default)]
    pub(crate) at_least: Option<f64>,
    pub(crate) rounds: Vec<Round>,
}

/// One measurement, and the one that it is compared with, taken right before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) measured: LoadReport,
    #[serde(default)]
    pub(crate) against: Option<LoadReport>,
}

/// One figure that was taken once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Behind the value: `KiB`, `%`, `µs`, `×`, `/s`.
    pub(crate) unit: String,
    /// What is wanted, as text, and whether it is so.
    #[serde(default)]
    pub(crate) target: Option<(String, bool)>,
}

/// Open-loop measurements along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub(crate) name: String,
    /// What the axis is, with its unit: `offered load, requests/s`, `connections`, `shards`.
    pub(crate) axis: String,
    pub(crate) points: Vec<Point>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// The place on the axis.
    pub(crate) at: f64,
    pub(crate) report: LoadReport,
    /// The percentile curve, ascending, corrected (from when a request was due).
    #[serde(default)]
    pub(crate) curve: Vec<Quantile>,
    /// Why the figures are not to be believed, if they are not.
    #[serde(default)]
    pub(crate) doubt: Option<String>,
}

/// A point of a percentile curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantile {
    /// 0 to 1.
    pub(crate) quantile: f64,
    pub(crate) us: f64,
}

/// One open-loop load over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) name: String,
    pub(crate) intervals: Vec<Interval>,
    /// When something was done to the server.
    #[serde(default)]
    pub(crate) marks: Vec<Mark>,
}

/// A piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Since the start of the line.
    pub(crate) from_s: f64,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// A moment on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) at_s: f64,
    pub(crate) label: String,
}

//! Latency histograms and what is printed of them.
//!
//! Values are nanoseconds inside, microseconds in print. Three significant digits, up to a minute; what is longer
//! counts as a minute.
//!
//! **Not here**: measuring.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Result, Tried};

const LONGEST: u64 = 60_000_000_000;

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are valid constants")
}

/// The percentiles that are reported, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Summary {
    /// The summary of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            mean_us: histogram.mean() / 1000.0,
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            max_us: histogram.max() as f64 / 1000.0,
        }
    }

    /// One line: `p50 81.2 µs  p90 …`.
    pub(crate) fn line(&self) -> String {
        format!(
            "p50 {:.1} µs  p90 {:.1} µs  p99 {:.1} µs  p99.9 {:.1} µs  max {:.1} µs  ({} values)",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us, self.count
        )
    }
}

/// Writes one interval to a histogram log (`.hlog`), which the usual HdrHistogram viewers read.
pub(crate) fn write_log(
    path: &Path,
    started: SystemTime,
    took: Duration,
    histogram: &Histogram<u64>,
) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).tried(|| format!("create {}", path.display()))?);
    let mut serializer = V2DeflateSerializer::new();
    let failed =
        |error: &dyn std::fmt::Debug| BenchError::Usage(format!("write {}: {error:?}", path.display()));
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("firescroll-bench, latencies in nanoseconds")
        .with_start_time(started)
        .begin_log_with(&mut file, &mut serializer)
        .map_err(|error| failed(&error))?;
    log.write_histogram(histogram, Duration::ZERO, took, None).map_err(|error| failed(&error))
}

/// Writes anything serialisable as one JSON file.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| BenchError::Usage(error.to_string()))?;
    std::fs::write(path, text + "\n").tried(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summarises_in_microseconds() {
        let mut histogram = latencies();
        for micros in 1..=1000_u64 {
            histogram.saturating_record(micros * 1000);
        }
        let summary = Summary::of(&histogram);
        assert_eq!(summary.count, 1000);
        assert!((summary.p50_us - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max_us - 1000.0).abs() < 2.0, "{summary:?}");
        histogram.saturating_record(u64::MAX);
        assert!(Summary::of(&histogram).max_us >= 60_000_000.0);
    }

    #[test]
    fn writes_a_log_that_reads_back() {
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let directory = tempfile::tempdir().expect("scratch directory");
        let path = directory.path().join("run.hlog");
        let mut histogram = latencies();
        histogram.saturating_record(5_000);
        write_log(&path, SystemTime::now(), Duration::from_secs(1), &histogram).expect("write");
        let text = std::fs::read(&path).expect("read");
        let intervals = IntervalLogIterator::new(&text)
            .filter(|entry| matches!(entry, Ok(LogEntry::Interval(_))))
            .count();
        assert_eq!(intervals, 1);
    }
}

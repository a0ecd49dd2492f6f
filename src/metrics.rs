//! Latency histograms and counters of one core, and how a scrape prints the merged ones.
//!
//! Each core records into its own HdrHistograms (ns) without a lock; a scrape asks every core for a copy, merges them
//! and prints Prometheus text. `http_latencies_micro`, `partition_operation_latencies_micro` and `partitions` keep the
//! original's name, unit (µs) and buckets.
//!
//! Invariant: recording never allocates and never waits.
//! Runs on: recording on serving cores, printing on the control core. Not here: the HTTP around it (`control`).

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

/// An HTTP operation, the label of `http_latencies_micro`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reads of keys, `GET /records/{pk}/{sk}` too.
    Get,
    /// Puts.
    Put,
    /// Deletes.
    Delete,
    /// Listings, to the first page.
    List,
    /// Batches.
    Batch,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Delete, Self::List, Self::Batch];

    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Batch => "batch",
        }
    }
}

/// An operation on a partition, the label of `partition_operation_latencies_micro`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionOperation {
    /// Lookup of one key.
    Get,
    /// One page of a listing.
    List,
    /// Applying one delivery of mutations, divided by their number.
    Apply,
}

impl PartitionOperation {
    const ALL: [Self; 3] = [Self::Get, Self::List, Self::Apply];

    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Apply => "apply",
        }
    }
}

const HTTP_BUCKETS: [u64; 17] =
    [100, 200, 300, 400, 500, 750, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 10000, 15000];
const PARTITION_BUCKETS: [u64; 17] =
    [10, 15, 25, 50, 75, 100, 200, 300, 400, 500, 750, 1000, 1250, 1500, 2000, 2500, 3000];

/// Longest latency told apart: one minute. Longer ones count as that.
const LONGEST_NS: u64 = 60_000_000_000;

fn histogram() -> Histogram<u64> {
    // Two digits: 1 % of error, 25 KiB each, so that a copy for a scrape costs a core microseconds.
    Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("the bounds are valid constants")
}

/// What one core has measured.
#[derive(Debug, Clone)]
pub struct Metrics {
    http: [Histogram<u64>; Operation::ALL.len()],
    partition: [Histogram<u64>; PartitionOperation::ALL.len()],
    /// Answers by class: 1xx … 5xx.
    pub answers: [u64; 5],
    /// Requests shed with 429.
    pub shed: u64,
    /// Keys that another core answered.
    pub crossed: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            http: std::array::from_fn(|_| histogram()),
            partition: std::array::from_fn(|_| histogram()),
            answers: [0; 5],
            shed: 0,
            crossed: 0,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Metrics {
    /// One request answered.
    pub fn http(&mut self, operation: Operation, took: Duration) {
        self.http[operation as usize].saturating_record(nanos(took).max(1));
    }

    /// One operation on a partition done.
    pub fn partition(&mut self, operation: PartitionOperation, took: Duration) {
        self.partition[operation as usize].saturating_record(nanos(took).max(1));
    }

    /// Adds what another core has measured.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.http.iter_mut().zip(&other.http);
        for (mine, theirs) in pairs.chain(self.partition.iter_mut().zip(&other.partition)) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        for (mine, theirs) in self.answers.iter_mut().zip(&other.answers) {
            *mine += theirs;
        }
        self.shed += other.shed;
        self.crossed += other.crossed;
    }

    /// The histograms in Prometheus text.
    pub fn print(&self, out: &mut String) {
        let http = Operation::ALL.map(Operation::label).into_iter().zip(&self.http);
        print_histograms(
            out,
            "http_latencies_micro",
            "Full HTTP request processing latencies. Includes remote lookups for gets.",
            &HTTP_BUCKETS,
            http,
        );
        let partition =
            PartitionOperation::ALL.map(PartitionOperation::label).into_iter().zip(&self.partition);
        print_histograms(
            out,
            "partition_operation_latencies_micro",
            "Latencies for partition-level operations in microseconds",
            &PARTITION_BUCKETS,
            partition,
        );
    }

    /// Latency at a quantile of an operation on partitions, in ns; 0 if there was none.
    #[must_use]
    pub fn partition_quantile(&self, operation: PartitionOperation, quantile: f64) -> u64 {
        self.partition[operation as usize].value_at_quantile(quantile)
    }
}

fn print_histograms<'a>(
    out: &mut String,
    name: &str,
    help: &str,
    buckets: &[u64],
    labelled: impl Iterator<Item = (&'static str, &'a Histogram<u64>)>,
) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (label, histogram) in labelled {
        for le in buckets {
            // Always from zero: a slot of the histogram that reaches past a bound would count on both sides of it.
            let counted = histogram.count_between(0, le * 1000);
            let _ = writeln!(out, "{name}_bucket{{operation=\"{label}\",le=\"{le}\"}} {counted}");
        }
        let all = histogram.len();
        let sum = histogram.mean() * all as f64 / 1000.0;
        let _ = writeln!(out, "{name}_bucket{{operation=\"{label}\",le=\"+Inf\"}} {all}");
        let _ = writeln!(out, "{name}_sum{{operation=\"{label}\"}} {sum:.3}");
        let _ = writeln!(out, "{name}_count{{operation=\"{label}\"}} {all}");
    }
}

/// One metric with a value for each set of labels (printed as given, `{a="b"}` or empty).
pub fn print_values(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, u64)>,
) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_near_a_bound_counts_once() {
        for le in HTTP_BUCKETS {
            for off in [-1, 0, 1] {
                let took = Duration::from_micros(le).as_nanos() as i64 + off;
                let mut metrics = Metrics::default();
                metrics.http(Operation::Get, Duration::from_nanos(took.unsigned_abs()));
                let mut text = String::new();
                metrics.print(&mut text);
                let counts = text.lines().filter_map(|line| {
                    line.strip_prefix("http_latencies_micro_bucket{operation=\"get\",le=")?.rsplit_once(' ')
                });
                let counts: Vec<u64> = counts.map(|(_, count)| count.parse().expect("a count")).collect();
                assert!(counts.is_sorted(), "{took} ns: {counts:?}");
                assert_eq!(counts.last(), Some(&1), "{took} ns");
            }
        }
    }

    #[test]
    fn buckets_are_cumulative_and_in_micros() {
        let mut metrics = Metrics::default();
        let mut other = Metrics::default();
        metrics.http(Operation::Get, Duration::from_micros(50));
        other.http(Operation::Get, Duration::from_micros(250));
        other.http(Operation::Get, Duration::from_secs(100));
        metrics.merge(&other);
        let mut text = String::new();
        metrics.print(&mut text);
        for line in [
            "http_latencies_micro_bucket{operation=\"get\",le=\"100\"} 1",
            "http_latencies_micro_bucket{operation=\"get\",le=\"300\"} 2",
            "http_latencies_micro_bucket{operation=\"get\",le=\"15000\"} 2",
            "http_latencies_micro_bucket{operation=\"get\",le=\"+Inf\"} 3",
            "http_latencies_micro_count{operation=\"get\"} 3",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}

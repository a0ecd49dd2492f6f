//! Reads the one thing that the suite wants of a node's `/metrics`: how many values of a histogram were small.
//!
//! **Not here**: a general Prometheus parser; a line is found by its exact name and labels.

use crate::error::{BenchError, Result};

/// Counts of one Prometheus histogram: all values, and those up to a bucket's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) below: u64,
    pub(crate) all: u64,
}

impl Share {
    /// Reads `name_bucket{operation="…",le="…"}` and `name_count{operation="…"}`.
    pub(crate) fn read(text: &str, name: &str, operation: &str, bound: &str) -> Result<Self> {
        let label = format!("operation=\"{operation}\"");
        let bound = format!("le=\"{bound}\"");
        let below = value(text, &format!("{name}_bucket"), &[&label, &bound])?;
        let all = value(text, &format!("{name}_count"), &[&label])?;
        Ok(Self { below, all })
    }

    /// The values that came after `earlier`: their share up to the bound, 0 to 1.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 {
            return 0.0;
        }
        self.below.saturating_sub(earlier.below) as f64 / all as f64
    }
}

/// The sum over all lines of that metric that carry all the labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Result<u64> {
    let mut found = None;
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((metric, rest)) = series.split_once('{') else { continue };
        if metric == name && labels.iter().all(|label| rest.contains(label)) {
            let value: f64 =
                value.parse().map_err(|_| BenchError::Answer(format!("metric line {line:?}")))?;
            found = Some(found.unwrap_or(0) + value as u64);
        }
    }
    found.ok_or_else(|| BenchError::Answer(format!("no metric {name} with {labels:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE op histogram\n\
        op_bucket{operation=\"get\",le=\"10\"} 90\n\
        op_bucket{operation=\"get\",le=\"15\"} 95\n\
        op_bucket{operation=\"list\",le=\"10\"} 1\n\
        op_count{operation=\"get\"} 100\n";

    #[test]
    fn finds_a_bucket_by_name_and_labels() {
        let share = Share::read(TEXT, "op", "get", "10").expect("there");
        assert_eq!(share, Share { below: 90, all: 100 });
        assert!((share.since(&Share { below: 50, all: 60 }) - 1.0).abs() < 1e-9);
        assert!((share.since(&Share { below: 81, all: 90 }) - 0.9).abs() < 1e-9);
        assert!(Share::read(TEXT, "op", "put", "10").is_err());
    }
}

//! How far an import or export is, on standard error where that is a terminal, and a closing line anywhere.
//!
//! **Not here**: standard output, which belongs to the data.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes with a count of records; clones show the same one.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    records: Arc<AtomicU64>,
    started: Instant,
}

impl Progress {
    /// Begins now. `total` is the number of bytes to come, where it is known.
    pub(crate) fn start(total: Option<u64>) -> Self {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::with_draw_target(Some(total), target),
                "[{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {msg}, {eta} left",
            ),
            None => (
                ProgressBar::with_draw_target(None, target),
                "{spinner} {bytes}, {bytes_per_sec}, {msg}, {elapsed}",
            ),
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates above are well formed"));
        bar.set_message("0 records");
        if shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, records: Arc::new(AtomicU64::new(0)), started: Instant::now() }
    }

    /// So many bytes have passed.
    pub(crate) fn bytes(&self, count: u64) {
        self.bar.inc(count);
    }

    /// So many records are done.
    pub(crate) fn records(&self, count: u64) {
        let all = self.records.fetch_add(count, Ordering::Relaxed) + count;
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} records", HumanCount(all)));
        }
    }

    /// Prints a line without tearing the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// The records that are done.
    pub(crate) fn done(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Takes the bar away and sums up, like "imported 5 records, 1.2 KiB, in 3 seconds (2 records/s)".
    pub(crate) fn finish(&self, verb: &str) {
        self.clear();
        let time = self.started.elapsed();
        eprintln!("{}", summary(verb, self.done(), self.bar.position(), time));
    }
}

fn summary(verb: &str, records: u64, bytes: u64, time: Duration) -> String {
    let rate = records as f64 / time.as_secs_f64().max(0.001);
    format!(
        "{verb} {} records, {}, in {} ({} records/s)",
        HumanCount(records),
        HumanBytes(bytes),
        if time < Duration::from_secs(10) { format!("{time:.1?}") } else { HumanDuration(time).to_string() },
        HumanCount(rate as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_counts_records_bytes_and_rate() {
        assert_eq!(
            summary("imported", 3000, 2048, Duration::from_secs(2)),
            "imported 3,000 records, 2.00 KiB, in 2.0s (1,500 records/s)"
        );
    }

    #[test]
    fn clones_count_together() {
        let progress = Progress::start(None);
        let other = progress.clone();
        other.records(2);
        progress.records(3);
        assert_eq!(other.done(), 5);
        assert_eq!(progress.done(), 5);
    }
}

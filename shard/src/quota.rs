//! How much one slice of a long walk may do before it makes way for others.
//!
//! **Runs on** the shard's executor.

use std::time::{Duration, Instant};

/// The clock is looked at after so many rows or bytes, whichever comes first: cheap rows are many, large ones
/// slow.
const ROWS_PER_CLOCK: u32 = 16;
const BYTES_PER_CLOCK: usize = 8 << 10;

/// What is left of a slice.
pub(crate) struct Quota {
    /// Length of the output at which the slice is full.
    full: usize,
    started: Instant,
    budget: Duration,
    rows: u32,
    bytes: usize,
}

impl Quota {
    /// A slice of `max_bytes` more than `written` and of `budget`.
    pub(crate) fn new(written: usize, max_bytes: usize, budget: Duration) -> Quota {
        Quota { full: written.saturating_add(max_bytes), started: Instant::now(), budget, rows: 0, bytes: 0 }
    }

    /// Counts a row of `bytes`; whether the slice is used up, the output being `written` long.
    pub(crate) fn spent(&mut self, bytes: usize, written: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        if written >= self.full {
            return true;
        }
        if self.rows < ROWS_PER_CLOCK && self.bytes < BYTES_PER_CLOCK {
            return false;
        }
        (self.rows, self.bytes) = (0, 0);
        self.started.elapsed() >= self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_written_and_time_end_a_slice() {
        let mut quota = Quota::new(100, 10, Duration::MAX);
        assert!(!quota.spent(1, 109));
        assert!(quota.spent(1, 110));
        let mut quota = Quota::new(0, usize::MAX, Duration::ZERO);
        let rows = (1..).find(|_| quota.spent(1, 0));
        assert_eq!(rows, Some(ROWS_PER_CLOCK));
        assert!(quota.spent(BYTES_PER_CLOCK, 0));
        let mut endless = Quota::new(usize::MAX, usize::MAX, Duration::MAX);
        assert!(!endless.spent(BYTES_PER_CLOCK, 0));
    }
}

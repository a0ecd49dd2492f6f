//! Which lines of an import are certainly in, while several connections finish in any order.
//!
//! Each connection acknowledges its batches in the order it got them. So the first line that may be missing is
//! the earliest first line of all batches that are not acknowledged, and everything before it is in.
//!
//! **Invariants**: the answer never counts a line that is not in, and never decreases.

use std::collections::VecDeque;

/// The account of one import.
#[derive(Debug)]
pub(super) struct Resume {
    /// For each connection the first lines of its batches that are not acknowledged, oldest first.
    open: Vec<VecDeque<u64>>,
    /// The last line that was dealt with: put into a batch, left out, or blank.
    taken: u64,
}

impl Resume {
    /// Begins after `skipped` lines that an earlier run brought in.
    pub(super) fn new(connections: usize, skipped: u64) -> Self {
        Self { open: vec![VecDeque::new(); connections], taken: skipped }
    }

    /// A line that brings nothing: blank, or left out.
    pub(super) fn without_record(&mut self, line: u64) {
        self.take(line);
    }

    /// A line whose record went to a connection's batch; `first` when it is the first in that batch.
    pub(super) fn record(&mut self, line: u64, connection: usize, first: bool) {
        if first {
            self.open[connection].push_back(line);
        }
        self.take(line);
    }

    /// The oldest batch of the connection is in.
    pub(super) fn acknowledged(&mut self, connection: usize) {
        let batch = self.open[connection].pop_front();
        assert!(batch.is_some(), "only batches that were begun are acknowledged");
    }

    /// So many lines from the start of the file are certainly in.
    pub(super) fn certain(&self) -> u64 {
        let missing = self.open.iter().filter_map(|batches| batches.front()).min();
        missing.map_or(self.taken, |line| line - 1)
    }

    fn take(&mut self, line: u64) {
        assert!(line == self.taken + 1, "lines are dealt with one after the other");
        self.taken = line;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_earliest_open_batch_decides() {
        let mut resume = Resume::new(2, 10);
        assert_eq!(resume.certain(), 10);
        resume.record(11, 0, true);
        resume.record(12, 1, true);
        resume.record(13, 0, false);
        resume.record(14, 0, true);
        resume.without_record(15);
        assert_eq!(resume.certain(), 10);
        resume.acknowledged(1);
        assert_eq!(resume.certain(), 10);
        resume.acknowledged(0);
        assert_eq!(resume.certain(), 13);
        resume.acknowledged(0);
        assert_eq!(resume.certain(), 15);
    }

    proptest! {
        /// Against a set of all lines that are in: whatever the order of events, what is certain is in, it
        /// never decreases, and at the end it is everything.
        #[test]
        fn what_is_certain_is_in(events in prop::collection::vec((0usize..3, 0u8..4, any::<bool>()), 1..200)) {
            let mut resume = Resume::new(3, 0);
            let mut open: Vec<VecDeque<Vec<u64>>> = vec![VecDeque::new(); 3];
            let mut all_in = BTreeSet::new();
            let (mut line, mut before) = (0, 0);
            for (connection, kind, first) in events {
                match kind {
                    0 => {
                        if let Some(lines) = open[connection].pop_front() {
                            resume.acknowledged(connection);
                            all_in.extend(lines);
                        }
                    }
                    1 => {
                        line += 1;
                        resume.without_record(line);
                        all_in.insert(line);
                    }
                    _ => {
                        line += 1;
                        let first = first || open[connection].is_empty();
                        resume.record(line, connection, first);
                        if first {
                            open[connection].push_back(Vec::new());
                        }
                        open[connection].back_mut().expect("a batch is open").push(line);
                    }
                }
                let certain = resume.certain();
                prop_assert!(certain >= before);
                prop_assert!((1..=certain).all(|line| all_in.contains(&line)));
                before = certain;
            }
            for (connection, batches) in open.iter().enumerate() {
                for _ in batches {
                    resume.acknowledged(connection);
                }
            }
            prop_assert_eq!(resume.certain(), line);
        }
    }
}

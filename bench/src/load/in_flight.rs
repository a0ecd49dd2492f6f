//! The requests that wait for their answers, oldest first.
//!
//! **Not here**: the connections that they are on (`connection`).

use std::collections::VecDeque;

use super::connection::Connection;

/// When each was due, and its connection; some may have been answered meanwhile.
#[derive(Debug, Default)]
pub(super) struct InFlight(VecDeque<(u64, usize)>);

impl InFlight {
    /// One is sent; it was due no earlier than those before it.
    pub(super) fn sent(&mut self, index: usize, due: u64, connections: &[Connection]) {
        // So that it does not grow while nobody asks.
        self.oldest(connections);
        self.0.push_back((due, index));
    }

    /// When the oldest that still waits was due.
    pub(super) fn oldest(&mut self, connections: &[Connection]) -> Option<u64> {
        self.oldest_by(|index, due| connections[index].busy && connections[index].due == due)
    }

    fn oldest_by(&mut self, waits: impl Fn(usize, u64) -> bool) -> Option<u64> {
        while let Some(&(due, index)) = self.0.front() {
            if waits(index, due) {
                return Some(due);
            }
            self.0.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answered_are_forgotten_and_a_reused_connection_is_another_request() {
        let mut in_flight = InFlight([(10, 0), (20, 1), (30, 0), (40, 2)].into());
        // The first is answered, and its connection carries the third.
        let busy = [(0, 30), (1, 20), (2, 40)];
        let waits = |index, due| busy.contains(&(index, due));
        assert_eq!(in_flight.oldest_by(waits), Some(20));
        assert_eq!(in_flight.oldest_by(|index, due| index != 1 && waits(index, due)), Some(30));
        assert_eq!(in_flight.oldest_by(|index, _| index == 2), Some(40));
        assert_eq!(in_flight.oldest_by(|_, _| false), None);
        assert!(in_flight.0.is_empty());
    }
}

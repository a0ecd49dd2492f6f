//! Requests that have to be sent again, for runs over a restart of the server.
//!
//! A connection that ended, or an answer that sends its request away (429, 503) → [`Again`] → after a short while the
//! connection is opened anew if need be, and its request sent again, still charged from when it was first due.
//!
//! **Not here**: the sockets themselves (`connection`, `generator`).

use serde::{Deserialize, Serialize};

/// Between two tries, in ns: short against any restart, long against the work of a try.
const RETRY: u64 = 2_000_000;

/// What was sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resent {
    /// Requests in flight whose connection ended.
    pub(crate) cut: u64,
    /// Requests that were answered with 429 or 503.
    pub(crate) refused: u64,
    /// Requests sent again: at least once for each of those.
    pub(crate) again: u64,
    /// Longest time between two answers.
    pub(crate) longest_gap_us: f64,
}

/// Connections that wait for their next try.
#[derive(Debug, Default)]
pub(super) struct Again {
    waiting: Vec<usize>,
    /// When the next try is, in ns since the run's start.
    at: u64,
    pub(super) resent: Resent,
}

impl Again {
    /// A connection ended; `busy` if a request was in flight on it.
    pub(super) fn ended(&mut self, connection: usize, busy: bool, now: u64) {
        if self.wait(connection, now) && busy {
            self.resent.cut += 1;
        }
    }

    /// A request was sent away.
    pub(super) fn refused(&mut self, connection: usize, now: u64) {
        self.wait(connection, now);
        self.resent.refused += 1;
    }

    /// Whether the connection did not wait already.
    fn wait(&mut self, connection: usize, now: u64) -> bool {
        if self.waiting.contains(&connection) {
            return false;
        }
        if self.waiting.is_empty() {
            self.at = now + RETRY;
        }
        self.waiting.push(connection);
        true
    }

    /// The connections whose turn it is; what fails is put back with [`Again::later`].
    pub(super) fn due(&mut self, now: u64) -> Vec<usize> {
        if self.waiting.is_empty() || now < self.at {
            // An empty one allocates nothing.
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }

    /// The server cannot be reached: these wait for the next try.
    pub(super) fn later(&mut self, connections: &[usize], now: u64) {
        for &connection in connections {
            self.wait(connection, now);
        }
    }

    /// How long until the next try, in ns.
    pub(super) fn next(&self, now: u64) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.at.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_waits_once_and_is_tried_in_time() {
        let mut again = Again::default();
        assert!(again.due(0).is_empty() && again.next(0).is_none());
        again.ended(3, true, 10);
        again.ended(3, true, 11);
        again.refused(5, 12);
        again.ended(6, false, 13);
        assert_eq!((again.resent.cut, again.resent.refused), (1, 1));
        assert_eq!(again.next(10), Some(RETRY));
        assert!(again.due(9 + RETRY).is_empty());
        assert_eq!(again.due(10 + RETRY), [3, 5, 6]);
        again.later(&[5, 6], 10 + RETRY);
        assert_eq!(again.next(10 + RETRY), Some(RETRY));
        assert_eq!(again.due(10 + 2 * RETRY), [5, 6]);
    }
}

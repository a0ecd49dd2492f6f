//! What happened to the connections of one core.

use std::cell::Cell;

/// Counts of one core's connections, read by whoever renders metrics on the same core.
/// All are totals since start except `open`.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    /// Connections being served now.
    pub open: Cell<u64>,
    /// Connections accepted for service.
    pub accepted: Cell<u64>,
    /// Connections refused with 503 because `max_connections` were open.
    pub shed: Cell<u64>,
    /// Connections cut because a request head was not complete in time (silent new connections included).
    pub cut_head: Cell<u64>,
    /// Connections closed for resting too long between requests.
    pub cut_idle: Cell<u64>,
    /// Connections cut because the client did not take its response.
    pub cut_write: Cell<u64>,
    /// Times that a resting HTTP/1.1 connection gave its buffers back.
    pub parked: Cell<u64>,
    /// Failed `accept` calls. Growth means that file descriptors or kernel memory ran out.
    pub accept_errors: Cell<u64>,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

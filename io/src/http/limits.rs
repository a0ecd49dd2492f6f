//! What one core grants its clients: how many, how much, how long.

use std::time::Duration;

/// Bounds of the HTTP server of one core. The defaults suit a core that serves some ten thousand connections.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections served at once by this core. One more is told 503 and closed; it never waits in a queue.
    pub max_connections: usize,
    /// From the first byte of a request head to its last (and from accept to that first byte).
    pub head_deadline: Duration,
    /// How long a connection may rest between requests (HTTP/2: without an open stream).
    pub idle_deadline: Duration,
    /// How long a client may leave less than 64 KiB of waiting response bytes unread.
    pub write_deadline: Duration,
    /// When the server stops, how long an HTTP/1.1 connection at rest may still send a request, whose answer then tells the
    /// client that it is the last. A connection that is closed without a word may just be carrying the next request.
    pub last_call: Duration,
    /// Request line and headers together, in bytes. More is answered 431.
    pub max_head_bytes: usize,
    /// Header fields of one HTTP/1.1 request. More is answered 431.
    pub max_headers: usize,
    /// Streams that one HTTP/2 connection may have open at once.
    pub h2_max_concurrent_streams: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            max_connections: 16_384,
            head_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(75),
            write_deadline: Duration::from_secs(30),
            last_call: Duration::from_millis(100),
            max_head_bytes: 32 << 10,
            max_headers: 64,
            h2_max_concurrent_streams: 128,
        }
    }
}

impl HttpLimits {
    /// Connections that wait in the kernel for `accept`, unless the caller of [`super::HttpListener::bind`] wants
    /// another number. The kernel caps it at `net.core.somaxconn`.
    pub const BACKLOG: u32 = 4096;
}

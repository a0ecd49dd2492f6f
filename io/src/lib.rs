//! Bytes and peers: HTTP on the serving cores, and the log that orders every mutation.
//!
//! - [`http`]: hyper over glommio, one listener and one set of connections per core, every wait with a deadline.
//! - [`log`]: the write-ahead log that decides the order of mutations, and its consumers.
//! - [`runtime`]: the io_uring executor that a serving core runs on.
//!
//! **Not here**: records, keys, conditions, routes. This package does not know what the bytes mean.

pub mod http;
pub mod log;
pub mod runtime;

//! Bytes and peers: HTTP on the serving cores, and the log that orders every mutation.
//!
//! - [`cpu`]: where threads run, and who goes first.
//! - [`http`]: hyper over the runtime's sockets, one listener and one set of connections per core, every wait with a deadline.
//! - [`log`]: the write-ahead log that decides the order of mutations, and its consumers.
//! - [`memory`]: which pages the kernel gives.
//! - [`runtime`]: what a serving core runs on: a pinned executor, sockets, timers, and words between cores.
//!
//! **Not here**: records, keys, conditions, routes. This package does not know what the bytes mean.

pub mod cpu;
pub mod http;
pub mod log;
pub mod memory;
pub mod runtime;

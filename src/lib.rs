//! FireScroll: one node of a configuration database, thread per core.
//!
//! Data flow of a read: `api` (request → keys) → `route` (keys → cores) → `peers` (to another core) or `core` (own
//! partitions) → `firescroll_shard`. Of a write: `api` → `firescroll_io::log`; and back: `ingest` → `core` →
//! `firescroll_shard`. `node` starts and stops it all, `control` and `internal` are what operators talk to,
//! `supervisor` what talks to their service manager, `config` what they set, `cli` the client commands.
//!
//! Invariant: `firescroll_shard` knows records and no bytes on wires, `firescroll_io` knows bytes and no records; this
//! crate translates and wires.

pub mod api;
pub mod bell;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod error;
pub mod export;
pub mod ingest;
pub mod internal;
pub mod keys;
pub mod layout;
pub mod metrics;
pub mod node;
pub mod peers;
pub mod progress;
pub mod route;
pub mod supervisor;
pub mod turns;

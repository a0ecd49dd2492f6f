//! An HTTP server that lives wholly on one core.
//!
//! Data flow: [`HttpListener`] → accept loop ([`serve`]) → one task per connection: the first bytes choose HTTP/1.1
//! or HTTP/2 → hyper parses → the service answers → responses gather in a small buffer → one send.
//!
//! Invariants:
//! - Every state that waits for a client has a deadline, and no request arms a timer: connections note what they
//!   wait for in a few cells, and the core's [tick](start_tick) looks them over.
//! - Everything is bounded: connections, heads, buffered output, buffered bodies ([`BodyBudget`]).
//! - Reads go through one scratch buffer per core, output buffers are lent, and a connection that rests for a second
//!   gives back hyper's buffers as well: some 6 KiB of memory are left of it.
//!
//! **Runs on**: a serving core; nothing here is `Send` except [`HttpListener`] and [`Heartbeat`].
//! **Not here**: TLS, routing, upgrades, HTTP/2 keep-alive pings (every waiting state has its own deadline).

mod body;
mod connection;
mod counters;
mod frames;
mod limits;
mod listener;
mod refusal;
mod roster;
mod server;
mod state;
mod stop;
mod stream;
mod tick;
mod tracked;

pub use body::{BodyBudget, BodyError, BodyPermit, ReceivedBody, read_body};
pub use counters::ConnectionCounters;
pub use limits::HttpLimits;
pub use listener::HttpListener;
pub use server::serve;
pub use stop::Stop;
pub use tick::{Clock, Heartbeat, TICK, clock, start_tick};
pub use tracked::{RequestBody, TrackedBody};

//! What the black-box tests share: a running node, clients of it, keys of a wanted partition.
//!
//! [`Home`] (scratch directory + [`Node`], the real program) ← [`Client`] (ordinary HTTP) and [`Wire`] (bytes on a
//! socket). Nothing here knows more of a node than its environment variables, ports, signals and log lines.
//!
//! Every wait has a deadline and a condition; a wait that ends without its condition is a failed test.

// Each test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

mod client;
mod flood;
pub(crate) mod kafka;
mod keys;
mod node;
mod process;
mod space;
mod wire;

pub(crate) use client::{Answer, Client, Record, data, millis, text};
pub(crate) use flood::Flood;
pub(crate) use keys::{partition, pk_in};
pub(crate) use node::{Home, Node, Shared, log_ends};
pub(crate) use process::{Ended, PATIENCE, Process, firescroll, until};
pub(crate) use space::{Chance, Positions, Space, agreed, held, shared_out, skipped};
pub(crate) use wire::{Reply, Wire, get, post, post_with};

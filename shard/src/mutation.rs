//! Mutations: what a message of the log says, and its bytes.
//!
//! The format is shared with every producer of the topic. One record: `{"pk","sk","data","ts_ms","mutation":
//! "put"|"delete","if"}`; a batch, which is atomic because it is one message: `{"mutation":"batch","ts_ms",
//! "ops":[{"op":"put"|"delete","pk","sk","data","if"}, …]}`. `if` is left out when there is none, `data` of a
//! delete too. `data` goes in as its minified raw bytes. A member `v` is a format version; absent means 1.
//!
//! Encoding happens where a request is admitted, decoding where the partition's owner applies. `ts_ms` tells
//! when the writer sent it and decides nothing: the log's own timestamp does.
//!
//! **Runs on** any thread; pure.

mod decode;

pub use decode::{DecodeError, MutationDecoder};

use crate::json::escape_into;
use std::io::Write;

/// The format that this build writes and reads.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// One change of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Creates or replaces a record.
    Put {
        /// Partition key, checked.
        pk: &'a str,
        /// Sort key, checked.
        sk: &'a str,
        /// A JSON object, raw and minified.
        data: &'a [u8],
        /// The `if`, as written by the client.
        condition: Option<&'a str>,
    },
    /// Removes a record if it is there.
    Delete {
        /// Partition key, checked.
        pk: &'a str,
        /// Sort key, checked.
        sk: &'a str,
        /// The `if`, as written by the client.
        condition: Option<&'a str>,
    },
}

impl<'a> Operation<'a> {
    /// Partition key.
    pub fn pk(&self) -> &'a str {
        match self {
            Operation::Put { pk, .. } | Operation::Delete { pk, .. } => pk,
        }
    }

    /// Sort key.
    pub fn sk(&self) -> &'a str {
        match self {
            Operation::Put { sk, .. } | Operation::Delete { sk, .. } => sk,
        }
    }

    /// The `if`.
    pub fn condition(&self) -> Option<&'a str> {
        match self {
            Operation::Put { condition, .. } | Operation::Delete { condition, .. } => *condition,
        }
    }
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation<'a> {
    /// A put or a delete.
    One(Operation<'a>),
    /// All or nothing; at least one operation.
    Batch(Vec<Operation<'a>>),
}

impl<'a> Mutation<'a> {
    /// The operations in order.
    pub fn operations(&self) -> &[Operation<'a>] {
        match self {
            Mutation::One(operation) => std::slice::from_ref(operation),
            Mutation::Batch(operations) => operations,
        }
    }
}

/// Appends the message of a put. `data` is a minified JSON object; `ts_ms` is Unix milliseconds.
pub fn encode_put(out: &mut Vec<u8>, pk: &str, sk: &str, data: &[u8], condition: Option<&str>, ts_ms: i64) {
    out.reserve(data.len() + pk.len() + sk.len() + 80);
    out.push(b'{');
    encode_key_members(out, pk, sk);
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(data);
    encode_time(out, ts_ms);
    out.extend_from_slice(br#","mutation":"put""#);
    encode_condition(out, condition);
    out.push(b'}');
}

/// Appends the message of a delete. `ts_ms` is Unix milliseconds.
pub fn encode_delete(out: &mut Vec<u8>, pk: &str, sk: &str, condition: Option<&str>, ts_ms: i64) {
    out.push(b'{');
    encode_key_members(out, pk, sk);
    encode_time(out, ts_ms);
    out.extend_from_slice(br#","mutation":"delete""#);
    encode_condition(out, condition);
    out.push(b'}');
}

/// Appends the message of a batch. All operations must fall into one partition, else no replica applies it.
pub fn encode_batch(out: &mut Vec<u8>, operations: &[Operation<'_>], ts_ms: i64) {
    out.extend_from_slice(br#"{"mutation":"batch""#);
    encode_time(out, ts_ms);
    out.extend_from_slice(br#","ops":["#);
    for (place, operation) in operations.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let (head, data): (&[u8], _) = match operation {
            Operation::Put { data, .. } => (br#"{"op":"put","#, Some(data)),
            Operation::Delete { .. } => (br#"{"op":"delete","#, None),
        };
        out.extend_from_slice(head);
        encode_key_members(out, operation.pk(), operation.sk());
        if let Some(data) = data {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data);
        }
        encode_condition(out, operation.condition());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

fn encode_key_members(out: &mut Vec<u8>, pk: &str, sk: &str) {
    out.extend_from_slice(br#""pk":"#);
    escape_into(pk, out);
    out.extend_from_slice(br#","sk":"#);
    escape_into(sk, out);
}

fn encode_time(out: &mut Vec<u8>, ts_ms: i64) {
    write!(out, r#","ts_ms":{ts_ms}"#).expect("writing to a Vec cannot fail");
}

fn encode_condition(out: &mut Vec<u8>, condition: Option<&str>) {
    if let Some(condition) = condition {
        out.extend_from_slice(br#","if":"#);
        escape_into(condition, out);
    }
}

#[cfg(test)]
mod tests;

//! What the steps work on: bodies of clients, messages of the log, rows of the store.

use std::num::NonZeroU32;

use firescroll::keys::KeyList;
use firescroll_shard::{Meta, Offset, encode_put};

pub(crate) const PARTITIONS: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");
pub(crate) const NOW_MS: i64 = 1_767_323_045_678;

pub(crate) fn pk(n: u32) -> String {
    format!("bench-{n:08}")
}

/// 300 bytes of JSON.
pub(crate) fn data(n: u32) -> String {
    format!(r#"{{"id":"{n:08}","fill":"{}"}}"#, "x".repeat(300 - 28))
}

pub(crate) fn get_body(keys: u32) -> Vec<u8> {
    let records: Vec<String> = (0..keys).map(|n| format!(r#"{{"pk":"{}","sk":"record"}}"#, pk(n))).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(",")).into_bytes()
}

pub(crate) fn put_body() -> Vec<u8> {
    format!(r#"{{"Records":[{{"pk":"{}","sk":"record","data":{}}}]}}"#, pk(1), data(1)).into_bytes()
}

pub(crate) fn key_list(keys: u32) -> KeyList {
    let mut list = KeyList::default();
    (0..keys).for_each(|n| list.push(&pk(n), "record", PARTITIONS));
    list
}

pub(crate) fn put_message(n: u32, condition: Option<&str>) -> Vec<u8> {
    let mut value = Vec::new();
    encode_put(&mut value, &pk(n), "record", data(n).as_bytes(), condition, NOW_MS);
    value
}

pub(crate) fn meta() -> Meta {
    Meta { created_ms: NOW_MS, updated_ms: NOW_MS, offset: Offset(1) }
}

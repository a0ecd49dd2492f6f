//! The steps of a request that need no shard: from the body to a plan, and from a stored row to the answer.

use std::num::NonZeroU32;

use divan::black_box;
use firescroll::api::request::Parser;
use firescroll::keys::KeyList;
use firescroll::route::{Routes, ShardId};
use firescroll_shard::{Record, Stored, encode_record, partition_of};

use crate::input::{NOW_MS, PARTITIONS, data, get_body, key_list, meta, pk, put_body};
use crate::meter::{Meter, Step};

const SHARDS: NonZeroU32 = NonZeroU32::new(4).expect("4 is not 0");
const MAX_MESSAGE: usize = 1 << 20;

pub(crate) const PARSE: &[Step] = &[
    Step::new("get of 1 key", |meter| parse_get(meter, 1)),
    Step::new("get of 3 keys", |meter| parse_get(meter, 3)),
    Step::new("get of 100 keys", |meter| parse_get(meter, 100)),
    Step::new("put of 1 record", parse_put),
];

pub(crate) const ROUTE: &[Step] = &[
    Step::new("partition of a key", partition),
    Step::new("plan of 1 key over 4 shards", |meter| plan(meter, 1)),
    Step::new("plan of 3 keys over 4 shards", |meter| plan(meter, 3)),
    Step::new("plan of 100 keys over 4 shards", |meter| plan(meter, 100)),
];

/// Rendering is what a record costs when it comes from the store.
pub(crate) const ANSWER: &[Step] = &[Step::new("render", render)];

fn parse_get(meter: Meter<'_, '_>, keys: u32) {
    let (body, mut list) = (get_body(keys), KeyList::default());
    let mut parser = Parser::new(PARTITIONS, MAX_MESSAGE);
    let mut parse = || {
        list.clear();
        parser.get(black_box(&body), &mut list).expect("a right body");
        list.len()
    };
    assert_eq!(parse(), keys as usize);
    meter.each(keys, parse);
}

fn parse_put(meter: Meter<'_, '_>) {
    let body = put_body();
    let mut parser = Parser::new(PARTITIONS, MAX_MESSAGE);
    meter.each(1, || parser.put(black_box(&body), NOW_MS).expect("a right body"));
}

fn partition(meter: Meter<'_, '_>) {
    let pk = pk(7);
    assert!(partition_of(pk.as_bytes(), PARTITIONS).0 < PARTITIONS.get());
    meter.each(1, || partition_of(black_box(pk.as_bytes()), PARTITIONS));
}

fn plan(meter: Meter<'_, '_>, keys: u32) {
    let routes = Routes { partitions: PARTITIONS, shards: SHARDS };
    let list = key_list(keys);
    assert_ne!(routes.plan(&list).len(), 0);
    meter.each(keys, || (routes.all_at(ShardId(0), black_box(&list)), routes.plan(black_box(&list)).len()));
}

fn render(meter: Meter<'_, '_>) {
    let bytes = encode_record(&meta(), data(1).as_bytes());
    let pk = pk(1);
    meter.each(1, || {
        let stored = Stored::decode(black_box(&bytes)).expect("a record");
        Record::render(&pk, "record", &stored)
    });
}

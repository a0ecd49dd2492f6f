//! The steps of a mutation: decoding it, and applying the deliveries that the log hands over.

use bytes::Bytes;
use divan::black_box;
use firescroll_shard::MutationDecoder;

use crate::input::put_message;
use crate::meter::{Meter, Step};
use crate::shard::{RECORDS, Shard};

/// Mutations of a delivery.
const BATCH: u32 = 32;

pub(crate) const STEPS: &[Step] = &[
    Step::new("decode", decode),
    Step::new("32 overwriting puts", |meter| deliveries(meter, None)),
    Step::new("32 puts with an if", |meter| deliveries(meter, Some("data.id != 'none'"))),
];

fn decode(meter: Meter<'_, '_>) {
    let message = put_message(1, None);
    let mut decoder = MutationDecoder::new();
    let mut decode = || decoder.decode(black_box(&message)).expect("a mutation").operations().len();
    assert_eq!(decode(), 1);
    meter.each(1, decode);
}

/// A delivery is asserted to be applied each time.
fn deliveries(meter: Meter<'_, '_>, condition: Option<&str>) {
    let batches: Vec<Vec<Bytes>> = (0..RECORDS / BATCH)
        .map(|batch| (0..BATCH).map(|n| put_message(batch * BATCH + n, condition).into()).collect())
        .collect();
    let mut at = 0;
    meter.each_of(BATCH, Shard::new(64 << 20), Shard::catch_up, |shard| {
        at = (at + 1) % batches.len();
        shard.apply(&batches[at]);
    });
}

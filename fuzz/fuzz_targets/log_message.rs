//! Bytes from the log: decoded and applied, whatever they are.
//!
//! Input: messages of one partition, one a line (a message of ours holds no line break outside strings, and escapes
//! those inside). Checked: no panic; a decoded message encodes and decodes to itself; what is stored is a record whose
//! data parses; a replay of the same messages leaves the same rows; a message that does not decode changes nothing.
#![no_main]

use std::num::NonZeroU32;

use bytes::Bytes;
use firescroll_shard::{
    JsonReader, LogEntry, MutationDecoder, Offset, Operation, PartitionId, Stored, encode_batch,
    encode_delete, encode_put, replay,
};
use libfuzzer_sys::fuzz_target;

const PARTITION: PartitionId = PartitionId(0);

fuzz_target!(|input: &[u8]| {
    let mut decoder = MutationDecoder::new();
    let mut entries = Vec::new();
    for (line, offset) in input.split(|&byte| byte == b'\n').zip(0..) {
        if let Some(again) = encode_again(&mut decoder, line) {
            let mut other = MutationDecoder::new();
            let twice = encode_again(&mut other, &again).expect("what we encode decodes");
            assert_eq!(twice, again, "an encoded message decodes to itself");
        }
        entries.push(LogEntry {
            offset: Offset(offset),
            timestamp_ms: 1_767_323_045_678 + i64::try_from(offset).expect("few lines"),
            value: Bytes::copy_from_slice(line),
        });
    }
    // With one partition every key belongs to it, so that messages are judged by their contents alone.
    let rows = replay(entries.iter().cloned(), PARTITION, NonZeroU32::MIN);
    assert_eq!(rows, replay(entries.iter().cloned(), PARTITION, NonZeroU32::MIN));
    let mut json = JsonReader::new();
    for stored in rows.values() {
        let stored = Stored::decode(stored).expect("what apply stores decodes");
        let data = json.parse(stored.data).expect("stored data is JSON");
        assert!(data.object().is_some(), "stored data is an object");
    }
    let decodable = entries.into_iter().filter(|entry| decoder.decode(&entry.value).is_ok());
    assert_eq!(rows, replay(decodable, PARTITION, NonZeroU32::MIN));
});

/// The message in our own spelling, if it decodes.
fn encode_again(decoder: &mut MutationDecoder, message: &[u8]) -> Option<Vec<u8>> {
    let mutation = decoder.decode(message).ok()?;
    let mut out = Vec::new();
    match mutation.operations() {
        [Operation::Put { pk, sk, data, condition }] => encode_put(&mut out, pk, sk, data, *condition, 1),
        [Operation::Delete { pk, sk, condition }] => encode_delete(&mut out, pk, sk, *condition, 1),
        operations => encode_batch(&mut out, operations, 1),
    }
    Some(out)
}

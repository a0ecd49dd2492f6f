//! Request bodies of every call, parsed as the API does.
//!
//! Input: one byte that chooses the call, then the body. Checked: no panic; what is accepted is a message that decodes
//! and whose keys belong to the message's partition; a parser that has parsed other bodies before answers alike.
#![no_main]

use std::num::NonZeroU32;

use firescroll::api::request::Parser;
use firescroll::keys::KeyList;
use firescroll_shard::{MutationDecoder, partition_of, split_key};
use libfuzzer_sys::fuzz_target;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(7).expect("7 is not 0");
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
const NOW_MS: i64 = 1_767_323_045_678;

fuzz_target!(|input: &[u8]| {
    let Some((&call, body)) = input.split_first() else { return };
    let mut used = Parser::new(PARTITIONS, MAX_MESSAGE_BYTES);
    for other in [&b"{\"Records\":[{\"pk\":\"a\",\"sk\":\"b\",\"data\":{}}]}"[..], b"{\"Records\":[", body] {
        // Whether these are accepted does not matter, only what they leave behind.
        let _ = used.put(other, NOW_MS);
    }
    assert_eq!(
        parse(&mut used, call, body),
        parse(&mut Parser::new(PARTITIONS, MAX_MESSAGE_BYTES), call, body)
    );
});

/// What the call made of the body, in comparable form; `None` when it was refused.
fn parse(parser: &mut Parser, call: u8, body: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let messages = match call % 6 {
        0 => parser.put(body, NOW_MS),
        1 => parser.delete(body, NOW_MS),
        2 => parser.batch(body, NOW_MS),
        3 => parser.put_one("example.com", "A", body, NOW_MS),
        4 => {
            let mut keys = KeyList::default();
            parser.get(body, &mut keys).ok()?;
            let keys = keys.iter().map(|(partition, key)| {
                let (pk, _) = split_key(key).expect("an accepted key splits");
                assert_eq!(partition_of(pk.as_bytes(), PARTITIONS), partition);
                (partition.0, key.to_vec())
            });
            return Some(keys.collect());
        }
        _ => {
            let list = parser.list(body).ok()?;
            return Some(vec![(list.partition.0, format!("{list:?}").into_bytes())]);
        }
    };
    let mut decoder = MutationDecoder::new();
    let messages = messages.ok()?.into_iter().map(|message| {
        assert!(message.value.len() <= MAX_MESSAGE_BYTES, "the log takes what was accepted");
        let mutation = decoder.decode(&message.value).expect("an accepted message decodes");
        for operation in mutation.operations() {
            assert_eq!(partition_of(operation.pk().as_bytes(), PARTITIONS).0, message.partition);
        }
        (message.partition, message.value.to_vec())
    });
    Some(messages.collect())
}

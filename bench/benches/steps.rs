//! What each step of a request costs by itself, on one thread and without sockets.
//!
//! body → `parse` → `route` → `find` (record cache, or store) → `answer`; and for writes `parse` → log → `decode` →
//! `condition` → `apply`. Run with `cargo bench --package firescroll-bench`; PERF.md sets the steps beside the whole.
//!
//! **Invariants**: inputs are what a client sends for a record of 300 bytes of data; every step is asserted to do its
//! work before it is timed. **Not here**: throughput under load (`firescroll-bench apply`, `suite`).

use std::num::NonZeroU32;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use firescroll::api::request::Parser;
use firescroll::keys::KeyList;
use firescroll::route::{Routes, ShardId};
use firescroll_shard::{
    Completion, Condition, LogEntry, Meta, MutationDecoder, Offset, Owner, OwnerOptions, PartitionId, Record,
    Store, StoreOptions, Stored, encode_key, encode_put, encode_record, partition_of,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");
const SHARDS: NonZeroU32 = NonZeroU32::new(4).expect("4 is not 0");
const NOW_MS: i64 = 1_767_323_045_678;
/// Records of the store that is read from.
const RECORDS: u32 = 50_000;
const MAX_MESSAGE: usize = 1 << 20;

fn main() {
    divan::main();
}

fn pk(n: u32) -> String {
    format!("bench-{n:08}")
}

/// 300 bytes of JSON.
fn data(n: u32) -> String {
    format!(r#"{{"id":"{n:08}","fill":"{}"}}"#, "x".repeat(300 - 28))
}

fn get_body(keys: u32) -> Vec<u8> {
    let records: Vec<String> = (0..keys).map(|n| format!(r#"{{"pk":"{}","sk":"record"}}"#, pk(n))).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(",")).into_bytes()
}

fn key_list(keys: u32) -> KeyList {
    let mut list = KeyList::default();
    (0..keys).for_each(|n| list.push(&pk(n), "record", PARTITIONS));
    list
}

fn put_message(n: u32, condition: Option<&str>) -> Vec<u8> {
    let mut value = Vec::new();
    encode_put(&mut value, &pk(n), "record", data(n).as_bytes(), condition, NOW_MS);
    value
}

fn meta() -> Meta {
    Meta { created_ms: NOW_MS, updated_ms: NOW_MS, offset: Offset(1) }
}

mod parse {
    use super::*;

    #[divan::bench(args = [1, 3, 100])]
    fn get(bencher: Bencher<'_, '_>, keys: u32) {
        let (body, mut list) = (get_body(keys), KeyList::default());
        let mut parser = Parser::new(PARTITIONS, MAX_MESSAGE);
        bencher.counter(ItemsCount::new(keys)).bench_local(|| {
            list.clear();
            parser.get(black_box(&body), &mut list).expect("a right body");
            list.len()
        });
    }

    #[divan::bench]
    fn put_of_one_record(bencher: Bencher<'_, '_>) {
        let body = format!(r#"{{"Records":[{{"pk":"{}","sk":"record","data":{}}}]}}"#, pk(1), data(1));
        let mut parser = Parser::new(PARTITIONS, MAX_MESSAGE);
        bencher.bench_local(|| parser.put(black_box(body.as_bytes()), NOW_MS).expect("a right body"));
    }
}

mod route {
    use super::*;

    #[divan::bench]
    fn partition_of_a_key(bencher: Bencher<'_, '_>) {
        let pk = pk(7);
        bencher.bench_local(|| partition_of(black_box(pk.as_bytes()), PARTITIONS));
    }

    #[divan::bench(args = [1, 3, 100])]
    fn plan_over_four_shards(bencher: Bencher<'_, '_>, keys: u32) {
        let routes = Routes { partitions: PARTITIONS, shards: SHARDS };
        let keys = key_list(keys);
        bencher.bench_local(|| {
            (routes.all_at(ShardId(0), black_box(&keys)), routes.plan(black_box(&keys)).len())
        });
    }
}

/// A shard with all records in its store, and as much record cache as asked for.
struct Shard {
    owner: Owner,
    completions: flume::Receiver<Completion>,
    next: u64,
    _directory: tempfile::TempDir,
}

impl Shard {
    fn new(cache_bytes: usize) -> Self {
        let directory = tempfile::tempdir().expect("scratch directory");
        let store = Store::open(&directory.path().join("store"), &StoreOptions::default()).expect("store");
        let options = OwnerOptions {
            partitions: NonZeroU32::MIN,
            cache_bytes,
            max_backlog_mutations: 8192,
            max_backlog_bytes: 32 << 20,
        };
        let (owner, completions) = Owner::new(store, options, &[PartitionId(0)]).expect("owner");
        let mut shard = Self { owner, completions, next: 0, _directory: directory };
        let messages: Vec<Bytes> = (0..RECORDS).map(|n| put_message(n, None).into()).collect();
        messages.chunks(32).for_each(|batch| shard.apply(batch));
        let next = Some(Offset(shard.next));
        while shard.owner.committed(PartitionId(0)) < next {
            let completion = shard.completions.recv().expect("the writer lives");
            shard.owner.complete(completion);
        }
        shard
    }

    /// What a serving core does with a delivery, waiting for the writer included.
    fn apply(&mut self, messages: &[Bytes]) {
        self.completions.try_iter().for_each(|completion| self.owner.complete(completion));
        while self.owner.backlog_full() {
            let completion = self.completions.recv().expect("the writer lives");
            self.owner.complete(completion);
        }
        let entries: Vec<LogEntry> = messages
            .iter()
            .zip(self.next..)
            .map(|(value, offset)| LogEntry {
                offset: Offset(offset),
                timestamp_ms: NOW_MS,
                value: value.clone(),
            })
            .collect();
        self.next += messages.len() as u64;
        let applied = self.owner.apply(PartitionId(0), &entries).expect("an open partition").applied;
        assert_eq!(applied, messages.len() as u64);
    }

    /// The length of what a client is sent of record `n`, if it is there.
    fn get(&mut self, key: &[u8]) -> Option<usize> {
        self.owner
            .get(PartitionId(0), key, |record| record.map(|r| r.json().len()))
            .expect("an open partition")
    }
}

mod find {
    use super::*;

    fn walk(bencher: Bencher<'_, '_>, cache_bytes: usize, range: u32, there: bool) {
        let mut shard = Shard::new(cache_bytes);
        let keys: Vec<Vec<u8>> = (0..range)
            .map(|n| {
                let mut key = Vec::new();
                encode_key(&pk(n), if there { "record" } else { "absent" }, &mut key);
                key
            })
            .collect();
        for key in &keys {
            assert_eq!(shard.get(key).is_some(), there);
        }
        // Neighbours in the store are not asked for one after the other.
        let mut at = 0;
        bencher.bench_local(|| {
            at = (at + 7_919) % keys.len();
            shard.get(black_box(&keys[at]))
        });
    }

    #[divan::bench]
    fn cached_100_hot(bencher: Bencher<'_, '_>) {
        walk(bencher, 64 << 20, 100, true);
    }

    #[divan::bench]
    fn cached_10_000_hot(bencher: Bencher<'_, '_>) {
        walk(bencher, 64 << 20, 10_000, true);
    }

    #[divan::bench]
    fn in_the_store(bencher: Bencher<'_, '_>) {
        walk(bencher, 1 << 10, RECORDS, true);
    }

    #[divan::bench]
    fn absent(bencher: Bencher<'_, '_>) {
        walk(bencher, 64 << 20, RECORDS, false);
    }
}

mod answer {
    use super::*;

    /// What a record costs when it comes from the store.
    #[divan::bench]
    fn render(bencher: Bencher<'_, '_>) {
        let bytes = encode_record(&meta(), data(1).as_bytes());
        let pk = pk(1);
        bencher.bench_local(|| {
            let stored = Stored::decode(black_box(&bytes)).expect("a record");
            Record::render(&pk, "record", &stored)
        });
    }
}

mod condition {
    use super::*;

    fn evaluate(bencher: Bencher<'_, '_>, text: &str) {
        let bytes = encode_record(&meta(), data(1).as_bytes());
        let stored = Stored::decode(&bytes).expect("a record");
        let condition = Condition::compile(text).expect("a condition");
        let pk = pk(1);
        assert_eq!(condition.evaluate(&pk, "record", Some(&stored)).ok(), Some(true));
        bencher.bench_local(|| condition.evaluate(black_box(&pk), "record", Some(black_box(&stored))));
    }

    #[divan::bench]
    fn compile(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| Condition::compile(black_box("data.id == '00000001'")));
    }

    /// A comparison of a field, which is answered without JMESPath's interpreter.
    #[divan::bench]
    fn usual(bencher: Bencher<'_, '_>) {
        evaluate(bencher, "data.id == '00000001'");
    }

    /// A function: the whole interpreter.
    #[divan::bench]
    fn general(bencher: Bencher<'_, '_>) {
        evaluate(bencher, "length(data.id) == `8` && starts_with(pk, 'bench')");
    }
}

mod apply {
    use super::*;

    /// Mutations of a delivery.
    const BATCH: u32 = 32;

    #[divan::bench]
    fn decode(bencher: Bencher<'_, '_>) {
        let message = put_message(1, None);
        let mut decoder = MutationDecoder::new();
        bencher.bench_local(|| decoder.decode(black_box(&message)).expect("a mutation").operations().len());
    }

    fn deliveries(bencher: Bencher<'_, '_>, condition: Option<&str>) {
        let mut shard = Shard::new(64 << 20);
        let batches: Vec<Vec<Bytes>> = (0..RECORDS / BATCH)
            .map(|batch| (0..BATCH).map(|n| put_message(batch * BATCH + n, condition).into()).collect())
            .collect();
        let mut at = 0;
        bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
            at = (at + 1) % batches.len();
            shard.apply(&batches[at]);
        });
    }

    #[divan::bench]
    fn overwriting_puts(bencher: Bencher<'_, '_>) {
        deliveries(bencher, None);
    }

    #[divan::bench]
    fn puts_with_an_if(bencher: Bencher<'_, '_>) {
        deliveries(bencher, Some("data.id != 'none'"));
    }
}

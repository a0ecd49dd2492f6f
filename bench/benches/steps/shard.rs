//! A shard with records in its store, driven as a serving core drives it.
//!
//! **Invariants**: all records lie in tables and nothing is left to flush, so what a lookup meets depends on no timing.
//! **Runs on** the measuring thread, beside the store's own writer and worker.

use std::num::NonZeroU32;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use firescroll_shard::{
    Checkpoint, Completion, LogEntry, Offset, Owner, OwnerOptions, PartitionId, Store, StoreOptions,
    encode_key, encode_record,
};

use crate::input::{NOW_MS, data, meta, pk};

/// Records of the store that is read from.
pub(crate) const RECORDS: u32 = 50_000;

/// A shard with all records in its store, and as much record cache as asked for.
pub(crate) struct Shard {
    owner: Owner,
    completions: flume::Receiver<Completion>,
    /// Whether a delivery was applied since the writer was waited for.
    delivered: bool,
    /// What the writer was waited for to say, for the next delivery to take in.
    arrived: Option<Completion>,
    next: u64,
    _directory: tempfile::TempDir,
}

impl Shard {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        let directory = tempfile::tempdir().expect("scratch directory");
        let store = filled(&directory.path().join("store"));
        let options = OwnerOptions {
            partitions: NonZeroU32::MIN,
            cache_bytes,
            max_backlog_mutations: 8192,
            max_backlog_bytes: 32 << 20,
        };
        let (owner, completions) = Owner::new(store, options, &[PartitionId(0)]).expect("owner");
        let next = u64::from(RECORDS);
        Self { owner, completions, delivered: false, arrived: None, next, _directory: directory }
    }

    /// What a serving core does with a delivery, waiting for the writer included.
    pub(crate) fn apply(&mut self, messages: &[Bytes]) {
        let news = self.arrived.take().into_iter().chain(self.completions.try_iter());
        news.for_each(|completion| self.owner.complete(completion));
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
        self.delivered = true;
    }

    /// Waits until the writer has committed the delivery before. The next one takes that in, as it does where nobody
    /// waits.
    pub(crate) fn catch_up(&mut self) {
        while self.delivered {
            let news = self.completions.recv().expect("the writer lives");
            // That the store was synced is news too, and comes at a time of its own.
            if news.durable().next().is_some() {
                self.owner.complete(news);
            } else {
                (self.arrived, self.delivered) = (Some(news), false);
            }
        }
    }

    /// The length of what a client is sent of a record, if it is there.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<usize> {
        self.owner
            .get(PartitionId(0), key, |record| record.map(|r| r.json().len()))
            .expect("an open partition")
    }
}

/// A store with all records in partition 0. They are copied there from another partition, as they are when the number
/// of shards changes, because rows that are loaded go into tables at once.
fn filled(path: &Path) -> Store {
    let store = Store::open(path, &StoreOptions::default()).expect("store");
    let [to, from] = [0, 1].map(|n| store.partition(PartitionId(n)).expect("partition"));
    let mut batch = store.batch();
    for n in 0..RECORDS {
        batch.row(&from, &key(n, "record"), Some(&encode_record(&meta(), data(n).as_bytes())));
    }
    batch.commit().expect("rows");
    let loaded = to.ingest(from.rows((Bound::Unbounded, Bound::Unbounded))).expect("rows");
    assert_eq!(loaded, u64::from(RECORDS));
    let mut batch = store.batch();
    batch.checkpoint(&to, &Checkpoint { next: Offset(u64::from(RECORDS)), ..Checkpoint::default() });
    batch.commit().expect("checkpoint");
    store.drop_partition(from).expect("partition");
    store
}

/// The encoded key of record `n`.
pub(crate) fn key(n: u32, sk: &str) -> Vec<u8> {
    let mut key = Vec::new();
    encode_key(&pk(n), sk, &mut key);
    key
}

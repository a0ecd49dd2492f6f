//! The record cache of a shard: rendered records by their encoded key, bounded in bytes.
//!
//! Apply keeps it exact: a put replaces a cached record in the same step that makes the put readable, a
//! delete removes it. A hit is therefore never older than the overlay or the store. Absent records are not
//! cached; the store's filters answer those.
//!
//! A hit should touch as few cold cache lines as it can: the key that the table compares is the front part of
//! the record's own bytes, and records are lent, not cloned.
//!
//! **Runs on** the shard's executor; no locks.

use crate::record::Record;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What an entry costs besides its key and its fragment: handles, slots and allocator rounding.
const ENTRY_BYTES: u64 = 160;
/// Size of a typical entry, for the first sizing of the table.
const TYPICAL_ENTRY_BYTES: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Bytes, Record> for Weight {
    fn weight(&self, key: &Bytes, record: &Record) -> u64 {
        key.len() as u64 + record.json().len() as u64 + ENTRY_BYTES
    }
}

/// Hashes whole keys at once, with a seed that clients cannot know.
#[derive(Clone, Copy, Debug)]
struct Seeded(u64);

struct KeyHasher(u64);

impl BuildHasher for Seeded {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        // The length prefix of a slice; the hash of the bytes covers it.
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Records = Cache<Bytes, Record, Weight, Seeded, DefaultLifecycle<Bytes, Record>>;

/// Rendered records by encoded key.
pub(crate) struct RecordCache {
    records: Records,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl RecordCache {
    /// A cache of at most `bytes`; 0 caches nothing.
    pub(crate) fn new(bytes: usize) -> RecordCache {
        let seed = RandomState::new().build_hasher().finish();
        let items = (bytes / TYPICAL_ENTRY_BYTES).max(1);
        let records = Cache::with(items, bytes as u64, Weight, Seeded(seed), DefaultLifecycle::default());
        RecordCache { records, hits: Cell::new(0), misses: Cell::new(0) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Record> {
        let found = self.records.get(key);
        let lookups = if found.is_some() { &self.hits } else { &self.misses };
        lookups.set(lookups.get() + 1);
        found
    }

    /// Looks without counting it as a lookup or a use.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<&Record> {
        self.records.peek(key)
    }

    pub(crate) fn insert(&mut self, record: Record) {
        self.records.insert(record.key_bytes(), record);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.records.remove(key);
    }

    /// Drops every record whose key is not to be kept. Walks the whole cache.
    pub(crate) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        self.records.retain(|key, _| keep(key));
    }

    /// Records and bytes held.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.records.len() as u64, self.records.weight())
    }

    /// Lookups that hit and that missed, since the start.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Offset, encode_key};
    use crate::record::{Meta, Stored};

    fn record(n: u32) -> Record {
        let meta = Meta { created_ms: 0, updated_ms: 0, offset: Offset(u64::from(n)) };
        Record::render("p", &n.to_string(), &Stored { meta, data: b"{}" })
    }

    fn key(n: u32) -> Vec<u8> {
        let mut key = Vec::new();
        encode_key("p", &n.to_string(), &mut key);
        key
    }

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let mut cache = RecordCache::new(10_000);
        for n in 0..1000u32 {
            cache.insert(record(n));
            assert!(cache.size().1 <= 10_000);
        }
        assert!(cache.size().0 >= 10);
        cache.retain(|_| false);
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn records_are_found_by_key_until_removed() {
        let mut cache = RecordCache::new(10_000);
        cache.insert(record(1));
        cache.insert(record(1));
        assert_eq!(cache.size().0, 1);
        assert_eq!(cache.get(&key(1)), Some(&record(1)));
        cache.remove(&key(1));
        assert_eq!(cache.peek(&key(1)), None);
        assert_eq!(cache.lookups(), (1, 0));
    }

    #[test]
    fn a_record_too_large_to_cache_displaces_its_predecessor() {
        let mut cache = RecordCache::new(2000);
        cache.insert(record(1));
        assert!(cache.peek(&key(1)).is_some());
        let data = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
        cache.insert(Record::render("p", "1", &Stored { meta: record(2).meta(), data: data.as_bytes() }));
        assert_eq!(cache.peek(&key(1)), None);
    }

    #[test]
    fn a_cache_of_nothing_holds_nothing() {
        let mut cache = RecordCache::new(0);
        cache.insert(record(1));
        assert_eq!(cache.get(&key(1)), None);
    }
}

//! Many keys in three flat buffers.
//!
//! A get names up to hundreds of thousands of keys; one allocation each would cost more than the lookups. A list is
//! reused from request to request on its core, and travels to another core as it is.
//!
//! Invariant: `ends` and `partitions` have one entry a key, in the order asked.
//! Runs on: serving cores. Not here: what is done with the keys.

use std::num::NonZeroU32;

use firescroll_shard::{PartitionId, encode_key, partition_of};

/// Encoded keys with the partition of each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    partitions: Vec<PartitionId>,
}

impl KeyList {
    /// Adds the key of a record that [`firescroll_shard::check_key`] has accepted.
    pub fn push(&mut self, pk: &str, sk: &str, partitions: NonZeroU32) {
        encode_key(pk, sk, &mut self.bytes);
        self.ends.push(self.bytes.len());
        self.partitions.push(partition_of(pk.as_bytes(), partitions));
    }

    /// Adds a key that is encoded already.
    pub fn push_encoded(&mut self, partition: PartitionId, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.partitions.push(partition);
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets the keys and keeps the buffers, unless one large request has blown them up.
    pub fn clear(&mut self) {
        const KEPT: usize = 1 << 20;
        if self.bytes.capacity() > KEPT {
            *self = Self::default();
        }
        self.bytes.clear();
        self.ends.clear();
        self.partitions.clear();
    }

    /// Key number `place` with its partition.
    ///
    /// # Panics
    /// If there is no such key.
    #[must_use]
    pub fn get(&self, place: usize) -> (PartitionId, &[u8]) {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        (self.partitions[place], &self.bytes[start..self.ends[place]])
    }

    /// The keys in the order asked.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &[u8])> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// The partition of each key, in the order asked.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionId] {
        &self.partitions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_order_with_their_partitions() {
        let count = NonZeroU32::new(8).expect("not zero");
        let mut keys = KeyList::default();
        keys.push("a", "1", count);
        keys.push("example.org", "A", count);
        let seen: Vec<_> = keys.iter().map(|(p, key)| (p, key.to_vec())).collect();
        assert_eq!(
            seen,
            [
                (partition_of(b"a", count), b"a\x001".to_vec()),
                (partition_of(b"example.org", count), b"example.org\x00A".to_vec()),
            ]
        );
        keys.clear();
        assert!(keys.is_empty());
    }
}

//! Pure: which core answers which keys.
//!
//! A get becomes a plan: its keys grouped by owning core, each with its place in the answer, so that every other core
//! is sent one message and the answers are joined in the order asked.
//!
//! Invariant: every key of the request is in exactly one group.
//! Runs on: serving cores, without waiting. Not here: sending, and nodes other than this one.

use std::num::NonZeroU32;

use firescroll_shard::PartitionId;

use crate::keys::KeyList;

/// The number of a serving core, `0..SHARDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who owns which partition on this node.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// Number of partitions of the namespace.
    pub partitions: NonZeroU32,
    /// Number of serving cores of this node.
    pub shards: NonZeroU32,
}

/// The part of a request that one core answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Leg {
    /// The core.
    pub shard: ShardId,
    /// Its keys, in the order asked.
    pub keys: KeyList,
    /// For each of its keys, the place in the whole answer.
    pub places: Vec<usize>,
}

impl Routes {
    /// The core that owns a partition: its number modulo the number of cores.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> ShardId {
        ShardId(partition.0 % self.shards.get())
    }

    /// Whether `shard` can answer all keys by itself.
    #[must_use]
    pub fn all_at(&self, shard: ShardId, keys: &KeyList) -> bool {
        self.shards.get() == 1 || keys.partitions().iter().all(|p| self.owner(*p) == shard)
    }

    /// One leg for each core that owns some of the keys, in order of core number.
    #[must_use]
    pub fn plan(&self, keys: &KeyList) -> Vec<Leg> {
        let mut legs: Vec<Option<Leg>> = (0..self.shards.get()).map(|_| None).collect();
        for (place, (partition, key)) in keys.iter().enumerate() {
            let shard = self.owner(partition);
            let leg = legs[shard.0 as usize].get_or_insert_with(|| Leg {
                shard,
                keys: KeyList::default(),
                places: Vec::new(),
            });
            leg.keys.push_encoded(partition, key);
            leg.places.push(place);
        }
        legs.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_is_in_one_leg_at_its_place(
            pks in proptest::collection::vec("[a-z]{1,6}", 0..60), shards in 1u32..7, partitions in 1u32..40
        ) {
            let routes = Routes {
                partitions: NonZeroU32::new(partitions).expect("not zero"),
                shards: NonZeroU32::new(shards).expect("not zero"),
            };
            let mut keys = KeyList::default();
            for pk in &pks {
                keys.push(pk, "s", routes.partitions);
            }
            let mut seen = vec![false; keys.len()];
            for leg in routes.plan(&keys) {
                prop_assert_eq!(leg.keys.len(), leg.places.len());
                for (place, found) in leg.places.iter().zip(leg.keys.iter()) {
                    prop_assert_eq!(found, keys.get(*place));
                    prop_assert_eq!(routes.owner(found.0), leg.shard);
                    prop_assert!(!std::mem::replace(&mut seen[*place], true));
                }
            }
            prop_assert!(seen.into_iter().all(|found| found));
        }
    }
}

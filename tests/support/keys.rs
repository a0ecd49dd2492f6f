//! Partition keys that fall where a test wants them.

use std::num::NonZeroU32;

use firescroll_shard::partition_of;

/// The partition of a key among `partitions`.
pub(crate) fn partition(pk: &str, partitions: u32) -> u32 {
    let count = NonZeroU32::new(partitions).expect("tests use at least one partition");
    partition_of(pk.as_bytes(), count).0
}

/// A key that starts with `tag` and falls in `wanted` of `partitions`.
pub(crate) fn pk_in(wanted: u32, partitions: u32, tag: &str) -> String {
    (0u32..)
        .map(|number| format!("{tag}-{number}"))
        .find(|pk| partition(pk, partitions) == wanted)
        .expect("the search is endless")
}

//! How an owner stands, for operators.

use super::Owner;
use crate::apply::Applied;
use crate::key::{Offset, PartitionId};
use crate::partition::Partition;
use std::sync::Arc;

/// How a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which one.
    pub partition: PartitionId,
    /// First offset not yet applied, that is, readable.
    pub next: Offset,
    /// First offset not yet in the store.
    pub committed: Offset,
    /// First offset not yet synced to disk.
    pub durable: Offset,
    /// Rows applied and not yet committed.
    pub overlay_rows: usize,
    /// Bytes of those.
    pub overlay_bytes: usize,
    /// The fates of all messages below `next`.
    pub counts: Applied,
    /// About how many records there are.
    pub approximate_records: u64,
    /// Why the partition has stopped, if it has.
    pub poisoned: Option<Arc<str>>,
}

/// How well the record cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Records held.
    pub records: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Lookups that found their record, since the start.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
}

impl Owner {
    /// How each owned partition stands, in order.
    pub fn status(&self) -> Vec<PartitionStatus> {
        let status = |partition: &Partition| PartitionStatus {
            partition: partition.id(),
            next: partition.applied.next,
            committed: partition.committed,
            durable: partition.durable,
            overlay_rows: partition.overlay.len(),
            overlay_bytes: partition.overlay.bytes(),
            counts: partition.applied.counts,
            // The checkpoint is a row as well.
            approximate_records: partition.store.approximate_rows().saturating_sub(1),
            poisoned: partition.poisoned().cloned(),
        };
        self.owned().map(status).collect()
    }

    /// How well the record cache does.
    pub fn cache_status(&self) -> CacheStatus {
        let ((records, bytes), (hits, misses)) = (self.cache.size(), self.cache.lookups());
        CacheStatus { records, bytes, hits, misses }
    }
}

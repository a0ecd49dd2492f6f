//! How far each partition of this node is: what every thread may look at without asking.
//!
//! One writer a value: the core that owns the partition stores, anybody loads. The values only inform (`/ready`,
//! `/status`, lag, log retention, refusing writes early); no decision about data depends on their order.
//!
//! Runs on: every thread. Not here: the truth, which the owning core's `Owner` holds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use firescroll_shard::{Offset, PartitionId};

/// Node-wide state of the partitions, and whether the node takes writes.
#[derive(Debug)]
pub struct Progress {
    partitions: Box<[Partition]>,
    /// Set when the disk is nearly full: the free bytes seen, 0 while writes are welcome.
    starved: AtomicU64,
    /// Why the log cannot be read any further, once that is so; and whether the node must end for it.
    failed: OnceLock<(String, bool)>,
    stopping: AtomicBool,
}

/// What a partition is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Another node's, or nobody's yet.
    Elsewhere,
    /// This node's.
    Held,
    /// This node's, but it cannot be continued from the log, or not be opened: it answers nothing.
    Missing,
    /// This node's in a moment: its core is still to take it.
    Opening,
}

#[derive(Debug, Default)]
struct Partition {
    /// A [`Holding`].
    holding: AtomicU8,
    /// When the log received what was applied last, Unix ms; 0 for nothing.
    timestamp_ms: AtomicI64,
    applied: AtomicU64,
    durable: AtomicU64,
    target: AtomicU64,
    poisoned: AtomicBool,
}

impl Progress {
    /// Of `partitions` partitions that have applied nothing.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            starved: AtomicU64::new(0),
            failed: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    fn of(&self, partition: PartitionId) -> &Partition {
        &self.partitions[partition.0 as usize]
    }

    /// All partitions of the namespace.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)).map(PartitionId)
    }

    /// What the partition is to this node from now on.
    pub fn set_holding(&self, partition: PartitionId, holding: Holding) {
        self.of(partition).holding.store(holding as u8, Relaxed);
    }

    /// What the partition is to this node.
    #[must_use]
    pub fn holding(&self, partition: PartitionId) -> Holding {
        match self.of(partition).holding.load(Relaxed) {
            1 => Holding::Held,
            2 => Holding::Missing,
            3 => Holding::Opening,
            _ => Holding::Elsewhere,
        }
    }

    /// The partitions that this node holds, in order.
    pub fn held(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions().filter(|partition| self.holding(*partition) == Holding::Held)
    }

    /// The partition is this node's: it stands at `next` and counts as caught up at `target`.
    pub fn take(&self, partition: PartitionId, next: Offset, target: Offset) {
        self.set_applied(partition, next);
        self.set_durable(partition, next);
        self.set_target(partition, target);
        self.of(partition).poisoned.store(false, Relaxed);
        self.of(partition).timestamp_ms.store(0, Relaxed);
        self.set_holding(partition, Holding::Held);
    }

    /// When the log received what was applied last, in Unix ms; `None` if nothing was since the start.
    #[must_use]
    pub fn applied_timestamp_ms(&self, partition: PartitionId) -> Option<i64> {
        Some(self.of(partition).timestamp_ms.load(Relaxed)).filter(|ms| *ms > 0)
    }

    /// The log received the last applied mutation at that time.
    pub fn set_applied_timestamp_ms(&self, partition: PartitionId, ms: i64) {
        self.of(partition).timestamp_ms.store(ms, Relaxed);
    }

    /// The owner has applied everything below `next`.
    pub fn set_applied(&self, partition: PartitionId, next: Offset) {
        self.of(partition).applied.store(next.0, Relaxed);
    }

    /// The first offset that has not been applied.
    #[must_use]
    pub fn applied(&self, partition: PartitionId) -> Offset {
        Offset(self.of(partition).applied.load(Relaxed))
    }

    /// The store has synced everything below `next`.
    pub fn set_durable(&self, partition: PartitionId, next: Offset) {
        self.of(partition).durable.store(next.0, Relaxed);
    }

    /// The first offset that the store could lose.
    #[must_use]
    pub fn durable(&self, partition: PartitionId) -> Offset {
        Offset(self.of(partition).durable.load(Relaxed))
    }

    /// Where the log's end was when the partition was assigned.
    pub fn set_target(&self, partition: PartitionId, end: Offset) {
        self.of(partition).target.store(end.0, Relaxed);
    }

    /// The partition's store has failed; it serves nothing until a restart.
    pub fn poison(&self, partition: PartitionId) {
        self.of(partition).poisoned.store(true, Relaxed);
    }

    /// Whether the partition's store has failed.
    #[must_use]
    pub fn poisoned(&self, partition: PartitionId) -> bool {
        self.of(partition).poisoned.load(Relaxed)
    }

    /// The partitions of this node that have not reached their target or cannot, with how many mutations are missing.
    #[must_use]
    pub fn behind(&self) -> Vec<(PartitionId, u64)> {
        self.partitions()
            .filter_map(|id| {
                let target = self.of(id).target.load(Relaxed);
                let missing = target.saturating_sub(self.applied(id).0);
                let behind = match self.holding(id) {
                    Holding::Elsewhere => false,
                    Holding::Held => missing > 0 || self.poisoned(id),
                    Holding::Missing | Holding::Opening => true,
                };
                behind.then_some((id, missing))
            })
            .collect()
    }

    /// Whether every partition that this node was given has caught up, and it was given any.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.behind().is_empty() && self.held().next().is_some() && self.failed().is_none()
    }

    /// Says whether the disk has room: `Some(free bytes)` refuses writes.
    pub fn set_starved(&self, free: Option<u64>) {
        self.starved.store(free.map_or(0, |free| free.max(1)), Relaxed);
    }

    /// The free bytes seen, if they are too few to take writes.
    #[must_use]
    pub fn starved(&self) -> Option<u64> {
        match self.starved.load(Relaxed) {
            0 => None,
            free => Some(free),
        }
    }

    /// The log cannot be read any further: what is written from now on would never be seen. `fatal` ends the node.
    pub fn fail(&self, reason: &str, fatal: bool) {
        // The first reason is the cause.
        let _ = self.failed.set((reason.to_owned(), fatal));
    }

    /// Why the node must end, if that is so.
    #[must_use]
    pub fn fatal(&self) -> Option<&str> {
        self.failed.get().filter(|(_, fatal)| *fatal).map(|(reason, _)| reason.as_str())
    }

    /// Why the log cannot be read any further, if that is so.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.get().map(|(reason, _)| reason.as_str())
    }

    /// The node has begun to stop: `/ready` turns, so that balancers send no more.
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether the node has begun to stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_target_reached_and_no_store_failed() {
        let progress = Progress::new(3);
        assert!(!progress.ready(), "no partitions");
        progress.take(PartitionId(0), Offset(0), Offset(0));
        progress.take(PartitionId(1), Offset(0), Offset(3));
        assert_eq!(progress.behind(), [(PartitionId(1), 3)]);
        progress.set_applied(PartitionId(1), Offset(3));
        assert!(progress.behind().is_empty() && progress.ready());
        progress.set_holding(PartitionId(2), Holding::Missing);
        assert_eq!(progress.behind(), [(PartitionId(2), 0)]);
        progress.set_holding(PartitionId(2), Holding::Elsewhere);
        progress.poison(PartitionId(0));
        assert_eq!(progress.behind(), [(PartitionId(0), 0)]);
    }
}

//! The owner: all partitions of one shard, and the one way to read and change them.
//!
//! A mutation: `apply` decides on it purely, puts the row into overlay and cache (readable from here on), and
//! hands the write set to the writer thread; its completion comes back through the channel and `complete`
//! drops the row from the overlay. A read: cache, overlay, store, in that order, without waiting for anybody.
//!
//! Invariants: one thread; what is readable is exactly the log up to `next`; a batch appears whole. The
//! backlog of applied but uncommitted mutations is bounded by the caller, who stops applying while
//! `backlog_full`.
//!
//! **Runs on** the shard's executor. Only preparing (before) and closing (after) block.
//!
//! **Not here**: waiting for offsets, requests, the log.

mod lifecycle;
mod status;

pub use lifecycle::{Closing, OpenedPartition, Opener, PreparedOwner};
pub use status::{CacheStatus, PartitionStatus};

use crate::apply::{Applied, Applier, LogEntry, Verdict};
use crate::cache::RecordCache;
use crate::export::Export;
use crate::key::{Offset, PartitionId, partition_of, split_key};
use crate::overlay::Seq;
use crate::partition::{Delivery, Partition};
use crate::record::Record;
use crate::scan::{Scan, ScanRange};
use crate::store::{Checkpoint, StoreError};
use crate::unavailable::Unavailable;
use crate::writer::{Completion, Load, News, QUEUE_SETS, WriteSet, Writer};
use bytes::BytesMut;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A delivery is cut into write sets of about these sizes, so that no commit takes long.
const MAX_SET_ROWS: usize = 512;
const MAX_SET_BYTES: usize = 1 << 20;

/// Sizes of an owner.
#[derive(Clone, Debug)]
pub struct OwnerOptions {
    /// Partitions of the log, all shards together.
    pub partitions: NonZeroU32,
    /// Record cache, bytes.
    pub cache_bytes: usize,
    /// Mutations applied but not committed, above which `backlog_full` holds.
    pub max_backlog_mutations: usize,
    /// Bytes applied but not committed, above which `backlog_full` holds.
    pub max_backlog_bytes: usize,
}

/// The partitions of one shard.
pub struct Owner {
    options: OwnerOptions,
    /// By partition number; `None` is not owned.
    slots: Vec<Option<Box<Partition>>>,
    cache: RecordCache,
    applier: Applier,
    arena: BytesMut,
    /// `None` once closed.
    writer: Option<Writer>,
    last_seq: Seq,
    backlog: Load,
}

impl Owner {
    /// The first offset of `partition` not yet applied: everything below is readable.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned or has stopped.
    pub fn next(&self, partition: PartitionId) -> Result<Offset, Unavailable> {
        Ok(self.readable(partition)?.applied.next)
    }

    /// The first offset not yet in the store. Also told of a partition that has stopped.
    pub fn committed(&self, partition: PartitionId) -> Option<Offset> {
        self.slot(partition).map(|partition| partition.committed)
    }

    /// The first offset not yet synced to disk: the log must keep everything from here on.
    pub fn durable(&self, partition: PartitionId) -> Option<Offset> {
        self.slot(partition).map(|partition| partition.durable)
    }

    /// Lends the record at an encoded key, as of everything applied, to `with`.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned, has stopped or cannot be read.
    pub fn get<T>(
        &mut self,
        partition: PartitionId,
        key: &[u8],
        with: impl FnOnce(Option<&Record>) -> T,
    ) -> Result<T, Unavailable> {
        let rows = self.readable(partition)?;
        if let Some(record) = self.cache.get(key) {
            return Ok(with(Some(record)));
        }
        let Some((pk, sk)) = split_key(key) else { return Ok(with(None)) };
        let record = rows.read(key, pk, sk).map_err(|error| Unavailable::failed(partition, &error))?;
        let result = with(record.as_ref());
        if let Some(record) = record {
            self.cache.insert(record);
        }
        Ok(result)
    }

    /// Applies messages of the log, which must be in offset order. Those below `next` are skipped, gaps are
    /// fine. What took effect is readable when this returns.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned, has stopped, or stops now because its store cannot be
    /// read.
    pub fn apply(&mut self, partition: PartitionId, entries: &[LogEntry]) -> Result<Applied, Unavailable> {
        let mut total = Applied::default();
        let mut rest = entries;
        while !rest.is_empty() {
            match self.apply_some(partition, rest, &mut total)? {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => {
                    let reason: Arc<str> = error.to_string().into();
                    tracing::error!(partition = partition.0, %error, "rows cannot be read; the partition stops");
                    self.poison(partition, &reason);
                    return Err(Unavailable::Poisoned { partition, reason });
                }
            }
        }
        Ok(total)
    }

    /// Makes one write set of the first entries, and says how many they are.
    fn apply_some(
        &mut self,
        partition: PartitionId,
        entries: &[LogEntry],
        total: &mut Applied,
    ) -> Result<Result<usize, StoreError>, Unavailable> {
        let seq = Seq(self.last_seq.0 + 1);
        let slot = self.slots.get_mut(partition.0 as usize).and_then(Option::as_deref_mut);
        let (Some(state), Some(writer)) = (slot, &self.writer) else {
            return Err(Unavailable::NotOwned { partition });
        };
        state.check()?;
        let mut rows = Delivery {
            store: &state.store,
            overlay: &mut state.overlay,
            cache: &mut self.cache,
            arena: &mut self.arena,
            seq,
            set: Vec::new(),
            bytes: 0,
        };
        let (mut taken, mut mutations) = (0, 0);
        let Checkpoint { mut next, mut counts } = state.applied;
        let before = counts;
        for entry in entries {
            if rows.set.len() >= MAX_SET_ROWS || rows.bytes >= MAX_SET_BYTES {
                break;
            }
            taken += 1;
            if entry.offset < next {
                continue;
            }
            let verdict = match self.applier.apply(partition, entry, &mut rows) {
                Ok(verdict) => verdict,
                Err(error) => return Ok(Err(error)),
            };
            // A flood of poison must not become a flood of log lines; the counters have them all.
            if let Verdict::Undecodable(error) = &verdict
                && counts.undecodable == before.undecodable
            {
                tracing::warn!(partition = partition.0, offset = entry.offset.0, %error, "a message was skipped");
            }
            counts.count(&verdict);
            total.count(&verdict);
            next = Offset(entry.offset.0 + 1);
            mutations += 1;
        }
        let Delivery { set: rows, bytes, .. } = rows;
        if mutations > 0 {
            state.applied = Checkpoint { next, counts };
            self.last_seq = seq;
            let load = Load { mutations, bytes };
            self.backlog.mutations += mutations;
            self.backlog.bytes += bytes;
            writer.send(WriteSet { partition, seq, rows, checkpoint: state.applied, load });
        }
        Ok(Ok(taken))
    }

    /// Takes news from the writer thread. After a failed commit the partition stops and the others go on.
    pub fn complete(&mut self, completion: Completion) {
        match completion.0 {
            News::Committed(set) => {
                self.unburden(set.load);
                // The partition may have been given up, and even taken again, since.
                if let Some(partition) = self.slot_mut(set.partition) {
                    partition.overlay.committed(set.seq, &set.rows);
                    partition.committed = partition.committed.max(set.checkpoint.next);
                }
            }
            News::Failed { set, reason } => {
                self.unburden(set.load);
                self.poison(set.partition, &reason);
            }
            News::Durable(durable) => {
                for (partition, next) in durable {
                    if let Some(partition) = self.slot_mut(partition) {
                        partition.durable = partition.durable.max(next);
                    }
                }
            }
            News::Broken { reason } => {
                let owned: Vec<PartitionId> = self.owned().map(Partition::id).collect();
                for partition in owned {
                    self.poison(partition, &reason);
                }
            }
        }
    }

    /// Whether the caller shall stop applying until completions come.
    pub fn backlog_full(&self) -> bool {
        self.backlog.mutations >= self.options.max_backlog_mutations
            || self.backlog.bytes >= self.options.max_backlog_bytes
            || self.writer.as_ref().is_some_and(|writer| writer.queued() >= QUEUE_SETS / 2)
    }

    /// Starts a listing: a consistent view of the partition as it is now. Copies the matching part of the
    /// overlay.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned or has stopped.
    pub fn scan(&self, partition: PartitionId, range: ScanRange) -> Result<Scan, Unavailable> {
        Ok(Scan::new(self.readable(partition)?, range))
    }

    /// Starts an export of a whole partition in key order: a consistent view as it is now. Copies the
    /// overlay.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned or has stopped.
    pub fn export(&self, partition: PartitionId) -> Result<Export, Unavailable> {
        Ok(Export::new(self.readable(partition)?))
    }

    fn owned(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    fn slot(&self, partition: PartitionId) -> Option<&Partition> {
        self.slots.get(partition.0 as usize).and_then(Option::as_deref)
    }

    fn slot_mut(&mut self, partition: PartitionId) -> Option<&mut Partition> {
        self.slots.get_mut(partition.0 as usize).and_then(Option::as_deref_mut)
    }

    fn readable(&self, partition: PartitionId) -> Result<&Partition, Unavailable> {
        let state = self.slot(partition).ok_or(Unavailable::NotOwned { partition })?;
        state.check()?;
        Ok(state)
    }

    fn unburden(&mut self, load: Load) {
        self.backlog.mutations -= load.mutations;
        self.backlog.bytes -= load.bytes;
    }

    fn poison(&mut self, partition: PartitionId, reason: &Arc<str>) {
        let Some(state) = self.slot_mut(partition) else { return };
        state.poison(reason);
        self.forget(partition);
    }

    /// Drops what the record cache has of a partition.
    fn forget(&mut self, partition: PartitionId) {
        let partitions = self.options.partitions;
        self.cache.retain(|key| {
            split_key(key).is_some_and(|(pk, _)| partition_of(pk.as_bytes(), partitions) != partition)
        });
    }
}

#[cfg(test)]
mod tests;

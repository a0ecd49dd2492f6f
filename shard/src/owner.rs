//! The owner: all partitions of one shard, and the one way to read and change them.
//!
//! A mutation: `apply` decides on it purely, puts the row into overlay and cache (readable from here on), and hands the
//! write set to the writer thread; its completion comes back through the channel and `complete` drops the row
//! from the overlay. A read: cache, overlay, store, in that order, without waiting for anybody.
//!
//! Invariants: one thread; what is readable is exactly the log up to `next`; a batch appears whole. The backlog of
//! applied but uncommitted mutations is bounded by the caller, who stops applying while `backlog_full`.
//!
//! **Runs on** the shard's executor. Only preparing (before) and closing (after) block.
//!
//! **Not here**: waiting for offsets, requests, the log.

use crate::apply::{Applied, Applier, LogEntry};
use crate::cache::RecordCache;
use crate::export::Export;
use crate::key::{Offset, PartitionId, partition_of, split_key};
use crate::overlay::Seq;
use crate::partition::{Delivery, Partition};
use crate::record::Record;
use crate::scan::{Scan, ScanRange};
use crate::store::{Checkpoint, Store, StoreError};
use crate::unavailable::Unavailable;
use crate::writer::{Completion, Load, News, QUEUE_SETS, WriteSet, Writer, WriterHook};
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

/// An owner that has done everything that blocks, ready to be sent to its executor.
pub struct PreparedOwner {
    options: OwnerOptions,
    partitions: Vec<Partition>,
    writer: Writer,
    completions: flume::Receiver<Completion>,
}

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
    /// Opens each owned partition, reads its checkpoint and starts the writer thread. Blocks for some milliseconds per
    /// partition; call it on the thread whose CPU affinity the writer shall have.
    ///
    /// # Errors
    /// [`StoreError`] of the first partition that does not open.
    pub fn prepare(
        store: Store,
        options: OwnerOptions,
        owned: &[PartitionId],
        hook: Option<WriterHook>,
    ) -> Result<PreparedOwner, StoreError> {
        let mut partitions = Vec::with_capacity(owned.len());
        for partition in owned {
            assert!(
                partition.0 < options.partitions.get(),
                "partition {partition} is beyond the log's partitions"
            );
            partitions.push(Partition::open(store.partition(*partition)?)?);
        }
        let stores = partitions.iter().map(|partition| (partition.id(), partition.store.clone())).collect();
        let (writer, completions) = Writer::start(store, stores, hook)?;
        Ok(PreparedOwner { options, partitions, writer, completions })
    }

    /// Prepares and starts on the calling thread, for tools and tests. Blocks as [`Owner::prepare`].
    ///
    /// # Errors
    /// As [`Owner::prepare`].
    pub fn new(
        store: Store,
        options: OwnerOptions,
        owned: &[PartitionId],
    ) -> Result<(Owner, flume::Receiver<Completion>), StoreError> {
        Owner::prepare(store, options, owned, None).map(PreparedOwner::start)
    }

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

    /// The record at an encoded key, as of everything applied.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned, has stopped or cannot be read.
    pub fn get(&mut self, partition: PartitionId, key: &[u8]) -> Result<Option<Record>, Unavailable> {
        let rows = self.readable(partition)?;
        if let Some(record) = self.cache.get(key) {
            return Ok(Some(record.clone()));
        }
        let Some((pk, sk)) = split_key(key) else { return Ok(None) };
        let record = rows.read(key, pk, sk).map_err(|error| Unavailable::failed(partition, &error))?;
        if let Some(record) = &record {
            self.cache.insert(key, record.clone());
        }
        Ok(record)
    }

    /// Applies messages of the log, which must be in offset order. Those below `next` are skipped, gaps are fine. What
    /// took effect is readable when this returns.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned, has stopped, or stops now because its store cannot be read.
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
            if let crate::apply::Verdict::Undecodable(error) = &verdict {
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
                if let Some(partition) = self.slot_mut(set.partition) {
                    partition.overlay.committed(set.seq, &set.rows);
                    partition.committed = set.checkpoint.next;
                }
            }
            News::Failed { set, reason } => {
                self.unburden(set.load);
                self.poison(set.partition, &reason);
            }
            News::Durable(durable) => {
                for (partition, next) in durable {
                    if let Some(partition) = self.slot_mut(partition) {
                        partition.durable = next;
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

    /// Starts a listing: a consistent view of the partition as it is now. Copies the matching part of the overlay.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned or has stopped.
    pub fn scan(&self, partition: PartitionId, range: ScanRange) -> Result<Scan, Unavailable> {
        Ok(Scan::new(self.readable(partition)?, range))
    }

    /// Starts an export of a whole partition in key order: a consistent view as it is now. Copies the overlay.
    ///
    /// # Errors
    /// [`Unavailable`] when the partition is not owned or has stopped.
    pub fn export(&self, partition: PartitionId) -> Result<Export, Unavailable> {
        Ok(Export::new(self.readable(partition)?))
    }

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

    /// Takes no more mutations from here on; reads go on. What remains blocks and is done by [`Closing::finish`], on any
    /// thread. A second call gives nothing.
    pub fn close(&mut self) -> Option<Closing> {
        self.writer.take().map(|writer| Closing { writer })
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
        let partitions = self.options.partitions;
        self.cache.retain(|key| {
            split_key(key).is_some_and(|(pk, _)| partition_of(pk.as_bytes(), partitions) != partition)
        });
    }
}

impl PreparedOwner {
    /// Becomes the owner, on the executor that keeps it. Completions arrive on the channel. Does not block.
    pub fn start(self) -> (Owner, flume::Receiver<Completion>) {
        let PreparedOwner { options, partitions, writer, completions } = self;
        let mut slots: Vec<Option<Box<Partition>>> = Vec::new();
        slots.resize_with(options.partitions.get() as usize, || None);
        for partition in partitions {
            let place = partition.id().0 as usize;
            slots[place] = Some(Box::new(partition));
        }
        let owner = Owner {
            slots,
            cache: RecordCache::new(options.cache_bytes),
            applier: Applier::new(options.partitions),
            arena: BytesMut::with_capacity(64 << 10),
            writer: Some(writer),
            last_seq: Seq(0),
            backlog: Load::default(),
            options,
        };
        (owner, completions)
    }
}

/// The blocking rest of closing an owner.
pub struct Closing {
    writer: Writer,
}

impl Closing {
    /// Commits what is queued and syncs. **Blocks**, usually well under a second. The store itself closes when the
    /// owner and all scans and exports are gone.
    ///
    /// # Errors
    /// [`StoreError`] of the last sync; nothing is lost that the log does not hold.
    pub fn finish(self) -> Result<(), StoreError> {
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests;

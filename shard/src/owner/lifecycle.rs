//! How an owner comes to be and how it ends. What blocks is apart, so that it need not be on the executor.

use super::{Owner, OwnerOptions};
use crate::apply::Applier;
use crate::cache::RecordCache;
use crate::key::{Offset, PartitionId};
use crate::overlay::Seq;
use crate::partition::Partition;
use crate::store::{Store, StoreError};
use crate::writer::{Closed, Completion, Load, Writer, WriterHook};
use bytes::BytesMut;

/// Keys and rows are cut from chunks of about this size.
const ARENA_BYTES: usize = 64 << 10;

/// An owner that has done everything that blocks, ready to be sent to its executor.
pub struct PreparedOwner {
    options: OwnerOptions,
    store: Store,
    partitions: Vec<Partition>,
    writer: Writer,
    completions: flume::Receiver<Completion>,
}

/// Opens further partitions of an owner's store while the owner runs. Keeps the store open as long as it lives.
#[derive(Clone)]
pub struct Opener {
    store: Store,
    partitions: u32,
}

/// A partition that is open and has no owner yet.
pub struct OpenedPartition(Partition);

impl Opener {
    /// Opens a partition and reads its checkpoint. **Blocks** for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError`] with path and partition.
    pub fn open(&self, partition: PartitionId) -> Result<OpenedPartition, StoreError> {
        assert!(partition.0 < self.partitions, "partition {partition} is beyond the log's partitions");
        Partition::open(self.store.partition(partition)?).map(OpenedPartition)
    }
}

impl OpenedPartition {
    /// Which one.
    pub fn partition(&self) -> PartitionId {
        self.0.id()
    }

    /// The first offset that it has not applied.
    pub fn next(&self) -> Offset {
        self.0.applied.next
    }
}

impl Owner {
    /// Opens each owned partition, reads its checkpoint and starts the writer thread. Blocks for some
    /// milliseconds per partition; call it on the thread whose CPU affinity the writer shall have.
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
        let (writer, completions) = Writer::start(store.clone(), stores, hook)?;
        Ok(PreparedOwner { options, store, partitions, writer, completions })
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

    /// Takes over a partition that was opened: it can be read and applied to from here on. Does not block.
    ///
    /// # Panics
    /// If the partition is owned already, or the owner is closed.
    pub fn adopt(&mut self, opened: OpenedPartition) {
        let OpenedPartition(partition) = opened;
        let writer = self.writer.as_ref().expect("nobody opens partitions for an owner that is closed");
        writer.open(partition.store.clone());
        let slot = &mut self.slots[partition.id().0 as usize];
        assert!(slot.is_none(), "partition {} is owned already", partition.id());
        *slot = Some(Box::new(partition));
    }

    /// Gives a partition up: it cannot be read or applied to from here on. Everything applied is committed and made
    /// durable by the writer thread, which then calls `closed`. Does not block. A partition that is not owned is closed
    /// at once.
    pub fn release(&mut self, partition: PartitionId, closed: Closed) {
        let slot = self.slots.get_mut(partition.0 as usize).and_then(Option::take);
        let (Some(_), Some(writer)) = (slot, &self.writer) else { return closed(Ok(())) };
        writer.close(partition, closed);
        self.forget(partition);
    }

    /// Takes no more mutations from here on; reads go on. What remains blocks and is done by
    /// [`Closing::finish`], on any thread. A second call gives nothing.
    pub fn close(&mut self) -> Option<Closing> {
        self.writer.take().map(|writer| Closing { writer })
    }
}

impl PreparedOwner {
    /// What opens further partitions.
    pub fn opener(&self) -> Opener {
        Opener { store: self.store.clone(), partitions: self.options.partitions.get() }
    }

    /// Becomes the owner, on the executor that keeps it. Completions arrive on the channel. Does not block.
    pub fn start(self) -> (Owner, flume::Receiver<Completion>) {
        let PreparedOwner { options, store: _, partitions, writer, completions } = self;
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
            arena: BytesMut::with_capacity(ARENA_BYTES),
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
    /// Commits what is queued and syncs. **Blocks**, usually well under a second. The store itself closes
    /// when the owner and all scans and exports are gone.
    ///
    /// # Errors
    /// [`StoreError`] of the last sync; nothing is lost that the log does not hold.
    pub fn finish(self) -> Result<(), StoreError> {
        self.writer.finish()
    }
}

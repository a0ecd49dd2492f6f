//! How an owner comes to be and how it ends. What blocks is apart, so that it need not be on the executor.

use super::{Owner, OwnerOptions};
use crate::apply::Applier;
use crate::cache::RecordCache;
use crate::key::PartitionId;
use crate::overlay::Seq;
use crate::partition::Partition;
use crate::store::{Store, StoreError};
use crate::writer::{Completion, Load, Writer, WriterHook};
use bytes::BytesMut;

/// Keys and rows are cut from chunks of about this size.
const ARENA_BYTES: usize = 64 << 10;

/// An owner that has done everything that blocks, ready to be sent to its executor.
pub struct PreparedOwner {
    options: OwnerOptions,
    partitions: Vec<Partition>,
    writer: Writer,
    completions: flume::Receiver<Completion>,
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

    /// Takes no more mutations from here on; reads go on. What remains blocks and is done by
    /// [`Closing::finish`], on any thread. A second call gives nothing.
    pub fn close(&mut self) -> Option<Closing> {
        self.writer.take().map(|writer| Closing { writer })
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

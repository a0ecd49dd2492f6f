//! One partition of a shard: its rows in store and overlay, how far it has come, and whether it has stopped.
//!
//! `applied` is what readers see, `committed` what is in the store, `durable` what a power failure leaves:
//! `durable ≤ committed ≤ applied`.
//!
//! **Runs on** the shard's executor.

use crate::apply::{NewRow, Rows};
use crate::cache::RecordCache;
use crate::key::{Offset, PartitionId};
use crate::overlay::{Overlay, Seq, Write};
use crate::record::{Record, Stored, encode_record_into};
use crate::store::{Checkpoint, PartitionStore, StoreError};
use crate::unavailable::Unavailable;
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// State of an owned partition.
pub(crate) struct Partition {
    pub(crate) store: PartitionStore,
    pub(crate) overlay: Overlay,
    pub(crate) applied: Checkpoint,
    pub(crate) committed: Offset,
    pub(crate) durable: Offset,
    poisoned: Option<Arc<str>>,
}

impl Partition {
    /// A partition as its store left it.
    pub(crate) fn open(store: PartitionStore) -> Result<Partition, StoreError> {
        let applied = match store.checkpoint()? {
            Some(checkpoint) => checkpoint,
            None if store.is_empty()? => Checkpoint::default(),
            // Replaying the log onto them would give other creation times than elsewhere.
            None => return Err(store.corrupt("it has rows but no checkpoint")),
        };
        let (committed, durable) = (applied.next, applied.next);
        Ok(Partition { store, overlay: Overlay::default(), applied, committed, durable, poisoned: None })
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.store.partition()
    }

    /// Why the partition has stopped, if it has.
    pub(crate) fn poisoned(&self) -> Option<&Arc<str>> {
        self.poisoned.as_ref()
    }

    /// Passes when the partition may be read and written.
    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        match &self.poisoned {
            None => Ok(()),
            Some(reason) => Err(Unavailable::Poisoned { partition: self.id(), reason: Arc::clone(reason) }),
        }
    }

    /// Stops the partition. What was applied but not committed is dropped: a restart replays it.
    pub(crate) fn poison(&mut self, reason: &Arc<str>) {
        self.overlay.clear();
        self.poisoned.get_or_insert_with(|| Arc::clone(reason));
    }

    /// The record at `key` from overlay or store, rendered.
    pub(crate) fn read(&self, key: &[u8], pk: &str, sk: &str) -> Result<Option<Record>, StoreError> {
        with_row(&self.overlay, &self.store, key, |row| row.map(|stored| Record::render(pk, sk, &stored)))
    }
}

/// Shows the row at `key`: the overlay's if it has one, else the store's.
fn with_row<T>(
    overlay: &Overlay,
    store: &PartitionStore,
    key: &[u8],
    with: impl FnOnce(Option<Stored<'_>>) -> T,
) -> Result<T, StoreError> {
    let decode = |bytes| Stored::decode(bytes).map_err(|error| store.corrupt(error.to_string()));
    match overlay.get(key) {
        Some(None) => Ok(with(None)),
        Some(Some(bytes)) => Ok(with(Some(decode(bytes)?))),
        None => match store.get(key)? {
            None => Ok(with(None)),
            Some(bytes) => Ok(with(Some(decode(bytes.as_slice())?))),
        },
    }
}

/// A partition's rows while a write set is made of a delivery.
pub(crate) struct Delivery<'a> {
    pub(crate) store: &'a PartitionStore,
    pub(crate) overlay: &'a mut Overlay,
    pub(crate) cache: &'a mut RecordCache,
    /// Keys and rows are cut from here, so that a mutation costs no allocation of its own.
    pub(crate) arena: &'a mut BytesMut,
    pub(crate) seq: Seq,
    pub(crate) set: Vec<Write>,
    /// Bytes of keys and rows written.
    pub(crate) bytes: usize,
}

impl Rows for Delivery<'_> {
    type Error = StoreError;

    fn read<T>(&mut self, key: &[u8], with: impl FnOnce(Option<Stored<'_>>) -> T) -> Result<T, StoreError> {
        match self.cache.peek(key) {
            Some(record) => Ok(with(Some(record.stored()))),
            None => with_row(self.overlay, self.store, key, with),
        }
    }

    fn write(&mut self, key: &[u8], pk: &str, sk: &str, row: NewRow<'_>) {
        let stored = row.map(|(meta, data)| {
            // A cached record is replaced at once; one that nobody reads is not rendered.
            if self.cache.peek(key).is_some() {
                self.cache.insert(Record::render(pk, sk, &Stored { meta, data }));
            }
            encode_record_into(&meta, data, self.arena);
            self.arena.split().freeze()
        });
        if stored.is_none() {
            self.cache.remove(key);
        }
        self.bytes += key.len() + stored.as_ref().map_or(0, bytes::Bytes::len);
        let own_key = || {
            self.arena.put_slice(key);
            self.arena.split().freeze()
        };
        self.overlay.put(key, own_key, stored, self.seq, &mut self.set);
    }
}

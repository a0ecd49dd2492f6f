//! The store of a shard: the only user of fjall.
//!
//! One Database per shard, one keyspace per partition (`p00017`). A partition's checkpoint (the first offset
//! not yet applied, and counters) is a row of its own keyspace and is written in the same atomic batch as the
//! rows that it covers: it can neither run ahead of the data nor fall behind it. Nothing is synced on commit;
//! the log replays what a power failure takes.
//!
//! What blocks: `open`, `partition` (milliseconds each), `commit` (up to 100 ms under load, never on an
//! executor), `persist`, `clear`, `ingest`, `drop_partition`, closing. What does not: `get`, `snapshot`,
//! reading a range; they may touch the disk for cold blocks.
//!
//! **Runs on** the shard's executor for reads and on its writer thread for writes. fjall's own workers
//! inherit the CPU affinity of the thread that opens the store: open it from a thread pinned to background
//! cores.

mod checkpoint;
mod creation;
mod error;
mod rows;

pub use checkpoint::Checkpoint;
pub use error::{Place, StoreError};
pub use rows::{StoredBytes, StoredRows};

use crate::key::{CHECKPOINT_KEY, PartitionId};
use creation::Creation;
use fjall::config::{CompressionPolicy, PartitioningPolicy, PinningPolicy, RestartIntervalPolicy};
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One flushes and compacts as fast as three, for it never waits for the others. With more of them, the first leaves
/// compactions to the others, and puts what it does not want back into the queue, at once and again, while they are busy.
const WORKER_THREADS: usize = 1;

/// Keyspaces of this name hold nothing but their number.
const GUARD: &str = "guard-";

/// Sizes of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Block cache, bytes, shared by all partitions of the store.
    pub cache_bytes: u64,
    /// Memtable of each partition, bytes.
    pub memtable_bytes: u64,
    /// Most bytes of journal before the oldest memtables are flushed.
    pub journal_bytes: u64,
    /// Table files kept open.
    pub open_files: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 64 << 20,
            memtable_bytes: 8 << 20,
            journal_bytes: 256 << 20,
            open_files: 256,
        }
    }
}

/// An open store. Cheap to clone; the last clone to go closes the database, which blocks up to a second.
#[derive(Clone)]
pub struct Store {
    db: Database,
    path: Arc<Path>,
    options: StoreOptions,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `path`, or creates it; what a crash left of a creation is replaced. Blocks; recovery reads the
    /// journal.
    ///
    /// # Errors
    /// [`StoreError`]: among others another process holds the directory, or its files are damaged.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Store, StoreError> {
        let place = Place::store(path);
        let creation = Creation::begin(path).map_err(|error| place.clone().io(error))?;
        let db = Database::builder(path)
            .worker_threads(WORKER_THREADS)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(options.open_files))
            .max_journaling_size(options.journal_bytes.max(64 << 20))
            .open()
            .map_err(|error| place.clone().error(error))?;
        let store = Store { db, path: path.into(), options: options.clone() };
        // What recovery found becomes durable, so that `durable` may start at what is committed.
        store.persist_all()?;
        creation.map_or(Ok(()), Creation::end).map_err(|error| place.io(error))?;
        Ok(store)
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The partitions that have a keyspace here, in order.
    pub fn partitions(&self) -> Vec<PartitionId> {
        let names = self.db.list_keyspace_names();
        let mut found: Vec<PartitionId> = names.iter().filter_map(|name| parse_name(name)).collect();
        found.sort_unstable();
        found
    }

    /// Opens a partition's keyspace; creates it when it is not there. Blocks for some milliseconds when
    /// creating.
    ///
    /// # Errors
    /// [`StoreError`] with path and partition.
    pub fn partition(&self, partition: PartitionId) -> Result<PartitionStore, StoreError> {
        let place = Place::partition(&self.path, partition);
        let keyspace = self
            .db
            .keyspace(&keyspace_name(partition), || keyspace_options(&self.options))
            .map_err(|error| place.error(error))?;
        Ok(PartitionStore { db: self.db.clone(), keyspace, partition, path: Arc::clone(&self.path) })
    }

    /// Makes everything committed durable (data only). Blocks for an fsync.
    ///
    /// # Errors
    /// [`StoreError`]; after a failed fsync the store accepts no more writes.
    pub fn persist(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncData).map_err(|error| Place::store(&self.path).error(error))
    }

    /// Makes everything committed durable, file metadata included. Blocks for an fsync.
    ///
    /// # Errors
    /// As [`Store::persist`].
    pub fn persist_all(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(|error| Place::store(&self.path).error(error))
    }

    /// A batch over any of this store's partitions, still empty.
    pub fn batch(&self) -> Batch {
        Batch {
            batch: self.db.batch(),
            place: Place::store(&self.path),
            touched: Vec::new(),
            memtable_bytes: self.options.memtable_bytes,
        }
    }

    /// Removes a partition and its files. Blocks; the files go when the last handle does.
    ///
    /// # Errors
    /// [`StoreError`] with path and partition.
    pub fn drop_partition(&self, handle: PartitionStore) -> Result<(), StoreError> {
        let PartitionStore { keyspace, partition, .. } = handle;
        let place = Place::partition(&self.path, partition);
        self.guard(keyspace.id())
            .and_then(|()| self.db.delete_keyspace(keyspace))
            .map_err(|error| place.error(error))
    }

    /// Keeps the number of a keyspace that is about to go from ever being given out again.
    ///
    /// fjall 3.1 numbers a new keyspace after the highest that it finds at start, and counts its sequence
    /// numbers from the rows that it finds, so both may fall back behind a dropped keyspace. A keyspace of
    /// the same number is then hidden by the older tombstone of the dropped one, and the next start deletes
    /// it with all its rows. An empty keyspace with a higher number than any dropped one prevents that.
    fn guard(&self, going: u64) -> fjall::Result<()> {
        let names = self.db.list_keyspace_names();
        let guards: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix(GUARD)?.parse().ok()).collect();
        let mut older = Vec::with_capacity(guards.len());
        for name in &guards {
            let guard = self.db.keyspace(&format!("{GUARD}{name}"), KeyspaceCreateOptions::default)?;
            if guard.id() > going {
                return Ok(());
            }
            older.push(guard);
        }
        let next = guards.iter().max().map_or(0, |last| last + 1);
        self.db.keyspace(&format!("{GUARD}{next}"), KeyspaceCreateOptions::default)?;
        older.into_iter().try_for_each(|guard| self.db.delete_keyspace(guard))
    }
}

/// The rows of one partition. Cheap to clone and to send to another thread.
#[derive(Clone)]
pub struct PartitionStore {
    db: Database,
    keyspace: Keyspace,
    partition: PartitionId,
    path: Arc<Path>,
}

impl PartitionStore {
    /// Which partition this is.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The stored bytes at `key`. May read a block from disk, does not block otherwise.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails or a block's checksum is wrong.
    pub fn get(&self, key: &[u8]) -> Result<Option<StoredBytes>, StoreError> {
        let found = self.keyspace.get(key).map_err(|error| self.place().error(error))?;
        Ok(found.map(StoredBytes))
    }

    /// The partition's checkpoint, `None` when nothing was ever applied.
    ///
    /// # Errors
    /// [`StoreError`], [`StoreError::Corrupt`] for a checkpoint of another layout.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(bytes) = self.get(CHECKPOINT_KEY)? else { return Ok(None) };
        Checkpoint::decode(bytes.as_slice())
            .map(Some)
            .ok_or_else(|| self.corrupt("its checkpoint is unreadable"))
    }

    /// A consistent view of the rows within `range`, the checkpoint left out. It stays valid whatever is
    /// written meanwhile, and holds back the removal of old versions as long as it lives.
    pub fn rows(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> StoredRows {
        let snapshot: Snapshot = self.db.snapshot();
        // Keys below 0x01 are no records.
        let lower = match range.0 {
            Bound::Unbounded => Bound::Included([1u8].as_slice()),
            bound => bound,
        };
        StoredRows::new(snapshot.range::<&[u8], _>(&self.keyspace, (lower, range.1)), self.place())
    }

    /// Loads rows in strictly ascending key order into the empty partition, without a journal. The checkpoint
    /// comes afterwards, by a [`Batch`]: without it the load counts as incomplete. **Blocks**.
    ///
    /// # Errors
    /// [`StoreError`] of this store or of the source of the rows; also when the rows are out of order.
    pub fn ingest(
        &self,
        rows: impl Iterator<Item = Result<(StoredBytes, StoredBytes), StoreError>>,
    ) -> Result<u64, StoreError> {
        let mut ingestion = self.keyspace.start_ingestion().map_err(|error| self.place().error(error))?;
        let mut last: Option<StoredBytes> = None;
        let mut count = 0;
        for row in rows {
            let (key, value) = row?;
            if last.as_ref().is_some_and(|last| last.as_slice() >= key.as_slice()) {
                return Err(self.corrupt("rows to load are out of order"));
            }
            ingestion.write(key.0.clone(), value.0).map_err(|error| self.place().error(error))?;
            last = Some(key);
            count += 1;
        }
        ingestion.finish().map_err(|error| self.place().error(error))?;
        Ok(count)
    }

    /// Has the write buffer turned into a table in the background if it holds at least `least` bytes.
    ///
    /// # Errors
    /// [`StoreError`] when the store has failed.
    pub(crate) fn settle(&self, least: u64) -> Result<(), StoreError> {
        if memtable_size(&self.keyspace) < least {
            return Ok(());
        }
        self.keyspace.rotate_memtable().map(drop).map_err(|error| self.place().error(error))
    }

    /// Whether there is no row, the checkpoint aside.
    ///
    /// # Errors
    /// [`StoreError`] when the first row cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.rows((Bound::Unbounded, Bound::Unbounded)).next().transpose()?.is_none())
    }

    /// About how many rows there are; superseded versions that compaction has not met yet count too.
    pub fn approximate_rows(&self) -> u64 {
        self.keyspace.approximate_len() as u64
    }

    /// An error that names this partition as damaged.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> StoreError {
        self.place().corrupt(what)
    }

    fn place(&self) -> Place {
        Place::partition(&self.path, self.partition)
    }
}

/// Writes that become visible and survive a crash all together or not at all.
pub struct Batch {
    batch: fjall::OwnedWriteBatch,
    place: Place,
    /// The keyspaces with rows in here.
    touched: Vec<Keyspace>,
    memtable_bytes: u64,
}

impl Batch {
    /// Adds a row; `None` deletes. No key may be added twice for one partition: rows of a batch have no
    /// order.
    pub fn row(&mut self, partition: &PartitionStore, key: &[u8], row: Option<&[u8]>) {
        self.touch(&partition.keyspace);
        match row {
            Some(bytes) => self.batch.insert(&partition.keyspace, key, bytes),
            None => self.batch.remove(&partition.keyspace, key),
        }
    }

    /// Adds a partition's checkpoint, once.
    pub fn checkpoint(&mut self, partition: &PartitionStore, checkpoint: &Checkpoint) {
        self.touch(&partition.keyspace);
        self.batch.insert(&partition.keyspace, CHECKPOINT_KEY, checkpoint.encode());
    }

    /// Commits. **Blocks**, up to 100 ms under load. Survives the process, not a power failure, until
    /// persisted.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch is visible then, and after a failed write the store accepts no
    /// more.
    pub fn commit(self) -> Result<(), StoreError> {
        let Batch { batch, place, touched, memtable_bytes } = self;
        batch.commit().map_err(|error| place.error(error))?;
        for keyspace in touched.iter().filter(|keyspace| memtable_size(keyspace) > memtable_bytes) {
            if let Err(error) = keyspace.rotate_memtable() {
                // The batch is committed all the same; a store that has failed says so to the next one.
                tracing::warn!(%error, "a write buffer could not be turned into a table");
            }
        }
        Ok(())
    }

    fn touch(&mut self, keyspace: &Keyspace) {
        // Rows come partition by partition, so the last is the usual one.
        if self.touched.last() != Some(keyspace) && !self.touched.contains(keyspace) {
            self.touched.push(keyspace.clone());
        }
    }
}

/// The directory of a shard's store below `root`.
pub fn shard_path(root: &Path, shard: u32) -> PathBuf {
    root.join(format!("shard-{shard:03}"))
}

fn memtable_size(keyspace: &Keyspace) -> u64 {
    keyspace.tree.active_memtable().size()
}

fn keyspace_name(partition: PartitionId) -> String {
    format!("p{:05}", partition.0)
}

fn parse_name(name: &str) -> Option<PartitionId> {
    let partition = PartitionId(name.strip_prefix('p')?.parse().ok()?);
    (keyspace_name(partition) == name).then_some(partition)
}

/// Measured for records of some hundred bytes: without compression and with restart interval 1 a get costs
/// least, and misses are cheapest with pinned, unpartitioned filters and without `expect_point_read_hits`.
fn keyspace_options(options: &StoreOptions) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        // Never reached: full memtables are turned into tables by whoever commits. Left to fjall, each commit beyond the
        // size queues a request for it, the workers queue what follows from one, and once the bounded queue is full
        // they all wait for each other.
        .max_memtable_size(options.memtable_bytes.saturating_mul(16))
        .data_block_compression_policy(CompressionPolicy::disabled())
        .data_block_restart_interval_policy(RestartIntervalPolicy::all(1))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
}

#[cfg(test)]
mod tests;

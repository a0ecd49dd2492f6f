//! Reshard: moves partitions between stores when the number of shards changes.
//!
//! Partition p belongs in the store of shard p mod SHARDS. The layout file says how many shards the stores
//! were left with; when that is what is asked for, nothing else is looked at. Otherwise every store is
//! searched, so any history of shard numbers and crashes is understood.
//!
//! A copy of a partition counts as complete when it has a checkpoint, which is written last and synced before
//! the source goes. Of several complete copies the one that has come furthest is kept. Every step can be
//! repeated, so a crash at any of them loses nothing: the next start carries on.
//!
//! **Runs on** a background thread at start, before any owner; blocks.
//!
//! **Not here**: a changed number of partitions. It would move records between partitions and is refused.

mod layout;

use crate::key::PartitionId;
use crate::store::{PartitionStore, Place, Store, StoreError, StoreOptions, shard_path};
use layout::Layout;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// What is about to happen. The callback may count them for progress, and stops the work by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReshardStep {
    /// The layout is marked as in motion.
    Begin,
    /// An incomplete copy of the partition is removed where it belongs.
    Clear(PartitionId),
    /// The partition's rows are copied to where it belongs.
    Load(PartitionId),
    /// The copy gets its checkpoint.
    Checkpoint(PartitionId),
    /// The copy is synced.
    Persist(PartitionId),
    /// A copy that is not where the partition belongs is removed.
    Drop(PartitionId),
    /// A store of no shard any more is removed.
    RemoveStore(u32),
    /// The layout is marked as settled.
    Settle,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReshardReport {
    /// Partitions moved to another store.
    pub moved_partitions: u32,
    /// Records in them.
    pub moved_records: u64,
    /// Stores removed.
    pub removed_stores: u32,
}

/// Asked before each step.
pub type ReshardHook<'a> = &'a mut dyn FnMut(ReshardStep) -> Result<(), StoreError>;

/// Brings the stores below `root` into the layout for `shards`. Creates `root` when it is not there.
/// **Blocks** for as long as copying takes; costs one small read when the layout is right already.
///
/// # Errors
/// [`StoreError`] of a store or a file, [`StoreError::Layout`] when the stores were made for another number
/// of partitions, and whatever `hook` returns. It may be called again after any of them.
pub fn reshard(
    root: &Path,
    partitions: NonZeroU32,
    shards: NonZeroU32,
    options: &StoreOptions,
    hook: ReshardHook<'_>,
) -> Result<ReshardReport, StoreError> {
    fs::create_dir_all(root).map_err(|error| Place::store(root).io(error))?;
    let found = Layout::read(root)?;
    if let Some(found) = &found
        && found.partitions != partitions
    {
        let what = format!("made for {} partitions, but {partitions} are configured", found.partitions);
        return Err(Place::store(root).layout(what));
    }
    let stores = list_stores(root)?;
    let settled = Layout { partitions, shards: Some(shards) };
    if found == Some(settled) && stores.last().is_none_or(|last| *last < shards.get()) {
        return Ok(ReshardReport::default());
    }
    let mut work =
        Work { root, shards, options, hook, open: BTreeMap::new(), report: ReshardReport::default() };
    if !stores.is_empty() {
        work.step(ReshardStep::Begin)?;
        Layout { partitions, shards: None }.write(root)?;
        work.settle_partitions(&stores, partitions)?;
        work.remove_stores(&stores)?;
    }
    work.step(ReshardStep::Settle)?;
    settled.write(root)?;
    Ok(work.report)
}

struct Work<'a> {
    root: &'a Path,
    shards: NonZeroU32,
    options: &'a StoreOptions,
    hook: ReshardHook<'a>,
    /// Open stores by shard number.
    open: BTreeMap<u32, Store>,
    report: ReshardReport,
}

/// A copy of a partition, complete or not.
struct Copy {
    shard: u32,
    store: PartitionStore,
    next: Option<u64>,
}

impl Work<'_> {
    fn step(&mut self, step: ReshardStep) -> Result<(), StoreError> {
        (self.hook)(step)
    }

    fn store(&mut self, shard: u32) -> Result<Store, StoreError> {
        if let Some(store) = self.open.get(&shard) {
            return Ok(store.clone());
        }
        let store = Store::open(&shard_path(self.root, shard), self.options)?;
        self.open.insert(shard, store.clone());
        Ok(store)
    }

    fn settle_partitions(&mut self, stores: &[u32], partitions: NonZeroU32) -> Result<(), StoreError> {
        let mut places: BTreeMap<PartitionId, Vec<u32>> = BTreeMap::new();
        for shard in stores {
            for partition in self.store(*shard)?.partitions() {
                places.entry(partition).or_default().push(*shard);
            }
        }
        for (partition, shards) in places {
            if partition.0 >= partitions.get() {
                let what = format!("holds partition {partition}, but only {partitions} are configured");
                return Err(Place::store(self.root).layout(what));
            }
            let mut copies = Vec::with_capacity(shards.len());
            for shard in shards {
                let store = self.store(shard)?.partition(partition)?;
                let next = store.checkpoint()?.map(|checkpoint| checkpoint.next.0);
                copies.push(Copy { shard, store, next });
            }
            self.settle(partition, copies)?;
        }
        Ok(())
    }

    /// Leaves one copy of the partition, complete and where it belongs.
    fn settle(&mut self, partition: PartitionId, copies: Vec<Copy>) -> Result<(), StoreError> {
        let home = partition.0 % self.shards.get();
        let complete = copies.iter().filter(|copy| copy.next.is_some());
        let best = complete.max_by_key(|copy| (copy.next, copy.shard == home)).map(|copy| copy.shard);
        for copy in &copies {
            // Rows without a checkpoint are what a stopped load has left.
            let stale = best != Some(home) && !copy.store.is_empty()?;
            if copy.shard == home && stale {
                self.step(ReshardStep::Clear(partition))?;
                self.drop_copy(copy)?;
            }
        }
        if let Some(source) = copies.iter().find(|copy| Some(copy.shard) == best && copy.shard != home) {
            self.load(partition, source, home)?;
        }
        for copy in copies {
            if copy.shard != home {
                self.step(ReshardStep::Drop(partition))?;
                self.drop_copy(&copy)?;
            }
        }
        Ok(())
    }

    fn load(&mut self, partition: PartitionId, source: &Copy, home: u32) -> Result<(), StoreError> {
        let checkpoint =
            source.store.checkpoint()?.ok_or_else(|| source.store.corrupt("its checkpoint is gone"))?;
        let store = self.store(home)?;
        self.step(ReshardStep::Load(partition))?;
        let target = store.partition(partition)?;
        let records = target.ingest(source.store.rows((Bound::Unbounded, Bound::Unbounded)))?;
        self.step(ReshardStep::Checkpoint(partition))?;
        let mut batch = store.batch();
        batch.checkpoint(&target, &checkpoint);
        batch.commit()?;
        self.step(ReshardStep::Persist(partition))?;
        store.persist_all()?;
        self.report.moved_partitions += 1;
        self.report.moved_records += records;
        tracing::info!(partition = partition.0, from = source.shard, to = home, records, "partition moved");
        Ok(())
    }

    fn drop_copy(&mut self, copy: &Copy) -> Result<(), StoreError> {
        let store = self.store(copy.shard)?;
        store.drop_partition(copy.store.clone())?;
        store.persist_all()
    }

    /// Removes the stores that belong to no shard; every partition has left them.
    fn remove_stores(&mut self, stores: &[u32]) -> Result<(), StoreError> {
        let shards = self.shards.get();
        for shard in stores.iter().filter(|shard| **shard >= shards) {
            self.step(ReshardStep::RemoveStore(*shard))?;
            self.open.remove(shard);
            let path = shard_path(self.root, *shard);
            // Renamed first: half a store must never be taken for one.
            let trash = path.with_extension(TRASH);
            let removed = fs::rename(&path, &trash).and_then(|()| fs::remove_dir_all(&trash));
            removed.map_err(|error| Place::store(&path).io(error))?;
            self.report.removed_stores += 1;
        }
        Ok(())
    }
}

const TRASH: &str = "removed";

/// The numbers of the stores below `root`, ascending. Clears away what a stopped removal has left.
fn list_stores(root: &Path) -> Result<Vec<u32>, StoreError> {
    let failed = |error| Place::store(root).io(error);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        let Some(number) =
            path.file_stem().and_then(|name| name.to_str()?.strip_prefix("shard-")?.parse().ok())
        else {
            continue;
        };
        if path == shard_path(root, number) {
            found.push(number);
        } else if path == shard_path(root, number).with_extension(TRASH) {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
    }
    found.sort_unstable();
    Ok(found)
}

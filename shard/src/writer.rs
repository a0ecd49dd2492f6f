//! The writer thread of a shard: commits what apply has decided.
//!
//! Write sets come in through a bounded queue, in the order of their numbers. What has queued up is committed
//! as one fjall batch (within limits), because one journal write for many small sets costs little more than
//! one for a single set. Then a completion goes back for each set, and the executor drops the rows from its
//! overlay. While little is queued, the thread takes a few sets at a time and rests between: readers find the rows in the
//! overlay, and nobody waits for a commit. Every [`PERSIST_INTERVAL`] with something new, the store is synced and the now
//! durable checkpoints are reported.
//!
//! A partition that has not been written to for [`SETTLE_AFTER`] has its write buffer turned into a table: a lookup
//! in a sorted table with a filter costs half of one in a large skip list.
//!
//! Invariants: sets of one partition are committed in order, and after a failed one no later one is: a
//! checkpoint never covers a hole. A failure stays with the partitions of the batch that failed, and the
//! thread lives on.
//!
//! **Runs on** its own thread, which inherits the affinity of the thread that prepares the owner.
//!
//! **Not here**: decisions about rows.

use crate::key::{Offset, PartitionId};
use crate::overlay::{Seq, Write};
use crate::store::{Batch, Checkpoint, PartitionStore, Store, StoreError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often what was committed is made durable.
pub const PERSIST_INTERVAL: Duration = Duration::from_millis(200);
/// How long a partition is not written to before its write buffer is turned into a table.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// Smaller write buffers are left alone: they are quick to search, and tables of a few rows cost more than they save.
const SETTLE_BYTES: u64 = 128 << 10;
/// Write sets that may wait; the executor is told to stop applying well before.
pub(crate) const QUEUE_SETS: usize = 1024;
/// A batch takes in further sets up to these sizes.
const MAX_BATCH_ROWS: usize = 500;
const MAX_BATCH_BYTES: usize = 4 << 20;

/// While fewer sets than this wait, and they are small, the thread takes its time.
const CROWD: usize = 256;
/// Rows of a batch then, or of a longer queue this share. Where the thread shares a CPU with readers, these wait for all
/// of a batch, 7 µs for each row.
const FEW_ROWS: usize = 4;
const SHARES: usize = 16;
/// The rest after it, in which further sets gather: to wake this thread for each of them costs the serving core more than
/// to apply it.
const REST: Duration = Duration::from_micros(500);

/// What the executor asks of the thread, in order.
enum Job {
    Set(WriteSet),
    /// Sets of this partition will come.
    Open(PartitionStore),
    /// No set of this partition comes any more; `closed` is called once everything committed is durable.
    Close {
        partition: PartitionId,
        closed: Closed,
    },
}

/// Called by the writer thread when a partition is closed: everything that was applied to it is durable, or why not.
pub type Closed = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A step of the writer, before which a [`WriterHook`] is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterStep {
    /// A write set of this partition is about to be committed.
    Commit(PartitionId),
    /// A write set of this partition is committed, its completion not yet sent.
    Report(PartitionId),
    /// The store is about to be synced.
    Persist,
}

/// Lets tests stop the writer at any step or fail the commits of one partition: an error is treated as if the
/// store had given it.
pub type WriterHook = Box<dyn FnMut(WriterStep) -> Result<(), StoreError> + Send>;

/// What apply hands over.
pub(crate) struct WriteSet {
    pub(crate) partition: PartitionId,
    pub(crate) seq: Seq,
    pub(crate) rows: Vec<Write>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) load: Load,
}

/// What a write set counts for in the backlog.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) mutations: usize,
    pub(crate) bytes: usize,
}

/// News from the writer; the executor passes each to `Owner::complete`.
pub struct Completion(pub(crate) News);

pub(crate) enum News {
    Committed(WriteSet),
    Failed { set: WriteSet, reason: Arc<str> },
    Durable(BTreeMap<PartitionId, Offset>),
    Broken { reason: Arc<str> },
}

/// The executor's side of the writer thread.
pub(crate) struct Writer {
    jobs: flume::Sender<Job>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        store: Store,
        partitions: HashMap<PartitionId, PartitionStore>,
        hook: Option<WriterHook>,
    ) -> Result<(Writer, flume::Receiver<Completion>), StoreError> {
        let (jobs, queue) = flume::bounded(QUEUE_SETS);
        // Not bounded, but never longer than the write sets in flight and one sync report for each: the
        // thread must not wait for an executor that may be waiting for it.
        let (completions, receiver) = flume::unbounded();
        let path = store.path().to_owned();
        let run = Run {
            store,
            partitions,
            hook,
            queue,
            completions,
            failed: HashMap::new(),
            broken: None,
            unsynced: BTreeMap::new(),
            unsettled: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("firescroll-writer".to_owned())
            .spawn(move || run.run())
            .map_err(|error| StoreError::thread(&path, error))?;
        Ok((Writer { jobs, thread }, receiver))
    }

    /// Write sets that wait.
    pub(crate) fn queued(&self) -> usize {
        self.jobs.len()
    }

    /// Queues a write set. Blocks only when the caller ignores the backlog and the queue is full.
    pub(crate) fn send(&self, set: WriteSet) {
        self.ask(Job::Set(set));
    }

    /// Announces a partition.
    pub(crate) fn open(&self, partition: PartitionStore) {
        self.ask(Job::Open(partition));
    }

    /// Has a partition's sets committed, synced and its handle dropped.
    pub(crate) fn close(&self, partition: PartitionId, closed: Closed) {
        self.ask(Job::Close { partition, closed });
    }

    fn ask(&self, job: Job) {
        self.jobs.send(job).expect("the writer thread outlives its queue; a panic of it aborts the process");
    }

    /// Commits what is queued, syncs, ends the thread. Blocks.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        drop(self.jobs);
        self.thread.join().expect("the writer thread does not panic")
    }
}

/// The thread's side.
struct Run {
    store: Store,
    partitions: HashMap<PartitionId, PartitionStore>,
    hook: Option<WriterHook>,
    queue: flume::Receiver<Job>,
    completions: flume::Sender<Completion>,
    failed: HashMap<PartitionId, Arc<str>>,
    broken: Option<Arc<str>>,
    /// Checkpoints committed since the last sync.
    unsynced: BTreeMap<PartitionId, Offset>,
    /// Partitions that were written to and not settled since, with the time of the last write.
    unsettled: HashMap<PartitionId, Instant>,
}

impl Run {
    fn run(mut self) -> Result<(), StoreError> {
        let mut sync_at: Option<Instant> = None;
        let mut settle_at: Option<Instant> = None;
        let mut held: Option<Job> = None;
        loop {
            let wake_at = sync_at.into_iter().chain(settle_at).min();
            let first = match (held.take(), wake_at) {
                (Some(set), _) => Some(set),
                (None, Some(at)) => match self.queue.recv_deadline(at) {
                    Ok(set) => Some(set),
                    Err(flume::RecvTimeoutError::Timeout) => None,
                    Err(flume::RecvTimeoutError::Disconnected) => break,
                },
                (None, None) => match self.queue.recv() {
                    Ok(set) => Some(set),
                    Err(flume::RecvError::Disconnected) => break,
                },
            };
            match first {
                Some(Job::Set(first)) => {
                    let queued = self.queue.len();
                    let is_crowded = first.rows.len() > FEW_ROWS || queued >= CROWD;
                    let most_rows = if is_crowded { MAX_BATCH_ROWS } else { FEW_ROWS.max(queued / SHARES) };
                    let group = self.gather(first, most_rows, &mut held);
                    self.commit(group);
                    if !is_crowded {
                        std::thread::sleep(REST);
                    }
                }
                Some(Job::Open(partition)) => self.open(partition),
                Some(Job::Close { partition, closed }) => closed(self.close(partition)),
                None => {}
            }
            match sync_at {
                Some(at) if Instant::now() >= at => {
                    sync_at = None;
                    // Reported as news; the partitions of this shard stop, the thread answers what is queued.
                    let _ = self.sync();
                }
                None if !self.unsynced.is_empty() => sync_at = Some(Instant::now() + PERSIST_INTERVAL),
                _ => {}
            }
            match settle_at {
                Some(at) if Instant::now() >= at => settle_at = self.settle(),
                None if !self.unsettled.is_empty() => settle_at = Some(Instant::now() + SETTLE_AFTER),
                _ => {}
            }
        }
        self.sync()?;
        // A sync that failed earlier is the news to end with.
        if self.broken.is_some() { Err(StoreError::poisoned(self.store.path())) } else { Ok(()) }
    }

    /// What else is queued and fits into one batch of at most so many rows. A job that does not is held for the next turn.
    fn gather(&self, first: WriteSet, most_rows: usize, held: &mut Option<Job>) -> Vec<WriteSet> {
        let (mut rows, mut bytes) = (first.rows.len(), first.load.bytes);
        let mut group = vec![first];
        while let Ok(next) = self.queue.try_recv() {
            match next {
                Job::Set(next)
                    if rows + next.rows.len() <= most_rows && bytes + next.load.bytes <= MAX_BATCH_BYTES =>
                {
                    rows += next.rows.len();
                    bytes += next.load.bytes;
                    group.push(next);
                }
                other => {
                    *held = Some(other);
                    break;
                }
            }
        }
        group
    }

    /// A partition that failed and was closed may be opened afresh: its store says where it stands.
    fn open(&mut self, partition: PartitionStore) {
        self.failed.remove(&partition.partition());
        self.partitions.insert(partition.partition(), partition);
    }

    fn close(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        let synced = self.sync();
        self.unsettled.remove(&partition);
        self.partitions.remove(&partition);
        synced
    }

    fn commit(&mut self, group: Vec<WriteSet>) {
        let mut accepted = Vec::with_capacity(group.len());
        for set in group {
            let known = self.broken.as_ref().or_else(|| self.failed.get(&set.partition)).cloned();
            match known {
                Some(reason) => self.report(News::Failed { set, reason }),
                None => match self.ask(WriterStep::Commit(set.partition)) {
                    Ok(()) => accepted.push(set),
                    Err(error) => self.fail(set, &error),
                },
            }
        }
        if accepted.is_empty() {
            return;
        }
        if let Err(error) = self.batch(&accepted).commit() {
            for set in accepted {
                self.fail(set, &error);
            }
            return;
        }
        let now = Instant::now();
        for set in accepted {
            if let Err(error) = self.ask(WriterStep::Report(set.partition)) {
                self.fail(set, &error);
                continue;
            }
            self.unsynced.insert(set.partition, set.checkpoint.next);
            self.unsettled.insert(set.partition, now);
            self.report(News::Committed(set));
        }
    }

    /// One batch of several sets: of each key the newest row, of each partition the newest checkpoint.
    fn batch(&self, group: &[WriteSet]) -> Batch {
        let mut batch = self.store.batch();
        let mut keys: HashSet<&[u8]> = HashSet::new();
        let mut checkpoints: HashSet<PartitionId> = HashSet::new();
        for set in group.iter().rev() {
            let store = &self.partitions[&set.partition];
            for write in &set.rows {
                // A key belongs to one partition, so it is known by its bytes alone.
                if group.len() == 1 || keys.insert(&write.key) {
                    batch.row(store, &write.key, write.row.as_deref());
                }
            }
            if checkpoints.insert(set.partition) {
                batch.checkpoint(store, &set.checkpoint);
            }
        }
        batch
    }

    /// Settles what has rested long enough; says when to look again. One partition at a time, so that write sets do
    /// not wait for many.
    fn settle(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let (&partition, &written) = self.unsettled.iter().min_by_key(|(_, written)| **written)?;
        let due = written + SETTLE_AFTER;
        if due > now {
            return Some(due);
        }
        self.unsettled.remove(&partition);
        if self.broken.is_none()
            && let Err(error) = self.partitions[&partition].settle(SETTLE_BYTES)
        {
            // Commits meet the same trouble and say what it means.
            tracing::warn!(partition = partition.0, %error, "a write buffer could not be turned into a table");
        }
        (!self.unsettled.is_empty()).then_some(now)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let synced = self.ask(WriterStep::Persist).and_then(|()| self.store.persist());
        let durable = std::mem::take(&mut self.unsynced);
        match &synced {
            Ok(()) => self.report(News::Durable(durable)),
            Err(error) => {
                tracing::error!(%error, "the store could not be synced; its partitions stop");
                let reason: Arc<str> = error.to_string().into();
                self.broken = Some(Arc::clone(&reason));
                self.report(News::Broken { reason });
            }
        }
        synced
    }

    fn fail(&mut self, set: WriteSet, error: &StoreError) {
        let reason = self.failed.entry(set.partition).or_insert_with(|| {
            tracing::error!(partition = set.partition.0, %error, "a commit failed; the partition stops");
            error.to_string().into()
        });
        let reason = Arc::clone(reason);
        self.report(News::Failed { set, reason });
    }

    fn ask(&mut self, step: WriterStep) -> Result<(), StoreError> {
        self.hook.as_mut().map_or(Ok(()), |hook| hook(step))
    }

    fn report(&self, news: News) {
        // An executor that is gone needs no news.
        let _ = self.completions.send(Completion(news));
    }
}

impl Completion {
    /// Whether one or all partitions stop with this news.
    pub fn is_failure(&self) -> bool {
        matches!(self.0, News::Failed { .. } | News::Broken { .. })
    }

    /// The partitions that became durable further, for log retention: their first offset not yet durable.
    pub fn durable(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        let durable = match &self.0 {
            News::Durable(durable) => Some(durable),
            _ => None,
        };
        durable.into_iter().flatten().map(|(partition, next)| (*partition, *next))
    }
}

//! What the log's writer publishes and everybody else reads.
//!
//! The writer stores a segment's durable length, then the partitions' ends, then rings the bell: whoever sees an end
//! can read everything below it.
//!
//! **Runs on**: any thread. The segment list's lock is taken once per read chunk and per status; no file is touched
//! under it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::segment::{self, Segment};
use crate::log::{LogError, LogStatus};

/// The common part of a log, its writer and its consumers.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) queue: Queue,
    pub(crate) bell: Bell,
    pub(crate) gauges: Gauges,
    segments: Mutex<VecDeque<Arc<Segment>>>,
    ends: Box<[AtomicU64]>,
    starts: Box<[AtomicU64]>,
}

impl Shared {
    /// Publishes what recovery found.
    pub(crate) fn new(dir: PathBuf, queue: Queue, segments: VecDeque<Arc<Segment>>, ends: &[u64]) -> Shared {
        let first = segments.front().expect("a log has a segment");
        let atomics = |values: &[u64]| values.iter().map(|v| AtomicU64::new(*v)).collect::<Box<[_]>>();
        let (starts, ends) = (atomics(&first.header.starts), atomics(ends));
        Shared {
            dir,
            queue,
            bell: Bell::default(),
            gauges: Gauges::default(),
            segments: Mutex::new(segments),
            ends,
            starts,
        }
    }

    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The durable end of a partition.
    pub(crate) fn end(&self, partition: u32) -> u64 {
        self.ends[partition as usize].load(Ordering::Acquire)
    }

    /// The first offset held of a partition.
    pub(crate) fn start(&self, partition: u32) -> u64 {
        self.starts[partition as usize].load(Ordering::Acquire)
    }

    /// Publishes new durable ends.
    pub(crate) fn set_ends(&self, ends: &[u64]) {
        for (published, end) in self.ends.iter().zip(ends) {
            published.store(*end, Ordering::Release);
        }
    }

    /// The segments, oldest first; never empty.
    pub(crate) fn segments(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the segment that is written from now on.
    pub(crate) fn add(&self, segment: Arc<Segment>) {
        self.segments().push_back(segment);
    }

    /// Forgets the oldest segment. Its successor must exist.
    pub(crate) fn forget_first(&self) {
        let mut segments = self.segments();
        assert!(segments.len() > 1, "the active segment is never dropped");
        segments.pop_front();
        for (published, start) in self.starts.iter().zip(&segments[0].header.starts) {
            published.store(*start, Ordering::Release);
        }
    }

    /// The segment of a number; `None` if it does not exist yet.
    ///
    /// # Errors
    /// [`LogError::Removed`] if it does not exist any more.
    pub(crate) fn segment(&self, number: u64) -> Result<Option<Arc<Segment>>, LogError> {
        let segments = self.segments();
        match number.checked_sub(segments[0].number()) {
            None => Err(LogError::Removed { path: segment::path(&self.dir, number) }),
            Some(index) => Ok(segments.get(index as usize).cloned()),
        }
    }

    /// The state of the log.
    pub(crate) fn status(&self) -> LogStatus {
        let (queued_messages, queued_bytes) = self.queue.depth();
        let (bytes, segments) = {
            let segments = self.segments();
            (segments.iter().map(|s| s.len()).sum(), segments.len() as u64)
        };
        let gauges = &self.gauges;
        let number = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        let trouble = gauges.trouble();
        LogStatus {
            kind: "embedded",
            bytes,
            segments,
            queued_messages: queued_messages as u64,
            queued_bytes: queued_bytes as u64,
            appended_messages: number(&gauges.appended),
            syncs: number(&gauges.syncs),
            sync_total_us: number(&gauges.sync_total_us),
            sync_last_us: number(&gauges.sync_last_us),
            sync_max_us: number(&gauges.sync_max_us),
            failing: trouble.failing.as_deref().map(str::to_owned),
            poisoned: trouble.poisoned.as_deref().map(str::to_owned),
        }
    }
}

/// Wakes consumers when there is something new.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<Rings>,
    rung: Condvar,
}

#[derive(Default)]
struct Rings {
    count: u64,
    closed: bool,
    sleepers: usize,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something new; or, when closing, there will never be.
    pub(crate) fn ring(&self, closed: bool) {
        let mut state = self.lock();
        state.count += 1;
        state.closed |= closed;
        let sleepers = state.sleepers > 0;
        drop(state);
        if sleepers {
            self.rung.notify_all();
        }
    }

    /// How often it has rung, and whether it was for the last time. Ask before looking for news.
    pub(crate) fn heard(&self) -> (u64, bool) {
        let state = self.lock();
        (state.count, state.closed)
    }

    /// Waits until it rings again. False if `deadline` came first; `None` waits for ever.
    pub(crate) fn wait(&self, heard: u64, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        while state.count == heard {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            state.sleepers += 1;
            state = match left {
                None => self.rung.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.rung.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.sleepers -= 1;
        }
        true
    }
}

/// Numbers for the status, written by the writer thread alone.
#[derive(Default)]
pub(crate) struct Gauges {
    appended: AtomicU64,
    syncs: AtomicU64,
    sync_total_us: AtomicU64,
    sync_last_us: AtomicU64,
    sync_max_us: AtomicU64,
    trouble: Mutex<Trouble>,
}

/// Why appends fail, if they do.
#[derive(Default, Clone)]
pub(crate) struct Trouble {
    pub(crate) failing: Option<Arc<str>>,
    pub(crate) poisoned: Option<Arc<str>>,
}

impl Gauges {
    /// Counts a durable group.
    pub(crate) fn committed(&self, messages: usize, sync: Duration) {
        let us = u64::try_from(sync.as_micros()).unwrap_or(u64::MAX);
        self.appended.fetch_add(messages as u64, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_total_us.fetch_add(us, Ordering::Relaxed);
        self.sync_last_us.store(us, Ordering::Relaxed);
        self.sync_max_us.fetch_max(us, Ordering::Relaxed);
    }

    /// Shows why appends fail, or that they do not.
    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> Trouble {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

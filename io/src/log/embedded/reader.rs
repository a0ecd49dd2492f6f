//! A consumer of the embedded log: reads the one physical sequence in large chunks and picks its partitions out.
//!
//! One cursor walks the segments; every partition has its own `next`, so whatever the cursor passes twice is delivered
//! once. A paused partition remembers where its first undelivered record lies; resuming moves the cursor back there.
//! Invariant: of every partition read, all records before the cursor are delivered, or held for a paused one.
//!
//! **Runs on**: the consumer's thread, which may block in `poll`. Reads come from the page cache, since what is read
//! was mostly just written.
//!
//! **Not here**: an index. A start inside of a segment skips at most that segment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::record::{self, Parsed, Record};
use super::segment::Segment;
use super::shared::Shared;
use crate::log::{Consumer, Entry, LogError};

/// Read at once; also what one entry's slice may keep alive.
pub(crate) const CHUNK: usize = 256 << 10;

/// A consumer.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    at: u64,
    /// By partition; `None` is not read.
    tracks: Vec<Option<Track>>,
}

/// Where one partition stands.
#[derive(Clone)]
struct Track {
    next: u64,
    paused: bool,
    /// The first undelivered record that the cursor has passed while the partition was paused.
    held: Option<(Arc<Segment>, u64)>,
}

enum Step {
    /// A chunk was read, whether or not it held something to deliver.
    Read,
    /// Everything durable has been read.
    CaughtUp,
}

impl Reader {
    /// Starts in the last segment that begins at or before every offset asked for.
    pub(crate) fn new(shared: Arc<Shared>, from: &[(u32, u64)]) -> Result<Reader, LogError> {
        let mut tracks = vec![None; shared.partitions() as usize];
        // The list is locked throughout, so that nothing is dropped between the check and the choice.
        let segments = shared.segments();
        for &(partition, offset) in from {
            let partitions = shared.partitions();
            let Some(track) = tracks.get_mut(partition as usize) else {
                return Err(LogError::UnknownPartition { partition, partitions });
            };
            let (start, end) = (shared.start(partition), shared.end(partition));
            if offset < start || offset > end {
                return Err(LogError::OutOfRange { partition, offset, start, end });
            }
            *track = Some(Track { next: offset, paused: false, held: None });
        }
        let begins_before = |segment: &&Arc<Segment>| {
            from.iter().all(|&(partition, offset)| segment.header.starts[partition as usize] <= offset)
        };
        let segment = segments.iter().rev().find(begins_before).cloned();
        drop(segments);
        let segment = segment.expect("no offset lies below the first segment's");
        Ok(Reader { shared, at: segment.header.len(), segment, tracks })
    }

    /// Reads the next chunk, in the next segment if this one is done.
    fn step(&mut self, out: &mut Vec<Entry>) -> Result<Step, LogError> {
        loop {
            // The successor is looked up before the length: once there is one, the length is final.
            let successor = self.shared.segment(self.segment.number() + 1);
            let len = self.segment.len();
            if self.at < len {
                if self.shared.segment(self.segment.number()).is_err() {
                    return Err(LogError::Removed { path: self.segment.path.clone() });
                }
                self.read(len, out)?;
                return Ok(Step::Read);
            }
            let Some(successor) = successor? else { return Ok(Step::CaughtUp) };
            self.at = successor.header.len();
            self.segment = successor;
        }
    }

    /// Reads one chunk and delivers from it. Stays before a record that the chunk cuts off.
    fn read(&mut self, len: u64, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let left = usize::try_from(len - self.at).unwrap_or(usize::MAX);
        let mut want = left.min(CHUNK);
        loop {
            let chunk = Bytes::from(self.segment.read(self.at, want)?);
            match self.deliver(&chunk, out)? {
                None => return Ok(()),
                Some(need) if need <= left => want = need,
                Some(_) => {
                    return Err(self.segment.corrupt(self.at, "the record ends behind the durable end"));
                }
            }
        }
    }

    /// Walks over the records of a chunk that lies at the cursor. If not even one is whole, says how many bytes it
    /// takes.
    fn deliver(&mut self, chunk: &Bytes, out: &mut Vec<Entry>) -> Result<Option<usize>, LogError> {
        let mut used = 0;
        while used < chunk.len() {
            match record::parse(self.segment.seed, &chunk[used..]) {
                Parsed::Whole(record) => {
                    let len = record.len();
                    if let Some(entry) = self.pick(&record, &chunk.slice(used..used + len))? {
                        out.push(entry);
                    }
                    used += len;
                    self.at += len as u64;
                }
                Parsed::Short { need } if used == 0 => return Ok(Some(need)),
                Parsed::Short { .. } => break,
                Parsed::Bad(reason) => return Err(self.segment.corrupt(self.at, reason)),
            }
        }
        Ok(None)
    }

    /// The entry of a record at the cursor, if it is to be delivered now.
    fn pick(&mut self, record: &Record, bytes: &Bytes) -> Result<Option<Entry>, LogError> {
        let stamp = record.stamp;
        let Some(track) = self.tracks.get_mut(stamp.partition as usize) else {
            return Err(self.segment.corrupt(self.at, "the record's partition does not exist"));
        };
        let Some(track) = track.as_mut().filter(|track| stamp.offset >= track.next) else { return Ok(None) };
        if track.paused {
            track.held.get_or_insert_with(|| (self.segment.clone(), self.at));
            return Ok(None);
        }
        if stamp.offset > track.next {
            return Err(self.segment.corrupt(self.at, "records of a partition are missing before this one"));
        }
        track.next += 1;
        Ok(Some(Entry {
            partition: stamp.partition,
            offset: stamp.offset,
            timestamp_ms: stamp.timestamp_ms,
            key: bytes.slice(record.key.clone()),
            value: bytes.slice(record.value.clone()),
        }))
    }

    fn track(&mut self, partition: u32) -> Option<&mut Track> {
        self.tracks.get_mut(partition as usize).and_then(Option::as_mut)
    }
}

impl Consumer for Reader {
    fn poll(&mut self, wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let deadline = Instant::now().checked_add(wait);
        let before = out.len();
        loop {
            let (heard, closed) = self.shared.bell.heard();
            let step = self.step(out)?;
            if out.len() > before {
                return Ok(());
            }
            match step {
                Step::Read if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(()),
                Step::Read => {}
                Step::CaughtUp if closed => return Err(LogError::Closed),
                Step::CaughtUp if self.shared.bell.wait(heard, deadline) => {}
                Step::CaughtUp => return Ok(()),
            }
        }
    }

    fn pause(&mut self, partition: u32) {
        if let Some(track) = self.track(partition) {
            track.paused = true;
        }
    }

    fn resume(&mut self, partition: u32) {
        let Some(track) = self.track(partition) else { return };
        track.paused = false;
        let Some((segment, at)) = track.held.take() else { return };
        if (segment.number(), at) < (self.segment.number(), self.at) {
            (self.segment, self.at) = (segment, at);
        }
    }
}

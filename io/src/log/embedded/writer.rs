//! The group commit: everything queued becomes one write and one sync, then all of it is answered.
//!
//! Queue → group → (roll) → encode → write → sync → publish → ring → acks → (rest).
//!
//! Invariants: nothing is published or acknowledged before its sync; offsets advance only with a durable group; at most
//! the last group of the last segment is not yet durable; behind it there is nothing but room (`room`). A write that
//! fails is taken back by cutting the file, and nothing is written until that cut has succeeded. A sync that fails poisons the writer for good: the kernel may have
//! dropped the pages and would call the next sync a success.
//!
//! **Runs on**: its own thread, which does nothing else. It may block for as long as the disk does.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::LogFile;
use super::options::{EmbeddedOptions, Platform};
use super::pace;
use super::queue::{Append, Work};
use super::record::{self, Stamp};
use super::recovery::Recovered;
use super::room::Room;
use super::segment::{CreateError, Header, Segment};
use super::shared::{Shared, Trouble};
use crate::log::AppendError;

/// An encode buffer that has grown beyond this many groups is given back.
const KEEP_GROUPS: usize = 2;

/// The one that writes.
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) platform: Platform,
    pub(super) options: EmbeddedOptions,
    segment: Arc<Segment>,
    file: Box<dyn LogFile>,
    /// Where the next group goes: the durable length of the segment.
    position: u64,
    room: Room,
    tail: Tail,
    next: Vec<u64>,
    last_ms: i64,
    trouble: Trouble,
    backlog: VecDeque<Append>,
    group: Vec<Append>,
    buffer: Vec<u8>,
    /// Held so that no other process writes here; let go when the thread ends.
    _lock: File,
}

/// What is in the file behind `position`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing but room, durably.
    Clean,
    /// Nothing, but a crash could bring it back.
    Cut,
    /// What a failed write has left.
    Dirty,
}

/// Why a group is not durable.
enum Failure {
    Write(io::Error),
    Sync(io::Error),
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Failure {
        match error {
            CreateError::Write(source) => Failure::Write(source),
            CreateError::Sync(source) => Failure::Sync(source),
        }
    }
}

impl Writer {
    /// Continues after the last durable record.
    pub(crate) fn new(
        shared: Arc<Shared>,
        platform: Platform,
        options: EmbeddedOptions,
        recovered: Recovered,
        lock: File,
    ) -> Writer {
        let segment = recovered.segments.back().cloned().expect("a log has a segment");
        Writer {
            shared,
            platform,
            room: Room::new(segment.len(), options.room_bytes, options.segment_bytes),
            options,
            position: segment.len(),
            segment,
            file: recovered.file,
            tail: Tail::Clean,
            next: recovered.ends,
            last_ms: recovered.last_ms,
            trouble: Trouble::default(),
            backlog: VecDeque::new(),
            group: Vec::new(),
            buffer: Vec::new(),
            _lock: lock,
        }
    }

    /// The cores that its thread shall run on.
    pub(crate) fn cpus(&self) -> &[usize] {
        &self.options.cpus
    }

    /// Works until the log is closed and the queue is empty.
    pub(crate) fn run(mut self) {
        loop {
            let Work { released, closing } = self.shared.queue.take(&mut self.backlog);
            if let Some(released) = released {
                self.retain(&released);
            }
            if self.backlog.is_empty() && closing {
                break;
            }
            if !self.backlog.is_empty() {
                let rest = self.commit();
                // What the limits of a group have left behind waits no longer.
                if self.backlog.is_empty() && !closing {
                    std::thread::sleep(rest);
                }
            }
        }
        self.give_room_back();
        self.shared.bell.ring(true);
    }

    /// Leaves a file that ends with its last record. What cannot be cut now is found when the log is opened.
    fn give_room_back(&mut self) {
        if self.trouble.poisoned.is_some() || !self.room.is_left(self.position) {
            return;
        }
        if let Err(error) = self.file.truncate(self.position).and_then(|()| self.file.sync()) {
            tracing::warn!(file = %self.segment.path.display(), %error, "cannot cut off the room behind the last record");
        }
    }

    /// Writes and answers one group; how long to let calls gather then.
    fn commit(&mut self) -> Duration {
        let (messages, bytes) = self.form_group();
        let (calls, begun) = (self.group.len(), Instant::now());
        match self.write_group(messages, bytes) {
            Ok(answers) => {
                for (append, offsets) in self.group.drain(..).zip(answers) {
                    // The caller may have gone; its message is durable all the same.
                    let _ = append.ack.send(Ok(offsets));
                }
            }
            Err(error) => {
                for append in self.group.drain(..) {
                    let _ = append.ack.send(Err(error.clone()));
                }
            }
        }
        let rest = pace::rest(calls, begun.elapsed());
        self.shared.queue.finish(messages, bytes);
        self.buffer.clear();
        if self.buffer.capacity() > KEEP_GROUPS * self.options.group_bytes {
            self.buffer = Vec::new();
        }
        rest
    }

    /// Takes calls from the backlog up to the limits, at least one. Returns their messages and bytes.
    fn form_group(&mut self) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(append) = self.backlog.pop_front() {
            let full =
                messages >= self.options.group_messages || bytes + append.bytes > self.options.group_bytes;
            if full && !self.group.is_empty() {
                self.backlog.push_front(append);
                break;
            }
            messages += append.messages.len();
            bytes += append.bytes;
            self.group.push(append);
        }
        (messages, bytes)
    }

    /// Makes the group durable and visible; returns the offsets of every call.
    fn write_group(&mut self, messages: usize, bytes: usize) -> Result<Vec<Vec<u64>>, AppendError> {
        if let Some(reason) = &self.trouble.poisoned {
            return Err(AppendError::Failed { reason: reason.clone() });
        }
        let now_ms = (self.platform.now_ms)().max(self.last_ms);
        if let Err(failure) = self.make_room(bytes, now_ms) {
            return Err(self.fail(failure));
        }
        let mut next = self.next.clone();
        let answers = self.encode_group(&mut next, now_ms);
        assert_eq!(self.buffer.len(), bytes, "calls are measured as they are encoded");
        let sync = match self.persist() {
            Ok(sync) => sync,
            Err(failure) => return Err(self.fail(failure)),
        };
        self.position += bytes as u64;
        self.last_ms = now_ms;
        self.next = next;
        self.segment.set_len(self.position);
        self.shared.set_ends(&self.next);
        self.shared.gauges.committed(messages, sync);
        self.shared.bell.ring(false);
        if self.trouble.failing.take().is_some() {
            tracing::info!(dir = %self.shared.dir.display(), "the log takes appends again");
            self.shared.gauges.set_trouble(self.trouble.clone());
        }
        Ok(answers)
    }

    /// Sees to it that nothing but room is behind `position`, and that the group fits in the segment, or begins one.
    fn make_room(&mut self, bytes: usize, now_ms: i64) -> Result<(), Failure> {
        if self.tail == Tail::Dirty {
            self.cut()?;
        }
        let empty = self.position == self.segment.header.len();
        if empty || self.position + bytes as u64 <= self.options.segment_bytes {
            return Ok(());
        }
        if self.room.is_left(self.position) {
            self.cut()?;
        }
        if self.tail == Tail::Cut {
            // The next header promises that this segment ends here.
            self.file.sync().map_err(Failure::Sync)?;
            self.tail = Tail::Clean;
        }
        let header = Header {
            number: self.segment.number() + 1,
            created_ms: now_ms,
            salt: (self.platform.salt)(),
            previous_len: self.position,
            starts: self.next.clone(),
        };
        let position = header.len();
        let (segment, file) = Segment::create(&self.platform, &self.shared.dir, header)?;
        self.shared.add(segment.clone());
        (self.segment, self.file, self.position) = (segment, file, position);
        self.room.cut(position);
        Ok(())
    }

    /// Cuts off everything behind the last durable group.
    fn cut(&mut self) -> Result<(), Failure> {
        self.file.truncate(self.position).map_err(Failure::Write)?;
        self.tail = Tail::Cut;
        self.room.cut(self.position);
        Ok(())
    }

    /// Encodes the group into the buffer, with offsets from `next` on.
    fn encode_group(&mut self, next: &mut [u64], timestamp_ms: i64) -> Vec<Vec<u64>> {
        self.buffer.clear();
        let group = u32::try_from(self.position).expect("the options keep a segment below 4 GiB");
        let mut answers = Vec::with_capacity(self.group.len());
        for append in &self.group {
            let mut offsets = Vec::with_capacity(append.messages.len());
            for message in &append.messages {
                let offset = next[message.partition as usize];
                next[message.partition as usize] += 1;
                offsets.push(offset);
                let stamp = Stamp { group, partition: message.partition, offset, timestamp_ms };
                record::encode(self.segment.seed, stamp, &message.key, &message.value, &mut self.buffer);
            }
            answers.push(offsets);
        }
        answers
    }

    /// Writes the buffer, with room behind it if there is none, and syncs it. Returns how long the sync took.
    fn persist(&mut self) -> Result<Duration, Failure> {
        let bytes = self.buffer.len() as u64;
        let zeros = self.room.zeros(bytes, self.position + bytes);
        self.buffer.resize((bytes + zeros) as usize, 0);
        self.tail = Tail::Dirty;
        self.file.write_at(self.position, &self.buffer).map_err(Failure::Write)?;
        let begun = Instant::now();
        self.file.sync().map_err(Failure::Sync)?;
        self.tail = Tail::Clean;
        self.room.written(self.position + bytes + zeros);
        Ok(begun.elapsed())
    }

    /// Takes back what the failed group has left, and decides what becomes of the log.
    fn fail(&mut self, failure: Failure) -> AppendError {
        if self.tail == Tail::Dirty {
            // What fails is tried again before the next group.
            let _ = self.cut();
        }
        let dir = self.shared.dir.display();
        let error = match failure {
            Failure::Sync(source) => {
                let reason: Arc<str> =
                    format!("a sync in {dir} failed ({source}); appends are refused until a restart").into();
                tracing::error!(%dir, error = %source, "a sync failed: the log refuses appends until a restart");
                self.trouble.poisoned = Some(reason.clone());
                AppendError::Failed { reason }
            }
            Failure::Write(source) if is_full(&source) => {
                AppendError::DiskFull { path: self.shared.dir.clone() }
            }
            Failure::Write(source) => {
                AppendError::Failed { reason: format!("a write in {dir} failed: {source}").into() }
            }
        };
        if self.trouble.failing.is_none() {
            tracing::error!(%dir, %error, "appends fail");
        }
        self.trouble.failing = Some(error.to_string().into());
        self.shared.gauges.set_trouble(self.trouble.clone());
        error
    }
}

/// Whether room on the disk would help.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

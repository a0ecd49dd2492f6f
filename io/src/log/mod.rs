//! The log: the one ordered, durable sequence of mutations per partition that decides the state of every store.
//!
//! Producers hand [`Message`]s to [`Log::append`] and learn their offsets from the [`Ack`]; consumers read
//! [`Entry`]s back through [`Consumer::poll`]. An ack means durable, never applied.
//!
//! Invariants of every implementation: offsets of a partition start at 0 and only grow; entries of a partition are
//! delivered in offset order; nothing is delivered before it is durable; every queue is bounded.
//!
//! **Runs on**: `append` is called by the serving cores and never waits for the disk or the network. A consumer
//! belongs to one thread that may block (the ingest thread).
//!
//! **Not here**: what the bytes mean (keys are routing hints, values are opaque), and what a change of ownership costs.

pub mod embedded;
mod error;
pub mod faulty;
pub mod kafka;

use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;

pub use embedded::{EmbeddedLog, EmbeddedOptions};
pub use error::{AppendError, LogError};
pub use faulty::FaultyLog;

/// One mutation on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes; below [`Log::partitions`].
    pub partition: u32,
    /// The partition key, kept beside the value for other readers of the log; may be empty.
    pub key: Bytes,
    /// The encoded mutation.
    pub value: Bytes,
}

/// One mutation as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The partition it belongs to.
    pub partition: u32,
    /// Its place in the partition, from 0.
    pub offset: u64,
    /// When the log received it, in Unix milliseconds; the same for every reader.
    pub timestamp_ms: i64,
    /// The key of the message, empty if it had none. A slice of a read buffer, like the value.
    pub key: Bytes,
    /// The encoded mutation. It is a slice of a read buffer of some hundred KiB and keeps that whole buffer alive:
    /// whoever stores it for long copies it.
    pub value: Bytes,
}

/// The answer to one [`Log::append`]: the offsets in the order of the messages, once all are durable. It works under
/// any runtime. A cancelled receiver means that the log went away without an answer: the outcome is unknown.
pub type Ack = oneshot::Receiver<Result<Vec<u64>, AppendError>>;

/// A durable sequence of messages per partition.
pub trait Log: Send + Sync {
    /// How many partitions the log has; fixed for its life.
    fn partitions(&self) -> u32;

    /// Queues the messages of one call, in order. It never waits for the disk or the network.
    ///
    /// The embedded log makes the messages of one call durable together; Kafka does so one by one, and the first
    /// failure is the answer. After an error in the ack some of them may still turn up in the log.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`], [`AppendError::Overloaded`] and [`AppendError::Closed`] at once, with nothing
    /// queued. Everything that goes wrong later comes through the ack.
    ///
    /// # Panics
    /// If a message names a partition that the log does not have: the caller computes it from `partitions()`.
    fn append(&self, messages: Vec<Message>) -> Result<Ack, AppendError>;

    /// The most bytes that key and value of one message may have together.
    fn max_message_bytes(&self) -> usize;

    /// The offset that the next durable message of the partition follows on: all below are durable and readable.
    fn end(&self, partition: u32) -> u64;

    /// The first offset of the partition that the log still holds; equal to `end` if it holds none.
    fn start(&self, partition: u32) -> u64;

    /// Reads the given partitions, each from the given offset on (the first one not yet seen).
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] names a partition whose offset lies below its start or above its end.
    fn consumer(&self, from: &[(u32, u64)]) -> Result<Box<dyn Consumer>, LogError>;

    /// Reads the partitions that the log's group deals out to this process; [`Consumer::change`] says which. A log that
    /// belongs to one process has no group: it refuses.
    ///
    /// # Errors
    /// [`LogError::Options`] without a group; what the log refuses.
    fn subscribe(&self) -> Result<Box<dyn Consumer>, LogError> {
        Err(LogError::Options("this log has no consumer groups".to_owned()))
    }

    /// Whether other processes read and write the log as well: then this one can do without some of its partitions.
    fn is_shared(&self) -> bool {
        false
    }

    /// Why this process must not go on with the log, if that is so: going on could send a mutation to the wrong place.
    fn fatal(&self) -> Option<LogError> {
        None
    }

    /// Tells the log that the stores durably hold everything below these offsets. A hint: what is dropped, and when,
    /// is the log's policy. Partitions that are not named keep what they last said. Never blocks.
    fn release(&self, durable: &[(u32, u64)]);

    /// How the log is doing, for the status page and the metrics.
    fn status(&self) -> LogStatus;

    /// Finishes what is queued, makes it durable and ends the log's threads. Blocks; may be called again. Later
    /// appends are refused with [`AppendError::Closed`]; consumers deliver the rest, then [`LogError::Closed`].
    fn close(&self);
}

/// A reader of some partitions of a log.
pub trait Consumer: Send {
    /// Adds entries to `out` (which is not cleared), a bounded number at a time. Waits up to `wait` if there are
    /// none, and then leaves `out` as it was. Of one partition the entries come in offset order, none left out.
    ///
    /// # Errors
    /// Entries already added to `out` are valid. Whether a later call may succeed depends on the [`LogError`].
    fn poll(&mut self, wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError>;

    /// Stops delivering a partition until it is resumed. Partitions that are not read are ignored.
    fn pause(&mut self, partition: u32);

    /// Continues a partition exactly where it stood.
    fn resume(&mut self, partition: u32);

    /// The next change of what this consumer reads, which the caller carries out and answers. A consumer of given
    /// partitions is never told of one.
    fn change(&mut self) -> Option<Change> {
        None
    }

    /// Answers [`Change::Assigned`]: delivers each partition from the given offset on (the first one not yet seen).
    /// Returns the partitions whose offset the log does not hold; they deliver nothing, and are given back like others.
    ///
    /// # Errors
    /// The log does not take the answer.
    fn start(&mut self, from: &[(u32, u64)]) -> Result<Vec<Gap>, LogError> {
        let _ = from;
        Ok(Vec::new())
    }

    /// Answers [`Change::Revoked`]: the partitions are flushed and closed here, others may have them.
    ///
    /// # Errors
    /// The log does not take the answer.
    fn give_back(&mut self, partitions: &[u32]) -> Result<(), LogError> {
        let _ = partitions;
        Ok(())
    }

    /// Tells the log how far partitions have been applied (the first offset that has not), for lag displays alone.
    fn report(&mut self, applied: &[(u32, u64)]) {
        let _ = applied;
    }
}

/// A change in what a consumer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These are to be read from now on; [`Consumer::start`] answers.
    Assigned(Vec<u32>),
    /// These deliver nothing any more; [`Consumer::give_back`] answers.
    Revoked(Vec<u32>),
    /// The group has lost touch with this process, or this process with the group, and may have dealt these to others.
    /// They deliver nothing until they are assigned again, or others are; no answer is awaited.
    Lost(Vec<u32>),
    /// The log has dropped what this partition was to deliver next. It delivers nothing; no answer is awaited.
    Missing(Gap),
}

/// A partition that cannot be continued from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The partition.
    pub partition: u32,
    /// The offset that was to be delivered next.
    pub next: u64,
    /// The first offset that the log holds.
    pub start: u64,
    /// The offset after the last.
    pub end: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Gap { partition, next, start, end } = self;
        write!(
            f,
            "partition {partition} is to be continued at offset {next}, the log holds {start}..{end}: "
        )?;
        if next < start {
            write!(f, "mutations in between are gone, the partition must be restored from a backup")
        } else {
            write!(f, "this store has seen a log that is not this one, or the log has lost its end")
        }
    }
}

/// How a log is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStatus {
    /// Which implementation: `embedded`, `kafka`.
    pub kind: &'static str,
    /// Bytes held on the local disk.
    pub bytes: u64,
    /// Segment files held.
    pub segments: u64,
    /// Messages accepted and not yet answered.
    pub queued_messages: u64,
    /// Their bytes, with what the log adds to each.
    pub queued_bytes: u64,
    /// Messages made durable since start.
    pub appended_messages: u64,
    /// Group commits that were made durable since start.
    pub syncs: u64,
    /// Time spent in those syncs, in microseconds.
    pub sync_total_us: u64,
    /// The latest sync, in microseconds.
    pub sync_last_us: u64,
    /// The slowest sync since start, in microseconds.
    pub sync_max_us: u64,
    /// Why the latest group of appends failed; empty again after the next success.
    pub failing: Option<String>,
    /// Why the log refuses every append until the process is restarted.
    pub poisoned: Option<String>,
}

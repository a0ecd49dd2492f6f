//! What an embedded log is told at open, and what it takes from outside: disk, clock, salt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::{Disk, RealDisk};
use super::record::RECORD_FIXED;
use crate::log::LogError;

/// Positions in a segment are u32 on disk: a segment and the group that overfills it stay below this together.
const MAX_BYTES: u64 = 1 << 30;

/// How an embedded log behaves. All but `partitions` may change from one open to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How many partitions; must be what the log was made with.
    pub partitions: u32,
    /// A segment file is full at this many bytes (at most 1 GiB).
    pub segment_bytes: u64,
    /// A small group that finds no room in the file makes so many bytes of it; with 0 every group makes the file longer.
    pub room_bytes: u64,
    /// Key and value of one message together, in bytes.
    pub max_message_bytes: usize,
    /// While this many messages are queued or being written, further calls are refused.
    pub queue_messages: usize,
    /// The most bytes that may be queued or being written (at most 1 GiB); a larger call is refused for good.
    pub queue_bytes: usize,
    /// A group commit takes no further call once it has this many messages.
    pub group_messages: usize,
    /// A group commit takes no further call that would bring it over this many bytes.
    pub group_bytes: usize,
    /// How long a segment is kept after its last message, even though every store holds it; looked at with each
    /// [`release`](crate::log::Log::release). `None` keeps everything.
    pub retention: Option<Duration>,
    /// The cores that the log's thread may run on; empty leaves it where its opener is.
    pub cpus: Vec<usize>,
}

impl EmbeddedOptions {
    /// The defaults for a log of so many partitions.
    pub fn new(partitions: u32) -> EmbeddedOptions {
        EmbeddedOptions {
            partitions,
            segment_bytes: 64 << 20,
            room_bytes: 256 << 10,
            max_message_bytes: 1 << 20,
            queue_messages: 262_144,
            queue_bytes: 64 << 20,
            group_messages: 16_384,
            group_bytes: 4 << 20,
            retention: None,
            cpus: Vec::new(),
        }
    }

    /// Whether the options agree with each other and with the format.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let wrong = |what: &str| Err(LogError::Options(what.to_owned()));
        if self.partitions == 0 || self.partitions > 1 << 16 {
            return wrong("partitions must be 1 to 65536");
        }
        if self.segment_bytes == 0 || self.segment_bytes > MAX_BYTES {
            return wrong("segment_bytes must be 1 to 1 GiB");
        }
        if self.queue_bytes as u64 > MAX_BYTES {
            return wrong("queue_bytes must be at most 1 GiB");
        }
        if self.max_message_bytes == 0 || self.max_message_bytes + RECORD_FIXED > self.queue_bytes {
            return wrong("max_message_bytes must be at least 1 and fit in queue_bytes");
        }
        if self.queue_messages == 0 || self.group_messages == 0 || self.group_bytes == 0 {
            return wrong("queue_messages, group_messages and group_bytes must be at least 1");
        }
        Ok(())
    }
}

/// What the log takes from outside.
pub(crate) struct Platform {
    pub(crate) disk: Box<dyn Disk>,
    /// Unix milliseconds.
    pub(crate) now_ms: Box<dyn Fn() -> i64 + Send>,
    /// A number that clients cannot foresee, for every new segment.
    pub(crate) salt: Box<dyn Fn() -> u64 + Send>,
}

impl Platform {
    /// The file system, the wall clock and the process's random state.
    pub(crate) fn real() -> Platform {
        Platform {
            disk: Box::new(RealDisk),
            now_ms: Box::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
            salt: Box::new(|| RandomState::new().build_hasher().finish()),
        }
    }
}

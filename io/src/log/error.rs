//! What can go wrong with a log, by who has to act.
//!
//! **Not here**: the mapping to HTTP answers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why messages were not, or may not have been, made durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The message at `index` is larger than the log takes; for a call that is larger than the whole queue, `size` is
    /// its sum up to that message and `limit` the queue's. Nothing was queued. The client sends less, or the operator
    /// raises the limit on every node.
    #[error("message {index} makes {size} bytes, the log takes {limit}")]
    TooLarge {
        /// Bytes that were to be written.
        size: usize,
        /// Bytes that are accepted.
        limit: usize,
        /// Which message of the call, from 0.
        index: usize,
    },
    /// The brokers refuse a message of this size, though this node would take it. Nothing was written. The operator
    /// raises `max.message.bytes` of the topic, or lowers `MAX_MESSAGE_BYTES` on every node.
    #[error(
        "Kafka refuses a message of {size} bytes: the topic's max.message.bytes is lower than MAX_MESSAGE_BYTES"
    )]
    RefusedTooLarge {
        /// Bytes of key and value.
        size: usize,
    },
    /// The queue is full: the log's disk or the brokers are slower than the writers. Nothing was queued; the client
    /// tries again later.
    #[error("the log's queue is full")]
    Overloaded,
    /// The disk of the log is full. The messages were taken back and the log goes on trying with every append: the
    /// operator makes room, nothing needs a restart.
    #[error("the disk that holds {path} is full")]
    DiskFull {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log could not make the messages durable; whether they are in it is unknown. If a sync failed, every append
    /// is refused with the same reason until the operator has looked at the disk and restarted the process.
    #[error("the log failed: {reason}")]
    Failed {
        /// What happened, for the log file and the answer's detail.
        reason: Arc<str>,
    },
    /// The process is shutting down. Nothing was queued; the client asks another node.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// Whether the settings of this node, or of the topics, have to change before another try can go better.
    pub fn is_setting(&self) -> bool {
        matches!(
            self,
            LogError::Options(_)
                | LogError::PartitionCount { .. }
                | LogError::MissingTopic { .. }
                | LogError::TopicPartitions { .. }
                | LogError::Namespace { .. }
        )
    }
}

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused something. At start the process ends with it; in a consumer the partition stops.
    /// The operator reads the source.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The options contradict themselves or exceed the format. The operator corrects them.
    #[error("the log's options are wrong: {0}")]
    Options(String),
    /// Another process (or another log of this one) has the directory open. Two writers would destroy it: the
    /// operator ends the other one or names another directory.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The log was made with another partition count. Keys would be looked for in the wrong partitions, so it is not
    /// opened: the operator configures the count that the log has.
    #[error("the log has {found} partitions, {configured} are configured")]
    PartitionCount {
        /// The count that the log was made with.
        found: u32,
        /// The count that was asked for.
        configured: u32,
    },
    /// Bytes that were durable have changed. Nothing is dropped or skipped: the operator restores the file from a
    /// replica of the disk, or starts with an empty log and restores the stores from a backup.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// The first byte of what cannot be read.
        position: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file in the middle of the log is gone. The operator restores it, as for damage.
    #[error("{path} is missing from the log")]
    MissingSegment {
        /// The file that should be there.
        path: PathBuf,
    },
    /// The reader stood in a segment that retention has dropped meanwhile. Its stores must be restored from a
    /// backup, and retention should be longer.
    #[error("{path} was dropped by retention before it was read to its end")]
    Removed {
        /// The segment that is gone.
        path: PathBuf,
    },
    /// A consumer asked for an offset that the log does not hold: below `start` the data is gone and the store must
    /// be restored from a backup; above `end` the store has seen a log that is not this one (or the log has lost its
    /// tail), and must not be continued.
    #[error("partition {partition}: offset {offset} is outside of {start}..={end}, which the log holds")]
    OutOfRange {
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// The first offset held.
        start: u64,
        /// The offset after the last.
        end: u64,
    },
    /// A consumer asked for a partition that the log does not have. The configuration and the log disagree.
    #[error("there is no partition {partition}, the log has {partitions}")]
    UnknownPartition {
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The brokers did not answer while the log was opened. The operator looks at the brokers and at KAFKA_SEEDS; the
    /// process ends and is started again.
    #[error("Kafka cannot be reached at {seeds} (KAFKA_SEEDS): {reason}")]
    Unreachable {
        /// What was tried.
        seeds: String,
        /// What the last try said.
        reason: String,
    },
    /// The brokers, or librdkafka, refuse something that trying again does not change: a login, a certificate, a right.
    #[error("{reason}")]
    Refused {
        /// What was refused, and which setting decides.
        reason: String,
    },
    /// Another process has joined the group under the same name. Two nodes would apply to what both believe to be
    /// theirs: the operator gives each node an INSTANCE_ID of its own.
    #[error(
        "another node has joined the consumer group {group} as {instance:?}: every node needs an INSTANCE_ID of its own"
    )]
    Fenced {
        /// The name.
        instance: String,
        /// The group.
        group: String,
        /// Brokers were out of reach shortly before: the group may have lost track of the one process there is, whose
        /// second try to join counts as another one when the answer to the first was lost.
        after_outage: bool,
    },
    /// The topic does not exist. The operator makes it.
    #[error("the topic {topic} does not exist: make it with `firescroll topics create`")]
    MissingTopic {
        /// The topic.
        topic: String,
    },
    /// The topic has another partition count than this node. Keys would go to the wrong partitions: the operator
    /// corrects PARTITIONS, or undoes the change of the topic with a new namespace.
    #[error(
        "the topic {topic} has {found} partitions, this node is configured with {configured} (PARTITIONS); \
         a namespace keeps the count that it was made with"
    )]
    TopicPartitions {
        /// The topic.
        topic: String,
        /// Its partitions.
        found: u32,
        /// The configured count.
        configured: u32,
    },
    /// The namespace was made with another partition count. The operator corrects PARTITIONS.
    #[error(
        "the namespace was made with {found} partitions (first record of {topic}), this node is configured with \
         {configured}: set PARTITIONS={found}"
    )]
    Namespace {
        /// The topic with the record.
        topic: String,
        /// What it says.
        found: u32,
        /// The configured count.
        configured: u32,
    },
    /// The log cannot be reached at the moment. The caller polls again; nothing is lost.
    #[error("the log cannot be reached: {reason}")]
    Unavailable {
        /// What the connection said.
        reason: String,
    },
    /// The log is closed and everything in it has been delivered.
    #[error("the log is closed")]
    Closed,
}

//! What a node is told before it starts: environment variables and flags in, one checked [`Config`] out.
//!
//! `RawConfig` (strings, as clap reads them) + [`Machine`] (CPUs, limits, host name) → [`Config::validate`] →
//! [`Config`]. Every wrong value is reported at once, by variable, value and what is accepted, and nothing
//! has been opened, bound or written by then. An empty variable counts as unset.
//!
//! **Invariants**: whatever is in a [`Config`] has been checked; no other module parses settings or reads the
//! environment. `cores.shard_cpus` has one entry for every shard. Secrets are [`Secret`]s and never printed.
//!
//! **Runs on**: the main thread, before any other exists.
//!
//! **Not here**: settings that change while the node runs (there are none), configuration files (the service
//! manager's environment files do that), and the client commands' own flags (`cli`).

mod cpu_list;
mod fit;
mod kafka;
mod machine;
mod problem;
mod raw;
mod reader;
mod secret;
mod validate;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

pub use firescroll_io::log::kafka::Mechanism;
pub use machine::{Machine, raise_open_files};
pub use problem::{ConfigError, Problem};
pub use raw::RawConfig;
pub use secret::Secret;

/// Everything a node needs to know, checked. Plain data: made once at start, then only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where mutations are ordered and made durable.
    pub log: LogKind,
    /// Which data this node serves, and under which names.
    pub cluster: Cluster,
    /// Which CPUs do what.
    pub cores: Cores,
    /// Disk and memory of the stores and of the log.
    pub storage: Storage,
    /// Addresses, limits and deadlines of the two HTTP ports.
    pub http: Http,
    /// How a stop proceeds.
    pub shutdown: Shutdown,
    /// Whether debug lines are logged (`DEBUG`); `RUST_LOG` has the last word.
    pub debug: bool,
    /// Sentences an operator should see once at start: values that were adjusted, settings without effect.
    pub notes: Vec<String>,
}

/// The log behind the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogKind {
    /// The node's own log, in a directory under `DB_PATH`: one node, no other service needed.
    Embedded,
    /// Kafka or Redpanda, shared by all nodes of all regions (`KAFKA_SEEDS` is set).
    Kafka(Kafka),
}

/// How to reach the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `KAFKA_SEEDS`: `host:port`, separated by commas.
    pub seeds: String,
    /// `KAFKA_TLS`.
    pub tls: bool,
    /// `KAFKA_TLS_CA_PATH`: certificates that the brokers' are checked against; the system's without.
    pub tls_ca: Option<PathBuf>,
    /// `KAFKA_USER` and `KAFKA_PASS`.
    pub login: Option<(String, Secret)>,
    /// `KAFKA_SASL_MECHANISM`.
    pub mechanism: Mechanism,
    /// `KAFKA_SESSION_MS`: how long the group waits for a silent node before its partitions move.
    pub session: Duration,
    /// `KAFKA_RACK`: where this node is, for fetching from a replica nearby.
    pub rack: String,
    /// `KAFKA_CONNECT_TIMEOUT_MS`: how long a start waits for the brokers.
    pub connect_timeout: Duration,
}

/// Which data this node serves, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `NAMESPACE`: the same in all regions.
    pub namespace: String,
    /// `REGION`: where this node is.
    pub region: String,
    /// `REPLICA_GROUP`: which copy of the data in the region this node belongs to.
    pub replica_group: String,
    /// `INSTANCE_ID`: unique to the node.
    pub instance_id: String,
    /// `PARTITIONS`: fixed for the life of the namespace.
    pub partitions: NonZeroU32,
}

/// Which CPUs do what. All numbers are the kernel's CPU numbers, and this process may use every one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// The CPU of each shard, by shard number: its length is the number of shards. A CPU appears more than
    /// once only where `SHARDS` exceeds the CPUs at hand.
    pub shard_cpus: Vec<usize>,
    /// `CONTROL_CPU`: where the control thread is pinned; `None` leaves its place to the kernel.
    pub control_cpu: Option<usize>,
    /// `BUSY_POLL_US`: how long a shard looks for news before it sleeps.
    pub busy_poll: Duration,
    /// Every CPU this process may use, ascending: the choice for threads that belong to no shard.
    pub allowed: Vec<usize>,
}

impl Cores {
    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.shard_cpus.len()).expect("validation gives at least one shard")
    }
}

/// Disk and memory of the stores and of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// `DB_PATH`, absolute: the directory that holds the stores and the embedded log. It may not exist yet.
    pub db_path: PathBuf,
    /// `DISK_RESERVE_MB` in bytes: with less free space than this writes are refused.
    pub disk_reserve_bytes: u64,
    /// `CACHE_MB` in bytes: the record cache of one shard; 0 turns it off.
    pub cache_bytes: usize,
    /// `STORE_CACHE_MB` in bytes: the block cache of one shard's store.
    pub store_cache_bytes: usize,
    /// `TOPIC_RETENTION_MS`: how long the log keeps what the stores already have; `None` keeps everything.
    pub log_retention: Option<Duration>,
    /// `MAX_MESSAGE_BYTES`: the largest mutation that the log accepts.
    pub max_message_bytes: usize,
    /// `LOG_ACK_TIMEOUT_MS`: how long a write waits for the log before it is answered with 503.
    pub log_ack_timeout: Duration,
}

/// Addresses, limits and deadlines of the two HTTP ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `API_ADDR` and `API_PORT`: where every shard listens.
    pub api: SocketAddr,
    /// `INTERNAL_ADDR` and `INTERNAL_PORT`: metrics, status, export.
    pub internal: SocketAddr,
    /// `MAX_CONNECTIONS`: open client connections of all shards together; at least one for each shard.
    pub max_connections: usize,
    /// `MAX_REQUESTS`: requests in flight in one shard.
    pub max_requests: usize,
    /// `MAX_BODY_BYTES`: the largest request body.
    pub max_body_bytes: usize,
    /// `MAX_RESPONSE_BYTES`: the largest answer to one get; never less than one mutation.
    pub max_response_bytes: usize,
    /// `HEAD_TIMEOUT_MS`: from the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// `BODY_TIMEOUT_MS`: from the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// `IDLE_TIMEOUT_MS`: how long a kept-alive connection may rest.
    pub idle_timeout: Duration,
    /// `WRITE_TIMEOUT_MS`: how long a client may go without taking bytes.
    pub write_timeout: Duration,
    /// `HTTP_GZIP`: whether answers over 1 KiB are compressed for clients that ask.
    pub gzip: bool,
    /// `HTTP_CORS`: whether browsers of any origin may call.
    pub cors: bool,
}

impl Http {
    /// The share of `max_connections` that one of `shards` shards may hold (rounded up, so at least one).
    #[must_use]
    pub fn connections_per_shard(&self, shards: NonZeroUsize) -> usize {
        self.max_connections.div_ceil(shards.get())
    }
}

/// How a stop proceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// `SHUTDOWN_SLEEP_SEC`: between turning unready and refusing connections, for load balancers to notice.
    pub sleep: Duration,
    /// `SHUTDOWN_TIMEOUT_SEC`: how long requests in flight may take to finish after that.
    pub timeout: Duration,
}

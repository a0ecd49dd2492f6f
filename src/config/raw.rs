//! The settings as text: one field, one variable, one flag each, and the words of `firescroll serve --help`.
//!
//! Everything is an optional string on purpose: clap only finds the values, and validation reports all that
//! are wrong together. The defaults stand here in words and in `validate` as values.
//!
//! **Not here**: any judgement of a value.

use std::ffi::OsString;

use clap::Args;

use super::secret::Secret;

/// The settings of a node as they were given, unchecked. An empty value counts as unset.
#[derive(Debug, Clone, Default, Args)]
pub struct RawConfig {
    /// The data set, the same in all regions: up to 200 letters, digits, dots, dashes and underscores [default: default]
    #[arg(long, env = "NAMESPACE", value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// The region that this node is in [default: local]
    #[arg(long, env = "REGION", value_name = "NAME", help_heading = "Cluster")]
    pub region: Option<String>,
    /// The copy of the data, within the region, that this node belongs to [default: default]
    #[arg(long, env = "REPLICA_GROUP", value_name = "NAME", help_heading = "Cluster")]
    pub replica_group: Option<String>,
    /// What tells this node from all others [default: the host name]
    #[arg(long, env = "INSTANCE_ID", value_name = "NAME", help_heading = "Cluster")]
    pub instance_id: Option<String>,
    /// Partitions of the namespace, 1 to 65536; never changed afterwards [default: 256]
    #[arg(long, env = "PARTITIONS", value_name = "COUNT", help_heading = "Cluster")]
    pub partitions: Option<String>,
    /// The address that other nodes reach this one at [default: none]
    #[arg(long, env = "ADVERTISE_ADDR", value_name = "HOST[:PORT]", help_heading = "Cluster")]
    pub advertise_addr: Option<String>,
    /// Other nodes of the region. This build has no gossip: it must be unset
    #[arg(long, env = "GOSSIP_PEERS", value_name = "HOST:PORT,...", help_heading = "Cluster")]
    pub gossip_peers: Option<String>,
    /// Time between two announcements to peers, in milliseconds [default: 1000]
    #[arg(
        long,
        env = "GOSSIP_BROADCAST_MS",
        value_name = "MS",
        help_heading = "Cluster",
        allow_negative_numbers = true
    )]
    pub gossip_broadcast_ms: Option<String>,
    /// Port for peers, TCP and UDP [default: 8192]
    #[arg(long, env = "GOSSIP_PORT", value_name = "PORT", help_heading = "Cluster")]
    pub gossip_port: Option<String>,
    /// Kafka or Redpanda brokers to start from; without, the node has a log of its own [default: none]
    #[arg(long, env = "KAFKA_SEEDS", value_name = "HOST:PORT,...", help_heading = "Log")]
    pub kafka_seeds: Option<String>,
    /// Whether connections to Kafka are encrypted [default: 0]
    #[arg(long, env = "KAFKA_TLS", value_name = "0|1", help_heading = "Log", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub kafka_tls: Option<String>,
    /// Certificates that Kafka's is checked against [default: the system's]
    #[arg(long, env = "KAFKA_TLS_CA_PATH", value_name = "FILE", help_heading = "Log")]
    pub kafka_tls_ca_path: Option<String>,
    /// User name for Kafka (SASL SCRAM), together with KAFKA_PASS [default: none]
    #[arg(long, env = "KAFKA_USER", value_name = "NAME", help_heading = "Log")]
    pub kafka_user: Option<String>,
    /// Password for Kafka. Prefer the variable: flags are visible to every user of the machine [default: none]
    #[arg(long, env = "KAFKA_PASS", value_name = "SECRET", help_heading = "Log", hide_env_values = true)]
    pub kafka_pass: Option<Secret>,
    /// How KAFKA_USER logs in: SCRAM-SHA-256 or SCRAM-SHA-512 [default: SCRAM-SHA-256]
    #[arg(long, env = "KAFKA_SASL_MECHANISM", value_name = "NAME", help_heading = "Log")]
    pub kafka_sasl_mechanism: Option<String>,
    /// The rack, zone or region of this node: mutations are fetched from a broker there if one has them [default: REGION]
    #[arg(long, env = "KAFKA_RACK", value_name = "NAME", help_heading = "Log")]
    pub kafka_rack: Option<String>,
    /// How long a start waits for the brokers before it gives up, in milliseconds [default: 30000]
    #[arg(
        long,
        env = "KAFKA_CONNECT_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Log",
        allow_negative_numbers = true
    )]
    pub kafka_connect_timeout_ms: Option<String>,
    /// How long Kafka waits for a silent node before its partitions move, in milliseconds [default: 60000]
    #[arg(
        long,
        env = "KAFKA_SESSION_MS",
        value_name = "MS",
        help_heading = "Log",
        allow_negative_numbers = true
    )]
    pub kafka_session_ms: Option<String>,
    /// How long the log keeps what the stores already hold, in milliseconds; -1 keeps everything [default: -1]
    #[arg(
        long,
        env = "TOPIC_RETENTION_MS",
        value_name = "MS",
        help_heading = "Log",
        allow_negative_numbers = true
    )]
    pub topic_retention_ms: Option<String>,
    /// The largest mutation that the log accepts, 1024 to 33554432 [default: 1048576]
    #[arg(long, env = "MAX_MESSAGE_BYTES", value_name = "BYTES", help_heading = "Log")]
    pub max_message_bytes: Option<String>,
    /// How long a write waits for the log before it is answered with 503, in milliseconds [default: 10000]
    #[arg(
        long,
        env = "LOG_ACK_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Log",
        allow_negative_numbers = true
    )]
    pub log_ack_timeout_ms: Option<String>,
    /// Directory of the stores and of the embedded log [default: /var/firescroll/dbs where this user may write to it, else $XDG_DATA_HOME/firescroll/dbs or ~/.local/share/firescroll/dbs]
    #[arg(long, env = "DB_PATH", value_name = "DIR", help_heading = "Storage")]
    pub db_path: Option<OsString>,
    /// With less free space than this under DB_PATH writes are refused with 503, in MiB [default: 256]
    #[arg(long, env = "DISK_RESERVE_MB", value_name = "MIB", help_heading = "Storage")]
    pub disk_reserve_mb: Option<String>,
    /// Memory for hot records, of each shard, in MiB; 0 turns it off [default: 64]
    #[arg(long, env = "CACHE_MB", value_name = "MIB", help_heading = "Storage")]
    pub cache_mb: Option<String>,
    /// Memory for blocks of the store, of each shard, in MiB; taken as blocks are read [default: an eighth of the machine's memory for all shards together, 64 to 1024 for each]
    #[arg(long, env = "STORE_CACHE_MB", value_name = "MIB", help_heading = "Storage")]
    pub store_cache_mb: Option<String>,
    /// Serving cores, 1 to 1024. May be changed between starts: partitions move to their new shard [default: the CPUs this process may use, or as many as SHARD_CPUS lists]
    #[arg(long, env = "SHARDS", value_name = "COUNT", help_heading = "Cores")]
    pub shards: Option<String>,
    /// CPUs that shards are pinned to, like 0-3,6 [default: the first SHARDS that this process may use]
    #[arg(long, env = "SHARD_CPUS", value_name = "LIST", help_heading = "Cores")]
    pub shard_cpus: Option<String>,
    /// CPU that the control thread is pinned to [default: not pinned]
    #[arg(long, env = "CONTROL_CPU", value_name = "CPU", help_heading = "Cores")]
    pub control_cpu: Option<String>,
    /// How long a shard with nothing to do looks for news before it sleeps, in microseconds, 0 to 10000. Saves the time of waking up, some 10 to 20 µs a request, and burns its CPU meanwhile: for CPUs that nothing else uses [default: 0]
    #[arg(long, env = "BUSY_POLL_US", value_name = "US", help_heading = "Cores")]
    pub busy_poll_us: Option<String>,
    /// Address that clients connect to [default: 0.0.0.0]
    #[arg(long, env = "API_ADDR", value_name = "IP", help_heading = "HTTP")]
    pub api_addr: Option<String>,
    /// Port that clients connect to; 0 takes a free one, which the first log lines name [default: 8190]
    #[arg(long, env = "API_PORT", value_name = "PORT", help_heading = "HTTP")]
    pub api_port: Option<String>,
    /// Address for metrics, status and export; whoever reaches it reads everything [default: 127.0.0.1]
    #[arg(long, env = "INTERNAL_ADDR", value_name = "IP", help_heading = "HTTP")]
    pub internal_addr: Option<String>,
    /// Port for metrics, status and export; 0 takes a free one [default: 8191]
    #[arg(long, env = "INTERNAL_PORT", value_name = "PORT", help_heading = "HTTP")]
    pub internal_port: Option<String>,
    /// Open client connections, all shards together; more are answered with 503 [default: 10000, or fewer where the limit of open files asks for it]
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "COUNT", help_heading = "HTTP")]
    pub max_connections: Option<String>,
    /// Requests in flight in one shard; more are answered with 429 [default: 4096]
    #[arg(long, env = "MAX_REQUESTS", value_name = "COUNT", help_heading = "HTTP")]
    pub max_requests: Option<String>,
    /// The largest request body; larger ones are answered with 413 [default: 8388608]
    #[arg(long, env = "MAX_BODY_BYTES", value_name = "BYTES", help_heading = "HTTP")]
    pub max_body_bytes: Option<String>,
    /// The largest answer to one get; at least MAX_MESSAGE_BYTES [default: 67108864]
    #[arg(long, env = "MAX_RESPONSE_BYTES", value_name = "BYTES", help_heading = "HTTP")]
    pub max_response_bytes: Option<String>,
    /// From the first byte of a request head to its last, in milliseconds [default: 10000]
    #[arg(
        long,
        env = "HEAD_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "HTTP",
        allow_negative_numbers = true
    )]
    pub head_timeout_ms: Option<String>,
    /// From the end of a request head to the end of its body, in milliseconds [default: 30000]
    #[arg(
        long,
        env = "BODY_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "HTTP",
        allow_negative_numbers = true
    )]
    pub body_timeout_ms: Option<String>,
    /// How long a connection may rest between requests, in milliseconds [default: 75000]
    #[arg(
        long,
        env = "IDLE_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "HTTP",
        allow_negative_numbers = true
    )]
    pub idle_timeout_ms: Option<String>,
    /// How long a client may take no bytes of its answer, in milliseconds [default: 30000]
    #[arg(
        long,
        env = "WRITE_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "HTTP",
        allow_negative_numbers = true
    )]
    pub write_timeout_ms: Option<String>,
    /// Whether answers over 1 KiB are compressed for clients that ask [default: 0]
    #[arg(long, env = "HTTP_GZIP", value_name = "0|1", help_heading = "HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub http_gzip: Option<String>,
    /// Whether scripts of any web origin may call [default: 1]
    #[arg(long, env = "HTTP_CORS", value_name = "0|1", help_heading = "HTTP", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub http_cors: Option<String>,
    /// Whether this node backs its partitions up to S3. This build has no backups: it must be 0 [default: 0]
    #[arg(long, env = "BACKUP", value_name = "0|1", help_heading = "Backup", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub backup: Option<String>,
    /// Whether partitions start from the backups in S3. This build has no backups: it must be 0 [default: 0]
    #[arg(long, env = "S3_RESTORE", value_name = "0|1", help_heading = "Backup", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub s3_restore: Option<String>,
    /// Where S3 is, http or https [default: none]
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL", help_heading = "Backup")]
    pub s3_endpoint: Option<String>,
    /// The bucket of the backups [default: none]
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", help_heading = "Backup")]
    pub s3_bucket: Option<String>,
    /// The region of the bucket [default: none]
    #[arg(long, env = "AWS_REGION", value_name = "NAME", help_heading = "Backup")]
    pub aws_region: Option<String>,
    /// Time between two backups, in seconds [default: 43200]
    #[arg(long, env = "BACKUP_INTERVAL_SEC", value_name = "SEC", help_heading = "Backup")]
    pub backup_interval_sec: Option<String>,
    /// The longest that one backup may take, in seconds [default: 120]
    #[arg(long, env = "BACKUP_TIMEOUT_SEC", value_name = "SEC", help_heading = "Backup")]
    pub backup_timeout_sec: Option<String>,
    /// At a stop: how long to serve on while reporting not ready, in seconds [default: 0]
    #[arg(long, env = "SHUTDOWN_SLEEP_SEC", value_name = "SEC", help_heading = "Running")]
    pub shutdown_sleep_sec: Option<String>,
    /// At a stop: how long requests in flight may take to finish, in seconds [default: 30]
    #[arg(long, env = "SHUTDOWN_TIMEOUT_SEC", value_name = "SEC", help_heading = "Running")]
    pub shutdown_timeout_sec: Option<String>,
    /// Whether debug lines are logged; RUST_LOG has the last word [default: 0]
    #[arg(long, env = "DEBUG", value_name = "0|1", help_heading = "Running", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub debug: Option<String>,
}

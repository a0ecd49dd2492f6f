//! From text to a [`Config`]: defaults, ranges, and the rules that tie one setting to another.
//!
//! [`RawConfig`] + [`Machine`] → one function for each part of [`Config`], all noting problems in one
//! [`Reader`] → a [`Config`], or every problem at once.
//!
//! **Invariants**: pure; the same text on the same machine gives the same answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{self, PathBuf};
use std::time::Duration;

use super::fit::{connections, cores};
use super::reader::{Reader, given};
use super::{Cluster, Config, ConfigError, Cores, Http, Machine, RawConfig, Shutdown, Storage, kafka};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// The most partitions: each costs a keyspace with a write buffer of its own.
const MOST_PARTITIONS: u64 = 65_536;

impl Config {
    /// Checks the settings against this machine.
    ///
    /// # Errors
    /// [`ConfigError`] names every setting that is wrong.
    pub fn validate(raw: &RawConfig) -> Result<Self, ConfigError> {
        Self::validate_on(raw, &Machine::observe())
    }

    /// Checks the settings against `machine`; see [`Config::validate`].
    ///
    /// # Errors
    /// [`ConfigError`] names every setting that is wrong.
    pub fn validate_on(raw: &RawConfig, machine: &Machine) -> Result<Self, ConfigError> {
        let mut reader = Reader::default();
        let mut notes = Vec::new();
        let cluster = cluster(&mut reader, raw, machine);
        gossip(&mut reader, raw, &mut notes);
        let log = kafka::log(&mut reader, raw, &cluster.region, &mut notes);
        let cores = cores(&mut reader, raw, machine);
        let storage = storage(&mut reader, raw, machine, &cores);
        let http = http(&mut reader, raw, machine, &cores, &mut notes);
        if http.max_response_bytes < storage.max_message_bytes {
            let reason = format!(
                "a record of MAX_MESSAGE_BYTES ({}) could be written and not be read; accepted: at least that",
                storage.max_message_bytes
            );
            reader.refuse("MAX_RESPONSE_BYTES", Some(&http.max_response_bytes.to_string()), reason);
        }
        backup(&mut reader, raw, &mut notes);
        let shutdown = Shutdown {
            sleep: reader.seconds("SHUTDOWN_SLEEP_SEC", raw.shutdown_sleep_sec.as_ref(), 0, 0..=86_400),
            timeout: reader.seconds(
                "SHUTDOWN_TIMEOUT_SEC",
                raw.shutdown_timeout_sec.as_ref(),
                30,
                1..=86_400,
            ),
        };
        let debug = reader.switch("DEBUG", raw.debug.as_ref(), false);
        if !reader.problems.is_empty() {
            return Err(ConfigError { problems: reader.problems });
        }
        Ok(Self { log, cluster, cores, storage, http, shutdown, debug, notes })
    }
}

fn cluster(reader: &mut Reader, raw: &RawConfig, machine: &Machine) -> Cluster {
    let namespace = reader.name("NAMESPACE", raw.namespace.as_ref(), "default");
    let region = reader.name("REGION", raw.region.as_ref(), "local");
    let replica_group = reader.name("REPLICA_GROUP", raw.replica_group.as_ref(), "default");
    let instance_id = reader.name("INSTANCE_ID", raw.instance_id.as_ref(), &machine.host_name);
    let count = reader.number("PARTITIONS", raw.partitions.as_ref(), 256, 1..=MOST_PARTITIONS, "partitions");
    let partitions =
        u32::try_from(count).ok().and_then(NonZeroU32::new).expect("the reader keeps it within the range");
    Cluster { namespace, region, replica_group, instance_id, partitions }
}

/// Peers are checked as text and then refused: a node that was told of peers and ignored them would answer
/// for partitions that others hold.
fn gossip(reader: &mut Reader, raw: &RawConfig, notes: &mut Vec<String>) {
    reader.host("ADVERTISE_ADDR", raw.advertise_addr.as_ref());
    if given(raw.advertise_addr.as_ref()).is_some() {
        notes.push("ADVERTISE_ADDR has no effect: this build has no gossip".to_owned());
    }
    if reader.endpoints("GOSSIP_PEERS", raw.gossip_peers.as_ref()) {
        let reason = "this build has no gossip between nodes yet: unset it to run one node on its own";
        reader.refuse("GOSSIP_PEERS", given(raw.gossip_peers.as_ref()), reason);
    }
    reader.milliseconds("GOSSIP_BROADCAST_MS", raw.gossip_broadcast_ms.as_ref(), 1000);
    reader.port("GOSSIP_PORT", raw.gossip_port.as_ref(), 8192);
}

fn storage(reader: &mut Reader, raw: &RawConfig, machine: &Machine, cores: &Cores) -> Storage {
    let log_retention = match given(raw.topic_retention_ms.as_ref()) {
        // Kafka writes "without limit" like this.
        Some("-1") => None,
        _ => reader
            .optional_number(
                "TOPIC_RETENTION_MS",
                raw.topic_retention_ms.as_ref(),
                1..=i64::MAX as u64,
                "milliseconds, or -1 to keep everything",
            )
            .map(Duration::from_millis),
    };
    let max_message_bytes =
        reader.size("MAX_MESSAGE_BYTES", raw.max_message_bytes.as_ref(), MIB, KIB..=32 * MIB, "bytes");
    let log_ack_timeout = reader.milliseconds("LOG_ACK_TIMEOUT_MS", raw.log_ack_timeout_ms.as_ref(), 10_000);
    let db_path = db_path(reader, raw, machine);
    // Up to a tebibyte each; the sum is between the operator and the machine.
    let mebibytes = 0..=MIB;
    let reserve = reader.size("DISK_RESERVE_MB", raw.disk_reserve_mb.as_ref(), 256, mebibytes.clone(), "MiB");
    let cache = reader.size("CACHE_MB", raw.cache_mb.as_ref(), 64, mebibytes, "MiB");
    let store_cache = reader.size(
        "STORE_CACHE_MB",
        raw.store_cache_mb.as_ref(),
        store_cache(machine, cores),
        1..=MIB,
        "MiB",
    );
    Storage {
        db_path,
        disk_reserve_bytes: (reserve * MIB) as u64,
        cache_bytes: cache * MIB,
        store_cache_bytes: store_cache * MIB,
        log_retention,
        max_message_bytes,
        log_ack_timeout,
    }
}

/// By default the stores of all shards together take an eighth of the memory for blocks, in MiB a shard.
fn store_cache(machine: &Machine, cores: &Cores) -> usize {
    let share = usize::try_from(machine.memory).unwrap_or(usize::MAX) / 8 / cores.shards() / MIB;
    share.clamp(64, 1024)
}

/// Whether the directory can be made and written is found out when it is opened; here it only gets a name
/// that stays the same should the process ever change directory.
fn db_path(reader: &mut Reader, raw: &RawConfig, machine: &Machine) -> PathBuf {
    let asked = raw.db_path.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
    let Some(path) = asked.or_else(|| machine.db_path.clone()) else {
        let reason = "this user has no home directory and may not write to /var/firescroll; \
                      accepted: a directory that this user can write to";
        reader.refuse("DB_PATH", None, reason);
        return PathBuf::new();
    };
    match path::absolute(&path) {
        Ok(absolute) => absolute,
        Err(error) => {
            reader.refuse("DB_PATH", Some(&path.to_string_lossy()), format!("is no usable path: {error}"));
            path
        }
    }
}

fn http(
    reader: &mut Reader,
    raw: &RawConfig,
    machine: &Machine,
    cores: &Cores,
    notes: &mut Vec<String>,
) -> Http {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let api_addr = reader.ip("API_ADDR", raw.api_addr.as_ref(), any);
    let api_port = reader.port("API_PORT", raw.api_port.as_ref(), 8190);
    let internal_addr = reader.ip("INTERNAL_ADDR", raw.internal_addr.as_ref(), loopback);
    let internal_port = reader.port("INTERNAL_PORT", raw.internal_port.as_ref(), 8191);
    if api_port == internal_port && api_port != 0 {
        let reason = "API_PORT is the same: clients must not reach the internal port; accepted: another one";
        reader.refuse("INTERNAL_PORT", Some(&internal_port.to_string()), reason);
    }
    let max_connections = connections(reader, raw, machine, cores, notes);
    Http {
        api: SocketAddr::new(api_addr, api_port),
        internal: SocketAddr::new(internal_addr, internal_port),
        max_connections,
        max_requests: reader.size("MAX_REQUESTS", raw.max_requests.as_ref(), 4096, 1..=MIB, "requests"),
        max_body_bytes: reader.size(
            "MAX_BODY_BYTES",
            raw.max_body_bytes.as_ref(),
            8 * MIB,
            KIB..=GIB,
            "bytes",
        ),
        max_response_bytes: reader.size(
            "MAX_RESPONSE_BYTES",
            raw.max_response_bytes.as_ref(),
            64 * MIB,
            64 * KIB..=GIB,
            "bytes",
        ),
        head_timeout: reader.milliseconds("HEAD_TIMEOUT_MS", raw.head_timeout_ms.as_ref(), 10_000),
        body_timeout: reader.milliseconds("BODY_TIMEOUT_MS", raw.body_timeout_ms.as_ref(), 30_000),
        idle_timeout: reader.milliseconds("IDLE_TIMEOUT_MS", raw.idle_timeout_ms.as_ref(), 75_000),
        write_timeout: reader.milliseconds("WRITE_TIMEOUT_MS", raw.write_timeout_ms.as_ref(), 30_000),
        gzip: reader.switch("HTTP_GZIP", raw.http_gzip.as_ref(), false),
        cors: reader.switch("HTTP_CORS", raw.http_cors.as_ref(), true),
    }
}

/// Backups are refused when asked for: an operator who believes in a backup must have one.
fn backup(reader: &mut Reader, raw: &RawConfig, notes: &mut Vec<String>) {
    if reader.switch("BACKUP", raw.backup.as_ref(), false) {
        let reason = "this build has no backups to S3 yet: set it to 0, and use `firescroll export`";
        reader.refuse("BACKUP", given(raw.backup.as_ref()), reason);
    }
    if reader.switch("S3_RESTORE", raw.s3_restore.as_ref(), false) {
        let reason = "this build has no backups to S3 yet: set it to 0, and use `firescroll import`";
        reader.refuse("S3_RESTORE", given(raw.s3_restore.as_ref()), reason);
    }
    reader.url("S3_ENDPOINT", raw.s3_endpoint.as_ref());
    reader.seconds("BACKUP_INTERVAL_SEC", raw.backup_interval_sec.as_ref(), 43_200, 1..=31_536_000);
    reader.seconds("BACKUP_TIMEOUT_SEC", raw.backup_timeout_sec.as_ref(), 120, 1..=86_400);
    if given(raw.s3_endpoint.as_ref()).is_some() || given(raw.s3_bucket.as_ref()).is_some() {
        notes.push("S3_ENDPOINT and S3_BUCKET have no effect: this build has no backups".to_owned());
    }
}

#[cfg(test)]
mod tests;

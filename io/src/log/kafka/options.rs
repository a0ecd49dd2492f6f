//! How to reach the brokers, and what of that each kind of client is told.
//!
//! **Not here**: names of topics and groups ([`super::names`]), the variables that these come from.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

/// Where the brokers are, who this process is to them, and which topics it works with.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port` of some brokers, separated by commas.
    pub seeds: String,
    /// Encryption; `None` speaks in the clear.
    pub tls: Option<Tls>,
    /// Log in with SCRAM; `None` does not.
    pub sasl: Option<Sasl>,
    /// The namespace, which names the topics.
    pub namespace: String,
    /// The consumer group: one for each copy of the data.
    pub group: String,
    /// This process's name within the group, kept over restarts.
    pub instance: String,
    /// Where this process is, so that it fetches from a replica nearby.
    pub rack: String,
    /// How long the group waits for a silent member.
    pub session: Duration,
    /// How many partitions the namespace has.
    pub partitions: u32,
    /// The most bytes that key and value of one message may have.
    pub max_message_bytes: usize,
    /// How long a message may take until it is acknowledged.
    pub ack_timeout: Duration,
    /// How long to try to reach the brokers when the log is opened.
    pub connect_timeout: Duration,
}

/// How connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates that the brokers' are checked against; the system's without.
    pub ca: Option<PathBuf>,
}

/// The SCRAM variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    #[default]
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// User name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    /// The variant.
    pub mechanism: Mechanism,
    /// User name.
    pub user: String,
    /// Password; never printed.
    pub password: String,
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sasl").field("user", &self.user).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("seeds", &self.seeds)
            .field("namespace", &self.namespace)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// librdkafka keeps the whole of a fetched batch; a member holds at most so much that it has not been asked for.
const FETCH_BUFFER_KIB: u32 = 32 << 10;

impl KafkaOptions {
    /// What every client needs.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Its lines say why a connection failed, which its errors often do not.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
            .set("bootstrap.servers", &self.seeds)
            .set("client.id", format!("firescroll-{}", self.instance))
            .set("client.rack", &self.rack)
            // A change of leaders is found out by errors; this is for a topic that grows.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("metadata.max.age.ms", "30000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("socket.connection.setup.timeout.ms", "5000")
            // For requests that carry no message. A producer whose message timed out under way asks for a new number before
            // it sends another; if that request is lost in a broker that stands still, a minute would pass (the default).
            .set("socket.timeout.ms", "10000")
            .set("allow.auto.create.topics", "false");
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(ca) = self.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            config.set("ssl.ca.location", ca.to_string_lossy());
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                Mechanism::Sha256 => "SCRAM-SHA-256",
                Mechanism::Sha512 => "SCRAM-SHA-512",
            };
            config.set("sasl.mechanism", mechanism);
            config.set("sasl.username", &sasl.user).set("sasl.password", &sasl.password);
        }
        config
    }

    /// A producer whose acknowledgement means: on all in-sync replicas, once, in order.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0.5")
            .set("compression.type", "lz4")
            .set("message.timeout.ms", self.ack_timeout.as_millis().to_string())
            .set("request.timeout.ms", self.ack_timeout.as_millis().clamp(1000, 30_000).to_string())
            // Key, value and what the protocol adds.
            .set("message.max.bytes", (self.max_message_bytes + 4096).to_string())
            // Our own limits are lower and refuse first, with nothing queued.
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", (1 << 20).to_string());
        config
    }

    /// A reader without a group, whose partitions are given to it.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.client();
        config
            // librdkafka wants one, though nothing is joined or committed by a reader.
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false")
            .set("check.crcs", "true")
            // A broker answers as soon as it has a byte; a partition that comes to a fetch under way waits for so long.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", FETCH_BUFFER_KIB.to_string())
            .set("fetch.message.max.bytes", (1 << 20).to_string())
            .set("receive.message.max.bytes", (192 << 20).to_string());
        config
    }

    /// A member of the group.
    pub(super) fn member(&self) -> ClientConfig {
        let mut config = self.reader();
        let session = self.session.as_millis();
        config
            .set("group.instance.id", &self.instance)
            .set("session.timeout.ms", session.to_string())
            .set("heartbeat.interval.ms", (session / 3).clamp(100, 3000).to_string())
            // A revoked partition must be flushed within this time.
            .set("max.poll.interval.ms", session.max(300_000).to_string())
            .set("partition.assignment.strategy", "cooperative-sticky");
        config
    }
}

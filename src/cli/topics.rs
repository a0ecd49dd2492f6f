//! `firescroll topics create | check`: the two topics of a namespace, made and looked over.
//!
//! Settings are those of `firescroll serve`, under the same names; so what is checked is what the nodes will need.

use clap::{Args, Subcommand};
use firescroll_io::log::LogError;
use firescroll_io::log::kafka::{self, KafkaOptions, TopicPlan};

use super::Outcome;
use super::failure::Failure;
use crate::config::{Config, LogKind, RawConfig, Secret};
use crate::node::kafka_options;

pub(super) const EXAMPLES: &str = "\
Examples:
  KAFKA_SEEDS=kafka:9092 NAMESPACE=dns firescroll topics create --replication 3
  KAFKA_SEEDS=kafka:9092 NAMESPACE=dns firescroll topics check

Exit codes: 0 made, or nothing to say; 1 a setting is unsafe; 2 mistake or refusal; 3 Kafka is not reachable.";

/// How long mutations are kept when nobody says: a week, far longer than any node should be away.
const RETENTION_MS: u64 = 7 * 24 * 3600 * 1000;

/// `firescroll topics`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Topics {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the topics of a namespace with safe settings; those that exist are left as they are
    Create(Create),
    /// Look for settings of the topics that could lose or refuse mutations
    Check(Settings),
}

#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    settings: Settings,
    /// Replicas of each partition [default: the cluster's]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    replication: Option<u16>,
    /// Replicas that must have a mutation before it is acknowledged [default: one less than the replicas, at least 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    min_in_sync: Option<u16>,
}

/// The part of a node's settings that concerns topics.
#[derive(Debug, Args)]
struct Settings {
    /// Kafka or Redpanda brokers to start from
    #[arg(long, env = "KAFKA_SEEDS", value_name = "HOST:PORT,...", required = true)]
    kafka_seeds: String,
    /// The data set, the same in all regions [default: default]
    #[arg(long, env = "NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// Partitions of the namespace, never changed afterwards [default: 256]
    #[arg(long, env = "PARTITIONS", value_name = "COUNT")]
    partitions: Option<String>,
    /// How long mutations are kept, in milliseconds; -1 keeps everything [default: 604800000, a week]
    #[arg(long, env = "TOPIC_RETENTION_MS", value_name = "MS", allow_negative_numbers = true)]
    topic_retention_ms: Option<String>,
    /// The largest mutation that the nodes accept [default: 1048576]
    #[arg(long, env = "MAX_MESSAGE_BYTES", value_name = "BYTES")]
    max_message_bytes: Option<String>,
    /// Whether connections to Kafka are encrypted [default: 0]
    #[arg(long, env = "KAFKA_TLS", value_name = "0|1", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    kafka_tls: Option<String>,
    /// Certificates that Kafka's is checked against [default: the system's]
    #[arg(long, env = "KAFKA_TLS_CA_PATH", value_name = "FILE")]
    kafka_tls_ca_path: Option<String>,
    /// User name for Kafka, together with KAFKA_PASS [default: none]
    #[arg(long, env = "KAFKA_USER", value_name = "NAME")]
    kafka_user: Option<String>,
    /// Password for Kafka. Prefer the variable [default: none]
    #[arg(long, env = "KAFKA_PASS", value_name = "SECRET", hide_env_values = true)]
    kafka_pass: Option<Secret>,
    /// How KAFKA_USER logs in: SCRAM-SHA-256 or SCRAM-SHA-512 [default: SCRAM-SHA-256]
    #[arg(long, env = "KAFKA_SASL_MECHANISM", value_name = "NAME")]
    kafka_sasl_mechanism: Option<String>,
    /// How long to wait for the brokers, in milliseconds [default: 30000]
    #[arg(long, env = "KAFKA_CONNECT_TIMEOUT_MS", value_name = "MS")]
    kafka_connect_timeout_ms: Option<String>,
}

impl Settings {
    /// Checked as a node would check them; and how long the nodes are told that mutations are kept.
    fn checked(&self) -> Result<(KafkaOptions, Option<u64>), Failure> {
        let raw = RawConfig {
            kafka_seeds: Some(self.kafka_seeds.clone()),
            namespace: self.namespace.clone(),
            partitions: self.partitions.clone(),
            topic_retention_ms: self.topic_retention_ms.clone(),
            max_message_bytes: self.max_message_bytes.clone(),
            kafka_tls: self.kafka_tls.clone(),
            kafka_tls_ca_path: self.kafka_tls_ca_path.clone(),
            kafka_user: self.kafka_user.clone(),
            kafka_pass: self.kafka_pass.clone(),
            kafka_sasl_mechanism: self.kafka_sasl_mechanism.clone(),
            kafka_connect_timeout_ms: self.kafka_connect_timeout_ms.clone(),
            // Neither has a part in this.
            region: Some("topics".to_owned()),
            db_path: Some("/".into()),
            ..RawConfig::default()
        };
        let config = Config::validate(&raw).map_err(|error| Failure::Usage(error.to_string()))?;
        let LogKind::Kafka(kafka) = &config.log else {
            return Err(Failure::Usage("KAFKA_SEEDS is empty: there are no topics without Kafka".to_owned()));
        };
        let kept = config.storage.log_retention.and_then(|kept| u64::try_from(kept.as_millis()).ok());
        Ok((kafka_options(&config, kafka), kept))
    }
}

impl Topics {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        match &self.action {
            Action::Create(create) => create.run(),
            Action::Check(settings) => {
                let (options, kept) = settings.checked()?;
                check(&options, kept)
            }
        }
    }
}

impl Create {
    fn run(&self) -> Result<Outcome, Failure> {
        let (options, kept) = self.settings.checked()?;
        let asked = self.settings.topic_retention_ms.as_deref().is_some_and(|text| !text.trim().is_empty());
        let plan = TopicPlan {
            replication: self.replication,
            min_in_sync: self.min_in_sync,
            retention_ms: if asked { kept } else { Some(RETENTION_MS) },
        };
        let made = kafka::create_topics(&options, plan).map_err(failure)?;
        let all_new = made.iter().all(|topic| !topic.existed);
        for topic in &made {
            let what = if topic.existed { "exists, left as it is" } else { "made" };
            println!("{}: {what}", topic.topic);
        }
        if all_new {
            if !asked {
                println!(
                    "mutations are kept for a week: start the nodes with TOPIC_RETENTION_MS={RETENTION_MS}"
                );
            }
            return Ok(Outcome::Complete);
        }
        check(&options, plan.retention_ms)
    }
}

fn check(options: &KafkaOptions, kept: Option<u64>) -> Result<Outcome, Failure> {
    let findings = kafka::check_topics(options, kept).map_err(failure)?;
    if findings.is_empty() {
        println!("both topics are as they should be");
        return Ok(Outcome::Complete);
    }
    for finding in &findings {
        println!("{finding}");
    }
    Ok(Outcome::Partial)
}

fn failure(error: LogError) -> Failure {
    match error {
        LogError::Unreachable { seeds, reason } => {
            Failure::Unreachable { url: format!("Kafka at {seeds} (KAFKA_SEEDS)"), reason }
        }
        _ => Failure::Usage(error.to_string()),
    }
}

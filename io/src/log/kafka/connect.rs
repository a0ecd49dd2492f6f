//! The first contact with the brokers: are they there, do they let us in, and are the topics what we think they are.
//!
//! **Runs on**: the thread that opens the log. Blocks, for a bounded time.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use super::context::Context;
use super::options::KafkaOptions;
use crate::log::LogError;

const ONE_TRY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// What the brokers say about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// It has so many partitions.
    Partitions(u32),
    /// They do not know it.
    Missing,
}

/// A client that only asks.
pub(super) fn observer(options: &KafkaOptions, context: Context) -> Result<BaseConsumer<Context>, LogError> {
    options.reader().create_with_context(context).map_err(|error| {
        LogError::Options(format!("Kafka's client: {}", describe(options, &error.to_string())))
    })
}

fn describe(options: &KafkaOptions, error: &str) -> String {
    match options.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        Some(ca) if error.contains("ssl.ca.location") => {
            format!("KAFKA_TLS_CA_PATH: {} cannot be used: {error}", ca.display())
        }
        _ => error.to_owned(),
    }
}

/// Asks about a topic until the brokers answer.
///
/// # Errors
/// [`LogError::Unreachable`] after `connect_timeout`; [`LogError::Refused`] at once when the brokers do not let us in.
pub(super) fn topic(
    options: &KafkaOptions,
    client: &BaseConsumer<Context>,
    topic: &str,
) -> Result<Topic, LogError> {
    let health = &client.context().health;
    let deadline = Instant::now() + options.connect_timeout;
    loop {
        let last = match client.fetch_metadata(Some(topic), ONE_TRY) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
                match (found, error) {
                    (None, _)
                    | (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) =>
                    {
                        return Ok(Topic::Missing);
                    }
                    (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                        return Err(LogError::Refused {
                            reason: format!(
                                "Kafka does not let this user see the topic {topic}; \
                                 it needs the rights to describe, read and write it"
                            ),
                        });
                    }
                    (Some(found), None) if !found.partitions().is_empty() => {
                        let count = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
                        return Ok(Topic::Partitions(count));
                    }
                    (_, error) => {
                        error.map_or_else(|| "no partitions yet".to_owned(), |code| code.to_string())
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        // Brings the reasons of failed connections.
        let _ = client.poll(Duration::ZERO);
        if let Some(trouble) = health.trouble().filter(|trouble| trouble.is_refusal()) {
            return Err(LogError::Refused { reason: refusal(options, trouble.code, &trouble.reason) });
        }
        if Instant::now() >= deadline {
            let reason = health.trouble().map_or(last, |trouble| trouble.reason);
            return Err(LogError::Unreachable {
                seeds: options.seeds.clone(),
                reason: format!("{reason}{}", hint(options, &reason)),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// What a connection that was made and then broken off may mean: a broker hangs up on what it does not understand.
fn hint(options: &KafkaOptions, reason: &str) -> &'static str {
    let was_there =
        ["in state UP", "Disconnected", "in state APIVERSION"].iter().any(|sign| reason.contains(sign));
    match (&options.tls, &options.sasl) {
        _ if !was_there => "",
        (None, None) => "; does it want TLS (KAFKA_TLS) or a login (KAFKA_USER, KAFKA_PASS)?",
        (Some(_), None) => "; does it want a login (KAFKA_USER, KAFKA_PASS)?",
        (None, Some(_)) => "; does it want TLS (KAFKA_TLS)?",
        (Some(_), Some(_)) => "; does it speak TLS and SASL on that port?",
    }
}

/// The refusal in the words of the settings.
fn refusal(options: &KafkaOptions, code: RDKafkaErrorCode, reason: &str) -> String {
    let user = options.sasl.as_ref().map(|sasl| sasl.user.as_str());
    match (code, user) {
        (RDKafkaErrorCode::SSL, _) => {
            let checked = match options.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
                Some(ca) => format!("the certificates in {} (KAFKA_TLS_CA_PATH)", ca.display()),
                None => "the system's certificates (KAFKA_TLS_CA_PATH names others)".to_owned(),
            };
            format!("the TLS handshake with Kafka failed, checked against {checked}: {reason}")
        }
        (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed, _) => {
            format!("Kafka does not grant a right that this node needs: {reason}")
        }
        // Not a refusal in words: the broker hangs up on what it does not understand.
        _ if reason.contains("security.protocol") => format!(
            "Kafka hung up, as brokers do on a listener that wants TLS (KAFKA_TLS) or a login (KAFKA_USER, KAFKA_PASS): {reason}"
        ),
        (_, Some(user)) => format!("Kafka does not let {user:?} in (KAFKA_USER, KAFKA_PASS): {reason}"),
        (_, None) => format!("Kafka wants a login (KAFKA_USER, KAFKA_PASS): {reason}"),
    }
}

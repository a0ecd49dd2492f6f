//! What librdkafka tells its clients besides answers: log lines and errors of connections.
//!
//! **Runs on**: librdkafka's threads and whoever polls. It only writes to a small shared state.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Trouble that goes on is said again after this time.
const REPEAT: Duration = Duration::from_secs(10);

/// How the connections of all clients of this process are.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<Trouble>>,
    /// When a broker was out of reach last; kept when the trouble is over.
    outage: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
    said: Instant,
}

impl Trouble {
    /// Whether trying again cannot help until somebody changes something.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.code,
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
        )
    }
}

impl Health {
    /// Notes trouble; a line in the log, unless the same was said a moment ago.
    pub(super) fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if is_outage(code) {
            *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        // A refusal is the cause, what comes after it is its consequence.
        if trouble.as_ref().is_some_and(Trouble::is_refusal) && !is_refusal(code) {
            return;
        }
        // That all brokers are away says less than why the last of them is.
        if code == RDKafkaErrorCode::AllBrokersDown {
            let said = now.checked_sub(REPEAT).unwrap_or(now);
            trouble.get_or_insert_with(|| Trouble { code, reason: reason.to_owned(), said });
            return;
        }
        // Several brokers and clients fail in several words at once: one line for all of them, now and then.
        let said = trouble.as_ref().filter(|t| now - t.said < REPEAT && t.is_refusal() == is_refusal(code));
        let said = said.map(|t| t.said).unwrap_or_else(|| {
            tracing::warn!("Kafka: {reason} ({code:?}); trying again");
            now
        });
        *trouble = Some(Trouble { code, reason: reason.to_owned(), said });
    }

    /// A broker has answered: whatever was wrong is over.
    pub(super) fn clear(&self) {
        let over = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if over.is_some_and(|trouble| trouble.said.elapsed() > Duration::from_secs(1)) {
            tracing::info!("Kafka answers again");
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a broker was out of reach within so long.
    pub(super) fn had_outage(&self, within: Duration) -> bool {
        let outage = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.is_some_and(|at| at.elapsed() < within)
    }
}

fn is_refusal(code: RDKafkaErrorCode) -> bool {
    Trouble { code, reason: String::new(), said: Instant::now() }.is_refusal()
}

fn is_outage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
    )
}

/// The context of clients that need no other.
#[derive(Clone, Default)]
pub(super) struct Context {
    pub(super) health: Arc<Health>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(&self.health, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note(&self.health, &error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Context {}

/// librdkafka's lines are for those who debug it: what an operator must know comes as an error as well.
pub(super) fn log(health: &Health, level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: "librdkafka", ?level, "{facility}: {message}");
    // Consumers get the code of a refused connection without its reason: the line has both.
    if facility == "FAIL" {
        if message.contains("SASL")
            || message.contains("uthentication")
            || message.contains("security.protocol")
        {
            health.note(RDKafkaErrorCode::Authentication, tail(message));
        } else if message.contains("handshake failed") || message.contains("certificate") {
            health.note(RDKafkaErrorCode::SSL, tail(message));
        } else {
            health.note(RDKafkaErrorCode::BrokerTransportFailure, tail(message));
        }
    }
}

/// The message without librdkafka's names of threads and instances.
fn tail(message: &str) -> &str {
    message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest)
}

pub(super) fn note(health: &Health, error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        Some(code) => health.note(code, tail(reason)),
        None => tracing::warn!("Kafka: {error}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_hidden_by_what_it_leads_to() {
        let health = Health::default();
        health.note(RDKafkaErrorCode::Authentication, "wrong password");
        health.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let trouble = health.trouble().expect("noted");
        assert!(trouble.is_refusal());
        assert_eq!(trouble.reason, "wrong password");
        health.clear();
        assert!(health.trouble().is_none());
    }

    #[test]
    fn names_of_threads_are_left_out() {
        assert_eq!(tail("[thrd:sasl://b:1/bootstrap]: b:1/bootstrap: refused"), "b:1/bootstrap: refused");
        assert_eq!(tail("refused"), "refused");
    }

    #[test]
    fn outages_are_remembered_when_they_are_over() {
        let health = Health::default();
        health.note(RDKafkaErrorCode::FencedInstanceId, "said by a broker that answers");
        assert!(!health.had_outage(Duration::from_secs(60)));
        health.note(RDKafkaErrorCode::BrokerTransportFailure, "connection refused");
        health.clear();
        assert!(health.trouble().is_none() && health.had_outage(Duration::from_secs(60)));
        assert!(!health.had_outage(Duration::ZERO));
    }
}

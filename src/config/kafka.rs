//! The settings of Kafka: all of them are checked, and used where `KAFKA_SEEDS` is set.
//!
//! **Not here**: whether the brokers agree; opening the log finds that out.

use std::path::PathBuf;

use super::reader::{Reader, given};
use super::{Kafka, LogKind, Mechanism, RawConfig};

/// The log that the settings ask for.
pub(super) fn log(reader: &mut Reader, raw: &RawConfig, region: &str, notes: &mut Vec<String>) -> LogKind {
    let seeds = reader.endpoints("KAFKA_SEEDS", raw.kafka_seeds.as_ref());
    let tls = reader.switch("KAFKA_TLS", raw.kafka_tls.as_ref(), false);
    let tls_ca = given(raw.kafka_tls_ca_path.as_ref());
    if tls_ca.is_some() && !tls {
        reader.refuse("KAFKA_TLS_CA_PATH", tls_ca, "is used with KAFKA_TLS=1 only: set both or neither");
    }
    let user = given(raw.kafka_user.as_ref());
    let password = raw.kafka_pass.as_ref().filter(|secret| !secret.expose().is_empty());
    if user.is_some() && password.is_none() {
        reader.refuse("KAFKA_USER", user, "is used together with KAFKA_PASS only: set both or neither");
    }
    if password.is_some() && user.is_none() {
        reader.refuse("KAFKA_PASS", None, "is used together with KAFKA_USER only: set both or neither");
    }
    let mechanism = mechanism(reader, raw);
    let session = reader.milliseconds("KAFKA_SESSION_MS", raw.kafka_session_ms.as_ref(), 60_000);
    let rack = reader.name("KAFKA_RACK", raw.kafka_rack.as_ref(), region);
    let connect_timeout =
        reader.milliseconds("KAFKA_CONNECT_TIMEOUT_MS", raw.kafka_connect_timeout_ms.as_ref(), 30_000);
    if !seeds {
        if tls || user.is_some() {
            notes.push("KAFKA_TLS and KAFKA_USER have no effect: the log is the embedded one".to_owned());
        }
        return LogKind::Embedded;
    }
    if given(raw.region.as_ref()).is_none() {
        let reason = "must be set with KAFKA_SEEDS: it names the consumer group, and two regions that share one \
                      would each get a part of the data";
        reader.refuse("REGION", None, reason);
    }
    LogKind::Kafka(Kafka {
        seeds: given(raw.kafka_seeds.as_ref()).unwrap_or_default().to_owned(),
        tls,
        tls_ca: tls_ca.map(PathBuf::from),
        login: user.zip(password).map(|(user, password)| (user.to_owned(), password.clone())),
        mechanism,
        session,
        rack,
        connect_timeout,
    })
}

fn mechanism(reader: &mut Reader, raw: &RawConfig) -> Mechanism {
    match given(raw.kafka_sasl_mechanism.as_ref()) {
        None | Some("SCRAM-SHA-256") => Mechanism::Sha256,
        Some("SCRAM-SHA-512") => Mechanism::Sha512,
        other => {
            reader.refuse("KAFKA_SASL_MECHANISM", other, "accepted: SCRAM-SHA-256 or SCRAM-SHA-512");
            Mechanism::Sha256
        }
    }
}

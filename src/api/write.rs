//! Writes: put, delete, batch and the single record.
//!
//! body → log messages (`api::request`) → `Log::append` → the log's acknowledgement → positions for the session token.
//! Nothing is applied here: the mutation comes back through the log, to this node as to all others.
//!
//! Invariants: a refused request has logged nothing; 200 means that the log holds every message durably.
//! Runs on: serving cores. Not here: apply.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use firescroll_io::log::{AppendError, Message};
use firescroll_io::runtime::Timer;
use firescroll_shard::{Offset, PartitionId};
use futures_lite::future::or;

use super::offload::INLINE_BYTES;
use super::request::Parser;
use super::session::Position;
use crate::core::Core;
use crate::error::ApiError;

/// What a request's body asks for.
#[derive(Debug, Clone)]
pub enum Write {
    /// `POST /records/put`.
    Put,
    /// `POST /records/delete`.
    Delete,
    /// `POST /records/batch`.
    Batch,
    /// `PUT /records/{pk}/{sk}`.
    PutOne(String, String),
    /// `DELETE /records/{pk}/{sk}`.
    DeleteOne(String, String),
}

impl Write {
    fn parse(&self, parser: &mut Parser, body: &[u8]) -> Result<Vec<Message>, ApiError> {
        let now = now_ms();
        match self {
            Self::Put => parser.put(body, now),
            Self::Delete => parser.delete(body, now),
            Self::Batch => parser.batch(body, now),
            Self::PutOne(pk, sk) => parser.put_one(pk, sk, body, now),
            Self::DeleteOne(pk, sk) => parser.delete_one(pk, sk, now),
        }
    }
}

/// Sender's time in Unix ms, for `ts_ms`; no record's times depend on it.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Logs what the body asks for and waits for the acknowledgement.
///
/// # Errors
/// A wrong body; a log, disk or store that takes no writes; an acknowledgement that did not come in time.
pub async fn write(core: &Core, kind: Write, body: Bytes) -> Result<Vec<Position>, ApiError> {
    let messages = if body.len() <= INLINE_BYTES {
        kind.parse(&mut core.parser.borrow_mut(), &body)?
    } else {
        core.offload.run(move |parser| kind.parse(parser, &body)).await?
    };
    refuse_if_not_writable(core, &messages)?;
    let partitions: Vec<u32> = messages.iter().map(|message| message.partition).collect();
    let ack = core.log.append(messages).map_err(|error| refusal(&error))?;
    let acknowledged = async { Some(ack.await) };
    let late = async {
        Timer::new(core.settings.log_ack_timeout).await;
        None
    };
    let offsets = match or(acknowledged, late).await {
        Some(Ok(offsets)) => offsets.map_err(|error| refusal(&error))?,
        Some(Err(_)) => return Err(ApiError::unavailable("the log has been closed before it acknowledged")),
        None => {
            return Err(ApiError::unavailable(format!(
                "the log has not acknowledged within {} ms (LOG_ACK_TIMEOUT_MS); the write may still be applied",
                core.settings.log_ack_timeout.as_millis()
            )));
        }
    };
    Ok(partitions
        .into_iter()
        .zip(offsets)
        .map(|(partition, offset)| Position { partition: PartitionId(partition), offset: Offset(offset) })
        .collect())
}

/// A write that the node could log but not apply would be acknowledged and never seen: it is refused first.
fn refuse_if_not_writable(core: &Core, messages: &[Message]) -> Result<(), ApiError> {
    if let Some(free) = core.progress.starved() {
        return Err(ApiError::unavailable(format!(
            "the disk of DB_PATH has {free} bytes left, less than DISK_RESERVE_MB keeps; free some space to write again"
        )));
    }
    if let Some(reason) = core.progress.failed() {
        return Err(ApiError::unavailable(format!("the node cannot read its log any further: {reason}")));
    }
    if core.log.is_shared() {
        // Other replicas apply it.
        return Ok(());
    }
    let mut failed: Vec<PartitionId> = messages
        .iter()
        .map(|message| PartitionId(message.partition))
        .filter(|partition| core.progress.poisoned(*partition))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    failed.sort_unstable();
    failed.dedup();
    Err(ApiError::Unavailable {
        detail: "the store of the record's partition has failed".into(),
        partitions: failed,
    })
}

fn refusal(error: &AppendError) -> ApiError {
    match error {
        AppendError::TooLarge { .. } | AppendError::RefusedTooLarge { .. } => {
            ApiError::TooLarge(error.to_string())
        }
        AppendError::Overloaded => ApiError::Overloaded(error.to_string()),
        _ => ApiError::unavailable(error.to_string()),
    }
}

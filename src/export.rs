//! A whole partition for the internal port: as lines of JSON, or as a hash of its state.
//!
//! The owning core walks a consistent view in slices and hands over chunks through a bounded channel; a reader that is
//! gone or too slow ends the walk.
//!
//! Runs on: the serving core that owns the partition. Not here: the internal port (`internal`), restoring.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firescroll_io::runtime::Timer;
use firescroll_shard::{Export, PartitionId, Progress, StateHash};
use futures_channel::oneshot;
use futures_lite::future::or;
use serde::Serialize;

use crate::core::Core;
use crate::error::ApiError;

const SLICE: Duration = Duration::from_micros(80);
const CHUNK_BYTES: usize = 64 * 1024;
const ROWS_PER_CLOCK: u64 = 16;
const READER_DEADLINE: Duration = Duration::from_secs(30);

/// The form in which the control core wants a partition.
pub enum Rows {
    /// Chunks of lines, one record a line; an empty chunk at the end says that it is whole.
    Lines(flume::Sender<Result<Bytes, ApiError>>),
    /// The hash of all records.
    Hash(oneshot::Sender<Result<HashReport, ApiError>>),
}

/// The state of a partition in short: equal for all replicas that have applied the same offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HashReport {
    /// The partition.
    pub partition: u32,
    /// The first offset that the state does not hold.
    pub next: u64,
    /// Number of records.
    pub records: u64,
    /// Their hash in hexadecimal digits (`firescroll_shard::StateHash`).
    pub hash: String,
}

/// Walks a partition and delivers it.
pub async fn run(core: Rc<Core>, partition: PartitionId, rows: Rows) {
    let opened = core
        .owner
        .borrow()
        .export(partition)
        .map_err(|error| ApiError::Unavailable { detail: error.to_string(), partitions: vec![partition] });
    match rows {
        Rows::Hash(to) => {
            let report = match opened {
                Ok(export) => hash(&core, partition, export).await,
                Err(error) => Err(error),
            };
            // The asker may have gone.
            let _ = to.send(report);
        }
        Rows::Lines(to) => match opened {
            Ok(export) => lines(&core, partition, export, &to).await,
            Err(error) => {
                sent(&to, Err(error)).await;
            }
        },
    }
}

async fn hash(core: &Core, partition: PartitionId, mut export: Export) -> Result<HashReport, ApiError> {
    let next = export.next().0;
    let mut hash = StateHash::new();
    let mut records = 0u64;
    let mut turn = Instant::now();
    while let Some(row) = export.next_row().map_err(|error| broken(partition, &error))? {
        hash.update(row.key(), row.stored());
        records += 1;
        if records.is_multiple_of(ROWS_PER_CLOCK) && turn.elapsed() > SLICE {
            core.turns.take().await;
            turn = Instant::now();
        }
    }
    Ok(HashReport { partition: partition.0, next, records, hash: hash.to_string() })
}

async fn lines(
    core: &Core,
    partition: PartitionId,
    mut export: Export,
    to: &flume::Sender<Result<Bytes, ApiError>>,
) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let left = CHUNK_BYTES.saturating_sub(chunk.len());
        match export.fill(&mut chunk, left, SLICE) {
            Ok(Progress::More) if chunk.len() < CHUNK_BYTES => {}
            Ok(progress) => {
                let full = Bytes::from(std::mem::take(&mut chunk));
                if !full.is_empty() && !sent(to, Ok(full)).await {
                    return;
                }
                if progress == Progress::Done {
                    sent(to, Ok(Bytes::new())).await;
                    return;
                }
            }
            Err(error) => {
                sent(to, Err(broken(partition, &error))).await;
                return;
            }
        }
        core.turns.take().await;
    }
}

fn broken(partition: PartitionId, error: &firescroll_shard::Unavailable) -> ApiError {
    ApiError::Unavailable { detail: error.to_string(), partitions: vec![partition] }
}

/// Whether the reader took the chunk in time.
async fn sent(to: &flume::Sender<Result<Bytes, ApiError>>, chunk: Result<Bytes, ApiError>) -> bool {
    let taken = async { to.send_async(chunk).await.is_ok() };
    let late = async {
        Timer::new(READER_DEADLINE).await;
        false
    };
    or(taken, late).await
}

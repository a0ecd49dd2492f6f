//! Why a partition does not answer. Absent, unavailable and failed are three different things.

use crate::key::PartitionId;
use std::sync::Arc;

/// A partition that cannot be read or written here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Another shard or node has it; the request went astray.
    #[error("partition {partition} is not held here")]
    NotOwned {
        /// The partition asked for.
        partition: PartitionId,
    },
    /// Its store failed, and it stays out until a restart, which replays what is missing from the log.
    #[error("partition {partition} has stopped: {reason}")]
    Poisoned {
        /// The partition asked for.
        partition: PartitionId,
        /// What failed, and what the operator does.
        reason: Arc<str>,
    },
    /// This read failed; others may succeed. Look at the device.
    #[error("partition {partition} could not be read: {reason}")]
    Failed {
        /// The partition asked for.
        partition: PartitionId,
        /// What failed.
        reason: Arc<str>,
    },
}

impl Unavailable {
    /// The partition in question.
    pub fn partition(&self) -> PartitionId {
        match self {
            Unavailable::NotOwned { partition }
            | Unavailable::Poisoned { partition, .. }
            | Unavailable::Failed { partition, .. } => *partition,
        }
    }

    pub(crate) fn failed(partition: PartitionId, error: &impl ToString) -> Unavailable {
        Unavailable::Failed { partition, reason: error.to_string().into() }
    }
}

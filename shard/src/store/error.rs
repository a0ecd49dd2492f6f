//! What can go wrong with a store, told apart by what the operator does about it.

use crate::key::PartitionId;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Which store, and which partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    partition: Option<PartitionId>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "partition {partition} in {}", self.path.display()),
            None => write!(f, "store {}", self.path.display()),
        }
    }
}

/// A failed operation on a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or partition that must be there is not. Check the mount and `DB_PATH`.
    #[error("{place}: not found: {what}")]
    Absent {
        /// Where.
        place: Place,
        /// What is missing.
        what: String,
    },
    /// Another process holds the store. Stop it, or give this one another `DB_PATH`.
    #[error("{place}: held by another process")]
    Locked {
        /// Where.
        place: Place,
    },
    /// The disk is full. Free space and restart; nothing is lost, the log replays what is missing.
    #[error("{place}: the disk is full; free space and restart, the log replays what is missing")]
    Full {
        /// Where.
        place: Place,
    },
    /// The operating system refused. Look at the device and its permissions, then restart.
    #[error("{place}: {source}")]
    Io {
        /// Where.
        place: Place,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier write or fsync failed, and the store accepts no more writes. Check the device, then
    /// restart.
    #[error(
        "{place}: an earlier write or fsync failed, no more writes are accepted; check the device and restart"
    )]
    Poisoned {
        /// Where.
        place: Place,
    },
    /// Bytes on disk are damaged or of another build. Remove the store; it is rebuilt from the log or a
    /// backup.
    #[error("{place}: damaged: {what}; remove it to rebuild it from the log")]
    Corrupt {
        /// Where.
        place: Place,
        /// What is damaged.
        what: String,
    },
    /// The stores were made for another configuration. Restore the number of partitions that they were made
    /// with.
    #[error("{place}: {what}")]
    Layout {
        /// Where.
        place: Place,
        /// What differs.
        what: String,
    },
    /// A step was stopped on purpose by the caller's hook.
    #[error("{place}: stopped: {what}")]
    Stopped {
        /// Where.
        place: Place,
        /// The reason given.
        what: String,
    },
}

impl StoreError {
    /// An error for hooks that stop a store's work at some point.
    pub fn stopped(path: &Path, what: impl Into<String>) -> StoreError {
        StoreError::Stopped { place: Place::store(path), what: what.into() }
    }

    /// The store accepts no more writes.
    pub(crate) fn poisoned(path: &Path) -> StoreError {
        StoreError::Poisoned { place: Place::store(path) }
    }

    /// The store's thread could not be started.
    pub(crate) fn thread(path: &Path, source: io::Error) -> StoreError {
        Place::store(path).io(source)
    }
}

impl Place {
    pub(crate) fn store(path: &Path) -> Place {
        Place { path: path.to_owned(), partition: None }
    }

    pub(crate) fn partition(path: &Path, partition: PartitionId) -> Place {
        Place { path: path.to_owned(), partition: Some(partition) }
    }

    pub(crate) fn corrupt(self, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { place: self, what: what.into() }
    }

    pub(crate) fn layout(self, what: impl Into<String>) -> StoreError {
        StoreError::Layout { place: self, what: what.into() }
    }

    pub(crate) fn io(self, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { place: self },
            io::ErrorKind::NotFound => StoreError::Absent { place: self, what: source.to_string() },
            _ => StoreError::Io { place: self, source },
        }
    }

    /// Sorts fjall's error by what to do about it.
    pub(crate) fn error(self, error: fjall::Error) -> StoreError {
        match error {
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => self.io(source),
            fjall::Error::Poisoned => StoreError::Poisoned { place: self },
            fjall::Error::Locked => StoreError::Locked { place: self },
            fjall::Error::KeyspaceDeleted => {
                StoreError::Absent { place: self, what: "the partition was dropped".to_owned() }
            }
            other => self.corrupt(other.to_string()),
        }
    }
}

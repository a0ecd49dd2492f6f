//! A log on the local disk, for a single node or a test: no broker needed.
//!
//! All partitions share one physical sequence of records in segment files, so one sync makes a whole group of appends
//! durable, whatever their partitions. `append` → queue → writer thread (write, sync) → ack; consumers read the files.
//!
//! It promises: an ack means synced to the disk; the records of a partition have the offsets 0, 1, 2, …; timestamps
//! never go backwards; consumers see only what is durable; a crash loses nothing that was acknowledged; damage is
//! reported, never skipped.
//!
//! **Runs on**: one writer thread of its own; consumers on their callers' threads.
//!
//! **Not here**: replication, an index by offset, compaction.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
mod disk;
#[cfg(test)]
mod fault_disk;
#[cfg(test)]
mod model;
mod options;
mod pace;
mod queue;
mod reader;
mod record;
mod recovery;
mod retention;
mod room;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use futures_channel::oneshot;

use self::options::Platform;
use self::queue::Queue;
use self::reader::Reader;
use self::shared::Shared;
use self::writer::Writer;
use super::{Ack, AppendError, Consumer, Log, LogError, LogStatus, Message};
use crate::cpu::{STORING, pin, stand_back};

pub use options::EmbeddedOptions;

/// A log on the local disk. Dropping it closes it.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    max_message_bytes: usize,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, or begins one there, and starts its writer thread. Blocks while the last segment
    /// is read.
    ///
    /// # Errors
    /// Wrong options, another partition count than the log's, a directory in use, damage, or what the operating
    /// system says.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<EmbeddedLog, LogError> {
        EmbeddedLog::open_on(dir, options, Platform::real())
    }

    fn open_on(dir: &Path, options: EmbeddedOptions, platform: Platform) -> Result<EmbeddedLog, LogError> {
        options.check()?;
        let lock = lock(dir)?;
        let recovered = recovery::recover(dir, &options, &platform)?;
        let shared = Arc::new(Shared::new(
            dir.to_owned(),
            Queue::new(&options),
            recovered.segments.clone(),
            &recovered.ends,
        ));
        let max_message_bytes = options.max_message_bytes;
        let writer = Writer::new(shared.clone(), platform, options, recovered, lock);
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                pin(writer.cpus());
                stand_back(STORING);
                writer.run();
            })
            .map_err(|source| LogError::Io { action: "start the thread of", path: dir.to_owned(), source })?;
        Ok(EmbeddedLog { shared, max_message_bytes, writer: Mutex::new(Some(thread)) })
    }
}

/// Makes the directory and takes it for this process.
fn lock(dir: &Path) -> Result<File, LogError> {
    let failed = |source| LogError::Io { action: "create", path: dir.to_owned(), source };
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(failed)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
    }
    let path = dir.join("lock");
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(LogError::Io { action: "lock", path, source }),
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.shared.partitions()
    }

    fn append(&self, messages: Vec<Message>) -> Result<Ack, AppendError> {
        let partitions = self.partitions();
        assert!(messages.iter().all(|m| m.partition < partitions), "the caller knows the partitions");
        if messages.is_empty() {
            let (ack, answer) = oneshot::channel();
            ack.send(Ok(Vec::new())).expect("the receiver is at hand");
            return Ok(answer);
        }
        self.shared.queue.push(messages)
    }

    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    fn end(&self, partition: u32) -> u64 {
        self.shared.end(partition)
    }

    fn start(&self, partition: u32) -> u64 {
        self.shared.start(partition)
    }

    fn consumer(&self, from: &[(u32, u64)]) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(Reader::new(self.shared.clone(), from)?))
    }

    fn release(&self, durable: &[(u32, u64)]) {
        self.shared.queue.release(durable);
    }

    fn status(&self) -> LogStatus {
        self.shared.status()
    }

    fn close(&self) {
        self.shared.queue.close();
        // A second caller waits here until the thread has ended.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = writer.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

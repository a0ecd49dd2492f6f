//! A log that fails on command, around one that works: for tests of whatever stands on a log.
//!
//! **Runs on**: wherever the inner log does. Releasing held acks blocks the releasing thread until the inner log has
//! answered.
//!
//! **Not here**: faults of the disk; the embedded log's own tests have those.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;

use super::{Ack, AppendError, Consumer, Entry, Log, LogError, LogStatus, Message};

/// What becomes of calls at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fault {
    /// They pass.
    #[default]
    None,
    /// Appends are refused at once with this.
    Refuse(AppendError),
    /// Appends reach the log, but their answers wait for [`FaultyLog::release_acks`].
    HoldAcks,
    /// Appends reach the log, but the answer is a failure: the outcome that a client cannot know.
    LoseAcks,
    /// Nothing gets through: appends fail in their ack, consumers with [`LogError::Unavailable`].
    Disconnected,
}

/// A log around another, with a fault that can be switched at any time.
pub struct FaultyLog {
    inner: Arc<dyn Log>,
    switch: Arc<Switch>,
}

type Sender = oneshot::Sender<Result<Vec<u64>, AppendError>>;

#[derive(Default)]
struct Switch {
    fault: Mutex<Fault>,
    held: Mutex<Vec<(Ack, Sender)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> AppendError {
    AppendError::Failed { reason: "the connection was lost".into() }
}

/// An answer that is already there.
fn answered(answer: Result<Vec<u64>, AppendError>) -> Ack {
    let (ack, receiver) = oneshot::channel();
    ack.send(answer).expect("the receiver is at hand");
    receiver
}

impl FaultyLog {
    /// A log without a fault.
    pub fn new(inner: Arc<dyn Log>) -> FaultyLog {
        FaultyLog { inner, switch: Arc::default() }
    }

    /// Lets later calls meet this fault; [`Fault::None`] ends it. Held acks stay held.
    pub fn set(&self, fault: Fault) {
        *lock(&self.switch.fault) = fault;
    }

    /// How many acks are held.
    pub fn held_acks(&self) -> usize {
        lock(&self.switch.held).len()
    }

    /// Passes all held acks on, in order, each once the inner log has answered it.
    pub fn release_acks(&self) {
        let held = std::mem::take(&mut *lock(&self.switch.held));
        for (ack, sender) in held {
            let answer = futures_lite::future::block_on(ack).unwrap_or(Err(AppendError::Closed));
            // The one who asked may have given up.
            let _ = sender.send(answer);
        }
    }
}

impl Log for FaultyLog {
    fn partitions(&self) -> u32 {
        self.inner.partitions()
    }

    fn append(&self, messages: Vec<Message>) -> Result<Ack, AppendError> {
        let fault = lock(&self.switch.fault).clone();
        match fault {
            Fault::None => self.inner.append(messages),
            Fault::Refuse(error) => Err(error),
            Fault::HoldAcks => {
                let (sender, receiver) = oneshot::channel();
                let ack = self.inner.append(messages)?;
                lock(&self.switch.held).push((ack, sender));
                Ok(receiver)
            }
            Fault::LoseAcks => {
                let _lost = self.inner.append(messages)?;
                Ok(answered(Err(lost())))
            }
            Fault::Disconnected => Ok(answered(Err(lost()))),
        }
    }

    fn max_message_bytes(&self) -> usize {
        self.inner.max_message_bytes()
    }

    fn end(&self, partition: u32) -> u64 {
        self.inner.end(partition)
    }

    fn start(&self, partition: u32) -> u64 {
        self.inner.start(partition)
    }

    fn consumer(&self, from: &[(u32, u64)]) -> Result<Box<dyn Consumer>, LogError> {
        let inner = self.inner.consumer(from)?;
        Ok(Box::new(FaultyConsumer { inner, switch: self.switch.clone() }))
    }

    fn release(&self, durable: &[(u32, u64)]) {
        self.inner.release(durable);
    }

    fn status(&self) -> LogStatus {
        self.inner.status()
    }

    fn close(&self) {
        self.inner.close();
    }
}

struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    switch: Arc<Switch>,
}

impl Consumer for FaultyConsumer {
    fn poll(&mut self, wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError> {
        if *lock(&self.switch.fault) == Fault::Disconnected {
            return Err(LogError::Unavailable { reason: "the connection was lost".to_owned() });
        }
        self.inner.poll(wait, out)
    }

    fn pause(&mut self, partition: u32) {
        self.inner.pause(partition);
    }

    fn resume(&mut self, partition: u32) {
        self.inner.resume(partition);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_lite::future::block_on;

    use super::*;
    use crate::log::{EmbeddedLog, EmbeddedOptions};

    fn message(value: &'static str) -> Vec<Message> {
        vec![Message { partition: 0, key: Bytes::new(), value: Bytes::from_static(value.as_bytes()) }]
    }

    fn faulty() -> (tempfile::TempDir, FaultyLog) {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let inner = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(1)).expect("a new log opens");
        (dir, FaultyLog::new(Arc::new(inner)))
    }

    #[test]
    fn refusals_and_losses() {
        let (_dir, log) = faulty();
        log.set(Fault::Refuse(AppendError::Overloaded));
        assert_eq!(log.append(message("a")).expect_err("it is refused"), AppendError::Overloaded);
        log.set(Fault::LoseAcks);
        let ack = log.append(message("b")).expect("it is queued");
        assert_eq!(block_on(ack).expect("it is answered"), Err(lost()));
        log.set(Fault::Disconnected);
        let ack = log.append(message("c")).expect("it seems to be queued");
        assert_eq!(block_on(ack).expect("it is answered"), Err(lost()));
        let mut consumer = log.consumer(&[(0, 0)]).expect("the offset exists");
        let mut out = Vec::new();
        let error = consumer.poll(Duration::ZERO, &mut out).expect_err("the connection is lost");
        assert!(matches!(error, LogError::Unavailable { .. }));
        log.set(Fault::None);
        let ack = log.append(message("d")).expect("it is queued");
        assert_eq!(block_on(ack).expect("it is answered"), Ok(vec![1]));
        while out.len() < 2 {
            consumer.poll(Duration::MAX, &mut out).expect("the log works");
        }
        let values: Vec<&[u8]> = out.iter().map(|entry| &entry.value[..]).collect();
        assert_eq!(values, [b"b", b"d"]);
    }

    #[test]
    fn held_acks_come_when_released() {
        let (_dir, log) = faulty();
        log.set(Fault::HoldAcks);
        let mut first = log.append(message("a")).expect("it is queued");
        let second = log.append(message("b")).expect("it is queued");
        assert_eq!(log.held_acks(), 2);
        assert_eq!(first.try_recv().expect("nobody has gone"), None);
        log.release_acks();
        assert_eq!(block_on(first).expect("it is answered"), Ok(vec![0]));
        assert_eq!(block_on(second).expect("it is answered"), Ok(vec![1]));
        assert_eq!(log.held_acks(), 0);
    }
}

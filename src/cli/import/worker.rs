//! One connection of an import: sends its batches one after the other until each is acknowledged.
//!
//! bounded queue of [`Batch`]es → `POST /records/put`, again after overload or a lost connection, within a
//! bound → [`Resume`] is told.
//!
//! **Invariants**: a batch is only begun when the one before is acknowledged, so records of one key arrive in
//! the order of the file. Sending a batch again is harmless: a put states the whole record.
//!
//! **Runs on**: a thread `import-N` for each connection.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flume::Receiver;

use super::super::failure::Failure;
use super::super::progress::Progress;
use super::super::server::Server;
use super::super::stop::{Reason, Stop};
use super::batch::Batch;
use super::resume::Resume;

/// The first wait before another try; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait before another try, also when the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// So many records left out are told one by one; after that they are only counted.
const TOLD: u64 = 20;

/// What all connections of an import share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) server: Server,
    pub(super) stop: Stop,
    pub(super) progress: Progress,
    pub(super) resume: Arc<Mutex<Resume>>,
    /// The failure that ended the import: the first one.
    pub(super) failure: Arc<Mutex<Option<Failure>>>,
    /// Records and lines that were left out.
    pub(super) left_out: Arc<AtomicU64>,
    /// Whether records that the server refuses are left out instead of ending the import.
    pub(super) skip_bad: bool,
    /// How long a batch is tried again before the import ends.
    pub(super) patience: Duration,
}

impl Shared {
    /// Works on the account.
    pub(super) fn account<T>(&self, work: impl FnOnce(&mut Resume) -> T) -> T {
        work(&mut self.resume.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the import.
    pub(super) fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop.set(Reason::Failure);
    }

    /// Counts a line that is left out, and tells of the first ones.
    pub(super) fn leave_out(&self, line: u64, reason: &str) {
        let before = self.left_out.fetch_add(1, Ordering::Relaxed);
        if before < TOLD {
            self.progress.say(&format!("left out line {line}: {reason}"));
        } else if before == TOLD {
            self.progress.say("more lines are left out, and only counted from here on");
        }
    }
}

/// Sends batches until the queue closes, somebody wants to stop, or one fails for good.
pub(super) fn run(connection: usize, queue: &Receiver<Batch>, shared: &Shared) {
    while let Ok(batch) = queue.recv() {
        if shared.stop.reason().is_some() {
            return;
        }
        match deliver(&batch, 0..batch.len(), shared) {
            Ok(records) => {
                shared.account(|resume| resume.acknowledged(connection));
                shared.progress.records(records);
            }
            // Who interrupts knows why the batch is not in.
            Err(_) if shared.stop.reason() == Some(Reason::Interrupt) => return,
            Err(failure) => {
                let (first, last) = (batch.line(0), batch.line(batch.len() - 1));
                shared.fail(Failure::Batch { first, last, source: Box::new(failure) });
                return;
            }
        }
    }
}

/// Brings the records at these places in. Returns how many of them are in, which is fewer where some are left
/// out.
fn deliver(batch: &Batch, places: Range<usize>, shared: &Shared) -> Result<u64, Failure> {
    let body = batch.body(places.clone());
    let outcome = persist(shared, || shared.server.mutate("/records/put", &body).map(drop));
    match outcome {
        Ok(()) => Ok(places.len() as u64),
        // Nothing of a refused request is applied, so halves lead to the record that is to blame.
        Err(Failure::Refused { status: 400 | 413, detail }) if shared.skip_bad => {
            if places.len() == 1 {
                shared.leave_out(batch.line(places.start), &detail);
                return Ok(0);
            }
            let middle = places.start + places.len() / 2;
            Ok(deliver(batch, places.start..middle, shared)? + deliver(batch, middle..places.end, shared)?)
        }
        Err(failure) => Err(failure),
    }
}

/// Tries until it works, fails for good, or the patience is spent.
fn persist(shared: &Shared, mut attempt: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        match attempt() {
            Err(failure) if failure.may_pass() => {
                let pause = failure.retry_after().unwrap_or(wait).max(wait).min(LONGEST_WAIT);
                if begun.elapsed() + pause > shared.patience || shared.stop.wait(pause) {
                    return Err(failure);
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(patience: Duration) -> Shared {
        Shared {
            server: Server::new("http://127.0.0.1:1", Duration::from_secs(1)).expect("a good address"),
            stop: Stop::default(),
            progress: Progress::start(None),
            resume: Arc::new(Mutex::new(Resume::new(1, 0))),
            failure: Arc::default(),
            left_out: Arc::default(),
            skip_bad: false,
            patience,
        }
    }

    fn overload() -> Failure {
        Failure::Unavailable { status: 503, detail: "busy".to_owned(), retry_after: None }
    }

    #[test]
    fn overload_is_tried_again_and_a_refusal_is_not() {
        let shared = shared(Duration::from_secs(3600));
        let mut tries = 0;
        let outcome = persist(&shared, || {
            tries += 1;
            if tries < 3 { Err(overload()) } else { Ok(()) }
        });
        assert!(outcome.is_ok());
        assert_eq!(tries, 3);

        let mut tries = 0;
        let outcome = persist(&shared, || {
            tries += 1;
            Err(Failure::Refused { status: 400, detail: "no".to_owned() })
        });
        assert!(matches!(outcome, Err(Failure::Refused { .. })));
        assert_eq!(tries, 1);
    }

    #[test]
    fn patience_and_the_wish_to_stop_end_the_tries() {
        let mut tries = 0;
        let outcome = persist(&shared(Duration::ZERO), || {
            tries += 1;
            Err(overload())
        });
        assert!(matches!(outcome, Err(Failure::Unavailable { .. })));
        assert_eq!(tries, 1);

        let shared = shared(Duration::from_secs(3600));
        shared.stop.set(Reason::Interrupt);
        let outcome = persist(&shared, || Err(overload()));
        assert!(matches!(outcome, Err(Failure::Unavailable { .. })));
    }
}

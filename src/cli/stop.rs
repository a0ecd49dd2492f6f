//! The wish to stop, from Ctrl-C or from a failure, as all threads of a command see it.
//!
//! First Ctrl-C → [`Stop`] is set: what is in flight is finished and accounted for. Second → the process ends.
//!
//! **Runs on**: any thread; [`Stop::on_interrupt`] starts one that waits for the signal.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The exit code of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// Why to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The user wants it.
    Interrupt,
    /// Something failed, and who saw it keeps the details.
    Failure,
}

/// A shared flag that can be waited on. Once set it stays, with its first reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: Mutex<Option<Reason>>,
    changed: Condvar,
}

impl Stop {
    /// A flag that Ctrl-C sets.
    ///
    /// # Errors
    /// What the system says when no thread or signal handler can be had.
    pub(crate) fn on_interrupt() -> std::io::Result<Self> {
        let stop = Self::default();
        let flag = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut interrupts = {
            let _inside = runtime.enter();
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
        };
        thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
            runtime.block_on(async {
                interrupts.recv().await;
                flag.set(Reason::Interrupt);
                interrupts.recv().await;
                std::process::exit(INTERRUPTED);
            });
        })?;
        Ok(stop)
    }

    /// Asks everybody to stop.
    pub(crate) fn set(&self, reason: Reason) {
        self.lock().get_or_insert(reason);
        self.0.changed.notify_all();
    }

    /// Why to stop; `None` to go on.
    pub(crate) fn reason(&self) -> Option<Reason> {
        *self.lock()
    }

    /// Waits for `time`, or less when there is a wish to stop. Whether to stop.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let guard = self.lock();
        let (guard, _) = self
            .0
            .changed
            .wait_timeout_while(guard, time, |reason| reason.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        guard.is_some()
    }

    /// A panic elsewhere cannot leave an `Option` half written, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_wakes_who_waits() {
        let stop = Stop::default();
        assert_eq!(stop.reason(), None);
        let other = stop.clone();
        let waiting = thread::spawn(move || other.wait(Duration::from_secs(3600)));
        stop.set(Reason::Failure);
        stop.set(Reason::Interrupt);
        assert!(waiting.join().expect("the thread waits and ends"));
        assert_eq!(stop.reason(), Some(Reason::Failure));
    }

    #[test]
    fn a_wait_without_a_wish_ends_by_itself() {
        assert!(!Stop::default().wait(Duration::from_millis(1)));
    }
}

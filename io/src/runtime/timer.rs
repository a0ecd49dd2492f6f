//! Timers of a core.
//!
//! They are looked over when the core looks at its sockets, so they fire up to a millisecond late when it sleeps, and as
//! late as the longest slice of work when it does not.
//!
//! **Runs on**: the core. **Not here**: the deadlines of connections, which one walk a tick looks over
//! ([`crate::http`]) so that no request needs a timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::reactor::{self, Reactor};

/// Completes once its time has come.
#[derive(Debug)]
pub struct Timer {
    reactor: Rc<Reactor>,
    due: Instant,
    /// Its number among those that wait; none before the first poll and after the last.
    number: Option<u64>,
}

impl Timer {
    /// A timer that is due after `delay`.
    ///
    /// # Panics
    /// If the calling thread is not a core's.
    pub fn new(delay: Duration) -> Timer {
        Timer { reactor: reactor::current(), due: Instant::now() + delay, number: None }
    }
}

/// Waits for `delay`.
///
/// # Panics
/// If the calling thread is not a core's.
pub async fn sleep(delay: Duration) {
    Timer::new(delay).await;
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timers = &self.reactor.timers;
        match self.number {
            Some(number) if timers.keep(self.due, number, cx.waker()) => Poll::Pending,
            None if Instant::now() < self.due => {
                let number = timers.start(self.due, cx.waker());
                self.number = Some(number);
                Poll::Pending
            }
            _ => {
                self.number = None;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.reactor.timers.stop(self.due, number);
        }
    }
}

/// All timers of a core that wait.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    last: Cell<u64>,
}

impl Timers {
    fn start(&self, due: Instant, waker: &Waker) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.waiting.borrow_mut().insert((due, number), waker.clone());
        number
    }

    /// Whether the timer still waits; then this is whom it wakes.
    fn keep(&self, due: Instant, number: u64, waker: &Waker) -> bool {
        match self.waiting.borrow_mut().get_mut(&(due, number)) {
            Some(kept) => {
                kept.clone_from(waker);
                true
            }
            None => false,
        }
    }

    fn stop(&self, due: Instant, number: u64) {
        self.waiting.borrow_mut().remove(&(due, number));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// Wakes those that are due.
    pub(super) fn fire(&self, now: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake();
        }
    }
}

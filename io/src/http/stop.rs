//! The order to stop serving, shared by everything on one core.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A one-way switch: clones share it, the first [`trigger`](Stop::trigger) counts.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    deadline: Cell<Option<Instant>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Stop {
    /// A switch that is not thrown.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Stops accepting and lets open requests finish; what is open after `grace` is cut.
    /// Later calls change nothing.
    pub fn trigger(&self, grace: Duration) {
        if self.shared.deadline.get().is_some() {
            return;
        }
        self.shared.deadline.set(Some(Instant::now() + grace));
        for waker in self.shared.waiting.take() {
            waker.wake();
        }
    }

    /// Whether the switch is thrown.
    pub fn is_triggered(&self) -> bool {
        self.shared.deadline.get().is_some()
    }

    /// When the grace ends; `None` before the switch is thrown.
    pub fn deadline(&self) -> Option<Instant> {
        self.shared.deadline.get()
    }

    /// Completes once the switch is thrown.
    pub fn triggered(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.is_triggered() {
                return Poll::Ready(());
            }
            self.watch(cx.waker());
            Poll::Pending
        })
    }

    /// Wakes `waker` when the switch is thrown. A task that watches many times is kept once.
    pub(crate) fn watch(&self, waker: &Waker) {
        let mut waiting = self.shared.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_order_counts_and_wakes_everyone() {
        let stop = Stop::new();
        let waiter = stop.clone();
        let mut wait = std::pin::pin!(waiter.triggered());
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        stop.trigger(Duration::from_secs(1));
        let deadline = stop.deadline().expect("thrown");
        stop.trigger(Duration::from_secs(100));
        assert_eq!(stop.deadline(), Some(deadline));
        assert!(wait.as_mut().poll(&mut cx).is_ready());
    }
}

//! Lets tasks of one core wait until another task of it says that something has changed.
//!
//! A waiter checks its condition, waits for the next ring, and checks again; rings are not counted or kept.
//!
//! Runs on: one serving core (it is not `Send`). Not here: waiting across cores, which channels do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes all that wait for it.
#[derive(Debug, Default)]
pub struct Bell {
    waiting: RefCell<Vec<Waker>>,
    rings: std::cell::Cell<u64>,
}

impl Bell {
    /// Wakes every waiter.
    pub fn ring(&self) {
        self.rings.set(self.rings.get().wrapping_add(1));
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits for the next ring. No ring can be lost between a check and this call: both run on one core.
    pub async fn rung(&self) {
        let before = self.rings.get();
        poll_fn(|context| {
            if self.rings.get() == before {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn a_ring_wakes_all_and_is_not_kept() {
        let bell = Bell::default();
        bell.ring();
        let mut early = Box::pin(bell.rung());
        assert_eq!(block_on(poll_once(&mut early)), None);
        block_on(zip(early, async { bell.ring() }));
    }
}

//! Turns for long work: listings, exports and large gets do one slice each, in the order of asking.
//!
//! The runtime looks at sockets, timers and other cores once all tasks that can run have run. If every listing of a core
//! simply paused after its slice, all of them would run again before the next look, and a thousand listings would hold
//! up a get for a thousand slices. Here one slice runs between two looks, however many
//! wait for theirs.
//!
//! Invariants: turns are given in the order in which they were asked for; who gave up waiting is passed over.
//! Runs on: one serving core (it is not `Send`). Not here: how long a slice may be, which each kind of work says.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::bell::Bell;

/// The queue of those who want a turn.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: RefCell<VecDeque<Rc<Ticket>>>,
    asked: Bell,
}

/// A place in the queue; its owner keeps the other reference.
#[derive(Debug)]
struct Ticket {
    given: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Turns {
    /// Waits for a turn: one slice, to be done before the next await.
    pub async fn take(&self) {
        let mut mine: Option<Rc<Ticket>> = None;
        poll_fn(|context| {
            let Some(ticket) = &mine else {
                let waker = RefCell::new(context.waker().clone());
                let ticket = Rc::new(Ticket { given: Cell::new(false), waker });
                self.waiting.borrow_mut().push_back(Rc::clone(&ticket));
                mine = Some(ticket);
                self.asked.ring();
                return Poll::Pending;
            };
            if ticket.given.get() {
                return Poll::Ready(());
            }
            ticket.waker.borrow_mut().clone_from(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Gives turns for ever, waiting for `look` between two of them.
    pub async fn give<L: Future>(&self, look: impl Fn() -> L) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                None => self.asked.rung().await,
                Some(ticket) if Rc::strong_count(&ticket) == 1 => {}
                Some(ticket) => {
                    ticket.given.set(true);
                    ticket.waker.borrow().wake_by_ref();
                    look().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, or, poll_once, yield_now, zip};

    /// Gives turns until `work` is done, and says how often it looked.
    fn looks(turns: &Turns, work: impl Future<Output = ()>) -> usize {
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            yield_now()
        };
        block_on(or(work, turns.give(look)));
        looks.get()
    }

    #[test]
    fn turns_come_in_order_with_a_look_after_each() {
        let turns = Turns::default();
        let order = RefCell::new(Vec::new());
        let worker = |name: char| {
            let (turns, order) = (&turns, &order);
            async move {
                for slice in 0..3 {
                    turns.take().await;
                    order.borrow_mut().push((name, slice));
                }
            }
        };
        let both = async {
            zip(worker('a'), worker('b')).await;
        };
        assert!(looks(&turns, both) >= 5);
        let expected = [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)];
        assert_eq!(*order.borrow(), expected);
    }

    #[test]
    fn who_gave_up_costs_no_turn() {
        let turns = Turns::default();
        for _ in 0..10 {
            let mut gone = Box::pin(turns.take());
            assert_eq!(block_on(poll_once(&mut gone)), None);
        }
        assert!(looks(&turns, turns.take()) <= 1);
    }
}

//! All connections of one core: how many there are, and who of them is overdue.
//!
//! The tick walks a fiftieth of the places each time, so each connection is looked at every 100 ms and no tick
//! takes long however many there are. **Runs on**: one serving core.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::counters::{ConnectionCounters, count};
use super::limits::HttpLimits;
use super::state::{ConnectionState, Deadlines, Verdict, millis};
use super::stop::Stop;
use super::tick::{Clock, TICK};

/// How often each connection is looked at; the precision of all deadlines.
const ROUND: Duration = Duration::from_millis(100);
const TICKS_PER_ROUND: usize = (ROUND.as_millis() / TICK.as_millis()) as usize;

/// The connections of one core.
#[derive(Debug)]
pub(crate) struct Roster {
    clock: Clock,
    deadlines: Deadlines,
    stop: Stop,
    counters: Rc<ConnectionCounters>,
    places: RefCell<Vec<Option<Rc<ConnectionState>>>>,
    free: RefCell<Vec<usize>>,
    next: Cell<usize>,
    serving: Cell<usize>,
    refusing: Cell<usize>,
    aborted: Cell<bool>,
    emptied: RefCell<Option<Waker>>,
}

/// Why a connection is on the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be served.
    Serve,
    /// To be told that there is no room.
    Refuse,
}

/// A connection's place; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Place {
    roster: Rc<Roster>,
    index: usize,
    purpose: Purpose,
}

impl Roster {
    pub(crate) fn new(
        clock: Clock,
        limits: &HttpLimits,
        stop: Stop,
        counters: Rc<ConnectionCounters>,
    ) -> Rc<Roster> {
        Rc::new(Roster {
            clock,
            deadlines: Deadlines {
                head: millis(limits.head_deadline),
                idle: millis(limits.idle_deadline),
                write: millis(limits.write_deadline),
                last_call: millis(limits.last_call),
            },
            stop,
            counters,
            places: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            next: Cell::new(0),
            serving: Cell::new(0),
            refusing: Cell::new(0),
            aborted: Cell::new(false),
            emptied: RefCell::new(None),
        })
    }

    /// Connections being served.
    pub(crate) fn serving(&self) -> usize {
        self.serving.get()
    }

    /// Connections being refused.
    pub(crate) fn refusing(&self) -> usize {
        self.refusing.get()
    }

    /// Gives `state` a place, for as long as the answer lives.
    pub(crate) fn enter(self: &Rc<Self>, state: Rc<ConnectionState>, purpose: Purpose) -> Place {
        let mut places = self.places.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(places.len());
        if index == places.len() {
            places.push(None);
        }
        places[index] = Some(state);
        match purpose {
            Purpose::Serve => {
                count(&self.counters.accepted);
                self.serving.set(self.serving.get() + 1);
                self.counters.open.set(self.serving.get() as u64);
            }
            Purpose::Refuse => {
                count(&self.counters.shed);
                self.refusing.set(self.refusing.get() + 1);
            }
        }
        Place { roster: Rc::clone(self), index, purpose }
    }

    /// One tick's share of the walk; when the grace of a stop is over, the end of everybody.
    pub(crate) fn sweep(&self) {
        if !self.aborted.get() && self.stop.deadline().is_some_and(|deadline| self.clock.now() >= deadline) {
            self.aborted.set(true);
            self.abort_all();
            return;
        }
        let places = self.places.borrow();
        let share = places.len().div_ceil(TICKS_PER_ROUND);
        for _ in 0..share {
            let index = if self.next.get() < places.len() { self.next.get() } else { 0 };
            self.next.set(index + 1);
            if let Some(state) = &places[index] {
                self.look_at(state);
            }
        }
    }

    /// Tells every connection to finish.
    pub(crate) fn stop_all(&self) {
        for state in self.places.borrow().iter().flatten() {
            state.stop();
        }
    }

    /// Completes once no connection is left.
    pub(crate) fn empty(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.serving.get() + self.refusing.get() == 0 {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn look_at(&self, state: &ConnectionState) {
        // A task that has its last order and has not run yet needs no second one.
        if !matches!(state.verdict(), Verdict::Run | Verdict::Stop) {
            return;
        }
        let Some(mut verdict) = state.judge(&self.deadlines) else { return };
        match verdict {
            Verdict::HeadLate => count(&self.counters.cut_head),
            Verdict::WriteStalled => count(&self.counters.cut_write),
            Verdict::IdleLate => {
                count(&self.counters.cut_idle);
                // HTTP/2 has a way to say goodbye; the answer is not waited for long.
                if state.is_http2() {
                    verdict = Verdict::Stop;
                }
            }
            Verdict::Run | Verdict::Park | Verdict::Stop | Verdict::Abort => {}
        }
        state.pass(verdict);
    }

    fn abort_all(&self) {
        for state in self.places.borrow().iter().flatten() {
            state.pass(Verdict::Abort);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let roster = &*self.roster;
        roster.places.borrow_mut()[self.index] = None;
        roster.free.borrow_mut().push(self.index);
        match self.purpose {
            Purpose::Serve => {
                roster.serving.set(roster.serving.get() - 1);
                roster.counters.open.set(roster.serving.get() as u64);
            }
            Purpose::Refuse => roster.refusing.set(roster.refusing.get() - 1),
        }
        if roster.serving.get() + roster.refusing.get() == 0
            && let Some(waker) = roster.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_looked_at_once_a_round_and_places_are_reused() {
        let clock = Clock::new();
        let limits = HttpLimits { head_deadline: Duration::from_millis(10), ..HttpLimits::default() };
        let counters = Rc::new(ConnectionCounters::default());
        let roster = Roster::new(clock.clone(), &limits, Stop::new(), Rc::clone(&counters));
        let states: Vec<_> = (0..120).map(|_| ConnectionState::new(clock.clone())).collect();
        let mut places: Vec<_> =
            states.iter().map(|state| roster.enter(Rc::clone(state), Purpose::Serve)).collect();
        clock.advance(clock.now() + Duration::from_millis(10));
        for _ in 0..TICKS_PER_ROUND {
            roster.sweep();
        }
        assert!(states.iter().all(|state| state.verdict() == Verdict::HeadLate));
        assert_eq!(counters.cut_head.get(), 120, "each is counted once");
        places.truncate(100);
        assert_eq!(counters.open.get(), 100);
        let _more = roster.enter(ConnectionState::new(clock), Purpose::Serve);
        assert_eq!(roster.places.borrow().len(), 120);
    }

    #[test]
    fn the_end_of_grace_aborts_all() {
        let clock = Clock::new();
        let stop = Stop::new();
        let roster = Roster::new(clock.clone(), &HttpLimits::default(), stop.clone(), Rc::default());
        let state = ConnectionState::new(clock.clone());
        let _place = roster.enter(Rc::clone(&state), Purpose::Serve);
        let _request = state.begin();
        stop.trigger(Duration::ZERO);
        roster.stop_all();
        assert_eq!(state.verdict(), Verdict::Stop);
        clock.advance(clock.now() + Duration::from_secs(1));
        roster.sweep();
        assert_eq!(state.verdict(), Verdict::Abort);
    }
}

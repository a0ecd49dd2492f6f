//! What one connection waits for, since when, and how long it may.
//!
//! The stream adapter and the service wrapper write a few cells per request; the tick reads them. So a request arms
//! no timer, and all deadlines of a core cost one walk over its connections.
//!
//! Invariants: times are coarse clock milliseconds, never zero, so zero means "not so"; only [`ConnectionState::judge`]
//! and the owner of the server pass verdicts; a verdict wakes the connection's task, which carries it out.
//! **Runs on**: one serving core. **Not here**: when who is looked at ([`super::roster`]), and what a verdict does to a
//! connection ([`super::connection`]).

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use http::Response;
use http::header::{CONNECTION, HeaderValue};

use super::frames::FrameTracker;
use super::tick::Clock;

/// A blocked writer that moves this much has shown that somebody reads.
const WRITE_PROGRESS: u64 = 64 << 10;

/// How long a closing connection is read on, so that the client gets its last answer and not a reset.
pub(crate) const LINGER_MS: u64 = 1000;

/// An HTTP/1.1 connection that rests this long gives hyper's buffers back.
const PARK_MS: u64 = 200;

/// Deadlines in milliseconds of the coarse clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) head: u64,
    pub(crate) idle: u64,
    pub(crate) write: u64,
    pub(crate) last_call: u64,
}

/// A duration as milliseconds of the coarse clock, at least one.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What the connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Accepted; the client has sent nothing.
    Opening,
    /// A request head has begun.
    Head,
    /// Requests are being answered.
    Busy,
    /// Between requests.
    Idle,
    /// Our last byte is on its way.
    Lingering,
    /// It is out; what the client still sends is thrown away.
    Parting,
}

/// What the connection's task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Run,
    /// Rest without hyper, whose buffers are the larger part of an idle connection.
    Park,
    /// Finish what is open, take nothing new.
    Stop,
    /// The request head is overdue.
    HeadLate,
    /// Nothing was asked for too long.
    IdleLate,
    /// The client does not take its response.
    WriteStalled,
    /// Away with it: the grace of a stop or of a close is over.
    Abort,
}

/// The shared record of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    clock: Clock,
    phase: Cell<Phase>,
    since: Cell<u64>,
    in_flight: Cell<u32>,
    blocked_since: Cell<u64>,
    moved_since_blocked: Cell<u64>,
    verdict: Cell<Verdict>,
    draining: Cell<bool>,
    parked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    http2: RefCell<Option<Box<Http2State>>>,
}

/// What HTTP/2 needs beyond that.
#[derive(Debug)]
struct Http2State {
    frames: FrameTracker,
    partial_since: u64,
    /// Since when each open response body waits for the client to grant flow control; zero is a free place.
    bodies: Vec<u64>,
}

/// A body whose producer, not whose client, is being waited for.
const WAITS_FOR_PRODUCER: u64 = u64::MAX;

impl ConnectionState {
    pub(crate) fn new(clock: Clock) -> Rc<ConnectionState> {
        let since = clock.now_ms();
        Rc::new(ConnectionState {
            clock,
            phase: Cell::new(Phase::Opening),
            since: Cell::new(since),
            in_flight: Cell::new(0),
            blocked_since: Cell::new(0),
            moved_since_blocked: Cell::new(0),
            verdict: Cell::new(Verdict::Run),
            draining: Cell::new(false),
            parked: Cell::new(false),
            waker: RefCell::new(None),
            http2: RefCell::new(None),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.borrow().is_some()
    }

    /// Keeps the connection task's waker. A task has one for life, so the first is enough.
    pub(crate) fn watch(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if kept.is_none() {
            *kept = Some(waker.clone());
        }
    }

    /// The server stops. Whoever is being answered, or speaks HTTP/2, is told at once; others with their next answer
    /// ([`ConnectionState::says_goodbye`]), or when they have asked nothing for a while.
    pub(crate) fn stop(&self) {
        match self.phase.get() {
            // They are closed already, and not read on for much longer.
            Phase::Lingering | Phase::Parting => self.draining.set(true),
            Phase::Busy => self.pass(Verdict::Stop),
            _ if self.is_http2() => self.pass(Verdict::Stop),
            Phase::Opening | Phase::Head | Phase::Idle => self.drain(),
        }
    }

    /// Whether the next answer should tell an HTTP/1.1 client that the connection closes behind it.
    pub(crate) fn says_goodbye(&self) -> bool {
        self.draining.get() && !self.is_http2()
    }

    /// From here on its rests are short.
    fn drain(&self) {
        self.draining.set(true);
        if matches!(self.phase.get(), Phase::Opening | Phase::Idle) {
            self.since.set(self.clock.now_ms());
        }
    }

    /// Passes `verdict` and wakes the task to carry it out.
    pub(crate) fn pass(&self, verdict: Verdict) {
        if verdict == Verdict::Stop {
            self.drain();
        }
        self.verdict.set(verdict);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The client sent `bytes`.
    pub(crate) fn received(&self, bytes: &[u8]) {
        if let Some(http2) = &mut *self.http2.borrow_mut() {
            http2.received(bytes, self.clock.now_ms());
            return;
        }
        if matches!(self.phase.get(), Phase::Opening | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// The first bytes, `seen`, were an HTTP/2 preface.
    pub(crate) fn turn_http2(&self, seen: &[u8]) {
        let mut http2 =
            Box::new(Http2State { frames: FrameTracker::new(), partial_since: 0, bodies: Vec::new() });
        http2.received(seen, self.clock.now_ms());
        *self.http2.borrow_mut() = Some(http2);
        self.enter(Phase::Idle);
    }

    /// Takes note of [`Verdict::Park`]; says whether there is nothing that hyper must still do: no request, and no
    /// output that the socket did not take.
    pub(crate) fn may_park(&self) -> bool {
        self.stay();
        self.phase.get() == Phase::Idle && self.blocked_since.get() == 0
    }

    /// Drops [`Verdict::Park`], which is not to be or was carried out.
    pub(crate) fn stay(&self) {
        if self.verdict.get() == Verdict::Park {
            self.verdict.set(Verdict::Run);
        }
    }

    /// Whether hyper is out of the house.
    pub(crate) fn set_parked(&self, parked: bool) {
        self.parked.set(parked);
    }

    /// The connection is done; only its last bytes are awaited.
    pub(crate) fn linger(&self) {
        self.enter(Phase::Lingering);
        self.verdict.set(Verdict::Run);
    }

    /// The last byte is out; only the client's are awaited.
    pub(crate) fn part(&self) {
        self.phase.set(Phase::Parting);
        // At a stop nobody is waited for long; otherwise both together have the same time.
        if self.draining.get() {
            self.since.set(self.clock.now_ms());
        }
    }

    /// A send found no room in the socket.
    pub(crate) fn blocked(&self) {
        if self.blocked_since.get() == 0 {
            self.blocked_since.set(self.clock.now_ms());
            self.moved_since_blocked.set(0);
        }
    }

    /// The socket took `bytes`.
    pub(crate) fn moved(&self, bytes: usize) {
        if self.blocked_since.get() != 0 {
            let moved = self.moved_since_blocked.get() + bytes as u64;
            self.moved_since_blocked.set(moved);
            if moved >= WRITE_PROGRESS {
                self.blocked_since.set(0);
            }
        }
    }

    /// The socket took everything there was.
    pub(crate) fn drained(&self) {
        self.blocked_since.set(0);
    }

    /// Looks whether a deadline has passed, and which verdict follows. HTTP/2 connections that only rest are first
    /// told to go, and cut when they do not.
    pub(crate) fn judge(&self, deadlines: &Deadlines) -> Option<Verdict> {
        let now = self.clock.now_ms();
        let late = |since: u64, limit: u64| now.saturating_sub(since) >= limit;
        let blocked = self.blocked_since.get();
        if blocked != 0 && late(blocked, deadlines.write) {
            return Some(Verdict::WriteStalled);
        }
        let since = self.since.get();
        let is_last_call = self.says_goodbye() && self.verdict.get() != Verdict::Stop;
        match self.phase.get() {
            Phase::Opening | Phase::Idle if is_last_call => {
                late(since, deadlines.last_call).then_some(Verdict::Stop)
            }
            Phase::Opening | Phase::Head => late(since, deadlines.head).then_some(Verdict::HeadLate),
            Phase::Parting if self.draining.get() => {
                late(since, deadlines.last_call).then_some(Verdict::Abort)
            }
            Phase::Lingering | Phase::Parting => late(since, LINGER_MS).then_some(Verdict::Abort),
            Phase::Busy => {
                let http2 = self.http2.borrow();
                let oldest = http2.as_ref().and_then(|http2| http2.oldest_body())?;
                late(oldest, deadlines.write).then_some(Verdict::WriteStalled)
            }
            Phase::Idle if self.draining.get() => late(since, LINGER_MS).then_some(Verdict::Abort),
            Phase::Idle => {
                if late(since, deadlines.idle) {
                    return Some(Verdict::IdleLate);
                }
                match &*self.http2.borrow() {
                    None => (!self.parked.get() && late(since, PARK_MS)).then_some(Verdict::Park),
                    Some(http2) if http2.partial_since == 0 => None,
                    Some(http2) => {
                        late(http2.partial_since.max(since), deadlines.head).then_some(Verdict::HeadLate)
                    }
                }
            }
        }
    }

    /// A request head has arrived and the request goes to the service. Also for its body, which may outlive the
    /// response.
    pub(crate) fn begin(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.phase.set(Phase::Busy);
        InFlight { state: Rc::clone(self), place: None }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now_ms());
    }

    fn end_one(&self) {
        let left = self.in_flight.get().checked_sub(1).expect("each request ends once");
        self.in_flight.set(left);
        if left == 0 && self.phase.get() == Phase::Busy {
            self.enter(Phase::Idle);
        }
    }
}

impl Http2State {
    fn received(&mut self, bytes: &[u8], now: u64) {
        self.frames.feed(bytes);
        if self.frames.at_rest() {
            self.partial_since = 0;
        } else if self.partial_since == 0 {
            self.partial_since = now;
        }
    }

    fn oldest_body(&self) -> Option<u64> {
        self.bodies.iter().copied().filter(|since| *since != 0 && *since != WAITS_FOR_PRODUCER).min()
    }

    fn claim(&mut self, now: u64) -> usize {
        let free = self.bodies.iter().position(|since| *since == 0);
        let place = free.unwrap_or(self.bodies.len());
        if free.is_none() {
            self.bodies.push(now);
        }
        self.bodies[place] = now;
        place
    }
}

/// One request from its arrival to the last byte of its response, or one request body; dropping it ends it.
#[derive(Debug)]
pub(crate) struct InFlight {
    state: Rc<ConnectionState>,
    place: Option<usize>,
}

impl InFlight {
    /// The response is there. Over HTTP/2 its body now waits for the client's flow control, which has a deadline.
    pub(crate) fn respond<B>(&mut self, response: &mut Response<B>) {
        if self.state.says_goodbye() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(http2) = &mut *self.state.http2.borrow_mut() {
            self.place = Some(http2.claim(self.state.clock.now_ms()));
        }
    }

    /// The body was asked for its next frame, and gave one or not yet.
    pub(crate) fn polled(&self, gave: bool) {
        let Some(place) = self.place else { return };
        if let Some(http2) = &mut *self.state.http2.borrow_mut() {
            http2.bodies[place] = if gave { self.state.clock.now_ms() } else { WAITS_FOR_PRODUCER };
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let (Some(place), Some(http2)) = (self.place, &mut *self.state.http2.borrow_mut()) {
            http2.bodies[place] = 0;
        }
        self.state.end_one();
    }
}

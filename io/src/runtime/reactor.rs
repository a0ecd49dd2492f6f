//! What a core waits for: sockets, timers, its doorbell; and when it waits.
//!
//! The reactor is one more task of the executor, always runnable, at the end of the queue: tasks run, then the reactor
//! looks. If nothing has run since its last look, nobody else can run, and the core sleeps in `epoll_wait` until a
//! socket, the next timer or the doorbell. So glommio's own reactor never sleeps, and runs only when its preemption
//! timer says so (see the [module](super)).
//!
//! Invariants: edge-triggered, each socket is registered once for life and asks the kernel nothing until it has been drained;
//! between two looks every task that could run has run; a wake-up costs one system call.
//! **Runs on**: the core. **Not here**: reading and writing ([`super::socket`]).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mio::event::{Event, Source};
use mio::{Events, Interest, Token};
use slab::Slab;

use super::doorbell::Doorbell;
use super::task;
use super::timer::Timers;

/// Sockets that one look takes note of; the next look finds the others.
const EVENTS: usize = 1024;
/// The longest sleep: what is forgotten by everything else comes to light then.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
pub(super) const DOORBELL: Token = Token(usize::MAX);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// The reactor of the calling core.
///
/// # Panics
/// If the calling thread is not a core's.
pub(super) fn current() -> Rc<Reactor> {
    CURRENT.with_borrow(Clone::clone).expect("only a core's tasks wait for sockets, timers and other cores")
}

/// Whether the calling thread is the core with this doorbell.
pub(super) fn at_home(doorbell: &Arc<Doorbell>) -> bool {
    // A waker may be used while the thread's own values are being dropped; then it is as good as a stranger.
    CURRENT
        .try_with(|current| {
            current.try_borrow().is_ok_and(|current| {
                current.as_ref().is_some_and(|reactor| Arc::ptr_eq(&reactor.doorbell, doorbell))
            })
        })
        .unwrap_or(false)
}

/// What is known of one socket, and who waits for it.
#[derive(Debug)]
pub(super) struct Readiness {
    /// There may be something to read.
    pub(super) readable: Cell<bool>,
    /// The other side has closed or the socket has failed: reading on will say so, and will not block.
    pub(super) ended: Cell<bool>,
    pub(super) reader: RefCell<Option<Waker>>,
    pub(super) writer: RefCell<Option<Waker>>,
}

/// Keeps `waker` in `place` unless it is there already.
pub(super) fn note(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut kept = place.borrow_mut();
    if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
        *kept = Some(waker.clone());
    }
}

/// All that one core waits for.
pub(super) struct Reactor {
    poll: RefCell<mio::Poll>,
    events: RefCell<Events>,
    doorbell: Arc<Doorbell>,
    sockets: RefCell<Slab<Rc<Readiness>>>,
    pub(super) timers: Timers,
    /// Who waits for the next look.
    looking: RefCell<Vec<Waker>>,
    looks: Cell<u64>,
    /// Who waits for the doorbell.
    listening: RefCell<Vec<Waker>>,
    rings: Cell<u64>,
    /// How many tasks had run at the last turn.
    ran: Cell<u64>,
    /// The last turn let what the tasks had woken run first.
    stood_back: Cell<bool>,
    busy_poll: Duration,
    stopped: Cell<bool>,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("sockets", &self.sockets.borrow().len()).finish_non_exhaustive()
    }
}

impl Reactor {
    /// Makes this the reactor of the calling thread.
    pub(super) fn install(poll: mio::Poll, doorbell: Arc<Doorbell>, busy_poll: Duration) -> Rc<Reactor> {
        let reactor = Rc::new(Reactor {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            doorbell,
            sockets: RefCell::new(Slab::new()),
            timers: Timers::default(),
            looking: RefCell::new(Vec::new()),
            looks: Cell::new(0),
            listening: RefCell::new(Vec::new()),
            rings: Cell::new(0),
            // No number that is ever reached: the reactor's task comes first, and what it is made for has still to begin.
            ran: Cell::new(u64::MAX),
            stood_back: Cell::new(false),
            busy_poll,
            stopped: Cell::new(false),
        });
        CURRENT.set(Some(Rc::clone(&reactor)));
        reactor
    }

    pub(super) fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// How many times the core has looked.
    #[cfg(test)]
    pub(super) fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// The reactor's task ends at its next turn.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    /// Registers a socket; the answer holds its place.
    pub(super) fn register(
        self: &Rc<Self>,
        socket: &mut impl Source,
        interest: Interest,
    ) -> io::Result<Registration> {
        let readiness = Rc::new(Readiness {
            readable: Cell::new(true),
            ended: Cell::new(false),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
        });
        let place = self.sockets.borrow_mut().insert(Rc::clone(&readiness));
        let registration = Registration { reactor: Rc::clone(self), place, readiness };
        self.poll.borrow().registry().register(socket, Token(place), interest)?;
        Ok(registration)
    }

    /// One turn of the reactor's task.
    fn turn(&self) {
        let ran = task::ran();
        let idle = self.ran.replace(ran) == ran;
        if !idle && !self.stood_back.replace(true) {
            // What has run may have woken others, who now stand behind this task: they first.
            return;
        }
        self.stood_back.set(false);
        let now = Instant::now();
        let waiting = !idle || !self.looking.borrow().is_empty() || self.doorbell.has_rung();
        if waiting {
            self.look(Some(Duration::ZERO));
        } else if !self.polled_busily(now) {
            self.sleep(now);
        }
        self.take_word();
        self.timers.fire(Instant::now());
        self.looks.set(self.looks.get().wrapping_add(1));
        for waker in self.looking.take() {
            waker.wake();
        }
    }

    /// Looks again and again for a while before a sleep; says whether anything came.
    fn polled_busily(&self, now: Instant) -> bool {
        if self.busy_poll.is_zero() {
            return false;
        }
        loop {
            if self.look(Some(Duration::ZERO)) || self.doorbell.has_rung() {
                return true;
            }
            let spent = Instant::now();
            if self.timers.next().is_some_and(|due| due <= spent) {
                return true;
            }
            if spent.duration_since(now) >= self.busy_poll {
                return false;
            }
        }
    }

    fn sleep(&self, now: Instant) {
        if !self.doorbell.sleep() {
            return;
        }
        let until_next = self.timers.next().map_or(LONGEST_SLEEP, |due| due.saturating_duration_since(now));
        self.look(Some(until_next.min(LONGEST_SLEEP)));
        self.doorbell.wake_up();
    }

    /// Takes note of what has happened to sockets, waiting at most `timeout`; says whether something has.
    fn look(&self, timeout: Option<Duration>) -> bool {
        let mut events = self.events.borrow_mut();
        match self.poll.borrow_mut().poll(&mut events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            // Nothing that this process could have done right or can mend: the descriptor is gone or never was one.
            Err(error) => panic!("cannot wait for sockets: {error}"),
        }
        let sockets = self.sockets.borrow();
        for event in &*events {
            if let Some(socket) = sockets.get(event.token().0) {
                socket.happened(event);
            }
        }
        !events.is_empty()
    }

    /// Wakes those for whom other threads have left word.
    fn take_word(&self) {
        if self.doorbell.collect(task::Token::arrived) {
            self.rings.set(self.rings.get().wrapping_add(1));
            for waker in self.listening.take() {
                waker.wake();
            }
        }
    }
}

impl Readiness {
    fn happened(&self, event: &Event) {
        if event.is_read_closed() || event.is_error() {
            self.ended.set(true);
        }
        if event.is_readable() || self.ended.get() {
            self.readable.set(true);
            if let Some(waker) = &*self.reader.borrow() {
                waker.wake_by_ref();
            }
        }
        if (event.is_writable() || event.is_error())
            && let Some(waker) = self.writer.take()
        {
            waker.wake();
        }
    }
}

/// A socket's place with the reactor, for as long as it lives. The kernel forgets the socket when it is closed.
#[derive(Debug)]
pub(super) struct Registration {
    reactor: Rc<Reactor>,
    place: usize,
    pub(super) readiness: Rc<Readiness>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // An event of this look that is still on its way may reach the next socket in this place, which then reads in vain.
        self.reactor.sockets.borrow_mut().remove(self.place);
    }
}

/// The reactor's task.
pub(super) struct Turns(pub(super) Rc<Reactor>);

impl Future for Turns {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.stopped.get() {
            return Poll::Ready(());
        }
        self.0.turn();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Waits until the core has looked at its sockets, its timers and its doorbell, and everybody else who can run has run:
/// what long work does between two slices.
///
/// # Panics
/// If the calling thread is not a core's.
pub async fn look() {
    let reactor = current();
    let before = reactor.looks.get();
    poll_fn(|cx| {
        if reactor.looks.get() != before {
            return Poll::Ready(());
        }
        reactor.looking.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// The rings of the core's doorbell, for one task that looks at memory shared with other threads: look, wait for news, look
/// again.
#[derive(Debug)]
pub struct News {
    reactor: Rc<Reactor>,
    seen: u64,
}

impl News {
    /// News from here on; what was there before is found by looking first.
    ///
    /// # Panics
    /// If the calling thread is not a core's.
    pub fn subscribe() -> News {
        let reactor = current();
        News { seen: reactor.rings.get(), reactor }
    }

    /// Waits for a ring since the last time. What was written before a ring is there when this returns.
    pub async fn next(&mut self) {
        poll_fn(|cx| {
            let rings = self.reactor.rings.get();
            if rings != self.seen {
                self.seen = rings;
                return Poll::Ready(());
            }
            self.reactor.listening.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

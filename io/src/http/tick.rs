//! The permanent tick of a core: a coarse clock, the driver of every connection deadline, and a heartbeat.
//!
//! Invariant: one tick per core, started before [`super::serve`].
//! **Runs on**: the core that started it; [`Heartbeat`] alone is read from other threads.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::runtime::{sleep, spawn};

/// Time between two ticks, and so the precision of [`Clock`].
pub const TICK: Duration = Duration::from_millis(2);

thread_local! {
    static CLOCK: OnceCell<Clock> = const { OnceCell::new() };
}

/// A sign of life that a watchdog on another thread can look at.
#[derive(Debug)]
pub struct Heartbeat {
    origin: Instant,
    beat_ms: AtomicU64,
}

impl Heartbeat {
    /// A heart that beats now for the first time.
    pub fn new() -> Arc<Heartbeat> {
        Arc::new(Heartbeat { origin: Instant::now(), beat_ms: AtomicU64::new(0) })
    }

    /// How long ago the core ticked last.
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(last)
    }

    fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin).as_millis();
        self.beat_ms.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The time as of the last tick: reading it is a memory access. Clones are the same clock.
#[derive(Clone)]
pub struct Clock {
    shared: Rc<Shared>,
}

struct Shared {
    origin: Instant,
    now: Cell<Instant>,
    now_ms: Cell<u64>,
    worst_gap: Cell<Duration>,
    hooks: RefCell<Vec<Weak<dyn Fn()>>>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("now_ms", &self.now_ms()).finish_non_exhaustive()
    }
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let now = Instant::now();
        Clock {
            shared: Rc::new(Shared {
                origin: now,
                now: Cell::new(now),
                // Starts at one, so that zero can mean "never" wherever a time is kept.
                now_ms: Cell::new(1),
                worst_gap: Cell::new(Duration::ZERO),
                hooks: RefCell::new(Vec::new()),
            }),
        }
    }

    /// The last tick as an instant: at most one tick old unless the core is stuck.
    pub fn now(&self) -> Instant {
        self.shared.now.get()
    }

    /// Milliseconds since the clock started, plus one: never zero.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms.get()
    }

    /// The longest time between two ticks since the last call, and forgets it. Far more than [`TICK`] means that a
    /// task held the core, or that it was given no CPU.
    pub fn take_worst_gap(&self) -> Duration {
        self.shared.worst_gap.take()
    }

    /// Runs `hook` at every tick for as long as the caller keeps it.
    pub(crate) fn each_tick(&self, hook: &Rc<dyn Fn()>) {
        self.shared.hooks.borrow_mut().push(Rc::downgrade(hook));
    }

    pub(crate) fn advance(&self, now: Instant) {
        let shared = &*self.shared;
        let gap = now.saturating_duration_since(shared.now.get());
        shared.worst_gap.set(shared.worst_gap.get().max(gap));
        shared.now.set(now);
        let since = now.saturating_duration_since(shared.origin).as_millis();
        shared.now_ms.set(1 + u64::try_from(since).unwrap_or(u64::MAX - 1));
        shared.hooks.borrow_mut().retain(|hook| match hook.upgrade() {
            Some(hook) => {
                hook();
                true
            }
            None => false,
        });
    }
}

/// Starts the tick of the calling core; once per core, before anything that needs [`clock`].
///
/// # Panics
/// If this thread has a tick already.
pub fn start_tick(heartbeat: Arc<Heartbeat>) -> Clock {
    let clock = Clock::new();
    let fresh = CLOCK.with(|slot| slot.set(clock.clone()).is_ok());
    assert!(fresh, "this core has a tick already");
    let advancing = clock.clone();
    spawn(async move {
        loop {
            sleep(TICK).await;
            let now = Instant::now();
            heartbeat.beat(now);
            advancing.advance(now);
        }
    })
    .detach();
    clock
}

/// The clock of the calling core.
///
/// # Panics
/// If [`start_tick`] was not called on this thread.
pub fn clock() -> Clock {
    CLOCK.with(|slot| slot.get().cloned()).expect("start_tick comes first on every core")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_runs_living_hooks_and_keeps_the_worst_gap() {
        let clock = Clock::new();
        let ran = Rc::new(Cell::new(0));
        let seen = Rc::clone(&ran);
        let hook: Rc<dyn Fn()> = Rc::new(move || seen.set(seen.get() + 1));
        clock.each_tick(&hook);
        let start = clock.now();
        clock.advance(start + Duration::from_millis(50));
        clock.advance(start + Duration::from_millis(60));
        assert_eq!(clock.now_ms(), 61);
        assert_eq!(ran.get(), 2);
        assert_eq!(clock.take_worst_gap(), Duration::from_millis(50));
        assert_eq!(clock.take_worst_gap(), Duration::ZERO);
        drop(hook);
        clock.advance(start + Duration::from_millis(70));
        assert_eq!(ran.get(), 2);
    }

    #[test]
    fn a_core_ticks() {
        let heartbeat = Heartbeat::new();
        let beats = Arc::clone(&heartbeat);
        crate::runtime::Runtime::new()
            .expect("descriptors")
            .start(crate::runtime::Placement::Unbound, "tick", move || async move {
                let clock = start_tick(beats);
                let before = clock.now_ms();
                while clock.now_ms() < before + 4 {
                    sleep(TICK).await;
                }
            })
            .expect("a core")
            .join()
            .expect("a clean end");
        assert!(heartbeat.beat_ms.load(Ordering::Relaxed) > 0);
    }
}

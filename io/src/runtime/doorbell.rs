//! How other threads reach a core: they leave word and ring, and a core that sleeps wakes up.
//!
//! Two kinds of word: a task of the core to be woken (any future of any channel may ask for that, from any thread), and
//! "look at what is yours" for memory that the core and its peers share, such as the rings between cores.
//!
//! Invariants: word that was left before a sleep is found before it, word left during a sleep ends it (each side writes its
//! flag and then reads the other's, in one total order); a core that is awake is never disturbed by a system call.
//! **Runs on**: any thread; `sleep`, `wake_up` and `collect` on the core. **Not here**: what tasks do ([`super::task`]).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;

use super::task::Token;

/// Tasks that one look wakes; the others run behind what the sockets have brought meanwhile. One sync of the log answers
/// any number of writers at once, and readers should not wait for them all.
pub(super) const WAKES: usize = 4;

/// One core's doorbell.
pub struct Doorbell {
    asleep: AtomicBool,
    news: AtomicBool,
    to_wake: SegQueue<Arc<Token>>,
    alarm: mio::Waker,
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell")
            .field("asleep", &self.asleep)
            .field("news", &self.news)
            .finish_non_exhaustive()
    }
}

impl Doorbell {
    pub(super) fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Arc<Doorbell>> {
        Ok(Arc::new(Doorbell {
            asleep: AtomicBool::new(false),
            news: AtomicBool::new(false),
            to_wake: SegQueue::new(),
            alarm: mio::Waker::new(registry, token)?,
        }))
    }

    /// Tells the core that there is something new for it in memory that the caller shares with it; to be called after the
    /// writing. Whoever waits for [`super::News`] there looks again.
    pub fn ring(&self) {
        // One ring is enough until the core has looked. A swap even then: a mere look at the flag could be done before
        // the caller's word is there for others to see, and the core would miss it.
        if self.news.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.asleep.load(Ordering::SeqCst)
            && let Err(error) = self.alarm.wake()
        {
            // It wakes at its next tick at the latest.
            tracing::warn!("cannot wake a core: {error}");
        }
    }

    /// Leaves word that a task is to be woken.
    pub(super) fn wake(&self, task: Arc<Token>) {
        self.to_wake.push(task);
        self.ring();
    }

    /// The core is about to sleep; says whether it may.
    pub(super) fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let quiet = !self.news.load(Ordering::SeqCst);
        if !quiet {
            self.asleep.store(false, Ordering::SeqCst);
        }
        quiet
    }

    /// The core is awake.
    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether anybody rang since the last [`Doorbell::collect`]. A memory access.
    pub(super) fn has_rung(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Takes word that was left, of a few tasks; says whether there was any.
    pub(super) fn collect(&self, mut wake: impl FnMut(&Token)) -> bool {
        // Before the queue is emptied: word left from here on rings again.
        if !self.news.swap(false, Ordering::SeqCst) {
            return false;
        }
        for _ in 0..WAKES {
            let Some(task) = self.to_wake.pop() else { return true };
            wake(&task);
        }
        if !self.to_wake.is_empty() {
            // For the next look.
            self.news.store(true, Ordering::SeqCst);
        }
        true
    }
}

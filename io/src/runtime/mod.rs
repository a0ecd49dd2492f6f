//! The runtime of a serving core: a pinned glommio executor for the tasks, and a reactor of our own for what they wait for.
//!
//! Why not glommio's reactor: it goes to sleep and wakes up through three rings, with two timers armed and cancelled each
//! time. A core that was not busy spent more on that than on the requests: 26 µs of CPU for each at 34,500 a second, of which
//! 52 % were io_uring calls for timers and cancellations (PERF.md). And glommio 0.9.0 can sleep while tasks are runnable.
//! Here a wake-up is one `epoll_wait`, other threads reach a core through a doorbell, and glommio's reactor, which nothing
//! waits for, runs when its preemption timer fires: once a second.
//!
//! `Runtime` → [`Runtime::start`] → a thread with an executor → tasks ([`spawn`]), sockets ([`TcpStream`]), timers
//! ([`Timer`]), words between cores ([`Doorbell`], [`News`]), and turns for long work ([`look`]).
//!
//! Invariants: one reactor a core; the reactor's task is always runnable, so that glommio never parks.
//! **Runs on**: the thread that `start` makes. **Not here**: what is served ([`crate::http`]), files, disks.

mod doorbell;
mod reactor;
mod socket;
mod task;
#[cfg(test)]
mod tests;
mod timer;

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use glommio::Placement;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder};

pub use self::doorbell::Doorbell;
use self::reactor::{DOORBELL, Reactor, Turns};
pub use self::reactor::{News, look};
pub use self::socket::{TcpListener, TcpStream};
use self::task::Shell;
pub use self::task::{Task, spawn, spawn_behind};
pub use self::timer::{Timer, sleep};
use crate::cpu::take_short_turns;

/// How often glommio's reactor runs. When its timer fires before anything has run, the executor parks with tasks left
/// (glommio/glommio#53); a thread does not lose its CPU for this long while its machine is of any use.
const PREEMPTION: Duration = Duration::from_secs(1);
/// Should it park all the same, a timer that is always armed ends that. With a release that has the fix it can go.
const GUARD: Duration = Duration::from_millis(100);
/// Memory that an executor registers for direct I/O on files, of which there is none here: the least that is taken.
const IO_MEMORY: usize = 64 << 10;
/// Entries of each of glommio's rings, which carry its two timers.
const RING_DEPTH: usize = 16;

/// A core that does not run yet; its doorbell can be given to others already.
#[derive(Debug)]
pub struct Runtime {
    poll: mio::Poll,
    doorbell: Arc<Doorbell>,
    busy_poll: Duration,
}

/// The thread of a running core.
#[derive(Debug)]
pub struct Running<T: Send + 'static>(ExecutorJoinHandle<T>);

impl<T: Send + 'static> Running<T> {
    /// Waits for the core's end and gives what its main future gave.
    ///
    /// # Errors
    /// The core's thread panicked.
    pub fn join(self) -> io::Result<T> {
        self.0.join().map_err(|error| io::Error::other(error.to_string()))
    }
}

impl Runtime {
    /// A core that sleeps as soon as it has nothing to do.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> io::Result<Runtime> {
        let poll = mio::Poll::new()?;
        let doorbell = Doorbell::new(poll.registry(), DOORBELL)?;
        Ok(Runtime { poll, doorbell, busy_poll: Duration::ZERO })
    }

    /// Looks for news over and over for so long before each sleep: saves the time of falling asleep and waking up, and
    /// burns the CPU meanwhile.
    #[must_use]
    pub fn busy_poll(mut self, time: Duration) -> Runtime {
        self.busy_poll = time;
        self
    }

    /// How other threads reach the core.
    pub fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// Starts the core on a thread that bears `name`. It ends when the future of `main` does; tasks that still run are
    /// dropped then.
    ///
    /// # Errors
    /// The executor cannot be made: no io_uring, too little locked memory, a CPU that is not there.
    pub fn start<M, F, T>(self, placement: Placement, name: &str, main: M) -> io::Result<Running<T>>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let builder = LocalExecutorBuilder::new(placement)
            .name(name)
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPTION);
        let Runtime { poll, doorbell, busy_poll } = self;
        let running = builder.spawn(move || async move {
            take_short_turns();
            let reactor = Reactor::install(poll, doorbell, busy_poll);
            glommio::spawn_local(Turns(Rc::clone(&reactor))).detach();
            glommio::spawn_local(async {
                loop {
                    glommio::timer::sleep(GUARD).await;
                }
            })
            .detach();
            let done = Shell::new(main()).await;
            reactor.stop();
            done
        });
        running.map(Running).map_err(|error| io::Error::other(error.to_string()))
    }
}

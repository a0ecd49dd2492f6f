//! Tasks of a core, and the wakers that lead back to them from any thread.
//!
//! A task is a glommio task whose future is polled with a waker of ours. On the core itself that waker finds the task's
//! glommio waker in a table; on another thread it leaves word at the core's [doorbell](super::doorbell). glommio's own
//! way across threads is seen only when its reactor runs, which here happens once a second.
//!
//! Invariants: a task has one waker for life; a waker that outlives its task wakes at most a stranger, who looks and
//! waits on. **Runs on**: the core; wakers on any thread. **Not here**: the order of tasks, which is glommio's.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;
use slab::Slab;

use super::doorbell::Doorbell;
use super::reactor;

/// A task that runs on the core that spawned it. Dropped, it is cancelled; [`Task::detach`] lets it run.
#[must_use = "a task that is dropped is cancelled"]
#[derive(Debug)]
pub struct Task<T>(glommio::Task<T>);

impl<T> Task<T> {
    /// Lets the task run to its end by itself.
    pub fn detach(self) {
        self.0.detach();
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Starts a task on the calling core. It runs at once, up to its first wait.
///
/// # Panics
/// If the calling thread is not a core's.
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    Task(glommio::spawn_local(Shell::new(future)))
}

/// Starts a task that waits for its turn behind all that can run now.
///
/// # Panics
/// If the calling thread is not a core's.
pub fn spawn_behind<F: Future + 'static>(future: F) -> Task<F::Output> {
    let queue = glommio::executor().current_task_queue();
    Task(glommio::spawn_local_into(Shell::new(future), queue).expect("the queue of a running task exists"))
}

/// Where a task's waker leads.
pub(super) struct Token {
    home: Arc<Doorbell>,
    place: usize,
    /// It waits at the doorbell already.
    left: AtomicBool,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if reactor::at_home(&self.home) {
            TABLE.with(|table| table.wake(self.place));
        } else if !self.left.swap(true, Ordering::AcqRel) {
            self.home.wake(Arc::clone(self));
        }
    }
}

impl Token {
    /// The core has got the word: wakes the task.
    pub(super) fn arrived(&self) {
        self.left.store(false, Ordering::Release);
        TABLE.with(|table| table.wake(self.place));
    }
}

thread_local! {
    static TABLE: Table = const { Table::new() };
}

/// The glommio wakers of this core's tasks, and how many tasks have run.
struct Table {
    wakers: RefCell<Slab<Option<Waker>>>,
    ran: Cell<u64>,
}

impl Table {
    const fn new() -> Table {
        Table { wakers: RefCell::new(Slab::new()), ran: Cell::new(0) }
    }

    fn enter(&self) -> usize {
        self.wakers.borrow_mut().insert(None)
    }

    fn leave(&self, place: usize) {
        // Dropped after the table is free again.
        let _waker = self.wakers.borrow_mut().remove(place);
    }

    /// A glommio task has one waker for life, so the first is kept.
    fn set(&self, place: usize, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        let kept = &mut wakers[place];
        if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake(&self, place: usize) {
        if let Some(Some(waker)) = self.wakers.borrow().get(place) {
            waker.wake_by_ref();
        }
    }
}

/// How many times tasks of this core have run.
pub(super) fn ran() -> u64 {
    TABLE.with(|table| table.ran.get())
}

pin_project! {
    /// A future with its waker and its place in the table.
    pub(super) struct Shell<F> {
        #[pin]
        future: F,
        place: usize,
        waker: Waker,
    }

    impl<F> PinnedDrop for Shell<F> {
        fn drop(this: Pin<&mut Self>) {
            TABLE.with(|table| table.leave(this.place));
        }
    }
}

impl<F> Shell<F> {
    pub(super) fn new(future: F) -> Shell<F> {
        let place = TABLE.with(Table::enter);
        let token = Token { home: reactor::current().doorbell(), place, left: AtomicBool::new(false) };
        Shell { future, place, waker: Arc::new(token).into() }
    }
}

impl<F: Future> Future for Shell<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        TABLE.with(|table| {
            table.ran.set(table.ran.get() + 1);
            table.set(*this.place, cx.waker());
        });
        this.future.poll(&mut Context::from_waker(this.waker))
    }
}

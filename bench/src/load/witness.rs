//! Whether the server's CPUs were there at all.
//!
//! What a hypervisor or an interrupt takes of a CPU, nobody's account shows: the server seems to run all the time. So on
//! each CPU that serves, a thread of real-time priority, which nothing but those can keep off, wakes every half
//! millisecond and notes when it was late. What it uses of the CPU is counted as well: the server is not to be excused
//! for it, nor charged.
//!
//! **Runs on**: a thread for each serving CPU, for as long as a measurement lasts, which takes the right to real-time
//! priority (root, CAP_SYS_NICE). **Not here**: what follows from it (`judge`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use firescroll_io::cpu::go_first;

use super::judge::MOST;
use super::watch;
use crate::cpu::{self, Account};
use crate::error::{Result, Tried};

/// Time between two looks. A stall that is longer by [`MOST`] is always noticed; a look costs the CPU some 4 µs.
const PERIOD: Duration = Duration::from_micros(500);

/// Those of one measurement.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    accounts: Vec<Account>,
    /// Whether there was a CPU to watch and no right to.
    pub(super) refused: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// The sum of what the witnesses were late, in ns.
    absent: AtomicU64,
    stop: AtomicBool,
}

impl Witnesses {
    /// One on each CPU that a serving thread of the process has for itself; none without a process.
    pub(super) fn of(pid: Option<u32>) -> Result<Self> {
        let mut witnesses = Self::default();
        for cpu in pid.map_or(Ok(Vec::new()), watch::serving_cpus)? {
            match witnesses.start(cpu)? {
                Some(account) => witnesses.accounts.push(account),
                None => witnesses.refused = true,
            }
        }
        Ok(witnesses)
    }

    /// Starts one; nothing if it may not have the priority.
    fn start(&mut self, cpu: usize) -> Result<Option<Account>> {
        let (ready, is_ready) = mpsc::channel();
        let shared = self.shared.clone();
        let run = move || {
            let begun = cpu::pin(cpu).and_then(|()| Account::own());
            let is_first = go_first().is_ok();
            let is_good = begun.is_ok() && is_first;
            // The starter waits for this.
            let _ = ready.send(begun.map(|account| is_first.then_some(account)));
            if is_good {
                shared.watch();
            }
        };
        let thread = thread::Builder::new().name("witness".into()).spawn(run);
        self.threads.push(thread.tried(|| "start a thread".into())?);
        is_ready.recv().expect("a witness says how it began")
    }

    /// How long CPUs were not there so far.
    pub(super) fn absent(&self) -> Duration {
        Duration::from_nanos(self.shared.absent.load(Ordering::Relaxed))
    }

    /// What the witnesses themselves have used so far.
    pub(super) fn used(&self) -> Duration {
        self.accounts.iter().filter_map(Account::times).map(|times| times.used).sum()
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a witness does not panic");
        }
    }
}

impl Shared {
    fn watch(&self) {
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            due += PERIOD;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            let late = now.saturating_duration_since(due);
            if late > MOST {
                let nanoseconds = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                self.absent.fetch_add(nanoseconds, Ordering::Relaxed);
                due = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_cpu_of_its_own_has_no_witness() {
        let witnesses = Witnesses::of(None).expect("nothing to watch");
        assert!(witnesses.threads.is_empty() && !witnesses.refused);
        assert_eq!((witnesses.absent(), witnesses.used()), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_witness_looks_and_ends() {
        let mut witnesses = Witnesses::default();
        let cpu = cpu::allowed().expect("own CPUs")[0];
        let account = witnesses.start(cpu).expect("started");
        // Without the right to it, it has ended by itself.
        if let Some(account) = account {
            witnesses.accounts.push(account);
            let looked = |witnesses: &Witnesses| witnesses.accounts[0].times().expect("it runs").runs;
            let before = looked(&witnesses);
            while looked(&witnesses) < before + 3 {
                thread::yield_now();
            }
            assert!(witnesses.used() > Duration::ZERO);
        }
        drop(witnesses);
    }
}

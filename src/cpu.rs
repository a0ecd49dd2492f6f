//! Which CPUs a thread may run on, and who goes first where threads share one.
//!
//! Runs on: any thread, for itself; threads that it starts inherit. Not here: the choice of CPUs (`config`).

use rustix::thread::{CpuSet, sched_setaffinity};

/// How far threads stand back that bring mutations to the cores: their work comes in bursts, for which no reader waits.
pub const FEEDING: i32 = 5;
/// How far threads stand back that write and compact stores.
pub const STORING: i32 = 10;

/// Restricts the calling thread to `cpus`. A refusal is logged and changes nothing: placement is about speed only.
pub fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
        set.set(*cpu);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!("cannot pin a thread to CPUs {cpus:?}: {error}");
    }
}

/// Lowers the calling thread's priority by so many steps of niceness: where every CPU serves, what goes on in the
/// background takes turns with readers, and they go first.
pub fn stand_back(steps: i32) {
    if let Err(error) = rustix::process::nice(steps) {
        tracing::warn!("cannot lower a thread's priority: {error}");
    }
}

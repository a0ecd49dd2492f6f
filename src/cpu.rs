//! Which CPUs a thread may run on.
//!
//! Runs on: any thread, for itself; threads that it starts inherit. Not here: the choice of CPUs (`config`).

use rustix::thread::{CpuSet, sched_setaffinity};

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

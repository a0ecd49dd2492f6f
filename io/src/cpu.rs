//! Which CPUs a thread may run on, and who goes first where threads share one.
//!
//! Serving cores take short turns and never stand back; what works for them in the background stands back, so that on a
//! machine whose every CPU serves a reader waits for no more than a system call of theirs.
//!
//! Runs on: any thread, for itself; threads that it starts inherit. Not here: the choice of CPUs, which the
//! configuration makes.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// How far threads stand back that bring mutations to the cores: their work comes in bursts, for which no reader waits.
pub const FEEDING: i32 = 5;
/// How far threads stand back that write: the log's syncs, tables, compaction.
pub const STORING: i32 = 10;

/// The time that a serving core asks for at a stretch when others want its CPU: the least that Linux grants.
const SHORT_TURN_NS: u64 = 100_000;

/// Restricts the calling thread to `cpus`, unless there is none. A refusal is logged and changes nothing: placement is
/// about speed only.
pub fn pin(cpus: &[usize]) {
    if cpus.is_empty() {
        return;
    }
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

/// Asks for short turns for the calling thread. Linux 6.12 and newer let a thread with shorter turns than the running one's
/// have the CPU when it wakes up, if it has not had its share; otherwise a thread that has begun a turn keeps the CPU for
/// some milliseconds, however far it stands back. Older kernels change nothing, or refuse, which is as well. Fairness
/// stays: who takes shorter turns takes more of them.
pub fn take_short_turns() {
    if let Err(error) = set_turn(SHORT_TURN_NS) {
        tracing::debug!("a core takes turns of the usual length: {error}");
    }
}

/// Gives the calling thread the lowest real-time priority, with which it goes before every ordinary thread. For
/// instruments that look at the clock and sleep again, not for work.
///
/// # Errors
/// Without the right to it (root, `CAP_SYS_NICE`).
pub fn go_first() -> io::Result<()> {
    let policy = libc::SCHED_FIFO.unsigned_abs();
    set_attributes(SchedAttr { policy, priority: 1, ..SchedAttr::default() })
}

fn set_turn(nanoseconds: u64) -> io::Result<()> {
    set_attributes(SchedAttr {
        policy: libc::SCHED_OTHER.unsigned_abs(),
        // Left as it is: the call sets all or nothing.
        nice: rustix::process::getpriority_process(None)?,
        runtime: nanoseconds,
        ..SchedAttr::default()
    })
}

/// The kernel's `struct sched_attr` in its first version, as sched_setattr(2) has it.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[expect(unsafe_code, reason = "no library offers this call")]
fn set_attributes(mut attributes: SchedAttr) -> io::Result<()> {
    attributes.size = u32::try_from(size_of::<SchedAttr>()).expect("a few words");
    // SAFETY: the kernel reads `size` bytes from the pointer, which is to a value of that size that outlives the call, and
    // keeps nothing of it. Thread 0 is the calling one.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).expect("one's own")
    }

    #[test]
    fn a_thread_stands_back_alone_and_short_turns_leave_it_there() {
        let before = nice();
        let stood_back = std::thread::spawn(move || {
            stand_back(STORING);
            set_turn(SHORT_TURN_NS).expect("every kernel takes this for an ordinary thread");
            nice()
        });
        assert_eq!(stood_back.join().expect("no panic"), (before + STORING).min(19));
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_thread_is_pinned_alone_and_no_list_pins_nothing() {
        let allowed = || {
            let status = fs::read_to_string("/proc/thread-self/status").expect("the kernel's account");
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("is there");
            line.split_whitespace().last().expect("a list").to_owned()
        };
        let before = allowed();
        let (none, one) = std::thread::spawn(move || {
            pin(&[]);
            let none = allowed();
            pin(&[rustix::thread::sched_getcpu()]);
            (none, allowed())
        })
        .join()
        .expect("no panic");
        assert_eq!(none, before);
        assert!(one.parse::<usize>().is_ok(), "one CPU: {one}");
        assert_eq!(allowed(), before);
    }
}

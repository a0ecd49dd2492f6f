//! Which CPU this thread runs on, how much CPU a thread or process used, and what a process holds.
//!
//! All of it from system calls and `/proc`, in the kernel's units turned into `Duration` and bytes.
//!
//! **Runs on**: the calling thread, which alone is pinned and raised. **Not here**: changing other processes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{BenchError, Result, Tried};

/// Pins the calling thread, and what it starts from now on, to one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    pin_to(&[cpu])
}

/// Pins the calling thread, and what it starts from now on, to the given CPUs.
pub(crate) fn pin_to(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(BenchError::Usage(format!("CPU {cpu}: at most {} are known", CpuSet::MAX_CPU)));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).tried(|| format!("pin this thread to CPU {cpus:?}"))
}

/// The CPUs that the calling thread may run on, ascending.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).tried(|| "read this thread's CPU affinity".into())?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Gives the calling thread, and what it starts from now on, the highest priority that an ordinary thread may have;
/// whether that was allowed, which takes root.
pub(crate) fn raise_priority() -> bool {
    // Of a process number 0 the kernel makes the calling thread, not its process.
    rustix::process::setpriority_process(None, -20).is_ok()
}

/// Whether the kernel deals out the CPUs among sessions first, so that a priority counts within one session alone.
pub(crate) fn is_grouped_by_session() -> bool {
    fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").is_ok_and(|text| text.trim() == "1")
}

/// Raises this process's limit on open descriptors to at least `wanted`.
pub(crate) fn raise_open_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let maximum = limit.maximum.unwrap_or_default();
        return Err(BenchError::Usage(format!(
            "{wanted} open descriptors are needed, the hard limit is {maximum}: raise it (ulimit -H -n) or ask for fewer connections"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .tried(|| format!("raise the limit on open descriptors to {wanted}"))
}

/// CPU time that the calling thread has used so far.
pub(crate) fn thread_time() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).tried(|| format!("read {path}"))?;
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| BenchError::Usage(format!("{path} holds no time: {text:?}")))
}

/// What the scheduler has noted of one thread so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// CPU time that it had.
    pub(crate) used: Duration,
    /// Time that it was ready to run and had no CPU.
    pub(crate) delayed: Duration,
    /// How often it was given a CPU.
    pub(crate) runs: u64,
}

/// One thread's account with the scheduler, kept open: a look at it is one system call.
#[derive(Debug)]
pub(crate) struct Account(File);

impl Account {
    /// The calling thread's.
    pub(crate) fn own() -> Result<Self> {
        // Not `/proc/thread-self`: that link is another thread's when another thread reads.
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        Self::open(&PathBuf::from(format!("/proc/self/task/{thread}")))
    }

    /// That of a thread by its directory below `/proc`.
    pub(crate) fn open(task: &Path) -> Result<Self> {
        let path = task.join("schedstat");
        Ok(Self(File::open(&path).tried(|| format!("open {}", path.display()))?))
    }

    /// Nothing once the thread has ended. A wait is noted when it is over.
    pub(crate) fn times(&self) -> Option<Times> {
        let mut buffer = [0; 96];
        let length = self.0.read_at(&mut buffer, 0).ok()?;
        let mut words = std::str::from_utf8(&buffer[..length]).ok()?.split_whitespace();
        let mut next = || words.next()?.parse::<u64>().ok();
        let (used, delayed) = (Duration::from_nanos(next()?), Duration::from_nanos(next()?));
        Some(Times { used, delayed, runs: next()? })
    }
}

/// The threads of a process: their directories below `/proc`, and their names.
pub(crate) fn threads(pid: u32) -> Result<Vec<(PathBuf, String)>> {
    let tasks = format!("/proc/{pid}/task");
    let mut threads = Vec::new();
    for task in fs::read_dir(&tasks).tried(|| format!("list {tasks}"))? {
        let path = task.tried(|| format!("list {tasks}"))?.path();
        // One without a name has ended meanwhile.
        if let Ok(name) = fs::read_to_string(path.join("comm")) {
            threads.push((path, name.trim_end().to_owned()));
        }
    }
    Ok(threads)
}

/// The CPU of a thread by its directory below `/proc`, if it may use no other.
pub(crate) fn only_cpu(task: &Path) -> Option<usize> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().parse().ok()
}

/// How long some threads were ready to run and given no CPU, by the scheduler's own account.
#[derive(Debug)]
pub(crate) struct RunDelay {
    threads: Vec<Account>,
}

impl RunDelay {
    /// Watches the calling thread and, of the process `pid`, the threads whose names start with `prefix`.
    pub(crate) fn watch(pid: Option<u32>, prefix: &str) -> Result<Self> {
        let mut watched = vec![Account::own()?];
        for (path, name) in pid.map_or(Ok(Vec::new()), threads)? {
            if name.starts_with(prefix) {
                watched.push(Account::open(&path)?);
            }
        }
        Ok(Self { threads: watched })
    }

    /// The sum over all watched threads so far. A thread that has ended waits no more.
    pub(crate) fn total(&self) -> Duration {
        self.threads.iter().filter_map(Account::times).map(|times| times.delayed).sum()
    }
}

/// CPU time, user and system, that all threads of a process have used so far; 10 ms steps.
pub(crate) fn process_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).tried(|| format!("read {path}"))?;
    // The command name, in parentheses, may hold anything; the numbers count from behind it.
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
    let ticks = fields.and_then(|fields| {
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(user + system)
    });
    let ticks = ticks.ok_or_else(|| BenchError::Usage(format!("{path} holds no times")))?;
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / hertz as f64))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// The most resident memory that a process has had, in bytes.
pub(crate) fn peak_resident(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).tried(|| format!("read {path}"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map(|k| k * 1024).ok_or_else(|| BenchError::Usage(format!("{path} holds no line {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_process() {
        let pid = std::process::id();
        assert!(resident(pid).expect("own status") > 100_000);
        let before = thread_time().expect("own schedstat");
        let mut sum = 0_u64;
        while thread_time().expect("own schedstat") == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_time(pid).expect("own stat") < Duration::from_secs(3600));
    }

    #[test]
    fn run_delay_finds_threads_by_name() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (name, named) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("delayed-1".into()).spawn(move || {
            name.send(()).expect("the test waits");
            stopped.recv()
        });
        named.recv().expect("the thread runs");
        let found = RunDelay::watch(Some(std::process::id()), "delayed-").expect("own threads");
        assert_eq!(found.threads.len(), 2);
        let before = found.total();
        assert!(found.total() >= before);
        drop(stop);
        assert!(thread.expect("spawned").join().expect("no panic").is_err());
    }

    #[test]
    fn pinning_narrows_the_allowed_cpus() {
        let all = allowed().expect("own affinity");
        pin(all[0]).expect("an allowed CPU");
        assert_eq!(allowed().expect("own affinity"), [all[0]]);
        assert_eq!(only_cpu(Path::new("/proc/thread-self")), Some(all[0]));
        assert_eq!(only_cpu(Path::new("/proc/none")), None);
        assert!(pin(CpuSet::MAX_CPU).is_err());
    }
}

//! The program as a process: what it logs, when it ends, with which code.
//!
//! A thread reads standard error into a list of lines; waiters sleep until a line or the end of the process comes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest wait of a test for one thing to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(3);

/// Waits for a condition that nobody announces.
///
/// # Panics
/// If it does not come true within [`PATIENCE`].
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        thread::sleep(LOOK);
    }
}

/// The program with the given arguments and an environment of nothing but what every program needs.
pub(crate) fn firescroll(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firescroll"));
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A started process.
pub(crate) struct Process {
    child: Child,
    output: Arc<Output>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// Everything it wrote to standard error.
    pub(crate) errors: String,
}

#[derive(Default)]
struct Output {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Output {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something or the time is over.
    fn wait<T>(&self, within: Duration, mut look: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Process {
    /// Starts it; standard output is not looked at.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let errors = child.stderr.take().expect("standard error is piped");
        let output = Arc::new(Output::default());
        let to = Arc::clone(&output);
        thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n') {
                let Ok(line) = line else { break };
                to.state().lines.push(String::from_utf8_lossy(&line).into_owned());
                to.news.notify_all();
            }
            to.state().ended = true;
            to.news.notify_all();
        });
        Self { child, output }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.output.state().lines.join("\n")
    }

    /// What stands after `marker` in the first line that has it; none if the process ends or is late.
    pub(crate) fn after(&self, marker: &str) -> Option<String> {
        let found = self.output.wait(PATIENCE, |state| {
            let rest = state.lines.iter().find_map(|line| line.split_once(marker));
            rest.map(|(_, rest)| Some(rest.to_owned())).or(state.ended.then_some(None))
        });
        found.flatten()
    }

    /// Whether it has ended within the time.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        self.output.wait(time, |state| state.ended.then_some(())).is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub(crate) fn wait(&mut self) -> Ended {
        if !self.ends_within(PATIENCE) {
            self.signal(Signal::KILL);
            panic!("the process did not end within {PATIENCE:?}; it said:\n{}", self.errors());
        }
        let status = self.child.wait().expect("it is our child");
        Ended { code: status.code(), errors: self.errors() }
    }

    /// Sends a signal; one that has ended already does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        // The process is not waited for before it is dropped or has closed its output, so the id is its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Ends it as a lost machine would.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that serves a directory with the settings of a test: small, on free ports, on the loopback alone.
pub(crate) fn serve(dir: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = firescroll(&["serve"]);
    command.env("DB_PATH", dir);
    let defaults = [
        ("API_ADDR", "127.0.0.1"),
        ("API_PORT", "0"),
        ("INTERNAL_PORT", "0"),
        ("PARTITIONS", "8"),
        ("SHARDS", "2"),
        ("CACHE_MB", "8"),
        ("STORE_CACHE_MB", "8"),
        ("DISK_RESERVE_MB", "16"),
    ];
    command.envs(defaults).envs(settings.iter().copied());
    command
}

//! A server process that a benchmark starts for itself.
//!
//! start (pinned, output to a file) → answers → measured → stopped in good order, or killed when this value is dropped.
//!
//! **Invariants**: no process outlives its value, nor this program (`starter`). **Not here**: which servers there are
//! (`node`, `yardstick`).

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Target, connect};
use crate::error::{BenchError, Result, Tried};
use crate::{interrupt, starter};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
/// After an interrupt, when somebody waits.
const STOP_INTERRUPTED: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running server process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    output: PathBuf,
    /// Where it answers clients.
    pub(crate) api: Target,
}

impl Process {
    /// Starts a command of the starter's on the given CPUs and waits until it is up.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        cpus: &[usize],
        port: u16,
        up: Up,
        output: PathBuf,
    ) -> Result<Self> {
        let file = File::create(&output).tried(|| format!("create {}", output.display()))?;
        let errors = file.try_clone().tried(|| "share an output file".into())?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = starter::start(command, cpus)?;
        let mut process = Self { child, name, output, api: Target::local(port) };
        process.wait_until_up(up)?;
        Ok(process)
    }

    fn wait_until_up(&mut self, up: Up) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            interrupt::check()?;
            let is_up = match up {
                Up::Answers(path) => {
                    Client::new(self.api.clone()).get(path).is_ok_and(|answer| answer.status == 200)
                }
                Up::Accepts => connect(&self.api).is_ok(),
            };
            if is_up {
                return Ok(());
            }
            let ended = self.child.try_wait().tried(|| format!("look after {}", self.name))?;
            if let Some(status) = ended {
                return Err(BenchError::Patience(format!(
                    "{} ended at once, {status}:\n{}",
                    self.name,
                    self.said()
                )));
            }
            if Instant::now() >= deadline {
                return Err(BenchError::Patience(format!(
                    "{} does not answer after {START:?}:\n{}",
                    self.name,
                    self.said()
                )));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The last lines that the process printed.
    fn said(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to stop and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        if self.ends(STOP)? {
            return Ok(());
        }
        Err(BenchError::Patience(format!("{} does not stop after {STOP:?}:\n{}", self.name, self.said())))
    }

    /// Kills the process, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks the process to stop; whether it has ended within that time.
    fn ends(&mut self, patience: Duration) -> Result<bool> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        while self.child.try_wait().tried(|| format!("wait for {}", self.name))?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(true)
    }

    fn end(&mut self) {
        // Both fail only when the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if interrupt::is_asked() {
            // In good order if it is willing; it is killed all the same.
            let _ = self.ends(STOP_INTERRUPTED);
        }
        self.end();
    }
}

/// How a server shows that it is up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Up {
    /// This path is answered with 200.
    Answers(&'static str),
    /// It takes connections.
    Accepts,
}

/// A program on the path, or where Debian puts servers.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
}

/// A loopback port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "bind a free port".into())?;
    Ok(listener.local_addr().tried(|| "read the bound address".into())?.port())
}

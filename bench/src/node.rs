//! Server processes that a benchmark starts for itself: a node, or the constant responder.
//!
//! start (pinned, on free loopback ports, output to a file) → answers → measured → stopped in good order, or killed
//! when this value is dropped.
//!
//! **Invariants**: no process outlives its value. **Not here**: the node's own threads' placement.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Target};
use crate::cpu;
use crate::error::{BenchError, Result, Tried};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
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
    /// Starts a command on the given CPUs and waits until `path` answers 200 on its API port.
    fn start(
        name: &'static str,
        mut command: Command,
        cpus: &[usize],
        port: u16,
        path: &str,
        output: PathBuf,
    ) -> Result<Self> {
        let file = File::create(&output).tried(|| format!("create {}", output.display()))?;
        let errors = file.try_clone().tried(|| "share an output file".into())?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        // A child inherits the CPUs of the thread that starts it.
        let child = thread::scope(|scope| {
            let starter = scope.spawn(|| {
                cpu::pin_to(cpus)?;
                command.spawn().tried(|| format!("start {:?}", command.get_program()))
            });
            starter.join().expect("the starter does not panic")
        })?;
        let mut process = Self { child, name, output, api: Target::local(port) };
        process.wait_until_up(path)?;
        Ok(process)
    }

    fn wait_until_up(&mut self, path: &str) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if Client::new(self.api.clone()).get(path).is_ok_and(|answer| answer.status == 200) {
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
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP;
        while self.child.try_wait().tried(|| format!("wait for {}", self.name))?.is_none() {
            if Instant::now() >= deadline {
                return Err(BenchError::Patience(format!(
                    "{} does not stop after {STOP:?}:\n{}",
                    self.name,
                    self.said()
                )));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
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
        // Both fail only when the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a node is started.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan<'a> {
    /// The `firescroll` binary.
    pub(crate) binary: &'a Path,
    /// The node's data; a scratch directory.
    pub(crate) data: &'a Path,
    /// CPUs that the process may use; its shards sit on the first ones.
    pub(crate) cpus: &'a [usize],
    /// Number of serving cores.
    pub(crate) shards: usize,
    /// Further environment variables.
    pub(crate) settings: &'a [(&'a str, String)],
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    internal: Target,
}

impl Node {
    /// Starts a node and waits until it answers.
    pub(crate) fn start(plan: &NodePlan<'_>) -> Result<Self> {
        let (api, internal) = (free_port()?, free_port()?);
        let mut command = Command::new(plan.binary);
        command.arg("serve").env_clear();
        // Only what a process needs to run at all; settings of this shell must not leak into the measured node.
        for name in ["PATH", "HOME", "RUST_BACKTRACE", "RUST_LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let serving: Vec<usize> = plan.cpus.iter().copied().cycle().take(plan.shards).collect();
        command
            .env("DB_PATH", plan.data)
            .env("API_ADDR", "127.0.0.1")
            .env("API_PORT", api.to_string())
            .env("INTERNAL_PORT", internal.to_string())
            .env("SHARDS", plan.shards.to_string())
            .env("SHARD_CPUS", list(&serving));
        for (name, value) in plan.settings {
            command.env(name, value);
        }
        let output = plan.data.with_extension("out");
        let process = Process::start("the node", command, plan.cpus, api, "/up", output)?;
        Ok(Self { process, internal: Target::local(internal) })
    }

    /// Where it answers clients.
    pub(crate) fn api(&self) -> &Target {
        &self.process.api
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The text of its metrics.
    pub(crate) fn metrics(&self) -> Result<String> {
        let answer = Client::new(self.internal.clone()).get("/metrics")?.expect(200, "read /metrics")?;
        String::from_utf8(answer.body).map_err(|_| BenchError::Answer("/metrics is not text".into()))
    }

    /// Stops it in good order.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// Starts this program's constant responder as a process of its own.
pub(crate) fn start_constant(scratch: &Path, cpu: usize, bytes: usize, read_body: bool) -> Result<Process> {
    let port = free_port()?;
    let program = std::env::current_exe().tried(|| "find this program".into())?;
    let mut command = Command::new(program);
    command.args([
        "constant",
        "--port",
        &port.to_string(),
        "--cpu",
        &cpu.to_string(),
        "--bytes",
        &bytes.to_string(),
    ]);
    if read_body {
        command.arg("--read-body");
    }
    Process::start("the constant responder", command, &[cpu], port, "/", scratch.join("constant.out"))
}

/// A loopback port that nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "bind a free port".into())?;
    Ok(listener.local_addr().tried(|| "read the bound address".into())?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_words() {
        let scratch = tempfile::tempdir().expect("scratch directory");
        let binary = scratch.path().join("node");
        fs::write(&binary, "#!/bin/sh\necho \"cannot: $DB_PATH\" >&2\nexit 3\n").expect("script");
        let mut permissions = fs::metadata(&binary).expect("script").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&binary, permissions).expect("executable");
        let data = scratch.path().join("data");
        let cpus = cpu::allowed().expect("own CPUs");
        let plan = NodePlan { binary: &binary, data: &data, cpus: &cpus[..1], shards: 1, settings: &[] };
        let error = Node::start(&plan).expect_err("it ends").to_string();
        assert!(error.contains("cannot: ") && error.contains("exit status: 3"), "{error}");
    }
}

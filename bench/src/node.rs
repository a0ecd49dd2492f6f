//! Server processes that a benchmark starts for itself: a node, the constant responder, nginx and Redis.
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

use crate::client::{Client, Target, connect};
use crate::cpu;
use crate::error::{BenchError, Result, Tried};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const CATCH_UP: Duration = Duration::from_secs(300);
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
    /// Starts a command on the given CPUs and waits until it is up.
    fn start(
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
        // A child inherits the CPUs of the thread that starts it.
        let child = thread::scope(|scope| {
            let starter = scope.spawn(|| {
                cpu::pin_to(cpus)?;
                command.spawn().tried(|| format!("start {:?}", command.get_program()))
            });
            starter.join().expect("the starter does not panic")
        })?;
        let mut process = Self { child, name, output, api: Target::local(port) };
        process.wait_until_up(up)?;
        Ok(process)
    }

    fn wait_until_up(&mut self, up: Up) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
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

/// How a server shows that it is up.
#[derive(Debug, Clone, Copy)]
enum Up {
    /// This path is answered with 200.
    Answers(&'static str),
    /// It takes connections.
    Accepts,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan<'a> {
    /// The `firescroll` binary.
    pub(crate) binary: &'a Path,
    /// The node's data; a scratch directory.
    pub(crate) data: &'a Path,
    /// CPUs that the process may use; its shards sit on the first ones, or share them if there are more shards.
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
        command
            .env("DB_PATH", plan.data)
            .env("API_ADDR", "127.0.0.1")
            .env("API_PORT", api.to_string())
            .env("INTERNAL_PORT", internal.to_string())
            .env("SHARDS", plan.shards.to_string());
        // More shards than CPUs share those of the process, which the node warns of.
        if let Some(serving) = plan.cpus.get(..plan.shards) {
            command.env("SHARD_CPUS", list(serving));
        }
        for (name, value) in plan.settings {
            command.env(name, value);
        }
        let output = plan.data.with_extension("out");
        let process = Process::start("the node", command, plan.cpus, api, Up::Answers("/up"), output)?;
        Ok(Self { process, internal: Target::local(internal) })
    }

    /// Where it answers clients.
    pub(crate) fn api(&self) -> &Target {
        &self.process.api
    }

    /// The process that answers clients.
    pub(crate) fn process(&self) -> &Process {
        &self.process
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

    /// Waits until it has caught up with its log.
    pub(crate) fn ready(&self) -> Result<()> {
        let mut client = Client::new(self.api().clone());
        let deadline = Instant::now() + CATCH_UP;
        while client.get("/ready")?.status != 200 {
            if Instant::now() >= deadline {
                return Err(BenchError::Patience(format!("{} is not ready after {CATCH_UP:?}", self.api())));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Waits until it is done with what it does in the background (compaction after a load), two minutes at most: what
    /// is measured next should be requests.
    pub(crate) fn settle(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_secs(1);
        for _ in 0..120 {
            let before = cpu::process_time(self.pid())?;
            thread::sleep(LOOK);
            if cpu::process_time(self.pid())?.saturating_sub(before) < LOOK / 20 {
                return Ok(());
            }
        }
        eprintln!("the node is still busy with itself after two minutes; measuring all the same");
        Ok(())
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
    let output = scratch.join("constant.out");
    Process::start("the constant responder", command, &[cpu], port, Up::Answers("/"), output)
}

/// Starts nginx with one worker that answers everything with the same `bytes`; none if it is not installed.
pub(crate) fn start_nginx(scratch: &Path, cpu: usize, bytes: usize) -> Result<Option<Process>> {
    let Some(program) = find("nginx") else { return Ok(None) };
    let port = free_port()?;
    let home = scratch.join("nginx");
    fs::create_dir_all(&home).tried(|| format!("create {}", home.display()))?;
    // No logs, no limits on kept-alive connections: as little as it can do.
    let text = "x".repeat(bytes.saturating_sub(2));
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 20000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type application/json;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '\"{text}\"'; }} }} }}\n"
    );
    let path = home.join("nginx.conf");
    fs::write(&path, configuration).tried(|| format!("write {}", path.display()))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&home).arg("-c").arg(&path).args(["-e", "stderr"]);
    let output = scratch.join("nginx.out");
    Process::start("nginx", command, &[cpu], port, Up::Answers("/"), output).map(Some)
}

/// Starts Redis without persistence; none if it is not installed.
pub(crate) fn start_redis(scratch: &Path, cpu: usize) -> Result<Option<Process>> {
    let Some(program) = find("redis-server") else { return Ok(None) };
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.current_dir(scratch);
    Process::start("Redis", command, &[cpu], port, Up::Accepts, scratch.join("redis.out")).map(Some)
}

/// A program on the path, or where Debian puts servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
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

//! A node that a benchmark starts for itself.
//!
//! **Not here**: the process as such (`process`), and the node's own threads' placement.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::error::{BenchError, Result};
use crate::process::{Process, Up, free_port};
use crate::{cpu, interrupt, starter};

const CATCH_UP: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

/// Where a node listens, on the loopback address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) internal: u16,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    ports: Ports,
}

impl Node {
    /// Starts a node on free ports and waits until it answers.
    pub(crate) fn start(plan: &NodePlan<'_>) -> Result<Self> {
        Self::start_on(plan, Ports { api: free_port()?, internal: free_port()? })
    }

    /// Starts a node on the ports of one that has ended.
    pub(crate) fn start_on(plan: &NodePlan<'_>, ports: Ports) -> Result<Self> {
        let mut command = starter::command(plan.binary);
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
            .env("API_PORT", ports.api.to_string())
            .env("INTERNAL_PORT", ports.internal.to_string())
            .env("SHARDS", plan.shards.to_string());
        // More shards than CPUs share those of the process, which the node warns of.
        if let Some(serving) = plan.cpus.get(..plan.shards) {
            command.env("SHARD_CPUS", list(serving));
        }
        for (name, value) in plan.settings {
            command.env(name, value);
        }
        let output = plan.data.with_extension("out");
        let process = Process::start("the node", command, plan.cpus, ports.api, Up::Answers("/up"), output)?;
        Ok(Self { process, ports })
    }

    /// Where it answers clients.
    pub(crate) fn api(&self) -> &Target {
        &self.process.api
    }

    /// The process that answers clients.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The text of its metrics.
    pub(crate) fn metrics(&self) -> Result<String> {
        let answer =
            Client::new(Target::local(self.ports.internal)).get("/metrics")?.expect(200, "read /metrics")?;
        String::from_utf8(answer.body).map_err(|_| BenchError::Answer("/metrics is not text".into()))
    }

    /// Waits until it has caught up with its log.
    pub(crate) fn ready(&self) -> Result<()> {
        let mut client = Client::new(self.api().clone());
        let deadline = Instant::now() + CATCH_UP;
        while client.get("/ready")?.status != 200 {
            interrupt::check()?;
            if Instant::now() >= deadline {
                return Err(BenchError::Patience(format!("{} is not ready after {CATCH_UP:?}", self.api())));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Waits until it does nothing in the background, two minutes at most: what is measured next should be requests.
    pub(crate) fn settle(&self) -> Result<()> {
        self.be_quiet(1)
    }

    /// The same after a load, when write buffers that rest for five seconds become tables, and those are compacted.
    pub(crate) fn settle_after_load(&self) -> Result<()> {
        self.be_quiet(7)
    }

    /// Waits for so many quiet seconds in a row.
    fn be_quiet(&self, wanted: u32) -> Result<()> {
        const LOOK: Duration = Duration::from_secs(1);
        let mut quiet = 0;
        for _ in 0..120 {
            let before = cpu::process_time(self.pid())?;
            thread::sleep(LOOK);
            interrupt::check()?;
            let busy = cpu::process_time(self.pid())?.saturating_sub(before) >= LOOK / 20;
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet == wanted {
                return Ok(());
            }
        }
        eprintln!("the node is still busy with itself after two minutes; measuring all the same");
        Ok(())
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Stops it in good order.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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

//! Every line of the speed table in one run: yardsticks, a node of its own, the engine.
//!
//! constant responders → node with a data set: get1 cached, get100 cached, idle connections → the same data with next
//! to no record cache: get1 uncached → engine. Server processes sit on one CPU, this program on another. The yardstick
//! runs beside the node all the time and is measured right before each round of a line that refers to it: a ratio is
//! the median of such pairs, so that a machine whose speed drifts moves both sides of it.
//!
//! **Invariants**: everything started here is stopped here; the table names what missed its target, and a run that
//! could not measure a line has no table. **Not here**: PERF.md, which a person writes from it.

mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::apply::{self, ApplyOptions, ApplyReport};
use crate::client::Target;
use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::fill;
use crate::idle::{IdlePlan, IdleReport};
use crate::load::{LoadPlan, LoadReport};
use crate::metrics::Share;
use crate::node::{Node, NodePlan, Process, start_constant};
use crate::request::Workload;
use crate::summary;

const OPERATIONS: &str = "partition_operation_latencies_micro";
/// Records that are read in the cached lines: some 5 MiB of the cache's 64.
const HOT: u32 = 10_000;
/// Records that are read in the line for one hot record: what a CPU cache holds, as it holds a constant answer.
const FEW: u32 = 100;
/// Connections that the node must take beside the idle ones.
const SPARE_CONNECTIONS: usize = 512;

/// What `suite` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct SuiteOptions {
    /// The `firescroll` binary.
    #[arg(long, default_value = "target/release/firescroll")]
    node: PathBuf,
    /// CPU of the servers.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the load.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// A tenth of the data and a fraction of the time: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Times that each closed loop is measured; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Directory for the scratch data; the system's without.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Write everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SuiteReport {
    pub(crate) quick: bool,
    pub(crate) machine: String,
    /// The constant responder that does not read the request's body, against the one that does.
    pub(crate) constant: Paired,
    pub(crate) get1_cached: Paired,
    /// The same over [`HOT`] records, which no CPU cache holds.
    pub(crate) get1_spread: Paired,
    pub(crate) get1_uncached: Paired,
    pub(crate) get100_cached: Vec<LoadReport>,
    /// Share of partition-level gets within 10 µs, while get1 cached ran.
    pub(crate) partition_gets_within_10_us: f64,
    pub(crate) idle: IdleReport,
    pub(crate) engine: ApplyReport,
}

/// A line and the yardstick, measured in turns: each pair of reports is one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Paired {
    pub(crate) yardstick: Vec<LoadReport>,
    pub(crate) measured: Vec<LoadReport>,
}

/// `firescroll-bench suite`.
pub(crate) fn command(options: &SuiteOptions) -> Result<()> {
    let suite = Suite::new(options)?;
    let report = suite.run()?;
    print!("\n{}", table::markdown(&report));
    options.json.as_ref().map_or(Ok(()), |path| summary::write_json(path, &report))
}

struct Suite<'a> {
    options: &'a SuiteOptions,
    set: DataSet,
    measured: Duration,
    rounds: usize,
    idle: usize,
    scratch: tempfile::TempDir,
}

impl<'a> Suite<'a> {
    fn new(options: &'a SuiteOptions) -> Result<Self> {
        if !options.node.is_file() {
            return Err(BenchError::Usage(format!(
                "{}: no such file; build it with: cargo build --release",
                options.node.display()
            )));
        }
        let allowed = cpu::allowed()?;
        for wanted in [options.server_cpu, options.load_cpu] {
            if !allowed.contains(&wanted) {
                return Err(BenchError::Usage(format!(
                    "CPU {wanted} is not among this process's: {allowed:?}"
                )));
            }
        }
        let scratch = match &options.scratch {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir(),
        };
        let (records, seconds, idle) =
            if options.quick { (100_000, 1, 1_000) } else { (1_000_000, 2, 10_000) };
        Ok(Self {
            options,
            set: DataSet::new(records, 300, Shape::Single)?,
            measured: Duration::from_secs(seconds),
            rounds: if options.quick { 1 } else { options.rounds.max(1) },
            idle,
            scratch: scratch.tried(|| "make a scratch directory".into())?,
        })
    }

    fn run(&self) -> Result<SuiteReport> {
        cpu::pin(self.options.load_cpu)?;
        let bytes = self.set.answer_bytes(1);
        let start = |read| start_constant(self.scratch.path(), self.options.server_cpu, bytes, read);
        let (unread, yardstick) = (start(false)?, start(true)?);
        let constant = self.paired(
            "constant, body not read",
            &yardstick,
            &unread.api,
            unread.pid(),
            Workload::Constant,
            HOT,
        )?;
        unread.stop()?;

        let data = self.scratch.path().join("data");
        // Room for the idle connections, the default memory for everything else.
        let room = ("MAX_CONNECTIONS", (self.idle + SPARE_CONNECTIONS).to_string());
        let node = self.node(&data, &[room])?;
        say(&format!("putting {} records of {} bytes", self.set.records, self.set.value_bytes));
        let took = fill::fill(node.api(), self.set)?;
        say(&format!("readable after {:.1} s", took.as_secs_f64()));

        settle(node.pid())?;
        self.load("get1 cached, warm-up", &node, Workload::Get(1), HOT, 1)?;
        let before = Share::read(&node.metrics()?, OPERATIONS, "get", "10")?;
        let get1 = Workload::Get(1);
        let get1_cached = self.paired("get1 cached", &yardstick, node.api(), node.pid(), get1, FEW)?;
        let get1_spread = self.paired("get1 spread", &yardstick, node.api(), node.pid(), get1, HOT)?;
        let after = Share::read(&node.metrics()?, OPERATIONS, "get", "10")?;
        let get100_cached = self.load("get100 cached", &node, Workload::Get(100), HOT, self.rounds)?;

        settle(node.pid())?;
        say(&format!("{} idle connections", self.idle));
        let idle = IdlePlan {
            target: node.api().clone(),
            pid: node.pid(),
            connections: self.idle,
            set: self.set,
            measured: self.measured,
        };
        let idle = idle.run()?;
        node.stop()?;

        let node = self.node(&data, &[("CACHE_MB", "1".to_owned())])?;
        settle(node.pid())?;
        // Not in the record cache; but what the store itself keeps in memory shall be there, not still on its way.
        self.load("get1 uncached, warm-up", &node, Workload::Get(100), self.set.records, 2)?;
        let get1_uncached =
            self.paired("get1 uncached", &yardstick, node.api(), node.pid(), get1, self.set.records)?;
        node.stop()?;
        yardstick.stop()?;

        say("the engine alone");
        cpu::pin_to(&[self.options.server_cpu, self.options.load_cpu])?;
        let engine = apply::run(&ApplyOptions {
            mutations: self.set.records,
            batch: 1000,
            value_bytes: self.set.value_bytes,
            partitions: std::num::NonZeroU32::new(16).expect("16 is not 0"),
            gets: self.set.records,
            cpu: self.options.server_cpu,
            json: None,
        })?;
        cpu::pin(self.options.load_cpu)?;

        Ok(SuiteReport {
            quick: self.options.quick,
            machine: machine(),
            constant,
            get1_cached,
            get1_spread,
            get1_uncached,
            get100_cached,
            partition_gets_within_10_us: after.since(&before),
            idle,
            engine,
        })
    }

    fn node(&self, data: &Path, settings: &[(&str, String)]) -> Result<Node> {
        Node::start(&NodePlan {
            binary: &self.options.node,
            data,
            cpus: &[self.options.server_cpu],
            shards: 1,
            settings,
        })
    }

    /// Measures the yardstick and a target in turns.
    fn paired(
        &self,
        name: &str,
        yardstick: &Process,
        target: &Target,
        pid: u32,
        workload: Workload,
        range: u32,
    ) -> Result<Paired> {
        let mut constant = self.plan(yardstick.api.clone(), Workload::Constant, HOT);
        constant.pid = Some(yardstick.pid());
        let mut plan = self.plan(target.clone(), workload, range);
        plan.pid = Some(pid);
        let mut pairs = Paired { yardstick: Vec::new(), measured: Vec::new() };
        for _ in 0..self.rounds {
            pairs.yardstick.extend(rounds("constant, body read", &constant, 1)?);
            pairs.measured.extend(rounds(name, &plan, 1)?);
        }
        Ok(pairs)
    }

    fn load(
        &self,
        name: &str,
        node: &Node,
        workload: Workload,
        range: u32,
        times: usize,
    ) -> Result<Vec<LoadReport>> {
        let mut plan = self.plan(node.api().clone(), workload, range);
        plan.pid = Some(node.pid());
        rounds(name, &plan, times)
    }

    fn plan(&self, target: Target, workload: Workload, range: u32) -> LoadPlan {
        let mut plan = LoadPlan::closed(target, workload, self.set, self.measured);
        plan.range = range;
        plan
    }
}

fn rounds(name: &str, plan: &LoadPlan, times: usize) -> Result<Vec<LoadReport>> {
    let mut reports = Vec::with_capacity(times);
    for _ in 0..times {
        let report = plan.run()?;
        say(&format!("{name}: {:.0} requests/s, p99 {:.0} µs", report.rate, report.latency.p99_us));
        if let Some(doubt) = report.doubt() {
            say(&format!("  doubtful: {doubt}"));
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Waits until a server process is done with what it does in the background (compaction after a load), two minutes at
/// most: what is measured next should be requests.
fn settle(pid: u32) -> Result<()> {
    const LOOK: Duration = Duration::from_secs(1);
    for _ in 0..120 {
        let before = cpu::process_time(pid)?;
        std::thread::sleep(LOOK);
        if cpu::process_time(pid)?.saturating_sub(before) < LOOK / 20 {
            return Ok(());
        }
    }
    say("the server is still busy with itself after two minutes; measuring all the same");
    Ok(())
}

/// Progress goes to stderr, so that stdout is the table alone.
fn say(line: &str) {
    eprintln!("suite: {line}");
}

/// One line about this machine, for the table's foot.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, m)| m);
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

//! The canonical run: every line of the report in one go, on one machine, beside the yardsticks.
//!
//! yardsticks and a node with a data set → `lines` (closed loop: what each does at most) → `latency` (open loop: what
//! each request waits, by load and by connections; its histograms are kept as .hlog files) → `beside` (reads beside
//! puts) → `disturbed` (reads over time, over a restart and beside a catch-up) → `writes` (the way of a put, a restart) → `crossing`
//! and `cores` (several shards) → the engine without HTTP → [`Report`]. Servers sit on one CPU, this program on another, and what
//! a node does in the background on a third if there is one (`places`). A run may be of some parts only (`part`).
//!
//! A yardstick runs beside the node all the time and is measured right before each round of a line that refers to it: a
//! ratio is the median of such pairs, so that a machine whose speed drifts moves both sides of it.
//!
//! **Invariants**: everything started here is stopped here, on SIGINT and SIGTERM as well, and dies with this program; a run that could not measure a line has no report, but a
//! yardstick that is not installed is left out and named. **Not here**: how a report looks (`report`).

mod beside;
mod cores;
mod crossing;
mod disturbed;
mod facts;
mod latency;
mod lines;
mod part;
mod places;
mod writes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::load::{LoadPlan, LoadReport};
use crate::node::{Node, NodePlan};
use crate::process::Process;
use crate::report::{Fact, Machine, Report};
use crate::request::Workload;
use crate::summary::Summary;
use crate::yardstick::{start_constant, start_nginx, start_redis};
use crate::{fill, interrupt, protocol};
use part::{Part, Parts};
use places::{Places, Wanted};

/// Records that are read in the cached lines: some 5 MiB of the cache's 64.
const HOT: u32 = 10_000;
/// Records that are read in the line for one hot record: what a CPU cache holds, as it holds a constant answer.
const FEW: u32 = 100;
/// Connections that the node must take beside the idle ones.
const SPARE_CONNECTIONS: usize = 512;
const VALUE_BYTES: usize = 300;

/// What `suite` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct SuiteOptions {
    /// The `firescroll` binary.
    #[arg(long, default_value = "target/release/firescroll")]
    node: PathBuf,
    /// CPU of the servers [default: the first]
    #[arg(long, value_name = "CPU")]
    server_cpu: Option<usize>,
    /// CPU of the load [default: the first of another core]
    #[arg(long, value_name = "CPU")]
    load_cpu: Option<usize>,
    /// CPU of what a node does in the background [default: the first of a third core; the servers' if there are two CPUs]
    #[arg(long, value_name = "CPU")]
    background_cpu: Option<usize>,
    /// Measure these parts only.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    only: Vec<Part>,
    /// A tenth of the data and a fraction of the time: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Times that each closed loop is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Directory for the scratch data; the system's without.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Directory for report.json, report.md and report.html, made if it is not there.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// `firescroll-bench suite`.
pub(crate) fn command(options: &SuiteOptions) -> Result<()> {
    interrupt::watch()?;
    let suite = Suite::new(options)?;
    let report = suite.run()?;
    report.write(&options.out)?;
    println!("{}", report.markdown());
    say(&format!("written: {}", options.out.join("report.html").display()));
    Ok(())
}

struct Suite<'a> {
    options: &'a SuiteOptions,
    set: DataSet,
    measured: Duration,
    rounds: usize,
    idle: usize,
    parts: Parts,
    places: Places,
    scratch: tempfile::TempDir,
}

/// Servers to compare with.
struct Yardsticks {
    constant: Process,
    nginx: Option<Process>,
    redis: Option<Process>,
}

impl<'a> Suite<'a> {
    fn new(options: &'a SuiteOptions) -> Result<Self> {
        if !options.node.is_file() {
            return Err(BenchError::Usage(format!(
                "{}: no such file; build it with: cargo build --release",
                options.node.display()
            )));
        }
        let SuiteOptions { server_cpu: server, load_cpu: load, background_cpu: background, .. } = *options;
        let places = Places::find(Wanted { server, load, background })?;
        let scratch = match &options.scratch {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir(),
        };
        let (records, millis, idle) =
            if options.quick { (100_000, 500, 1_000) } else { (1_000_000, 1_500, 10_000) };
        Ok(Self {
            options,
            set: DataSet::new(records, VALUE_BYTES, Shape::Single)?,
            measured: Duration::from_millis(millis),
            rounds: if options.quick { 1 } else { options.rounds.max(1) },
            idle,
            parts: Parts::only(&options.only),
            places,
            scratch: scratch.tried(|| "make a scratch directory".into())?,
        })
    }

    fn run(&self) -> Result<Report> {
        let (start, started) = (Instant::now(), SystemTime::now());
        // The load's thread and what it starts; servers are put on theirs one by one.
        cpu::pin(self.places.load)?;
        let mut report = Report {
            title: if self.options.quick { "FireScroll, a quick look" } else { "FireScroll" }.to_owned(),
            commit: commit(),
            started_s: started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            took_s: 0.0,
            machine: machine(),
            lines: Vec::new(),
            facts: Vec::new(),
            sweeps: Vec::new(),
            timelines: Vec::new(),
            notes: Vec::new(),
        };
        if cpu::is_grouped_by_session() {
            report.notes.push(
                "The kernel deals out CPUs among sessions first (sched_autogroup_enabled): the generator's priority keeps \
                 off its own session's threads alone."
                    .into(),
            );
        }
        report.notes.push(self.places.to_string());
        // Before anything else sits on the servers' CPU.
        self.calibration(&mut report)?;
        let yardsticks = self.yardsticks(&mut report)?;
        self.one_shard(&mut report, &yardsticks)?;
        if self.parts.has(Part::Crossing) {
            self.two_shards(&mut report)?;
            self.shards_on_one_cpu(&mut report)?;
        }
        if self.parts.has(Part::Cores) {
            self.cores(&mut report)?;
        }
        drop(yardsticks);
        if self.parts.has(Part::Engine) {
            self.engine(&mut report)?;
        }
        report.took_s = start.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Everything that is measured on a node with one shard.
    fn one_shard(&self, report: &mut Report, yardsticks: &Yardsticks) -> Result<()> {
        use Part::{Beside, Cached, Disturbed, Idle, Latency, Puts, Sizes, Uncached};
        if !self.parts.has_any(&[Beside, Cached, Disturbed, Idle, Latency, Puts, Sizes, Uncached]) {
            return Ok(());
        }
        let data = self.scratch.path().join("data");
        // Room for the idle connections, the default memory for everything else.
        let room = ("MAX_CONNECTIONS", (self.idle + SPARE_CONNECTIONS).to_string());
        let mut node = self.node(&data, &[room])?;
        say(&format!("putting {} records of {} bytes", self.set.records, self.set.value_bytes));
        fill::fill(node.api(), self.set)?;
        node.settle_after_load()?;
        if self.parts.has(Cached) {
            self.cached_lines(report, yardsticks, &node)?;
            node.settle()?;
        }
        let knee = self.most(&node, FEW)?;
        if self.parts.has(Latency) {
            self.latencies(report, yardsticks, &node, knee)?;
        }
        if self.parts.has(Idle) {
            self.idle_connections(report, &node)?;
        }
        if self.parts.has(Beside) {
            self.beside_writes(report, &node)?;
        }
        // Before anything writes records of another length: the whole log is applied again.
        if self.parts.has(Disturbed) {
            node = self.disturbed(report, node, &data, knee)?;
        }
        if self.parts.has(Sizes) {
            self.value_sizes(report, &node)?;
            self.listings(report, &node)?;
        }
        if self.parts.has(Puts) {
            self.way_of_a_put(report, &node)?;
            node = self.restart(report, node, &data)?;
        }
        node.stop()?;
        if self.parts.has(Uncached) {
            self.uncached_lines(report, yardsticks, &data)?;
        }
        Ok(())
    }

    /// Next to no record cache; then the store's own caches hold a quarter of the data as well.
    fn uncached_lines(&self, report: &mut Report, yardsticks: &Yardsticks, data: &Path) -> Result<()> {
        let little = ("CACHE_MB", "1".to_owned());
        // Everything that is stored, in MiB, by what the caches hold of it.
        let stored = (self.set.records as usize * self.set.value_bytes) >> 20;
        let quarter = ("STORE_CACHE_MB", (stored / 4).max(1).to_string());
        for (line, settings) in
            [(lines::UNCACHED, vec![little.clone()]), (lines::LARGE, vec![little, quarter])]
        {
            let node = self.node(data, &settings)?;
            node.settle()?;
            self.uncached_line(report, yardsticks, &node, line)?;
            node.stop()?;
        }
        Ok(())
    }

    /// What a core does at most right now, of reads of so many records: loads that are shares of it are set right after it is
    /// measured, because the machine's speed drifts.
    fn most(&self, node: &Node, range: u32) -> Result<f64> {
        Ok(told("as fast as it goes", &self.plan(node.process(), Workload::Get(1), range))?.rate)
    }

    fn yardsticks(&self, report: &mut Report) -> Result<Yardsticks> {
        let (scratch, cpu) = (self.scratch.path(), self.places.server);
        let bytes = self.set.answer_bytes(1);
        let constant = start_constant(scratch, cpu, bytes, true)?;
        let nginx = start_nginx(scratch, cpu, bytes)?;
        let redis = start_redis(scratch, cpu)?;
        for (name, there) in [("nginx", nginx.is_some()), ("redis-server", redis.is_some())] {
            if !there {
                report.notes.push(format!("{name} is not installed; its lines are left out."));
            }
        }
        if let Some(redis) = &redis {
            protocol::redis::fill(&redis.api, DataSet { records: HOT, ..self.set })?;
        }
        Ok(Yardsticks { constant, nginx, redis })
    }

    /// A node whose shards have these CPUs, one each.
    fn node_on(&self, data: &Path, shards: &[usize], settings: &[(&str, String)]) -> Result<Node> {
        let cpus = self.with_background(shards);
        let plan = NodePlan { binary: &self.options.node, data, cpus: &cpus, shards: shards.len(), settings };
        Node::start(&plan)
    }

    /// A node of one shard, on the servers' CPU.
    fn node(&self, data: &Path, settings: &[(&str, String)]) -> Result<Node> {
        self.node_on(data, &[self.places.server], settings)
    }

    /// These CPUs, and that of the background behind them.
    fn with_background(&self, shards: &[usize]) -> Vec<usize> {
        let background = self.places.background.filter(|cpu| !shards.contains(cpu));
        shards.iter().copied().chain(background).collect()
    }

    fn plan(&self, server: &Process, workload: Workload, range: u32) -> LoadPlan {
        let mut plan = LoadPlan::closed(server.api.clone(), workload, self.set, self.measured);
        plan.range = range;
        // Connections and branch predictors; what is cached was read before.
        plan.warmup = self.measured / 5;
        plan.pid = Some(server.pid());
        plan
    }
}

/// Runs a plan and says what came out.
fn told(name: &str, plan: &LoadPlan) -> Result<LoadReport> {
    let report = plan.run()?;
    tell(name, &report);
    Ok(report)
}

fn tell(name: &str, report: &LoadReport) {
    let Summary { p50_us, p99_us, .. } = report.latency;
    say(&format!("{name}: {:.0} requests/s, p50 {p50_us:.0} µs, p99 {p99_us:.0} µs", report.rate));
    if let Some(doubt) = report.doubt() {
        say(&format!("  doubtful: {doubt}"));
    }
}

/// Reports how long `what` took, without a target.
fn quantiles(report: &mut Report, what: &str, latency: &Summary) {
    for (quantile, value) in [("p50", latency.p50_us), ("p99", latency.p99_us)] {
        let name = format!("{quantile} of {what}");
        report.facts.push(Fact { name, value, unit: "µs".into(), target: None });
    }
}

/// Progress goes to stderr, so that stdout is the table alone.
fn say(line: &str) {
    eprintln!("suite: {line}");
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let kibibytes =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    Machine {
        cpu: model.map_or("unknown CPU", |(_, model)| model).to_owned(),
        cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        memory_gib: kibibytes.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(0.0)
            / f64::from(1 << 20),
    }
}

/// The commit of the clone that this runs in, with a plus when there is more in it than was committed.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(if changed { head + "+" } else { head })
}

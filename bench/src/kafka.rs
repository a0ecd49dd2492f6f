//! A node on a shared log: how soon a put is seen elsewhere, how fast a new replica catches up, and what readers feel.
//!
//! brokers of `scripts/kafka` → two nodes of two replica groups: put on one, read on the other, while all is idle →
//! the topic filled → a fresh replica reads it from its start (rate, memory) → the same replica, away for a while,
//! catches up while it serves reads, and serves them again when all is quiet.
//!
//! **Invariants**: everything started here is stopped here, also on SIGINT and SIGTERM, and nodes die with this program. **Not here**: judging; targets stand beside the figures.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::client::Target;
use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::fill;
use crate::interrupt;
use crate::load::LoadPlan;
use crate::node::{Node, NodePlan};
use crate::propagation::{self, Way};
use crate::request::Workload;
use crate::summary::{self, Summary};

const NAMESPACE: &str = "bench";
const PARTITIONS: &str = "16";
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(20);
/// Records that are read while the node catches up.
const READ: u32 = 1000;
const READS_A_SECOND: f64 = 5000.0;

/// What `kafka` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct KafkaOptions {
    /// The `firescroll` binary.
    #[arg(long, default_value = "target/release/firescroll")]
    node: PathBuf,
    /// The script that starts brokers.
    #[arg(long, default_value = "scripts/kafka")]
    brokers: PathBuf,
    /// Mutations in the topic when a fresh replica starts.
    #[arg(long, default_value_t = 2_000_000)]
    mutations: u32,
    /// Puts whose way to the other node is timed.
    #[arg(long, default_value_t = 2000)]
    puts: u32,
    /// CPU of the shard that catches up.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Write everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Report {
    /// From sending a put to its acknowledgement.
    acknowledged: Summary,
    /// From sending a put to a get on the other node that shows it.
    visible: Summary,
    catch_up: CatchUp,
    /// Gets while the node catches up, and when it does not.
    beside: Summary,
    quiet: Summary,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CatchUp {
    mutations: u32,
    seconds: f64,
    /// Of the whole process.
    cpu_seconds: f64,
    peak_resident_bytes: u64,
}

/// `firescroll-bench kafka`.
pub(crate) fn command(options: &KafkaOptions) -> Result<()> {
    interrupt::watch()?;
    let bench = Bench::new(options)?;
    let report = bench.run()?;
    print(&report);
    options.json.as_ref().map_or(Ok(()), |path| summary::write_json(path, &report))
}

struct Bench<'a> {
    options: &'a KafkaOptions,
    scratch: tempfile::TempDir,
    seeds: String,
    cpus: Vec<usize>,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let stopped = Command::new(&self.options.brokers).arg("stop").arg(self.brokers()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("firescroll-bench: the brokers in {} may still run", self.brokers().display());
        }
    }
}

impl<'a> Bench<'a> {
    fn new(options: &'a KafkaOptions) -> Result<Self> {
        let scratch = tempfile::tempdir().tried(|| "make a scratch directory".into())?;
        let mut bench = Self { options, scratch, seeds: String::new(), cpus: cpu::allowed()? };
        // This program and the brokers sit beside the shard that is measured, not on its CPU.
        let beside: Vec<usize> = bench.cpus.iter().copied().filter(|cpu| *cpu != options.cpu).collect();
        cpu::pin_to(if beside.is_empty() { &bench.cpus } else { &beside })?;
        let parent = std::process::id().to_string();
        let mut start = Command::new(&options.brokers);
        bench.done(start.arg("start").arg(bench.brokers()).args(["--parent", &parent]))?;
        let path = bench.brokers().join("seeds");
        let seeds = std::fs::read_to_string(&path).tried(|| format!("read {}", path.display()))?;
        bench.seeds = seeds.trim().to_owned();
        let mut topics = Command::new(&options.node);
        topics.args(["topics", "create"]).envs(bench.settings("none"));
        bench.done(&mut topics)?;
        Ok(bench)
    }

    fn brokers(&self) -> PathBuf {
        self.scratch.path().join("kafka")
    }

    fn done(&self, command: &mut Command) -> Result<()> {
        let name = format!("run {:?}", command.get_program());
        let output = command.output().tried(|| name.clone())?;
        if output.status.success() {
            return Ok(());
        }
        Err(BenchError::Patience(format!("{name}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn settings(&self, group: &str) -> [(&'static str, String); 7] {
        [
            ("KAFKA_SEEDS", self.seeds.clone()),
            ("NAMESPACE", NAMESPACE.to_owned()),
            ("PARTITIONS", PARTITIONS.to_owned()),
            ("REGION", "bench".to_owned()),
            ("REPLICA_GROUP", group.to_owned()),
            ("INSTANCE_ID", group.to_owned()),
            ("KAFKA_SESSION_MS", "6000".to_owned()),
        ]
    }

    /// A node of a replica group, with its data under the group's name.
    fn node(&self, group: &str) -> Result<Node> {
        let mut cpus = vec![self.options.cpu];
        cpus.extend(self.cpus.iter().copied().filter(|cpu| *cpu != self.options.cpu));
        Node::start(&NodePlan {
            binary: &self.options.node,
            data: &self.scratch.path().join(group),
            cpus: &cpus,
            shards: 1,
            settings: &self.settings(group),
        })
    }

    fn run(&self) -> Result<Report> {
        let set = DataSet::new(self.options.mutations, 300, Shape::Single)?;
        let writer = self.node("writer")?;
        let Way { acknowledged, visible } = {
            let reader = self.node("reader")?;
            writer.ready()?;
            reader.ready()?;
            say("puts on one node, gets on another, all idle");
            let timed = propagation::measure(writer.api(), reader.api(), self.options.puts)?;
            reader.stop()?;
            timed
        };
        say(&format!("filling the topic with {} mutations", set.records));
        fill::fill(writer.api(), set)?;
        say("a fresh replica reads the topic from its start");
        let (replica, catch_up) = self.catch_up(set.records)?;
        replica.stop()?;
        say("the replica is away for half of that, and catches up while it serves");
        fill::fill(writer.api(), DataSet { records: set.records / 2, ..set })?;
        writer.stop()?;
        let replica = self.node("replica")?;
        assigned(&replica)?;
        let plan = self.reads(replica.api(), set);
        let beside = plan.run()?;
        // Brokers and the node's own background share a CPU with the load, which should not wait for them.
        if beside.normal_priority {
            say("  the load has no priority over brokers and background (that takes root)");
        }
        let beside = beside.latency;
        if behind(&replica)? == 0 {
            say("  doubtful: the replica had caught up before the reads were over; take more mutations");
        }
        replica.ready()?;
        replica.settle()?;
        let quiet = plan.run()?.latency;
        replica.stop()?;
        Ok(Report { acknowledged, visible, catch_up, beside, quiet })
    }

    fn reads(&self, target: &Target, set: DataSet) -> LoadPlan {
        let mut plan = LoadPlan::closed(target.clone(), Workload::Get(1), set, Duration::from_secs(1));
        plan.range = READ.min(set.records);
        plan.rate = Some(READS_A_SECOND);
        plan.warmup = Duration::from_millis(200);
        plan.connections = 16;
        plan
    }

    /// Starts a fresh replica and times it from its first applied mutation to the end of the log.
    fn catch_up(&self, mutations: u32) -> Result<(Node, CatchUp)> {
        let replica = self.node("replica")?;
        assigned(&replica)?;
        let (begun, cpu_before) = (Instant::now(), cpu::process_time(replica.pid())?);
        let missing = behind(&replica)?;
        replica.ready()?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu_seconds = cpu::process_time(replica.pid())?.saturating_sub(cpu_before).as_secs_f64();
        let peak_resident_bytes = cpu::peak_resident(replica.pid())?;
        if missing < u64::from(mutations) / 10 * 9 {
            say(&format!("  only {missing} of them were missing when the clock was started"));
        }
        let mutations = u32::try_from(missing).unwrap_or(u32::MAX);
        Ok((replica, CatchUp { mutations, seconds, cpu_seconds, peak_resident_bytes }))
    }
}

/// Waits until a node has been given all partitions.
fn assigned(node: &Node) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let all = format!("partitions {PARTITIONS}");
    while !node.metrics()?.lines().any(|line| line == all) {
        interrupt::check()?;
        if Instant::now() >= deadline {
            return Err(BenchError::Patience("the partitions were not assigned".into()));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Mutations that a node has been assigned and not applied.
fn behind(node: &Node) -> Result<u64> {
    let metrics = node.metrics()?;
    let lags = metrics.lines().filter_map(|line| line.strip_prefix("partition_lag{")?.rsplit_once(' '));
    Ok(lags.filter_map(|(_, lag)| lag.parse::<u64>().ok()).sum())
}

fn print(report: &Report) {
    let CatchUp { mutations, seconds, cpu_seconds, peak_resident_bytes } = &report.catch_up;
    println!("put, acknowledged       {}", report.acknowledged.line());
    println!("put, visible elsewhere  {}  (target p50 ≤ 5 ms, p99 ≤ 20 ms)", report.visible.line());
    println!(
        "catch-up                {mutations} mutations in {seconds:.2} s: {:.0}/s, {cpu_seconds:.2} s of CPU, \
         peak memory {} MiB  (target ≥ 200,000/s)",
        f64::from(*mutations) / seconds,
        peak_resident_bytes >> 20
    );
    println!("gets beside a catch-up  {}", report.beside.line());
    println!(
        "gets when all is quiet  {}  (p99 beside: {:.2} ×, target ≤ 2 ×)",
        report.quiet.line(),
        report.beside.p99_us / report.quiet.p99_us.max(1.0)
    );
}

/// Progress goes to stderr, so that stdout is the result alone.
fn say(line: &str) {
    eprintln!("kafka: {line}");
}

//! The load generator: many keep-alive connections on one pinned thread (or on several), closed or
//! open loop.
//!
//! options → [`LoadPlan`] → `generator` (one epoll loop) → [`LoadReport`]. **Closed loop** (no `--rate`): each
//! connection sends its next request when it has its answer; measures capacity. **Open loop** (`--rate`): requests are
//! due at a fixed pace whatever the server does, and latency counts from when a request was *due*, so that a stall
//! is charged with everybody who would have come meanwhile; the figure from the actual sending stands beside it, and so
//! do the figures of those windows in which the machine kept neither generator nor server off their CPUs (`window`).
//!
//! **Invariants**: every answer has status 200 and the length that the first one had; one in `SAMPLE` is compared
//! byte by byte with the data set. A run with one wrong answer has no result.
//!
//! **Not here**: the server, and loading the data (`fill`).

mod again;
mod connection;
mod generator;
mod in_flight;
mod judge;
mod lane;
mod measure;
mod pieces;
mod report;
mod several;
mod watch;
mod window;
mod witness;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::client::Target;
use crate::cpu;
use crate::dataset::{DataSet, LISTED, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::fill;
use crate::picker::Distribution;
use crate::protocol::{Protocol, redis};
use crate::request::Workload;
use crate::summary;

use witness::Witnesses;

pub(crate) use measure::Measured;
pub(crate) use report::LoadReport;
#[cfg(test)]
pub(crate) use report::Undisturbed;

/// What `load` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadOptions {
    /// The node's API address.
    #[arg(long, default_value = "http://127.0.0.1:8190")]
    url: Target,
    /// What each request asks.
    #[arg(long, value_enum, default_value = "get1")]
    workload: WorkloadName,
    /// Keys of a `get-n` request.
    #[arg(long, default_value_t = 1)]
    keys_per_request: usize,
    /// What is spoken with the server.
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Put so many records a second beside it, over connections of their own.
    #[arg(long)]
    writes: Option<f64>,
    /// Kept-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Measured time, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Time before the measurement, in seconds.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Open loop with so many requests a second; closed loop without.
    #[arg(long)]
    rate: Option<f64>,
    /// CPUs of the load, with a generator on each, which share connections and rate; one, not pinned, without.
    #[arg(long, value_delimiter = ',', value_name = "CPU,…")]
    cpu: Vec<usize>,
    /// Records in the data set.
    #[arg(long, default_value_t = 100_000)]
    records: u32,
    /// Length of each record's data, in bytes.
    #[arg(long, default_value_t = 300)]
    value_bytes: usize,
    /// How often each record is asked for.
    #[arg(long, value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// Ask for the first so many records only, so that they are cached.
    #[arg(long)]
    hot: Option<u32>,
    /// Seed of the sequence of records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Put the data set first, and wait until it can be read.
    #[arg(long)]
    load: bool,
    /// Server process, to report its CPU time as well, and to know when other programs kept it off its CPU.
    #[arg(long)]
    pid: Option<u32>,
    /// Write the report to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the latencies to this file, as a histogram log.
    #[arg(long)]
    hlog: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorkloadName {
    /// Get of one key.
    #[value(name = "get1")]
    Get1,
    /// Get of 100 keys.
    #[value(name = "get100")]
    Get100,
    /// Get of `--keys-per-request` keys.
    #[value(name = "get-n", alias = "getN", alias = "getn")]
    GetN,
    /// Get of one key that is not there.
    #[value(name = "miss")]
    Miss,
    /// Put of one record.
    #[value(name = "put")]
    Put,
    /// List of the 100 records of one partition key.
    #[value(name = "list")]
    List,
    /// The bytes of get1 sent to the constant responder.
    #[value(name = "constant")]
    Constant,
}

/// A checked plan of one measurement.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    pub(crate) target: Target,
    pub(crate) workload: Workload,
    pub(crate) set: DataSet,
    /// Records below this number are asked for.
    pub(crate) range: u32,
    pub(crate) distribution: Distribution,
    pub(crate) seed: u64,
    pub(crate) connections: usize,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    /// Requests a second; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) pid: Option<u32>,
    pub(crate) protocol: Protocol,
    /// Puts a second beside it.
    pub(crate) writes: Option<f64>,
    /// Also report the latencies of pieces of this length.
    pub(crate) pieces: Option<Duration>,
    /// Open connections that end again, and send requests that were not answered again (HTTP/1.1 only).
    pub(crate) reopen: bool,
    /// CPUs of the load, each with a generator; when empty, one generator on the CPUs of the calling thread.
    pub(crate) cpus: Vec<usize>,
}

impl LoadPlan {
    /// A closed loop of 64 connections.
    pub(crate) fn closed(target: Target, workload: Workload, set: DataSet, measured: Duration) -> Self {
        Self {
            target,
            workload,
            set,
            range: set.records,
            distribution: Distribution::Uniform,
            seed: 1,
            connections: 64,
            warmup: Duration::from_secs(1),
            measured,
            rate: None,
            pid: None,
            protocol: Protocol::Http1,
            writes: None,
            pieces: None,
            reopen: false,
            cpus: Vec::new(),
        }
    }

    /// Runs the measurement on threads of its own.
    pub(crate) fn run(&self) -> Result<LoadReport> {
        Ok(self.measure()?.report)
    }

    /// The same, with the histogram.
    pub(crate) fn measure(&self) -> Result<Measured> {
        cpu::raise_open_files(self.connections as u64 + 64)?;
        // A closed loop is not judged window by window.
        let witnesses = Witnesses::of(self.pid.filter(|_| self.rate.is_some()))?;
        if self.cpus.is_empty() { self.measure_alone(&witnesses) } else { several::run(self, &witnesses) }
    }

    /// With one generator, on the CPUs of the calling thread.
    fn measure_alone(&self, witnesses: &Witnesses) -> Result<Measured> {
        // What the calling thread starts later shall not have this priority: servers keep the normal one.
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("generator".into());
            let generator = thread.spawn_scoped(scope, || {
                // A closed loop cannot be late, and may share its CPU with a server.
                let raised = self.rate.is_none() || cpu::raise_priority();
                measure::run(self, witnesses, raised && !witnesses.refused)
            });
            let generator = generator.tried(|| "start the generator's thread".into())?;
            generator.join().expect("the generator does not panic")
        })
    }
}

impl LoadOptions {
    fn plan(&self) -> Result<LoadPlan> {
        let workload = match self.workload {
            WorkloadName::Get1 => Workload::Get(1),
            WorkloadName::Get100 => Workload::Get(100),
            WorkloadName::GetN => Workload::Get(self.keys_per_request),
            WorkloadName::Miss => Workload::Miss,
            WorkloadName::Put => Workload::Put,
            WorkloadName::List => Workload::List,
            WorkloadName::Constant => Workload::Constant,
        };
        let shape = if workload == Workload::List { Shape::Listed } else { Shape::Single };
        let set = DataSet::new(self.records, self.value_bytes, shape)?;
        let range = self.hot.unwrap_or(self.records).min(self.records);
        if shape == Shape::Listed && !self.records.is_multiple_of(LISTED) {
            return Err(BenchError::Usage(format!(
                "--records {}: a multiple of {LISTED} is needed to list",
                self.records
            )));
        }
        if workload.keys() > range as usize {
            return Err(BenchError::Usage(format!(
                "{} keys a request out of {range} records",
                workload.keys()
            )));
        }
        let is_pace = |rate: f64| rate.is_finite() && rate > 0.0;
        if self.connections == 0 || ![self.rate, self.writes].into_iter().flatten().all(is_pace) {
            return Err(BenchError::Usage(
                "--connections, --rate and --writes must be greater than 0".into(),
            ));
        }
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|error| BenchError::Usage(format!("--{name} {value}: {error}")))
        };
        Ok(LoadPlan {
            target: self.url.clone(),
            workload,
            set,
            range,
            distribution: self.distribution,
            seed: self.seed,
            connections: self.connections,
            warmup: seconds("warmup", self.warmup)?,
            measured: seconds("seconds", self.seconds)?,
            rate: self.rate,
            pid: self.pid,
            protocol: self.protocol,
            writes: self.writes,
            pieces: None,
            reopen: false,
            cpus: self.cpu.clone(),
        })
    }
}

/// `firescroll-bench load`.
pub(crate) fn command(options: &LoadOptions) -> Result<()> {
    let plan = options.plan()?;
    if !options.cpu.is_empty() {
        cpu::pin_to(&options.cpu)?;
    }
    if options.load && options.protocol == Protocol::Redis {
        redis::fill(&plan.target, plan.set)?;
    } else if options.load {
        let took = fill::fill(&plan.target, plan.set)?;
        println!(
            "loaded {} records of {} bytes in {:.1} s",
            plan.set.records,
            plan.set.value_bytes,
            took.as_secs_f64()
        );
    }
    let measured = plan.measure()?;
    print!("{}", measured.report);
    if let Some(path) = &options.json {
        summary::write_json(path, &measured.report)?;
    }
    if let Some(path) = &options.hlog {
        summary::write_log(path, measured.started, plan.measured, &measured.latency)?;
    }
    Ok(())
}

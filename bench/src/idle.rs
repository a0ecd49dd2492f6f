//! What idle connections cost: memory of the server, and latency of everybody else.
//!
//! busy load (normal latency) → server's memory → open the connections, one request on each → memory again → busy load
//! beside them. The memory's growth divided by their number is the cost of one.
//!
//! **Invariants**: every idle connection is open and answers again at the end, else there is no result.
//! **Runs on**: the calling thread. **Not here**: the memory that the kernel's sockets take.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::answer::{AnswerReader, Progress};
use crate::client::{Client, Target, connect};
use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::fill;
use crate::load::LoadPlan;
use crate::protocol::Protocol;
use crate::request::{Template, Workload};
use crate::summary::{self, Summary};

/// What `idle` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdleOptions {
    /// The node's API address.
    #[arg(long, default_value = "http://127.0.0.1:8190")]
    url: Target,
    /// The node's process, whose memory is read.
    #[arg(long)]
    pid: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Time of each latency measurement, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// CPU of this program.
    #[arg(long)]
    cpu: Option<usize>,
    /// Write the report to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What idle connections cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdleReport {
    pub(crate) connections: usize,
    pub(crate) resident_before: u64,
    pub(crate) resident_after: u64,
    pub(crate) bytes_per_connection: f64,
    /// Latency of a steady load without and with the idle connections.
    pub(crate) quiet: Summary,
    pub(crate) beside: Summary,
}

impl IdleReport {
    fn print(&self) {
        println!("{} idle connections", self.connections);
        println!(
            "  resident memory {:.1} MiB before, {:.1} MiB after: {:.0} bytes each",
            self.resident_before as f64 / f64::from(1 << 20),
            self.resident_after as f64 / f64::from(1 << 20),
            self.bytes_per_connection
        );
        println!("  others without  {}", self.quiet.line());
        println!("  others beside   {}", self.beside.line());
    }
}

/// The measurement's sizes.
#[derive(Debug, Clone)]
pub(crate) struct IdlePlan {
    pub(crate) target: Target,
    pub(crate) pid: u32,
    pub(crate) connections: usize,
    /// A data set that the node holds; its first records are read.
    pub(crate) set: DataSet,
    pub(crate) measured: Duration,
}

/// Requests a second of the load beside: well below any node's knee, so that its latency is not its own queue.
const BESIDE_RATE: f64 = 10_000.0;
const BESIDE_RECORDS: u32 = 1000;
/// How long the connections idle before the memory is read.
const IDLING: Duration = Duration::from_secs(5);

impl IdlePlan {
    /// Opens the connections and measures.
    pub(crate) fn run(&self) -> Result<IdleReport> {
        cpu::raise_open_files(self.connections as u64 + 256)?;
        // Twice, so that caches and allocator have their size before the memory is read.
        self.load()?;
        let quiet = self.load()?;
        let resident_before = cpu::resident(self.pid)?;
        let template = Template::new(Workload::Get(1), self.set, &self.target.host, Protocol::Http1)?;
        let mut connections = Vec::with_capacity(self.connections);
        let mut buffer = vec![0; 64 * 1024];
        for n in 0..self.connections {
            let mut stream = connect(&self.target)?;
            ask(&mut stream, &template, n as u32 % self.range(), &mut buffer)
                .map_err(|error| BenchError::Answer(format!("connection {n}: {error}")))?;
            connections.push(stream);
        }
        // What counts is the cost of idling, not of having just been served.
        std::thread::sleep(IDLING);
        let resident_after = cpu::resident(self.pid)?;
        let beside = self.load()?;
        for (n, stream) in connections.iter_mut().enumerate() {
            ask(stream, &template, n as u32 % self.range(), &mut buffer).map_err(|error| {
                BenchError::Answer(format!("idle connection {n} is not served any more: {error}"))
            })?;
        }
        let grown = resident_after.saturating_sub(resident_before) as f64;
        Ok(IdleReport {
            connections: self.connections,
            resident_before,
            resident_after,
            bytes_per_connection: grown / self.connections as f64,
            quiet,
            beside,
        })
    }

    fn range(&self) -> u32 {
        self.set.records.min(BESIDE_RECORDS)
    }

    fn load(&self) -> Result<Summary> {
        let mut plan = LoadPlan::closed(self.target.clone(), Workload::Get(1), self.set, self.measured);
        plan.range = self.range();
        plan.rate = Some(BESIDE_RATE);
        Ok(plan.run()?.latency)
    }
}

/// One request on a connection that stays open.
fn ask(stream: &mut TcpStream, template: &Template, n: u32, buffer: &mut [u8]) -> Result<()> {
    let mut request = template.bytes();
    template.patch(&mut request, &[n], &mut Vec::new());
    stream.write_all(&request).tried(|| "send a request".into())?;
    let mut reader = AnswerReader::new();
    reader.begin(false);
    loop {
        let length = stream.read(buffer).tried(|| "read an answer".into())?;
        if length == 0 {
            return Err(BenchError::Answer("closed by the server".into()));
        }
        match reader.feed(&buffer[..length])? {
            Progress::More => {}
            Progress::Done { status: 200, .. } => return Ok(()),
            Progress::Done { status, .. } => return Err(BenchError::Answer(format!("status {status}"))),
        }
    }
}

/// `firescroll-bench idle`.
pub(crate) fn command(options: &IdleOptions) -> Result<()> {
    if let Some(cpu) = options.cpu {
        cpu::pin(cpu)?;
    }
    if options.connections == 0 {
        return Err(BenchError::Usage("--connections must be greater than 0".into()));
    }
    let set = DataSet::new(BESIDE_RECORDS, 300, Shape::Single)?;
    Client::new(options.url.clone()).get("/up")?.expect(200, "ask whether the node is up")?;
    fill::fill(&options.url, set)?;
    let measured = Duration::try_from_secs_f64(options.seconds)
        .map_err(|error| BenchError::Usage(format!("--seconds {}: {error}", options.seconds)))?;
    let plan = IdlePlan {
        target: options.url.clone(),
        pid: options.pid,
        connections: options.connections,
        set,
        measured,
    };
    let report = plan.run()?;
    report.print();
    options.json.as_ref().map_or(Ok(()), |path| summary::write_json(path, &report))
}

//! The engine alone: mutations applied as from the log, and point gets, without HTTP.
//!
//! encoded mutations (made before the clock starts) → `Owner::apply`, partition by partition, in deliveries → the
//! writer thread commits → completions are handed back, as a serving core does. Rates count from the first
//! mutation to the last one applied, waiting for a full backlog included.
//!
//! **Invariants**: every mutation must be counted as applied, and every get must find its record, else there is no
//! result. **Runs on**: one CPU for the engine; the writer thread and the store's workers on the others.
//!
//! **Not here**: the log, and what a serving core does between two deliveries.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Args;
use firescroll_shard::{
    Completion, LogEntry, Offset, Owner, OwnerOptions, PartitionId, Record, Store, StoreOptions, encode_key,
    encode_put, partition_of,
};
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::picker::{Distribution, Picker};
use crate::summary::{self, Summary, latencies};

/// What a serving core lets its writer fall behind.
const BACKLOG_MUTATIONS: usize = 8192;
const BACKLOG_BYTES: usize = 32 << 20;
const LOG_TIME_MS: i64 = 1_767_323_045_678;

/// What `apply` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyOptions {
    /// Mutations of each kind.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) mutations: u32,
    /// Mutations handed to the engine at once.
    #[arg(long, default_value_t = 1000)]
    pub(crate) batch: usize,
    /// Length of each record's data, in bytes.
    #[arg(long, default_value_t = 300)]
    pub(crate) value_bytes: usize,
    /// Partitions of the shard.
    #[arg(long, default_value = "16")]
    pub(crate) partitions: NonZeroU32,
    /// Gets of each kind.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) gets: u32,
    /// CPU of the engine; the other CPUs of this process are the writer's.
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu: usize,
    /// Write the report to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// The rate of one kind of mutation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApplyRate {
    pub(crate) kind: String,
    pub(crate) mutations: u64,
    /// Mutations a second, by the clock on the wall.
    pub(crate) rate: f64,
    /// Mutations for each second of CPU time that the engine's thread used.
    pub(crate) rate_per_cpu_second: f64,
    /// Share of the time spent waiting for the writer.
    pub(crate) waiting: f64,
}

/// The latency of one kind of get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GetLatency {
    pub(crate) kind: String,
    /// Mean without the clock's own cost, in ns.
    pub(crate) mean_ns: f64,
    pub(crate) latency: Summary,
}

/// Everything `apply` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApplyReport {
    pub(crate) applies: Vec<ApplyRate>,
    pub(crate) gets: Vec<GetLatency>,
}

impl ApplyReport {
    fn print(&self) {
        for apply in &self.applies {
            println!(
                "apply {:<34} {:>9.0}/s  {:>9.0} per CPU second  waiting for the writer {:.0} %",
                apply.kind,
                apply.rate,
                apply.rate_per_cpu_second,
                apply.waiting * 100.0
            );
        }
        for get in &self.gets {
            println!("get {:<36} {:>7.0} ns  {}", get.kind, get.mean_ns, get.latency.line());
        }
    }
}

/// `firescroll-bench apply`.
pub(crate) fn command(options: &ApplyOptions) -> Result<()> {
    let report = run(options)?;
    report.print();
    options.json.as_ref().map_or(Ok(()), |path| summary::write_json(path, &report))
}

/// Runs all of it in a scratch directory.
pub(crate) fn run(options: &ApplyOptions) -> Result<ApplyReport> {
    if options.batch == 0 || options.gets == 0 {
        return Err(BenchError::Usage("--batch and --gets must be greater than 0".into()));
    }
    let set = DataSet::new(options.mutations, options.value_bytes, Shape::Single)?;
    let scratch = tempfile::tempdir().tried(|| "make a scratch directory".into())?;
    let all = cpu::allowed()?;
    let mut engine = Engine::open(scratch.path(), options, &all, 256 << 20)?;
    let mut applies = Vec::new();
    type ConditionOf = fn(u32) -> Option<String>;
    let kinds: [(&str, ConditionOf); 4] = [
        ("puts, new keys", |_| None),
        ("puts, overwriting", |_| None),
        ("puts, one if on each", |_| Some("data.id != 'none'".into())),
        ("puts, another if on each", |n| Some(format!("data.id == '{n:08}'"))),
    ];
    for (kind, condition) in kinds {
        let streams = encode(set, options.partitions, &engine.next, condition);
        applies.push(engine.apply(kind, &streams, options.batch)?);
    }
    let hot = options.mutations.min(10_000);
    engine.gets("warm-up", set, hot, options.gets.min(hot * 4))?;
    let mut gets = vec![engine.gets("cached", set, hot, options.gets)?];
    engine.close()?;
    // With next to no record cache every get goes to the store.
    let mut engine = Engine::open(scratch.path(), options, &all, 1 << 10)?;
    gets.push(engine.gets("uncached", set, set.records, options.gets)?);
    engine.close()?;
    cpu::pin_to(&all)?;
    Ok(ApplyReport { applies, gets })
}

/// Mutations of one partition.
struct Stream {
    partition: PartitionId,
    entries: Vec<LogEntry>,
}

/// One put of every record, sorted into their partitions, each a slice of a large buffer as the log would have it.
fn encode(
    set: DataSet,
    partitions: NonZeroU32,
    next: &[Offset],
    condition: impl Fn(u32) -> Option<String>,
) -> Vec<Stream> {
    let mut buffers = vec![(BytesMut::new(), Vec::<usize>::new()); partitions.get() as usize];
    let (mut pk, mut data, mut value) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..set.records {
        pk.clear();
        data.clear();
        value.clear();
        set.pk(n, &mut pk);
        set.data(n, &mut data);
        let partition = partition_of(&pk, partitions);
        let text = std::str::from_utf8(&pk).expect("generated keys are ASCII");
        encode_put(&mut value, text, "record", &data, condition(n).as_deref(), LOG_TIME_MS);
        let (buffer, ends) = &mut buffers[partition.0 as usize];
        buffer.extend_from_slice(&value);
        ends.push(buffer.len());
    }
    let streams = buffers.into_iter().zip(0..).map(|((buffer, ends), partition)| {
        let buffer: Bytes = buffer.freeze();
        let first = next[partition as usize].0;
        let mut start = 0;
        let entries = ends.into_iter().zip(first..).map(|(end, offset)| {
            let value = buffer.slice(start..end);
            start = end;
            LogEntry { offset: Offset(offset), timestamp_ms: LOG_TIME_MS, value }
        });
        Stream { partition: PartitionId(partition), entries: entries.collect() }
    });
    streams.collect()
}

struct Engine {
    owner: Owner,
    completions: flume::Receiver<Completion>,
    partitions: NonZeroU32,
    /// Next offset of each partition.
    next: Vec<Offset>,
}

impl Engine {
    /// Opens store and owner so that their threads inherit the CPUs that the engine does not use.
    fn open(directory: &Path, options: &ApplyOptions, all: &[usize], cache_bytes: usize) -> Result<Self> {
        let background: Vec<usize> = all.iter().copied().filter(|&cpu| cpu != options.cpu).collect();
        cpu::pin_to(if background.is_empty() { all } else { &background })?;
        let store = Store::open(&directory.join("store"), &StoreOptions::default()).map_err(engine)?;
        let owned: Vec<PartitionId> = (0..options.partitions.get()).map(PartitionId).collect();
        let owner_options = OwnerOptions {
            partitions: options.partitions,
            cache_bytes,
            max_backlog_mutations: BACKLOG_MUTATIONS,
            max_backlog_bytes: BACKLOG_BYTES,
        };
        let (owner, completions) = Owner::new(store, owner_options, &owned).map_err(engine)?;
        let next =
            owned.iter().map(|&partition| owner.next(partition).map_err(engine)).collect::<Result<_>>()?;
        cpu::pin(options.cpu)?;
        Ok(Self { owner, completions, partitions: options.partitions, next })
    }

    /// Applies every stream, one delivery of each in turn.
    fn apply(&mut self, kind: &str, streams: &[Stream], batch: usize) -> Result<ApplyRate> {
        let total: u64 = streams.iter().map(|stream| stream.entries.len() as u64).sum();
        let mut applied = 0;
        let mut waited = Duration::ZERO;
        let cpu_before = cpu::thread_time()?;
        let started = Instant::now();
        let longest = streams.iter().map(|stream| stream.entries.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(batch) {
            for stream in streams {
                let end = stream.entries.len().min(start + batch);
                let Some(delivery) = stream.entries.get(start..end).filter(|delivery| !delivery.is_empty())
                else {
                    continue;
                };
                waited += self.make_room()?;
                applied += self.owner.apply(stream.partition, delivery).map_err(engine)?.applied;
            }
        }
        let took = started.elapsed();
        let cpu_used = cpu::thread_time()?.saturating_sub(cpu_before);
        if applied != total {
            return Err(BenchError::Engine(format!("{kind}: {applied} of {total} mutations were applied")));
        }
        // What is still under way is not part of this kind's rate, and must not be part of the next one's either.
        self.settle(streams)?;
        Ok(ApplyRate {
            kind: kind.to_owned(),
            mutations: total,
            rate: total as f64 / took.as_secs_f64(),
            rate_per_cpu_second: total as f64 / cpu_used.as_secs_f64().max(1e-9),
            waiting: waited.as_secs_f64() / took.as_secs_f64(),
        })
    }

    /// Hands over the completions that are there, and waits for more while the backlog is full.
    fn make_room(&mut self) -> Result<Duration> {
        for completion in self.completions.try_iter() {
            self.owner.complete(completion);
        }
        let mut waited = Duration::ZERO;
        while self.owner.backlog_full() {
            let since = Instant::now();
            let completion = self.completions.recv();
            waited += since.elapsed();
            self.owner
                .complete(completion.map_err(|_| BenchError::Engine("the writer thread ended".into()))?);
        }
        Ok(waited)
    }

    /// Waits until everything applied is committed.
    fn settle(&mut self, streams: &[Stream]) -> Result<()> {
        for stream in streams {
            let partition = stream.partition;
            let next = self.owner.next(partition).map_err(engine)?;
            while self.owner.committed(partition) < Some(next) {
                let completion = self.completions.recv();
                self.owner
                    .complete(completion.map_err(|_| BenchError::Engine("the writer thread ended".into()))?);
            }
            self.next[partition.0 as usize] = next;
        }
        Ok(())
    }

    /// Gets `count` records out of the first `range`, each timed, then as many untimed for the mean.
    fn gets(&mut self, kind: &str, set: DataSet, range: u32, count: u32) -> Result<GetLatency> {
        let mut histogram = latencies();
        let mut picker = Picker::new(9, range, Distribution::Uniform);
        let mut key = Vec::new();
        let mut pk = Vec::new();
        for _ in 0..count {
            let partition = self.key(set, picker.pick(), &mut pk, &mut key);
            let started = Instant::now();
            let length = |record: Option<&Record>| record.map(|record| record.data().len());
            let found = self.owner.get(partition, &key, length).map_err(engine)?;
            let took = started.elapsed();
            histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            if found != Some(set.value_bytes) {
                return Err(BenchError::Engine(format!("{kind}: a record is missing or of another length")));
            }
        }
        // The same walk with and without the gets: the difference is theirs alone.
        let walk = |engine: &mut Self, get: bool| -> Result<Duration> {
            let mut picker = Picker::new(10, range, Distribution::Uniform);
            let (mut pk, mut key) = (Vec::new(), Vec::new());
            let started = Instant::now();
            for _ in 0..count {
                let partition = engine.key(set, picker.pick(), &mut pk, &mut key);
                if get {
                    let length = engine.owner.get(partition, &key, |record| record.map(|r| r.json().len()));
                    std::hint::black_box(length.map_err(self::engine)?);
                } else {
                    std::hint::black_box((partition, &key));
                }
            }
            Ok(started.elapsed())
        };
        let with = walk(self, true)?;
        let without = walk(self, false)?;
        let mean_ns = with.saturating_sub(without).as_nanos() as f64 / f64::from(count);
        Ok(GetLatency { kind: kind.to_owned(), mean_ns, latency: Summary::of(&histogram) })
    }

    fn key(&self, set: DataSet, n: u32, pk: &mut Vec<u8>, key: &mut Vec<u8>) -> PartitionId {
        pk.clear();
        key.clear();
        set.pk(n, pk);
        let text = std::str::from_utf8(pk).expect("generated keys are ASCII");
        encode_key(text, "record", key);
        partition_of(pk, self.partitions)
    }

    fn close(mut self) -> Result<()> {
        self.owner.close().map_or(Ok(()), |closing| closing.finish().map_err(engine))
    }
}

fn engine(error: impl std::fmt::Display) -> BenchError {
    BenchError::Engine(error.to_string())
}

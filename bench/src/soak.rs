//! A million single requests that cross from one shard to another, with pauses in which both fall asleep.
//!
//! Each request asks for two records whose partitions belong to different shards, so whichever shard holds the
//! connection has to wake the other and be woken by it. The pauses are random, because the fault looked for (an
//! executor that parks although a task is runnable) needs wake-ups to fall at unlucky moments of the timer.
//!
//! **Invariants**: bounded by `--count`; one round trip over the limit fails the run and is named with its number. Time
//! for which a serving core or this program was ready to run and the kernel gave it no CPU is taken off first: that is
//! the machine's stall, is reported as such, and a core that parks by mistake is not in it.
//!
//! **Not here**: load.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use firescroll_shard::partition_of;
use hdrhistogram::Histogram;

use crate::client::{Client, Target};
use crate::cpu::{self, RunDelay};
use crate::dataset::{DataSet, Shape, mix};
use crate::error::{BenchError, Result, Tried};
use crate::node::{Node, NodePlan};
use crate::summary::{Summary, latencies, write_json};

/// Ten ticks of a serving core.
const LIMIT_MS: u64 = 20;
const PARTITIONS: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");
const SHARDS: u32 = 2;
/// What the names of serving cores' threads begin with.
const CORE_THREADS: &str = "shard-";
const PROGRESS: u64 = 100_000;
const VALUE_BYTES: usize = 64;

/// What `soak` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoakOptions {
    /// The `firescroll` binary to start a node of two shards from.
    #[arg(long, default_value = "target/release/firescroll", conflicts_with = "url")]
    node: PathBuf,
    /// A running node to use instead; it must have two shards and as many partitions as `--partitions` says.
    #[arg(long)]
    url: Option<Target>,
    /// Partitions of the running node.
    #[arg(long, default_value = "16")]
    partitions: NonZeroU32,
    /// Process of the running node, to tell its stalls from the machine's.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// Round trips.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Shortest pause between two requests, in microseconds.
    #[arg(long, default_value_t = 50)]
    pause_min_us: u64,
    /// Longest pause.
    #[arg(long, default_value_t = 200)]
    pause_max_us: u64,
    /// A round trip longer than this fails the run, in milliseconds.
    #[arg(long, default_value_t = LIMIT_MS)]
    limit_ms: u64,
    /// Report every round trip over the limit at the end, instead of stopping at the first.
    #[arg(long)]
    keep_going: bool,
    /// Seed of the pauses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the latencies' summary to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// `firescroll-bench soak`.
pub(crate) fn command(options: &SoakOptions) -> Result<()> {
    if options.pause_min_us > options.pause_max_us {
        return Err(BenchError::Usage("--pause-min-us is greater than --pause-max-us".into()));
    }
    if let Some(target) = &options.url {
        return soak(options, target, options.partitions, &RunDelay::watch(options.pid, CORE_THREADS)?);
    }
    let scratch = tempfile::tempdir().tried(|| "make a scratch directory".into())?;
    let cpus = cpu::allowed()?;
    let plan = NodePlan {
        binary: &options.node,
        data: &scratch.path().join("data"),
        cpus: &cpus,
        shards: SHARDS as usize,
        settings: &[("PARTITIONS", PARTITIONS.to_string())],
    };
    let node = Node::start(&plan)?;
    soak(options, node.api(), PARTITIONS, &RunDelay::watch(Some(node.pid()), CORE_THREADS)?)?;
    node.stop()
}

fn soak(options: &SoakOptions, target: &Target, partitions: NonZeroU32, delay: &RunDelay) -> Result<()> {
    let set = DataSet::new(10_000, VALUE_BYTES, Shape::Single)?;
    let numbers = one_of_each_shard(set, partitions)?;
    let mut client = Client::new(target.clone());
    let mut body = b"{\"Records\":[".to_vec();
    for (i, &n) in numbers.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        set.put(n, &mut body);
    }
    body.extend_from_slice(b"]}");
    let session = client.post("/records/put", "", &body)?.expect(200, "put the two records")?.session;
    let session = session.ok_or_else(|| BenchError::Answer("a put without a session token".into()))?;

    let mut keys = Vec::new();
    set.get(&numbers, &mut keys);
    let wait = format!("firescroll-session: {session}\r\nfirescroll-wait-ms: 10000\r\n");
    let first = client.post("/records/get", &wait, &keys)?.expect(200, "read the two records")?;
    set.check(&numbers, &first.body, &mut Vec::new())?;

    let mut histogram = latencies();
    let request = Request { body: &keys, answer: &first.body };
    let slow = round_trips(options, &mut client, &request, delay, &mut histogram)?;
    let summary = Summary::of(&histogram);
    println!("{} round trips across shards: {}", options.count, summary.line());
    if let Some(path) = &options.json {
        write_json(path, &summary)?;
    }
    let limit = options.limit_ms;
    if slow.starved > 0 {
        println!("{} took longer than {limit} ms because the machine gave no CPU", slow.starved);
    }
    if slow.stalled > 0 {
        return Err(BenchError::Missed(format!(
            "{} round trips stalled for longer than {limit} ms",
            slow.stalled
        )));
    }
    println!("none stalled for longer than {limit} ms");
    Ok(())
}

struct Request<'a> {
    body: &'a [u8],
    answer: &'a [u8],
}

/// Round trips over the limit.
#[derive(Debug, Default)]
struct Slow {
    /// With CPU at hand: the fault looked for.
    stalled: u64,
    /// Less the time without CPU, they were within the limit.
    starved: u64,
}

fn round_trips(
    options: &SoakOptions,
    client: &mut Client,
    request: &Request<'_>,
    delay: &RunDelay,
    histogram: &mut Histogram<u64>,
) -> Result<Slow> {
    let limit = Duration::from_millis(options.limit_ms);
    let span = options.pause_max_us - options.pause_min_us + 1;
    let mut state = options.seed;
    let mut slow = Slow::default();
    for round in 1..=options.count {
        thread::sleep(Duration::from_micros(options.pause_min_us + mix(&mut state) % span));
        let delayed = delay.total();
        let sent = Instant::now();
        let answer = client.post("/records/get", "", request.body)?.expect(200, "a round trip")?;
        let took = sent.elapsed();
        if answer.body != request.answer {
            return Err(BenchError::Answer(format!("round trip {round} brought other records")));
        }
        histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if took > limit {
            let starved = delay.total().saturating_sub(delayed);
            let (took_ms, starved_ms) = (took.as_secs_f64() * 1e3, starved.as_secs_f64() * 1e3);
            eprintln!("round trip {round} took {took_ms:.1} ms, {starved_ms:.1} ms of it without CPU");
            if took.saturating_sub(starved) <= limit {
                slow.starved += 1;
            } else if options.keep_going {
                slow.stalled += 1;
            } else {
                return Err(BenchError::Missed(format!("round trip {round} stalled for {took_ms:.1} ms")));
            }
        }
        if round.is_multiple_of(PROGRESS) {
            println!("{round}: {}", Summary::of(histogram).line());
        }
    }
    Ok(slow)
}

/// Two records whose partitions belong to different shards (partition p belongs to shard p mod SHARDS).
fn one_of_each_shard(set: DataSet, partitions: NonZeroU32) -> Result<[u32; 2]> {
    let shard_of = |n| {
        let mut pk = Vec::new();
        set.pk(n, &mut pk);
        partition_of(&pk, partitions).0 % SHARDS
    };
    let first = 0;
    let other = (1..set.records).find(|&n| shard_of(n) != shard_of(first));
    other
        .map(|n| [first, n])
        .ok_or_else(|| BenchError::Usage(format!("{partitions} partitions all belong to one shard")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_records_belong_to_different_shards() {
        let set = DataSet::new(10_000, VALUE_BYTES, Shape::Single).expect("valid");
        let [a, b] = one_of_each_shard(set, PARTITIONS).expect("16 partitions fall on both shards");
        let shard = |n| {
            let mut pk = Vec::new();
            set.pk(n, &mut pk);
            partition_of(&pk, PARTITIONS).0 % 2
        };
        assert_ne!(shard(a), shard(b));
        assert!(one_of_each_shard(set, NonZeroU32::MIN).is_err());
    }
}

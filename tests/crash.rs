//! Nodes that are killed: nothing acknowledged is lost, nothing is applied twice, and the state is the log's.
//!
//! Writers, each with keys of its own, write until the node is killed under them, and go on after the next start with
//! the write whose fate they do not know. At the end the log is read by itself, replayed into a map, and compared with
//! the hashes that the node gave before its last stop.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use firescroll_io::log::{EmbeddedLog, EmbeddedOptions, Log};
use firescroll_shard::{LogEntry, Offset, PartitionId, StateHash, replay};
use serde_json::{Value, json};
use support::{Client, Node, PATIENCE};

const PARTITIONS: u32 = 4;
const WRITERS: u64 = 4;
const ROUNDS: u64 = 20;
const SETTINGS: [(&str, &str); 2] = [("PARTITIONS", "4"), ("SHARDS", "2")];

/// One writer's part of the world, as far as it knows.
struct Writer {
    pk: String,
    /// Increments that were acknowledged.
    acknowledged: u64,
    /// The last number that was put without condition and acknowledged.
    last: u64,
    /// The last number that was sent without condition.
    sent: u64,
}

impl Writer {
    /// One increment of the counter, and one plain put. An error means that the node is gone.
    fn step(&mut self, client: &Client) -> Result<(), ureq::Error> {
        // The number counts increments, and each leaves a record of its own. Sent again after a crash, the condition
        // keeps it from counting twice.
        let (before, after) = (self.acknowledged, self.acknowledged + 1);
        let condition =
            if before == 0 { "data == `null`".to_owned() } else { format!("data.n == `{before}`") };
        let batch = json!({"Operations": [
            {"op": "put", "pk": self.pk, "sk": "counter", "data": {"n": after}, "if": condition},
            {"op": "put", "pk": self.pk, "sk": format!("step/{after:06}"), "data": {"n": after}, "if": "data == `null`"},
        ]});
        client.try_post("/records/batch", &batch.to_string())?.token();
        self.acknowledged = after;
        self.sent += 1;
        let put = json!({"records": [{"pk": self.pk, "sk": "last", "data": {"n": self.sent}}]});
        client.try_post("/records/put", &put.to_string())?.token();
        self.last = self.sent;
        Ok(())
    }

    /// What the node knows after a restart is what was acknowledged, or that and the one write in doubt.
    fn check(&mut self, node: &Node) {
        let number =
            |sk: &str| node.client().read_now(&[(&self.pk, sk)]).first().map_or(0, |found| found.number("n"));
        let counter = number("counter");
        let expected = self.acknowledged..=self.acknowledged + 1;
        assert!(expected.contains(&counter), "{}: {counter} is not in {expected:?}", self.pk);
        let last = number("last");
        assert!(
            (self.last..=self.sent).contains(&last),
            "{}: {last}, not {}..={}",
            self.pk,
            self.last,
            self.sent
        );
        let list = json!({"pk": self.pk, "sk_prefix": "step/"}).to_string();
        let steps = node.client().post("/records/list", &list).records();
        let steps: Vec<u64> = steps.iter().map(|record| record.number("n")).collect();
        assert_eq!(steps, (1..=counter).collect::<Vec<_>>(), "{}: each increment once", self.pk);
    }
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// All writers write until the node has acknowledged so many steps and is killed.
fn write_until_killed(node: Node, writers: &mut [Writer], steps: u64) {
    let (tell, told) = mpsc::channel();
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in writers {
            let client = node.client().anew();
            let (tell, done) = (tell.clone(), &done);
            scope.spawn(move || {
                while writer.step(&client).is_ok() {
                    if done.fetch_add(1, Ordering::Relaxed) + 1 == steps {
                        tell.send(()).expect("the killer waits");
                    }
                }
            });
        }
        told.recv_timeout(PATIENCE).expect("the node acknowledges");
        node.kill();
    });
}

/// The states of all partitions by the log alone.
fn replayed(dir: &Path) -> Vec<Value> {
    let log = EmbeddedLog::open(&dir.join("log"), EmbeddedOptions::new(PARTITIONS)).expect("a whole log");
    let ends: Vec<u64> = (0..PARTITIONS).map(|partition| log.end(partition)).collect();
    let starts: Vec<(u32, u64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut consumer = log.consumer(&starts).expect("the log keeps everything");
    let mut entries: BTreeMap<u32, Vec<LogEntry>> = BTreeMap::new();
    let mut left: u64 = ends.iter().sum();
    while left > 0 {
        let mut some = Vec::new();
        consumer.poll(Duration::from_secs(10), &mut some).expect("the log reads");
        assert!(!some.is_empty(), "{left} messages do not come");
        left -= some.len() as u64;
        for entry in some {
            let of = entries.entry(entry.partition).or_default();
            assert_eq!(entry.offset, of.len() as u64, "offsets are dense");
            let offset = Offset(entry.offset);
            of.push(LogEntry { offset, timestamp_ms: entry.timestamp_ms, value: entry.value });
        }
    }
    log.close();
    let count = NonZeroU32::new(PARTITIONS).expect("not zero");
    (0..PARTITIONS)
        .map(|partition| {
            let entries = entries.remove(&partition).unwrap_or_default();
            let next = entries.len();
            let rows = replay(entries, PartitionId(partition), count);
            let hash = StateHash::of(rows.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice())));
            json!({"partition": partition, "next": next, "records": rows.len(), "hash": hash.to_string()})
        })
        .collect()
}

#[test]
fn what_is_acknowledged_survives_twenty_kills() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut chance = Chance(20);
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer { pk: format!("writer-{number}"), acknowledged: 0, last: 0, sent: 0 })
        .collect();
    for round in 0..ROUNDS {
        let node = Node::start(dir.path(), &SETTINGS);
        node.catch_up();
        for writer in &mut writers {
            writer.check(&node);
        }
        write_until_killed(node, &mut writers, 5 + chance.below(150));
        if round % 4 == 3 {
            // A node that is killed while it starts.
            let mut process = Node::spawn(dir.path(), &SETTINGS);
            let moment = Duration::from_millis(chance.below(200));
            assert!(!process.ends_within(moment), "it ended by itself:\n{}", process.errors());
            process.kill();
        }
    }

    // At the end every writer repeats the step in doubt and does a few more, undisturbed.
    let node = Node::start(dir.path(), &SETTINGS);
    node.catch_up();
    for writer in &mut writers {
        writer.check(&node);
        for _ in 0..5 {
            writer.step(node.client()).expect("the node is well");
        }
    }
    node.catch_up();
    for writer in &mut writers {
        let total = writer.acknowledged;
        writer.check(&node);
        let counter = node.client().read_now(&[(&writer.pk, "counter")])[0].number("n");
        assert_eq!(counter, total, "as many increments as were meant");
        assert_eq!(node.client().read_now(&[(&writer.pk, "last")])[0].number("n"), writer.last);
    }
    let hashes = node.hashes();
    node.term();
    assert_eq!(replayed(dir.path()), hashes, "the state is what the log says");
    // And a start after all this changes nothing.
    assert_eq!(Node::start(dir.path(), &SETTINGS).hashes(), hashes);
}

#[test]
fn conflicting_writers_and_kills_leave_the_state_of_the_log() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut chance = Chance(7);
    for _ in 0..6 {
        let node = Node::start(dir.path(), &SETTINGS);
        let steps = 20 + chance.below(100);
        let (tell, told) = mpsc::channel();
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let client = node.client().anew();
                let (tell, done) = (tell.clone(), &done);
                let mut chance = Chance(writer + steps);
                scope.spawn(move || {
                    loop {
                        let (pk, sk) = (format!("pk-{}", chance.below(6)), chance.below(5).to_string());
                        let n = chance.below(10);
                        let condition = format!("data == `null` || data.n < `{}`", chance.below(12));
                        let sent = match chance.below(4) {
                            0 => client.try_post(
                                "/records/delete",
                                &json!({"records": [{"pk": pk, "sk": sk, "if": condition}]}).to_string(),
                            ),
                            1 => client.try_post(
                                "/records/batch",
                                &json!({"Operations": [
                                    {"op": "put", "pk": pk, "sk": sk, "data": {"n": n}, "if": condition},
                                    {"op": "delete", "pk": pk, "sk": n.to_string()},
                                ]})
                                .to_string(),
                            ),
                            _ => client.try_post(
                                "/records/put",
                                &json!({"records": [
                                    {"pk": pk, "sk": sk, "data": {"n": n}, "if": condition},
                                    {"pk": "all", "sk": sk, "data": {"n": n}},
                                ]})
                                .to_string(),
                            ),
                        };
                        let Ok(answer) = sent else { return };
                        answer.token();
                        if done.fetch_add(1, Ordering::Relaxed) + 1 == steps {
                            tell.send(()).expect("the killer waits");
                        }
                    }
                });
            }
            told.recv_timeout(PATIENCE).expect("the node acknowledges");
            node.kill();
        });
        let node = Node::start(dir.path(), &SETTINGS);
        let hashes = node.hashes();
        node.term();
        assert_eq!(replayed(dir.path()), hashes);
    }
}

#[test]
fn a_stop_under_load_keeps_its_acknowledgements() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer { pk: format!("stopped-{number}"), acknowledged: 0, last: 0, sent: 0 })
        .collect();
    for round in 0..5 {
        let mut node = Node::start(dir.path(), &SETTINGS);
        for writer in &mut writers {
            writer.check(&node);
        }
        let (tell, told) = mpsc::channel();
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for writer in &mut writers {
                let client = node.client().anew();
                let (tell, done) = (tell.clone(), &done);
                scope.spawn(move || {
                    while writer.step(&client).is_ok() {
                        if done.fetch_add(1, Ordering::Relaxed) + 1 == 40 + round {
                            tell.send(()).expect("somebody waits");
                        }
                    }
                });
            }
            told.recv_timeout(PATIENCE).expect("the node acknowledges");
            node.ask_to_stop();
            let ended = node.ended();
            assert_eq!(ended.code, Some(0), "{}", ended.errors);
        });
    }
    let node = Node::start(dir.path(), &SETTINGS);
    for writer in &mut writers {
        writer.check(&node);
    }
    let hashes = node.hashes();
    node.term();
    assert_eq!(replayed(dir.path()), hashes);
}

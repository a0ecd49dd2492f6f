//! A namespace in a running Kafka, and what its nodes and its log must agree on.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use firescroll_io::log::Log;
use firescroll_io::log::kafka::{self as log, KafkaLog, KafkaOptions};
use firescroll_shard::{LogEntry, Offset, PartitionId, StateHash, replay};
use serde_json::{Value, json};

use super::kafka::{Kafka, available, namespace};
use super::node::Node;
use super::process::{PATIENCE, firescroll, until};

/// How many tests [`skipped`] has left out.
static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Whether a test has to be left out on this machine. Says so past the harness, which hides what a test that
/// passes has printed.
pub(crate) fn skipped(test: &str) -> bool {
    if available() {
        return false;
    }
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // A closed standard error is no reason to fail.
    let _ = writeln!(
        std::io::stderr(),
        "\nSKIPPED: {test}, the test {count} of this file that was left out: it needs Java 17 and Maven"
    );
    true
}

/// The topics of one namespace.
pub(crate) struct Space {
    /// Where the brokers are.
    pub(crate) seeds: String,
    /// The namespace.
    pub(crate) name: String,
    partitions: String,
}

impl Space {
    /// A name that no other test has; its topics are not made.
    pub(crate) fn named(kafka: &Kafka, hint: &str, partitions: u32) -> Self {
        Self { seeds: kafka.seeds(), name: namespace(hint), partitions: partitions.to_string() }
    }

    /// The same with its topics, made with the program.
    pub(crate) fn made(kafka: &Kafka, hint: &str, partitions: u32) -> Self {
        Self::made_with(kafka, hint, partitions, &[])
    }

    /// The same with flags of `firescroll topics create`.
    ///
    /// # Panics
    /// If they cannot be made; with what the program said.
    pub(crate) fn made_with(kafka: &Kafka, hint: &str, partitions: u32, flags: &[&str]) -> Self {
        let space = Self::named(kafka, hint, partitions);
        let (code, said) = space.topics("create", flags);
        assert_eq!(code, Some(0), "{said}");
        space
    }

    /// Runs `firescroll topics`; gives the exit code and what it said.
    pub(crate) fn topics(&self, action: &str, flags: &[&str]) -> (Option<i32>, String) {
        let mut command = firescroll(&["topics", action]);
        command.env("KAFKA_SEEDS", &self.seeds).env("NAMESPACE", &self.name);
        command.env("PARTITIONS", &self.partitions).args(flags);
        let output = command.output().expect("the program can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The topic of the mutations.
    pub(crate) fn mutations(&self) -> String {
        log::mutations_topic(&self.name)
    }

    /// The topic of the partition count.
    pub(crate) fn count_topic(&self) -> String {
        log::partitions_topic(&self.name)
    }

    /// How many partitions it has.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions.parse().expect("made from a number")
    }

    /// The settings of a node: member `instance` of the replica group `group`; others go before these.
    pub(crate) fn settings<'a>(
        &'a self,
        group: &'a str,
        instance: &'a str,
        more: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let mut all = vec![
            ("KAFKA_SEEDS", self.seeds.as_str()),
            ("NAMESPACE", self.name.as_str()),
            ("PARTITIONS", self.partitions.as_str()),
            ("REGION", "test"),
            ("REPLICA_GROUP", group),
            ("INSTANCE_ID", instance),
            ("KAFKA_SESSION_MS", "6000"),
        ];
        all.extend(more);
        all
    }

    /// The states of all partitions by the log alone, in the form in which a node tells them.
    pub(crate) fn replayed(&self) -> Vec<Value> {
        let count = self.partitions();
        let options = KafkaOptions {
            seeds: self.seeds.clone(),
            tls: None,
            sasl: None,
            namespace: self.name.clone(),
            group: "replay".into(),
            instance: "replay".into(),
            rack: "test".into(),
            session: PATIENCE,
            partitions: count,
            max_message_bytes: 1 << 20,
            ack_timeout: PATIENCE,
            connect_timeout: PATIENCE,
        };
        let log = KafkaLog::open(options).expect("the log opens");
        let ends: Vec<u64> = (0..count).map(|partition| log.end(partition)).collect();
        let starts: Vec<(u32, u64)> = (0..count).map(|partition| (partition, 0)).collect();
        let mut consumer = log.consumer(&starts).expect("the log keeps everything");
        let mut entries: BTreeMap<u32, Vec<LogEntry>> = BTreeMap::new();
        let mut left: u64 = ends.iter().sum();
        let deadline = Instant::now() + PATIENCE;
        while left > 0 {
            assert!(Instant::now() < deadline, "{left} messages do not come");
            let mut some = Vec::new();
            consumer.poll(Duration::from_secs(1), &mut some).expect("the log reads");
            for entry in some {
                let of = entries.entry(entry.partition).or_default();
                assert_eq!(entry.offset, of.len() as u64, "offsets are dense");
                left -= 1;
                let offset = Offset(entry.offset);
                of.push(LogEntry { offset, timestamp_ms: entry.timestamp_ms, value: entry.value });
            }
        }
        drop(consumer);
        log.close();
        let all = NonZeroU32::new(count).expect("not zero");
        let state = |partition| {
            let entries = entries.remove(&partition).unwrap_or_default();
            let next = entries.len();
            let rows = replay(entries, PartitionId(partition), all);
            let hash = StateHash::of(rows.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice())));
            json!({"partition": partition, "next": next, "records": rows.len(), "hash": hash.to_string()})
        };
        (0..count).map(state).collect()
    }
}

/// The partitions that a node holds.
pub(crate) fn held(node: &Node) -> Vec<u64> {
    let answer = node.operator().get("/partitions").json();
    let all = answer["partitions"].as_array().expect("a list of partitions");
    all.iter().map(|number| number.as_u64().expect("a number")).collect()
}

/// Whether the nodes hold each of `partitions` partitions once between them, and each of them some.
pub(crate) fn shared_out(nodes: &[&Node], partitions: u32) -> bool {
    let of_each: Vec<Vec<u64>> = nodes.iter().map(|node| held(node)).collect();
    let mut all: Vec<u64> = of_each.concat();
    all.sort_unstable();
    of_each.iter().all(|of| !of.is_empty()) && all == (0..u64::from(partitions)).collect::<Vec<_>>()
}

/// Where a partition stands at a node, and what it is: none while the node does not hold it.
fn state(node: &Node, partition: u32) -> Option<Value> {
    let answer = node.operator().get(&format!("/partitions/{partition}/hash"));
    (answer.status == 200).then(|| answer.json())
}

/// Waits until the groups of nodes stand at the same position of every partition, at or after `least` where
/// that is said, and gives their common states. Nobody may write meanwhile.
///
/// # Panics
/// If states at the same position differ, or the positions do not become the same.
pub(crate) fn agreed(groups: &[&[&Node]], partitions: u32, least: &Positions) -> Vec<Value> {
    let one = |partition: u32| {
        let mut common = None;
        let what = format!("the replica groups to stand at the same position of partition {partition}");
        until(&what, || {
            let of_group = |group: &&[&Node]| group.iter().find_map(|node| state(node, partition));
            let states: Vec<Value> = groups.iter().filter_map(of_group).collect();
            let next = states.first().and_then(|state| state["next"].as_u64());
            let same =
                states.len() == groups.len() && states.iter().all(|state| state["next"].as_u64() == next);
            if !same || next < least.0.get(&partition).map(|offset| offset + 1) {
                return false;
            }
            for state in &states {
                assert_eq!(state, &states[0], "states at the same position, all of them: {states:?}");
            }
            common = states.into_iter().next();
            true
        });
        common.expect("found above")
    };
    (0..partitions).map(one).collect()
}

/// The greatest offset of each partition that was acknowledged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions(BTreeMap<u32, u64>);

impl Positions {
    /// Adds those of a session token.
    pub(crate) fn add(&mut self, token: &str) {
        for part in token.split(',') {
            let (partition, offset) = part.split_once(':').expect("partition:offset");
            let partition = partition.parse().expect("a partition");
            let offset: u64 = offset.parse().expect("an offset");
            let greatest = self.0.entry(partition).or_default();
            *greatest = offset.max(*greatest);
        }
    }

    /// Adds all of others.
    pub(crate) fn join(&mut self, others: &Self) {
        for (partition, offset) in &others.0 {
            let greatest = self.0.entry(*partition).or_default();
            *greatest = (*offset).max(*greatest);
        }
    }

    /// As a session token; empty if there is nothing to say.
    pub(crate) fn token(&self) -> String {
        let parts: Vec<String> =
            self.0.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        parts.join(",")
    }
}

/// Numbers that look like chance and are the same in each run with the same seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

//! Brokers that die or stall under a node: what is acknowledged stays, reads go on, and writes come back by
//! themselves. Each test has brokers of its own.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use firescroll_io::log::kafka::group;
use serde_json::json;
use support::kafka::Kafka;
use support::{Client, Home, Node, Positions, Space, agreed, pk_in, skipped, until};

/// What the brokers say of one partition.
#[derive(Debug)]
struct Described {
    leader: u32,
    in_sync: usize,
}

/// Asks Kafka's tool for the leaders and replicas of a topic.
fn describe(kafka: &Kafka, topic: &str) -> BTreeMap<u32, Described> {
    let seeds = kafka.seeds();
    let arguments = ["--bootstrap-server", &seeds, "--describe", "--topic", topic];
    let said = kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments, "");
    let field = |line: &str, name: &str| -> Option<String> {
        let rest = line.split_once(&format!("{name}: "))?.1;
        Some(rest.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let partition = |line: &str| {
        let number = field(line, "\tPartition")?.parse().ok()?;
        // A partition without a leader says so in a word.
        let leader = field(line, "Leader")?.parse().unwrap_or(0);
        Some((number, Described { leader, in_sync: field(line, "Isr")?.split(',').count() }))
    };
    said.lines().filter_map(partition).collect()
}

/// A writer of rising numbers under one key, each also in a record of its own.
struct Writer {
    pk: String,
    sent: u64,
    acknowledged: BTreeSet<u64>,
    seen: Positions,
}

impl Writer {
    /// One write; it may be refused, but it is answered.
    fn step(&mut self, client: &Client) -> Result<(), ureq::Error> {
        self.sent += 1;
        let n = self.sent;
        let body = json!({"records": [
            {"pk": self.pk, "sk": "last", "data": {"n": n}},
            {"pk": self.pk, "sk": format!("each/{n:08}"), "data": {"n": n}},
        ]});
        let answer = client.try_post("/records/put", &body.to_string())?;
        if answer.status == 200 {
            self.seen.add(&answer.token());
            self.acknowledged.insert(n);
        } else {
            answer.refusal(503);
        }
        Ok(())
    }

    fn check(&self, node: &Node) {
        let last = node.client().one(&self.seen.token(), &self.pk, "last").expect("it was put").number("n");
        let acknowledged = *self.acknowledged.last().expect("something was acknowledged");
        assert!(
            last == acknowledged || (last > acknowledged && last <= self.sent),
            "{}: {last}, of {} sent {acknowledged} was acknowledged last",
            self.pk,
            self.sent
        );
        let list = json!({"pk": self.pk, "sk_prefix": "each/"}).to_string();
        let each: BTreeSet<u64> =
            node.client().post("/records/list", &list).records().iter().map(|one| one.number("n")).collect();
        let lost: Vec<&u64> = self.acknowledged.difference(&each).collect();
        assert!(lost.is_empty(), "{}: acknowledged and not there: {lost:?}", self.pk);
    }
}

/// Ends writers also when a test fails, so that it can say so.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The partition of `__consumer_offsets` whose leader keeps a group: by the hash that Java has for text.
fn keeper_of(group: &str, partitions: usize) -> u32 {
    let hash = group.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    (hash & 0x7fff_ffff).unsigned_abs() % u32::try_from(partitions).expect("a few")
}

/// Whom to kill.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The leader of a partition that is written to.
    Leader,
    /// The broker that keeps the node's group.
    Keeper,
}

/// Kills one broker after another under writers, and starts it again when another one leads. `session` is how
/// long the group waits for its members, in ms.
fn brokers_die(victim: Victim, session: &str, rounds: u32) {
    const PARTITIONS: u32 = 3;
    let kafka = Kafka::start(3, &[]);
    let week = ["--replication", "3", "--topic-retention-ms", "604800000"];
    let space = Space::made_with(&kafka, "leaders", PARTITIONS, &week);
    // With three brokers nothing is unsafe, neither for the maker nor for the checker.
    let (code, said) = space.topics("create", &week);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("both topics are as they should be"), "{said}");
    let (code, said) = space.topics("check", &week[2..]);
    assert_eq!(code, Some(0), "{said}");

    let home = Home::start(&space.settings("a", "a1", &[("SHARDS", "1"), ("KAFKA_SESSION_MS", session)]));
    let topic = space.mutations();
    let done = AtomicBool::new(false);
    let mut writers: Vec<Writer> = (0..PARTITIONS)
        .map(|partition| Writer {
            pk: pk_in(partition, PARTITIONS, "writer"),
            sent: 0,
            acknowledged: BTreeSet::new(),
            seen: Positions::default(),
        })
        .collect();
    let counts: Vec<AtomicU64> = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
    let more = |partition: u32| {
        let count = &counts[partition as usize];
        let least = count.load(Ordering::Relaxed) + 20;
        until("writes to be acknowledged", || {
            assert!(!home.ends_within(Duration::ZERO), "the node ended:\n{}", home.errors());
            count.load(Ordering::Relaxed) >= least
        });
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        let _finish = Finish(&done);
        for (writer, count) in writers.iter_mut().zip(&counts) {
            let client = home.client().anew();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) && writer.step(&client).is_ok() {
                    count.store(writer.acknowledged.len() as u64, Ordering::Relaxed);
                }
            });
        }
        for round in 0..rounds {
            let partition = round % PARTITIONS;
            let whole = Mutex::new(BTreeMap::new());
            until("all replicas to be in sync", || {
                let all = describe(&kafka, &topic);
                let yes = all.len() == PARTITIONS as usize && all.values().all(|one| one.in_sync == 3);
                *whole.lock().expect("nobody panics with it") = all;
                yes
            });
            let victim = if victim == Victim::Leader {
                whole.into_inner().expect("nobody panics with it")[&partition].leader
            } else {
                let offsets = describe(&kafka, "__consumer_offsets");
                offsets[&keeper_of(&group(&space.name, "test", "a"), offsets.len())].leader
            };
            more(partition);
            let killed = Instant::now();
            kafka.kill(victim);
            // Acknowledged by another leader, with one replica less.
            more(partition);
            let moved = killed.elapsed();
            kafka.restart(victim);
            eprintln!(
                "round {round}: broker {victim}, writes again after {moved:?}, {:?} so far",
                begun.elapsed()
            );
        }
        (0..PARTITIONS).for_each(more);
    });
    let mut least = Positions::default();
    writers.iter().for_each(|writer| least.join(&writer.seen));
    let copy = Home::start(&space.settings("b", "b1", &[("SHARDS", "2")]));
    let states = agreed(&[&[&home], &[&copy]], PARTITIONS, &least);
    assert_eq!(space.replayed(), states, "the state is what the log says");
    for writer in &writers {
        writer.check(&home);
        writer.check(&copy);
        eprintln!("{}: {} sent, {} acknowledged", writer.pk, writer.sent, writer.acknowledged.len());
    }
    eprintln!("{:?} in all", begun.elapsed());
}

#[test]
fn leaders_that_die_under_writers_lose_nothing() {
    if skipped("leaders_that_die_under_writers_lose_nothing") {
        return;
    }
    brokers_die(Victim::Leader, "60000", 10);
}

#[test]
fn keepers_of_the_group_that_die_do_not_end_the_node() {
    if skipped("keepers_of_the_group_that_die_do_not_end_the_node") {
        return;
    }
    // Little more than the group needs to move to another broker.
    brokers_die(Victim::Keeper, "6000", 4);
}

/// One outage at a time: brokers of several would stand in each other's way when all of them come back.
static BROKERS: Mutex<()> = Mutex::new(());

/// The only broker is away for some time, and the group waits for its members for `session`, in ms: reads are
/// answered all the time, writes are refused with a reason, and everything goes on when it is back.
fn outlives(hint: &str, session: &str, away: Duration, leave: impl Fn(&Kafka), come_back: impl Fn(&Kafka)) {
    const ACK: Duration = Duration::from_millis(2000);
    let _turn = BROKERS.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka = Kafka::start(1, &[]);
    let space = Space::made(&kafka, hint, 4);
    let settings = [("LOG_ACK_TIMEOUT_MS", "2000"), ("KAFKA_SESSION_MS", session)];
    let home = Home::start(&space.settings("a", "a1", &settings));
    let pks: Vec<String> = (0..4).map(|partition| pk_in(partition, 4, "outage")).collect();
    for pk in &pks {
        let token = home.client().put(pk, "s", r#"{"n":1}"#);
        assert!(home.client().one(&token, pk, "s").is_some());
    }
    assert!(home.status()["log"]["failing"].is_null(), "{}", home.status());

    leave(&kafka);
    let left = Instant::now();
    let body = json!({"records": [{"pk": pks[0], "sk": "s", "data": {"n": 2}}]}).to_string();
    let answer = home.client().post("/records/put", &body);
    let took = left.elapsed();
    let detail = answer.refusal(503);
    eprintln!("{hint}: refused after {took:?}: {detail}");
    assert!(took < ACK + Duration::from_millis(1500), "{took:?}");
    assert!(detail.contains("LOG_ACK_TIMEOUT_MS"), "{detail}");
    until("the status to say why", || home.status()["log"]["failing"].is_string());
    let failing = home.status()["log"]["failing"].clone();
    eprintln!("{hint}: failing: {failing}");
    let keys: Vec<(&str, &str)> = pks.iter().map(|pk| (pk.as_str(), "s")).collect();
    let mut reads = 0;
    while left.elapsed() < away {
        let found = home.client().read_now(&keys);
        assert_eq!(found.len(), 4, "{:?} without the broker", left.elapsed());
        assert_eq!(home.client().listed("", &json!({"pk": pks[1]})), ["s"]);
        reads += 1;
    }
    eprintln!("{hint}: {reads} reads without the broker");

    come_back(&kafka);
    let back = Instant::now();
    let put = |n: u64| {
        let row = |pk: &String| json!({"pk": pk, "sk": "s", "data": {"n": n}});
        let rows: Vec<_> = pks.iter().map(row).collect();
        home.client().post("/records/put", &json!({"records": rows}).to_string())
    };
    let (mut token, mut said) = (String::new(), String::new());
    until("writes to be taken again", || {
        let answer = put(3);
        if answer.status == 200 {
            token = answer.token();
            return true;
        }
        // Once for each reason, for whoever reads of a failure.
        if answer.text() != said {
            said = answer.text();
            eprintln!(
                "{hint}: {:?} after the broker was back: {said}; {}",
                back.elapsed(),
                home.status()["log"]
            );
        }
        false
    });
    eprintln!("{hint}: writes again {:?} after the broker was back", back.elapsed());
    // They apply, in every partition.
    let asked =
        json!({"records": keys.iter().map(|(pk, sk)| json!({"pk": pk, "sk": sk})).collect::<Vec<_>>()});
    let answer = home.client().post_after(&token, "/records/get", &asked.to_string());
    assert_eq!(answer.status, 200, "{}; the node said:\n{}", answer.text(), home.errors());
    let found = answer.records();
    assert!(found.iter().all(|record| record.number("n") == 3), "{found:?}");
    eprintln!("{hint}: applied {:?} after the broker was back", back.elapsed());
    until("the status to be well", || home.status()["log"]["failing"].is_null());
    home.wait_ready();
    let mut least = Positions::default();
    least.add(&token);
    let states = agreed(&[&[&home]], 4, &least);
    assert_eq!(space.replayed(), states, "the state is what the log says");
}

/// Longer than a broker takes to be noticed, and far shorter than the longer session.
const SHORT: Duration = Duration::from_secs(5);
/// Far longer than the shorter session.
const LONG: Duration = Duration::from_secs(9);

#[test]
fn a_node_outlives_the_only_broker() {
    if skipped("a_node_outlives_the_only_broker") {
        return;
    }
    outlives("killed", "60000", SHORT, |kafka| kafka.kill(1), |kafka| kafka.restart(1));
}

#[test]
fn a_node_outlives_a_broker_that_stalls() {
    if skipped("a_node_outlives_a_broker_that_stalls") {
        return;
    }
    outlives("stalled", "60000", SHORT, |kafka| kafka.pause(1), |kafka| kafka.resume(1));
}

#[test]
fn a_node_outlives_the_only_broker_for_longer_than_its_session() {
    if skipped("a_node_outlives_the_only_broker_for_longer_than_its_session") {
        return;
    }
    outlives("killed-long", "3000", LONG, |kafka| kafka.kill(1), |kafka| kafka.restart(1));
}

#[test]
fn a_node_outlives_a_broker_that_stalls_for_longer_than_its_session() {
    if skipped("a_node_outlives_a_broker_that_stalls_for_longer_than_its_session") {
        return;
    }
    outlives("stalled-long", "3000", LONG, |kafka| kafka.pause(1), |kafka| kafka.resume(1));
}

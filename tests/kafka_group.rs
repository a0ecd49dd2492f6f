//! Nodes that share a log in Kafka: partitions move between the members of a group, and every copy of the
//! data is the same.

mod support;

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::kafka::Kafka;
use support::{
    Chance, Client, Home, Node, Positions, Space, agreed, held, pk_in, shared_out, skipped, until,
};

const PARTITIONS: u32 = 8;
const SESSION: Duration = Duration::from_secs(6);
/// Writers of the test of moving partitions.
const WRITERS: u32 = 2;

/// A writer of one counter, which is only ever incremented by one, on the condition that it is what was read.
struct Writer {
    pk: String,
    chance: Chance,
    /// The client that answered last.
    reader: usize,
    /// The number of the last attempt; each leaves a record of its own if it applies.
    attempt: u64,
    /// Acknowledged attempts, and the value that they were to make.
    acknowledged: BTreeMap<u64, u64>,
    /// Attempts whose fate is not known.
    doubtful: u64,
    seen: Positions,
}

impl Writer {
    fn new(number: u32) -> Self {
        Self {
            pk: pk_in(number, PARTITIONS, "counter"),
            chance: Chance(u64::from(number)),
            reader: 0,
            attempt: 0,
            acknowledged: BTreeMap::new(),
            doubtful: 0,
            seen: Positions::default(),
        }
    }

    /// The counter as some node knows it that has applied all that was acknowledged to this writer.
    fn read(&mut self, clients: &[Client]) -> Option<u64> {
        let body = json!({"records": [{"pk": self.pk, "sk": "counter"}]}).to_string();
        let token = self.seen.token();
        // A node that does not hold the partition waits for so long, too.
        let mut headers = vec![("Content-Type", "application/json"), ("FireScroll-Wait-Ms", "200")];
        if !token.is_empty() {
            headers.push(("FireScroll-Session", token.as_str()));
        }
        for turn in 0..clients.len() {
            let place = (self.reader + turn) % clients.len();
            let answer = clients[place].try_send("POST", "/records/get", &headers, Some(body.as_bytes()));
            if let Some(found) = answer.ok().filter(|answer| answer.status == 200) {
                self.reader = place;
                return Some(found.records().first().map_or(0, |record| record.number("n")));
            }
        }
        None
    }

    /// One increment through any node. It need not apply: a node may be gone.
    fn step(&mut self, clients: &[Client]) {
        let Some(before) = self.read(clients) else { return };
        let after = before + 1;
        self.attempt += 1;
        let condition =
            if before == 0 { "data == `null`".to_owned() } else { format!("data.n == `{before}`") };
        let step = format!("step/{:06}", self.attempt);
        let batch = json!({"Operations": [
            {"op": "put", "pk": self.pk, "sk": "counter", "data": {"n": after}, "if": condition},
            {"op": "put", "pk": self.pk, "sk": step, "data": {"n": after}},
        ]});
        let place = self.chance.below(clients.len() as u64) as usize;
        match clients[place].try_post("/records/batch", &batch.to_string()) {
            Ok(answer) if answer.status == 200 => {
                self.seen.add(&answer.token());
                self.acknowledged.insert(self.attempt, after);
            }
            Ok(answer) => {
                answer.refusal(503);
                self.doubtful += 1;
            }
            Err(_) => self.doubtful += 1,
        }
    }

    /// Every increment is there once, and every acknowledged one is there unless one in doubt came before it.
    /// Gives the counter.
    fn check(&self, node: &Node) -> u64 {
        let one = |sk: &str| node.client().read(&self.seen.token(), &[(&self.pk, sk)]);
        let counter = one("counter").first().map_or(0, |record| record.number("n"));
        let list = json!({"pk": self.pk, "sk_prefix": "step/"}).to_string();
        let steps = node.client().post_after(&self.seen.token(), "/records/list", &list).records();
        let mut values: Vec<u64> = steps.iter().map(|step| step.number("n")).collect();
        let attempts: Vec<u64> =
            steps.iter().map(|step| step.sk["step/".len()..].parse().expect("a number")).collect();
        values.sort_unstable();
        assert_eq!(values, (1..=counter).collect::<Vec<_>>(), "{}: each increment once", self.pk);
        let refused = self.acknowledged.keys().filter(|attempt| !attempts.contains(attempt)).count() as u64;
        let surprising =
            attempts.iter().filter(|attempt| !self.acknowledged.contains_key(attempt)).count() as u64;
        assert!(surprising <= self.doubtful, "{surprising} of {} in doubt have applied", self.doubtful);
        assert!(refused <= surprising, "{refused} acknowledged increments are not there");
        assert!(self.acknowledged.values().all(|value| *value <= counter), "{}: {counter}", self.pk);
        counter
    }
}

/// Ends writers also when a test fails, so that it can say so.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Applied mutations of one partition, as a node has counted them since it holds it.
fn applied(node: &Node, partition: u32) -> u64 {
    let status = node.status();
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    let found = partitions.iter().find(|found| found["partition"] == partition).expect("it holds it");
    found["mutations"]["applied"].as_u64().expect("a count")
}

/// Waits until the members of a group hold all partitions between them, each some, and all are ready.
fn shared_and_ready(nodes: &[&Node]) {
    until("the group to share the partitions", || shared_out(nodes, PARTITIONS));
    nodes.iter().for_each(|node| node.wait_ready());
}

#[test]
fn partitions_move_from_a_killed_node_and_back_without_loss() {
    if skipped("partitions_move_from_a_killed_node_and_back_without_loss") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "move", PARTITIONS);
    let one_shard = [("SHARDS", "1")];
    let (first, first_dir) = Home::start(&space.settings("a", "a1", &one_shard)).into_parts();
    let second = Home::start(&space.settings("a", "a2", &one_shard));
    let other = Home::start(&space.settings("b", "b1", &one_shard));
    shared_and_ready(&[&first, &second]);

    let clients = RwLock::new(vec![first.client().anew(), second.client().anew(), other.client().anew()]);
    let (done, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let more_steps = |count: u64| {
        let least = steps.load(Ordering::Relaxed) + count;
        until("the writers to write", || steps.load(Ordering::Relaxed) >= least);
    };
    let seen = RwLock::new(Positions::default());
    let first = thread::scope(|scope| {
        let _finish = Finish(&done);
        for writer in &mut writers {
            let (clients, done, steps, seen) = (&clients, &done, &steps, &seen);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // Held while it writes: who takes it for writing stops all writers between two steps.
                    let clients = clients.read().expect("nobody panics with it");
                    writer.step(&clients);
                    seen.write().expect("nobody panics with it").join(&writer.seen);
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        more_steps(50);

        // Under the writers' hands.
        let killed = Instant::now();
        first.kill();
        until("the other node to hold all", || held(&second).len() == PARTITIONS as usize);
        second.wait_ready();
        let took = killed.elapsed();
        assert!(took < SESSION + Duration::from_secs(5), "{took:?}");
        eprintln!("all partitions at the other node and ready after {took:?}");
        more_steps(50);

        // A copy made from the log's beginning is the oracle.
        let oracle = Home::start(&space.settings("oracle", "o1", &one_shard));
        let paused = clients.write().expect("nobody panics with it");
        let least = seen.read().expect("nobody panics with it").clone();
        agreed(&[&[&second], &[&oracle], &[&other]], PARTITIONS, &least);
        drop(paused);
        drop(oracle);

        let begun = Instant::now();
        let first = Node::start(first_dir.path(), &space.settings("a", "a1", &one_shard));
        shared_and_ready(&[&first, &second]);
        eprintln!("shared again {:?} after the start", begun.elapsed());
        clients.write().expect("nobody panics with it")[0] = first.client().anew();
        more_steps(100);
        first
    });

    let oracle = Home::start(&space.settings("oracle-2", "o1", &[("SHARDS", "3")]));
    let least = seen.into_inner().expect("nobody panics with it");
    let states = agreed(&[&[&first, &second], &[&other], &[&oracle]], PARTITIONS, &least);
    assert_eq!(space.replayed(), states, "the state is what the log says");
    for (number, writer) in (0..).zip(&writers) {
        let counter = writer.check(&other);
        assert_eq!(writer.check(&oracle), counter);
        let (at_first, at_second) = (held(&first), held(&second));
        let holders = [(&first, at_first), (&*second, at_second)];
        let holders: Vec<&Node> = holders
            .into_iter()
            .filter(|(_, all)| all.contains(&u64::from(number)))
            .map(|(node, _)| node)
            .collect();
        assert_eq!(holders.len(), 1, "one member holds partition {number}");
        assert_eq!(writer.check(holders[0]), counter);
        // Nothing but the counter's batches is in its partition.
        assert_eq!(applied(&oracle, number), counter);
        assert_eq!(applied(&other, number), counter);
        let (acknowledged, doubtful) = (writer.acknowledged.len(), writer.doubtful);
        eprintln!("{}: {counter}, {acknowledged} acknowledged, {doubtful} in doubt", writer.pk);
    }
}

/// One request of the random workload: the path, the body, and how many mutations it makes.
fn request(chance: &mut Chance) -> (&'static str, String, u64) {
    let key = |chance: &mut Chance| (format!("pk-{}", chance.below(300)), format!("sk-{}", chance.below(20)));
    let condition = |chance: &mut Chance| match chance.below(5) {
        0 => Some("data == `null`".to_owned()),
        1 => Some(format!("data.n < `{}`", chance.below(1000))),
        2 => Some(format!("data != `null` && (data.n > `{}` || sk == 'sk-7')", chance.below(1000))),
        _ => None,
    };
    let operation = |chance: &mut Chance, pk: &str, sk: &str, delete: bool| {
        let mut operation = json!({"pk": pk, "sk": sk});
        if !delete {
            operation["data"] =
                json!({"n": chance.below(1000), "pad": "x".repeat(chance.below(60) as usize)});
        }
        if let Some(condition) = condition(chance) {
            operation["if"] = condition.into();
        }
        operation
    };
    if chance.below(4) == 0 {
        let pk = key(chance).0;
        let operations: Vec<Value> = (0..1 + chance.below(30))
            .map(|_| {
                let delete = chance.below(5) == 0;
                let sk = key(chance).1;
                let mut operation = operation(chance, &pk, &sk, delete);
                operation["op"] = if delete { "delete" } else { "put" }.into();
                operation
            })
            .collect();
        return ("/records/batch", json!({"Operations": operations}).to_string(), 1);
    }
    let delete = chance.below(5) == 0;
    let count = 200 + chance.below(500);
    let records: Vec<Value> = (0..count)
        .map(|_| {
            let (pk, sk) = key(chance);
            operation(chance, &pk, &sk, delete)
        })
        .collect();
    let path = if delete { "/records/delete" } else { "/records/put" };
    (path, json!({"records": records}).to_string(), count)
}

#[test]
fn replica_groups_of_any_shape_hold_the_same_state() {
    if skipped("replica_groups_of_any_shape_hold_the_same_state") {
        return;
    }
    const MUTATIONS: u64 = 100_000;
    const THREADS: u64 = 3;
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| u64::from(since.subsec_nanos()));
    // Shown if the test fails.
    eprintln!("seed {seed}");
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "shape", PARTITIONS);
    let narrow = Home::start(&space.settings("narrow", "n1", &[("SHARDS", "1")]));
    let wide = Home::start(&space.settings("wide", "w1", &[("SHARDS", "3")]));
    let sent = AtomicU64::new(0);
    let begun = Instant::now();
    let all: Vec<Positions> = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|number| {
                let client = if number % 2 == 0 { narrow.client().anew() } else { wide.client().anew() };
                let sent = &sent;
                scope.spawn(move || {
                    let mut chance = Chance(seed.wrapping_add(number));
                    let mut seen = Positions::default();
                    while sent.load(Ordering::Relaxed) < MUTATIONS {
                        let (path, body, count) = request(&mut chance);
                        seen.add(&client.post(path, &body).token());
                        sent.fetch_add(count, Ordering::Relaxed);
                    }
                    seen
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer failed")).collect()
    });
    let wrote = begun.elapsed();
    let mut least = Positions::default();
    all.iter().for_each(|seen| least.join(seen));
    let states = agreed(&[&[&narrow], &[&wide]], PARTITIONS, &least);
    eprintln!("{} mutations in {wrote:?}, agreed {:?} after the start", sent.into_inner(), begun.elapsed());
    let total: u64 = states.iter().filter_map(|state| state["next"].as_u64()).sum();
    assert!(total >= MUTATIONS, "{total} are in the log");
    assert_eq!(space.replayed(), states, "the state is what the log says, seed {seed}");
    for node in [&narrow, &wide] {
        let status = node.status();
        for partition in status["partitions"].as_array().expect("a list of partitions") {
            let counts = &partition["mutations"];
            assert!(counts["applied"].as_u64() > Some(0) && counts["refused"].as_u64() > Some(0), "{counts}");
            assert_eq!(counts["undecodable"], 0, "{counts}");
        }
    }
}

#[test]
fn of_two_nodes_with_one_name_the_later_one_goes_on() {
    if skipped("of_two_nodes_with_one_name_the_later_one_goes_on") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "twins", PARTITIONS);
    let (mut first, _first_dir) = Home::start(&space.settings("a", "twin", &[])).into_parts();
    let token = first.client().put("p", "s", r#"{"n":1}"#);
    let second = Home::start(&space.settings("a", "twin", &[]));
    let begun = Instant::now();
    let ended = first.ended();
    eprintln!("it ended after {:?}", begun.elapsed());
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("every node needs an INSTANCE_ID of its own"), "{}", ended.errors);
    assert!(ended.errors.contains("\"twin\""), "{}", ended.errors);
    until("the other one to hold all", || held(&second).len() == PARTITIONS as usize);
    assert_eq!(second.client().one(&token, "p", "s").map(|record| record.number("n")), Some(1));
    let token = second.client().put("p", "s", r#"{"n":2}"#);
    assert_eq!(second.client().one(&token, "p", "s").map(|record| record.number("n")), Some(2));
}

#[test]
fn a_node_that_starts_again_in_time_keeps_its_partitions() {
    if skipped("a_node_that_starts_again_in_time_keeps_its_partitions") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "static", PARTITIONS);
    // Far longer than a restart takes, however busy the machine.
    let session = [("KAFKA_SESSION_MS", "60000")];
    let (first, dir) = Home::start(&space.settings("a", "a1", &session)).into_parts();
    let second = Home::start(&space.settings("a", "a2", &session));
    shared_and_ready(&[&first, &second]);
    let moves = |node: &Node| {
        node.errors().lines().filter(|line| line.contains("assigned") || line.contains("given back")).count()
    };
    let (mine, others, moved) = (held(&first), held(&second), moves(&second));
    let mut first = first;
    for round in 0..3 {
        // Written while it is away as well, so that it has something to catch up with.
        let pk = pk_in(mine[0] as u32, PARTITIONS, "kept");
        second.client().put(&pk, "before", &support::data(round));
        first.term();
        let token = second.client().put(&pk, "after", &support::data(round));
        let begun = Instant::now();
        first = Node::start(dir.path(), &space.settings("a", "a1", &session));
        eprintln!("ready again after {:?}", begun.elapsed());
        assert_eq!(held(&first), mine);
        assert_eq!(first.client().one(&token, &pk, "after").map(|record| record.number("n")), Some(round));
        assert_eq!(held(&second), others);
        assert_eq!(moves(&second), moved, "{}", second.errors());
    }
}

#[test]
fn a_token_of_one_node_holds_at_a_node_of_another_group() {
    if skipped("a_token_of_one_node_holds_at_a_node_of_another_group") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "token", PARTITIONS);
    let one = Home::start(&space.settings("a", "a1", &[]));
    let other = Home::start(&space.settings("b", "b1", &[]));
    for n in 0..200 {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let pk = format!("pk-{}", n % 30);
        let token = writer.client().put(&pk, "s", &support::data(n));
        let found = reader.client().one(&token, &pk, "s").expect("it was put");
        assert_eq!(found.number("n"), n);
        let token = writer.client().delete(&pk, "s");
        assert!(reader.client().one(&token, &pk, "s").is_none(), "{n}");
    }
    // One answer for many partitions.
    let rows: Vec<Value> =
        (0..100).map(|n| json!({"pk": format!("many-{n}"), "sk": "s", "data": {"n": n}})).collect();
    let token = one.client().post("/records/put", &json!({"records": rows}).to_string()).token();
    let keys: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|pk| (pk.as_str(), "s")).collect();
    assert_eq!(other.client().read(&token, &keys).len(), 100);
    // A position that nobody has written yet does not come.
    let headers = [
        ("Content-Type", "application/json"),
        ("FireScroll-Session", "3:99999999"),
        ("FireScroll-Wait-Ms", "50"),
    ];
    let body = json!({"records": [{"pk": pk_in(3, PARTITIONS, "future"), "sk": "s"}]}).to_string();
    let refused = other.client().send("POST", "/records/get", &headers, Some(body.as_bytes())).refusal(503);
    assert!(refused.contains('3'), "{refused}");
}

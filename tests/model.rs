//! Random requests against a map that does what is promised, across restarts and changed `SHARDS`.
//!
//! Each request is followed by reads whose answers must be the map's. The seed is printed when a run fails.

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde_json::{Value, json};
use support::{Client, Home, Node, partition};

const PARTITIONS: u32 = 8;

/// Numbers that look like chance and follow from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pk(&mut self) -> String {
        format!("pk{}", self.below(6))
    }

    fn sk(&mut self) -> String {
        ["a", "a/", "a/b", "b", "ba", "c", "é", "z"][self.below(8) as usize].to_owned()
    }
}

type Key = (String, String);

/// What the node should hold: the number in each record's data.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, u64>,
}

/// One operation with its condition.
struct Operation {
    key: Key,
    /// The number to put; none deletes.
    put: Option<u64>,
    condition: Option<(String, Condition)>,
}

/// The conditions that the map knows as well.
#[derive(Clone, Copy)]
enum Condition {
    Absent,
    Present,
    Below(u64),
    Equals(u64),
}

impl Condition {
    fn holds(self, row: Option<u64>) -> bool {
        match self {
            Self::Absent => row.is_none(),
            Self::Present => row.is_some(),
            Self::Below(limit) => row.is_some_and(|n| n < limit),
            Self::Equals(n) => row == Some(n),
        }
    }
}

fn operation(chance: &mut Chance, key: Key) -> Operation {
    let put = (chance.below(4) > 0).then(|| chance.below(20));
    let n = chance.below(20);
    let condition = match chance.below(8) {
        0 => Some(("data == `null`".to_owned(), Condition::Absent)),
        1 => Some(("!(data == `null`)".to_owned(), Condition::Present)),
        2 => Some((format!("data.n < `{n}`"), Condition::Below(n))),
        3 => Some((format!("data.n == `{n}`"), Condition::Equals(n))),
        _ => None,
    };
    Operation { key, put, condition }
}

impl Operation {
    fn json(&self, with_op: bool) -> Value {
        let mut value = json!({"pk": self.key.0, "sk": self.key.1});
        if with_op {
            value["op"] = if self.put.is_some() { "put" } else { "delete" }.into();
        }
        if let Some(n) = self.put {
            value["data"] = json!({"n": n});
        }
        if let Some((text, _)) = &self.condition {
            value["if"] = text.as_str().into();
        }
        value
    }
}

impl Model {
    fn holds(&self, operation: &Operation) -> bool {
        let row = self.rows.get(&operation.key).copied();
        operation.condition.as_ref().is_none_or(|(_, condition)| condition.holds(row))
    }

    fn write(&mut self, operation: &Operation) {
        match operation.put {
            Some(n) => self.rows.insert(operation.key.clone(), n),
            None => self.rows.remove(&operation.key),
        };
    }

    fn apply(&mut self, operation: &Operation) {
        if self.holds(operation) {
            self.write(operation);
        }
    }

    /// One random write; gives its token.
    fn mutate(&mut self, chance: &mut Chance, client: &Client) -> String {
        match chance.below(4) {
            0 => {
                // A batch of different keys of one partition.
                let pk = chance.pk();
                let mut operations: Vec<Operation> = Vec::new();
                for _ in 0..=chance.below(4) {
                    let mate = chance.pk();
                    let pk =
                        if partition(&mate, PARTITIONS) == partition(&pk, PARTITIONS) { &mate } else { &pk };
                    let key = (pk.clone(), chance.sk());
                    if operations.iter().all(|other| other.key != key) {
                        operations.push(operation(chance, key));
                    }
                }
                let body: Vec<Value> = operations.iter().map(|operation| operation.json(true)).collect();
                if operations.iter().all(|operation| self.holds(operation)) {
                    operations.iter().for_each(|operation| self.write(operation));
                }
                client.post("/records/batch", &json!({"Operations": body}).to_string()).token()
            }
            kind => {
                let put = kind != 1;
                let operations: Vec<Operation> = (0..=chance.below(5))
                    .map(|_| {
                        let key = (chance.pk(), chance.sk());
                        let mut made = operation(chance, key);
                        made.put = put.then(|| chance.below(20));
                        made
                    })
                    .collect();
                let body: Vec<Value> = operations.iter().map(|operation| operation.json(false)).collect();
                operations.iter().for_each(|operation| self.apply(operation));
                let path = if put { "/records/put" } else { "/records/delete" };
                client.post(path, &json!({"Records": body}).to_string()).token()
            }
        }
    }

    /// Random reads are answered as the map says.
    fn check(&self, chance: &mut Chance, client: &Client, token: &str) {
        let keys: Vec<Key> = (0..=chance.below(12)).map(|_| (chance.pk(), chance.sk())).collect();
        let asked: Vec<(&str, &str)> = keys.iter().map(|(pk, sk)| (pk.as_str(), sk.as_str())).collect();
        let found: Vec<(Key, u64)> = client
            .read(token, &asked)
            .into_iter()
            .map(|record| ((record.pk.clone(), record.sk.clone()), record.number("n")))
            .collect();
        let expected: Vec<(Key, u64)> =
            keys.iter().filter_map(|key| self.rows.get(key).map(|n| (key.clone(), *n))).collect();
        assert_eq!(found, expected);

        let (pk, reverse, below) = (chance.pk(), chance.below(2) == 1, chance.below(20));
        let request = json!({"pk": pk, "reverse": reverse, "if": format!("data.n < `{below}`")});
        let mut expected: Vec<&str> = self
            .rows
            .iter()
            .filter(|((of, _), n)| *of == pk && **n < below)
            .map(|((_, sk), _)| sk.as_str())
            .collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(client.listed(token, &request), expected);
    }
}

fn run(seed: u64) {
    let (mut node, dir) = Home::start(&[]).into_parts();
    let mut chance = Chance(seed);
    let mut model = Model::default();
    let mut session = Session::default();
    for round in 0..6 {
        for _ in 0..150 {
            session.add(&model.mutate(&mut chance, node.client()));
            model.check(&mut chance, node.client(), &session.token());
        }
        if round % 2 == 0 {
            node.kill();
        } else {
            node.term();
        }
        let shards = ["2", "1", "3"][chance.below(3) as usize];
        node = Node::start(dir.path(), &[("SHARDS", shards)]);
        for _ in 0..30 {
            // A node that is ready has applied all that was acknowledged before it started.
            model.check(&mut chance, node.client(), "");
        }
    }
}

/// What a client keeps: the greatest offset of each partition.
#[derive(Default)]
struct Session {
    positions: BTreeMap<u32, u64>,
}

impl Session {
    fn add(&mut self, token: &str) {
        for position in token.split(',') {
            let (partition, offset) = position.split_once(':').expect("partition:offset");
            let (partition, offset) =
                (partition.parse().expect("a number"), offset.parse().expect("a number"));
            let greatest = self.positions.entry(partition).or_insert(offset);
            *greatest = offset.max(*greatest);
        }
    }

    fn token(&self) -> String {
        let position = |(partition, offset): (&u32, &u64)| format!("{partition}:{offset}");
        self.positions.iter().map(position).collect::<Vec<_>>().join(",")
    }
}

#[test]
fn a_node_does_what_a_map_does() {
    for seed in [0x9e37_79b9_7f4a_7c15, 42] {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            println!("seed {seed:#x}");
            resume_unwind(panic);
        }
    }
}

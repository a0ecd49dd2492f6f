//! The owner against a model: a plain map and a few lines that say what a mutation means.
//!
//! Deliveries, late completions, reads, listings and reopens come in any order; after each step owner and
//! model must agree on every record and every listing.

use bytes::Bytes;
use firescroll_shard::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(2).expect("not zero");
const PKS: [&str; 3] = ["a", "b", "cc"];
const SKS: [&str; 5] = ["x", "xy", "xyz", "y", "é"];

#[derive(Clone, Copy, Debug)]
enum If {
    None,
    NumberIs(u8),
    Absent,
    OlderThan(u64),
    Fails,
}

impl If {
    fn text(self) -> Option<String> {
        match self {
            If::None => None,
            If::NumberIs(n) => Some(format!("data.n == `{n}`")),
            If::Absent => Some("data == `null` && _created_at == `null`".to_owned()),
            If::OlderThan(ms) => Some(format!("_updated_at < `{ms}` || !(data.n >= `0`)")),
            If::Fails => Some("contains(data.n, 'x')".to_owned()),
        }
    }

    fn holds(self, row: Option<&Row>) -> bool {
        match self {
            If::None => true,
            If::NumberIs(n) => row.is_some_and(|row| row.n == n),
            If::Absent => row.is_none(),
            If::OlderThan(ms) => row.is_none_or(|row| row.updated_ms < ms as i64),
            If::Fails => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Op {
    pk: usize,
    sk: usize,
    put: Option<u8>,
    condition: If,
}

#[derive(Clone, Debug)]
enum Message {
    One(Op),
    /// All operations on the pk of the first.
    Batch(Vec<Op>),
    Poison,
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Message>),
    /// Redelivers what is in the log from some offsets back.
    Redeliver(u64),
    Complete(usize),
    Read(usize, usize),
    Reopen,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    n: u8,
    created_ms: i64,
    updated_ms: i64,
    offset: u64,
}

type Rows = BTreeMap<(String, String), Row>;

fn op() -> impl Strategy<Value = Op> {
    let condition = prop_oneof![
        4 => Just(If::None),
        2 => (0..3u8).prop_map(If::NumberIs),
        1 => Just(If::Absent),
        1 => (1000..1060u64).prop_map(If::OlderThan),
        1 => Just(If::Fails),
    ];
    (0..PKS.len(), 0..SKS.len(), proptest::option::weighted(0.7, 0..3u8), condition)
        .prop_map(|(pk, sk, put, condition)| Op { pk, sk, put, condition })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        6 => op().prop_map(Message::One),
        3 => proptest::collection::vec(op(), 1..5).prop_map(Message::Batch),
        1 => Just(Message::Poison),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(message(), 1..8).prop_map(Step::Apply),
        1 => (1..10u64).prop_map(Step::Redeliver),
        4 => (1..4usize).prop_map(Step::Complete),
        6 => (0..PKS.len(), 0..SKS.len()).prop_map(|(pk, sk)| Step::Read(pk, sk)),
        1 => Just(Step::Reopen),
    ]
}

fn encode(message: &Message) -> (PartitionId, Vec<u8>) {
    let mut out = Vec::new();
    let ops = match message {
        Message::One(op) => std::slice::from_ref(op),
        Message::Batch(ops) => ops,
        Message::Poison => return (PartitionId(0), b"{\"mutation\":\"put\",\"pk\":\"a\"}".to_vec()),
    };
    let pk = PKS[ops[0].pk];
    let texts: Vec<_> =
        ops.iter().map(|op| (op.put.map(|n| format!("{{\"n\":{n}}}")), op.condition.text())).collect();
    let operation = |(op, (data, condition)): (&Op, &(Option<String>, Option<String>))| -> Vec<u8> {
        let mut out = Vec::new();
        match data {
            Some(data) => encode_put(&mut out, pk, SKS[op.sk], data.as_bytes(), condition.as_deref(), 0),
            None => encode_delete(&mut out, pk, SKS[op.sk], condition.as_deref(), 0),
        }
        out
    };
    match message {
        Message::One(op) => out = operation((op, &texts[0])),
        _ => {
            let ops: Vec<Operation<'_>> = ops
                .iter()
                .zip(&texts)
                .map(|(op, (data, condition))| match data {
                    Some(data) => Operation::Put {
                        pk,
                        sk: SKS[op.sk],
                        data: data.as_bytes(),
                        condition: condition.as_deref(),
                    },
                    None => Operation::Delete { pk, sk: SKS[op.sk], condition: condition.as_deref() },
                })
                .collect();
            encode_batch(&mut out, &ops, 0);
        }
    }
    (partition_of(pk.as_bytes(), PARTITIONS), out)
}

/// What the message means.
fn model(rows: &mut Rows, message: &Message, offset: u64, ms: i64) {
    let ops = match message {
        Message::One(op) => std::slice::from_ref(op),
        Message::Batch(ops) => ops,
        Message::Poison => return,
    };
    let pk = PKS[ops[0].pk];
    let mut after = rows.clone();
    for op in ops {
        let key = (pk.to_owned(), SKS[op.sk].to_owned());
        if !op.condition.holds(after.get(&key)) {
            return;
        }
        match op.put {
            None => _ = after.remove(&key),
            Some(n) => {
                let created_ms = after.get(&key).map_or(ms, |row| row.created_ms);
                after.insert(key, Row { n, created_ms, updated_ms: ms, offset });
            }
        }
    }
    *rows = after;
}

struct World {
    owner: Owner,
    completions: flume::Receiver<Completion>,
    logs: [Vec<LogEntry>; 2],
    rows: Rows,
    clock: i64,
}

impl World {
    fn open(path: &Path) -> (Owner, flume::Receiver<Completion>) {
        let store = Store::open(path, &StoreOptions::default()).expect("opens");
        // A cache of a few records, so that eviction takes part.
        let options = OwnerOptions {
            partitions: PARTITIONS,
            cache_bytes: 1500,
            max_backlog_mutations: usize::MAX,
            max_backlog_bytes: usize::MAX,
        };
        Owner::new(store, options, &[PartitionId(0), PartitionId(1)]).expect("prepares")
    }

    fn run(mut self, step: &Step, path: &Path) -> World {
        match step {
            Step::Apply(messages) => self.apply(messages),
            Step::Redeliver(back) => {
                for (partition, log) in (0..).map(PartitionId).zip(&self.logs) {
                    let from = log.len().saturating_sub(*back as usize);
                    let again = self.owner.apply(partition, &log[from..]).expect("applies");
                    assert_eq!(again, Applied::default());
                }
            }
            Step::Complete(most) => {
                for completion in self.completions.try_iter().take(*most) {
                    self.owner.complete(completion);
                }
            }
            Step::Read(pk, sk) => self.check_record(PKS[*pk], SKS[*sk]),
            Step::Reopen => return self.reopen(path),
        }
        self
    }

    fn apply(&mut self, messages: &[Message]) {
        let from = [self.logs[0].len(), self.logs[1].len()];
        for message in messages {
            let (partition, value) = encode(message);
            let log = &mut self.logs[partition.0 as usize];
            self.clock += 1;
            // Offsets have gaps.
            let offset = log.last().map_or(0, |last| last.offset.0 + 1 + (self.clock as u64 % 2));
            log.push(LogEntry {
                offset: Offset(offset),
                timestamp_ms: self.clock,
                value: Bytes::from(value),
            });
            model(&mut self.rows, message, offset, self.clock);
        }
        for ((partition, log), from) in (0..).map(PartitionId).zip(&self.logs).zip(from) {
            let fresh = &log[from..];
            let Applied { applied, refused, erred, undecodable } =
                self.owner.apply(partition, fresh).expect("applies");
            assert_eq!(applied + refused + erred + undecodable, fresh.len() as u64);
        }
    }

    fn reopen(self, path: &Path) -> World {
        let World { mut owner, completions, logs, rows, clock } = self;
        owner.close().expect("not closed yet").finish().expect("closes");
        drop((owner, completions));
        let (owner, completions) = World::open(path);
        for (partition, log) in (0..).map(PartitionId).zip(&logs) {
            let next = log.last().map_or(0, |last| last.offset.0 + 1);
            assert_eq!(owner.next(partition), Ok(Offset(next)));
        }
        World { owner, completions, logs, rows, clock }
    }

    fn check_record(&mut self, pk: &str, sk: &str) {
        let mut key = Vec::new();
        encode_key(pk, sk, &mut key);
        let found = self
            .owner
            .get(partition_of(pk.as_bytes(), PARTITIONS), &key, |record| record.cloned())
            .expect("readable");
        let expected = self.rows.get(&(pk.to_owned(), sk.to_owned()));
        let found = found.map(|record| {
            let Meta { created_ms, updated_ms, offset } = record.meta();
            let n = record.data()[5] - b'0';
            assert!(
                String::from_utf8_lossy(record.json())
                    .starts_with(&format!("{{\"Pk\":\"{pk}\",\"Sk\":\"{sk}\""))
            );
            Row { n, created_ms, updated_ms, offset: offset.0 }
        });
        assert_eq!(found.as_ref(), expected, "{pk} {sk}");
    }

    fn check_listing(&self, pk: &str, range: ScanRange, keep: impl Fn(&str, &Row) -> bool) {
        let (reverse, limit) = (range.reverse, range.limit);
        let mut scan = self.owner.scan(partition_of(pk.as_bytes(), PARTITIONS), range).expect("readable");
        let mut out = b"[".to_vec();
        while scan.fill(&mut out, 64, Duration::MAX).expect("readable") == Progress::More {}
        out.push(b']');
        let mut reader = JsonReader::new();
        let list = reader.parse(&out).expect("a list");
        let found: Vec<String> = list
            .array()
            .into_iter()
            .flatten()
            .map(|record| record.get("Sk").and_then(|sk| sk.as_str()).expect("has an Sk").to_owned())
            .collect();
        let mut expected: Vec<String> = self
            .rows
            .iter()
            .filter(|((of, sk), row)| of == pk && keep(sk, row))
            .map(|((_, sk), _)| sk.clone())
            .collect();
        if reverse {
            expected.reverse();
        }
        if limit > 0 {
            expected.truncate(limit as usize);
        }
        assert_eq!(found, expected);
    }

    fn check(&mut self) {
        for pk in PKS {
            for sk in SKS {
                self.check_record(pk, sk);
            }
            let range = || ScanRange { pk: pk.to_owned(), ..ScanRange::default() };
            self.check_listing(pk, range(), |_, _| true);
            self.check_listing(pk, ScanRange { reverse: true, limit: 2, ..range() }, |_, _| true);
            let x = ScanRange { sk_prefix: "x".to_owned(), ..range() };
            self.check_listing(pk, x, |sk, _| sk.starts_with('x') && sk != "x");
            let between =
                ScanRange { sk_after: Some("xy".to_owned()), sk_before: Some("z".to_owned()), ..range() };
            self.check_listing(pk, between, |sk, _| sk > "xy" && sk < "z");
            let condition = Condition::compile("data.n == `1`").expect("compiles");
            let ones = ScanRange { condition: Some(Rc::new(condition)), limit: 3, ..range() };
            self.check_listing(pk, ones, |_, row| row.n == 1);
        }
        for (partition, log) in (0..).map(PartitionId).zip(&self.logs) {
            let replayed = replay(log.iter().cloned(), partition, PARTITIONS);
            let expected =
                StateHash::of(replayed.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice())));
            let found = self.owner.export(partition).expect("readable").hash().expect("readable");
            assert_eq!(found, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_owner_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (owner, completions) = World::open(dir.path());
        let mut world = World { owner, completions, logs: [Vec::new(), Vec::new()], rows: Rows::new(), clock: 1000 };
        for step in &steps {
            world = world.run(step, dir.path());
            world.check();
        }
        world = world.reopen(dir.path());
        world.check();
    }
}

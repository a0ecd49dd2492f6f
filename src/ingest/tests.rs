//! The fan-out against a scripted consumer.

use super::*;
use firescroll_io::log::{EmbeddedLog, EmbeddedOptions, Gap};
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Entries of two partitions, a few a poll, that honours pauses; and changes.
struct Script {
    left: Vec<Vec<Entry>>,
    paused: Vec<bool>,
    changes: VecDeque<Change>,
    given_back: flume::Sender<Vec<u32>>,
}

impl Consumer for Script {
    fn poll(&mut self, _wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let mut open = false;
        for (entries, paused) in self.left.iter_mut().zip(&self.paused) {
            open |= !entries.is_empty();
            if !paused {
                out.extend(entries.drain(..entries.len().min(3)));
            }
        }
        if open { Ok(()) } else { Err(LogError::Closed) }
    }
    fn pause(&mut self, partition: u32) {
        self.paused[partition as usize] = true;
    }
    fn resume(&mut self, partition: u32) {
        self.paused[partition as usize] = false;
    }
    fn change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }
    fn give_back(&mut self, partitions: &[u32]) -> Result<(), LogError> {
        self.given_back.send(partitions.to_vec()).expect("the test listens");
        Ok(())
    }
}

/// A fan-out of two partitions to two cores.
fn fan_out(dir: &std::path::Path, consumer: Script, cores: Vec<flume::Sender<Step>>) -> FanOut {
    let two = NonZeroU32::new(2).expect("not zero");
    let log = EmbeddedLog::open(dir, EmbeddedOptions::new(2)).expect("an empty log");
    FanOut::new(Parts {
        consumer: Box::new(consumer),
        log: Arc::new(log),
        routes: Routes { partitions: two, shards: two },
        cores,
        openers: Vec::new(),
        progress: Arc::new(Progress::new(2)),
    })
}

fn entry(partition: u32, offset: u64) -> Entry {
    Entry { partition, offset, timestamp_ms: 0, key: Default::default(), value: Default::default() }
}

#[test]
fn a_slow_core_loses_nothing_and_keeps_order() {
    let left = (0..2).map(|p| (0..100).map(|offset| entry(p, offset)).collect()).collect();
    let (fast, fast_out) = flume::unbounded();
    let (slow, slow_out) = flume::bounded(1);
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (given_back, _given) = flume::unbounded();
    let script = Script { left, paused: vec![false; 2], changes: VecDeque::new(), given_back };
    let mut fan_out = fan_out(dir.path(), script, vec![fast, slow]);
    let reader = std::thread::spawn(move || slow_out.iter().collect::<Vec<Step>>());
    fan_out.run(&AtomicBool::new(false));
    while fan_out.held.iter().any(|held| !held.is_empty()) {
        fan_out.retry();
    }
    drop(fan_out);
    let mut seen: HashMap<u32, Vec<u64>> = HashMap::new();
    for step in fast_out.iter().chain(reader.join().expect("reader")) {
        let Step::Apply(delivery) = step else { panic!("nothing was opened or closed") };
        for (partition, entries) in delivery {
            seen.entry(partition.0).or_default().extend(entries.iter().map(|entry| entry.offset.0));
        }
    }
    assert_eq!(seen[&0], (0..100).collect::<Vec<u64>>());
    assert_eq!(seen[&1], (0..100).collect::<Vec<u64>>());
}

#[test]
fn a_partition_goes_only_when_its_core_has_closed_it_and_a_missing_one_answers_nothing() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (first, first_out) = flume::unbounded();
    let (second, second_out) = flume::unbounded();
    let (given_back, given) = flume::unbounded();
    let gap = Gap { partition: 1, next: 5, start: 7, end: 9 };
    let changes = VecDeque::from([Change::Revoked(vec![0]), Change::Missing(gap)]);
    let left = vec![vec![entry(0, 0)], vec![entry(1, 0), entry(1, 1), entry(1, 2), entry(1, 3)]];
    let script = Script { left, paused: vec![false; 2], changes, given_back };
    let mut fan_out = fan_out(dir.path(), script, vec![first, second]);
    for partition in [0, 1] {
        fan_out.parts.progress.take(PartitionId(partition), Offset(0), Offset(0));
    }
    let mut entries = Vec::new();
    fan_out.turn(&mut entries).expect("the first turn");
    let progress = Arc::clone(&fan_out.parts.progress);
    assert_eq!(progress.holding(PartitionId(0)), Holding::Elsewhere);
    assert_eq!(progress.holding(PartitionId(1)), Holding::Missing);
    assert!(matches!(second_out.try_iter().last(), Some(Step::Close(PartitionId(1), _))));
    let steps: Vec<Step> = first_out.try_iter().collect();
    let [Step::Apply(_), Step::Close(PartitionId(0), closed)] = &steps[..] else {
        panic!("delivered, then closed")
    };
    fan_out.turn(&mut entries).expect("the second turn");
    assert!(given.is_empty(), "not closed yet");
    closed.send(PartitionId(0)).expect("somebody waits");
    fan_out.give_back().expect("taken");
    assert_eq!(given.try_recv(), Ok(vec![0]));
}

#[test]
fn a_node_joins_again_once_a_while_and_more_often_only_after_outages() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (given_back, _returns) = flume::unbounded();
    let script =
        Script { left: vec![Vec::new(); 2], paused: vec![false; 2], changes: VecDeque::new(), given_back };
    let (core, _steps) = flume::bounded(STEPS);
    let mut fan_out = fan_out(dir.path(), script, vec![core.clone(), core]);
    assert!(fan_out.may_rejoin(false));
    fan_out.rejoined.push_back(Instant::now());
    // A second time in a row says that another node has the name, unless brokers were away.
    assert!(!fan_out.may_rejoin(false) && fan_out.may_rejoin(true));
    while fan_out.rejoined.len() < REJOINS_IN_OUTAGES {
        assert!(fan_out.may_rejoin(true));
        fan_out.rejoined.push_back(Instant::now());
    }
    assert!(!fan_out.may_rejoin(true));
    let Some(past) = Instant::now().checked_sub(REJOIN) else { return };
    fan_out.rejoined.iter_mut().for_each(|at| *at = past);
    assert!(fan_out.may_rejoin(false), "what is long ago does not count");
}

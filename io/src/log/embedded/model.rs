//! Random lives against a model: appends, reopens, pauses and a consumer that comes and goes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::fault_disk::FaultDisk;
use super::tests::{append, message, read_all};
use super::{EmbeddedLog, EmbeddedOptions};
use crate::log::{Consumer, Log};

const PARTITIONS: u32 = 3;

#[derive(Debug, Clone)]
enum Action {
    /// Partitions and sizes of the messages.
    Append(Vec<(u32, usize)>),
    Reopen,
    Poll,
    Pause(u32),
    Resume(u32),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec((0..PARTITIONS, 0..200usize), 1..5).prop_map(Action::Append),
        1 => Just(Action::Reopen),
        4 => Just(Action::Poll),
        2 => (0..PARTITIONS).prop_map(Action::Pause),
        2 => (0..PARTITIONS).prop_map(Action::Resume),
    ]
}

fn open(dir: &Path) -> EmbeddedLog {
    let options = EmbeddedOptions { segment_bytes: 700, ..EmbeddedOptions::new(PARTITIONS) };
    EmbeddedLog::open_on(dir, options, FaultDisk::default().platform()).expect("the log opens")
}

struct Life {
    log: EmbeddedLog,
    consumer: Box<dyn Consumer>,
    paused: BTreeSet<u32>,
    /// What was appended, by partition.
    written: Vec<Vec<Vec<u8>>>,
    /// How much of that the consumer has delivered.
    seen: Vec<usize>,
}

impl Life {
    fn poll(&mut self) -> usize {
        let mut out = Vec::new();
        self.consumer.poll(Duration::ZERO, &mut out).expect("the log is whole");
        for entry in &out {
            let seen = &mut self.seen[entry.partition as usize];
            assert!(!self.paused.contains(&entry.partition), "a paused partition is not delivered");
            assert_eq!(entry.offset, *seen as u64, "the next one comes next");
            assert_eq!(entry.value, self.written[entry.partition as usize][*seen]);
            *seen += 1;
        }
        out.len()
    }

    fn act(&mut self, action: Action, dir: &Path) {
        match action {
            Action::Append(parts) => self.append(&parts),
            Action::Reopen => {
                self.log.close();
                self.log = open(dir);
                let seen = |p: u32| self.seen[p as usize] as u64;
                let from: Vec<_> = (0..PARTITIONS).map(|p| (p, seen(p))).collect();
                self.consumer = self.log.consumer(&from).expect("what was seen is held");
                self.paused.clear();
            }
            Action::Poll => drop(self.poll()),
            Action::Pause(partition) => {
                self.consumer.pause(partition);
                self.paused.insert(partition);
            }
            Action::Resume(partition) => {
                self.consumer.resume(partition);
                self.paused.remove(&partition);
            }
        }
    }

    fn append(&mut self, parts: &[(u32, usize)]) {
        let (mut messages, mut expected) = (Vec::new(), Vec::new());
        for &(partition, size) in parts {
            let written = &mut self.written[partition as usize];
            expected.push(written.len() as u64);
            let value = vec![written.len() as u8; size];
            messages.push(message(partition, &value));
            written.push(value);
        }
        assert_eq!(append(&self.log, messages), Ok(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_appended(actions in prop::collection::vec(action(), 1..60)) {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let log = open(dir.path());
        let from: Vec<_> = (0..PARTITIONS).map(|p| (p, 0)).collect();
        let consumer = log.consumer(&from).expect("zeros exist");
        let nothing = vec![Vec::new(); PARTITIONS as usize];
        let seen = vec![0; PARTITIONS as usize];
        let mut life = Life { log, consumer, paused: BTreeSet::new(), written: nothing, seen };
        for action in actions {
            life.act(action, dir.path());
        }
        for partition in 0..PARTITIONS {
            life.act(Action::Resume(partition), dir.path());
        }
        let total: usize = life.written.iter().map(Vec::len).sum();
        prop_assert_eq!(read_all(&life.log).len(), total);
        // One poll reads at most the rest of one segment, so quiet ones may come before the last entry.
        let mut quiet = 0;
        while life.seen.iter().sum::<usize>() < total && quiet < 1000 {
            quiet = if life.poll() == 0 { quiet + 1 } else { 0 };
        }
        prop_assert_eq!(life.seen.iter().sum::<usize>(), total);
    }
}

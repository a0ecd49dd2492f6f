//! Moving partitions between stores, stopped at every step.

use bytes::Bytes;
use firescroll_shard::*;
use std::num::NonZeroU32;
use std::path::Path;

const PARTITIONS: NonZeroU32 = NonZeroU32::new(6).expect("not zero");

fn shards(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}

fn owner_options() -> OwnerOptions {
    OwnerOptions {
        partitions: PARTITIONS,
        cache_bytes: 0,
        max_backlog_mutations: 1000,
        max_backlog_bytes: 1 << 20,
    }
}

/// The log of each partition; partition 5 has none.
fn logs() -> Vec<Vec<LogEntry>> {
    let mut logs = vec![Vec::new(); PARTITIONS.get() as usize];
    for n in 0..60u64 {
        let pk = format!("p{}", n % 20);
        let partition = partition_of(pk.as_bytes(), PARTITIONS);
        if partition == PartitionId(5) {
            continue;
        }
        let mut value = Vec::new();
        encode_put(&mut value, &pk, &format!("s{}", n % 7), format!("{{\"n\":{n}}}").as_bytes(), None, 0);
        let log = &mut logs[partition.0 as usize];
        let offset = Offset(log.len() as u64);
        log.push(LogEntry { offset, timestamp_ms: n as i64, value: Bytes::from(value) });
    }
    assert!(logs[..5].iter().all(|log| !log.is_empty()));
    logs
}

fn run(
    root: &Path,
    count: u32,
    hook: &mut dyn FnMut(ReshardStep) -> Result<(), StoreError>,
) -> Result<ReshardReport, StoreError> {
    reshard(root, PARTITIONS, shards(count), &StoreOptions::default(), hook)
}

fn go(root: &Path, count: u32) -> ReshardReport {
    run(root, count, &mut |_| Ok(())).expect("reshards")
}

/// Serves as `count` shards: applies what is missing of the log, up to `most` messages a partition.
fn serve(root: &Path, count: u32, logs: &[Vec<LogEntry>], most: usize) {
    for shard in 0..count {
        let store = Store::open(&shard_path(root, shard), &StoreOptions::default()).expect("opens");
        let owned: Vec<PartitionId> =
            (shard..PARTITIONS.get()).step_by(count as usize).map(PartitionId).collect();
        let (mut owner, _completions) = Owner::new(store, owner_options(), &owned).expect("prepares");
        for partition in &owned {
            let log = &logs[partition.0 as usize];
            owner.apply(*partition, &log[..most.min(log.len())]).expect("applies");
        }
        owner.close().expect("not closed yet").finish().expect("closes");
    }
}

/// Every partition is complete where it belongs and nowhere else.
fn check(root: &Path, count: u32, logs: &[Vec<LogEntry>]) {
    for shard in 0..count {
        let store = Store::open(&shard_path(root, shard), &StoreOptions::default()).expect("opens");
        for partition in store.partitions() {
            assert_eq!(partition.0 % count, shard, "partition {partition} is in the wrong store");
        }
        let owned: Vec<PartitionId> =
            (shard..PARTITIONS.get()).step_by(count as usize).map(PartitionId).collect();
        let (mut owner, _completions) = Owner::new(store, owner_options(), &owned).expect("prepares");
        for partition in owned {
            let log = &logs[partition.0 as usize];
            assert_eq!(owner.next(partition), Ok(Offset(log.len() as u64)), "partition {partition}");
            let replayed = replay(log.iter().cloned(), partition, PARTITIONS);
            let rows = replayed.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice()));
            let found = owner.export(partition).expect("readable").hash().expect("readable");
            assert_eq!(found, StateHash::of(rows), "partition {partition}");
        }
        owner.close().expect("not closed yet").finish().expect("closes");
    }
    assert!(!shard_path(root, count).exists());
}

#[test]
fn partitions_move_and_stay() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (root, logs) = (dir.path().join("dbs"), logs());
    assert_eq!(go(&root, 1), ReshardReport::default());
    serve(&root, 1, &logs, usize::MAX);
    for (from, to, removed) in [(1, 3, 0), (3, 2, 1), (2, 1, 1), (1, 4, 0), (4, 3, 1)] {
        let mut steps = 0;
        let report = run(&root, to, &mut |_| {
            steps += 1;
            Ok(())
        });
        let report = report.expect("reshards");
        assert!(steps > 0);
        // Partition 5 has rows nowhere and is not copied.
        let copied = (0..5).filter(|partition| partition % from != partition % to).count() as u32;
        assert_eq!((report.moved_partitions, report.removed_stores), (copied, removed), "{from} to {to}");
        check(&root, to, &logs);
        // Again, and nothing happens.
        let again = run(&root, to, &mut |step| panic!("nothing to do, yet {step:?}"));
        assert_eq!(again.expect("settled"), ReshardReport::default());
    }
}

/// Stops at step after step of a move, each time carrying on with another number of shards.
fn stop_everywhere(first: u32, then: u32, finally: u32) -> usize {
    let logs = logs();
    let mut stop_at = 0;
    loop {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let root = dir.path();
        go(root, first);
        serve(root, first, &logs, 2);
        let mut step = 0;
        let stopped = run(root, then, &mut |_| {
            step += 1;
            if step > stop_at { Err(StoreError::stopped(root, "died")) } else { Ok(()) }
        });
        go(root, finally);
        // What was not yet in the stores comes from the log.
        serve(root, finally, &logs, usize::MAX);
        check(root, finally, &logs);
        if stopped.is_ok() {
            return stop_at;
        }
        stop_at += 1;
    }
}

#[test]
fn a_stop_at_any_step_from_1_to_3_is_carried_on() {
    assert!(stop_everywhere(1, 3, 3) >= 14);
}

#[test]
fn a_stop_at_any_step_from_1_to_3_may_go_on_to_2() {
    assert!(stop_everywhere(1, 3, 2) >= 14);
}

#[test]
fn a_stop_at_any_step_from_3_to_2_may_go_back_to_1() {
    assert!(stop_everywhere(3, 2, 1) >= 10);
}

#[test]
fn a_changed_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    go(dir.path(), 2);
    let other = NonZeroU32::new(7).expect("not zero");
    let error = reshard(dir.path(), other, shards(2), &StoreOptions::default(), &mut |_| Ok(()))
        .expect_err("refused");
    assert!(error.to_string().ends_with("made for 6 partitions, but 7 are configured"), "{error}");
}

#[test]
fn stores_without_a_layout_are_searched() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let logs = logs();
    go(dir.path(), 2);
    serve(dir.path(), 2, &logs, usize::MAX);
    std::fs::remove_file(dir.path().join("layout")).expect("is there");
    go(dir.path(), 3);
    check(dir.path(), 3, &logs);
}

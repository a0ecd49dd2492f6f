//! Crashes at every step of committing: whatever was in the store, feeding it the log from its checkpoint
//! gives exactly the state that replaying the whole log gives.

use bytes::Bytes;
use firescroll_shard::*;
use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const PARTITIONS: NonZeroU32 = NonZeroU32::new(2).expect("not zero");
const BOTH: [PartitionId; 2] = [PartitionId(0), PartitionId(1)];

/// A log of puts, deletes, conditions, batches and poison, for both partitions.
fn logs() -> [Vec<LogEntry>; 2] {
    let mut logs = [Vec::new(), Vec::new()];
    for n in 0..40u64 {
        let mut value = Vec::new();
        let (pk, sk) = (format!("p{}", n % 5), format!("s{}", n % 3));
        let data = format!("{{\"n\":{n}}}");
        match n % 8 {
            3 => encode_delete(&mut value, &pk, &sk, None, 0),
            5 => encode_put(&mut value, &pk, &sk, data.as_bytes(), Some("data.n > `10`"), 0),
            6 => value.extend_from_slice(b"poison"),
            7 => {
                let put = |sk| Operation::Put { pk: &pk, sk, data: data.as_bytes(), condition: None };
                let delete = Operation::Delete { pk: &pk, sk: "s0", condition: None };
                encode_batch(&mut value, &[put("s1"), put("s2"), delete, put("s4")], 0);
            }
            _ => encode_put(&mut value, &pk, &sk, data.as_bytes(), None, 0),
        }
        let partition = partition_of(pk.as_bytes(), PARTITIONS);
        let log = &mut logs[partition.0 as usize];
        let offset = Offset(log.len() as u64);
        log.push(LogEntry { offset, timestamp_ms: 1000 + n as i64, value: Bytes::from(value) });
    }
    logs
}

fn open(path: &Path, hook: Option<WriterHook>) -> (Owner, flume::Receiver<Completion>) {
    let store = Store::open(path, &StoreOptions::default()).expect("opens");
    let options = OwnerOptions {
        partitions: PARTITIONS,
        cache_bytes: 1 << 16,
        max_backlog_mutations: 1000,
        max_backlog_bytes: 1 << 20,
    };
    Owner::prepare(store, options, &BOTH, hook).expect("prepares").start()
}

/// Feeds the logs from where the partitions stand, a few messages at a time, each delivery committed before
/// the next. Says whether both partitions lived to the end.
fn feed(owner: &mut Owner, completions: &flume::Receiver<Completion>, logs: &[Vec<LogEntry>; 2]) -> bool {
    for (partition, log) in BOTH.into_iter().zip(logs) {
        let Ok(next) = owner.next(partition) else { return false };
        for delivery in log[next.0 as usize..].chunks(3) {
            if owner.apply(partition, delivery).is_err() {
                return false;
            }
            while owner.next(partition).ok() != owner.committed(partition) {
                owner.complete(completions.recv().expect("the writer lives"));
                if owner.next(partition).is_err() {
                    return false;
                }
            }
        }
    }
    true
}

fn check(owner: &Owner, logs: &[Vec<LogEntry>; 2]) {
    for (partition, log) in BOTH.into_iter().zip(logs) {
        assert_eq!(owner.next(partition), Ok(Offset(log.len() as u64)));
        let replayed = replay(log.iter().cloned(), partition, PARTITIONS);
        let rows = replayed.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice()));
        let found = owner.export(partition).expect("readable").hash().expect("readable");
        assert_eq!(found, StateHash::of(rows), "partition {partition}");
    }
    let counts: Vec<Applied> = owner.status().iter().map(|status| status.counts).collect();
    let all = counts.iter().map(|counts| counts.applied + counts.refused + counts.erred + counts.undecodable);
    assert_eq!(all.sum::<u64>(), 40);
}

fn recover(path: &Path, logs: &[Vec<LogEntry>; 2]) {
    let (mut owner, completions) = open(path, None);
    assert!(feed(&mut owner, &completions, logs));
    check(&owner, logs);
    owner.close().expect("not closed yet").finish().expect("closes");
}

/// Copies a store as a crash would leave it. Journals are mostly a preallocated tail of zeros, which stays a
/// hole.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("has a type").is_dir() {
            copy(&entry.path(), &target);
            continue;
        }
        let bytes = fs::read(entry.path()).expect("reads");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut file = fs::File::create(&target).expect("creates");
        file.write_all(&bytes[..used]).expect("writes");
        file.set_len(bytes.len() as u64).expect("extends");
    }
}

/// Refuses the step of that number and all later ones, as a process that died there.
fn dies_at(step: usize, path: PathBuf, steps: Arc<Mutex<usize>>) -> WriterHook {
    Box::new(move |_| {
        let mut done = steps.lock().expect("no one panics");
        *done += 1;
        if *done > step { Err(StoreError::stopped(&path, "died")) } else { Ok(()) }
    })
}

#[test]
fn a_stop_at_any_step_loses_nothing() {
    let logs = logs();
    let mut step = 0;
    loop {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let hook = dies_at(step, dir.path().to_owned(), Arc::default());
        let (mut owner, completions) = open(dir.path(), Some(hook));
        let lived = feed(&mut owner, &completions, &logs);
        // The last sync fails too when the process is dead.
        let _ = owner.close().expect("not closed yet").finish();
        drop((owner, completions));
        recover(dir.path(), &logs);
        if lived {
            break;
        }
        step += 1;
    }
    // Two steps a delivery and at least 13 deliveries.
    assert!(step >= 26, "only {step} steps");
}

#[test]
fn a_store_copied_at_any_step_recovers() {
    let logs = logs();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (live, copies) = (dir.path().join("live"), dir.path().join("copies"));
    let (from, to) = (live.clone(), copies.clone());
    let mut step = 0;
    let hook: WriterHook = Box::new(move |_| {
        copy(&from, &to.join(step.to_string()));
        step += 1;
        Ok(())
    });
    let (mut owner, completions) = open(&live, Some(hook));
    assert!(feed(&mut owner, &completions, &logs));
    owner.close().expect("not closed yet").finish().expect("closes");
    let mut found = 0;
    for entry in fs::read_dir(&copies).expect("lists") {
        recover(&entry.expect("lists").path(), &logs);
        found += 1;
    }
    assert!(found >= 26, "only {found} copies");
}

#[test]
fn a_journal_torn_anywhere_recovers() {
    let logs = logs();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let live = dir.path().join("live");
    let (mut owner, completions) = open(&live, None);
    assert!(feed(&mut owner, &completions, &logs));
    // While the owner lives nothing is flushed from the journal into tables.
    let image = dir.path().join("image");
    copy(&live, &image);
    let journal = journal(&image);
    let used = fs::read(&journal).expect("reads").iter().rposition(|byte| *byte != 0).expect("is written");
    for cut in 0..12 {
        let torn = dir.path().join(format!("torn-{cut}"));
        copy(&image, &torn);
        let name = journal.strip_prefix(&image).expect("inside");
        let file = fs::OpenOptions::new().write(true).open(torn.join(name)).expect("opens");
        // Never the same place within a batch twice: the cuts are spread over all of it.
        file.set_len((used * (cut + 1) / 13 + cut) as u64).expect("truncates");
        drop(file);
        recover(&torn, &logs);
    }
}

/// The journal file of a store: the largest file that is its direct child.
fn journal(store: &Path) -> PathBuf {
    let files = fs::read_dir(store).expect("lists").map(|entry| entry.expect("lists").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    files.max_by_key(|path| fs::metadata(path).expect("is there").len()).expect("has a journal")
}

//! Every step of a log's life fails or is the last one: what was acknowledged is still there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::fault_disk::{Fault, FaultDisk, Image, Step};
use super::tests::{append, message, read_all};
use super::{EmbeddedLog, EmbeddedOptions};
use crate::log::{AppendError, Log};

const PARTITIONS: u32 = 2;
const CALLS: usize = 9;
/// Before this call, retention is told about all that is acknowledged.
const RELEASE_BEFORE: usize = 5;

/// Sizes at which the calls fall differently into segments.
const SEGMENT_BYTES: [u64; 2] = [300, 420];

/// Room that the smaller calls make ahead, for some others; the larger ones make none.
const ROOM_BYTES: u64 = 1_600;

fn options(segment_bytes: u64) -> EmbeddedOptions {
    let retention = Some(Duration::ZERO);
    EmbeddedOptions { segment_bytes, room_bytes: ROOM_BYTES, retention, ..EmbeddedOptions::new(PARTITIONS) }
}

/// What a life of the log has promised.
#[derive(Default)]
struct Promised {
    acked: BTreeMap<(u32, u64), Vec<u8>>,
    /// Acknowledged below these, and no longer needed.
    released: Vec<u64>,
    /// How the calls ended.
    ends: Vec<Result<(), AppendError>>,
}

/// One life: some calls one after the other, each of one or two messages, some rolls and a release.
fn live(disk: &FaultDisk, dir: &Path, segment_bytes: u64) -> Promised {
    let mut promised = Promised { released: vec![0; PARTITIONS as usize], ..Promised::default() };
    let Ok(log) = EmbeddedLog::open_on(dir, options(segment_bytes), disk.platform()) else { return promised };
    for call in 0..CALLS {
        if call == RELEASE_BEFORE {
            promised.released = (0..PARTITIONS).map(|partition| log.end(partition)).collect();
            log.release(&(0..).zip(promised.released.iter().copied()).collect::<Vec<_>>());
        }
        let value = |part: usize| format!("call {call} part {part} {}", "x".repeat(7 * call)).into_bytes();
        let messages: Vec<_> =
            (0..=call % 2).map(|part| message((call + part) as u32 % PARTITIONS, &value(part))).collect();
        let answer = append(&log, messages.clone());
        if let Ok(offsets) = &answer {
            for (message, offset) in messages.iter().zip(offsets) {
                let earlier = promised.acked.insert((message.partition, *offset), message.value.to_vec());
                assert_eq!(earlier, None, "an offset was given twice");
            }
        }
        promised.ends.push(answer.map(drop));
    }
    promised
}

/// Opens what a power cut has left and checks it against the promises.
fn check(image: &Image, promised: &Promised, what: &str) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    for (name, bytes) in image {
        fs::write(dir.path().join(name), bytes).expect("the image is written");
    }
    let log = EmbeddedLog::open_on(dir.path(), options(SEGMENT_BYTES[0]), FaultDisk::default().platform())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let entries = read_all(&log);
    let found: BTreeMap<_, _> = entries.iter().map(|e| ((e.partition, e.offset), e.value.to_vec())).collect();
    assert_eq!(found.len(), entries.len(), "{what}: something came twice");
    for (&(partition, offset), value) in &promised.acked {
        let gone = offset < log.start(partition) && offset < promised.released[partition as usize];
        assert!(
            gone || found.get(&(partition, offset)) == Some(value),
            "{what}: {partition}:{offset} is lost"
        );
    }
    for partition in 0..PARTITIONS {
        let (start, end) = (log.start(partition), log.end(partition));
        let offsets: Vec<u64> =
            entries.iter().filter(|e| e.partition == partition).map(|e| e.offset).collect();
        assert_eq!(offsets, (start..end).collect::<Vec<_>>(), "{what}: offsets of {partition}");
        let values: Vec<_> = entries.iter().filter(|e| e.partition == partition).map(|e| &e.value).collect();
        assert!(
            values.is_sorted() && values.windows(2).all(|w| w[0] != w[1]),
            "{what}: order of {partition}"
        );
        let answer = append(&log, vec![message(partition, b"afterwards")]);
        assert_eq!(answer, Ok(vec![end]), "{what}: it goes on");
    }
}

fn check_all(disk: &FaultDisk, promised: &Promised, what: &str) {
    for (index, image) in disk.images().iter().enumerate() {
        check(image, promised, &format!("{what}, image {index}"));
    }
}

/// The steps of a life without faults.
fn all_steps(segment_bytes: u64) -> Vec<Step> {
    let (disk, dir) = (FaultDisk::default(), tempfile::tempdir().expect("a scratch directory"));
    let promised = live(&disk, dir.path(), segment_bytes);
    assert!(promised.ends.iter().all(Result::is_ok));
    let steps = disk.steps();
    for step in [Step::Create, Step::Write, Step::Sync, Step::Rename, Step::Remove, Step::SyncDir] {
        assert!(steps.contains(&step), "{step:?} is part of the life");
    }
    check_all(&disk, &promised, "no fault");
    steps
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    SEGMENT_BYTES.into_iter().for_each(cut_at_any_step);
}

fn cut_at_any_step(segment_bytes: u64) {
    for (index, step) in all_steps(segment_bytes).into_iter().enumerate() {
        let mut faults = vec![Fault::Stop { done: false }, Fault::Stop { done: true }];
        if step == Step::Write {
            faults.extend([Fault::StopWithin(1), Fault::StopWithin(40), Fault::StopWithin(101)]);
        }
        for fault in faults {
            let (disk, dir) = (FaultDisk::new(&[(index, fault)]), tempfile::tempdir().expect("a directory"));
            let promised = live(&disk, dir.path(), segment_bytes);
            check_all(&disk, &promised, &format!("{fault:?} at step {index} ({step:?})"));
        }
    }
}

#[test]
fn a_full_disk_fails_the_call_and_the_log_lives_on() {
    SEGMENT_BYTES.into_iter().for_each(full_at_any_step);
}

fn full_at_any_step(segment_bytes: u64) {
    let steps = all_steps(segment_bytes);
    let opened =
        steps.iter().position(|s| *s == Step::SyncDir).expect("the first segment is made durable") + 1;
    for (index, step) in steps.into_iter().enumerate() {
        for (bytes, cut_fails) in [(0, false), (50, false), (50, true), (200, true)] {
            let mut plan = vec![(index, Fault::Full(bytes))];
            if cut_fails {
                plan.push((index + 1, Fault::Full(0)));
            }
            let (disk, dir) = (FaultDisk::new(&plan), tempfile::tempdir().expect("a scratch directory"));
            let promised = live(&disk, dir.path(), segment_bytes);
            let what = format!("{plan:?} ({step:?})");
            check_all(&disk, &promised, &what);
            let failed: Vec<_> = promised.ends.iter().filter_map(|end| end.as_ref().err()).collect();
            let full = AppendError::DiskFull { path: dir.path().to_owned() };
            if index >= opened && !cut_fails && matches!(step, Step::Write | Step::Create | Step::Rename) {
                assert_eq!(failed, [&full], "{what}");
            }
            if index >= opened && step == Step::Write && disk.steps().get(index + 1) == Some(&Step::Truncate)
            {
                assert!(failed.iter().all(|error| **error == full), "{what}");
                assert_eq!(failed.len(), 1, "{what}: the cut is tried again before the next write");
            }
        }
    }
}

#[test]
fn a_power_cut_after_a_failed_write_loses_nothing_acknowledged() {
    SEGMENT_BYTES.into_iter().for_each(cut_after_a_full_disk);
}

fn cut_after_a_full_disk(segment_bytes: u64) {
    let steps = all_steps(segment_bytes);
    for (full, step) in steps.iter().enumerate().filter(|(_, step)| **step == Step::Write) {
        for stop in full + 2..full + 12 {
            let plan = [(full, Fault::Full(150)), (stop, Fault::Stop { done: true })];
            let (disk, dir) = (FaultDisk::new(&plan), tempfile::tempdir().expect("a scratch directory"));
            let promised = live(&disk, dir.path(), segment_bytes);
            check_all(&disk, &promised, &format!("{plan:?} ({step:?})"));
        }
    }
}

#[test]
fn a_failed_sync_poisons_the_log() {
    SEGMENT_BYTES.into_iter().for_each(break_any_sync);
}

fn break_any_sync(segment_bytes: u64) {
    let steps = all_steps(segment_bytes);
    let opened =
        steps.iter().position(|s| *s == Step::SyncDir).expect("the first segment is made durable") + 1;
    let removes = steps.iter().position(|s| *s == Step::Remove).expect("retention drops something");
    for (index, step) in steps.iter().enumerate().filter(|(_, s)| matches!(s, Step::Sync | Step::SyncDir)) {
        let (disk, dir) =
            (FaultDisk::new(&[(index, Fault::Broken)]), tempfile::tempdir().expect("a directory"));
        let promised = live(&disk, dir.path(), segment_bytes);
        check_all(&disk, &promised, &format!("broken at step {index} ({step:?})"));
        if index < opened {
            assert!(promised.ends.is_empty(), "it does not open");
        } else if index + 1 == steps.len() {
            assert!(promised.ends.iter().all(Result::is_ok), "the log is closed");
        } else if steps[index - 1] != Step::Remove {
            let first = promised.ends.iter().position(Result::is_err).expect("a call fails");
            for end in &promised.ends[first..] {
                assert!(matches!(end, Err(AppendError::Failed { .. })), "step {index}: {end:?}");
            }
        } else {
            assert!(index > removes && promised.ends.iter().all(Result::is_ok), "retention may fail");
        }
    }
}

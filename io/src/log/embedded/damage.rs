//! Torn tails are cut, damage is reported: every byte of a small log is lost or changed in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault_disk::{Fault, FaultDisk, Step};
use super::record::{self, Seed, Stamp};
use super::segment;
use super::tests::{append, message, read_all};
use super::{EmbeddedLog, EmbeddedOptions};
use crate::log::{Log, LogError};

const HEADER: usize = 48 + 2 * 8 + 4;

fn options() -> EmbeddedOptions {
    EmbeddedOptions::new(2)
}

fn open(dir: &Path) -> Result<EmbeddedLog, LogError> {
    EmbeddedLog::open_on(dir, options(), FaultDisk::default().platform())
}

fn file(dir: &Path) -> PathBuf {
    segment::path(dir, 0)
}

/// A log of two groups, the second of three records; returns its bytes and where each record begins.
fn two_groups(dir: &Path) -> (Vec<u8>, Vec<usize>) {
    let log = open(dir).expect("a new log opens");
    let groups = [
        vec![message(0, b"first"), message(1, b"second")],
        vec![message(0, b"third"), message(0, &[7; 90]), message(1, b"fifth")],
    ];
    let mut begins = vec![HEADER];
    for group in groups {
        begins.extend(group.iter().map(|m| record::encoded_len(&m.key, &m.value)));
        append(&log, group).expect("it is appended");
    }
    drop(log);
    for index in 1..begins.len() {
        begins[index] += begins[index - 1];
    }
    let bytes = fs::read(file(dir)).expect("the segment is there");
    assert_eq!(begins.last(), Some(&bytes.len()));
    (bytes, begins)
}

/// Opens a log of these bytes; returns how many records it has, after checking that it can be continued.
fn records_in(bytes: &[u8]) -> Result<usize, LogError> {
    let dir = tempfile::tempdir().expect("a scratch directory");
    fs::write(file(dir.path()), bytes).expect("the segment is written");
    let log = open(dir.path())?;
    let count = read_all(&log).len();
    append(&log, vec![message(1, b"afterwards")]).expect("it is appended");
    drop(log);
    assert_eq!(read_all(&open(dir.path())?).len(), count + 1, "the cut is final");
    Ok(count)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_the_last_whole_record() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (bytes, begins) = two_groups(dir.path());
    for cut in begins[2]..bytes.len() {
        let whole = begins[1..].iter().filter(|end| **end <= cut).count();
        let mut zeros = bytes[..cut].to_vec();
        zeros.resize(bytes.len(), 0);
        let mut garbage = bytes.clone();
        garbage[cut..].iter_mut().for_each(|byte| *byte = !*byte);
        assert_eq!(records_in(&bytes[..cut]).expect("short"), whole, "cut at {cut}");
        // A record that ends in zeros may be whole in spite of them.
        assert!(records_in(&zeros).expect("zeros") >= whole, "zeros from {cut}");
        assert_eq!(records_in(&garbage).expect("garbage"), whole, "garbage from {cut}");
    }
}

#[test]
fn room_behind_the_last_record_is_no_damage() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (bytes, begins) = two_groups(dir.path());
    for end in &begins[2..] {
        for room in [1, 35, 36, 100_000] {
            let mut with_room = bytes[..*end].to_vec();
            with_room.resize(end + room, 0);
            let whole = begins[1..].iter().filter(|begin| *begin <= end).count();
            assert_eq!(records_in(&with_room).expect("it is room"), whole, "{room} bytes behind {end}");
        }
    }
}

#[test]
fn a_hole_within_the_last_group_is_a_torn_tail() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut bytes, begins) = two_groups(dir.path());
    bytes[begins[2]..begins[3]].fill(0);
    assert_eq!(records_in(&bytes).expect("whole records of the same group prove nothing"), 2);
}

#[test]
fn a_flipped_byte_before_the_last_group_is_damage() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (bytes, begins) = two_groups(dir.path());
    // Behind the last record there is nothing, or room.
    for (place, room) in (0..begins[2]).flat_map(|place| [(place, 0), (place, 500)]) {
        let begin = begins.iter().rev().find(|begin| **begin <= place).copied().unwrap_or(0);
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x10;
        bytes.resize(bytes.len() + room, 0);
        let dir = tempfile::tempdir().expect("a scratch directory");
        fs::write(file(dir.path()), &bytes).expect("the segment is written");
        match open(dir.path()).err().expect("damage is found") {
            LogError::Corrupt { path, position, .. } => {
                assert_eq!((path, position as usize), (file(dir.path()), begin), "byte {place}");
            }
            other => panic!("byte {place}: {other}"),
        }
        assert_eq!(fs::read(file(dir.path())).expect("it is there"), bytes, "the evidence stays");
    }
}

#[test]
fn record_bytes_in_a_torn_value_are_no_evidence() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut forged = Vec::new();
    let stamp = Stamp { group: HEADER as u32 + 20, partition: 0, offset: 1, timestamp_ms: 0 };
    record::encode(Seed::new(0), stamp, b"", b"forged", &mut forged);
    let log = open(dir.path()).expect("a new log opens");
    append(&log, vec![message(0, &forged)]).expect("it is appended");
    drop(log);
    let mut bytes = fs::read(file(dir.path())).expect("the segment is there");
    bytes[HEADER + 4] ^= 1;
    assert_eq!(records_in(&bytes).expect("it is a torn tail"), 0);
}

#[test]
fn a_power_cut_while_a_tail_is_cut_changes_nothing() {
    let (bytes, begins) = two_groups(tempfile::tempdir().expect("a scratch directory").path());
    for step in 0..3 {
        let dir = tempfile::tempdir().expect("a scratch directory");
        fs::write(file(dir.path()), &bytes[..begins[4] + 5]).expect("the segment is written");
        let disk =
            FaultDisk::new(&[(step, Fault::Stop { done: true }), (step + 1, Fault::Stop { done: false })]);
        let opened = EmbeddedLog::open_on(dir.path(), options(), disk.platform());
        assert_eq!(opened.is_ok(), step == 2, "the machine stops at step {step}");
        drop(opened);
        assert_eq!(disk.steps(), [Step::Truncate, Step::Sync, Step::SyncDir][..=step]);
        for image in disk.images() {
            for bytes in image.values() {
                assert_eq!(records_in(bytes).expect("it is a torn tail or none"), 4, "step {step}");
            }
        }
    }
}

/// A log of three segments.
fn three_segments(dir: &Path) {
    let options = EmbeddedOptions { segment_bytes: 200, ..options() };
    let log = EmbeddedLog::open_on(dir, options, FaultDisk::default().platform()).expect("a new log opens");
    for value in 0..3 {
        append(&log, vec![message(0, &[value; 150])]).expect("it is appended");
    }
    assert_eq!(log.status().segments, 3);
}

#[test]
fn damage_in_an_earlier_segment_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    three_segments(dir.path());
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[HEADER + 60] ^= 1;
    fs::write(&path, &bytes).expect("it is written");
    let log = open(dir.path()).expect("the headers are good");
    let mut consumer = log.consumer(&[(0, 0)]).expect("zero exists");
    let mut out = Vec::new();
    consumer.poll(Duration::ZERO, &mut out).expect("the first segment is good");
    let error = consumer.poll(Duration::ZERO, &mut out).expect_err("the second is not");
    assert!(
        matches!(&error, LogError::Corrupt { path: at, position, .. } if *at == path && *position == HEADER as u64),
        "{error}"
    );
    assert_eq!(out.len(), 1);
}

#[test]
fn a_missing_or_short_earlier_segment_is_an_error() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    three_segments(dir.path());
    let path = segment::path(dir.path(), 1);
    let bytes = fs::read(&path).expect("it is there");
    fs::write(&path, &bytes[..bytes.len() - 3]).expect("it is written");
    let short = open(dir.path()).err().expect("it is short");
    assert!(
        matches!(&short, LogError::Corrupt { path: at, position, .. } if *at == path && *position == bytes.len() as u64 - 3),
        "{short}"
    );
    fs::remove_file(&path).expect("it goes");
    let missing = open(dir.path()).err().expect("it is missing");
    assert!(matches!(&missing, LogError::MissingSegment { path: at } if *at == path), "{missing}");
}

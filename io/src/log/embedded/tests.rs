//! What the log promises while nothing is broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;

use super::fault_disk::{Fault, FaultDisk};
use super::options::Platform;
use super::{EmbeddedLog, EmbeddedOptions};
use crate::log::{AppendError, Consumer, Entry, Log, LogError, Message};

pub(crate) fn message(partition: u32, value: &[u8]) -> Message {
    Message { partition, key: Bytes::from_static(b"key"), value: Bytes::copy_from_slice(value) }
}

/// Appends and waits for the answer.
pub(crate) fn append(log: &EmbeddedLog, messages: Vec<Message>) -> Result<Vec<u64>, AppendError> {
    block_on(log.append(messages)?).expect("the writer answers")
}

/// Everything that the log holds, in the order of delivery.
pub(crate) fn read_all(log: &EmbeddedLog) -> Vec<Entry> {
    let from: Vec<_> = (0..log.partitions()).map(|partition| (partition, log.start(partition))).collect();
    let count: u64 = (0..log.partitions()).map(|partition| log.end(partition) - log.start(partition)).sum();
    let mut consumer = log.consumer(&from).expect("the offsets are the log's own");
    let mut entries = Vec::new();
    while (entries.len() as u64) < count {
        consumer.poll(Duration::MAX, &mut entries).expect("the log is whole");
    }
    consumer.poll(Duration::ZERO, &mut entries).expect("the log is whole");
    assert_eq!(entries.len() as u64, count, "there is no more than the ends say");
    entries
}

fn open(partitions: u32) -> (tempfile::TempDir, EmbeddedLog) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(partitions)).expect("a new log opens");
    (dir, log)
}

fn values(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &entry.value[..]).collect()
}

fn poll(consumer: &mut dyn Consumer) -> Vec<Entry> {
    let mut out = Vec::new();
    consumer.poll(Duration::ZERO, &mut out).expect("the log is whole");
    out
}

#[test]
fn what_is_appended_comes_back_as_it_was() {
    let (dir, log) = open(3);
    assert_eq!(append(&log, Vec::new()), Ok(Vec::new()));
    assert_eq!(append(&log, vec![message(2, b"a"), message(0, b"b"), message(2, b"")]), Ok(vec![0, 0, 1]));
    let large = vec![9; 700_000];
    assert_eq!(append(&log, vec![message(2, &large)]), Ok(vec![2]));
    let before = read_all(&log);
    assert_eq!(values(&before), [&b"a"[..], b"b", b"", &large]);
    assert!(before.iter().all(|entry| &entry.key[..] == b"key"));
    assert!(before.is_sorted_by_key(|entry| entry.timestamp_ms));
    drop(log);
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(3)).expect("it opens again");
    assert_eq!(read_all(&log), before);
    assert_eq!([log.end(0), log.end(1), log.end(2), log.start(2)], [1, 0, 3, 0]);
    let status = log.status();
    assert_eq!((status.kind, status.segments, status.queued_messages), ("embedded", 1, 0));
}

#[test]
fn a_log_refuses_another_partition_count_and_a_second_opener() {
    let (dir, log) = open(3);
    let second = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(3)).err().expect("it is in use");
    assert!(matches!(second, LogError::InUse { .. }), "{second}");
    log.close();
    let other = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(4)).err().expect("the count is wrong");
    assert!(matches!(other, LogError::PartitionCount { found: 3, configured: 4 }), "{other}");
}

#[test]
fn consumers_start_within_what_is_held() {
    let (_dir, log) = open(2);
    assert_eq!(append(&log, vec![message(1, b"a"), message(1, b"b")]), Ok(vec![0, 1]));
    let above = log.consumer(&[(0, 0), (1, 3)]).err().expect("three is above the end");
    assert!(matches!(above, LogError::OutOfRange { partition: 1, offset: 3, start: 0, end: 2 }), "{above}");
    let unknown = log.consumer(&[(2, 0)]).err().expect("there is no partition 2");
    assert!(matches!(unknown, LogError::UnknownPartition { partition: 2, partitions: 2 }), "{unknown}");
    let mut consumer = log.consumer(&[(1, 1)]).expect("one is held");
    assert_eq!(values(&poll(&mut *consumer)), [b"b"]);
    let mut at_end = log.consumer(&[(1, 2)]).expect("the end is allowed");
    assert_eq!(poll(&mut *at_end), []);
}

#[test]
fn an_append_wakes_a_waiting_consumer() {
    let (_dir, log) = open(1);
    let mut consumer = log.consumer(&[(0, 0)]).expect("zero exists");
    let reader = thread::spawn(move || {
        let mut out = Vec::new();
        while out.len() < 2 {
            consumer.poll(Duration::MAX, &mut out).expect("the log works");
        }
        let end = consumer.poll(Duration::MAX, &mut out);
        (out, end)
    });
    append(&log, vec![message(0, b"a")]).expect("it is appended");
    append(&log, vec![message(0, b"b")]).expect("it is appended");
    log.close();
    log.close();
    let (out, end) = reader.join().expect("the reader ends");
    assert_eq!(values(&out), [b"a", b"b"]);
    assert!(matches!(end, Err(LogError::Closed)), "a closed log ends its consumers");
    assert_eq!(append(&log, vec![message(0, b"c")]), Err(AppendError::Closed));
}

#[test]
fn paused_partitions_continue_where_they_were() {
    let (_dir, log) = open(3);
    let mut consumer = log.consumer(&[(0, 0), (1, 0)]).expect("zeros exist");
    let all = |text: &str| (0..3).map(|p| message(p, format!("{p}{text}").as_bytes())).collect();
    append(&log, all("a")).expect("it is appended");
    assert_eq!(values(&poll(&mut *consumer)), [b"0a", b"1a"]);
    consumer.pause(1);
    consumer.pause(2);
    append(&log, all("b")).expect("it is appended");
    assert_eq!(values(&poll(&mut *consumer)), [b"0b"]);
    consumer.pause(0);
    append(&log, all("c")).expect("it is appended");
    assert_eq!(poll(&mut *consumer), []);
    consumer.resume(1);
    assert_eq!(values(&poll(&mut *consumer)), [b"1b", b"1c"]);
    consumer.resume(0);
    consumer.resume(2);
    append(&log, all("d")).expect("it is appended");
    let mut rest = poll(&mut *consumer);
    rest.extend(poll(&mut *consumer));
    assert_eq!(values(&rest), [b"0c", b"0d", b"1d"]);
}

#[test]
fn appends_from_many_threads_get_dense_offsets() {
    let (_dir, log) = open(4);
    let log = Arc::new(log);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let log = log.clone();
            thread::spawn(move || {
                let mut own = Vec::new();
                for call in 0..40u32 {
                    let value = format!("{thread}-{call}");
                    let offsets =
                        append(&log, vec![message(call % 4, value.as_bytes())]).expect("it is appended");
                    own.push((call % 4, offsets[0], value));
                }
                own
            })
        })
        .collect();
    let mut acked: Vec<_> = threads.into_iter().flat_map(|t| t.join().expect("the thread ends")).collect();
    let text = |entry: &Entry| String::from_utf8(entry.value.to_vec()).expect("it is text");
    let mut found: Vec<_> = read_all(&log).iter().map(|e| (e.partition, e.offset, text(e))).collect();
    acked.sort();
    found.sort();
    assert_eq!(acked, found);
    assert_eq!((0..4).map(|p| log.end(p)).collect::<Vec<_>>(), [80; 4]);
    assert!(log.status().syncs <= 320 && log.status().appended_messages == 320);
}

/// A clock that the test sets.
fn with_clock(clock: &Arc<AtomicI64>) -> Platform {
    let clock = clock.clone();
    Platform { now_ms: Box::new(move || clock.load(Ordering::SeqCst)), ..FaultDisk::default().platform() }
}

#[test]
fn timestamps_never_go_back() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let clock = Arc::new(AtomicI64::new(1000));
    let options = || EmbeddedOptions { segment_bytes: 200, ..EmbeddedOptions::new(1) };
    let mut log = EmbeddedLog::open_on(dir.path(), options(), with_clock(&clock)).expect("it opens");
    for now in [1000, 1500, 900, 1600] {
        clock.store(now, Ordering::SeqCst);
        append(&log, vec![message(0, &[7; 60])]).expect("it is appended");
    }
    drop(log);
    clock.store(5, Ordering::SeqCst);
    log = EmbeddedLog::open_on(dir.path(), options(), with_clock(&clock)).expect("it opens again");
    append(&log, vec![message(0, b"late")]).expect("it is appended");
    let times: Vec<_> = read_all(&log).iter().map(|entry| entry.timestamp_ms).collect();
    assert_eq!(times, [1000, 1500, 1500, 1600, 1600]);
}

#[test]
fn retention_drops_whole_segments_that_are_old_and_released() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let clock = Arc::new(AtomicI64::new(0));
    let options = || EmbeddedOptions {
        segment_bytes: 200,
        retention: Some(Duration::from_millis(100)),
        ..EmbeddedOptions::new(2)
    };
    let log = EmbeddedLog::open_on(dir.path(), options(), with_clock(&clock)).expect("it opens");
    let mut slow = log.consumer(&[(0, 0), (1, 0)]).expect("zeros exist");
    let mut unread = log.consumer(&[(0, 0), (1, 0)]).expect("zeros exist");
    // Each record fills a segment; the partitions take turns.
    let roll = |call: u32| append(&log, vec![message(call % 2, &[call as u8; 120])]).expect("it is appended");
    (0..6).for_each(|call| drop(roll(call)));
    assert_eq!(poll(&mut *slow).len(), 1);
    let segments = |log: &EmbeddedLog| log.status().segments;
    log.release(&[(0, 3), (1, 3)]);
    roll(6);
    assert_eq!((segments(&log), log.start(0)), (7, 0), "released, but young");
    clock.store(1000, Ordering::SeqCst);
    log.release(&[]);
    roll(7);
    assert_eq!((segments(&log), log.start(0), log.start(1)), (2, 3, 3), "old, but 6 and 7 are needed");
    let gone = slow.poll(Duration::ZERO, &mut Vec::new()).expect_err("its segment is gone");
    assert!(
        matches!(&gone, LogError::Removed { path } if path.ends_with("00000000000000000001.log")),
        "{gone}"
    );
    let gone = unread.poll(Duration::ZERO, &mut Vec::new()).expect_err("its segment is gone");
    assert!(
        matches!(&gone, LogError::Removed { path } if path.ends_with("00000000000000000000.log")),
        "{gone}"
    );
    let below = log.consumer(&[(0, 2)]).err().expect("two is below the start");
    assert!(matches!(below, LogError::OutOfRange { partition: 0, offset: 2, start: 3, end: 4 }), "{below}");
    drop(log);
    let log = EmbeddedLog::open_on(dir.path(), options(), with_clock(&clock)).expect("it opens again");
    assert_eq!((log.start(0), log.start(1), log.end(0), log.end(1)), (3, 3, 4, 4));
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn a_consumer_at_the_end_of_a_dropped_segment_goes_on() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options =
        EmbeddedOptions { segment_bytes: 200, retention: Some(Duration::ZERO), ..EmbeddedOptions::new(1) };
    let log = EmbeddedLog::open(dir.path(), options).expect("it opens");
    let mut consumer = log.consumer(&[(0, 0)]).expect("zero exists");
    append(&log, vec![message(0, &[1; 120])]).expect("it is appended");
    assert_eq!(poll(&mut *consumer).len(), 1);
    append(&log, vec![message(0, &[2; 120])]).expect("it is appended");
    log.release(&[(0, 1)]);
    append(&log, vec![message(0, &[3; 120])]).expect("it is appended");
    assert_eq!(log.start(0), 1);
    let mut rest = poll(&mut *consumer);
    rest.extend(poll(&mut *consumer));
    assert_eq!(rest.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_status_tells_of_a_full_disk_until_it_is_over() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    // Five steps make the first segment durable, then come the writes, each with its sync.
    let disk = FaultDisk::new(&[(5, Fault::Full(10)), (10, Fault::Broken)]);
    let log = EmbeddedLog::open_on(dir.path(), EmbeddedOptions::new(1), disk.platform()).expect("it opens");
    let full = append(&log, vec![message(0, b"a")]).expect_err("the disk is full");
    assert_eq!(full, AppendError::DiskFull { path: dir.path().to_owned() });
    assert_eq!(log.status().failing, Some(full.to_string()));
    assert_eq!((log.end(0), read_all(&log).len()), (0, 0));
    assert_eq!(append(&log, vec![message(0, b"b")]), Ok(vec![0]), "{:?}", disk.steps());
    assert_eq!((log.status().failing, log.status().poisoned), (None, None));
    for _ in 0..2 {
        let failed = append(&log, vec![message(0, b"c")]).expect_err("the sync fails");
        assert!(matches!(failed, AppendError::Failed { .. }), "{failed}");
    }
    assert!(log.status().poisoned.is_some());
    assert_eq!(values(&read_all(&log)), [b"b"], "what is durable can still be read");
}

#[test]
fn small_groups_make_room_for_others_and_a_closed_log_keeps_none() {
    let (dir, log) = open(1);
    let path = super::segment::path(dir.path(), 0);
    let file_len = || std::fs::metadata(&path).expect("the segment is there").len();
    let mut lens = Vec::new();
    for _ in 0..3 {
        append(&log, vec![message(0, b"small")]).expect("it is appended");
        lens.push(file_len());
    }
    let room = EmbeddedOptions::new(1).room_bytes;
    assert!(lens[0] > room && lens == [lens[0]; 3], "{lens:?}");
    // What a killed process leaves is opened as it is.
    let killed = tempfile::tempdir().expect("a scratch directory");
    std::fs::copy(&path, super::segment::path(killed.path(), 0)).expect("copied");
    let again = EmbeddedLog::open(killed.path(), EmbeddedOptions::new(1)).expect("it opens");
    assert_eq!(read_all(&again), read_all(&log));
    assert_eq!(append(&again, vec![message(0, b"more")]), Ok(vec![3]));
    log.close();
    assert!(file_len() < 300, "{}", file_len());
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::new(1)).expect("it opens");
    assert_eq!(values(&read_all(&log)), [b"small"; 3]);
}

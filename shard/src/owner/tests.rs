use super::*;
use crate::key::encode_key;
use crate::mutation::{Operation, encode_batch, encode_delete, encode_put};
use crate::scan::Progress;
use crate::store::{Store, StoreOptions};
use crate::writer::{WriterHook, WriterStep};
use bytes::Bytes;
use std::path::Path;
use std::time::Duration;

const ONE: NonZeroU32 = NonZeroU32::MIN;
const P: PartitionId = PartitionId(0);

fn options(partitions: NonZeroU32) -> OwnerOptions {
    OwnerOptions { partitions, cache_bytes: 1 << 20, max_backlog_mutations: 100, max_backlog_bytes: 1 << 20 }
}

fn open(
    path: &Path,
    partitions: NonZeroU32,
    hook: Option<WriterHook>,
) -> (Owner, flume::Receiver<Completion>) {
    let store = Store::open(path, &StoreOptions::default()).expect("opens");
    let owned: Vec<PartitionId> = (0..partitions.get()).map(PartitionId).collect();
    Owner::prepare(store, options(partitions), &owned, hook).expect("prepares").start()
}

fn entry(offset: u64, value: Vec<u8>) -> LogEntry {
    LogEntry { offset: Offset(offset), timestamp_ms: 1000 + offset as i64, value: Bytes::from(value) }
}

fn put(offset: u64, pk: &str, sk: &str, data: &str, condition: Option<&str>) -> LogEntry {
    let mut value = Vec::new();
    encode_put(&mut value, pk, sk, data.as_bytes(), condition, 0);
    entry(offset, value)
}

fn delete(offset: u64, pk: &str, sk: &str, condition: Option<&str>) -> LogEntry {
    let mut value = Vec::new();
    encode_delete(&mut value, pk, sk, condition, 0);
    entry(offset, value)
}

fn batch(offset: u64, operations: &[Operation<'_>]) -> LogEntry {
    let mut value = Vec::new();
    encode_batch(&mut value, operations, 0);
    entry(offset, value)
}

fn get(owner: &mut Owner, partition: PartitionId, pk: &str, sk: &str) -> Option<Record> {
    let mut key = Vec::new();
    encode_key(pk, sk, &mut key);
    owner.get(partition, &key, |record| record.cloned()).expect("readable")
}

fn data(owner: &mut Owner, pk: &str, sk: &str) -> Option<String> {
    get(owner, P, pk, sk).map(|record| String::from_utf8_lossy(record.data()).into_owned())
}

/// Closes as a process in good order does.
fn shut(mut owner: Owner) {
    let closing = owner.close().expect("not closed yet");
    closing.finish().expect("closes");
}

/// Takes completions until everything applied to the partition is committed.
fn settle(owner: &mut Owner, completions: &flume::Receiver<Completion>, partition: PartitionId) {
    while owner.committed(partition) != owner.next(partition).ok() {
        owner.complete(completions.recv().expect("the writer lives"));
    }
}

fn list(owner: &Owner, range: ScanRange) -> String {
    let mut scan = owner.scan(P, range).expect("readable");
    let mut out = Vec::new();
    assert_eq!(scan.fill(&mut out, usize::MAX, Duration::MAX), Ok(Progress::Done));
    let sks: Vec<String> = sks(&out);
    assert_eq!(sks.len() as u64, scan.emitted());
    sks.join(" ")
}

fn sks(fragments: &[u8]) -> Vec<String> {
    let array = [b"[", fragments, b"]"].concat();
    let mut reader = crate::json::JsonReader::new();
    let json = reader.parse(&array).expect("a list of fragments");
    let sk = |record: crate::json::Json<'_>| record.get("Sk").and_then(|sk| sk.as_str()).map(str::to_owned);
    json.array().into_iter().flatten().map(|record| sk(record).expect("a record has an Sk")).collect()
}

#[test]
fn mutations_are_readable_at_once_and_after_commit_and_reopen() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    let entries = [
        put(0, "p", "a", r#"{"n":1}"#, None),
        put(1, "p", "a", r#"{"n":2}"#, Some("data.n == `1`")),
        put(2, "p", "a", r#"{"n":3}"#, Some("data.n == `1`")),
        put(3, "p", "a", r#"{"n":4}"#, Some("contains(data.n, 'x')")),
        put(4, "p", "a", r#"{"n":5}"#, Some("this is no condition")),
        entry(6, b"poison".to_vec()),
        put(7, "p", "b", "{}", None),
        delete(8, "p", "b", None),
        delete(9, "p", "b", None),
    ];
    let applied = owner.apply(P, &entries).expect("applies");
    assert_eq!(applied, Applied { applied: 5, refused: 1, erred: 2, undecodable: 1 });
    assert_eq!(owner.next(P), Ok(Offset(10)));
    let check = |owner: &mut Owner| {
        let record = get(owner, P, "p", "a").expect("there");
        assert_eq!(record.data(), br#"{"n":2}"#);
        let meta = crate::record::Meta { created_ms: 1000, updated_ms: 1001, offset: Offset(1) };
        assert_eq!(record.meta(), meta);
        assert_eq!(data(owner, "p", "b"), None);
        assert_eq!(owner.get(P, crate::key::CHECKPOINT_KEY, |record| record.cloned()), Ok(None));
    };
    check(&mut owner);
    settle(&mut owner, &completions, P);
    check(&mut owner);
    let status = &owner.status()[0];
    assert_eq!((status.next, status.committed, status.overlay_rows), (Offset(10), Offset(10), 0));
    assert_eq!(status.counts, applied);
    // Redelivery changes nothing.
    assert_eq!(owner.apply(P, &entries).expect("applies"), Applied::default());
    shut(owner);
    let (mut owner, _completions) = open(dir.path(), ONE, None);
    check(&mut owner);
    assert_eq!((owner.next(P), owner.durable(P)), (Ok(Offset(10)), Some(Offset(10))));
    assert_eq!(owner.status()[0].counts, applied);
}

#[test]
fn what_is_committed_becomes_durable() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    owner.apply(P, &[put(0, "p", "a", "{}", None)]).expect("applies");
    let mut reported = Vec::new();
    while owner.durable(P) != Some(Offset(1)) {
        let completion = completions.recv().expect("the writer lives");
        reported.extend(completion.durable());
        owner.complete(completion);
    }
    assert_eq!(reported, [(P, Offset(1))]);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, _completions) = open(dir.path(), ONE, None);
    let put =
        |sk, data: &'static str, condition| Operation::Put { pk: "p", sk, data: data.as_bytes(), condition };
    let sees_earlier =
        batch(0, &[put("a", r#"{"n":1}"#, None), put("a", r#"{"n":2}"#, Some("data.n == `1`"))]);
    assert_eq!(owner.apply(P, &[sees_earlier]).expect("applies").applied, 1);
    assert_eq!(data(&mut owner, "p", "a").as_deref(), Some(r#"{"n":2}"#));
    let refused = batch(
        1,
        &[put("b", "{}", None), Operation::Delete { pk: "p", sk: "a", condition: Some("data.n == `1`") }],
    );
    assert_eq!(owner.apply(P, &[refused]).expect("applies").refused, 1);
    assert_eq!(data(&mut owner, "p", "b"), None);
    let recreated = batch(
        2,
        &[Operation::Delete { pk: "p", sk: "a", condition: None }, put("a", "{}", Some("data == `null`"))],
    );
    assert_eq!(owner.apply(P, &[recreated]).expect("applies").applied, 1);
    assert_eq!(get(&mut owner, P, "p", "a").expect("there").meta().created_ms, 1002);
}

#[test]
fn an_operation_of_another_partition_voids_its_message() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let two = NonZeroU32::new(2).expect("not zero");
    let (mut owner, _completions) = open(dir.path(), two, None);
    let pk = |partition| {
        let of = |pk: &String| partition_of(pk.as_bytes(), two) == PartitionId(partition);
        (0..).map(|n| format!("p{n}")).find(of).expect("both partitions have keys")
    };
    let (here, there) = (pk(0), pk(1));
    let mixed = batch(
        0,
        &[
            Operation::Put { pk: &here, sk: "a", data: b"{}", condition: None },
            Operation::Put { pk: &there, sk: "a", data: b"{}", condition: None },
        ],
    );
    let applied = owner.apply(P, &[mixed, put(1, &there, "a", "{}", None)]).expect("applies");
    assert_eq!(applied, Applied { undecodable: 2, ..Applied::default() });
    assert_eq!(get(&mut owner, P, &here, "a"), None);
    assert_eq!(owner.next(P), Ok(Offset(2)));
    let missing = PartitionId(2);
    assert_eq!(owner.next(missing), Err(Unavailable::NotOwned { partition: missing }));
}

#[test]
fn a_cached_record_follows_its_mutations() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    owner.apply(P, &[put(0, "p", "a", r#"{"n":1}"#, None)]).expect("applies");
    settle(&mut owner, &completions, P);
    for _ in 0..3 {
        assert_eq!(data(&mut owner, "p", "a").as_deref(), Some(r#"{"n":1}"#));
    }
    assert_eq!((owner.cache_status().records, owner.cache_status().hits), (1, 2));
    owner.apply(P, &[put(1, "p", "a", r#"{"n":2}"#, Some("data.n == `1`"))]).expect("applies");
    assert_eq!(data(&mut owner, "p", "a").as_deref(), Some(r#"{"n":2}"#));
    assert_eq!(owner.cache_status().hits, 3);
    owner.apply(P, &[delete(2, "p", "a", None)]).expect("applies");
    assert_eq!(data(&mut owner, "p", "a"), None);
    settle(&mut owner, &completions, P);
    assert_eq!(data(&mut owner, "p", "a"), None);
}

#[test]
fn listings_keep_to_their_bounds() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    let rows = ["a", "ab", "abc", "abd", "ac", "b", "é"];
    let put_all = |at: u64| -> Vec<LogEntry> {
        rows.iter()
            .zip(at..)
            .map(|(sk, offset)| put(offset, "p", sk, &format!("{{\"at\":{at}}}"), None))
            .collect()
    };
    owner.apply(P, &put_all(0)).expect("applies");
    settle(&mut owner, &completions, P);
    // Some rows are in the overlay, one of them a deletion, and neighbours belong to other pks.
    let more = [
        put(10, "p", "abz", r#"{"at":9}"#, None),
        delete(11, "p", "ac", None),
        put(12, "o", "z", "{}", None),
        put(13, "pp", "a", "{}", None),
        put(14, "p", "b", r#"{"at":9}"#, None),
    ];
    owner.apply(P, &more).expect("applies");
    let range = || ScanRange { pk: "p".to_owned(), ..ScanRange::default() };
    let some = |sk: &str| Some(sk.to_owned());
    assert_eq!(list(&owner, range()), "a ab abc abd abz b é");
    assert_eq!(list(&owner, ScanRange { reverse: true, ..range() }), "é b abz abd abc ab a");
    assert_eq!(list(&owner, ScanRange { sk_prefix: "ab".into(), ..range() }), "abc abd abz");
    assert_eq!(list(&owner, ScanRange { sk_prefix: "é".into(), ..range() }), "");
    assert_eq!(list(&owner, ScanRange { sk_after: some("abc"), sk_before: some("b"), ..range() }), "abd abz");
    assert_eq!(list(&owner, ScanRange { sk_after: some("b"), sk_before: some("a"), ..range() }), "");
    assert_eq!(list(&owner, ScanRange { sk_before: some(""), ..range() }), "");
    assert_eq!(
        list(&owner, ScanRange { sk_prefix: "ab".into(), sk_after: some("a"), limit: 2, ..range() }),
        "abc abd"
    );
    assert_eq!(list(&owner, ScanRange { reverse: true, limit: 2, sk_before: some("é"), ..range() }), "b abz");
    assert_eq!(list(&owner, ScanRange { pk: "q".into(), ..range() }), "");
    let condition =
        |text| Some(std::rc::Rc::new(crate::condition::Condition::compile(text).expect("compiles")));
    let nine = || condition("data.at == `9`");
    assert_eq!(list(&owner, ScanRange { condition: nine(), ..range() }), "abz b");
    assert_eq!(list(&owner, ScanRange { condition: nine(), limit: 1, ..range() }), "abz");
    assert_eq!(list(&owner, ScanRange { condition: nine(), if_stop: true, ..range() }), "");
    let until = condition("sk < 'b' || data.at == `0`");
    assert_eq!(list(&owner, ScanRange { condition: until, if_stop: true, ..range() }), "a ab abc abd");
    let failing = condition("contains(data.at, 'x')");
    let mut scan = owner.scan(P, ScanRange { condition: failing, ..range() }).expect("readable");
    assert_eq!(scan.fill(&mut Vec::new(), usize::MAX, Duration::MAX), Ok(Progress::Done));
    assert_eq!((scan.emitted(), scan.failed_conditions()), (0, 7));
}

#[test]
fn a_scan_in_slices_is_a_snapshot() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    let entries: Vec<LogEntry> = (0..100).map(|n| put(n, "p", &format!("{n:03}"), "{}", None)).collect();
    owner.apply(P, &entries[..50]).expect("applies");
    settle(&mut owner, &completions, P);
    owner.apply(P, &entries[50..]).expect("applies");
    let range = ScanRange { pk: "p".to_owned(), ..ScanRange::default() };
    let (mut scan, mut export) =
        (owner.scan(P, range).expect("readable"), owner.export(P).expect("readable"));
    assert_eq!(export.next(), Offset(100));
    let (mut out, mut lines, mut slices) = (Vec::new(), Vec::new(), 0u64);
    loop {
        let progress = scan.fill(&mut out, 1, Duration::MAX).expect("readable");
        let _ = export.fill(&mut lines, 1, Duration::ZERO).expect("readable");
        // Between slices the partition changes under the scan, before and behind its place.
        let offset = 100 + 2 * slices;
        let sk = format!("{:03}", slices % 100);
        owner
            .apply(P, &[delete(offset, "p", &sk, None), put(offset + 1, "p", &format!("x{sk}"), "{}", None)])
            .expect("applies");
        settle(&mut owner, &completions, P);
        slices += 1;
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!(slices, 101);
    let expected: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
    assert_eq!(sks(&out), expected);
    let lines = String::from_utf8(lines).expect("JSON is UTF-8");
    assert_eq!(lines.lines().count(), 100);
    assert!(lines.ends_with("}\n") && lines.starts_with(r#"{"Pk":"p","Sk":"000","Data":{},"CreatedAt":"#));
}

#[test]
fn a_scan_without_matches_yields_by_time() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, _completions) = open(dir.path(), ONE, None);
    let entries: Vec<LogEntry> = (0..64).map(|n| put(n, "p", &format!("{n:03}"), "{}", None)).collect();
    owner.apply(P, &entries).expect("applies");
    let never = crate::condition::Condition::compile("pk == 'x'").expect("compiles");
    let range = ScanRange { pk: "p".to_owned(), condition: Some(never.into()), ..ScanRange::default() };
    let mut scan = owner.scan(P, range).expect("readable");
    let mut calls = 1;
    while scan.fill(&mut Vec::new(), usize::MAX, Duration::ZERO).expect("readable") == Progress::More {
        calls += 1;
    }
    assert_eq!(calls, 5);
}

#[test]
fn a_failing_commit_stops_its_partition_only() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let two = NonZeroU32::new(2).expect("not zero");
    let path = dir.path().to_owned();
    let bad = PartitionId(1);
    let hook: WriterHook = Box::new(move |step| match step {
        WriterStep::Commit(partition) if partition == bad => Err(StoreError::stopped(&path, "on purpose")),
        _ => Ok(()),
    });
    let (mut owner, completions) = open(dir.path(), two, Some(hook));
    let pks: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    let of = |partition| pks.iter().filter(move |pk| partition_of(pk.as_bytes(), two) == partition);
    let mut key = Vec::new();
    for partition in [P, bad] {
        for (pk, offset) in of(partition).zip(0..) {
            owner.apply(partition, &[put(offset, pk, "a", "{}", None)]).expect("applies");
            // Into the cache as well.
            assert!(get(&mut owner, partition, pk, "a").is_some());
        }
    }
    settle(&mut owner, &completions, P);
    while owner.next(bad).is_ok() || owner.backlog.mutations > 0 {
        owner.complete(completions.recv().expect("the writer lives"));
    }
    let pk = of(bad).next().expect("some");
    encode_key(pk, "a", &mut key);
    let error = owner.get(bad, &key, |_| ()).expect_err("stopped");
    assert!(
        matches!(&error, Unavailable::Poisoned { reason, .. } if reason.contains("on purpose")),
        "{error}"
    );
    assert_eq!(error.partition(), bad);
    assert!(owner.apply(bad, &[put(1000, pk, "a", "{}", None)]).is_err());
    assert!(owner.scan(bad, ScanRange::default()).is_err() && owner.export(bad).is_err());
    assert_eq!(owner.committed(bad), Some(Offset(0)));
    assert_eq!(owner.cache_status().records, of(P).count() as u64);
    for pk in of(P) {
        assert!(get(&mut owner, P, pk, "a").is_some());
    }
    let status = owner.status();
    assert!(status[0].poisoned.is_none() && status[1].poisoned.is_some());
    shut(owner);
    // Nothing of the stopped partition was committed, so the log replays all of it.
    let (owner, _completions) = open(dir.path(), two, None);
    assert_eq!(owner.next(bad), Ok(Offset(0)));
    assert_eq!(owner.next(P), Ok(Offset(of(P).count() as u64)));
}

#[test]
fn a_failing_sync_stops_the_shard() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = dir.path().to_owned();
    let hook: WriterHook = Box::new(move |step| match step {
        WriterStep::Persist => Err(StoreError::stopped(&path, "no sync")),
        _ => Ok(()),
    });
    let (mut owner, completions) = open(dir.path(), ONE, Some(hook));
    owner.apply(P, &[put(0, "p", "a", "{}", None)]).expect("applies");
    while owner.next(P).is_ok() {
        owner.complete(completions.recv().expect("the writer lives"));
    }
    assert_eq!(owner.durable(P), Some(Offset(0)));
    assert!(matches!(owner.next(P), Err(Unavailable::Poisoned { .. })));
    let closed = owner.close().expect("not closed yet").finish();
    assert!(matches!(closed, Err(StoreError::Poisoned { .. })));
}

#[test]
fn the_backlog_fills_and_empties() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (gate, passes) = flume::bounded::<()>(0);
    let hook: WriterHook = Box::new(move |_| {
        // Closed once the test has seen the backlog.
        let _ = passes.recv();
        Ok(())
    });
    let (mut owner, completions) = open(dir.path(), ONE, Some(hook));
    let mut offset = 0;
    while !owner.backlog_full() {
        owner.apply(P, &[put(offset, "p", &offset.to_string(), "{}", None)]).expect("applies");
        offset += 1;
    }
    assert_eq!(offset, 100);
    assert_eq!(owner.status()[0].overlay_rows, 100);
    drop(gate);
    settle(&mut owner, &completions, P);
    assert!(!owner.backlog_full());
    assert_eq!((owner.backlog.mutations, owner.backlog.bytes), (0, 0));
}

#[test]
fn a_closed_owner_reads_on_and_applies_no_more() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    owner.apply(P, &[put(0, "p", "a", "{}", None)]).expect("applies");
    let closing = owner.close().expect("not closed yet");
    assert!(owner.close().is_none());
    closing.finish().expect("closes");
    assert!(data(&mut owner, "p", "a").is_some());
    assert_eq!(owner.apply(P, &[put(1, "p", "b", "{}", None)]), Err(Unavailable::NotOwned { partition: P }));
    completions.try_iter().for_each(|completion| owner.complete(completion));
    assert_eq!((owner.committed(P), owner.durable(P)), (Some(Offset(1)), Some(Offset(1))));
    assert!(data(&mut owner, "p", "a").is_some());
}

#[test]
fn a_large_delivery_is_cut_into_write_sets() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (mut owner, completions) = open(dir.path(), ONE, None);
    let count = 3 * MAX_SET_ROWS as u64;
    let entries: Vec<LogEntry> =
        (0..count).map(|n| put(n, "p", &(n % 700).to_string(), "{}", None)).collect();
    assert_eq!(owner.apply(P, &entries).expect("applies").applied, count);
    assert_eq!(owner.last_seq, Seq(3));
    settle(&mut owner, &completions, P);
    let export = owner.export(P).expect("readable");
    let replayed = crate::replay::replay(entries, P, ONE);
    let rows = replayed.iter().map(|(key, stored)| (key.as_slice(), stored.as_slice()));
    assert_eq!(export.hash().expect("readable"), crate::hash::StateHash::of(rows));
}

/// Gives a partition up and says, once the writer has closed it, whether it is durable.
fn give_up(owner: &mut Owner, partition: PartitionId) -> Result<(), StoreError> {
    let (closed, done) = flume::bounded(1);
    owner.release(partition, Box::new(move |synced| closed.send(synced).expect("somebody waits")));
    done.recv().expect("the writer lives")
}

#[test]
fn a_partition_comes_goes_and_comes_back_where_it_stood() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let prepared = Owner::prepare(store, options(ONE), &[], None).expect("prepares");
    let opener = prepared.opener();
    let (mut owner, completions) = prepared.start();
    let not_owned = Unavailable::NotOwned { partition: P };
    assert_eq!(owner.apply(P, &[put(0, "p", "a", "{}", None)]), Err(not_owned.clone()));

    let opened = opener.open(P).expect("opens");
    assert_eq!((opened.partition(), opened.next()), (P, Offset(0)));
    owner.adopt(opened);
    for n in 0..50 {
        let data = format!("{{\"n\":{n}}}");
        owner.apply(P, &[put(n, "p", "a", &data, None)]).expect("applies");
    }
    assert_eq!(data(&mut owner, "p", "a").as_deref(), Some(r#"{"n":49}"#));
    give_up(&mut owner, P).expect("durable");
    assert_eq!(owner.next(P), Err(not_owned));
    assert!(owner.status().is_empty());
    assert_eq!(owner.cache_status().records, 0);

    // Everything that was applied before is in the store, and news of it does no harm to the new life.
    let opened = opener.open(P).expect("opens again");
    assert_eq!(opened.next(), Offset(50));
    owner.adopt(opened);
    owner
        .apply(P, &[put(49, "p", "a", r#"{"n":-1}"#, None), put(50, "p", "b", "{}", None)])
        .expect("applies");
    for completion in completions.drain() {
        owner.complete(completion);
    }
    settle(&mut owner, &completions, P);
    assert_eq!(data(&mut owner, "p", "a").as_deref(), Some(r#"{"n":49}"#));
    assert_eq!(list(&owner, ScanRange { pk: "p".into(), ..ScanRange::default() }), "a b");
    assert_eq!(owner.status()[0].committed, Offset(51));
    give_up(&mut owner, P).expect("durable");
    give_up(&mut owner, P).expect("nothing to close");
    shut(owner);
}

#[test]
fn a_failed_partition_is_healed_by_giving_it_up_and_taking_it_again() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let place = crate::store::Store::path(&store).to_owned();
    let mut failures = 1;
    let hook: WriterHook = Box::new(move |step| match step {
        WriterStep::Commit(_) if failures > 0 => {
            failures -= 1;
            Err(StoreError::thread(&place, std::io::Error::other("on purpose")))
        }
        _ => Ok(()),
    });
    let prepared = Owner::prepare(store, options(ONE), &[P], Some(hook)).expect("prepares");
    let opener = prepared.opener();
    let (mut owner, completions) = prepared.start();
    owner.apply(P, &[put(0, "p", "a", "{}", None)]).expect("applies");
    owner.complete(completions.recv().expect("the writer lives"));
    assert!(owner.next(P).is_err(), "the commit failed");
    give_up(&mut owner, P).expect("nothing of it was committed");
    let opened = opener.open(P).expect("opens");
    assert_eq!(opened.next(), Offset(0), "the log has what the store lacks");
    owner.adopt(opened);
    owner.apply(P, &[put(0, "p", "a", "{}", None)]).expect("applies");
    settle(&mut owner, &completions, P);
    assert_eq!(data(&mut owner, "p", "a").as_deref(), Some("{}"));
    shut(owner);
}

use super::*;
use crate::apply::Applied;
use crate::key::Offset;

fn checkpoint(next: u64) -> Checkpoint {
    Checkpoint { next: Offset(next), counts: Applied { applied: next, ..Applied::default() } }
}

fn commit(store: &Store, partition: &PartitionStore, rows: &[(&str, Option<&str>)], next: u64) {
    let mut batch = store.batch();
    for (key, row) in rows {
        batch.row(partition, key.as_bytes(), row.map(str::as_bytes));
    }
    batch.checkpoint(partition, &checkpoint(next));
    batch.commit().expect("commits");
}

fn dump(partition: &PartitionStore) -> Vec<(String, String)> {
    let text = |bytes: &StoredBytes| String::from_utf8_lossy(bytes.as_slice()).into_owned();
    let rows = partition.rows((Bound::Unbounded, Bound::Unbounded));
    rows.map(|row| row.map(|(key, value)| (text(&key), text(&value))).expect("readable")).collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn rows_and_checkpoint_survive_a_reopen() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options = StoreOptions::default();
    {
        let store = Store::open(dir.path(), &options).expect("opens");
        let partition = store.partition(PartitionId(17)).expect("opens");
        assert_eq!(partition.checkpoint().expect("readable"), None);
        assert!(partition.is_empty().expect("readable"));
        commit(&store, &partition, &[("a\0x", Some("1")), ("a\0y", Some("2"))], 2);
        commit(&store, &partition, &[("a\0x", None), ("b\0z", Some("3"))], 4);
    }
    let store = Store::open(dir.path(), &options).expect("opens again");
    assert_eq!(store.partitions(), [PartitionId(17)]);
    let partition = store.partition(PartitionId(17)).expect("opens");
    assert_eq!(partition.checkpoint().expect("readable"), Some(checkpoint(4)));
    assert_eq!(dump(&partition), pairs(&[("a\0y", "2"), ("b\0z", "3")]));
    let value = partition.get(b"b\0z").expect("readable");
    assert_eq!(value.as_ref().map(StoredBytes::as_slice), Some(b"3".as_slice()));
    assert!(partition.get(b"a\0x").expect("readable").is_none());
}

/// What a crash leaves of a creation at any point: no file, an empty one, all of them.
#[test]
fn a_store_whose_creation_was_cut_short_is_made_again() {
    let root = tempfile::tempdir().expect("a scratch directory");
    let (path, mark) = (root.path().join("shard-003"), root.path().join("shard-003.new"));
    let options = StoreOptions::default();
    let usable = || {
        let store = Store::open(&path, &options).expect("opens");
        assert!(!mark.exists() && store.partitions().is_empty());
        let partition = store.partition(PartitionId(1)).expect("opens");
        commit(&store, &partition, &[("a\0x", Some("1"))], 1);
    };
    let again = |leave: &dyn Fn()| {
        let _ = std::fs::remove_dir_all(&path);
        std::fs::write(&mark, "").expect("written");
        leave();
        usable();
        let store = Store::open(&path, &options).expect("opens what is there");
        assert_eq!(store.partitions(), [PartitionId(1)]);
    };
    again(&|| {});
    again(&|| std::fs::create_dir(&path).expect("made"));
    again(&|| {
        std::fs::create_dir_all(path.join("keyspaces")).expect("made");
        std::fs::write(path.join("version"), "").expect("written");
    });
    again(&|| drop(Store::open(&root.path().join("other"), &options).expect("opens")));
    // Without the mark it is a store, and damaged; removing it is for the operator to decide.
    std::fs::write(path.join("version"), "").expect("written");
    assert!(matches!(Store::open(&path, &options), Err(StoreError::Corrupt { .. })));
}

/// Write buffers that are full all at the same time, again and again, and a journal that must be kept short.
#[test]
fn many_full_write_buffers_do_not_stop_the_store() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options =
        StoreOptions { memtable_bytes: 256 << 10, journal_bytes: 64 << 20, ..StoreOptions::default() };
    let store = Store::open(dir.path(), &options).expect("opens");
    let opened = |number| store.partition(PartitionId(number)).expect("opens");
    let partitions: Vec<PartitionStore> = (0..100).map(opened).collect();
    let row = "r".repeat(4000);
    for round in 1..=400 {
        let mut batch = store.batch();
        for partition in &partitions {
            batch.row(partition, format!("k\0{round:05}").as_bytes(), Some(row.as_bytes()));
            batch.checkpoint(partition, &checkpoint(round));
        }
        batch.commit().expect("commits");
    }
    for partition in &partitions {
        assert_eq!(partition.checkpoint().expect("readable"), Some(checkpoint(400)));
        assert_eq!(dump(partition).len(), 400);
    }
}

#[test]
fn a_view_does_not_change_while_writes_go_on() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let partition = store.partition(PartitionId(0)).expect("opens");
    commit(&store, &partition, &[("a\0x", Some("1")), ("a\0y", Some("2"))], 1);
    let mut view = partition.rows((Bound::Unbounded, Bound::Unbounded));
    commit(&store, &partition, &[("a\0x", Some("9")), ("a\0y", None), ("a\0z", Some("9"))], 2);
    let (key, value) = view.next_back().expect("a row").expect("readable");
    assert_eq!((key.as_slice(), value.as_slice()), (b"a\0y".as_slice(), b"2".as_slice()));
    let (key, value) = view.next().expect("a row").expect("readable");
    assert_eq!((key.as_slice(), value.as_slice()), (b"a\0x".as_slice(), b"1".as_slice()));
    assert!(view.next().is_none());
    let range = (Bound::Excluded(b"a\0x".as_slice()), Bound::Excluded(b"a\0zz".as_slice()));
    assert_eq!(partition.rows(range).count(), 1);
}

#[test]
fn loaded_rows_survive_a_reopen_and_come_in_order() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let (from, to) =
        (store.partition(PartitionId(1)).expect("opens"), store.partition(PartitionId(2)).expect("opens"));
    commit(&store, &from, &[("a\0x", Some("1")), ("a\0y", Some("2"))], 7);
    commit(&store, &to, &[("old\0row", Some("0"))], 1);
    store.drop_partition(to).expect("drops");
    let to = store.partition(PartitionId(2)).expect("opens afresh");
    assert!(to.is_empty().expect("readable") && to.checkpoint().expect("readable").is_none());
    assert_eq!(to.ingest(from.rows((Bound::Unbounded, Bound::Unbounded))).expect("loads"), 2);
    assert_eq!(to.checkpoint().expect("readable"), None);
    commit(&store, &to, &[], 7);
    let unordered = [b"b\0b", b"a\0a"].map(|key| Ok((StoredBytes(key.into()), StoredBytes(b"1".into()))));
    let third = store.partition(PartitionId(3)).expect("opens");
    assert!(matches!(third.ingest(unordered.into_iter()), Err(StoreError::Corrupt { .. })));
    drop((from, to, third, store));
    let store = Store::open(dir.path(), &StoreOptions::default()).expect("opens again");
    let to = store.partition(PartitionId(2)).expect("opens");
    assert_eq!(dump(&to), pairs(&[("a\0x", "1"), ("a\0y", "2")]));
    assert_eq!(to.checkpoint().expect("readable"), Some(checkpoint(7)));
    store.drop_partition(to).expect("drops");
    assert_eq!(store.partitions(), [PartitionId(1), PartitionId(3)]);
}

#[test]
fn a_partition_may_go_and_come_back_any_number_of_times() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let open = || Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let coming_and_going = || (1..4).map(PartitionId);
    let staying = PartitionId(0);
    for round in 1..4 {
        let store = open();
        commit(&store, &store.partition(staying).expect("opens"), &[("a\0x", Some("1"))], round);
        // Never written to, so that no journal remembers their numbers.
        let empty: Vec<PartitionStore> =
            coming_and_going().map(|partition| store.partition(partition).expect("opens")).collect();
        empty.into_iter().for_each(|partition| store.drop_partition(partition).expect("drops"));
        drop(store);
        let store = open();
        assert_eq!(store.partitions(), [staying]);
        for partition in coming_and_going() {
            let partition = store.partition(partition).expect("opens");
            commit(&store, &partition, &[("a\0x", Some("2"))], round);
        }
        drop(store);
        let store = open();
        for partition in coming_and_going() {
            let partition = store.partition(partition).expect("opens");
            assert_eq!(partition.checkpoint().expect("readable"), Some(checkpoint(round)), "round {round}");
            assert_eq!(dump(&partition), pairs(&[("a\0x", "2")]));
            store.drop_partition(partition).expect("drops");
        }
    }
}

#[test]
fn errors_tell_what_to_do() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let _held = Store::open(dir.path(), &StoreOptions::default()).expect("opens");
    let error = Store::open(dir.path(), &StoreOptions::default()).expect_err("held");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let place = || Place::partition(Path::new("/srv/db"), PartitionId(5));
    let full = place().error(fjall::Error::Io(std::io::Error::from_raw_os_error(28)));
    assert!(matches!(full, StoreError::Full { .. }));
    assert!(full.to_string().starts_with("partition 5 in /srv/db: the disk is full"), "{full}");
    assert!(matches!(place().error(fjall::Error::Poisoned), StoreError::Poisoned { .. }));
    let denied = fjall::Error::Io(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    assert!(matches!(place().error(denied), StoreError::Io { .. }));
    assert!(matches!(place().error(fjall::Error::Unrecoverable), StoreError::Corrupt { .. }));
}

#[test]
fn partition_names_are_read_back() {
    assert_eq!(keyspace_name(PartitionId(17)), "p00017");
    assert_eq!(parse_name("p00017"), Some(PartitionId(17)));
    for name in ["p17", "q00017", "p", "p000017", "p+0017"] {
        assert_eq!(parse_name(name), None, "{name}");
    }
    assert_eq!(shard_path(Path::new("/srv"), 3), Path::new("/srv/shard-003"));
}

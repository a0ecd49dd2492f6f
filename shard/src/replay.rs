//! Replay: the oracle. The state of a partition computed from its log alone, by the same pure apply, into a
//! map.
//!
//! Whatever a store, a crash, a move or a backup did, the partition's rows must equal this.
//!
//! **Runs on** any thread; for tests and for verifying a node. Holds the whole partition in memory.

use crate::apply::{Applier, LogEntry, NewRow, Rows};
use crate::key::PartitionId;
use crate::record::{Stored, encode_record};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;

/// Rows by encoded key, as stored bytes.
pub type ReplayedRows = BTreeMap<Vec<u8>, Vec<u8>>;

struct Replayed(ReplayedRows);

impl Rows for Replayed {
    type Error = Infallible;

    fn read<T>(&mut self, key: &[u8], with: impl FnOnce(Option<Stored<'_>>) -> T) -> Result<T, Infallible> {
        let row =
            self.0.get(key).map(|bytes| Stored::decode(bytes).expect("this replay encoded the row itself"));
        Ok(with(row))
    }

    fn write(&mut self, key: &[u8], _pk: &str, _sk: &str, row: NewRow<'_>) {
        match row {
            Some((meta, data)) => self.0.insert(key.to_vec(), encode_record(&meta, data).to_vec()),
            None => self.0.remove(key),
        };
    }
}

/// Applies the messages of one partition, in order, to nothing. `partitions` is the log's number of
/// partitions.
pub fn replay(
    entries: impl IntoIterator<Item = LogEntry>,
    partition: PartitionId,
    partitions: NonZeroU32,
) -> ReplayedRows {
    let mut applier = Applier::new(partitions);
    let mut rows = Replayed(ReplayedRows::new());
    for entry in entries {
        // Skipped messages leave the rows as they are.
        let Ok(_) = applier.apply(partition, &entry, &mut rows);
    }
    rows.0
}

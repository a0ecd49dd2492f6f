//! Exports: a whole partition in key order, as rows for moving and hashing or as lines for people and tools.
//!
//! **Runs on** the shard's executor.

use crate::hash::StateHash;
use crate::key::{Offset, PartitionId, split_key};
use crate::merge::{Merge, MergedRow};
use crate::partition::Partition;
use crate::quota::Quota;
use crate::record::{Stored, render_into};
use crate::scan::Progress;
use crate::unavailable::Unavailable;
use std::ops::Bound;
use std::time::Duration;

/// A running export: a consistent view of the partition at the moment it began.
pub struct Export {
    partition: PartitionId,
    next: Offset,
    rows: Merge,
}

/// A row of an export.
pub struct ExportRow(MergedRow);

impl ExportRow {
    /// The encoded key.
    pub fn key(&self) -> &[u8] {
        self.0.key()
    }

    /// The stored bytes.
    pub fn stored(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Export {
    pub(crate) fn new(partition: &Partition) -> Export {
        let rows = Merge::new(partition, (Bound::Unbounded, Bound::Unbounded), false);
        Export { partition: partition.id(), next: partition.applied.next, rows }
    }

    /// The first offset that the view does not include.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The next row, `None` at the end.
    ///
    /// # Errors
    /// [`Unavailable`] when a row cannot be read; the export cannot go on.
    pub fn next_row(&mut self) -> Result<Option<ExportRow>, Unavailable> {
        Ok(self.rows.next()?.map(ExportRow))
    }

    /// Appends records as lines of JSON, each ended by a newline, until `max_bytes` more are in `out`
    /// (exceeded by at most one record), the budget is used up, or the end is reached. Each call makes
    /// progress.
    ///
    /// # Errors
    /// [`Unavailable`] when a row cannot be read; the export cannot go on.
    pub fn fill(
        &mut self,
        out: &mut Vec<u8>,
        max_bytes: usize,
        budget: Duration,
    ) -> Result<Progress, Unavailable> {
        let mut quota = Quota::new(out.len(), max_bytes, budget);
        while let Some(row) = self.rows.next()? {
            let failed = |what: &str| Unavailable::failed(self.partition, &what);
            let (pk, sk) = split_key(row.key()).ok_or_else(|| failed("a key in the store is damaged"))?;
            let stored = Stored::decode(row.bytes()).map_err(|error| failed(&error.to_string()))?;
            render_into(pk, sk, &stored, out);
            out.push(b'\n');
            if quota.spent(row.bytes().len(), out.len()) {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    /// Walks the rest of the export and hashes it. Takes as long as the partition is large.
    ///
    /// # Errors
    /// [`Unavailable`] when a row cannot be read.
    pub fn hash(mut self) -> Result<StateHash, Unavailable> {
        let mut hash = StateHash::new();
        while let Some(row) = self.rows.next()? {
            hash.update(row.key(), row.bytes());
        }
        Ok(hash)
    }
}

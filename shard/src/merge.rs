//! Overlay and store as one ordered view.
//!
//! Both halves are taken in the same step on the executor. The store's snapshot may already hold some write
//! sets of the overlay and not others; since the overlay's row wins wherever it has one, the view is exactly
//! what was applied.
//!
//! **Runs on** the shard's executor; a view may be carried on while the partition changes.

use crate::key::PartitionId;
use crate::overlay::Row;
use crate::partition::Partition;
use crate::store::{StoredBytes, StoredRows};
use crate::unavailable::Unavailable;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;

/// Which rows of a partition.
pub(crate) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A row of the view.
pub(crate) enum MergedRow {
    Stored(StoredBytes, StoredBytes),
    Pending(Bytes, Bytes),
}

impl MergedRow {
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            MergedRow::Stored(key, _) => key.as_slice(),
            MergedRow::Pending(key, _) => key,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            MergedRow::Stored(_, bytes) => bytes.as_slice(),
            MergedRow::Pending(_, bytes) => bytes,
        }
    }
}

/// The view, walked once from one end.
pub(crate) struct Merge {
    partition: PartitionId,
    /// `None` when the range holds nothing by construction.
    stored: Option<StoredRows>,
    /// The store's next row, taken out to be compared.
    head: Option<(StoredBytes, StoredBytes)>,
    pending: VecDeque<(Bytes, Row)>,
    reverse: bool,
}

impl Merge {
    pub(crate) fn new(partition: &Partition, range: Range<'_>, reverse: bool) -> Merge {
        let empty = crosses(range);
        Merge {
            partition: partition.id(),
            stored: (!empty).then(|| partition.store.rows(range)),
            head: None,
            pending: if empty { VecDeque::new() } else { partition.overlay.range(range).collect() },
            reverse,
        }
    }

    /// The next row in the direction of the walk.
    pub(crate) fn next(&mut self) -> Result<Option<MergedRow>, Unavailable> {
        loop {
            if self.head.is_none() {
                self.head = self.pull()?;
            }
            let pending = if self.reverse { self.pending.back() } else { self.pending.front() };
            let order = match (pending, &self.head) {
                (None, None) => return Ok(None),
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some((key, _)), Some((stored, _))) if self.reverse => stored.as_slice().cmp(key),
                (Some((key, _)), Some((stored, _))) => key.as_ref().cmp(stored.as_slice()),
            };
            if order == Ordering::Greater {
                return Ok(self.head.take().map(|(key, bytes)| MergedRow::Stored(key, bytes)));
            }
            if order == Ordering::Equal {
                self.head = None;
            }
            let next = if self.reverse { self.pending.pop_back() } else { self.pending.pop_front() };
            if let Some((key, Some(bytes))) = next {
                return Ok(Some(MergedRow::Pending(key, bytes)));
            }
            // A pending deletion hides the store's row.
        }
    }

    fn pull(&mut self) -> Result<Option<(StoredBytes, StoredBytes)>, Unavailable> {
        let Some(stored) = &mut self.stored else { return Ok(None) };
        let row = if self.reverse { stored.next_back() } else { stored.next() };
        row.transpose().map_err(|error| Unavailable::failed(self.partition, &error))
    }
}

/// Whether the bounds leave nothing between them; trees refuse to be asked that.
fn crosses((lower, upper): Range<'_>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (
            Bound::Included(lower) | Bound::Excluded(lower),
            Bound::Included(upper) | Bound::Excluded(upper),
        ) => lower >= upper,
    }
}

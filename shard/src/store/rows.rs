//! Rows as they come out of a store.

use super::error::{Place, StoreError};

/// Bytes held by the store; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBytes(pub(super) fjall::Slice);

impl StoredBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for StoredBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for StoredBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The rows of a range in key order, from either end, as they were when the range was opened.
pub struct StoredRows {
    rows: fjall::Iter,
    place: Place,
}

impl StoredRows {
    pub(super) fn new(rows: fjall::Iter, place: Place) -> StoredRows {
        StoredRows { rows, place }
    }

    fn open(&self, row: Option<fjall::Guard>) -> Option<Result<(StoredBytes, StoredBytes), StoreError>> {
        let row = row?.into_inner().map_err(|error| self.place.clone().error(error));
        Some(row.map(|(key, value)| (StoredBytes(key), StoredBytes(value))))
    }
}

impl Iterator for StoredRows {
    type Item = Result<(StoredBytes, StoredBytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next();
        self.open(row)
    }
}

impl DoubleEndedIterator for StoredRows {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.rows.next_back();
        self.open(row)
    }
}

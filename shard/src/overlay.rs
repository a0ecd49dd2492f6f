//! The overlay: rows of a partition that are applied but not yet committed to its store.
//!
//! Apply writes here first, which makes a delivery readable at once and a batch readable as a whole. The
//! writer thread commits behind it; a row leaves when the newest write of its key is committed. Serving it
//! meanwhile is safe because the log holds it and the checkpoint says where a restart begins.
//!
//! **Runs on** the shard's executor.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Number of a write set of this shard, ascending from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u64);

/// A row as it will be in the store: `None` is deleted.
pub(crate) type Row = Option<Bytes>;

/// One row of a write set.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Bytes,
    pub(crate) row: Row,
}

#[derive(Debug)]
struct Pending {
    row: Row,
    /// The newest write set that holds the key, and the place in it.
    seq: Seq,
    place: u32,
}

/// Rows in key order.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Bytes, Pending>,
    bytes: usize,
}

impl Overlay {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of keys and rows.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pending row at `key`: outer `None` when the store decides.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Row> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(key).map(|pending| &pending.row)
    }

    /// Puts a row in, and into the write set `seq` under construction. Within a write set a key occurs once,
    /// because rows of one atomic batch have no order in the store.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        own_key: impl FnOnce() -> Bytes,
        row: Row,
        seq: Seq,
        set: &mut Vec<Write>,
    ) {
        let size = row_bytes(&row);
        if let Some(pending) = self.rows.get_mut(key) {
            self.bytes = self.bytes - row_bytes(&pending.row) + size;
            pending.row.clone_from(&row);
            if pending.seq == seq {
                set[pending.place as usize].row = row;
                return;
            }
            (pending.seq, pending.place) = (seq, set.len() as u32);
            set.push(Write { key: own_key(), row });
            return;
        }
        let own = own_key();
        self.bytes += own.len() + size;
        self.rows.insert(own.clone(), Pending { row: row.clone(), seq, place: set.len() as u32 });
        set.push(Write { key: own, row });
    }

    /// Drops the rows of a committed write set that no later write set changed.
    pub(crate) fn committed(&mut self, seq: Seq, set: &[Write]) {
        for write in set {
            if self.rows.get(&write.key).is_some_and(|pending| pending.seq <= seq)
                && let Some(pending) = self.rows.remove(&write.key)
            {
                self.bytes -= write.key.len() + row_bytes(&pending.row);
            }
        }
    }

    /// The rows within a range, in key order. Bounds must not cross.
    pub(crate) fn range<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = (Bytes, Row)> + use<'a> {
        self.rows.range::<[u8], _>(range).map(|(key, pending)| (key.clone(), pending.row.clone()))
    }

    pub(crate) fn clear(&mut self) {
        *self = Overlay::default();
    }
}

fn row_bytes(row: &Row) -> usize {
    row.as_ref().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(
        overlay: &mut Overlay,
        key: &'static str,
        row: Option<&'static str>,
        seq: u64,
        set: &mut Vec<Write>,
    ) {
        let own = || Bytes::from_static(key.as_bytes());
        overlay.put(key.as_bytes(), own, row.map(|row| Bytes::from_static(row.as_bytes())), Seq(seq), set);
    }

    #[test]
    fn a_row_leaves_with_its_newest_write_only() {
        let (mut overlay, mut first, mut second) = (Overlay::default(), Vec::new(), Vec::new());
        put(&mut overlay, "a", Some("1"), 1, &mut first);
        put(&mut overlay, "b", Some("1"), 1, &mut first);
        put(&mut overlay, "a", Some("22"), 2, &mut second);
        assert_eq!(overlay.bytes(), 1 + 2 + 1 + 1);
        overlay.committed(Seq(1), &first);
        assert_eq!(overlay.get(b"a"), Some(&Some(Bytes::from_static(b"22"))));
        assert_eq!(overlay.get(b"b"), None);
        overlay.committed(Seq(2), &second);
        assert_eq!((overlay.len(), overlay.bytes()), (0, 0));
    }

    #[test]
    fn a_key_occurs_once_in_a_write_set() {
        let (mut overlay, mut set) = (Overlay::default(), Vec::new());
        put(&mut overlay, "a", Some("1"), 1, &mut set);
        put(&mut overlay, "a", None, 1, &mut set);
        put(&mut overlay, "b", Some("1"), 1, &mut set);
        put(&mut overlay, "a", Some("3"), 1, &mut set);
        let rows: Vec<_> = set.iter().map(|write| (write.key.as_ref(), write.row.as_deref())).collect();
        assert_eq!(rows, [(b"a".as_slice(), Some(b"3".as_slice())), (b"b", Some(b"1"))]);
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(overlay.range(all).count(), 2);
        overlay.clear();
        assert_eq!((overlay.len(), overlay.bytes()), (0, 0));
    }
}

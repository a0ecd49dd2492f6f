//! Scans: the rows of a listing, filtered and rendered into a growing response.
//!
//! A scan is a consistent view of its partition at the moment it began. It is filled in slices, bounded in
//! bytes and in time, so that a listing of any length costs bounded memory and never holds up its core.
//!
//! **Runs on** the shard's executor.

use crate::condition::Condition;
use crate::key::PartitionId;
use crate::merge::{Merge, MergedRow};
use crate::partition::Partition;
use crate::quota::Quota;
use crate::record::{Stored, render_into};
use crate::unavailable::Unavailable;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

/// What to list: the records of one pk in byte order of sk.
#[derive(Clone, Debug, Default)]
pub struct ScanRange {
    /// Partition key.
    pub pk: String,
    /// Only sks that start with this; the record whose sk equals it is skipped.
    pub sk_prefix: String,
    /// Only sks greater than this.
    pub sk_after: Option<String>,
    /// Only sks less than this.
    pub sk_before: Option<String>,
    /// From the end.
    pub reverse: bool,
    /// Most records, counting matching ones; 0 is no limit.
    pub limit: u64,
    /// Records on which it is false, or fails, are left out.
    pub condition: Option<Rc<Condition>>,
    /// The first record left out by the condition ends the scan.
    pub if_stop: bool,
}

/// Whether more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// The scan is at its end.
    Done,
}

/// A running scan.
pub struct Scan {
    partition: PartitionId,
    rows: Merge,
    pk: String,
    condition: Option<Rc<Condition>>,
    if_stop: bool,
    /// Records still wanted; `None` is all.
    wanted: Option<u64>,
    emitted: u64,
    failed_conditions: u64,
    done: bool,
}

impl Scan {
    pub(crate) fn new(partition: &Partition, range: ScanRange) -> Scan {
        let prefix = key(&range.pk, &range.sk_prefix);
        let after = range.sk_after.as_ref().map(|sk| key(&range.pk, sk));
        let before = range.sk_before.as_ref().map(|sk| key(&range.pk, sk));
        let behind_prefix = successor(&prefix);
        // The record at the prefix itself is skipped.
        let lower = after.as_deref().map_or(prefix.as_slice(), |after| after.max(&prefix));
        let upper = before.as_deref().map_or(behind_prefix.as_slice(), |before| before.min(&behind_prefix));
        let rows = Merge::new(partition, (Bound::Excluded(lower), Bound::Excluded(upper)), range.reverse);
        Scan {
            partition: partition.id(),
            rows,
            pk: range.pk,
            condition: range.condition,
            if_stop: range.if_stop,
            wanted: (range.limit > 0).then_some(range.limit),
            emitted: 0,
            failed_conditions: 0,
            done: false,
        }
    }

    /// Appends rendered records to `out`, with a comma before each but the very first of the scan, until
    /// `max_bytes` more are in it (exceeded by at most one record), the budget is used up, or the scan is
    /// done. Each call makes progress.
    ///
    /// # Errors
    /// [`Unavailable`] when a row cannot be read; the scan cannot go on.
    pub fn fill(
        &mut self,
        out: &mut Vec<u8>,
        max_bytes: usize,
        budget: Duration,
    ) -> Result<Progress, Unavailable> {
        let mut quota = Quota::new(out.len(), max_bytes, budget);
        while !self.done {
            match self.rows.next()? {
                None => self.done = true,
                Some(row) => {
                    self.take(&row, out)?;
                    if !self.done && quota.spent(row.bytes().len(), out.len()) {
                        return Ok(Progress::More);
                    }
                }
            }
        }
        Ok(Progress::Done)
    }

    /// Records rendered so far.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Records on which the condition failed, which counts as false.
    pub fn failed_conditions(&self) -> u64 {
        self.failed_conditions
    }

    fn take(&mut self, row: &MergedRow, out: &mut Vec<u8>) -> Result<(), Unavailable> {
        let failed = |what: &str| Unavailable::failed(self.partition, &what);
        let sk = row.key().get(self.pk.len() + 1..).and_then(|sk| std::str::from_utf8(sk).ok());
        let sk = sk.ok_or_else(|| failed("a key in the store is damaged"))?;
        let stored = Stored::decode(row.bytes()).map_err(|error| failed(&error.to_string()))?;
        if let Some(condition) = &self.condition {
            let holds = condition.evaluate(&self.pk, sk, Some(&stored)).unwrap_or_else(|_| {
                self.failed_conditions += 1;
                false
            });
            if !holds {
                self.done = self.if_stop;
                return Ok(());
            }
        }
        if self.emitted > 0 {
            out.push(b',');
        }
        render_into(&self.pk, sk, &stored, out);
        self.emitted += 1;
        self.done = self.wanted.is_some_and(|wanted| self.emitted >= wanted);
        Ok(())
    }
}

/// The encoded key of a bound, which need not be a valid key.
fn key(pk: &str, sk: &str) -> Vec<u8> {
    let mut key = Vec::new();
    crate::key::encode_key(pk, sk, &mut key);
    key
}

/// The least key behind all keys that start with `prefix`. The last byte is of UTF-8 or the separator, never
/// 0xff.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    if let Some(last) = next.last_mut() {
        *last += 1;
    }
    next
}

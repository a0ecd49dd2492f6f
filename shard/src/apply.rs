//! Apply: what a message of the log does to the rows of its partition.
//!
//! State is a function of the log, so everything here is pure: the only inputs are the message, the log's
//! timestamp and the rows as they are; there is no clock, no randomness and no waiting. Every replica that
//! applies the same messages holds the same bytes.
//!
//! - A put keeps the creation time of the row that it replaces. A delete of an absent row applies.
//! - In a batch, later operations see what earlier ones did; if any `if` is false or fails, nothing of it
//!   applies.
//! - Undecodable messages and false conditions are verdicts, not errors: they are counted and the log goes
//!   on.
//!
//! **Runs on** the shard's executor; the replay oracle runs the very same code.

use crate::condition::Conditions;
use crate::key::{Offset, PartitionId, encode_key, partition_of};
use crate::mutation::{DecodeError, Mutation, MutationDecoder, Operation};
use crate::record::{Meta, Stored};
use bytes::Bytes;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// One message of the log as it was delivered.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Position in the partition.
    pub offset: Offset,
    /// When the log received the message, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The message's bytes.
    pub value: Bytes,
}

/// How many messages met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Took effect.
    pub applied: u64,
    /// Had a condition that was false.
    pub refused: u64,
    /// Had a condition that could not be compiled or evaluated, which counts as false.
    pub erred: u64,
    /// Could not be decoded, or held an operation of another partition.
    pub undecodable: u64,
}

impl Applied {
    pub(crate) fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Applied => self.applied += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::Erred => self.erred += 1,
            Verdict::Undecodable(_) => self.undecodable += 1,
        }
    }

    /// Adds the counts of another delivery.
    pub fn add(&mut self, other: Applied) {
        self.applied += other.applied;
        self.refused += other.refused;
        self.erred += other.erred;
        self.undecodable += other.undecodable;
    }
}

/// The fate of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Applied,
    Refused,
    Erred,
    Undecodable(DecodeError),
}

/// A row as an operation leaves it: `None` is absent.
pub(crate) type NewRow<'a> = Option<(Meta, &'a [u8])>;

/// The rows of a partition, as apply reads and writes them.
pub(crate) trait Rows {
    /// Why a row could not be read; ends the delivery, because guessing would make replicas differ.
    type Error;

    /// Reads the row as it is now.
    fn read<T>(&mut self, key: &[u8], with: impl FnOnce(Option<Stored<'_>>) -> T) -> Result<T, Self::Error>;

    /// Writes the row; later reads see it.
    fn write(&mut self, key: &[u8], pk: &str, sk: &str, row: NewRow<'_>);
}

/// Applies messages; holds what is worth keeping between them.
pub(crate) struct Applier {
    partitions: NonZeroU32,
    decoder: MutationDecoder,
    conditions: Conditions,
    key: Vec<u8>,
}

impl Applier {
    /// `partitions` is the number of partitions of the log.
    pub(crate) fn new(partitions: NonZeroU32) -> Applier {
        Applier {
            partitions,
            decoder: MutationDecoder::new(),
            conditions: Conditions::new(),
            key: Vec::new(),
        }
    }

    /// Applies one message of `partition` to its rows.
    pub(crate) fn apply<R: Rows>(
        &mut self,
        partition: PartitionId,
        entry: &LogEntry,
        rows: &mut R,
    ) -> Result<Verdict, R::Error> {
        let mutation = match self.decoder.decode(&entry.value) {
            Ok(mutation) => mutation,
            Err(error) => return Ok(Verdict::Undecodable(error)),
        };
        for operation in mutation.operations() {
            if partition_of(operation.pk().as_bytes(), self.partitions) != partition {
                let pk = operation.pk().chars().take(64).collect();
                return Ok(Verdict::Undecodable(DecodeError::ForeignPartition { pk }));
            }
        }
        match &mutation {
            Mutation::One(operation) => {
                self.key.clear();
                encode_key(operation.pk(), operation.sk(), &mut self.key);
                let key = &self.key;
                let decision = rows.read(key, |row| decide(&mut self.conditions, operation, row, entry))?;
                Ok(match decision {
                    Ok(row) => {
                        rows.write(key, operation.pk(), operation.sk(), row);
                        Verdict::Applied
                    }
                    Err(verdict) => verdict,
                })
            }
            Mutation::Batch(operations) => apply_batch(&mut self.conditions, operations, entry, rows),
        }
    }
}

/// The row that an operation leaves behind, or the verdict of its false condition.
fn decide<'a>(
    conditions: &mut Conditions,
    operation: &Operation<'a>,
    row: Option<Stored<'_>>,
    entry: &LogEntry,
) -> Result<NewRow<'a>, Verdict> {
    if let Some(text) = operation.condition() {
        let condition = conditions.get(text).map_err(|_| Verdict::Erred)?;
        match condition.evaluate(operation.pk(), operation.sk(), row.as_ref()) {
            Ok(true) => {}
            Ok(false) => return Err(Verdict::Refused),
            Err(_) => return Err(Verdict::Erred),
        }
    }
    Ok(match operation {
        Operation::Delete { .. } => None,
        Operation::Put { data, .. } => {
            let created_ms = row.map_or(entry.timestamp_ms, |row| row.meta.created_ms);
            let meta = Meta { created_ms, updated_ms: entry.timestamp_ms, offset: entry.offset };
            Some((meta, *data))
        }
    })
}

/// Decides every operation against the staged rows first, and writes only when all of them hold.
fn apply_batch<R: Rows>(
    conditions: &mut Conditions,
    operations: &[Operation<'_>],
    entry: &LogEntry,
    rows: &mut R,
) -> Result<Verdict, R::Error> {
    let mut staged: Vec<(Vec<u8>, NewRow<'_>)> = Vec::with_capacity(operations.len());
    let mut newest: HashMap<Vec<u8>, usize> = HashMap::with_capacity(operations.len());
    for (place, operation) in operations.iter().enumerate() {
        let mut key = Vec::new();
        encode_key(operation.pk(), operation.sk(), &mut key);
        let decision = match newest.get(&key) {
            Some(earlier) => {
                let row = staged[*earlier].1.map(|(meta, data)| Stored { meta, data });
                decide(conditions, operation, row, entry)
            }
            None => rows.read(&key, |row| decide(conditions, operation, row, entry))?,
        };
        match decision {
            Ok(row) => {
                newest.insert(key.clone(), place);
                staged.push((key, row));
            }
            Err(verdict) => return Ok(verdict),
        }
    }
    for (operation, (key, row)) in operations.iter().zip(&staged) {
        rows.write(key, operation.pk(), operation.sk(), *row);
    }
    Ok(Verdict::Applied)
}

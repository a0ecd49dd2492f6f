//! FireScroll's shard: records, conditions, apply, and the store of one core. A synchronous library without a
//! runtime.
//!
//! The way of a mutation: `mutation` (log bytes) → `apply` (a pure decision, with `condition`) → `partition`
//! (overlay and cache, readable from here) → `writer` (commit, on its own thread) → `store`. The way of a
//! read: `owner` → `cache` → `overlay` → `store`; a listing goes through `merge` and `scan`. `owner` ties it
//! together and is what an executor drives. `replay` computes the same state from the log alone, `hash`
//! compares states, `reshard` moves partitions between stores when the number of shards changes.
//!
//! **Architecture invariants**: state is a function of the log; only `store` knows fjall; only `writer`
//! commits; nothing here reads a clock to decide anything; nothing here knows HTTP, the log's transport or
//! other cores.

mod apply;
mod cache;
mod condition;
mod export;
mod hash;
mod json;
mod key;
mod merge;
mod mutation;
mod overlay;
mod owner;
mod partition;
mod quota;
mod record;
mod replay;
mod reshard;
mod scan;
mod store;
mod timestamp;
mod unavailable;
mod writer;

pub use apply::{Applied, LogEntry};
pub use condition::{
    Condition, ConditionError, Conditions, EvaluationError, MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH,
};
pub use export::{Export, ExportRow};
pub use hash::StateHash;
pub use json::{Elements, Json, JsonError, JsonKind, JsonReader, MAX_DEPTH, Members, escape_into, minify};
pub use key::{
    CHECKPOINT_KEY, KeyError, MAX_KEY_BYTES, Offset, PartitionId, check_key, encode_key, partition_of,
    split_key,
};
pub use mutation::{
    DecodeError, Mutation, MutationDecoder, Operation, encode_batch, encode_delete, encode_put,
};
pub use owner::{
    CacheStatus, Closing, OpenedPartition, Opener, Owner, OwnerOptions, PartitionStatus, PreparedOwner,
};
pub use record::{Meta, Record, RecordError, Stored, encode_record};
pub use replay::{ReplayedRows, replay};
pub use reshard::{ReshardHook, ReshardReport, ReshardStep, reshard};
pub use scan::{Progress, Scan, ScanRange};
pub use store::{
    Batch, Checkpoint, PartitionStore, Place, Store, StoreError, StoreOptions, StoredBytes, StoredRows,
    shard_path,
};
pub use timestamp::{RFC3339_LEN, rfc3339_millis};
pub use unavailable::Unavailable;
pub use writer::{Closed, Completion, PERSIST_INTERVAL, WriterHook, WriterStep};

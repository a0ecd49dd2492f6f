//! Session tokens: `FireScroll-Session: <partition>:<offset>[,…]`.
//!
//! A write answers with the offsets that the log gave it; a read that sends them back is answered from a state that
//! holds them. A client keeps the greatest offset of each partition, which is why a list may name a partition once only
//! as far as we print it, and any number of times as far as we read it.
//!
//! Runs on: serving cores. Not here: the waiting (`core`).

use std::num::NonZeroU32;
use std::time::Duration;

use firescroll_shard::{Offset, PartitionId};
use http::HeaderMap;

use crate::error::ApiError;

/// The header of a token, in answers and requests.
pub const SESSION: &str = "firescroll-session";
/// How long a read may wait for its token's positions, in ms.
pub const WAIT_MS: &str = "firescroll-wait-ms";

const DEFAULT_WAIT: Duration = Duration::from_millis(1000);
/// A client can ask for more; it gets this. A waiting request holds a connection and a place among the requests.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A mutation's place in the log: everything up to and with it must have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The partition.
    pub partition: PartitionId,
    /// The mutation's offset.
    pub offset: Offset,
}

/// What a read waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The greatest position of each partition, ascending.
    pub positions: Vec<Position>,
    /// How long to wait.
    pub wait: Duration,
}

impl Session {
    /// The request's session, if it sends one.
    ///
    /// # Errors
    /// A token or a waiting time that does not read.
    pub fn of(headers: &HeaderMap, partitions: NonZeroU32) -> Result<Option<Self>, ApiError> {
        // Most requests have none, and few headers: comparing their names is cheaper than hashing this one.
        if headers.keys().all(|name| name.as_str() != SESSION) {
            return Ok(None);
        }
        let mut positions = Vec::new();
        for value in headers.get_all(SESSION) {
            let text = value.to_str().unwrap_or("");
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                positions.push(position(part, partitions)?);
            }
        }
        Ok(Some(Self { positions: greatest(positions), wait: wait(headers)? }))
    }
}

/// The header value of an acknowledged write.
#[must_use]
pub fn token(positions: Vec<Position>) -> String {
    let mut out = String::new();
    for position in greatest(positions) {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&format!("{}:{}", position.partition, position.offset));
    }
    out
}

fn greatest(mut positions: Vec<Position>) -> Vec<Position> {
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.dedup_by_key(|position| position.partition);
    positions.reverse();
    positions
}

fn position(text: &str, partitions: NonZeroU32) -> Result<Position, ApiError> {
    let parsed = text.split_once(':').and_then(|(partition, offset)| {
        Some(Position {
            partition: PartitionId(partition.parse().ok()?),
            offset: Offset(offset.parse().ok()?),
        })
    });
    match parsed {
        Some(position) if position.partition.0 < partitions.get() => Ok(position),
        Some(position) => Err(ApiError::Invalid(format!(
            "FireScroll-Session names partition {}; this namespace has partitions 0 to {}",
            position.partition,
            partitions.get() - 1
        ))),
        None => Err(ApiError::Invalid(format!(
            "FireScroll-Session: {text:?} is not <partition>:<offset>; send back the header of a write's answer as it came"
        ))),
    }
}

fn wait(headers: &HeaderMap) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(WAIT_MS) else { return Ok(DEFAULT_WAIT) };
    let ms: Option<u64> = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match ms {
        Some(ms) => Ok(Duration::from_millis(ms).min(LONGEST_WAIT)),
        None => Err(ApiError::Invalid(format!(
            "FireScroll-Wait-Ms: {value:?} is not a whole number of milliseconds"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("header value"));
        }
        map
    }

    fn at(partition: u32, offset: u64) -> Position {
        Position { partition: PartitionId(partition), offset: Offset(offset) }
    }

    #[test]
    fn a_token_comes_back_as_positions() {
        let eight = NonZeroU32::new(8).expect("not zero");
        let text = token(vec![at(3, 5), at(1, 7), at(3, 9)]);
        assert_eq!(text, "1:7,3:9");
        let session = Session::of(&headers(&[(SESSION, &text), (WAIT_MS, "20")]), eight)
            .expect("reads")
            .expect("there");
        assert_eq!(session.positions, [at(1, 7), at(3, 9)]);
        assert_eq!(session.wait, Duration::from_millis(20));
    }

    #[test]
    fn wrong_tokens_are_refused_and_absent_ones_are_none() {
        let eight = NonZeroU32::new(8).expect("not zero");
        assert_eq!(Session::of(&headers(&[]), eight), Ok(None));
        for text in ["x", "1", "1:", "-1:2", "8:1", "1:2;3:4", "1:18446744073709551616"] {
            assert!(Session::of(&headers(&[(SESSION, text)]), eight).is_err(), "{text}");
        }
        assert!(Session::of(&headers(&[(SESSION, "1:2"), (WAIT_MS, "soon")]), eight).is_err());
    }
}

//! State hashes: equal states have equal hashes, so replicas, backups and a replay of the log can be
//! compared.
//!
//! **Runs on** any thread; pure.

use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// xxh3-128 over all records of a partition in key order, the checkpoint left out. Of each record go in:
/// length of the key (u32 LE), the key, length of the stored bytes (u32 LE), the stored bytes.
#[derive(Clone)]
pub struct StateHash {
    state: Xxh3,
}

impl Default for StateHash {
    fn default() -> Self {
        StateHash { state: Xxh3::new() }
    }
}

impl StateHash {
    /// The hash of no record.
    pub fn new() -> StateHash {
        StateHash::default()
    }

    /// Takes in the next record; keys ascend.
    pub fn update(&mut self, key: &[u8], stored: &[u8]) {
        for part in [key, stored] {
            self.state.update(&(part.len() as u32).to_le_bytes());
            self.state.update(part);
        }
    }

    /// The hash, most significant byte first.
    pub fn finish(&self) -> [u8; 16] {
        self.state.digest128().to_be_bytes()
    }

    /// The hash of rows in key order.
    pub fn of<'a>(rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> StateHash {
        let mut hash = StateHash::new();
        rows.into_iter().for_each(|(key, stored)| hash.update(key, stored));
        hash
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.state.digest128())
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

impl PartialEq for StateHash {
    fn eq(&self, other: &StateHash) -> bool {
        self.finish() == other.finish()
    }
}

impl Eq for StateHash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_borders_count() {
        let of = |rows: &[(&'static str, &'static str)]| {
            StateHash::of(rows.iter().map(|(key, stored)| (key.as_bytes(), stored.as_bytes())))
        };
        let hashes =
            [of(&[]), of(&[("a", "b")]), of(&[("ab", "")]), of(&[("", "ab")]), of(&[("a", "b"), ("c", "d")])];
        for (place, hash) in hashes.iter().enumerate() {
            assert!(hashes[..place].iter().all(|other| other != hash));
        }
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_eq!(of(&[("a", "b")]), of(&[("a", "b")]));
    }

    #[test]
    fn golden_hash() {
        assert_eq!(StateHash::new().to_string(), "99aa06d3014798d86001c324468d497f");
        let hex: String = StateHash::new().finish().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "99aa06d3014798d86001c324468d497f");
    }
}

//! Keys: the order-preserving encoding of (pk, sk), and the partition function.
//!
//! A record's key in a partition is `pk 0x00 sk`. Neither half may hold a NUL, so the encoding is
//! unambiguous, all records of one pk are neighbours, and among them the byte order of sk is the order of the
//! store. Keys that begin with 0x00 cannot belong to a record (a pk is never empty): the checkpoint lives
//! there.
//!
//! The partition of a pk is Kafka's: murmur2 with the sign bit masked, modulo the number of partitions. Every
//! producer of the log, whatever its language, therefore agrees with every reader.
//!
//! **Runs on** any thread; pure.

use std::fmt;
use std::num::NonZeroU32;

/// The longest encoded key (pk, the NUL and sk), in bytes. The store holds key lengths in 16 bits.
pub const MAX_KEY_BYTES: usize = 65_000;

/// Where a partition's checkpoint is kept: inside its own keyspace, so that it is written in the same atomic
/// batch as the rows that it covers. Starts with a NUL and is therefore never a record's key.
pub const CHECKPOINT_KEY: &[u8] = b"\0checkpoint";

/// What parts pk from sk in an encoded key.
const SEPARATOR: u8 = 0;

/// Number of a partition of the log, 0-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of a message in a partition of the log, 0-based. As `next` it is the first position not yet seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a pair of pk and sk cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The record cannot be addressed; the client sends a pk of at least one byte.
    #[error("pk is empty; it must hold at least one byte")]
    EmptyPk,
    /// The record cannot be addressed; the client sends an sk of at least one byte.
    #[error("sk is empty; it must hold at least one byte")]
    EmptySk,
    /// A NUL parts pk from sk in the store; the client leaves it out.
    #[error("pk holds a NUL (U+0000), which keys may not")]
    NulInPk,
    /// A NUL parts pk from sk in the store; the client leaves it out.
    #[error("sk holds a NUL (U+0000), which keys may not")]
    NulInSk,
    /// The store cannot hold a key of this length; the client shortens pk or sk.
    #[error("pk and sk together take {bytes} bytes; at most {max} are accepted", max = MAX_KEY_BYTES - 1)]
    TooLong {
        /// Bytes of pk and sk together.
        bytes: usize,
    },
}

/// Says whether (pk, sk) can be a record's key.
///
/// # Errors
/// [`KeyError`] names the half that is wrong.
pub fn check_key(pk: &str, sk: &str) -> Result<(), KeyError> {
    if pk.is_empty() {
        return Err(KeyError::EmptyPk);
    }
    if sk.is_empty() {
        return Err(KeyError::EmptySk);
    }
    if pk.len() + sk.len() + 1 > MAX_KEY_BYTES {
        return Err(KeyError::TooLong { bytes: pk.len() + sk.len() });
    }
    if memchr::memchr(SEPARATOR, pk.as_bytes()).is_some() {
        return Err(KeyError::NulInPk);
    }
    if memchr::memchr(SEPARATOR, sk.as_bytes()).is_some() {
        return Err(KeyError::NulInSk);
    }
    Ok(())
}

/// Appends the encoded key of (pk, sk) to `out`; the caller clears it.
pub fn encode_key(pk: &str, sk: &str, out: &mut Vec<u8>) {
    out.reserve(pk.len() + sk.len() + 1);
    out.extend_from_slice(pk.as_bytes());
    out.push(SEPARATOR);
    out.extend_from_slice(sk.as_bytes());
}

/// The (pk, sk) of an encoded key, or `None` for bytes that no record has as its key.
pub fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    let at = memchr::memchr(SEPARATOR, key)?;
    if at == 0 {
        return None;
    }
    Some((std::str::from_utf8(&key[..at]).ok()?, std::str::from_utf8(&key[at + 1..]).ok()?))
}

/// The partition that holds every record of `pk`.
pub fn partition_of(pk: &[u8], partitions: NonZeroU32) -> PartitionId {
    PartitionId((murmur2(pk) & 0x7fff_ffff) % partitions.get())
}

/// MurmurHash2, 32 bit, with the seed that Kafka's clients use.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    let (words, tail) = bytes.as_chunks::<4>();
    // Kafka's lengths are 32-bit integers; keys are far shorter.
    let mut hash = SEED ^ (bytes.len() as u32);
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MIX);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MIX) ^ k.wrapping_mul(MIX);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_agree_with_kafkas_clients() {
        let golden: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in golden {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_falls_into_a_valid_partition() {
        let ten = NonZeroU32::new(10).expect("ten is not zero");
        // -973932308 with the sign bit masked is 1173551340.
        assert_eq!(partition_of(b"21", ten), PartitionId(0));
        assert_eq!(partition_of(b"abc", ten), PartitionId(7));
        assert_eq!(partition_of(b"foobar", NonZeroU32::MIN), PartitionId(0));
    }

    #[test]
    fn the_checkpoint_is_no_records_key() {
        assert_eq!(split_key(CHECKPOINT_KEY), None);
        assert_eq!(split_key(b"no separator"), None);
        assert_eq!(split_key(b"\xff\0a"), None);
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(check_key("", "a"), Err(KeyError::EmptyPk));
        assert_eq!(check_key("a", ""), Err(KeyError::EmptySk));
        assert_eq!(check_key("a\0", "a"), Err(KeyError::NulInPk));
        assert_eq!(check_key("a", "\0a"), Err(KeyError::NulInSk));
        let long = "x".repeat(MAX_KEY_BYTES - 2);
        assert_eq!(check_key(&long, "a"), Ok(()));
        assert_eq!(check_key(&long, "ab"), Err(KeyError::TooLong { bytes: MAX_KEY_BYTES }));
    }

    proptest! {
        #[test]
        fn encoded_keys_keep_the_order_and_come_apart_again(
            a in ("[^\0]{1,6}", "[^\0]{1,6}"), b in ("[^\0]{1,6}", "[^\0]{1,6}"),
        ) {
            let encode = |pair: &(String, String)| {
                let mut key = Vec::new();
                encode_key(&pair.0, &pair.1, &mut key);
                key
            };
            let (left, right) = (encode(&a), encode(&b));
            prop_assert_eq!(split_key(&left), Some((a.0.as_str(), a.1.as_str())));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }
    }
}

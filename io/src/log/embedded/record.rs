//! One message as bytes in a segment. All numbers are little-endian.
//!
//! ```text
//!  0 length     u32  bytes after the crc field: 28 + key + value
//!  4 crc        u32  CRC-32 (IEEE) over the segment's salt and everything after this field
//!  8 group      u32  where the record's group starts in the file
//! 12 partition  u32
//! 16 offset     u64  dense within the partition, from 0
//! 24 timestamp  i64  Unix ms, never less than that of any record before it
//! 32 key length u32
//! 36 key, value
//! ```
//! A group is what one write and one sync made durable. The group field is a witness: everything below it was synced
//! before this record was written. Recovery needs it to tell a torn tail from damage.
//!
//! The salt makes record bytes inside of a client's value worthless: they do not pass for records.
//!
//! **Not here**: files and positions.

use std::ops::Range;

/// Bytes of a record before its key.
pub(crate) const RECORD_FIXED: usize = 36;
/// Bytes before those that `length` counts.
const PREFIX: usize = 8;

/// The state of the checksum after the segment's salt, from which every record of the segment starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed of a segment.
    pub(crate) fn new(salt: u64) -> Seed {
        Seed(crc32fast::hash(&salt.to_le_bytes()))
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The numbers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) group: u32,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: i64,
}

/// A whole record with a good checksum; the ranges are relative to the record's first byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl Record {
    /// All its bytes.
    pub(crate) fn len(&self) -> usize {
        self.value.end
    }
}

/// What the bytes at a record's place are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A record.
    Whole(Record),
    /// Fewer bytes than the record needs, counted from its start.
    Short { need: usize },
    /// Not a record.
    Bad(&'static str),
}

/// The size of a record.
pub(crate) fn encoded_len(key: &[u8], value: &[u8]) -> usize {
    RECORD_FIXED + key.len() + value.len()
}

/// Adds one record to `out`. Key and value together must fit in a u32; the option limits see to it.
pub(crate) fn encode(seed: Seed, stamp: Stamp, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = encoded_len(key, value) - PREFIX;
    assert!(length <= u32::MAX as usize, "the options bound a message far below 4 GiB");
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&stamp.group.to_le_bytes());
    out.extend_from_slice(&stamp.partition.to_le_bytes());
    out.extend_from_slice(&stamp.offset.to_le_bytes());
    out.extend_from_slice(&stamp.timestamp_ms.to_le_bytes());
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let crc = seed.crc(&out[start + PREFIX..]);
    out[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the record that starts with `bytes`.
pub(crate) fn parse(seed: Seed, bytes: &[u8]) -> Parsed {
    if bytes.len() < 4 {
        return Parsed::Short { need: RECORD_FIXED };
    }
    let length = u32_at(bytes, 0) as usize;
    if length < RECORD_FIXED - PREFIX {
        return Parsed::Bad("the record's length is impossible");
    }
    let end = PREFIX + length;
    if bytes.len() < end {
        return Parsed::Short { need: end };
    }
    if seed.crc(&bytes[PREFIX..end]) != u32_at(bytes, 4) {
        return Parsed::Bad("the record's checksum is wrong");
    }
    let key_end = RECORD_FIXED + u32_at(bytes, 32) as usize;
    if key_end > end {
        return Parsed::Bad("the record's key is longer than the record");
    }
    Parsed::Whole(Record { stamp: stamp(bytes), key: RECORD_FIXED..key_end, value: key_end..end })
}

/// The numbers of what may be a record, unchecked. `bytes` holds at least the fixed part.
pub(crate) fn stamp(bytes: &[u8]) -> Stamp {
    Stamp {
        group: u32_at(bytes, 8),
        partition: u32_at(bytes, 12),
        offset: u64_at(bytes, 16),
        timestamp_ms: u64_at(bytes, 24) as i64,
    }
}

/// Four bytes as a number; the caller knows that they are there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

/// Eight bytes as a number; the caller knows that they are there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { group: 0x0102, partition: 7, offset: 0x0a0b, timestamp_ms: 1_700_000_000_123 };

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        encode(Seed::new(0x1122_3344_5566_7788), STAMP, b"pk", b"{\"a\":1}", &mut out);
        out
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "25000000",
                "0b9cd6d1",
                "02010000",
                "07000000",
                "0b0a000000000000",
                "7b68e5cf8b010000",
                "02000000",
                "706b",
                "7b2261223a317d"
            )
        );
    }

    #[test]
    fn round_trip() {
        let bytes = sample();
        let Parsed::Whole(record) = parse(Seed::new(0x1122_3344_5566_7788), &bytes) else {
            panic!("a whole record was written")
        };
        assert_eq!(record.stamp, STAMP);
        assert_eq!(&bytes[record.key.clone()], b"pk");
        assert_eq!(&bytes[record.value.clone()], b"{\"a\":1}");
        assert_eq!(record.len(), bytes.len());
        assert_eq!(bytes.len(), encoded_len(b"pk", b"{\"a\":1}"));
    }

    #[test]
    fn every_short_prefix_is_short() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            let need = if cut < 4 { RECORD_FIXED } else { bytes.len() };
            assert_eq!(
                parse(Seed::new(0x1122_3344_5566_7788), &bytes[..cut]),
                Parsed::Short { need },
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(Seed::new(0x1122_3344_5566_7788), &bytes);
            assert!(!matches!(parsed, Parsed::Whole(_)), "bit {bit}");
        }
    }

    #[test]
    fn another_segments_record_does_not_pass() {
        assert_eq!(parse(Seed::new(1), &sample()), Parsed::Bad("the record's checksum is wrong"));
    }
}

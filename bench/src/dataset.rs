//! The records that a benchmark loads and reads: their keys, their data, and how an answer is checked.
//!
//! Everything follows from a record's number, so nothing has to be remembered: key `bench-00000042` / `record`, data
//! an object of exactly `value_bytes` bytes whose filling is derived from the number.
//!
//! **Not here**: which record is asked for next (`picker`).

use crate::error::{BenchError, Result};

/// Digits of a record's number in its key; so many records at most.
pub(crate) const DIGITS: usize = 8;
/// `{"id":"00000042","fill":"` and `"}`: the shortest data has one byte of filling.
const SHORTEST: usize = 28;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Records of one partition key in a data set for listings.
pub(crate) const LISTED: u32 = 100;

/// How records are keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every record has a partition key of its own.
    Single,
    /// [`LISTED`] records share a partition key and are told apart by their sort key.
    Listed,
}

/// A generated data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataSet {
    /// Number of records.
    pub(crate) records: u32,
    /// Length of each record's data, in bytes.
    pub(crate) value_bytes: usize,
    /// How the records are keyed.
    pub(crate) shape: Shape,
}

impl DataSet {
    /// Checks the sizes.
    pub(crate) fn new(records: u32, value_bytes: usize, shape: Shape) -> Result<Self> {
        if records == 0 || records as usize >= 10_usize.pow(DIGITS as u32) {
            return Err(BenchError::Usage(format!("--records {records}: from 1 to 99999999 are accepted")));
        }
        if value_bytes < SHORTEST {
            return Err(BenchError::Usage(format!(
                "--value-bytes {value_bytes}: at least {SHORTEST} are needed"
            )));
        }
        Ok(Self { records, value_bytes, shape })
    }

    /// Appends the partition key of record `n`.
    pub(crate) fn pk(&self, n: u32, out: &mut Vec<u8>) {
        match self.shape {
            Shape::Single => {
                out.extend_from_slice(b"bench-");
                out.extend_from_slice(&digits(n));
            }
            Shape::Listed => {
                out.extend_from_slice(b"bench-list-");
                out.extend_from_slice(&digits(n / LISTED));
            }
        }
    }

    /// Appends the sort key of record `n`.
    pub(crate) fn sk(&self, n: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"record");
        if self.shape == Shape::Listed {
            out.push(b'-');
            out.extend_from_slice(&digits(n % LISTED));
        }
    }

    /// Appends the data of record `n`: `value_bytes` bytes of JSON object.
    pub(crate) fn data(&self, n: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(&digits(n));
        out.extend_from_slice(b"\",\"fill\":\"");
        let fill = self.value_bytes - (out.len() - start) - 2;
        let mut state = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut left = fill;
        while left > 0 {
            // Ten letters of six bits from each step.
            let mut bits = mix(&mut state);
            for _ in 0..left.min(10) {
                out.push(ALPHABET[(bits & 63) as usize]);
                bits >>= 6;
            }
            left -= left.min(10);
        }
        out.extend_from_slice(b"\"}");
    }

    /// Appends record `n` as a member of a put request.
    pub(crate) fn put(&self, n: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"pk\":\"");
        self.pk(n, out);
        out.extend_from_slice(b"\",\"sk\":\"");
        self.sk(n, out);
        out.extend_from_slice(b"\",\"data\":");
        self.data(n, out);
        out.push(b'}');
    }

    /// Appends the body of a get of these records.
    pub(crate) fn get(&self, numbers: &[u32], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"Records\":[");
        for (place, &n) in numbers.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b"{\"pk\":\"" } else { b",{\"pk\":\"" });
            self.pk(n, out);
            out.extend_from_slice(b"\",\"sk\":\"");
            self.sk(n, out);
            out.extend_from_slice(b"\"}");
        }
        out.extend_from_slice(b"]}");
    }

    /// Appends record `n` as an answer spells it, at a fixed time.
    pub(crate) fn record(&self, n: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"Pk\":\"");
        self.pk(n, out);
        out.extend_from_slice(b"\",\"Sk\":\"");
        self.sk(n, out);
        out.extend_from_slice(b"\",\"Data\":");
        self.data(n, out);
        out.extend_from_slice(
            br#","CreatedAt":"2026-01-02T03:04:05.678Z","UpdatedAt":"2026-01-02T03:04:05.678Z"}"#,
        );
    }

    /// Length of the answer to a get of `keys` records: what the constant responder has to send to be comparable.
    pub(crate) fn answer_bytes(&self, keys: usize) -> usize {
        let (mut pk, mut sk) = (Vec::new(), Vec::new());
        self.pk(0, &mut pk);
        self.sk(0, &mut sk);
        let frame = r#"{"Pk":"","Sk":"","Data":,"CreatedAt":"2026-01-02T03:04:05.678Z","UpdatedAt":"2026-01-02T03:04:05.678Z"}"#;
        let record = frame.len() + pk.len() + sk.len() + self.value_bytes;
        r#"{"Records":[]}"#.len() + keys * record + keys.saturating_sub(1)
    }

    /// Checks that an answer holds the data of each of `numbers`, in that order.
    pub(crate) fn check(&self, numbers: &[u32], body: &[u8], scratch: &mut Vec<u8>) -> Result<()> {
        let mut rest = body;
        for &n in numbers {
            scratch.clear();
            scratch.extend_from_slice(b"\"Data\":");
            self.data(n, scratch);
            match find(rest, scratch) {
                Some(at) => rest = &rest[at + scratch.len()..],
                None => {
                    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
                    return Err(BenchError::Answer(format!("record {n} is missing or altered in: {shown}")));
                }
            }
        }
        Ok(())
    }
}

/// The eight decimal digits of a record's number.
pub(crate) fn digits(mut n: u32) -> [u8; DIGITS] {
    let mut out = [b'0'; DIGITS];
    for place in out.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out
}

/// One step of SplitMix64: a bijection of a counter, so that equal seeds give equal runs.
pub(crate) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_of_the_asked_length() {
        for value_bytes in [28, 29, 37, 38, 39, 300, 16 * 1024] {
            let set = DataSet::new(100, value_bytes, Shape::Single).expect("valid sizes");
            let mut data = Vec::new();
            set.data(42, &mut data);
            assert_eq!(data.len(), value_bytes);
            let parsed: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
            assert_eq!(parsed["id"], "00000042");
        }
        assert!(DataSet::new(100, 27, Shape::Single).is_err());
        assert!(DataSet::new(0, 300, Shape::Single).is_err());
        assert!(DataSet::new(100_000_000, 300, Shape::Single).is_err());
    }

    #[test]
    fn an_answer_has_the_foretold_length_and_checks() {
        let set = DataSet::new(100, 300, Shape::Listed).expect("valid sizes");
        let mut body = b"{\"Records\":[".to_vec();
        for n in [7, 3] {
            if body.ends_with(b"}") {
                body.push(b',');
            }
            set.record(n, &mut body);
        }
        body.extend_from_slice(b"]}");
        assert_eq!(body.len(), set.answer_bytes(2));
        let mut scratch = Vec::new();
        set.check(&[7, 3], &body, &mut scratch).expect("both are there");
        assert!(set.check(&[3, 7], &body, &mut scratch).is_err());
        assert!(set.check(&[8], &body, &mut scratch).is_err());
    }

    #[test]
    fn listed_records_share_a_partition_key() {
        let set = DataSet::new(1000, 300, Shape::Listed).expect("valid sizes");
        let key = |n| {
            let (mut pk, mut sk) = (Vec::new(), Vec::new());
            set.pk(n, &mut pk);
            set.sk(n, &mut sk);
            (pk, sk)
        };
        assert_eq!(key(100).0, key(199).0);
        assert_ne!(key(199).0, key(200).0);
        assert!(key(100).1 < key(199).1);
    }
}

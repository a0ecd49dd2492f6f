//! The checkpoint row.
//!
//! Layout: version byte (1), next offset (u64 LE), then four counters (u64 LE each): applied, refused, erred,
//! undecodable. The counters are over the whole log up to `next`, so they survive restarts and moves.

use crate::apply::Applied;
use crate::key::Offset;

const VERSION: u8 = 1;
const LEN: usize = 1 + 5 * 8;

/// How far a partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// First offset not yet applied.
    pub next: Offset,
    /// The fates of all messages below `next`.
    pub counts: Applied,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let Applied { applied, refused, erred, undecodable } = self.counts;
        let mut out = [VERSION; LEN];
        let numbers = [self.next.0, applied, refused, erred, undecodable];
        for (place, number) in out[1..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (version, numbers) = bytes.split_first()?;
        if *version != VERSION || bytes.len() != LEN {
            return None;
        }
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut take = || numbers.next();
        Some(Checkpoint {
            next: Offset(take()?),
            counts: Applied { applied: take()?, refused: take()?, erred: take()?, undecodable: take()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let counts = Applied { applied: 2, refused: 3, erred: 4, undecodable: 5 };
        let checkpoint = Checkpoint { next: Offset(0x0102), counts };
        let bytes = checkpoint.encode();
        let golden = b"\x01\x02\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(bytes.as_slice(), golden.as_slice());
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
        assert_eq!(Checkpoint::decode(&bytes[1..]), None);
        assert_eq!(Checkpoint::decode(&[2; LEN]), None);
        assert_eq!(Checkpoint::decode(b""), None);
    }
}

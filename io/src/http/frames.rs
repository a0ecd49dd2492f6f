//! Where an HTTP/2 client stands in its byte stream: between frames, or in the middle of something.
//!
//! hyper tells of streams, not of the frame that never ends. This follows lengths and the end-of-headers flag only,
//! so that a client that starts a frame or a header block and falls silent can be told from one at rest.
//! **Not here**: any judgement of what the frames hold; hyper does that with the same bytes.

/// What an HTTP/2 connection starts with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER_LEN: usize = 9;
const TYPE_HEADERS: u8 = 1;
const TYPE_CONTINUATION: u8 = 9;
const FLAG_END_HEADERS: u8 = 4;

/// Follows the client's frames from the preface on.
#[derive(Debug)]
pub(crate) struct FrameTracker {
    header: [u8; HEADER_LEN],
    header_have: usize,
    payload_left: usize,
    open_block: bool,
}

impl FrameTracker {
    /// At the first byte of the connection: the preface counts as a payload.
    pub(crate) fn new() -> FrameTracker {
        FrameTracker {
            header: [0; HEADER_LEN],
            header_have: 0,
            payload_left: PREFACE.len(),
            open_block: false,
        }
    }

    /// Takes the next bytes of the client.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER_LEN - self.header_have).min(bytes.len());
            self.header[self.header_have..self.header_have + taken].copy_from_slice(&bytes[..taken]);
            self.header_have += taken;
            bytes = &bytes[taken..];
            if self.header_have == HEADER_LEN {
                self.begin_frame();
            }
        }
    }

    /// Whether everything begun was finished: no part of a frame, no header block without its end.
    pub(crate) fn at_rest(&self) -> bool {
        self.header_have == 0 && self.payload_left == 0 && !self.open_block
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.header_have = 0;
        if kind == TYPE_HEADERS || kind == TYPE_CONTINUATION {
            self.open_block = flags & FLAG_END_HEADERS == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_header_block_is_open_until_its_last_continuation() {
        let mut tracker = FrameTracker::new();
        assert!(!tracker.at_rest(), "the preface is owed");
        tracker.feed(PREFACE);
        assert!(tracker.at_rest());
        tracker.feed(&frame(TYPE_HEADERS, 0, b"abc"));
        assert!(!tracker.at_rest());
        tracker.feed(&frame(TYPE_CONTINUATION, FLAG_END_HEADERS, b""));
        assert!(tracker.at_rest());
    }

    proptest! {
        #[test]
        fn rest_falls_exactly_on_frame_ends(
            sizes in prop::collection::vec(0usize..40, 1..8), cut in 1usize..11,
        ) {
            let mut bytes = PREFACE.to_vec();
            let mut ends = vec![bytes.len()];
            for size in sizes {
                bytes.extend(frame(0, 0, &vec![7; size]));
                ends.push(bytes.len());
            }
            let mut tracker = FrameTracker::new();
            let mut fed = 0;
            for chunk in bytes.chunks(cut) {
                tracker.feed(chunk);
                fed += chunk.len();
                prop_assert_eq!(tracker.at_rest(), ends.contains(&fed));
            }
        }
    }
}

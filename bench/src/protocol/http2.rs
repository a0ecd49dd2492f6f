//! As much HTTP/2 as one request at a time needs.
//!
//! Requests are literal header fields that nobody indexes, so that their bytes never change but for the stream's
//! identifier. Of an answer's head only the first byte is looked at, where servers put the status. Windows are as large
//! as they get, and granted again with the next request.
//!
//! **Not here**: concurrent streams, priorities, compression of heads, bodies of requests beyond one frame.

use crate::answer::Progress;
use crate::error::{BenchError, Result};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const FRAME_HEAD: usize = 9;
/// The largest frame that every server takes.
const LONGEST: usize = 16 << 10;
const WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = 65_535;
/// Received bytes after which the connection's window is granted again.
const GRANT: u32 = 1 << 20;

/// Everything of a request before its body, for stream 0, and where the stream's identifier goes.
///
/// # Errors
/// The body does not fit into one frame.
pub(crate) fn head(path: &str, host: &str, body: usize) -> Result<(Vec<u8>, Vec<usize>)> {
    if body > LONGEST {
        return Err(BenchError::Usage(format!(
            "a body of {body} bytes: over HTTP/2 at most {LONGEST} are sent"
        )));
    }
    // From the static table: :method POST, :scheme http.
    let mut fields = vec![0x83, 0x86];
    for (name, value) in [(":path", path), (":authority", host), ("content-type", "application/json")] {
        fields.push(0x10);
        for text in [name, value] {
            let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
            fields.push(length.ok_or_else(|| BenchError::Usage(format!("{text:?} is too long")))?);
            fields.extend_from_slice(text.as_bytes());
        }
    }
    let mut out = Vec::new();
    let mut streams = vec![out.len() + 5];
    frame_head(HEADERS, END_HEADERS, fields.len(), &mut out);
    out.extend_from_slice(&fields);
    streams.push(out.len() + 5);
    frame_head(DATA, END_STREAM, body, &mut out);
    Ok((out, streams))
}

fn frame_head(kind: u8, flags: u8, length: usize, out: &mut Vec<u8>) {
    let length = (length as u32).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, 0, 0, 0, 0]);
}

/// Reads the frames of a connection.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// A frame's head, or the payload of one that must be seen whole, as far as it has come.
    part: Vec<u8>,
    /// The frame whose payload comes now, and how much of it is left.
    frame: Option<(u8, u8, usize)>,
    control: Vec<u8>,
    body: Vec<u8>,
    keep: bool,
    status: u16,
    length: usize,
    received: u32,
}

impl FrameReader {
    /// A reader at the start of a connection; the connection's preface is the first thing to send.
    pub(crate) fn new() -> Self {
        let mut control = PREFACE.to_vec();
        frame_head(SETTINGS, 0, 6, &mut control);
        // SETTINGS_INITIAL_WINDOW_SIZE
        control.extend_from_slice(&[0, 4]);
        control.extend_from_slice(&WINDOW.to_be_bytes());
        grant(WINDOW - FIRST_WINDOW, &mut control);
        Self {
            part: Vec::new(),
            frame: None,
            control,
            body: Vec::new(),
            keep: false,
            status: 0,
            length: 0,
            received: 0,
        }
    }

    /// Starts over for the next answer.
    pub(crate) fn begin(&mut self, keep: bool) {
        self.body.clear();
        self.keep = keep;
        self.status = 0;
        self.length = 0;
    }

    /// The body of an answer that was to be kept.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Moves what must be sent before the next request to the end of `out`.
    pub(crate) fn take_control(&mut self, out: &mut Vec<u8>) {
        if self.received >= GRANT {
            grant(std::mem::take(&mut self.received), &mut self.control);
        }
        out.append(&mut self.control);
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// The server ended the stream or the connection, or padded a frame.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress> {
        let mut done = Progress::More;
        loop {
            let Some((kind, flags, left)) = self.frame else {
                let missing = FRAME_HEAD - self.part.len();
                if bytes.len() < missing {
                    self.part.extend_from_slice(bytes);
                    return Ok(done);
                }
                self.part.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                let head = &self.part;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                if matches!(kind, DATA | HEADERS) && flags & PADDED != 0 {
                    return Err(BenchError::Answer("a padded frame".into()));
                }
                self.frame = Some((kind, flags, length));
                self.part.clear();
                continue;
            };
            let taken = left.min(bytes.len());
            let (payload, rest) = bytes.split_at(taken);
            bytes = rest;
            if kind == DATA {
                self.length += taken;
                self.received += taken as u32;
                if self.keep {
                    self.body.extend_from_slice(payload);
                }
            } else {
                self.part.extend_from_slice(payload);
            }
            if taken < left {
                self.frame = Some((kind, flags, left - taken));
                return Ok(done);
            }
            self.frame = None;
            if self.end(kind, flags)? {
                done = Progress::Done { status: self.status, body: self.length };
            }
            self.part.clear();
        }
    }

    /// A frame is whole; whether the answer is.
    fn end(&mut self, kind: u8, flags: u8) -> Result<bool> {
        match kind {
            HEADERS if self.status == 0 => {
                // From the static table; any other status is spelt out, and none of them is wanted.
                self.status = match self.part.first() {
                    Some(0x88) => 200,
                    Some(0x89) => 204,
                    Some(0x8c) => 400,
                    Some(0x8d) => 404,
                    Some(0x8e) => 500,
                    _ => 999,
                };
            }
            SETTINGS if flags & ACK == 0 => frame_head(SETTINGS, ACK, 0, &mut self.control),
            PING if flags & ACK == 0 => {
                frame_head(PING, ACK, self.part.len(), &mut self.control);
                self.control.extend_from_slice(&self.part);
            }
            RST_STREAM | GOAWAY => {
                return Err(BenchError::Answer(format!(
                    "the server ended it: frame {kind}, {:?}",
                    self.part
                )));
            }
            _ => {}
        }
        Ok(matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0)
    }
}

fn grant(bytes: u32, out: &mut Vec<u8>) {
    frame_head(WINDOW_UPDATE, 0, 4, out);
    out.extend_from_slice(&bytes.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame_head(kind, flags, payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn an_answer_cut_anywhere_is_read() {
        let mut answer = frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 100]);
        answer.extend(frame(HEADERS, END_HEADERS, &[0x88, 0x5c]));
        answer.extend(frame(DATA, 0, b"hello "));
        answer.extend(frame(DATA, END_STREAM, b"world"));
        for cut in 1..answer.len() {
            let mut reader = FrameReader::new();
            reader.take_control(&mut Vec::new());
            reader.begin(true);
            assert_eq!(reader.feed(&answer[..cut]).expect("good frames"), Progress::More, "{cut}");
            let done = Progress::Done { status: 200, body: 11 };
            assert_eq!(reader.feed(&answer[cut..]).expect("good frames"), done, "{cut}");
            assert_eq!(reader.body(), b"hello world");
            let mut control = Vec::new();
            reader.take_control(&mut control);
            assert_eq!(control, frame(SETTINGS, ACK, &[]));
        }
    }

    #[test]
    fn windows_are_granted_again() {
        let mut reader = FrameReader::new();
        reader.take_control(&mut Vec::new());
        for _ in 0..70 {
            reader.begin(false);
            reader.feed(&frame(HEADERS, END_HEADERS, &[0x88])).expect("good");
            reader.feed(&frame(DATA, END_STREAM, &[0; 16_000])).expect("good");
        }
        let mut control = Vec::new();
        reader.take_control(&mut control);
        assert_eq!(control, frame(WINDOW_UPDATE, 0, &1_120_000_u32.to_be_bytes()));
    }

    #[test]
    fn an_ended_stream_is_an_error() {
        let mut reader = FrameReader::new();
        assert!(reader.feed(&frame(GOAWAY, 0, &[0; 8])).is_err());
        assert!(head("/p", "h", LONGEST + 1).is_err());
    }
}

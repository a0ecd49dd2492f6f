//! Reads HTTP/1.1 answers from a byte stream, without allocating once warm.
//!
//! Bytes in, as they come from the socket → status and, where wanted, the body. Framing by `content-length` or
//! chunks; an answer without either has an empty body, as every server measured here sends one of the two.
//!
//! **Invariants**: an answer ends exactly where its framing says, and bytes behind it are an error, because nothing
//! is pipelined. **Not here**: HTTP/2, trailers' contents, interim (1xx) answers.

use crate::error::{BenchError, Result};

const LONGEST_HEAD: usize = 16 * 1024;

/// Where an answer stands after some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    More,
    /// The answer is whole.
    Done {
        /// HTTP status.
        status: u16,
        /// Length of the body without its framing, in bytes.
        body: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized {
        left: usize,
    },
    /// In the line that gives a chunk's size; `size` is what its digits said so far.
    ChunkSize {
        size: usize,
        extension: bool,
    },
    ChunkData {
        left: usize,
    },
    ChunkEnd,
    /// In the lines behind the last chunk; `empty` while the current one has no byte yet.
    Trailer {
        empty: bool,
    },
}

/// The state of reading one answer after another from a connection.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    state: State,
    /// The head's bytes so far, when they came in pieces or are kept.
    head: Vec<u8>,
    body: Vec<u8>,
    keep: bool,
    status: u16,
    length: usize,
    last: bool,
}

impl AnswerReader {
    /// A reader at the start of an answer.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            head: Vec::new(),
            body: Vec::new(),
            keep: false,
            status: 0,
            length: 0,
            last: false,
        }
    }

    /// Starts over for the next answer; `keep` says whether head and body are wanted.
    pub(crate) fn begin(&mut self, keep: bool) {
        self.state = State::Head;
        self.head.clear();
        self.body.clear();
        self.keep = keep;
        self.length = 0;
    }

    /// Whether the answer said that the connection closes behind it.
    pub(crate) fn is_last(&self) -> bool {
        self.last
    }

    /// The body of an answer that was to be kept.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// A header's value in an answer that was to be kept; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.head).ok()?;
        text.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// What does not read as an answer, and bytes behind its end.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Progress> {
        let mut rest = bytes;
        if self.state == State::Head {
            match self.read_head(rest)? {
                Some(used) => rest = &rest[used..],
                None => return Ok(Progress::More),
            }
        }
        loop {
            match self.state {
                State::Head => unreachable!("read_head leaves this state or returns"),
                State::Sized { left: 0 } => return self.done(rest),
                State::Sized { left } => {
                    let taken = left.min(rest.len());
                    self.take(&rest[..taken]);
                    rest = &rest[taken..];
                    self.state = State::Sized { left: left - taken };
                    if left > taken {
                        return Ok(Progress::More);
                    }
                }
                _ if rest.is_empty() => return Ok(Progress::More),
                State::ChunkData { left } => {
                    let taken = left.min(rest.len());
                    self.take(&rest[..taken]);
                    rest = &rest[taken..];
                    self.state =
                        if left > taken { State::ChunkData { left: left - taken } } else { State::ChunkEnd };
                }
                State::Trailer { empty: true } if rest[0] == b'\n' => {
                    self.state = State::Sized { left: 0 };
                    rest = &rest[1..];
                }
                _ => {
                    self.chunk_byte(rest[0])?;
                    rest = &rest[1..];
                }
            }
        }
    }

    fn done(&self, rest: &[u8]) -> Result<Progress> {
        if !rest.is_empty() {
            return Err(BenchError::Answer(format!("{} bytes behind the end of an answer", rest.len())));
        }
        Ok(Progress::Done { status: self.status, body: self.length })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.keep {
            self.body.extend_from_slice(bytes);
        }
    }

    /// One byte of the framing around chunks.
    fn chunk_byte(&mut self, byte: u8) -> Result<()> {
        self.state = match self.state {
            State::ChunkSize { size: 0, .. } if byte == b'\n' => State::Trailer { empty: true },
            State::ChunkSize { size, .. } if byte == b'\n' => State::ChunkData { left: size },
            State::ChunkSize { size, .. } if byte == b'\r' || byte == b';' => {
                State::ChunkSize { size, extension: true }
            }
            State::ChunkSize { size, extension: false } => match (byte as char).to_digit(16) {
                Some(digit) if size < 1 << 40 => {
                    State::ChunkSize { size: size * 16 + digit as usize, extension: false }
                }
                _ => return Err(BenchError::Answer(format!("byte {byte:#x} in the size of a chunk"))),
            },
            State::ChunkEnd if byte == b'\n' => State::ChunkSize { size: 0, extension: false },
            State::ChunkEnd if byte != b'\r' => {
                return Err(BenchError::Answer(format!("byte {byte:#x} behind a chunk")));
            }
            State::Trailer { .. } if byte == b'\n' => State::Trailer { empty: true },
            State::Trailer { empty } => State::Trailer { empty: empty && byte == b'\r' },
            state => state,
        };
        Ok(())
    }

    /// Reads the head; the number of bytes of `bytes` that belong to it, once it is whole.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        if self.head.is_empty() && !self.keep {
            // The usual case: the head came in one piece and is parsed where it lies.
            if let Some(end) = head_end(bytes) {
                self.parse_head(&bytes[..end])?;
                return Ok(Some(end));
            }
        }
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = head_end(&self.head) else {
            if self.head.len() > LONGEST_HEAD {
                return Err(BenchError::Answer("a head without an end".into()));
            }
            return Ok(None);
        };
        self.head.truncate(end);
        let head = std::mem::take(&mut self.head);
        let parsed = self.parse_head(&head);
        self.head = head;
        parsed?;
        Ok(Some(end - before))
    }

    fn parse_head(&mut self, head: &[u8]) -> Result<()> {
        let wrong = || BenchError::Answer(format!("no HTTP/1.1 head: {:?}", String::from_utf8_lossy(head)));
        let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(wrong)?;
        self.status = number(status).ok_or_else(wrong)? as u16;
        self.state = State::Sized { left: 0 };
        self.last = false;
        let mut lines = head;
        while let Some(end) = lines.iter().position(|&byte| byte == b'\n') {
            lines = &lines[end + 1..];
            if let Some(value) = value_of(lines, b"content-length:") {
                self.state = State::Sized { left: number(value).ok_or_else(wrong)? };
            } else if let Some(value) = value_of(lines, b"transfer-encoding:")
                && value.eq_ignore_ascii_case(b"chunked")
            {
                self.state = State::ChunkSize { size: 0, extension: false };
            } else if let Some(value) = value_of(lines, b"connection:") {
                self.last = value.eq_ignore_ascii_case(b"close");
            }
        }
        // A 304 or 204 has no body whatever its headers say.
        if matches!(self.status, 204 | 304) {
            self.state = State::Sized { left: 0 };
        }
        Ok(())
    }
}

/// The position behind the empty line that ends a head.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\n') {
        let line_end = from + at;
        if bytes[line_end..].starts_with(b"\n\r\n") {
            return Some(line_end + 3);
        }
        from = line_end + 1;
    }
    None
}

/// The value of the header line at the start of `lines`, if its name (with colon, in lower case) is `name`.
fn value_of<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // Most lines are turned away by their first byte.
    if lines.first()?.to_ascii_lowercase() != name[0] || !lines.get(..name.len())?.eq_ignore_ascii_case(name)
    {
        return None;
    }
    let value = &lines[name.len()..];
    let end = value.iter().position(|&byte| byte == b'\r').unwrap_or(value.len());
    Some(value[..end].trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 12 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |sum: usize, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_of_a_connection_is_known() {
        let mut reader = AnswerReader::new();
        for (header, is_last) in
            [("Connection: Close\r\n", true), ("", false), ("connection: keep-alive\r\n", false)]
        {
            reader.begin(false);
            let answer = format!("HTTP/1.1 200 OK\r\n{header}content-length: 0\r\n\r\n");
            reader.feed(answer.as_bytes()).expect("good");
            assert_eq!(reader.is_last(), is_last, "{header}");
        }
    }

    const SIZED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 5\r\nFireScroll-Session: 3:9\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 503 Oh\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nt: u\r\n\r\n";

    /// Feeds `bytes` in two pieces cut at every place, and whole.
    fn every_cut(bytes: &[u8], keep: bool, status: u16, body: &[u8]) {
        for cut in 0..=bytes.len() {
            let mut reader = AnswerReader::new();
            reader.begin(keep);
            let first = reader.feed(&bytes[..cut]).expect("valid so far");
            let last = if cut == bytes.len() {
                first
            } else {
                assert_eq!(first, Progress::More, "cut at {cut}");
                reader.feed(&bytes[cut..]).expect("valid")
            };
            assert_eq!(last, Progress::Done { status, body: body.len() }, "cut at {cut}");
            assert_eq!(reader.body(), if keep { body } else { b"" });
        }
    }

    #[test]
    fn reads_sized_and_chunked_answers_cut_anywhere() {
        for keep in [false, true] {
            every_cut(SIZED, keep, 200, b"hello");
            every_cut(CHUNKED, keep, 503, b"hello!");
            every_cut(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", keep, 304, b"");
        }
    }

    #[test]
    fn keeps_headers_when_asked() {
        let mut reader = AnswerReader::new();
        reader.begin(true);
        reader.feed(SIZED).expect("valid");
        assert_eq!(reader.header("firescroll-session"), Some("3:9"));
        assert_eq!(reader.header("retry-after"), None);
    }

    #[test]
    fn refuses_what_is_no_answer() {
        for wrong in [
            &b"SSH-2.0\r\n\r\n"[..],
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            let mut reader = AnswerReader::new();
            reader.begin(false);
            assert!(reader.feed(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let mut reader = AnswerReader::new();
        reader.begin(false);
        assert!(reader.feed(&vec![b'a'; LONGEST_HEAD + 1]).is_err());
    }
}

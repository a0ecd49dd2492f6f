//! As much of Redis' protocol as a get needs, and putting a data set into a Redis server.
//!
//! Values are whole records as an answer of a node spells them, so that both send the same bytes. A reply's body is its
//! values one after another.
//!
//! **Not here**: other commands, nested replies.

use std::io::{Read, Write};

use crate::answer::Progress;
use crate::client::{Target, connect};
use crate::dataset::DataSet;
use crate::error::{BenchError, Result, Tried};

/// Records of one pipelined write.
const BATCH: u32 = 500;
const LONGEST_LINE: usize = 64;

/// Reads bulk strings, alone or as an array of them.
#[derive(Debug)]
pub(crate) struct ReplyReader {
    /// A line as far as it has come.
    line: Vec<u8>,
    /// Bytes left of the value that comes now, its line end included.
    left: usize,
    /// Values that are still to come, this one included; none before the reply's first line.
    values: Option<usize>,
    body: Vec<u8>,
    keep: bool,
    length: usize,
}

impl ReplyReader {
    /// A reader at the start of a connection.
    pub(crate) fn new() -> Self {
        Self { line: Vec::new(), left: 0, values: None, body: Vec::new(), keep: false, length: 0 }
    }

    /// Starts over for the next reply.
    pub(crate) fn begin(&mut self, keep: bool) {
        self.values = None;
        self.body.clear();
        self.keep = keep;
        self.length = 0;
    }

    /// The values of a reply that was to be kept.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the next bytes of the stream. An absent value counts as status 404.
    ///
    /// # Errors
    /// An error reply, or what is none.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress> {
        loop {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                let value = taken.min(self.left.saturating_sub(2));
                self.length += value;
                if self.keep {
                    self.body.extend_from_slice(&bytes[..value]);
                }
                self.left -= taken;
                bytes = &bytes[taken..];
                if self.left > 0 {
                    return Ok(Progress::More);
                }
                self.values = self.values.map(|values| values - 1);
            }
            if self.values == Some(0) {
                let status = 200;
                return Ok(Progress::Done { status, body: self.length });
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return if self.line.len() > LONGEST_LINE { Err(self.odd()) } else { Ok(Progress::More) };
            };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let number = self
                .line
                .get(1..)
                .and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<i64>().ok());
            match (self.line.first(), number, self.values) {
                (Some(b'$'), Some(-1), _) => return Ok(Progress::Done { status: 404, body: self.length }),
                (Some(b'$'), Some(length @ 0..), values) => {
                    self.values = Some(values.unwrap_or(1));
                    self.left = length as usize + 2;
                }
                (Some(b'*'), Some(values @ 0..), None) => self.values = Some(values as usize),
                _ => return Err(self.odd()),
            }
            self.line.clear();
        }
    }

    fn odd(&self) -> BenchError {
        BenchError::Answer(format!("a reply of Redis begins with {:?}", String::from_utf8_lossy(&self.line)))
    }
}

/// Puts every record of the set.
pub(crate) fn fill(target: &Target, set: DataSet) -> Result<()> {
    let mut stream = connect(target)?;
    let (mut commands, mut record, mut key) = (Vec::new(), Vec::new(), Vec::new());
    let mut replies = [0; 5 * BATCH as usize];
    for start in (0..set.records).step_by(BATCH as usize) {
        commands.clear();
        let end = start.saturating_add(BATCH).min(set.records);
        for n in start..end {
            key.clear();
            set.pk(n, &mut key);
            record.clear();
            set.record(n, &mut record);
            commands.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n${}\r\n", key.len()).as_bytes());
            commands.extend_from_slice(&key);
            commands.extend_from_slice(format!("\r\n${}\r\n", record.len()).as_bytes());
            commands.extend_from_slice(&record);
            commands.extend_from_slice(b"\r\n");
        }
        stream.write_all(&commands).tried(|| format!("write to {target}"))?;
        let replies = &mut replies[..5 * (end - start) as usize];
        stream.read_exact(replies).tried(|| format!("read replies of {target}"))?;
        if let Some(odd) = replies.chunks(5).find(|reply| *reply != b"+OK\r\n") {
            return Err(BenchError::Answer(format!("Redis: {:?}", String::from_utf8_lossy(odd))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_cut_anywhere_are_read() {
        for (reply, body) in
            [("$5\r\nhello\r\n", "hello"), ("*2\r\n$5\r\nhello\r\n$6\r\n world\r\n", "hello world")]
        {
            for cut in 1..reply.len() {
                let mut reader = ReplyReader::new();
                reader.begin(true);
                let (first, rest) = reply.as_bytes().split_at(cut);
                assert_eq!(reader.feed(first).expect("good"), Progress::More, "{cut} of {reply:?}");
                let done = Progress::Done { status: 200, body: body.len() };
                assert_eq!(reader.feed(rest).expect("good"), done, "{cut} of {reply:?}");
                assert_eq!(reader.body(), body.as_bytes());
            }
        }
    }

    #[test]
    fn absent_values_and_errors_are_told() {
        let mut reader = ReplyReader::new();
        reader.begin(false);
        assert_eq!(reader.feed(b"$-1\r\n").expect("good"), Progress::Done { status: 404, body: 0 });
        assert!(ReplyReader::new().feed(b"-ERR no\r\n").is_err());
    }
}

//! Reads the file on a thread of its own, so that a slow pipe never keeps an import from stopping.
//!
//! file or standard input → whole lines in chunks → a bounded channel.
//!
//! **Invariants**: a chunk holds whole lines only. No line longer than [`LONGEST_LINE`] is ever in memory.
//!
//! **Runs on**: the thread `read`, which ends with the input or when nobody takes chunks any more.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use flume::{Receiver, Sender};

/// The longest line: twice what the largest log accepts as one mutation.
const LONGEST_LINE: usize = 64 << 20;
/// Chunks are sent from this size on, in bytes.
const CHUNK: usize = 256 << 10;
/// Chunks that wait to be taken.
const QUEUE: usize = 4;

/// A piece of the input.
#[derive(Debug)]
pub(super) enum Piece {
    /// Whole lines with their ends; the last line of the input may lack one.
    Lines(Vec<u8>),
    /// One line that is too long to be a record, of so many bytes.
    TooLong(u64),
    /// The input cannot be read any further.
    Failed(io::Error),
}

/// An input that is being read.
#[derive(Debug)]
pub(super) struct Source {
    /// The pieces in order; closed after the last.
    pub(super) pieces: Receiver<Piece>,
    /// The size of the input in bytes, where it is a file.
    pub(super) size: Option<u64>,
}

impl Source {
    /// Opens `path`, or standard input for `-`, and starts to read.
    ///
    /// # Errors
    /// What the system says when the file cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (input, size): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path)?;
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        let (sender, pieces) = flume::bounded(QUEUE);
        thread::Builder::new()
            .name("read".to_owned())
            .spawn(move || read(BufReader::with_capacity(CHUNK, input), LONGEST_LINE, &sender))?;
        Ok(Self { pieces, size })
    }
}

fn read<R: Read>(mut input: BufReader<R>, longest: usize, to: &Sender<Piece>) {
    let mut chunk = Vec::new();
    loop {
        let line = chunk.len();
        let outcome = input.by_ref().take(longest as u64 + 1).read_until(b'\n', &mut chunk);
        let piece = match outcome {
            Ok(0) => break,
            Ok(length) if length > longest && chunk.last() != Some(&b'\n') => {
                chunk.truncate(line);
                match skip_line(&mut input) {
                    Ok(rest) => Piece::TooLong(length as u64 + rest),
                    Err(error) => Piece::Failed(error),
                }
            }
            // With nothing buffered the next read may wait long: what is there goes out first.
            Ok(_) if chunk.len() >= CHUNK || input.buffer().is_empty() => {
                Piece::Lines(std::mem::take(&mut chunk))
            }
            Ok(_) => continue,
            Err(error) => {
                chunk.truncate(line);
                Piece::Failed(error)
            }
        };
        let last = matches!(piece, Piece::Failed(_));
        let whole = Piece::Lines(std::mem::take(&mut chunk));
        if !is_empty(&whole) && to.send(whole).is_err() {
            return;
        }
        if to.send(piece).is_err() || last {
            return;
        }
    }
    if !chunk.is_empty() {
        // Nobody may be there to take it, which ends the thread all the same.
        let _ = to.send(Piece::Lines(chunk));
    }
}

fn is_empty(piece: &Piece) -> bool {
    matches!(piece, Piece::Lines(lines) if lines.is_empty())
}

/// Reads to the next line end and gives the bytes passed over.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut passed = 0;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(passed);
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        passed += length as u64;
        if end.is_some() {
            return Ok(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, lines marked with their text and long ones with their length.
    fn pieces(input: &[u8], longest: usize, buffer: usize) -> Vec<String> {
        let (sender, receiver) = flume::unbounded();
        read(BufReader::with_capacity(buffer, input), longest, &sender);
        drop(sender);
        let mut seen = Vec::new();
        for piece in receiver {
            match piece {
                Piece::Lines(lines) => {
                    assert!(!lines.is_empty());
                    seen.extend(
                        lines
                            .split_inclusive(|&byte| byte == b'\n')
                            .map(|line| String::from_utf8(line.to_vec()).expect("the inputs below are text")),
                    );
                }
                Piece::TooLong(length) => seen.push(format!("too long: {length}")),
                Piece::Failed(error) => seen.push(format!("failed: {error}")),
            }
        }
        seen
    }

    #[test]
    fn lines_come_whole_and_in_order_whatever_the_buffer() {
        for buffer in 1..20 {
            assert_eq!(pieces(b"one\n\ntwo\nthree", 100, buffer), ["one\n", "\n", "two\n", "three"]);
            assert_eq!(pieces(b"one\n", 100, buffer), ["one\n"]);
            assert!(pieces(b"", 100, buffer).is_empty());
        }
    }

    #[test]
    fn a_long_line_is_passed_over_and_keeps_its_place() {
        for buffer in 1..20 {
            assert_eq!(
                pieces(b"one\n123456789\ntwo\n123456", 5, buffer),
                ["one\n", "too long: 10", "two\n", "too long: 6"]
            );
            assert_eq!(pieces(b"12345\nx\n", 5, buffer), ["12345\n", "x\n"]);
        }
    }

    #[test]
    fn a_failing_input_gives_the_lines_before_and_the_failure() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken disk"))
            }
        }
        let (sender, receiver) = flume::unbounded();
        read(BufReader::new((&b"one\ntw"[..]).chain(Failing)), 100, &sender);
        let seen: Vec<Piece> = receiver.drain().collect();
        assert!(matches!(&seen[0], Piece::Lines(lines) if lines == b"one\n"), "{seen:?}");
        assert!(matches!(&seen[1], Piece::Failed(_)), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }
}

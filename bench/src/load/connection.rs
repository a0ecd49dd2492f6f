//! One keep-alive connection of the load generator: its request, its answer's progress, its times.
//!
//! Times are nanoseconds since the run's start.
//!
//! **Not here**: the event loop and the histograms (`generator`).

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::answer::Progress;
use crate::error::{BenchError, Result, Tried};
use crate::protocol::{Protocol, Reader};

/// A connection and the request in flight on it.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) reader: Reader,
    /// Which of the plan's loads it belongs to.
    pub(super) lane: usize,
    /// What the protocol wants sent before the request.
    control: Vec<u8>,
    /// A copy of the template with this request's record numbers.
    pub(super) request: Vec<u8>,
    pub(super) numbers: Vec<u32>,
    /// The next HTTP/2 stream.
    pub(super) number: u32,
    written: usize,
    /// Whether the other end has closed it, or the network has.
    pub(super) ended: bool,
    /// Whether a request awaits its answer.
    pub(super) busy: bool,
    /// Whether the answer is compared with the data set.
    pub(super) sampled: bool,
    /// When the request was due.
    pub(super) due: u64,
    /// When it was sent.
    pub(super) sent: u64,
    /// When the answer before it was read.
    pub(super) free_since: u64,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        lane: usize,
        protocol: Protocol,
        request: Vec<u8>,
        keys: usize,
    ) -> Self {
        Self {
            stream,
            reader: Reader::new(protocol),
            lane,
            control: Vec::new(),
            request,
            numbers: vec![0; keys],
            number: 1,
            written: 0,
            ended: false,
            busy: false,
            sampled: false,
            due: 0,
            sent: 0,
            free_since: 0,
        }
    }

    /// Starts sending the patched request.
    pub(super) fn send(&mut self, due: u64, now: u64, sampled: bool) -> Result<()> {
        assert!(!self.busy, "one request at a time");
        self.reader.begin(sampled);
        self.control.clear();
        self.reader.take_control(&mut self.control);
        self.number += 2;
        self.busy = true;
        self.sampled = sampled;
        self.due = due;
        self.sent = now;
        self.written = 0;
        self.write()
    }

    /// Puts a fresh stream in the place of the one that has ended.
    pub(super) fn reopened(&mut self, stream: TcpStream, protocol: Protocol) {
        self.stream = stream;
        self.reader = Reader::new(protocol);
        self.number = 1;
        self.ended = false;
    }

    /// Tells the other end that this one has gone: it may wait for that.
    pub(super) fn hang_up(&mut self) {
        self.ended = true;
        // Fails when the other end has gone first.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends the same request again; it stays due when it was.
    pub(super) fn send_again(&mut self, now: u64) -> Result<()> {
        self.busy = false;
        self.send(self.due, now, self.sampled)
    }

    /// Writes what is left of the request, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Result<()> {
        let whole = self.control.len() + self.request.len();
        while self.busy && self.written < whole {
            let unsent = match self.written.checked_sub(self.control.len()) {
                None => &self.control[self.written..],
                Some(written) => &self.request[written..],
            };
            match self.stream.write(unsent) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = is_end(error.kind());
                    return Err(error).tried(|| "send a request".into());
                }
            }
        }
        Ok(())
    }

    /// Reads what has come; the status and body length once the answer is whole.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<(u16, usize)>> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Err(BenchError::Answer("the server closed a connection under load".into()));
                }
                Ok(length) => {
                    if !self.busy {
                        return Err(BenchError::Answer(format!("{length} bytes without a request")));
                    }
                    if let Progress::Done { status, body } = self.reader.feed(&buffer[..length])? {
                        self.busy = false;
                        return Ok(Some((status, body)));
                    }
                    // A short read has emptied the socket: the next bytes raise an event of their own.
                    if length < buffer.len() {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = is_end(error.kind());
                    return Err(error).tried(|| "read an answer".into());
                }
            }
        }
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

//! The protocols that the load speaks, one request at a time on each connection.
//!
//! A [`Reader`] takes the bytes of answers as they come and says when one is whole. Requests are made elsewhere
//! (`request`), from what each protocol needs around a body.
//!
//! **Not here**: sockets and times (`load`).

pub(crate) mod http2;
pub(crate) mod redis;

use clap::ValueEnum;

use crate::answer::{AnswerReader, Progress};
use crate::error::Result;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1 with kept-alive connections.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2,
    /// Redis' own.
    Redis,
}

/// Reads one answer after another.
#[derive(Debug)]
pub(crate) enum Reader {
    Http1(AnswerReader),
    Http2(http2::FrameReader),
    Redis(redis::ReplyReader),
}

impl Reader {
    /// A reader at the start of a connection.
    pub(crate) fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(AnswerReader::new()),
            Protocol::Http2 => Self::Http2(http2::FrameReader::new()),
            Protocol::Redis => Self::Redis(redis::ReplyReader::new()),
        }
    }

    /// Starts over for the next answer; `keep` says whether its body is wanted.
    pub(crate) fn begin(&mut self, keep: bool) {
        match self {
            Self::Http1(reader) => reader.begin(keep),
            Self::Http2(reader) => reader.begin(keep),
            Self::Redis(reader) => reader.begin(keep),
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Progress> {
        match self {
            Self::Http1(reader) => reader.feed(bytes),
            Self::Http2(reader) => reader.feed(bytes),
            Self::Redis(reader) => reader.feed(bytes),
        }
    }

    /// Whether the answer said that the connection closes behind it. HTTP/2 has another way, and Redis none.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Http1(reader) if reader.is_last())
    }

    /// The body of an answer that was to be kept.
    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Self::Http1(reader) => reader.body(),
            Self::Http2(reader) => reader.body(),
            Self::Redis(reader) => reader.body(),
        }
    }

    /// Moves what the protocol wants sent before the next request to the end of `out`.
    pub(crate) fn take_control(&mut self, out: &mut Vec<u8>) {
        if let Self::Http2(reader) = self {
            reader.take_control(out);
        }
    }
}

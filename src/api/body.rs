//! The body of an answer: nothing, bytes, or a listing that arrives page by page; gzipped on the way if wanted.
//!
//! A streamed listing pulls pages through a channel of two, so that a slow reader holds two pages at most and the
//! scan stops until it reads on. A listing that fails midway ends the connection (or HTTP/2 stream) with an error:
//! the client sees a broken body, never a short list that looks whole.
//!
//! Runs on: serving cores. Not here: the scan (`api::read`), and deadlines (`firescroll_io::http`).

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_lite::Stream;
use http_body::{Frame, SizeHint};

use crate::error::ApiError;

/// A part of a streamed listing.
#[derive(Debug)]
pub enum Chunk {
    /// Comma-separated records; the first chunk's first record has no comma before it.
    Records(Bytes),
    /// The listing is whole.
    End,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The scan failed, or its reader was too slow and it gave up.
    #[error("the listing broke off")]
    Broken,
    /// The compressor failed, which memory alone can cause.
    #[error("gzip: {0}")]
    Gzip(#[from] std::io::Error),
}

/// An answer's body.
pub enum Body {
    /// All of it; empty for none.
    Full(Bytes),
    /// A listing.
    Stream(Listing),
    /// Either of those, compressed.
    Gzip(Box<Gzip>),
}

/// `{"Records":[` … `]}` around the pages of a scan.
pub struct Listing {
    head: Option<Bytes>,
    rest: flume::r#async::RecvStream<'static, Result<Chunk, ApiError>>,
    ended: bool,
}

/// A body on its way through the compressor.
pub struct Gzip {
    inner: Body,
    /// What of the inner body has not been compressed yet.
    pending: Bytes,
    /// None after the trailer.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

/// How much is compressed in one go: at level 1 some 100 µs of a core.
const GZIP_SLICE: usize = 16 * 1024;
/// The most that is handed to the protocol at once.
const PIECE: usize = 64 * 1024;
/// Smaller answers are sent as they are.
const GZIP_WORTH: u64 = 1024;

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// A listing whose first part is at hand.
    #[must_use]
    pub fn listing(head: Bytes, rest: flume::Receiver<Result<Chunk, ApiError>>) -> Self {
        Self::Stream(Listing { head: Some(head), rest: rest.into_stream(), ended: false })
    }

    /// The same body compressed, if it is long enough for that to pay; `Err` gives it back as it is.
    ///
    /// # Errors
    /// The body itself, when it is too short.
    pub fn gzipped(self) -> Result<Self, Self> {
        if matches!(&self, Self::Full(bytes) if bytes.len() as u64 <= GZIP_WORTH) {
            return Err(self);
        }
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Ok(Self::Gzip(Box::new(Gzip { inner: self, pending: Bytes::new(), encoder })))
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            // In pieces, so that over HTTP/2 a body counts as unsent for as long as the client does not take it.
            Self::Full(bytes) => Poll::Ready(Some(Ok(bytes.split_to(bytes.len().min(PIECE))))),
            Self::Stream(listing) => listing.poll_data(context),
            Self::Gzip(gzip) => gzip.poll_data(context),
        }
    }
}

impl Listing {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(head)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.rest).poll_next(context)) {
            Some(Ok(Chunk::Records(bytes))) => Poll::Ready(Some(Ok(bytes))),
            Some(Ok(Chunk::End)) => {
                self.ended = true;
                Poll::Ready(Some(Ok(Bytes::from_static(b"]}"))))
            }
            Some(Err(_)) | None => {
                self.ended = true;
                Poll::Ready(Some(Err(BodyError::Broken)))
            }
        }
    }
}

impl Gzip {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
            if !self.pending.is_empty() {
                let slice = self.pending.len().min(GZIP_SLICE);
                if let Err(error) = encoder.write_all(&self.pending[..slice]) {
                    return Poll::Ready(Some(Err(error.into())));
                }
                self.pending.advance(slice);
                let out = std::mem::take(encoder.get_mut());
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(out.into())));
                }
                continue;
            }
            match ready!(self.inner.poll_data(context)) {
                Some(Ok(bytes)) => self.pending = bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let done = self.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(done.map(|out| out.map(Bytes::from).map_err(BodyError::from)));
                }
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_data(context).map(|data| data.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use futures_lite::future::block_on;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn collect(body: Body) -> Result<Vec<u8>, BodyError> {
        block_on(body.collect()).map(|whole| whole.to_bytes().to_vec())
    }

    #[test]
    fn a_listing_is_whole_or_broken() {
        let (sender, receiver) = flume::bounded(4);
        sender.send(Ok(Chunk::Records(Bytes::from_static(b",2")))).expect("room");
        sender.send(Ok(Chunk::End)).expect("room");
        let body = Body::listing(Bytes::from_static(b"{\"Records\":[1"), receiver);
        assert_eq!(collect(body).expect("whole"), b"{\"Records\":[1,2]}");

        let (sender, receiver) = flume::bounded::<Result<Chunk, ApiError>>(4);
        drop(sender);
        assert!(collect(Body::listing(Bytes::from_static(b"["), receiver)).is_err());
    }

    #[test]
    fn gzip_gives_the_same_bytes_and_leaves_short_bodies() {
        let text = Bytes::from(vec![b'x'; 100_000]);
        let Ok(body) = Body::Full(text.clone()).gzipped() else { panic!("long enough") };
        let mut back = Vec::new();
        GzDecoder::new(&collect(body).expect("compressed")[..]).read_to_end(&mut back).expect("gzip");
        assert_eq!(back, text);
        assert!(Body::Full(Bytes::from_static(b"short")).gzipped().is_err());
    }
}

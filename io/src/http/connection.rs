//! The life of one connection: recognise the protocol, let hyper serve, end politely or not.
//!
//! An HTTP/1.1 connection at rest is parked: hyper's half, with its two 8 KiB buffers, is taken down and put up
//! again when the client sends its next byte. Between requests hyper has no state but the bytes it read ahead.
//!
//! One task per connection runs all of it. The verdicts of the [roster](super::roster) reach it by waking it.
//! **Runs on**: one serving core.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;

use super::counters::{ConnectionCounters, count};
use super::frames::PREFACE;
use super::limits::HttpLimits;
use super::refusal::{HEAD_TIMEOUT, TOO_MANY_CONNECTIONS};
use super::state::{ConnectionState, Phase, Verdict};
use super::stream::Wire;
use super::tracked::{RequestBody, tracked};
use crate::runtime::{look, spawn_behind};

/// What a closing connection is read on for, at most: enough for a request body that was refused half-way.
const LINGER_BYTES: usize = 256 << 10;
/// Output that hyper may hold per connection before it asks for no more.
const MAX_BUFFERED: usize = 64 << 10;

/// How connections of this core speak.
#[derive(Debug)]
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<LocalTasks>,
    counters: Rc<ConnectionCounters>,
}

/// Runs hyper's HTTP/2 streams as tasks of the executor, which do not begin before the connection has read what there
/// is: the runtime would run a new task at once, and one connection's fifty requests in one step.
#[derive(Debug, Clone, Copy)]
struct LocalTasks;

impl<F> hyper::rt::Executor<F> for LocalTasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, stream: F) {
        spawn_behind(stream).detach();
    }
}

impl Protocols {
    pub(crate) fn new(limits: &HttpLimits, counters: Rc<ConnectionCounters>) -> Rc<Protocols> {
        let mut http1 = http1::Builder::new();
        http1
            .keep_alive(true)
            .header_read_timeout(None)
            .max_headers(limits.max_headers)
            .max_header_size(limits.max_head_bytes)
            .max_buf_size(limits.max_head_bytes.max(MAX_BUFFERED));
        let mut http2 = http2::Builder::new(LocalTasks);
        http2
            .max_concurrent_streams(limits.h2_max_concurrent_streams)
            .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(MAX_BUFFERED)
            .initial_stream_window_size(128 << 10)
            .initial_connection_window_size(256 << 10)
            .max_frame_size(16 << 10);
        Rc::new(Protocols { http1, http2, counters })
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing is left to say: the protocol ended, or was broken by the client.
    Done,
    /// Something was not done in time.
    Cut(Verdict),
}

/// Serves one connection to its end.
pub(crate) async fn serve_connection<S, B>(
    wire: Wire,
    state: Rc<ConnectionState>,
    protocols: Rc<Protocols>,
    service: S,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let end = match recognise(&wire, &state).await {
        Err(end) => end,
        Ok(Protocol::Http1) => {
            let mut service = tracked(service, Rc::clone(&state));
            loop {
                let mut served = protocols.http1.serve_connection(wire.clone(), service);
                let end =
                    drive(Pin::new(&mut served), http1::Connection::graceful_shutdown, &wire, &state).await;
                if let Some(end) = end {
                    break end;
                }
                count(&protocols.counters.parked);
                let parts = served.into_parts();
                service = parts.service;
                wire.unread(parts.read_buf);
                if let Err(end) = rest(&wire, &state).await {
                    break end;
                }
            }
        }
        Ok(Protocol::Http2) => {
            let served = protocols.http2.serve_connection(wire.clone(), tracked(service, Rc::clone(&state)));
            let end = drive(pin!(served), http2::Connection::graceful_shutdown, &wire, &state).await;
            end.expect("only HTTP/1.1 is ever told to park")
        }
    };
    close(&wire, &state, end).await;
}

/// Answers a connection for which there is no room.
pub(crate) async fn refuse_connection(wire: Wire, state: Rc<ConnectionState>) {
    wire.push(TOO_MANY_CONNECTIONS);
    linger(&wire, &state).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// The protocol that starts with `first`, once that can be told.
fn protocol_of(first: &[u8]) -> Option<Protocol> {
    let compared = first.len().min(PREFACE.len());
    if first[..compared] != PREFACE[..compared] {
        return Some(Protocol::Http1);
    }
    (compared == PREFACE.len()).then_some(Protocol::Http2)
}

async fn recognise(wire: &Wire, state: &ConnectionState) -> Result<Protocol, End> {
    poll_fn(|cx| {
        state.watch(cx.waker());
        loop {
            match state.verdict() {
                Verdict::Run | Verdict::Park => {}
                // A client in the middle of its first words is heard out; a silent one misses nothing.
                Verdict::Stop if state.phase() != Phase::Opening => {}
                Verdict::Stop => return Poll::Ready(Err(End::Done)),
                late => return Poll::Ready(Err(End::Cut(late))),
            }
            let peeked = wire.poll_peek(cx, |first| {
                let protocol = protocol_of(first);
                if protocol == Some(Protocol::Http2) {
                    state.turn_http2(first);
                }
                protocol
            });
            match peeked {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(protocol))) => return Poll::Ready(Ok(protocol)),
                Poll::Ready(Ok(None)) if !wire.is_over() => {}
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Err(End::Done)),
            }
        }
    })
    .await
}

/// Waits, without hyper, for the first byte of the next request.
async fn rest(wire: &Wire, state: &ConnectionState) -> Result<(), End> {
    if state.phase() == Phase::Head {
        // hyper had read a part of the next head already.
        return Ok(());
    }
    state.set_parked(true);
    let woken = poll_fn(|cx| {
        state.stay();
        match state.verdict() {
            Verdict::Run | Verdict::Park => {}
            Verdict::Stop => return Poll::Ready(Err(End::Done)),
            late => return Poll::Ready(Err(End::Cut(late))),
        }
        wire.poll_peek(cx, |_| ()).map(|peeked| match peeked {
            Ok(()) if !wire.is_over() => Ok(()),
            Ok(()) | Err(_) => Err(End::Done),
        })
    })
    .await;
    state.set_parked(false);
    woken
}

/// Polls hyper's connection, sends what it wrote, and obeys verdicts. `None`: it rests, and hyper may go until the
/// client speaks again.
async fn drive<C>(
    mut served: Pin<&mut C>,
    finish_up: fn(Pin<&mut C>),
    wire: &Wire,
    state: &ConnectionState,
) -> Option<End>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut told = false;
    // Held, not awaited: it wakes the task.
    let mut pause = None;
    poll_fn(|cx| {
        wire.begin_turn();
        match state.verdict() {
            Verdict::Run | Verdict::Park => {}
            Verdict::Stop if told => {}
            Verdict::Stop => {
                told = true;
                finish_up(served.as_mut());
            }
            late => return Poll::Ready(Some(End::Cut(late))),
        }
        if served.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(End::Done));
        }
        // A client that is never done sending has its next turn after the others'.
        if wire.turn_is_over() {
            let mut looking = Box::pin(look());
            // It is pending: it ends with a look that is still to come.
            let _ = looking.as_mut().poll(cx);
            pause = Some(looking);
        }
        match wire.poll_send(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Some(End::Done)),
            Poll::Ready(Ok(())) if state.verdict() == Verdict::Park && state.may_park() => Poll::Ready(None),
            Poll::Ready(Ok(())) => Poll::Pending,
            Poll::Pending => {
                state.stay();
                Poll::Pending
            }
        }
    })
    .await
}

async fn close(wire: &Wire, state: &ConnectionState, end: End) {
    match end {
        End::Done if wire.is_over() => {}
        End::Cut(Verdict::WriteStalled | Verdict::Abort) => wire.reset(),
        End::Cut(Verdict::HeadLate) if state.phase() == Phase::Head => {
            wire.push(HEAD_TIMEOUT);
            linger(wire, state).await;
        }
        // An idle or silent client awaits nothing: no answer could be meant for it.
        End::Cut(_) => {}
        // Nobody is kept waiting at a stop for a client that rests.
        End::Done if state.verdict() == Verdict::Stop && state.phase() != Phase::Busy => {
            finish(wire, state).await;
        }
        End::Done => linger(wire, state).await,
    }
}

/// Sends the last bytes and our end of stream, within the grace of a close.
async fn finish(wire: &Wire, state: &ConnectionState) -> bool {
    state.linger();
    poll_fn(|cx| {
        state.watch(cx.waker());
        if state.verdict() != Verdict::Run {
            wire.reset();
            return Poll::Ready(false);
        }
        wire.poll_finish(cx).map(|sent| sent.is_ok())
    })
    .await
}

/// Sends the last bytes, then reads on for a moment: closing a socket with unread input resets the connection, and
/// the client would lose the answer just sent.
async fn linger(wire: &Wire, state: &ConnectionState) {
    if !finish(wire, state).await {
        return;
    }
    state.part();
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        loop {
            if state.verdict() != Verdict::Run {
                return Poll::Ready(());
            }
            match wire.poll_discard(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 && n < left => left -= n,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_known_at_the_first_byte_that_differs() {
        assert_eq!(protocol_of(b""), None);
        assert_eq!(protocol_of(b"P"), None);
        assert_eq!(protocol_of(b"PUT / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(protocol_of(b"GET"), Some(Protocol::Http1));
        assert_eq!(protocol_of(&PREFACE[..23]), None);
        assert_eq!(protocol_of(&PREFACE[..]), Some(Protocol::Http2));
        assert_eq!(protocol_of(&[&PREFACE[..], &[0; 9]].concat()), Some(Protocol::Http2));
    }
}

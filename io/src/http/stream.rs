//! A TCP stream as hyper's reader and writer.
//!
//! - Reads go into one scratch buffer per core and from there into hyper's: nothing is zeroed, and the memory of
//!   a connection grows only by what its client sent.
//! - Small writes gather and leave in one send when the connection's task has polled hyper to a standstill
//!   ([`Wire::poll_send`]); so pipelined requests share a system call, and yet no more than [`GATHER`] bytes wait,
//!   after which hyper feels the back-pressure. Large writes pass by without a copy.
//! - A gathering buffer belongs to the core and is lent only while bytes wait in it.
//!
//! - hyper reads as long as there is something to read. So a turn has a limit, [`READS`]; at the limit the wire acts as
//!   if nothing had come, and the connection's task must come back by itself.
//!
//! Invariant: whoever polls hyper with a `Wire` calls `begin_turn` before, `turn_is_over` and `poll_send` afterwards.
//! **Runs on**: one serving core. **Not here**: what the waiting means ([`super::state`]).

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;

use super::state::ConnectionState;
use crate::runtime::TcpStream;

/// Bytes of output that wait for one send. Anything larger is sent without being gathered.
const GATHER: usize = 16 << 10;
/// The most that one read takes.
const SCRATCH: usize = 64 << 10;
/// Reads of one turn: two are usual, the second of which finds nothing.
const READS: u32 = 8;
/// Gathering buffers kept for reuse; more exist only while more clients are slow at once.
const SPARE: usize = 64;

/// The buffers of one core.
#[derive(Debug)]
pub(crate) struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new() -> Rc<Buffers> {
        Rc::new(Buffers {
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            spare: RefCell::new(Vec::new()),
        })
    }

    fn lend(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(GATHER))
    }

    fn take_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// One connection's bytes. Clones are the same connection: hyper has one, the connection's task another.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: RefCell<Socket>,
    state: Rc<ConnectionState>,
    buffers: Rc<Buffers>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// Bytes read to recognise the protocol, not yet given to hyper.
    replay: Bytes,
    /// Lent by the core while it holds bytes.
    gathered: Option<Vec<u8>>,
    sent: usize,
    reads: u32,
    ended: bool,
    broken: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, state: Rc<ConnectionState>, buffers: Rc<Buffers>) -> Wire {
        let socket = Socket {
            stream,
            replay: Bytes::new(),
            gathered: None,
            sent: 0,
            reads: 0,
            ended: false,
            broken: false,
        };
        Wire { shared: Rc::new(Shared { socket: RefCell::new(socket), state, buffers }) }
    }

    /// Whether the client has closed its side or the connection failed: nobody will send any more.
    pub(crate) fn is_over(&self) -> bool {
        let socket = self.shared.socket.borrow();
        socket.ended || socket.broken
    }

    /// hyper may read again.
    pub(crate) fn begin_turn(&self) {
        self.shared.socket.borrow_mut().reads = 0;
    }

    /// Whether hyper was told that there is nothing to read although there may be: nobody will wake the task.
    pub(crate) fn turn_is_over(&self) -> bool {
        self.shared.socket.borrow().reads > READS
    }

    /// Reads more of the first bytes and shows all of them to `look`; hyper will get them again.
    /// `look` is shown no more than before when the client has closed.
    pub(crate) fn poll_peek<T>(
        &self,
        cx: &mut Context<'_>,
        look: impl Fn(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let Shared { socket, state, buffers } = &*self.shared;
        let socket = &mut *socket.borrow_mut();
        let scratch = &mut *buffers.scratch.borrow_mut();
        let n = ready!(socket.poll_receive(cx, scratch))?;
        state.received(&scratch[..n]);
        socket.replay = if socket.replay.is_empty() {
            Bytes::copy_from_slice(&scratch[..n])
        } else {
            [&socket.replay[..], &scratch[..n]].concat().into()
        };
        Poll::Ready(Ok(look(&socket.replay)))
    }

    /// Takes back what hyper had read and not used; whoever reads next gets it first.
    pub(crate) fn unread(&self, bytes: Bytes) {
        let Shared { socket, state, .. } = &*self.shared;
        if !bytes.is_empty() {
            state.received(&bytes);
            socket.borrow_mut().replay = bytes;
        }
    }

    /// Reads and throws away; 0 when the client has closed.
    pub(crate) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let scratch = &mut *self.shared.buffers.scratch.borrow_mut();
        self.shared.socket.borrow_mut().poll_receive(cx, scratch)
    }

    /// Appends an answer of our own to the gathered output, whatever its size.
    pub(crate) fn push(&self, answer: &[u8]) {
        let Shared { socket, buffers, .. } = &*self.shared;
        socket.borrow_mut().gathered.get_or_insert_with(|| buffers.lend()).extend_from_slice(answer);
    }

    /// Sends what has gathered. Ready when the socket took everything.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { socket, state, buffers } = &*self.shared;
        socket.borrow_mut().poll_send(cx, state, buffers)
    }

    /// Sends what has gathered, then tells the client that no more will come.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Poll::Ready(self.shared.socket.borrow().stream.shutdown())
    }

    /// Makes the close a reset, which throws unsent bytes away.
    pub(crate) fn reset(&self) {
        self.shared.socket.borrow().stream.reset_on_close();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(buffer) = self.socket.get_mut().gathered.take() {
            self.buffers.take_back(buffer);
        }
    }
}

impl Socket {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match ready!(self.stream.poll_read(cx, into)) {
            Ok(n) => {
                self.ended = n == 0;
                Poll::Ready(Ok(n))
            }
            Err(error) => {
                self.broken = true;
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        state: &ConnectionState,
        buffers: &Buffers,
    ) -> Poll<io::Result<()>> {
        if self.gathered.is_none() {
            return Poll::Ready(Ok(()));
        }
        while let Some(unsent) =
            self.gathered.as_ref().map(|all| &all[self.sent..]).filter(|rest| !rest.is_empty())
        {
            let moved = ready!(send(&mut self.stream, &mut self.broken, cx, state, unsent))?;
            self.sent += moved;
        }
        self.sent = 0;
        if let Some(buffer) = self.gathered.take() {
            buffers.take_back(buffer);
        }
        state.drained();
        Poll::Ready(Ok(()))
    }

    /// Gathers as much of `bytes` as there is room for.
    fn gather(&mut self, bytes: &[u8], buffers: &Buffers) -> usize {
        let buffer = self.gathered.get_or_insert_with(|| buffers.lend());
        let taken = GATHER.saturating_sub(buffer.len()).min(bytes.len());
        buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Takes some of `bufs`: copies of the small, the large straight into the socket.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        state: &ConnectionState,
        buffers: &Buffers,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.as_ref().is_some_and(|buffer| buffer.len() >= GATHER) {
            ready!(self.poll_send(cx, state, buffers))?;
        }
        let mut taken = 0;
        for buf in bufs {
            if self.gathered.is_none() && buf.len() >= GATHER {
                // A copy would buy nothing here. The rest is asked for again.
                return send(&mut self.stream, &mut self.broken, cx, state, buf);
            }
            let gathered = if buf.is_empty() { 0 } else { self.gather(buf, buffers) };
            taken += gathered;
            if gathered < buf.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }
}

fn send(
    stream: &mut TcpStream,
    broken: &mut bool,
    cx: &mut Context<'_>,
    state: &ConnectionState,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match stream.poll_write(cx, bytes) {
        Poll::Ready(Ok(0)) => {
            *broken = true;
            Poll::Ready(Err(io::ErrorKind::WriteZero.into()))
        }
        Poll::Ready(Ok(moved)) => {
            state.moved(moved);
            Poll::Ready(Ok(moved))
        }
        Poll::Ready(Err(error)) => {
            *broken = true;
            Poll::Ready(Err(error))
        }
        Poll::Pending => {
            state.blocked();
            Poll::Pending
        }
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Shared { socket, state, buffers } = &*self.shared;
        let socket = &mut *socket.borrow_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !socket.replay.is_empty() {
            let n = into.remaining().min(socket.replay.len());
            into.put_slice(&socket.replay.split_to(n));
            return Poll::Ready(Ok(()));
        }
        socket.reads += 1;
        if socket.reads > READS {
            return Poll::Pending;
        }
        let scratch = &mut *buffers.scratch.borrow_mut();
        let room = into.remaining().min(scratch.len());
        let n = ready!(socket.poll_receive(cx, &mut scratch[..room]))?;
        if n > 0 {
            state.received(&scratch[..n]);
            into.put_slice(&scratch[..n]);
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Says yes although bytes may be gathered: the connection's task sends them before it rests.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Shared { socket, state, .. } = &*self.shared;
        if socket.borrow().gathered.is_none() {
            state.drained();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx)
    }

    /// Makes hyper keep bodies as they are instead of copying them into a buffer that only ever grows.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Shared { socket, state, buffers } = &*self.shared;
        socket.borrow_mut().poll_take(cx, state, buffers, bufs)
    }
}

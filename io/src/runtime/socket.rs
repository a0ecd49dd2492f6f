//! TCP sockets of a core.
//!
//! A read asks the kernel only while there may be something: after a short read the socket is drained, and nothing is
//! asked until the reactor has been told of more. A write is tried first, since it nearly always succeeds.
//!
//! **Runs on**: the core that made the socket. **Not here**: buffers, deadlines (`http`).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener as StdListener};
use std::task::{Context, Poll};
use std::time::Duration;

use mio::Interest;
use socket2::SockRef;

use super::reactor::{self, Registration, note};

/// A connection.
#[derive(Debug)]
pub struct TcpStream {
    socket: mio::net::TcpStream,
    registration: Registration,
}

impl TcpStream {
    fn new(mut socket: mio::net::TcpStream) -> io::Result<TcpStream> {
        let registration =
            reactor::current().register(&mut socket, Interest::READABLE.add(Interest::WRITABLE))?;
        Ok(TcpStream { socket, registration })
    }

    /// Reads what there is; 0 is the end of the stream.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let readiness = &self.registration.readiness;
        if readiness.readable.get() {
            loop {
                match self.socket.read(into) {
                    Ok(n) => {
                        if n == 0 {
                            readiness.ended.set(true);
                        }
                        // Less than was asked for: there is no more, unless the end has been announced already.
                        if n < into.len() && !readiness.ended.get() {
                            readiness.readable.set(false);
                        }
                        return Poll::Ready(Ok(n));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            readiness.readable.set(false);
        }
        note(&readiness.reader, cx.waker());
        Poll::Pending
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    note(&self.registration.readiness.writer, cx.waker());
                    return Poll::Pending;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Tells the other side that no more will come.
    ///
    /// # Errors
    /// The socket's; one that is closed already is no error worth acting on.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset: unsent bytes are thrown away at once instead of staying in the kernel for minutes
    /// on behalf of a client that does not read.
    pub fn reset_on_close(&self) {
        // A socket that is broken already needs no reset.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct TcpListener {
    socket: mio::net::TcpListener,
    registration: Registration,
}

impl TcpListener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// It cannot be made non-blocking or be waited for.
    ///
    /// # Panics
    /// If the calling thread is not a core's.
    pub fn new(socket: StdListener) -> io::Result<TcpListener> {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpListener::from_std(socket);
        let registration = reactor::current().register(&mut socket, Interest::READABLE)?;
        Ok(TcpListener { socket, registration })
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system's: out of descriptors above all. Trying again at once would fail again.
    pub fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<TcpStream>> {
        let readiness = &self.registration.readiness;
        while readiness.readable.get() {
            match self.socket.accept() {
                Ok((socket, _)) => return Poll::Ready(TcpStream::new(socket)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => readiness.readable.set(false),
                // The client has gone before it was welcomed, or a signal came.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        note(&readiness.reader, cx.waker());
        Poll::Pending
    }
}

//! The listening socket of one core.
//!
//! Every core binds its own socket to the same address (`SO_REUSEPORT`); the kernel spreads new connections over
//! them. Options that accepted sockets inherit (`TCP_NODELAY`) are set once, here.
//!
//! **Runs on**: `bind` on any thread (the starting one, so that a taken port is known before cores start);
//! the rest on the serving core. **Not here**: accepting ([`super::serve`]).

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::runtime::TcpListener;

/// A bound, listening socket that one core will serve.
#[derive(Debug)]
pub struct HttpListener {
    socket: StdListener,
}

impl HttpListener {
    /// Binds `addr` with `SO_REUSEPORT` and listens with room for `backlog` connections that were not accepted yet.
    /// A second process of the same user could bind the same port as well: hold a lock file against that.
    ///
    /// # Errors
    /// What the system answers: address in use by a socket without `SO_REUSEPORT`, no permission, no descriptor.
    pub fn bind(addr: SocketAddr, backlog: u32) -> io::Result<HttpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the last run to leave TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(HttpListener { socket: socket.into() })
    }

    /// The address bound, with the port that the system chose when 0 was asked for.
    ///
    /// # Errors
    /// What `getsockname` answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Hands the socket to the core of the calling thread.
    pub(crate) fn into_core(self) -> io::Result<TcpListener> {
        TcpListener::new(self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_share_one_port() {
        let first = HttpListener::bind("127.0.0.1:0".parse().expect("an address"), 16).expect("bind");
        let addr = first.local_addr().expect("bound");
        let second = HttpListener::bind(addr, 16).expect("bind again");
        assert_eq!(second.local_addr().expect("bound"), addr);
    }

    #[test]
    fn a_port_taken_by_a_stranger_is_an_error() {
        let stranger = StdListener::bind("127.0.0.1:0").expect("bind");
        let addr = stranger.local_addr().expect("bound");
        let refused = HttpListener::bind(addr, 16).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}

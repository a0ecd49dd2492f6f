//! What carries a request: the kernel's loopback, a look at the sockets, and hyper, each without the others.
//!
//! The server's part of the loopback is about the half of both ways: it receives what the client sent and sends what the
//! client receives, and sending pays for the delivery as well. **Not here**: waking whoever sleeps on the other side.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use divan::black_box;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use mio::{Events, Interest, Token};

use crate::input::get_body;
use crate::meter::{Meter, Step};

/// The answer to a get of one record of 300 bytes, head and body, and its body.
const ANSWER: usize = 620;
const ANSWER_BODY: usize = 440;

pub(crate) const STEPS: &[Step] = &[
    Step::new("loopback: a request there", |meter| carry(meter, request().len())),
    Step::new("loopback: an answer back", |meter| carry(meter, ANSWER)),
    Step::new("look at 64 silent sockets", look),
    Step::new("hyper: from head to head", hyper),
];

fn request() -> Vec<u8> {
    let body = get_body(1);
    let head = format!(
        "POST /records/get HTTP/1.1\r\nhost: 127.0.0.1:8190\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("no delay");
    }
    (client, server)
}

fn carry(meter: Meter<'_, '_>, bytes: usize) {
    let (mut client, mut server) = pair();
    let (out, mut back) = (vec![b'x'; bytes], vec![0; 8 << 10]);
    meter.each(1, || {
        client.write_all(black_box(&out)).expect("open");
        let read = server.read(&mut back).expect("open");
        assert_eq!(read, out.len());
    });
}

fn look(meter: Meter<'_, '_>) {
    let mut poll = mio::Poll::new().expect("descriptors");
    let mut events = Events::with_capacity(1024);
    let pairs: Vec<_> = (0..64)
        .map(|n| {
            let (client, server) = pair();
            server.set_nonblocking(true).expect("a socket");
            let mut server = mio::net::TcpStream::from_std(server);
            let interest = Interest::READABLE.add(Interest::WRITABLE);
            poll.registry().register(&mut server, Token(n), interest).expect("room");
            (client, server)
        })
        .collect();
    // The first look finds all of them writable, and is told once.
    poll.poll(&mut events, Some(Duration::ZERO)).expect("a look");
    meter.each(1, || {
        poll.poll(&mut events, Some(Duration::ZERO)).expect("a look");
        assert!(events.is_empty());
    });
    drop(pairs);
}

/// A connection on which the same request comes whenever it is asked for, and that takes every answer.
struct Loop {
    request: Vec<u8>,
    comes: Rc<Cell<bool>>,
    taken: Rc<Cell<usize>>,
}

impl hyper::rt::Read for Loop {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.comes.replace(false) {
            return Poll::Pending;
        }
        into.put_slice(&self.request);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Loop {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.taken.set(self.taken.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn hyper(meter: Meter<'_, '_>) {
    let (comes, taken) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let wire = Loop { request: request(), comes: Rc::clone(&comes), taken: Rc::clone(&taken) };
    let body = Bytes::from(vec![b'x'; ANSWER_BODY]);
    let service = service_fn(move |request: Request<Incoming>| {
        let body = body.clone();
        async move {
            let sent = request.into_body().collect().await.expect("a whole body").to_bytes();
            assert!(!sent.is_empty());
            let mut response = Response::new(Full::new(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = Box::pin(http1::Builder::new().serve_connection(wire, service));
    let mut context = Context::from_waker(Waker::noop());
    let mut serve = || {
        taken.set(0);
        comes.set(true);
        assert!(connection.as_mut().poll(&mut context).is_pending());
        taken.get()
    };
    assert!(serve() > ANSWER_BODY);
    meter.each(1, serve);
}

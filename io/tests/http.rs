//! The HTTP server against plain sockets: protocols, deadlines, refusals and the way it stops.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use firescroll_io::http::{
    BodyBudget, BodyError, ConnectionCounters, Heartbeat, HttpLimits, HttpListener, RequestBody, Stop, TICK,
    read_body, serve, start_tick,
};
use firescroll_io::runtime::{Placement, Running, Runtime, sleep, spawn};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::service::service_fn;

/// A guard against hanging, far above anything that a test waits for.
const GUARD: Duration = Duration::from_secs(60);
const FOREVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(50);
/// A head deadline that a client on a busy machine still meets when it means to.
const HEAD_SOON: Duration = Duration::from_secs(2);
const BODY_LIMIT: usize = 1000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits under which nothing is ever late; tests shorten the one that they are about.
fn patient() -> HttpLimits {
    HttpLimits {
        max_connections: 100,
        head_deadline: FOREVER,
        idle_deadline: FOREVER,
        write_deadline: FOREVER,
        ..HttpLimits::default()
    }
}

/// Larger than what the sockets of a connection hold together.
const BIG: usize = 64 << 20;

/// A response body that gives `chunk` so many `times` and reports its end.
struct Answer {
    chunk: Bytes,
    times: usize,
    dropped: Option<flume::Sender<()>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.times.checked_sub(1) else { return Poll::Ready(None) };
        self.times = left;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.times * self.chunk.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.times * self.chunk.len()) as u64)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            // The test may be over.
            let _ = dropped.send(());
        }
    }
}

/// Totals at the end of a server.
#[derive(Debug)]
struct Totals {
    open: u64,
    accepted: u64,
    shed: u64,
    cut_head: u64,
    cut_idle: u64,
    cut_write: u64,
}

struct Server {
    addr: SocketAddr,
    stop: flume::Sender<Duration>,
    /// A request to `/hold` has arrived.
    held: flume::Receiver<()>,
    /// Lets one held request go.
    release: flume::Sender<()>,
    /// A body of `/big` is gone.
    big_gone: flume::Receiver<()>,
    served: Arc<AtomicUsize>,
    /// Answered once so many connections were parked.
    parked: flume::Sender<(u64, flume::Sender<()>)>,
    thread: Running<Totals>,
}

#[derive(Clone)]
struct Routes {
    arrived: flume::Sender<()>,
    go: flume::Receiver<()>,
    chunk: Bytes,
    big_gone: flume::Sender<()>,
    served: Arc<AtomicUsize>,
    budget: BodyBudget,
}

impl Routes {
    async fn answer(self, mut request: Request<RequestBody>) -> Response<Answer> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        let mut status = StatusCode::OK;
        let (mut times, mut dropped) = (1, None);
        let chunk = match path.as_str() {
            "/hold" => {
                self.arrived.send(()).expect("the test listens");
                self.go.recv_async().await.expect("the test releases");
                Bytes::from("released")
            }
            "/big" => {
                (times, dropped) = (BIG / self.chunk.len(), Some(self.big_gone.clone()));
                self.chunk.clone()
            }
            "/echo" => match read_body(request.body_mut(), BODY_LIMIT, FOREVER, &self.budget).await {
                Ok(body) => body.into_parts().0,
                Err(error) => {
                    status = match error {
                        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                        _ => StatusCode::BAD_REQUEST,
                    };
                    Bytes::new()
                }
            },
            _ => Bytes::from(path),
        };
        let mut response = Response::new(Answer { chunk, times, dropped });
        *response.status_mut() = status;
        response
    }
}

impl Server {
    fn start(limits: HttpLimits) -> Server {
        let listener = HttpListener::bind("127.0.0.1:0".parse().expect("an address"), HttpLimits::BACKLOG)
            .expect("bind");
        let addr = listener.local_addr().expect("bound");
        let (stop, stopped) = flume::unbounded::<Duration>();
        let (arrived, held) = flume::unbounded();
        let (release, go) = flume::unbounded();
        let (big_gone_tx, big_gone) = flume::unbounded();
        let (parked, asked) = flume::unbounded::<(u64, flume::Sender<()>)>();
        let served = Arc::new(AtomicUsize::new(0));
        let serves = Arc::clone(&served);
        let thread = Runtime::new()
            .expect("descriptors")
            .start(Placement::Unbound, "server", move || async move {
                start_tick(Heartbeat::new());
                let routes = Routes {
                    arrived,
                    go,
                    chunk: Bytes::from(vec![b'x'; 64 << 10]),
                    big_gone: big_gone_tx,
                    served: serves,
                    budget: BodyBudget::new(1 << 20),
                };
                let order = Stop::new();
                let ordered = order.clone();
                spawn(async move {
                    if let Ok(grace) = stopped.recv_async().await {
                        ordered.trigger(grace);
                    }
                })
                .detach();
                let counters = Rc::new(ConnectionCounters::default());
                let seen = Rc::clone(&counters);
                spawn(async move {
                    while let Ok((parks, answer)) = asked.recv_async().await {
                        while seen.parked.get() < parks {
                            sleep(TICK).await;
                        }
                        answer.send(()).expect("the test waits");
                    }
                })
                .detach();
                let service = service_fn(move |request| {
                    let routes = routes.clone();
                    async move { Ok::<_, Infallible>(routes.answer(request).await) }
                });
                serve(listener, limits, service, order, Rc::clone(&counters)).await;
                let total = |counter: &Cell<u64>| counter.get();
                Totals {
                    open: total(&counters.open),
                    accepted: total(&counters.accepted),
                    shed: total(&counters.shed),
                    cut_head: total(&counters.cut_head),
                    cut_idle: total(&counters.cut_idle),
                    cut_write: total(&counters.cut_write),
                }
            })
            .expect("a core");
        Server { addr, stop, held, release, big_gone, served, parked, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("connect");
        stream.set_read_timeout(Some(GUARD)).expect("a guard");
        stream.set_write_timeout(Some(GUARD)).expect("a guard");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Waits until connections were parked so many times.
    fn wait_parked(&self, parks: u64) {
        let (answer, answered) = flume::bounded(1);
        self.parked.send((parks, answer)).expect("the server runs");
        answered.recv_timeout(GUARD).expect("it is parked");
    }

    fn order_stop(&self, grace: Duration) {
        self.stop.send(grace).expect("the server runs");
    }

    fn finish(self) -> Totals {
        let totals = self.thread.join().expect("the core ends well");
        assert_eq!(totals.open, 0);
        totals
    }

    fn stop(self) -> Totals {
        self.order_stop(GUARD);
        self.finish()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn send(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("the server reads");
}

/// Reads one response: its head in lower case, and its body by content-length.
fn response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, body)
}

/// Everything up to the server's close.
fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an orderly close");
    all
}

/// Reads until the connection is gone, however it went; says how many bytes came.
fn to_cut(stream: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return total,
            Ok(n) => total += n,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("neither data nor an end: {error}"),
        }
    }
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start(patient());
    let mut client = server.connect();
    for path in ["/a", "/b", "/c"] {
        send(&mut client, get(path));
        let (head, body) = response(&mut client);
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(head.contains("\r\ndate: "), "{head}");
        assert_eq!(body, path.as_bytes());
    }
    drop(client);
    assert_eq!(server.stop().accepted, 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(patient());
    let mut client = server.connect();
    let all: String = (0..200).map(|n| get(&format!("/{n}"))).collect();
    send(&mut client, all);
    for n in 0..200 {
        assert_eq!(response(&mut client).1, format!("/{n}").as_bytes());
    }
    drop(client);
    server.stop();
}

#[test]
fn a_pipelined_answer_does_not_wait_for_the_next() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, get("/first") + &get("/hold"));
    assert_eq!(response(&mut client).1, b"/first");
    server.held.recv_timeout(GUARD).expect("the second is being served");
    server.release.send(()).expect("it waits");
    assert_eq!(response(&mut client).1, b"released");
    drop(client);
    server.stop();
}

#[test]
fn a_head_in_pieces_that_starts_like_http2_is_http1() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, "P");
    send(&mut client, "UT /put HTTP/1.1\r\nhost: test\r\n");
    send(&mut client, "content-length: 0\r\n\r\n");
    assert_eq!(response(&mut client).1, b"/put");
    drop(client);
    server.stop();
}

#[test]
fn a_body_arrives_whole_or_is_too_large() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n01234");
    send(&mut client, "56789");
    assert_eq!(response(&mut client).1, b"0123456789");
    let chunks = "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    send(&mut client, chunks);
    assert_eq!(response(&mut client).1, b"abcde");
    // The refusal must reach a client that sends on without reading.
    send(&mut client, "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    send(&mut client, vec![b'x'; 100_000]);
    let (head, _) = response(&mut client);
    assert!(head.starts_with("http/1.1 413 "), "{head}");
    drop(client);
    server.stop();
}

#[test]
fn a_large_response_arrives_whole() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, get("/big"));
    let (_, body) = response(&mut client);
    assert_eq!(body.len(), BIG);
    assert!(body.iter().all(|byte| *byte == b'x'));
    send(&mut client, get("/after"));
    assert_eq!(response(&mut client).1, b"/after");
    drop(client);
    server.stop();
}

#[test]
fn an_unfinished_head_gets_408() {
    let server = Server::start(HttpLimits { head_deadline: HEAD_SOON, ..patient() });
    let mut client = server.connect();
    send(&mut client, "GET / HTTP/1.1\r\nhost: te");
    let answer = String::from_utf8(to_end(&mut client)).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("\"status\":408"), "{answer}");
    assert_eq!(server.stop().cut_head, 1);
}

#[test]
fn an_unfinished_second_head_gets_408_too() {
    let server = Server::start(HttpLimits { head_deadline: HEAD_SOON, ..patient() });
    let mut client = server.connect();
    send(&mut client, get("/a"));
    assert_eq!(response(&mut client).1, b"/a");
    send(&mut client, "GET /b HT");
    assert!(to_end(&mut client).starts_with(b"HTTP/1.1 408 "));
    assert_eq!(server.stop().cut_head, 1);
}

#[test]
fn a_parked_connection_serves_on() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, get("/a"));
    assert_eq!(response(&mut client).1, b"/a");
    // Behind a whole request the start of another, which hyper reads ahead. It is parked with the connection, and
    // must be there when the rest of it comes.
    send(&mut client, get("/b") + "GET /c HT");
    assert_eq!(response(&mut client).1, b"/b");
    server.wait_parked(1);
    send(&mut client, "TP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(response(&mut client).1, b"/c");
    server.wait_parked(2);
    send(&mut client, get("/d"));
    assert_eq!(response(&mut client).1, b"/d");
    drop(client);
    server.stop();
}

#[test]
fn silent_and_idle_connections_are_closed_without_a_word() {
    let server = Server::start(HttpLimits { head_deadline: HEAD_SOON, idle_deadline: SOON, ..patient() });
    let mut silent = server.connect();
    assert_eq!(to_end(&mut silent), b"");
    let mut idle = server.connect();
    send(&mut idle, get("/a"));
    assert_eq!(response(&mut idle).1, b"/a");
    assert_eq!(to_end(&mut idle), b"");
    let totals = server.stop();
    assert_eq!((totals.cut_head, totals.cut_idle), (1, 1));
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let server = Server::start(HttpLimits { write_deadline: SOON, ..patient() });
    let mut client = server.connect();
    send(&mut client, get("/big"));
    server.big_gone.recv_timeout(GUARD).expect("the response is given up");
    assert!(to_cut(&mut client) < BIG);
    assert_eq!(server.stop().cut_write, 1);
}

#[test]
fn pipelining_without_reading_fills_no_memory() {
    let server = Server::start(HttpLimits { write_deadline: SOON, ..patient() });
    let mut client = server.connect();
    // One that is larger than the sockets hold, then many: none of them may be served behind it.
    send(&mut client, get("/big"));
    send(&mut client, get("/small").repeat(1000));
    server.big_gone.recv_timeout(GUARD).expect("the response is given up");
    to_cut(&mut client);
    assert!(server.served.load(Ordering::Relaxed) < 100);
    assert_eq!(server.stop().cut_write, 1);
}

#[test]
fn one_connection_too_many_gets_503() {
    let server = Server::start(HttpLimits { max_connections: 2, ..patient() });
    let mut first = server.connect();
    let mut second = server.connect();
    for client in [&mut first, &mut second] {
        send(client, get("/in"));
        assert_eq!(response(client).1, b"/in");
    }
    let mut third = server.connect();
    let answer = String::from_utf8(to_end(&mut third)).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("\"status\":503"), "{answer}");
    send(&mut first, get("/still"));
    assert_eq!(response(&mut first).1, b"/still");
    drop((first, second, third));
    let totals = server.stop();
    assert_eq!((totals.accepted, totals.shed), (2, 1));
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_closes_the_rest() {
    let server = Server::start(patient());
    let mut idle = server.connect();
    send(&mut idle, get("/a"));
    assert_eq!(response(&mut idle).1, b"/a");
    let mut silent = server.connect();
    let mut busy = server.connect();
    send(&mut busy, get("/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    server.order_stop(GUARD);
    assert_eq!(to_end(&mut idle), b"");
    assert_eq!(to_end(&mut silent), b"");
    server.release.send(()).expect("it waits");
    let (head, body) = response(&mut busy);
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, b"released");
    assert_eq!(to_end(&mut busy), b"");
    drop(busy);
    server.finish();
}

#[test]
fn a_stop_answers_each_connection_once_more_and_says_so() {
    let server = Server::start(HttpLimits { last_call: GUARD, ..patient() });
    let mut resting = server.connect();
    send(&mut resting, get("/a"));
    assert_eq!(response(&mut resting).1, b"/a");
    let mut silent = server.connect();
    let mut asking = server.connect();
    send(&mut asking, "GET /in/two");
    let mut busy = server.connect();
    send(&mut busy, get("/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    let mut told = server.connect();
    send(&mut told, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    next_of(&mut told, SETTINGS);
    server.order_stop(GUARD);
    // All are told in one go.
    next_of(&mut told, GOAWAY);
    server.release.send(()).expect("it waits");
    assert!(response(&mut busy).0.contains("connection: close"));
    send(&mut resting, get("/b"));
    send(&mut silent, get("/c"));
    send(&mut asking, "/parts HTTP/1.1\r\nhost: test\r\n\r\n");
    for (client, path) in [(&mut resting, "/b"), (&mut silent, "/c"), (&mut asking, "/in/two/parts")] {
        let (head, body) = response(client);
        assert_eq!((head.matches("connection: close").count(), body), (1, path.into()), "{head}");
        assert_eq!(to_end(client), b"");
    }
    drop((resting, silent, asking, busy, told));
    server.finish();
}

#[test]
fn a_stop_cuts_what_outlives_its_grace() {
    let server = Server::start(patient());
    let mut busy = server.connect();
    send(&mut busy, get("/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    server.order_stop(SOON);
    assert_eq!(to_cut(&mut busy), 0);
    server.finish();
}

#[test]
fn a_broken_head_gets_400() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, "no http at all\r\n\r\n");
    assert!(to_end(&mut client).starts_with(b"HTTP/1.1 400 "));
    let mut large = server.connect();
    let padding = "x".repeat(patient().max_head_bytes);
    send(&mut large, format!("GET / HTTP/1.1\r\nhost: test\r\npadding: {padding}\r\n\r\n"));
    assert!(to_end(&mut large).starts_with(b"HTTP/1.1 431 "));
    drop((client, large));
    server.stop();
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, get("/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    client.shutdown(Shutdown::Both).expect("leave");
    drop(client);
    // Nothing releases the request: the server ends only if it noticed.
    server.stop();
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// GET of a path shorter than 127 bytes, with nothing but static table entries and plain literals.
fn h2_get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).expect("short")];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x41\x04test");
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

fn next_frame(stream: &mut TcpStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).expect("its payload");
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// Skips to the next frame of `kind`, answering pings on the way as a client must.
fn next_of(client: &mut TcpStream, kind: u8) -> (u8, u32, Vec<u8>) {
    loop {
        let (this, flags, stream, payload) = next_frame(client);
        if this == kind {
            return (flags, stream, payload);
        }
        if this == PING && flags & ACK == 0 {
            send(client, frame(PING, ACK, 0, &payload));
        }
    }
}

/// The status 200 from the static table.
const STATUS_200: u8 = 0x88;

#[test]
fn http2_with_prior_knowledge_shares_the_port() {
    let server = Server::start(patient());
    let mut client = server.connect();
    // In two pieces, so that the protocol is not known at the first.
    send(&mut client, &PREFACE[..10]);
    send(&mut client, &PREFACE[10..]);
    send(&mut client, frame(SETTINGS, 0, 0, &[]));
    for stream in [1, 3, 5] {
        send(&mut client, h2_get(stream, &format!("/stream{stream}")));
        let (_, at, block) = next_of(&mut client, HEADERS);
        assert_eq!((at, block[0]), (stream, STATUS_200));
        let (_, at, data) = next_of(&mut client, DATA);
        assert_eq!((at, data), (stream, format!("/stream{stream}").into_bytes()));
    }
    drop(client);
    assert_eq!(server.stop().accepted, 1);
}

#[test]
fn http2_streams_do_not_wait_for_each_other() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    send(&mut client, h2_get(1, "/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    send(&mut client, h2_get(3, "/quick"));
    assert_eq!(next_of(&mut client, DATA).2, b"/quick");
    server.release.send(()).expect("it waits");
    assert_eq!(next_of(&mut client, DATA).2, b"released");
    drop(client);
    server.stop();
}

#[test]
fn http2_without_flow_control_is_cut() {
    let server = Server::start(HttpLimits { write_deadline: SOON, ..patient() });
    let mut client = server.connect();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: the client wants an answer and grants no byte of it.
    send(&mut client, [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat());
    send(&mut client, h2_get(1, "/never"));
    assert_eq!(next_of(&mut client, HEADERS).1, 1);
    to_cut(&mut client);
    assert_eq!(server.stop().cut_write, 1);
}

#[test]
fn http2_at_rest_is_told_to_go() {
    let server = Server::start(HttpLimits { idle_deadline: SOON, ..patient() });
    let mut client = server.connect();
    send(&mut client, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    next_of(&mut client, GOAWAY);
    // The client does not answer: it is waited for briefly and then cut.
    to_cut(&mut client);
    assert_eq!(server.stop().cut_idle, 1);
}

#[test]
fn an_unfinished_http2_frame_is_cut() {
    let server = Server::start(HttpLimits { head_deadline: HEAD_SOON, ..patient() });
    let mut client = server.connect();
    send(&mut client, [PREFACE, &frame(SETTINGS, 0, 0, &[]), &h2_get(1, "/a")[..5]].concat());
    to_cut(&mut client);
    assert_eq!(server.stop().cut_head, 1);
}

#[test]
fn a_stop_finishes_http2_streams() {
    let server = Server::start(patient());
    let mut client = server.connect();
    send(&mut client, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    send(&mut client, h2_get(1, "/hold"));
    server.held.recv_timeout(GUARD).expect("it is being served");
    server.order_stop(GUARD);
    next_of(&mut client, GOAWAY);
    server.release.send(()).expect("it waits");
    assert_eq!(next_of(&mut client, DATA).2, b"released");
    drop(client);
    server.finish();
}

//! An HTTP/2 client that does nothing but ask: one request again and again over many streams, as fast as they end.
//!
//! It looks at frames no closer than it must to know which answers are whole, so that it asks faster than a node can
//! answer even where both share a CPU.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The largest window that there is: no stream of a test transfers more.
const WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = 65_535;

/// Connections that ask until they are told to stop.
#[derive(Debug)]
pub(crate) struct Flood {
    done: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    connections: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Posts `body` to `path` over so many connections with so many streams each.
    pub(crate) fn start(
        address: SocketAddr,
        connections: usize,
        streams: u32,
        path: &str,
        body: &str,
    ) -> Flood {
        let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let request = Request::post(path, body);
        let connections = (0..connections).map(|_| {
            let (done, answered, request) = (Arc::clone(&done), Arc::clone(&answered), request.clone());
            thread::spawn(move || ask(address, streams, &request, &done, &answered))
        });
        Flood { connections: connections.collect(), done, answered }
    }

    /// Answers that have come whole, whatever they say.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether all connections still ask.
    pub(crate) fn goes_on(&self) -> bool {
        !self.connections.iter().any(JoinHandle::is_finished)
    }

    /// Asks no more; returns when every stream has its answer.
    pub(crate) fn stop(self) {
        self.done.store(true, Ordering::Relaxed);
        for connection in self.connections {
            connection.join().expect("the connection was served to its end");
        }
    }
}

/// The two frames of a request.
#[derive(Debug, Clone)]
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    fn post(path: &str, body: &str) -> Request {
        // From the static table: :method POST, :scheme http. The rest as literals that nobody shall index.
        let mut head = vec![0x83, 0x86];
        for (name, value) in [(":path", path), (":authority", "node"), ("content-type", "application/json")] {
            head.push(0x10);
            for text in [name, value] {
                head.push(u8::try_from(text.len()).ok().filter(|len| *len < 127).expect("a short text"));
                head.extend_from_slice(text.as_bytes());
            }
        }
        Request { head, body: body.as_bytes().to_vec() }
    }

    fn write(&self, stream: u32, out: &mut Vec<u8>) {
        frame(HEADERS, END_HEADERS, stream, &self.head, out);
        frame(DATA, END_STREAM, stream, &self.body, out);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn ask(address: SocketAddr, streams: u32, request: &Request, done: &AtomicBool, answered: &AtomicU64) {
    let mut socket = TcpStream::connect(address).expect("the node accepts");
    socket.set_read_timeout(Some(super::PATIENCE)).expect("a timeout can be set");
    let mut out = PREFACE.to_vec();
    let window = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &window, &mut out);
    frame(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes(), &mut out);
    let (mut next, mut open) = (1, 0);
    let mut received = 0;
    let mut input = Vec::new();
    let mut scratch = vec![0; 256 << 10];
    loop {
        while open < streams && !done.load(Ordering::Relaxed) {
            request.write(next, &mut out);
            (next, open) = (next + 2, open + 1);
        }
        socket.write_all(&out).expect("the node reads");
        out.clear();
        if open == 0 {
            return;
        }
        let n = socket.read(&mut scratch).expect("the node goes on answering");
        assert!(n > 0, "the node closed the connection");
        input.extend_from_slice(&scratch[..n]);
        let mut at = 0;
        while let Some(head) = input.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = input.get(at + 9..at + 9 + length as usize) else { break };
            match kind {
                DATA => received += length,
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], &mut out),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, payload, &mut out),
                RST_STREAM | GOAWAY => panic!("the node ended a stream: {payload:?}"),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                open -= 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            at += 9 + payload.len();
        }
        input.drain(..at);
        if received > 1 << 20 {
            frame(WINDOW_UPDATE, 0, 0, &received.to_be_bytes(), &mut out);
            received = 0;
        }
    }
}

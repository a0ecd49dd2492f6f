//! Clients that break the rules, vanish, or take their time: the node sheds them and serves the others.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{Home, Node, PATIENCE, Wire, data, get, post, post_with};

/// The node answers, and nothing is left over of those who were there before.
fn is_well(home: &Home) {
    let token = home.client().put("well", "s", &data(1));
    assert!(home.client().one(&token, "well", "s").is_some());
    support::until("all requests to be over", || {
        let shards = home.status()["shards"].as_array().expect("shards").clone();
        shards.iter().all(|shard| shard["requests_in_flight"] == 0 && shard["listings_open"] == 0)
    });
}

/// Sends bytes and reads to the end of the connection, whatever comes.
fn throw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.api()).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
    // The node may hang up before it has heard all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the node does not hang up"),
        _ => answer,
    }
}

#[test]
fn bytes_that_are_no_http_end_their_connection_alone() {
    let home = Home::start(&[("HEAD_TIMEOUT_MS", "2000")]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut cases: Vec<Vec<u8>> = vec![
        vec![],
        b"\r\n\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /up HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n".to_vec(),
        b"GET /up HTTP/1.1\r\nhost: a\r\nx: \x00\r\n\r\n".to_vec(),
        b"POST /records/put HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n{}".to_vec(),
        b"POST /records/put HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n{}".to_vec(),
        b"POST /records/put HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x"
            .to_vec(),
        b"POST /records/put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
            .to_vec(),
        b"POST /records/put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
            .to_vec(),
        [&preface[..], &[0xff; 1000]].concat(),
        [&preface[..], &[0; 1000]].concat(),
        // A frame larger than was agreed, and one on a stream that was never opened.
        [&preface[..], b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"]
            .concat(),
        [&preface[..], b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x01\x00\x00\x00\x00\x00\x07x"]
            .concat(),
        preface[..10].to_vec(),
        preface.to_vec(),
    ];
    let mut long = b"GET /up HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
    long.extend(vec![b'x'; 300_000]);
    cases.push([&long[..], b"\r\n\r\n"].concat());
    let many: String = (0..5000).map(|n| format!("x-{n}: y\r\n")).collect();
    cases.push(format!("GET /up HTTP/1.1\r\nhost: a\r\n{many}\r\n").into_bytes());
    cases.push(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(200_000)).into_bytes());
    for case in &cases {
        let answer = throw(&home, case);
        let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
        let status = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(!status.starts_with("HTTP/1.1 2"), "{shown:?} was answered {status:?}");
        assert!(!status.starts_with("HTTP/1.1 5"), "{shown:?} was answered {status:?}");
    }
    is_well(&home);
}

#[test]
fn a_request_is_never_smuggled_in_another_ones_body() {
    let home = Home::start(&[]);
    let hidden = post("/records/put", r#"{"records":[{"pk":"smuggled","sk":"s","data":{}}]}"#);
    let both = format!(
        "POST /records/get HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    throw(&home, both.as_bytes());
    // A body that a refusal has left unread is not taken for requests either.
    let refused =
        format!("POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len());
    throw(&home, refused.as_bytes());
    let declared = format!(
        "POST /records/put HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    throw(&home, declared.as_bytes());
    let token = home.client().put("smuggled", "sentinel", "{}");
    // With both headers the chunks count, after which the connection must not go on as if nothing were odd.
    assert_eq!(home.client().listed(&token, &json!({"pk": "smuggled"})), ["sentinel"]);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let home = Home::start(&[]);
    let pad = "x".repeat(100_000);
    let sks: Vec<String> = (0..300).map(|n| format!("{n:05}")).collect();
    let mut token = String::new();
    for page in sks.chunks(50) {
        token = home
            .client()
            .put_all("vanish", page.iter().map(|sk| (sk.as_str(), format!(r#"{{"p":"{pad}"}}"#))));
    }
    home.client().one(&token, "vanish", "00000").expect("it was put");
    let list = post("/records/list", r#"{"pk":"vanish"}"#);
    let put = post("/records/put", r#"{"records":[{"pk":"vanished","sk":"s","data":{}}]}"#);
    let wait = post_with(
        "/records/get",
        "firescroll-session: 0:99999,1:99999,2:99999,3:99999,4:99999,5:99999,6:99999,7:99999\r\nfirescroll-wait-ms: 30000\r\n",
        r#"{"records":[{"pk":"vanish","sk":"s"}]}"#,
    );
    for turn in 0..60 {
        let bytes = match turn % 4 {
            0 => list.as_bytes(),
            1 => put.as_bytes(),
            2 => wait.as_bytes(),
            // In the middle of a body.
            _ => &put.as_bytes()[..put.len() - 9],
        };
        let mut wire = Wire::connect(home.api());
        wire.send(bytes);
        if turn % 8 == 0 {
            assert_eq!(wire.head().status, 200);
        }
        drop(wire);
    }
    is_well(&home);
    support::until("their connections to be gone", || {
        let shards = home.status()["shards"].as_array().expect("shards").clone();
        let open: u64 = shards.iter().filter_map(|shard| shard["connections"]["open"].as_u64()).sum();
        // The shared client keeps a few of its own.
        open <= 4
    });
}

#[test]
fn a_connection_that_rested_long_serves_as_before() {
    let home = Home::start(&[("SHARDS", "1")]);
    let mut wires: Vec<Wire> = (0..5).map(|_| Wire::connect(home.api())).collect();
    for wire in &mut wires {
        assert_eq!(wire.ask(&get("/up")).status, 200);
    }
    support::until("the connections to rest", || {
        home.status()["shards"][0]["connections"]["parked"].as_u64() >= Some(5)
    });
    for (turn, wire) in wires.iter_mut().enumerate() {
        let body = json!({"records": [{"pk": "rested", "sk": turn.to_string(), "data": {}}]}).to_string();
        let request = post("/records/put", &body);
        match turn {
            0 => assert_eq!(wire.ask(&request).status, 200),
            // Byte by byte, two at once, and a large one.
            1 => {
                for byte in request.as_bytes() {
                    wire.send(&[*byte]);
                }
                assert_eq!(wire.reply().status, 200);
            }
            2 => {
                wire.send(format!("{request}{}", get("/records/absent/s")).as_bytes());
                assert_eq!((wire.reply().status, wire.reply().status), (200, 404));
            }
            3 => {
                let data = json!({"pad": "x".repeat(500_000)});
                let body = json!({"records": [{"pk": "rested", "sk": "3", "data": data}]}).to_string();
                assert_eq!(wire.ask(&post("/records/put", &body)).status, 200);
            }
            _ => assert_eq!(wire.ask("nonsense\r\n\r\n").status, 400),
        }
    }
    is_well(&home);
    home.catch_up();
    assert_eq!(home.client().listed("", &json!({"pk": "rested"})), ["0", "1", "2", "3"]);
}

/// Asks over HTTP/2 and takes the head of the answer alone, until told to go on; whether the body was then whole.
fn stall(node: &Node, method: &str, path: &str, body: &str, meanwhile: impl FnOnce()) -> bool {
    let (answered, answer) = mpsc::channel();
    let (go_on, told) = futures_channel::oneshot::channel::<()>();
    let client = async {
        let stream = tokio::net::TcpStream::connect(node.api()).await.expect("the node accepts");
        // A client that grants 64 KiB and no more until it reads.
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 16);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("the node speaks HTTP/2");
        tokio::spawn(connection);
        let body: Full<Bytes> = Full::from(body.to_owned());
        let request = http::Request::builder().method(method).uri(format!("http://node{path}")).body(body);
        let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
        answered.send(answer.status().as_u16()).expect("the test waits");
        // The connection lives on meanwhile, and grants nothing.
        told.await.expect("the test goes on");
        answer.into_body().collect().await.is_ok()
    };
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(client)
        });
        assert_eq!(answer.recv_timeout(PATIENCE), Ok(200));
        meanwhile();
        go_on.send(()).expect("the client waits");
        client.join().expect("the client ends")
    })
}

/// A node with large records, one of whose HTTP/2 clients stalls in the middle of an answer: it is cut, and others are
/// served meanwhile.
fn stalled(method: &str, path: &str, body: &str) {
    let home = Home::start(&[("SHARDS", "1"), ("WRITE_TIMEOUT_MS", "500")]);
    let large = format!(r#"{{"pad":"{}"}}"#, "x".repeat(900_000));
    for n in 0..8 {
        home.client().put("stream", &n.to_string(), &large);
    }
    home.catch_up();
    let whole = stall(&home, method, path, body, || {
        support::until("the stalled client to be cut", || {
            assert_eq!(home.client().get("/up").status, 200);
            home.metric("connections{shard=\"0\",what=\"cut_write\"}") >= 1.0
        });
    });
    assert!(!whole, "{path}: a body that was cut looks whole");
    is_well(&home);
}

#[test]
fn a_listing_that_an_http2_client_does_not_take_is_cut() {
    stalled("POST", "/records/list", r#"{"pk":"stream"}"#);
}

#[test]
fn a_record_that_an_http2_client_does_not_take_is_cut() {
    stalled("GET", "/records/stream/0", "");
}

#[test]
fn a_slow_body_over_http2_is_answered_408() {
    let home = Home::start(&[("SHARDS", "1"), ("BODY_TIMEOUT_MS", "400")]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(home.api()).await.expect("the node accepts");
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("the node speaks HTTP/2");
        tokio::spawn(connection);
        // A body that never comes.
        let body = http_body_util::combinators::BoxBody::<Bytes, std::convert::Infallible>::new(Never);
        let request = http::Request::builder().method("POST").uri("http://node/records/put").body(body);
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request.expect("a request")));
        let answer = answer.await.expect("the deadline is kept").expect("an answer");
        assert_eq!(answer.status(), 408);
    });
    is_well(&home);
}

/// A request body whose sender has fallen silent.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

//! The protocols of the API port: HTTP/1.1 and HTTP/2 on one port, compression, other origins.

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{Answer, Flood, Home, Shared, Wire, data, get, pk_in, post, post_with};

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

#[test]
fn a_connection_is_kept_for_many_requests() {
    let home = home();
    let mut wire = Wire::connect(home.api());
    for n in 0..200u64 {
        let body = json!({"records": [{"pk": "kept", "sk": "s", "data": {"n": n}}]}).to_string();
        let reply = wire.ask(&post("/records/put", &body));
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        let token = reply.header("firescroll-session").expect("a token").to_owned();
        let session = format!("firescroll-session: {token}\r\nfirescroll-wait-ms: 30000\r\n");
        let body = r#"{"records":[{"pk":"kept","sk":"s"}]}"#;
        let reply = wire.ask(&post_with("/records/get", &session, body));
        assert!(reply.text().contains(&format!("\"Data\":{{\"n\":{n}}}")), "{}", reply.text());
    }
}

#[test]
fn a_connection_ends_when_the_client_asks_for_that() {
    let home = home();
    let mut wire = Wire::connect(home.api());
    let reply = wire.ask("GET /up HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    assert_eq!(reply.status, 200);
    assert_eq!(wire.rest().expect("a clean end"), b"");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let home = home();
    let client = home.client();
    // Keys of every partition, so that answers come from both cores.
    let pks: Vec<String> = (0..8).map(|partition| pk_in(partition, 8, "pipe")).collect();
    for (n, pk) in (0..).zip(&pks) {
        let token = client.put(pk, "s", &data(n));
        client.one(&token, pk, "s").expect("it was put");
    }
    let mut requests = String::new();
    for turn in 0..100 {
        let pk = &pks[turn % pks.len()];
        requests += &match turn % 4 {
            0 => get(&format!("/records/{pk}/s")),
            1 => post("/records/get", &json!({"records": [{"pk": pk, "sk": "s"}]}).to_string()),
            2 => get(&format!("/records/{pk}/absent")),
            _ => post("/records/list", &json!({"pk": pk}).to_string()),
        };
    }
    let mut wire = Wire::connect(home.api());
    wire.send(requests.as_bytes());
    for turn in 0..100 {
        let reply = wire.reply();
        let n = turn % pks.len();
        match turn % 4 {
            2 => assert!(reply.refusal(404).contains(&pks[n])),
            _ => assert!(reply.text().contains(&format!("\"n\":{n}")), "{turn}: {}", reply.text()),
        }
    }
}

#[test]
fn pipelined_writes_of_one_key_apply_in_order() {
    let home = home();
    let mut wire = Wire::connect(home.api());
    let put = |n: u64| {
        let body = json!({"records": [{"pk": "piped", "sk": "s", "data": {"n": n}}]}).to_string();
        post("/records/put", &body)
    };
    let requests: Vec<String> = (0..50).map(put).collect();
    wire.send(requests.concat().as_bytes());
    let mut token = String::new();
    for _ in 0..50 {
        let reply = wire.reply();
        assert_eq!(reply.status, 200, "{}", reply.text());
        token = reply.header("firescroll-session").expect("a token").to_owned();
    }
    assert_eq!(home.client().one(&token, "piped", "s").expect("it was put").number("n"), 49);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let home = home();
    let mut wire = Wire::connect(home.api());
    let body = r#"{"records":[{"pk":"bytes","sk":"s","data":{"n":1}}]}"#;
    for byte in post("/records/put", body).as_bytes() {
        wire.send(&[*byte]);
    }
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn a_body_may_come_in_chunks_or_after_a_word() {
    let home = home();
    let body = r#"{"records":[{"pk":"chunks","sk":"s","data":{"n":1}}]}"#;
    let head = "POST /records/put HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n";
    let mut wire = Wire::connect(home.api());
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
    for part in body.as_bytes().chunks(7) {
        wire.send(format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)).as_bytes());
    }
    wire.send(b"0\r\n\r\n");
    assert_eq!(wire.reply().status, 200);
    // curl asks like this before it sends a large body.
    wire.send(format!("{head}content-length: {}\r\nexpect: 100-continue\r\n\r\n", body.len()).as_bytes());
    assert_eq!(wire.reply().status, 100);
    let reply = wire.ask(body);
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
}

/// A runtime for HTTP/2 clients.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(support::PATIENCE, work).await };
    runtime.block_on(bounded).expect("the work of a test takes no such time")
}

/// An HTTP/2 connection with prior knowledge.
async fn http2(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the node accepts");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("the node speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// One request over HTTP/2.
async fn ask(
    mut sender: SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    token: &str,
    body: String,
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("http://node{path}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if !token.is_empty() {
        request = request.header("firescroll-session", token).header("firescroll-wait-ms", "30000");
    }
    sender.ready().await.expect("the connection is open");
    let request = request.body(Full::from(body)).expect("the parts are valid");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.version(), http::Version::HTTP_2);
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

#[test]
fn http2_serves_many_streams_of_one_connection() {
    let home = home();
    block_on(async {
        let sender = http2(home.api()).await;
        let tasks: Vec<_> = (0..400u64)
            .map(|n| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let pk = format!("stream-{}", n % 23);
                    let put = json!({"records": [{"pk": pk, "sk": n.to_string(), "data": {"n": n}}]});
                    let answer = ask(sender.clone(), "POST", "/records/put", "", put.to_string()).await;
                    let token = answer.token();
                    let keys = json!({"records": [{"pk": pk, "sk": n.to_string()}]}).to_string();
                    let answer = ask(sender.clone(), "POST", "/records/get", &token, keys).await;
                    assert_eq!(answer.records()[0].number("n"), n);
                    let path = format!("/records/{pk}/{n}");
                    let answer = ask(sender, "GET", &path, &token, String::new()).await;
                    assert_eq!(answer.json()["n"], n);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("each stream is answered");
        }
    });
}

#[test]
fn http2_carries_refusals_and_long_answers() {
    let home = home();
    let pad = "x".repeat(20_000);
    let mut token = String::new();
    for n in 0..20 {
        let rows = (0..10).map(|row| format!("{n:02}-{row}")).collect::<Vec<_>>();
        let rows = rows.iter().map(|sk| (sk.as_str(), format!(r#"{{"pad":"{pad}"}}"#)));
        token = home.client().put_all("long", rows);
    }
    block_on(async {
        let sender = http2(home.api()).await;
        let list = || ask(sender.clone(), "POST", "/records/list", &token, r#"{"pk":"long"}"#.to_owned());
        let (first, second) = tokio::join!(list(), list());
        for answer in [first, second] {
            let records = answer.records();
            assert_eq!(records.len(), 200);
            assert!(records.iter().all(|record| record.raw().len() == pad.len() + 10));
        }
        let large = json!({"records": [{"pk": "long", "sk": "s", "data": {"pad": "y".repeat(900_000)}}]});
        let written = ask(sender.clone(), "POST", "/records/put", "", large.to_string()).await.token();
        let back = ask(sender.clone(), "GET", "/records/long/s", &written, String::new()).await;
        assert_eq!(back.body.len(), 900_010);
        ask(sender.clone(), "POST", "/records/put", "", "nope".to_owned()).await.refusal(400);
        ask(sender.clone(), "GET", "/nowhere", "", String::new()).await.refusal(404);
        ask(sender.clone(), "DELETE", "/records/put", "", String::new()).await.refusal(405);
    });
}

#[test]
fn listings_without_end_hold_up_no_other_request() {
    let home = Home::start(&[]);
    let client = home.client();
    let pad = "x".repeat(2_000);
    let rows: Vec<String> = (0..600).map(|row| format!("{row:03}")).collect();
    let rows = rows.iter().map(|sk| (sk.as_str(), format!(r#"{{"pad":"{pad}"}}"#)));
    let token = client.put_all("many", rows);
    client.one(&token, "many", "000").expect("it was put");
    // However the kernel deals out the connections, all of these have room on the way between two cores: nothing is shed.
    let load = Flood::start(home.api(), 20, 50, "/records/list", r#"{"pk":"many"}"#);
    // The core that lists also owns this record: it goes on taking writes, applying and answering.
    for n in 0..50 {
        let token = client.put("many", "beside", &data(n));
        assert_eq!(client.one(&token, "many", "beside").expect("it was put").number("n"), n);
    }
    assert!(load.goes_on());
    load.stop();
}

#[test]
fn an_http2_stream_in_flight_is_answered_at_a_stop() {
    let (mut node, _dir) = Home::start(&[("PARTITIONS", "1"), ("SHARDS", "1")]).into_parts();
    let address = node.api();
    let client = thread::spawn(move || {
        block_on(async {
            let request = http::Request::builder()
                .method("GET")
                .uri("http://node/records/stop/s")
                .header("firescroll-session", "0:99")
                .header("firescroll-wait-ms", "2000")
                .body(Full::<Bytes>::default());
            let mut sender = http2(address).await;
            sender.send_request(request.expect("a request")).await.expect("an answer").status().as_u16()
        })
    });
    support::until("the request to wait", || node.metric("requests_in_flight{shard=\"0\"}") == 1.0);
    node.ask_to_stop();
    assert_eq!(client.join().expect("the client is answered"), 503, "the position does not come");
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn both_protocols_share_the_port() {
    let home = home();
    let token = block_on(async {
        let sender = http2(home.api()).await;
        let put = r#"{"records":[{"pk":"shared","sk":"s","data":{"n":2}}]}"#.to_owned();
        ask(sender, "POST", "/records/put", "", put).await.token()
    });
    assert_eq!(home.client().one(&token, "shared", "s").expect("it was put").number("n"), 2);
}

#[test]
fn scripts_of_other_origins_may_call() {
    let home = home();
    let origin = ("Origin", "https://example.com");
    for (method, path) in [("GET", "/up"), ("GET", "/records/absent/s"), ("GET", "/nowhere")] {
        let answer = home.client().send(method, path, &[origin], None);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
    }
    let body = br#"{"records":[{"pk":"origin","sk":"s","data":{}}]}"#;
    let headers = [origin, ("Content-Type", "application/json")];
    let answer = home.client().send("POST", "/records/put", &headers, Some(body));
    answer.token();
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let exposed = answer.header("access-control-expose-headers").unwrap_or("").to_ascii_lowercase();
    assert!(exposed.contains("firescroll-session"), "a script could not read its token: {exposed}");

    for method in ["POST", "PUT", "DELETE"] {
        let headers = [
            origin,
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "content-type,firescroll-session"),
        ];
        let answer = home.client().send("OPTIONS", "/records/put", &headers, None);
        assert!(matches!(answer.status, 200 | 204), "{}", answer.status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let methods = answer.header("access-control-allow-methods").unwrap_or("");
        assert!(methods.split(',').any(|allowed| allowed.trim() == method), "{methods}");
        let allowed = answer.header("access-control-allow-headers").unwrap_or("").to_ascii_lowercase();
        assert!(allowed.contains("content-type") && allowed.contains("firescroll-session"), "{allowed}");
    }
    // Nobody else is bothered.
    assert_eq!(home.client().get("/up").header("access-control-allow-origin"), None);
}

#[test]
fn other_origins_can_be_left_out() {
    let home = Home::start(&[("HTTP_CORS", "0")]);
    let origin = ("Origin", "https://example.com");
    assert_eq!(home.client().send("GET", "/up", &[origin], None).header("access-control-allow-origin"), None);
    let headers = [origin, ("Access-Control-Request-Method", "POST")];
    let answer = home.client().send("OPTIONS", "/records/put", &headers, None);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

fn unzipped(answer: &Answer) -> String {
    assert_eq!(answer.header("content-encoding"), Some("gzip"), "{}", answer.text());
    let mut plain = String::new();
    GzDecoder::new(answer.body.as_slice()).read_to_string(&mut plain).expect("gzip");
    plain
}

#[test]
fn answers_are_compressed_for_clients_that_ask() {
    let home = Home::start(&[("HTTP_GZIP", "1")]);
    let client = home.client();
    let rows: Vec<String> = (0..500).map(|n| format!("{n:04}")).collect();
    let long = format!(r#"{{"text":"{}"}}"#, "abc ".repeat(500));
    client.put("gzip", "short", "{}");
    client.put_all("gzip-list", rows.iter().map(|sk| (sk.as_str(), long.clone())));
    let token = client.put("gzip", "long", &long);
    client.one(&token, "gzip", "long").expect("it was put");
    home.catch_up();
    let send = |method: &str, path: &str, coding: Option<&str>, body: Option<&[u8]>| {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(coding.map(|coding| ("Accept-Encoding", coding)));
        client.send(method, path, &headers, body)
    };
    let get = |sk: &str| format!(r#"{{"records":[{{"pk":"gzip","sk":"{sk}"}}]}}"#);
    let list: &[u8] = br#"{"pk":"gzip-list"}"#;
    let long_get = get("long");
    for (method, path, body) in [
        ("POST", "/records/get", Some(long_get.as_bytes())),
        ("POST", "/records/list", Some(list)),
        ("GET", "/records/gzip/long", None),
    ] {
        let plain = send(method, path, None, body);
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        for coding in ["gzip", "br, gzip;q=0.5", "GZIP", "*"] {
            let packed = send(method, path, Some(coding), body);
            assert_eq!(unzipped(&packed), plain.text(), "{path} {coding}");
            assert!(packed.body.len() < plain.body.len() / 2);
        }
        for coding in ["identity", "br", "gzip;q=0"] {
            assert_eq!(
                send(method, path, Some(coding), body).header("content-encoding"),
                None,
                "{path} {coding}"
            );
        }
    }
    // Too short to be worth it.
    for answer in [
        send("POST", "/records/get", Some("gzip"), Some(get("short").as_bytes())),
        send("GET", "/records/gzip/short", Some("gzip"), None),
    ] {
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    }
}

#[test]
fn nothing_is_compressed_by_default() {
    let home = home();
    let long = format!(r#"{{"text":"{}"}}"#, "abc ".repeat(1000));
    let token = home.client().put("plain", "s", &long);
    home.client().one(&token, "plain", "s").expect("it was put");
    let answer = home.client().send("GET", "/records/plain/s", &[("Accept-Encoding", "gzip")], None);
    assert_eq!((answer.header("content-encoding"), answer.text()), (None, long));
}

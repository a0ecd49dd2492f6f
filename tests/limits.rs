//! Everything is bounded: slow clients, too many of them, long answers, full disks.
//!
//! Nodes run with small limits. A test provokes one of them and looks at what the client gets, and at whether others
//! are served meanwhile. No test measures how long something took.

mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, Home, Node, PATIENCE, Wire, data, get, post, post_with};

/// Bytes of one large record.
const LARGE: usize = 100_000;
/// So many of them are a listing that no socket buffer holds.
const MANY: usize = 600;

#[test]
fn a_slow_head_is_answered_408_however_it_drips() {
    let home = Home::start(&[("HEAD_TIMEOUT_MS", "400")]);
    // Begun and left.
    let mut left = Wire::connect(home.api());
    left.send(b"POST /records/get HTTP/1.1\r\nhost:");
    // Begun and fed, always a little before anybody could call it idle.
    let mut fed = Wire::connect(home.api());
    fed.patience(Duration::from_millis(30));
    fed.send(b"POST /records/get HTTP/1.1\r\nx-long: ");
    let deadline = Instant::now() + PATIENCE;
    while !fed.has_news() {
        assert!(Instant::now() < deadline, "a dripping head is waited for without end");
        if fed.try_send(b"x").is_err() {
            break;
        }
    }
    fed.patience(PATIENCE);
    for wire in [&mut left, &mut fed] {
        let reply = wire.reply();
        assert!(reply.refusal(408).contains("head"), "{}", reply.text());
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(left.rest().expect("a clean end"), b"");
    assert_eq!(home.client().get("/up").status, 200);
}

#[test]
fn a_slow_body_is_answered_408() {
    let home = Home::start(&[("BODY_TIMEOUT_MS", "300")]);
    let before = home.client().put("slow", "sentinel", "{}");
    let body = r#"{"records":[{"pk":"slow","sk":"s","data":{}}]}"#;
    let whole = post("/records/put", body);
    let mut wire = Wire::connect(home.api());
    wire.send(&whole.as_bytes()[..whole.len() - 5]);
    assert!(wire.reply().refusal(408).contains("body"));
    wire.drain();
    // Chunked and dripping.
    let mut wire = Wire::connect(home.api());
    wire.patience(Duration::from_millis(30));
    wire.send(b"POST /records/put HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n");
    let deadline = Instant::now() + PATIENCE;
    while !wire.has_news() {
        assert!(Instant::now() < deadline, "a dripping body is waited for without end");
        if wire.try_send(b"1\r\n \r\n").is_err() {
            break;
        }
    }
    wire.patience(PATIENCE);
    wire.reply().refusal(408);
    assert_eq!(home.client().listed(&before, &json!({"pk": "slow"})), ["sentinel"]);
}

#[test]
fn silent_and_resting_connections_are_closed_without_a_word() {
    let home = Home::start(&[("HEAD_TIMEOUT_MS", "1000"), ("IDLE_TIMEOUT_MS", "1000")]);
    let mut silent = Wire::connect(home.api());
    let mut resting = Wire::connect(home.api());
    assert_eq!(resting.ask(&get("/up")).status, 200);
    assert_eq!(silent.rest().expect("a clean end"), b"");
    assert_eq!(resting.rest().expect("a clean end"), b"");
    // A connection that is used stays open for longer than both deadlines.
    let mut used = Wire::connect(home.api());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert_eq!(used.ask(&get("/up")).status, 200);
    }
}

/// Puts [`MANY`] large records under one partition key; gives the token of the last write.
fn fill(client: &Client, pk: &str, version: u64) -> String {
    let pad = "x".repeat(LARGE);
    let sks: Vec<String> = (0..MANY).map(|n| format!("{n:05}")).collect();
    let mut token = String::new();
    for page in sks.chunks(50) {
        let row = |sk: &String| (sk.clone(), format!(r#"{{"version":{version},"pad":"{pad}"}}"#));
        let rows: Vec<(String, String)> = page.iter().map(row).collect();
        token = client.put_all(pk, rows.iter().map(|(sk, data)| (sk.as_str(), data.clone())));
    }
    token
}

/// Asks for a listing and reads the head of its answer alone.
fn begin_listing(node: &Node, pk: &str) -> Wire {
    let mut wire = Wire::connect(node.api());
    wire.send(post("/records/list", &json!({"pk": pk}).to_string()).as_bytes());
    let head = wire.head();
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, Some("chunked")),
        "a long listing streams"
    );
    wire
}

/// Resident memory of the node, in bytes.
fn resident(node: &Node) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of every process");
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

#[test]
fn a_long_listing_is_a_snapshot_and_takes_little_memory() {
    let home = Home::start(&[("SHARDS", "1"), ("CACHE_MB", "4"), ("STORE_CACHE_MB", "4")]);
    let token = fill(home.client(), "long", 1);
    home.client().one(&token, "long", "00000").expect("it was put");
    home.catch_up();
    // The first listing warms up whatever the store keeps for reads.
    let mut wire = begin_listing(&home, "long");
    while wire.try_chunk().expect("a whole listing").is_some() {}
    let before = resident(&home);

    let mut listings: Vec<(Wire, Vec<u8>)> =
        (0..4).map(|_| (begin_listing(&home, "long"), Vec::new())).collect();
    for (wire, body) in &mut listings {
        body.extend(wire.try_chunk().expect("a page").expect("more than one page"));
    }
    // All are in the middle now, held up by their readers. Others are served, and change everything.
    home.client().put("long", "00000a", &data(1));
    let token = home.client().delete("long", "00300");
    assert_eq!(home.client().one(&token, "long", "00300").map(|record| record.sk), None);
    let token = home.client().put("long", "00599", r#"{"version":2}"#);
    let changed = home.client().one(&token, "long", "00599").expect("it was put");
    assert_eq!(changed.number("version"), 2);
    assert!(home.status()["shards"][0]["listings_open"].as_u64() >= Some(4), "{}", home.status());
    let mut most = resident(&home);
    for (wire, body) in &mut listings {
        while let Some(chunk) = wire.try_chunk().expect("a whole listing") {
            let megabytes = body.len() >> 20;
            body.extend(chunk);
            if body.len() >> 20 > megabytes {
                most = most.max(resident(&home));
            }
        }
    }
    let streamed = listings.iter().map(|(_, body)| body.len()).sum::<usize>();
    assert!(streamed > 4 * MANY * LARGE);
    let grown = most.saturating_sub(before);
    assert!(grown < streamed / 4, "{streamed} bytes were streamed with {grown} bytes more of memory");
    for (_, body) in listings {
        let answer: Value = serde_json::from_slice(&body).expect("a whole listing");
        let records = answer["Records"].as_array().expect("records");
        let expected: Vec<String> = (0..MANY).map(|n| format!("{n:05}")).collect();
        let sks: Vec<&str> = records.iter().map(|record| record["Sk"].as_str().expect("an sk")).collect();
        assert_eq!(sks, expected);
        assert!(records.iter().all(|record| record["Data"]["version"] == 1), "a listing saw a later write");
    }
    // The next listing sees all of it.
    let now = home.client().listed(&token, &json!({"pk": "long", "limit": 2}));
    assert_eq!(now, ["00000", "00000a"]);
}

#[test]
fn a_listing_under_way_is_finished_at_a_stop() {
    let (mut node, _dir) = Home::start(&[("SHARDS", "1")]).into_parts();
    let token = fill(node.client(), "stop", 1);
    node.client().one(&token, "stop", "00000").expect("it was put");
    let mut wire = begin_listing(&node, "stop");
    let mut body = wire.try_chunk().expect("a page").expect("more than one page");
    node.ask_to_stop();
    node.logged("stopping");
    while let Some(chunk) = wire.try_chunk().expect("a whole listing") {
        body.extend(chunk);
    }
    let answer: Value = serde_json::from_slice(&body).expect("a whole listing");
    assert_eq!(answer["Records"].as_array().map(Vec::len), Some(MANY));
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn listings_beyond_what_a_core_holds_open_are_shed() {
    let home = Home::start(&[("SHARDS", "1")]);
    let token = fill(home.client(), "many", 1);
    home.client().one(&token, "many", "00000").expect("it was put");
    let list = post("/records/list", r#"{"pk":"many"}"#);
    let (mut open, mut shed) = (Vec::new(), 0);
    for _ in 0..400 {
        let mut wire = Wire::connect(home.api());
        wire.send(list.as_bytes());
        let head = wire.head();
        if head.status == 200 {
            open.push(wire);
        } else {
            assert_eq!(head.status, 429);
            assert!(head.header("retry-after").is_some());
            shed += 1;
        }
    }
    assert!(shed > 0, "{} listings are open at once", open.len());
    // Others are served, and short listings too.
    assert!(home.client().one(&token, "many", "00001").is_some());
    assert_eq!(home.client().listed(&token, &json!({"pk": "none"})), Vec::<String>::new());
    drop(open);
    support::until("the listings to be over", || home.status()["shards"][0]["listings_open"] == 0);
    assert_eq!(home.client().listed(&token, &json!({"pk": "many"})).len(), MANY);
}

#[test]
fn a_reader_that_stalls_is_cut_and_others_are_served() {
    let home = Home::start(&[("SHARDS", "1"), ("WRITE_TIMEOUT_MS", "500")]);
    let token = fill(home.client(), "stalled", 1);
    home.client().one(&token, "stalled", "00000").expect("it was put");
    let mut stalled = begin_listing(&home, "stalled");
    support::until("the stalled reader to be cut", || {
        assert_eq!(home.client().get("/records/stalled/absent").status, 404);
        home.metric("connections{shard=\"0\",what=\"cut_write\"}") >= 1.0
    });
    let received = stalled.drain();
    assert!(received < MANY * LARGE, "{received} bytes came after all");
    support::until("its listing to be given up", || home.status()["shards"][0]["listings_open"] == 0);
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_the_others_served() {
    let home = Home::start(&[("SHARDS", "1"), ("MAX_CONNECTIONS", "5")]);
    // The node counts those of the readiness check until it has seen their end.
    support::until("earlier connections to be gone", || {
        home.status()["shards"][0]["connections"]["open"] == 0
    });
    let mut open: Vec<Wire> = (0..5).map(|_| Wire::connect(home.api())).collect();
    for wire in &mut open {
        assert_eq!(wire.ask(&get("/up")).status, 200);
    }
    for _ in 0..20 {
        let mut refused = Wire::connect(home.api());
        // It is told at once, whether it asks or not.
        refused.reply().refusal(503);
        assert_eq!(refused.rest().expect("a clean end"), b"");
    }
    for wire in &mut open {
        assert_eq!(wire.ask(&get("/up")).status, 200);
    }
    assert!(home.metric("connections{shard=\"0\",what=\"shed\"}") >= 20.0);
    open.pop();
    support::until("the place to be free", || home.status()["shards"][0]["connections"]["open"] == 4);
    assert_eq!(Wire::connect(home.api()).ask(&get("/up")).status, 200);
}

#[test]
fn requests_beyond_the_limit_are_shed_with_429() {
    let home = Home::start(&[("SHARDS", "1"), ("MAX_REQUESTS", "3")]);
    // Requests in flight: they wait for a position that never comes.
    let waiting = |milliseconds: u32| {
        let headers = format!("firescroll-session: 0:999999\r\nfirescroll-wait-ms: {milliseconds}\r\n");
        let pk = support::pk_in(0, 8, "wait");
        post_with("/records/get", &headers, &json!({"records": [{"pk": pk, "sk": "s"}]}).to_string())
    };
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::connect(home.api())).collect();
    for wire in &mut wires {
        wire.send(waiting(3000).as_bytes());
    }
    support::until("the requests to be in flight", || home.metric("requests_in_flight{shard=\"0\"}") == 3.0);
    let mut more = Wire::connect(home.api());
    more.ask(&get("/records/a/b")).refusal(429);
    let body = r#"{"records":[{"pk":"shed","sk":"s","data":{}}]}"#;
    more.ask(&post("/records/put", body)).refusal(429);
    for wire in &mut wires {
        wire.reply().refusal(503);
    }
    assert!(home.metric("http_shed_total") >= 2.0);
    // What was shed is not applied, and there is room again.
    more.ask(&get("/records/shed/s")).refusal(404);
    assert_eq!(more.ask(&post("/records/put", body)).status, 200);
}

#[test]
fn an_answer_that_would_be_too_long_is_refused_and_not_cut_short() {
    let home = Home::start(&[("MAX_RESPONSE_BYTES", "65536"), ("MAX_MESSAGE_BYTES", "32768")]);
    let rows: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let data = format!(r#"{{"pad":"{}"}}"#, "x".repeat(10_000));
    let token = home.client().put_all("answer", rows.iter().map(|sk| (sk.as_str(), data.clone())));
    let keys: Vec<Value> = rows.iter().map(|sk| json!({"pk": "answer", "sk": sk})).collect();
    let get = |count: usize| {
        home.client().post_after(&token, "/records/get", &json!({"records": &keys[..count]}).to_string())
    };
    assert_eq!(get(5).records().len(), 5);
    assert!(get(10).refusal(413).contains("65536"));
    // A listing streams, however long.
    assert_eq!(home.client().listed(&token, &json!({"pk": "answer"})).len(), 10);
}

#[test]
fn one_busy_key_does_not_stop_the_others() {
    let home = Home::start(&[("SHARDS", "1")]);
    let token = fill(home.client(), "busy", 1);
    home.client().one(&token, "busy", "00000").expect("it was put");
    let other = home.client().put("other", "s", &data(1));
    // Listings that filter everything out keep the core at work without an answer to send.
    let body = json!({"pk": "busy", "if": "contains(data.pad, 'y')"}).to_string();
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::connect(home.api())).collect();
    for wire in &mut wires {
        wire.send(post("/records/list", &body).as_bytes());
    }
    for _ in 0..100 {
        assert!(home.client().one(&other, "other", "s").is_some());
    }
    for wire in &mut wires {
        assert_eq!(wire.reply().text(), r#"{"Records":[]}"#);
    }
}

/// A small disk of its own, taken away at the end.
struct Disk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn mount(size: &str) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().to_owned();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "firescroll-test"], &path)?;
        Ok(Self { path, _dir: dir })
    }

    fn grow(&self, size: &str) {
        let option = format!("remount,size={size}");
        mount(&["-o", &option], &self.path).expect("the disk was mounted by this user");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A failed test may leave a process on it; the mount then goes with the last one.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> io::Result<()> {
    let output = Command::new("mount").args(arguments).arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    let disk = match Disk::mount("220m") {
        Ok(disk) => disk,
        Err(error) => {
            println!("NOT TESTED: a full disk, because this user cannot mount a small one: {error}");
            return;
        }
    };
    // Without a reserve, so that the disk really fills.
    let settings = [("SHARDS", "1"), ("PARTITIONS", "2"), ("DISK_RESERVE_MB", "0")];
    let dir = disk.path.join("db");
    let node = Node::start(&dir, &settings);
    let pad = "x".repeat(200_000);
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for n in 0..3000u64 {
        let (pk, sk) = (format!("full-{}", n % 7), n.to_string());
        let body = json!({"records": [{"pk": &pk, "sk": &sk, "data": {"n": n, "pad": pad}}]});
        let answer = node.client().post("/records/put", &body.to_string());
        if answer.status == 200 {
            answer.token();
            acknowledged.push((pk, sk, n));
        } else {
            answer.refusal(503);
            refused += 1;
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk did not fill up");
    assert!(acknowledged.len() > 10, "only {} writes fitted", acknowledged.len());
    // It still runs, and each read is either right or says that it cannot be.
    assert_eq!(node.client().get("/up").status, 200);
    let answer = node.client().get("/records/full-0/0");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    // With room again it takes writes, or says that it does not: never an acknowledgement that comes to nothing.
    disk.grow("1g");
    for n in 3000..3020u64 {
        let (pk, sk) = (format!("full-{}", n % 7), n.to_string());
        let body = json!({"records": [{"pk": &pk, "sk": &sk, "data": {"n": n}}]});
        let answer = node.client().post("/records/put", &body.to_string());
        if answer.status != 200 {
            answer.refusal(503);
            continue;
        }
        let keys = json!({"records": [{"pk": &pk, "sk": &sk}]}).to_string();
        let read = node.client().post_after(&answer.token(), "/records/get", &keys);
        if read.status != 503 {
            assert_eq!(read.records().len(), 1, "{pk} {sk} was acknowledged and is not there");
        }
        acknowledged.push((pk, sk, n));
    }
    node.kill();
    let node = Node::start(&dir, &settings);
    for (pk, sk, n) in &acknowledged {
        let found = node.client().read_now(&[(pk, sk)]);
        assert_eq!(found.len(), 1, "{pk} {sk} was acknowledged and is gone");
        assert_eq!(found[0].number("n"), *n);
    }
    let token = node.client().put("full-0", "after", &data(1));
    assert!(node.client().one(&token, "full-0", "after").is_some());
    node.term();
}

//! Whole imports against a node that is played by this file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde::Deserialize;

use super::*;

/// One request body in, status line with headers and body text out.
type Play = dyn Fn(&str) -> (&'static str, String) + Send + Sync;

#[derive(Deserialize)]
struct Body {
    records: Vec<Put>,
}

#[derive(Deserialize)]
struct Put {
    pk: String,
    sk: String,
}

/// Starts a node that answers puts as `play` says. It ends with the test process.
fn node(play: Arc<Play>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let play = Arc::clone(&play);
            thread::spawn(move || answer(stream, &*play));
        }
    });
    url
}

/// Answers the requests of one connection until it is closed.
fn answer(stream: TcpStream, play: &Play) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).ok().filter(|&read| read > 0)?;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let text = String::from_utf8(body).ok()?;
        let (head, body) =
            if first.starts_with("POST /records/put") { play(&text) } else { ("200 OK", "ok".to_owned()) };
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

/// What a node has taken: the sort keys of each partition key, in the order of their arrival.
type Taken = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

fn take(taken: &Taken, body: &str) -> (&'static str, String) {
    let body: Body = serde_json::from_str(body).expect("a body as the API takes it");
    let mut taken = taken.lock().expect("no test panics with the lock");
    for put in body.records {
        taken.entry(put.pk).or_default().push(put.sk);
    }
    ("200 OK", "ok".to_owned())
}

fn refuse(status: &'static str, detail: &str) -> (&'static str, String) {
    (status, format!(r#"{{"detail":"{detail}"}}"#))
}

struct Run {
    outcome: Result<Outcome, Failure>,
    scratch: tempfile::TempDir,
}

fn import(text: &str, url: String, change: impl FnOnce(&mut Import)) -> Run {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("records.ndjson");
    std::fs::write(&file, text).expect("a scratch file");
    let connection = Connection { url, timeout_sec: 60 };
    let mut import = Import { file, connections: 4, skip: 0, skip_bad: false, retry_sec: 60, connection };
    change(&mut import);
    Run { outcome: import.run_until(Stop::default()), scratch }
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"Pk\":\"p{}\",\"Sk\":\"{n}\",\"Data\":{{}}}}\n", n % 7)).collect()
}

#[test]
fn all_records_arrive_and_those_of_a_key_in_order() {
    let taken = Taken::default();
    let seen = Arc::clone(&taken);
    let run = import(&lines(5000), node(Arc::new(move |body: &str| take(&seen, body))), |_| {});
    assert!(matches!(run.outcome, Ok(Outcome::Complete)), "{:?}", run.outcome);
    let taken = taken.lock().expect("nobody panicked");
    for (pk, sks) in &*taken {
        let first: usize = pk[1..].parse().expect("a number");
        let expected: Vec<String> = (first..5000).step_by(7).map(|n| n.to_string()).collect();
        assert_eq!(sks, &expected, "{pk}");
    }
    assert_eq!(taken.len(), 7);
    run.scratch.close().expect("the scratch directory can go");
}

#[test]
fn overload_is_waited_out_as_the_node_asks() {
    let taken = Taken::default();
    let seen = Arc::clone(&taken);
    let calls = Arc::new(Mutex::new(0));
    let play = move |body: &str| {
        let mut calls = calls.lock().expect("nobody panicked");
        *calls += 1;
        match *calls {
            1 => refuse("503 Service Unavailable\r\nRetry-After: 0", "the log is slow"),
            2 => refuse("429 Too Many Requests", "busy"),
            _ => take(&seen, body),
        }
    };
    let run = import(&lines(10), node(Arc::new(play)), |import| import.connections = 1);
    assert!(matches!(run.outcome, Ok(Outcome::Complete)), "{:?}", run.outcome);
    assert_eq!(taken.lock().expect("nobody panicked").values().map(Vec::len).sum::<usize>(), 10);
}

#[test]
fn a_bad_line_ends_the_import_and_is_named_and_what_was_before_is_in() {
    let taken = Taken::default();
    let seen = Arc::clone(&taken);
    let text = format!("{}\n{{\"Pk\":\"x\"}}\n{}", lines(3), lines(3));
    let run = import(&text, node(Arc::new(move |body: &str| take(&seen, body))), |_| {});
    match run.outcome {
        Err(Failure::Line { line: 5, reason }) => assert!(reason.contains("missing field `sk`"), "{reason}"),
        other => panic!("line 5 is bad, not {other:?}"),
    }
    assert_eq!(taken.lock().expect("nobody panicked").values().map(Vec::len).sum::<usize>(), 3);
}

#[test]
fn bad_lines_and_refused_records_can_be_left_out() {
    let taken = Taken::default();
    let seen = Arc::clone(&taken);
    let play = move |body: &str| {
        if body.contains(r#""sk":"77""#) || body.contains(r#""sk":"401""#) {
            return refuse("400 Bad Request", "not this one");
        }
        take(&seen, body)
    };
    let text = format!("nonsense\n{}", lines(1000));
    let run = import(&text, node(Arc::new(play)), |import| import.skip_bad = true);
    assert!(matches!(run.outcome, Ok(Outcome::Partial)), "{:?}", run.outcome);
    let taken = taken.lock().expect("nobody panicked");
    let mut all: Vec<usize> = taken.values().flatten().map(|sk| sk.parse().expect("a number")).collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).filter(|n| ![77, 401].contains(n)).collect::<Vec<_>>());
}

#[test]
fn a_refusal_ends_the_import_with_the_lines_and_the_reason() {
    let play = |_: &str| refuse("413 Content Too Large", "record 0 is too large");
    let run = import(&lines(3), node(Arc::new(play)), |import| import.connections = 1);
    let failure = run.outcome.expect_err("the node refuses");
    assert_eq!(failure.to_string(), "lines 1 to 3: the server refused: record 0 is too large (status 413)");
    assert_eq!(failure.exit_code(), 2);
}

#[test]
fn a_node_that_stays_away_ends_the_import_when_the_patience_is_spent() {
    let play = |_: &str| refuse("503 Service Unavailable", "the log does not answer");
    let run = import(&lines(3), node(Arc::new(play)), |import| import.retry_sec = 0);
    let failure = run.outcome.expect_err("the node cannot");
    assert_eq!(failure.exit_code(), 3);

    // Nobody listens on a port that was free a moment ago and is closed again.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let run = import(&lines(3), url, |_| {});
    assert!(matches!(run.outcome, Err(Failure::Unreachable { .. })), "{:?}", run.outcome);
}

#[test]
fn a_run_can_be_continued_behind_the_lines_that_are_in() {
    let taken = Taken::default();
    let seen = Arc::clone(&taken);
    let run = import(&lines(100), node(Arc::new(move |body: &str| take(&seen, body))), |import| {
        import.skip = 90;
    });
    assert!(matches!(run.outcome, Ok(Outcome::Complete)), "{:?}", run.outcome);
    let taken = taken.lock().expect("nobody panicked");
    let mut all: Vec<usize> = taken.values().flatten().map(|sk| sk.parse().expect("a number")).collect();
    all.sort_unstable();
    assert_eq!(all, (90..100).collect::<Vec<_>>());
}

#[test]
fn one_connection_always_writes_the_same_key() {
    for connections in 1..=64 {
        for pk in ["", "a", "example.com"] {
            let connection = route(pk, connections);
            assert!(connection < connections);
            assert_eq!(connection, route(pk, connections));
        }
    }
}

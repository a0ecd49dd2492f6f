//! The client commands, end to end: the real program against a real node.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Home, Node, Record, Shared, data, firescroll};

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

/// How a command went.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    fn records(&self) -> Vec<Record> {
        let record = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(record).collect()
    }
}

/// A client command against a node.
fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = firescroll(arguments);
    command.env("FIRESCROLL_URL", node.client().url());
    command.env("FIRESCROLL_INTERNAL_URL", node.operator().url());
    command
}

fn run(mut command: Command, input: &str) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A command that refuses does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it is our child");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn cli(node: &Node, arguments: &[&str]) -> Done {
    run(command(node, arguments), "")
}

#[test]
fn a_record_is_put_got_listed_and_deleted() {
    let home = home();
    let put = cli(&home, &["put", "cli", "a", r#"{"z":1.10, "a":12345678901234567890}"#]);
    assert_eq!(put.code, Some(0), "{put:?}");
    let token = put.out.trim();
    assert!(token.contains(':'), "the token is printed: {put:?}");
    let get = cli(&home, &["get", "cli", "a", "--session", token]);
    assert_eq!(get.code, Some(0), "{get:?}");
    let found = get.records();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].pk.as_str(), found[0].sk.as_str()), ("cli", "a"));
    let data = cli(&home, &["get", "--data", "cli", "a"]);
    assert_eq!(data.out.trim().replace(", ", ","), r#"{"z":1.10,"a":12345678901234567890}"#);

    let piped = run(command(&home, &["put", "cli", "b", "-"]), "{\"from\":\"stdin\"}\n");
    assert_eq!(piped.code, Some(0), "{piped:?}");
    let list = cli(&home, &["list", "cli", "--session", piped.out.trim()]);
    assert_eq!(list.records().iter().map(|record| record.sk.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let delete = cli(&home, &["delete", "cli", "a"]);
    assert_eq!(delete.code, Some(0), "{delete:?}");
    let get = cli(&home, &["get", "cli", "a", "cli", "b", "--session", delete.out.trim()]);
    assert_eq!(get.code, Some(1), "one of two is absent: {get:?}");
    assert_eq!(get.records().len(), 1);
    assert!(get.err.contains('a'), "{get:?}");
}

#[test]
fn conditions_are_passed_on() {
    let home = home();
    cli(&home, &["put", "cond", "s", r#"{"n":1}"#, "--if", "data == `null`"]);
    cli(&home, &["put", "cond", "s", r#"{"n":2}"#, "--if", "data.n == `7`"]);
    let put = cli(&home, &["put", "cond", "s", r#"{"n":3}"#, "--if", "data.n == `1`"]);
    let get = cli(&home, &["get", "--data", "cond", "s", "--session", put.out.trim()]);
    assert_eq!(get.out.trim(), r#"{"n":3}"#);
    let delete = cli(&home, &["delete", "cond", "s", "--if", "data.n == `1`"]);
    assert_eq!(cli(&home, &["get", "cond", "s", "--session", delete.out.trim()]).code, Some(0));
    let delete = cli(&home, &["delete", "cond", "s", "--if", "data.n == `3`"]);
    assert_eq!(cli(&home, &["get", "cond", "s", "--session", delete.out.trim()]).code, Some(1));
}

#[test]
fn a_long_listing_is_whole_and_obeys_its_options() {
    let home = home();
    let sks: Vec<String> = (0..2500).map(|n| format!("{n:05}")).collect();
    let mut token = String::new();
    for page in sks.chunks(500) {
        token = home
            .client()
            .put_all("listed", page.iter().map(|sk| (sk.as_str(), data(sk.parse().expect("digits")))));
    }
    let list = |options: &[&str]| -> Vec<String> {
        let done = cli(&home, &[&["list", "listed", "--session", &token], options].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        done.records().into_iter().map(|record| record.sk).collect()
    };
    assert_eq!(list(&[]), sks);
    assert_eq!(list(&["--limit", "1500"]), sks[..1500]);
    assert_eq!(list(&["--prefix", "001"]), sks[100..200]);
    assert_eq!(list(&["--after", "00009", "--before", "01999"]), sks[10..1999]);
    assert_eq!(list(&["--if", "data.n >= `2490`"]), sks[2490..]);
    assert_eq!(list(&["--if", "data.n < `3`", "--if-stop"]), sks[..3]);
    let mut reversed = list(&["--reverse"]);
    reversed.reverse();
    assert_eq!(reversed, sks);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let home = home();
    for (arguments, code, words) in [
        (&["get", "codes", "absent"][..], 1, &["absent"][..]),
        (&["get", "codes"], 2, &["SK"]),
        (&["get"], 2, &["PK"]),
        (&["get", "codes", "a", "codes"], 2, &["codes", "sort key"]),
        (&["put", "codes", "s", "[1]"], 2, &["object"]),
        (&["put", "codes", "s", "{nope"], 2, &["JSON"]),
        (&["put", "codes", "", "{}"], 2, &["sk", "empty"]),
        (&["put", "codes", "s", "{}", "--if", "data.hey == \"ho\""], 2, &["'ho'"]),
        (&["list", "codes", "--if", "data.n"], 2, &["boolean"]),
        (&["list", "codes", "--limit", "-1"], 2, &[]),
        (&["nonsense"], 2, &["nonsense"]),
        (&["import", "/no/such/file"], 2, &["/no/such/file"]),
        (&["export", "/no/such/directory/file"], 2, &["/no/such/directory/file"]),
        (&["get", "a", "b", "--url", "ftp://x"], 2, &["http://"]),
    ] {
        let done = cli(&home, arguments);
        assert_eq!(done.code, Some(code), "{arguments:?}: {done:?}");
        for word in words {
            assert!(done.err.contains(word), "{word:?} is not in {done:?} of {arguments:?}");
        }
        assert_eq!(done.out, "", "{arguments:?}");
    }
    // Nobody listens on a port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", free.local_addr().expect("it is bound"));
    drop(free);
    for arguments in [
        &["get", "a", "b"][..],
        &["put", "a", "b", "{}"],
        &["delete", "a", "b"],
        &["list", "a"],
        &["import", "-"],
        &["export", "-", "--internal-url", &url],
    ] {
        let done = cli(&home, &[arguments, &["--url", &url]].concat());
        assert_eq!(done.code, Some(3), "{arguments:?}: {done:?}");
        assert!(done.err.contains(&url), "{arguments:?}: {done:?}");
    }
}

/// The line of an import that states one record.
fn line(pk: &str, sk: &str, n: u64) -> String {
    json!({"Pk": pk, "Sk": sk, "Data": {"n": n}}).to_string()
}

/// The record data of a node by key, as exact bytes.
fn everything(node: &Node) -> BTreeMap<(String, String), String> {
    node.catch_up();
    let mut all = BTreeMap::new();
    for partition in 0..8 {
        let lines = node.operator().get(&format!("/partitions/{partition}/export")).text();
        for line in lines.lines() {
            let record: Record = serde_json::from_str(line).expect("a record");
            all.insert((record.pk.clone(), record.sk.clone()), record.raw().to_owned());
        }
    }
    all
}

#[test]
fn an_import_may_be_run_again() {
    let home = Home::start(&[]);
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("records.ndjson");
    let mut text = String::new();
    for n in 0..3000 {
        text += &line(&format!("pk-{}", n % 50), &format!("sk-{}", n / 50), n);
        text += if n % 100 == 0 { "\n\n" } else { "\n" };
    }
    // The last word on a key wins, as lines of one key keep their order.
    for n in 0..200 {
        text += &line("order", "s", n);
        text.push('\n');
    }
    text += r#"{"pk":"lower","sk":"case","data":{"z":1.10,"a":12345678901234567890},"CreatedAt":"then"}"#;
    fs::write(&file, &text).expect("a scratch file");
    let import = |node: &Node| cli(node, &["import", &file.display().to_string(), "--connections", "3"]);
    let done = import(&home);
    assert_eq!(done.code, Some(0), "{done:?}");
    let first = everything(&home);
    assert_eq!(first.len(), 3000 + 1 + 1);
    assert_eq!(first[&("order".to_owned(), "s".to_owned())], data(199));
    let lower = &first[&("lower".to_owned(), "case".to_owned())];
    assert_eq!(lower, r#"{"z":1.10,"a":12345678901234567890}"#);
    assert_eq!(import(&home).code, Some(0));
    assert_eq!(everything(&home), first);
    // From a pipe it is the same.
    let piped = Home::start(&[]);
    let done = run(command(&piped, &["import", "-"]), &text);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(everything(&piped), first);
}

/// The number behind `--skip` in what a failed import says.
fn skip(done: &Done) -> u64 {
    let (_, rest) = done.err.split_once("--skip ").unwrap_or_else(|| panic!("no --skip in {done:?}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number of lines")
}

#[test]
fn an_import_goes_on_after_a_bad_line() {
    let home = Home::start(&[]);
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("records.ndjson");
    let path = file.display().to_string();
    let mut lines: Vec<String> =
        (0..2000).map(|n| line(&format!("pk-{}", n % 20), &n.to_string(), n)).collect();
    let good = std::mem::replace(&mut lines[1500], r#"{"Pk":"no sort key","Data":{}}"#.to_owned());
    fs::write(&file, lines.join("\n")).expect("a scratch file");
    let done = cli(&home, &["import", &path]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.err.contains("1501"), "the line is named: {done:?}");
    let certain = skip(&done);
    assert!(certain <= 1500);
    let there: BTreeSet<String> = everything(&home).into_keys().map(|(_, sk)| sk).collect();
    for n in 0..certain {
        assert!(there.contains(&n.to_string()), "line {} of {certain} is not in", n + 1);
    }
    // Left out on demand.
    let other = Home::start(&[]);
    let skipped = cli(&other, &["import", &path, "--skip-bad"]);
    assert_eq!(skipped.code, Some(1), "{skipped:?}");
    assert_eq!(everything(&other).len(), 1999);
    // Mended, it goes on.
    lines[1500] = good;
    fs::write(&file, lines.join("\n")).expect("a scratch file");
    let done = cli(&home, &["import", &path, "--skip", &certain.to_string()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(everything(&home).len(), 2000);
}

#[test]
fn an_import_goes_on_after_its_node_was_killed() {
    let (node, dir) = Home::start(&[]).into_parts();
    let lines: Vec<String> =
        (0..20_000).map(|n| line(&format!("pk-{}", n % 40), &format!("{n:05}"), n)).collect();
    let mut import = command(&node, &["import", "-", "--connections", "2", "--retry-sec", "0"]);
    import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = import.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all((lines[..12_000].join("\n") + "\n").as_bytes()).expect("the import reads");
    let appended = || node.status()["log"]["appended_messages"].as_u64().expect("a number");
    support::until("some lines to be in", || appended() > 2000);
    node.kill();
    // It may have noticed already.
    let _ = stdin.write_all(lines[12_000..].join("\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it is our child");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let done = Done { code: output.status.code(), out: String::new(), err };
    assert_eq!(done.code, Some(3), "{done:?}");
    let certain = skip(&done);

    let node = Node::start(dir.path(), &[]);
    let there: BTreeSet<String> = everything(&node).into_keys().map(|(_, sk)| sk).collect();
    for n in 0..certain {
        assert!(there.contains(&format!("{n:05}")), "line {} of {certain} is not in", n + 1);
    }
    let done = run(command(&node, &["import", "-", "--skip", &certain.to_string()]), &lines.join("\n"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(everything(&node).len(), 20_000);
}

#[test]
fn an_interrupted_import_says_where_to_go_on() {
    let home = Home::start(&[]);
    let lines: Vec<String> =
        (0..10_000).map(|n| line(&format!("pk-{}", n % 40), &format!("{n:05}"), n)).collect();
    let mut import = command(&home, &["import", "-"]);
    import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = import.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // The input stays open, so that the import would wait for more.
    stdin.write_all((lines[..8000].join("\n") + "\n").as_bytes()).expect("the import reads");
    let appended = || home.status()["log"]["appended_messages"].as_u64().expect("a number");
    support::until("some lines to be in", || appended() > 1000);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it is our child");
    drop(stdin);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let done = Done { code: output.status.code(), out: String::new(), err };
    assert_eq!(done.code, Some(130), "{done:?}");
    let certain = skip(&done);
    let there: BTreeSet<String> = everything(&home).into_keys().map(|(_, sk)| sk).collect();
    for n in 0..certain {
        assert!(there.contains(&format!("{n:05}")), "line {} of {certain} is not in", n + 1);
    }
    let done = run(command(&home, &["import", "-", "--skip", &certain.to_string()]), &lines.join("\n"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(everything(&home).len(), 10_000);
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let (from, to) = (Home::start(&[]), Home::start(&[]));
    let datas = [
        r#"{"z":1.10,"a":12345678901234567890}"#,
        r#"{"escapes":"\u00e9\/\n\"","plain":"é😀"}"#,
        r#"{"twice":1,"twice":2}"#,
        "{}",
    ];
    for n in 0..200usize {
        from.client().put(&format!("pk \"{}\" é", n % 30), &format!("sk/{n}"), datas[n % datas.len()]);
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("out.ndjson");
    let path = file.display().to_string();
    let before = everything(&from);
    assert_eq!(before.len(), 200);
    let export = cli(&from, &["export", &path]);
    assert_eq!(export.code, Some(0), "{export:?}");
    assert_eq!(fs::read_to_string(&file).expect("the export").lines().count(), 200);
    assert!(!scratch.path().join("out.ndjson.part").exists());
    let import = cli(&to, &["import", &path]);
    assert_eq!(import.code, Some(0), "{import:?}");
    assert_eq!(everything(&to), before);

    // One partition key, to standard output.
    let one = cli(&from, &["export", "-", "--pk", "pk \"3\" é"]);
    assert_eq!(one.code, Some(0), "{one:?}");
    let records = one.records();
    assert_eq!(records.len(), before.keys().filter(|(pk, _)| pk == "pk \"3\" é").count());
    assert!(records.iter().all(|record| record.pk == "pk \"3\" é"));
    let status: Value = from.status();
    assert_eq!(status["node"]["ready"], true);
}

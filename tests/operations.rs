//! What operators see and do: health, metrics, status, export, profile, start and stop.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Client, Home, Node, Process, Record, Wire, data, firescroll, get, partition, post};

#[test]
fn a_node_is_up_and_ready() {
    let home = Home::start(&[]);
    for path in ["/up", "/ready"] {
        assert_eq!(home.client().get(path).status, 200, "{path}");
        assert_eq!(home.client().send("HEAD", path, &[], None).status, 200, "{path}");
    }
    assert_eq!(home.operator().get("/up").status, 200);
    // Operators' pages are not for clients, nor records for operators.
    assert_eq!(home.client().get("/metrics").status, 404);
    assert_eq!(home.operator().get("/records/a/b").status, 404);
    let post = home.operator().post("/metrics", "{}");
    post.refusal(405);
    assert!(post.header("allow").is_some_and(|allow| allow.contains("GET")));
}

/// The bounds of a histogram's buckets on a metrics page, in order, and its count.
fn histogram(page: &str, name: &str, operation: &str) -> (Vec<String>, f64) {
    let bucket = format!("{name}_bucket{{operation=\"{operation}\",le=\"");
    let (mut bounds, mut below) = (Vec::new(), 0.0);
    for line in page.lines().filter_map(|line| line.strip_prefix(&bucket)) {
        let (bound, count) = line.split_once("\"} ").expect("a bound and a count");
        let count: f64 = count.parse().expect("a number");
        assert!(count >= below, "buckets are cumulative: {line}");
        below = count;
        bounds.push(bound.to_owned());
    }
    let count = format!("{name}_count{{operation=\"{operation}\"}} ");
    let count = page.lines().find_map(|line| line.strip_prefix(&count)).expect("a count");
    let count: f64 = count.parse().expect("a number");
    assert!((count - below).abs() < f64::EPSILON, "the last bucket holds all");
    let sum = format!("{name}_sum{{operation=\"{operation}\"}} ");
    assert!(page.lines().any(|line| line.starts_with(&sum)), "{sum}");
    (bounds, count)
}

#[test]
fn metrics_keep_the_names_and_buckets_of_the_original() {
    let home = Home::start(&[]);
    let client = home.client();
    let token = client.put("metrics", "s", "{}");
    for _ in 0..10 {
        client.one(&token, "metrics", "s").expect("it was put");
    }
    client.listed(&token, &json!({"pk": "metrics"}));
    client.delete("metrics", "s");
    let answer = home.operator().get("/metrics");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let page = answer.text();
    let micros = "100 200 300 400 500 750 1000 1250 1500 2000 2500 3000 4000 5000 6000 10000 15000 +Inf";
    for (operation, least) in [("get", 10.0), ("list", 1.0), ("put", 1.0), ("delete", 1.0), ("batch", 0.0)] {
        let (bounds, count) = histogram(&page, "http_latencies_micro", operation);
        assert_eq!(bounds.join(" "), micros);
        assert!(count >= least, "{operation}: {count}");
    }
    let micros = "10 15 25 50 75 100 200 300 400 500 750 1000 1250 1500 2000 2500 3000 +Inf";
    for (operation, least) in [("get", 10.0), ("list", 1.0)] {
        let (bounds, count) = histogram(&page, "partition_operation_latencies_micro", operation);
        assert_eq!(bounds.join(" "), micros);
        assert!(count >= least, "{operation}: {count}");
    }
    for name in ["http_latencies_micro", "partition_operation_latencies_micro"] {
        assert!(page.contains(&format!("# TYPE {name} histogram")), "{name}");
    }
    assert!((home.metric("partitions") - 8.0).abs() < f64::EPSILON);
    // Every line is one that Prometheus reads: a comment, or a name with a number.
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn the_status_shows_every_partition() {
    let home = Home::start(&[("NAMESPACE", "statusns"), ("REGION", "here"), ("INSTANCE_ID", "n1")]);
    let token = home.client().put("status", "s", "{}");
    home.client().one(&token, "status", "s").expect("it was put");
    let status = home.status();
    assert_eq!(status["node"]["namespace"], "statusns");
    assert_eq!(status["node"]["region"], "here");
    assert_eq!(status["node"]["instance_id"], "n1");
    assert_eq!(status["shards"].as_array().map(Vec::len), Some(2));
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    assert_eq!(partitions.len(), 8);
    for (number, found) in partitions.iter().enumerate() {
        assert_eq!(found["partition"], number);
        assert_eq!(found["state"], "serving");
        assert_eq!(found["lag"], 0);
    }
    let (number, offset) = token.split_once(':').expect("one position");
    let written = &partitions[number.parse::<usize>().expect("a partition")];
    assert_eq!(written["applied_offset"].to_string(), offset);
    assert_eq!(
        partitions[(number.parse::<usize>().expect("a partition") + 1) % 8]["applied_offset"],
        Value::Null
    );
    assert!(status["gossip"]["members"].is_array(), "{status}");
    assert!(status.get("backups").is_some(), "{status}");
}

#[test]
fn partitions_can_be_exported_and_compared() {
    let home = Home::start(&[]);
    let client = home.client();
    let mut all = BTreeSet::new();
    for n in 0..40 {
        let (pk, sk) = (format!("export-{n}"), format!("s/{n}"));
        client.put(&pk, &sk, &format!(r#"{{"n": {n}, "f": 1.10}}"#));
        all.insert((pk, sk));
    }
    let before = home.hashes();
    assert_eq!(before.iter().map(|hash| hash["records"].as_u64().expect("a number")).sum::<u64>(), 40);
    for number in 0..8u32 {
        let answer = home.operator().get(&format!("/partitions/{number}/export"));
        assert_eq!(answer.status, 200);
        let mut last = None;
        for line in answer.text().lines() {
            let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(partition(&record.pk, 8), number);
            let key = (record.pk.clone(), record.sk.clone());
            assert!(last.as_ref().is_none_or(|last| *last < key), "lines are in the order of keys");
            let served = client.read_now(&[(&key.0, &key.1)]).remove(0);
            assert_eq!(record.members(), served.members());
            assert!(all.remove(&key), "{key:?} twice or never put");
            last = Some(key);
        }
    }
    assert!(all.is_empty(), "{all:?} are in no export");

    // A hash changes with its partition, and only with that.
    assert_eq!(home.hashes(), before);
    let changed = partition("export-0", 8) as usize;
    client.put("export-0", "s/0", "{}");
    let after = home.hashes();
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before["hash"] != after["hash"], number == changed, "{before} {after}");
        assert_eq!(before["next"] != after["next"], number == changed, "{before} {after}");
        assert_eq!(before["partition"], number);
    }
    for path in ["/partitions/8/hash", "/partitions/x/export", "/partitions/0/other", "/nowhere"] {
        home.operator().get(path).refusal(404);
    }
}

#[test]
fn a_profile_can_be_taken() {
    let home = Home::start(&[]);
    home.operator().get("/debug/pprof/profile?seconds=0").refusal(400);
    home.operator().get("/debug/pprof/profile?seconds=soon").refusal(400);
    let answer = home.operator().get("/debug/pprof/profile?seconds=1");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.body.is_empty());
    assert_eq!(home.client().get("/up").status, 200);
}

#[test]
fn a_stop_lets_a_request_in_flight_finish() {
    let (mut node, dir) = Home::start(&[]).into_parts();
    let body = json!({"records": [{"pk": "flight", "sk": "s", "data": {"n": 1}}]}).to_string();
    let request = post("/records/put", &body);
    let mut resting = Wire::connect(node.api());
    assert_eq!(resting.ask(&get("/up")).status, 200);
    let mut flying = Wire::connect(node.api());
    let (first, rest) = request.split_at(request.len() - 10);
    flying.send(first.as_bytes());
    support::until("the request to be in flight", || {
        (0..2).any(|shard| node.metric(&format!("requests_in_flight{{shard=\"{shard}\"}}")) == 1.0)
    });
    node.ask_to_stop();
    // A connection at rest is closed once the node has stopped to listen.
    assert_eq!(resting.rest().expect("a clean end"), b"");
    flying.send(rest.as_bytes());
    let reply = flying.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let node = Node::start(dir.path(), &[]);
    node.catch_up();
    assert_eq!(node.client().read_now(&[("flight", "s")])[0].number("n"), 1);
}

#[test]
fn a_stop_is_bounded_by_its_deadline() {
    let (mut node, _dir) = Home::start(&[("SHUTDOWN_TIMEOUT_SEC", "1")]).into_parts();
    let mut flying = Wire::connect(node.api());
    flying.send(b"POST /records/put HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\n{");
    support::until("the request to be in flight", || {
        (0..2).any(|shard| node.metric(&format!("requests_in_flight{{shard=\"{shard}\"}}")) == 1.0)
    });
    node.ask_to_stop();
    // Nothing more comes from this client; the node does not wait for it.
    flying.drain();
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn a_stop_can_leave_balancers_time_to_notice() {
    let (mut node, _dir) = Home::start(&[("SHUTDOWN_SLEEP_SEC", "2")]).into_parts();
    node.ask_to_stop();
    support::until("the node to report unready", || node.client().anew().get("/ready").status >= 500);
    // It still serves meanwhile.
    assert_eq!(node.client().anew().get("/up").status, 200);
    let token = node.client().anew().put("late", "s", &data(1));
    assert!(node.client().anew().one(&token, "late", "s").is_some());
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    // While it leaves balancers time to notice, and while it waits for requests in flight.
    for sleep in ["50", "0"] {
        let (mut node, dir) =
            Home::start(&[("SHUTDOWN_SLEEP_SEC", sleep), ("SHUTDOWN_TIMEOUT_SEC", "50")]).into_parts();
        let token = node.client().put("twice", "s", &data(1));
        assert!(node.client().one(&token, "twice", "s").is_some());
        let mut resting = Wire::connect(node.api());
        assert_eq!(resting.ask(&get("/up")).status, 200);
        let mut flying = Wire::connect(node.api());
        flying.send(b"POST /records/put HTTP/1.1\r\nhost: node\r\ncontent-length: 100\r\n\r\n{");
        support::until("the request to be in flight", || {
            (0..2).any(|shard| node.metric(&format!("requests_in_flight{{shard=\"{shard}\"}}")) == 1.0)
        });
        node.ask_to_stop();
        node.logged("stopping");
        if sleep == "0" {
            assert_eq!(resting.rest().expect("a clean end"), b"");
        }
        node.ask_to_stop();
        assert!(
            node.ends_within(Duration::from_secs(20)),
            "SHUTDOWN_SLEEP_SEC={sleep}: a second signal is ignored"
        );
        node.ended();
        let node = Node::start(dir.path(), &[]);
        assert_eq!(node.client().read_now(&[("twice", "s")])[0].number("n"), 1);
    }
}

#[test]
fn ready_means_that_everything_acknowledged_is_there() {
    let (mut node, dir) = Home::start(&[]).into_parts();
    let pad = "x".repeat(100);
    let sks: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    for page in sks.chunks(500) {
        node.client()
            .put_all("caught-up", page.iter().map(|sk| (sk.as_str(), format!(r#"{{"pad":"{pad}"}}"#))));
    }
    for _ in 0..3 {
        node.client().put("caught-up", "last", &data(1));
        node.kill();
        // Without their stores partitions begin at the beginning, which takes its time.
        for shard in ["shard-000", "shard-001"] {
            fs::remove_dir_all(dir.path().join(shard)).expect("each shard has a store");
        }
        node = Node::start(dir.path(), &[]);
        // Ready: the first read finds all, without a token.
        let last: Vec<(&str, &str)> = vec![("caught-up", "last"), ("caught-up", "9999")];
        assert_eq!(node.client().read_now(&last).len(), 2);
    }
}

#[test]
fn a_node_continues_where_it_stopped() {
    let (mut node, dir) = Home::start(&[]).into_parts();
    for n in 0..5u64 {
        for sk in 0..20u64 {
            node.client().put("again", &format!("{sk:02}"), &data(n));
        }
        let hashes = node.hashes();
        let before = node.client().read_now(&[("again", "07")]).remove(0);
        node.term();
        node = Node::start(dir.path(), &[]);
        assert_eq!(node.hashes(), hashes);
        let after = node.client().read_now(&[("again", "07")]).remove(0);
        assert_eq!(before.members(), after.members());
    }
}

#[test]
fn one_directory_serves_one_node() {
    let home = Home::start(&[]);
    let ended = Node::refused(home.path(), &[]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.errors.contains(&home.path().display().to_string()), "{}", ended.errors);
    assert!(ended.errors.contains(&home.id().to_string()), "{}", ended.errors);
    // The first is not disturbed.
    let token = home.client().put("one", "s", "{}");
    assert!(home.client().one(&token, "one", "s").is_some());
}

#[test]
fn data_is_not_taken_for_that_of_another_layout() {
    let (node, dir) = Home::start(&[("PARTITIONS", "8")]).into_parts();
    let token = node.client().put("layout", "s", "{}");
    node.client().one(&token, "layout", "s").expect("it was put");
    let hashes = node.hashes();
    node.term();
    let ended = Node::refused(dir.path(), &[("PARTITIONS", "16")]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    for word in ["PARTITIONS", "8", "16"] {
        assert!(ended.errors.contains(word), "{word} is not in {}", ended.errors);
    }
    let ended = Node::refused(dir.path(), &[("NAMESPACE", "other")]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.errors.contains("NAMESPACE") && ended.errors.contains("other"), "{}", ended.errors);
    // Nothing has been harmed by the attempts.
    assert_eq!(Node::start(dir.path(), &[]).hashes(), hashes);
}

#[test]
fn wrong_settings_are_refused_before_anything_starts() {
    let file = tempfile::NamedTempFile::new().expect("a scratch file");
    let below_a_file = file.path().join("db").display().to_string();
    for (variable, value) in [
        ("PARTITIONS", "0"),
        ("PARTITIONS", "many"),
        ("PARTITIONS", "-8"),
        ("PARTITIONS", "1000000"),
        ("SHARDS", "0"),
        ("SHARDS", "1.5"),
        ("SHARD_CPUS", "0-"),
        ("SHARD_CPUS", "9999"),
        ("CONTROL_CPU", "9999"),
        ("BUSY_POLL_US", "10001"),
        ("API_PORT", "http"),
        ("API_PORT", "65536"),
        ("API_ADDR", "localhost:8190"),
        ("INTERNAL_PORT", "-1"),
        ("INTERNAL_ADDR", "nowhere"),
        ("NAMESPACE", "a/b"),
        ("REGION", "two words"),
        ("MAX_BODY_BYTES", "8MB"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_CONNECTIONS", "900000000"),
        ("MAX_REQUESTS", "0"),
        ("HEAD_TIMEOUT_MS", "0"),
        ("BODY_TIMEOUT_MS", "1s"),
        ("SHUTDOWN_SLEEP_SEC", "-1"),
        ("HTTP_GZIP", "yes"),
        ("DEBUG", "2"),
        ("TOPIC_RETENTION_MS", "-2"),
        ("KAFKA_SEEDS", "kafka"),
        ("KAFKA_USER", "me"),
        ("GOSSIP_PEERS", "10.0.0.1:8192"),
        ("BACKUP", "1"),
        ("S3_RESTORE", "1"),
        ("S3_ENDPOINT", "minio:9000"),
    ] {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let dir = scratch.path().join("db");
        let ended = Node::refused(&dir, &[(variable, value)]);
        assert!(ended.code.is_some_and(|code| code != 0), "{variable}={value}: {ended:?}");
        assert!(ended.errors.contains(variable), "{variable}={value}: {}", ended.errors);
        assert!(ended.errors.contains(value), "{variable}={value}: {}", ended.errors);
        assert!(!dir.exists(), "{variable}={value} was found after something had started");
    }
    let ended = Node::refused(Path::new(&below_a_file), &[]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.errors.contains("DB_PATH") && ended.errors.contains(&below_a_file), "{}", ended.errors);
    // All that is wrong is said at once.
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let wrong = [("PARTITIONS", "none"), ("API_PORT", "door"), ("HTTP_CORS", "perhaps")];
    let ended = Node::refused(&scratch.path().join("db"), &wrong);
    for (variable, value) in wrong {
        assert!(ended.errors.contains(variable) && ended.errors.contains(value), "{}", ended.errors);
    }
    // A password is never repeated.
    let ended = Node::refused(&scratch.path().join("db"), &[("KAFKA_PASS", "hunter2")]);
    assert!(ended.errors.contains("KAFKA_PASS") && !ended.errors.contains("hunter2"), "{}", ended.errors);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let port = address.port().to_string();
    for variable in ["API_PORT", "INTERNAL_PORT"] {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let ended = Node::refused(scratch.path(), &[(variable, &port)]);
        assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        assert!(ended.errors.contains(&address.to_string()), "{}", ended.errors);
        assert!(ended.errors.contains(variable), "{}", ended.errors);
    }
    // Nor does a second node quietly share the port of the first.
    let home = Home::start(&[]);
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let ended = Node::refused(scratch.path(), &[("API_PORT", &home.api().port().to_string())]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.errors.contains("API_PORT"), "{}", ended.errors);
}

fn output(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("the program can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn help_lists_every_setting() {
    let (code, help) = output(firescroll(&["serve", "--help"]));
    assert_eq!(code, Some(0));
    for (variable, default) in [
        ("NAMESPACE", "default"),
        ("REPLICA_GROUP", "default"),
        ("INSTANCE_ID", "host name"),
        ("TOPIC_RETENTION_MS", "-1"),
        ("PARTITIONS", "256"),
        ("GOSSIP_PEERS", ""),
        ("GOSSIP_BROADCAST_MS", "1000"),
        ("KAFKA_SEEDS", ""),
        ("KAFKA_TLS", "0"),
        ("KAFKA_USER", "none"),
        ("KAFKA_PASS", "none"),
        ("KAFKA_TLS_CA_PATH", "system"),
        ("KAFKA_SESSION_MS", "60000"),
        ("ADVERTISE_ADDR", "none"),
        ("BACKUP", "0"),
        ("S3_RESTORE", "0"),
        ("AWS_REGION", "none"),
        ("S3_ENDPOINT", "none"),
        ("S3_BUCKET", "none"),
        ("BACKUP_INTERVAL_SEC", "43200"),
        ("BACKUP_TIMEOUT_SEC", "120"),
        ("DB_PATH", "/var/firescroll/dbs"),
        ("REGION", "local"),
        ("API_PORT", "8190"),
        ("INTERNAL_PORT", "8191"),
        ("GOSSIP_PORT", "8192"),
        ("SHUTDOWN_SLEEP_SEC", "0"),
        ("DEBUG", "0"),
        ("MAX_BODY_BYTES", "8388608"),
        ("SHARDS", "CPUs"),
        ("CONTROL_CPU", "not pinned"),
        ("BUSY_POLL_US", "0"),
        ("HTTP_GZIP", "0"),
        ("HTTP_CORS", "1"),
    ] {
        let flag = format!("--{}", variable.to_ascii_lowercase().replace('_', "-"));
        // From the flag to the next one, whatever the width of the terminal does to lines.
        let starts = |line: &&str| line.trim_start().starts_with("--");
        let place =
            help.lines().position(|line| line.trim_start().split([' ', '[', '=']).next() == Some(&flag));
        let place = place.unwrap_or_else(|| panic!("no {flag} in\n{help}"));
        let lines: Vec<&str> = help.lines().skip(place).collect();
        let end = lines.iter().skip(1).position(starts).map_or(lines.len(), |end| end + 1);
        let text = lines[..end].iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("[env: {variable}")), "{variable} is not in: {text}");
        assert!(text.contains(default), "{default} of {variable} is not in: {text}");
    }
}

#[test]
fn a_node_can_be_started_by_flags_alone() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().display().to_string();
    let mut arguments = vec!["serve", "--db-path", &dir, "--partitions", "3", "--shards", "1"];
    arguments.extend(["--api-addr", "127.0.0.1", "--api-port", "0", "--internal-port", "0", "--http-gzip"]);
    let mut process = Process::spawn(firescroll(&arguments));
    let address = process.after("serving http://").expect("it serves");
    let client = Client::new(address.trim().parse().expect("an address"));
    let token = client.put("flags", "s", "{}");
    assert!(client.one(&token, "flags", "s").is_some());
    // As Ctrl-C does.
    process.signal(Signal::INT);
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let ended = Node::refused(scratch.path(), &[("PARTITIONS", "4")]);
    assert!(ended.errors.contains('3') && ended.errors.contains('4'), "{}", ended.errors);
}

#[test]
fn flags_go_before_variables() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let mut command = firescroll(&["serve", "--partitions", "wrong-flag"]);
    command.env("PARTITIONS", "8").env("DB_PATH", scratch.path().join("db"));
    let output = command.output().expect("the program can be started");
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong-flag"));
}

#[test]
fn the_version_is_printed() {
    for arguments in [["version"], ["--version"]] {
        let (code, text) = output(firescroll(&arguments));
        assert_eq!((code, text.trim()), (Some(0), concat!("firescroll ", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn a_damaged_log_is_refused_and_not_cut() {
    let (node, dir) = Home::start(&[]).into_parts();
    for n in 0..200 {
        node.client().put("damage", &n.to_string(), &data(n));
    }
    node.term();
    let segment = fs::read_dir(dir.path().join("log"))
        .expect("the log's directory")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .expect("a segment");
    let whole = fs::read(&segment).expect("a segment");
    let mut damaged = whole.clone();
    // In the middle: what comes behind it is whole.
    let at = damaged.len() / 2;
    damaged[at] ^= 0xff;
    fs::write(&segment, &damaged).expect("a segment");
    let ended = Node::refused(dir.path(), &[]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(ended.errors.contains(&name), "{}", ended.errors);
    assert_eq!(fs::read(&segment).expect("a segment"), damaged, "nothing was cut off");
    // Mended, all is there. A torn tail, which a crash leaves, is no damage.
    fs::write(&segment, [whole.as_slice(), &[7; 13]].concat()).expect("a segment");
    let node = Node::start(dir.path(), &[]);
    node.catch_up();
    let listed = node.client().post("/records/list", r#"{"pk":"damage"}"#).records();
    assert_eq!(listed.len(), 200);
}

/// A sync of the log is system calls that nothing interrupts for a reader: they belong where no core serves.
#[test]
fn what_serves_nobody_stays_off_the_cores_cpus() {
    let all = rustix::thread::sched_getaffinity(None).expect("own CPUs");
    let mut usable = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu));
    let serving = usable.next().expect("a CPU").to_string();
    let shared = usable.next().is_none();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let node = Node::start(scratch.path(), &[("SHARDS", "1"), ("SHARD_CPUS", &serving)]);
    let mut seen = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{}/task", node.id())).expect("a process") {
        let thread = thread.expect("a thread").path();
        let text = |file: &str| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let (name, status) = (text("comm").trim().to_owned(), text("status"));
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cpus = cpus.unwrap_or_default().trim().to_owned();
        // A list such as 1 or 1-3,5; the serving CPU is the lowest, so it would stand first.
        let beside = cpus.split([',', '-']).next() == Some(&serving);
        if ["log", "parse", "ingest", "firescroll-writ"].contains(&name.as_str()) {
            assert_eq!(beside, shared, "{name} may run on {cpus}, the core on {serving}");
            seen.push(name);
        }
    }
    seen.sort();
    assert_eq!(seen, ["firescroll-writ", "ingest", "log", "parse"]);
}

//! What a node with Kafka refuses and how it says so: settings, logins, certificates, partition counts,
//! topics that are not as they must be, and a log that no longer holds what a node needs.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::json;
use support::kafka::{Kafka, PASSWORD, USER};
use support::{Ended, Home, Node, Space, firescroll, held, pk_in, skipped, until};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// Runs Kafka's tool for topics.
fn topic_tool(kafka: &Kafka, arguments: &[&str]) -> String {
    let seeds = kafka.seeds();
    let all: Vec<&str> =
        ["--bootstrap-server", &seeds].into_iter().chain(arguments.iter().copied()).collect();
    kafka.tool(TOPICS, &all, "")
}

/// Starts a node that must refuse with this code, in one line that has all of the words.
fn refuses(settings: &[(&str, &str)], code: i32, words: &[&str]) -> Ended {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let ended = Node::refused(dir.path(), settings);
    check_refusal(&ended, code, words);
    ended
}

/// Says once, with all of the words, why it ended with this code.
fn check_refusal(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.errors);
    let errors: Vec<&str> = ended.errors.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "one line says it:\n{}", ended.errors);
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in: {}", errors[0]);
    }
}

#[test]
fn another_partition_count_than_that_of_topic_or_namespace() {
    if skipped("another_partition_count_than_that_of_topic_or_namespace") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "count", 8);
    let topic = space.mutations();
    for wrong in ["16", "4"] {
        let more = [("PARTITIONS", wrong)];
        let found = format!("has 8 partitions, this node is configured with {wrong} (PARTITIONS)");
        refuses(&space.settings("a", "a1", &more), 2, &[&topic, &found]);
    }
    // The first node records the count; a topic that somebody changes afterwards does not change it.
    Home::start(&space.settings("a", "a1", &[])).into_parts().0.term();
    topic_tool(&kafka, &["--alter", "--topic", &topic, "--partitions", "16"]);
    let sixteen = [("PARTITIONS", "16")];
    let words = ["8 partitions", "16", &space.count_topic(), "set PARTITIONS=8"];
    refuses(&space.settings("a", "a1", &sixteen), 2, &words);
    refuses(&space.settings("a", "a1", &[]), 2, &[&topic, "has 16 partitions", "8 (PARTITIONS)"]);
}

#[test]
fn topics_that_are_missing_and_brokers_that_are_not_there() {
    if skipped("topics_that_are_missing_and_brokers_that_are_not_there") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::named(&kafka, "absent", 8);
    refuses(
        &space.settings("a", "a1", &[]),
        2,
        &[&space.mutations(), "does not exist", "firescroll topics create"],
    );
    for seeds in ["127.0.0.1:1", "nowhere.invalid:9092"] {
        let begun = Instant::now();
        let more = [("KAFKA_SEEDS", seeds), ("KAFKA_CONNECT_TIMEOUT_MS", "1500")];
        let ended =
            refuses(&space.settings("a", "a1", &more), 1, &[seeds, "KAFKA_SEEDS", "cannot be reached"]);
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1400) && took < Duration::from_secs(8), "{took:?}");
        eprintln!("{seeds}: {took:?}\n{}", ended.errors);
    }
}

/// The broker with a login and with TLS, while tests use it.
static SECURE: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

fn secure() -> Arc<Kafka> {
    let mut place = SECURE.lock().unwrap_or_else(PoisonError::into_inner);
    place.upgrade().unwrap_or_else(|| {
        let kafka = Arc::new(Kafka::start(1, &["--sasl", "--tls"]));
        *place = Arc::downgrade(&kafka);
        kafka
    })
}

/// A password that nobody has.
const WRONG: &str = "close sesame 3141";
const PATIENCE: (&str, &str) = ("KAFKA_CONNECT_TIMEOUT_MS", "5000");

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn login<'a>(mechanism: &'a str, password: &'a str) -> [(&'a str, &'a str); 3] {
    [("KAFKA_USER", USER), ("KAFKA_PASS", password), ("KAFKA_SASL_MECHANISM", mechanism)]
}

#[test]
fn the_right_login_and_the_right_authority() {
    if skipped("the_right_login_and_the_right_authority") {
        return;
    }
    let kafka = secure();
    let space = Space::made(&kafka, "login", 4);
    let (sasl, tls, ca) = (kafka.seeds_sasl(), kafka.seeds_tls(), kafka.ca());
    let encrypted = [PATIENCE, ("DEBUG", "1"), ("KAFKA_TLS", "1"), ("KAFKA_TLS_CA_PATH", path(&ca))];
    let (sha256, sha512) = (login("SCRAM-SHA-256", PASSWORD), login("SCRAM-SHA-512", PASSWORD));
    for (group, seeds, login) in [("tls", &tls, &[][..]), ("256", &sasl, &sha256), ("512", &sasl, &sha512)] {
        let more = [&[("KAFKA_SEEDS", seeds.as_str())], &encrypted[..], login].concat();
        let home = Home::start(&space.settings(group, "n", &more));
        let token = home.client().put(group, "s", r#"{"n":1}"#);
        assert!(home.client().one(&token, group, "s").is_some());
        let (node, _dir) = home.into_parts();
        assert!(!node.errors().contains(PASSWORD), "{}", node.errors());
        node.term();
        // The tool for topics has the same settings; what it finds is the cluster of one broker.
        let mut check = firescroll(&["topics", "check"]);
        check.env("NAMESPACE", &space.name).env("PARTITIONS", "4").envs(more);
        let output = check.output().expect("the program can be started");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("1 replicas") && !said.contains(PASSWORD), "{said}");
    }
}

/// One way of not being let in: what it is, the brokers, other settings, and words of the refusal.
type Wrong<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Vec<&'a str>);

/// Each is refused in one line with its words, without any password.
fn all_refused(space: &Space, wrong: &[Wrong<'_>]) {
    for (what, seeds, settings, words) in wrong {
        for debug in ["0", "1"] {
            let begun = Instant::now();
            let more = [&[("KAFKA_SEEDS", *seeds), PATIENCE, ("DEBUG", debug)], &settings[..]].concat();
            let ended = refuses(&space.settings("bad", "n", &more), 1, words);
            eprintln!("{what}, DEBUG={debug}, {:?}:\n{}\n", begun.elapsed(), ended.errors);
            for password in [WRONG, PASSWORD] {
                assert!(!ended.errors.contains(password), "{}", ended.errors);
            }
        }
    }
}

#[test]
fn a_wrong_login_and_a_wrong_authority() {
    if skipped("a_wrong_login_and_a_wrong_authority") {
        return;
    }
    let kafka = secure();
    let space = Space::named(&kafka, "stranger", 4);
    let (sasl, tls, plain) = (kafka.seeds_sasl(), kafka.seeds_tls(), kafka.seeds());
    let (ca, other) = (kafka.ca(), kafka.other_ca());
    let encrypted = [("KAFKA_TLS", "1"), ("KAFKA_TLS_CA_PATH", path(&ca))];
    let with = |more: &[(&'static str, &'static str)]| [&encrypted[..], more].concat();
    let user = || vec![USER, "KAFKA_USER", "KAFKA_PASS"];
    all_refused(
        &space,
        &[
            ("a wrong password", &sasl, with(&login("SCRAM-SHA-256", WRONG)), user()),
            ("a wrong password, 512", &sasl, with(&login("SCRAM-SHA-512", WRONG)), user()),
            (
                "another authority",
                &tls,
                vec![("KAFKA_TLS", "1"), ("KAFKA_TLS_CA_PATH", path(&other))],
                vec!["TLS", "KAFKA_TLS_CA_PATH", path(&other)],
            ),
            ("the system's authorities", &tls, vec![("KAFKA_TLS", "1")], vec!["TLS", "KAFKA_TLS_CA_PATH"]),
            ("TLS to a listener without", &plain, with(&[]), vec!["TLS"]),
        ],
    );
}

#[test]
fn no_login_and_no_encryption_where_brokers_want_them() {
    if skipped("no_login_and_no_encryption_where_brokers_want_them") {
        return;
    }
    let kafka = secure();
    let space = Space::named(&kafka, "plain", 4);
    let (sasl, tls, ca) = (kafka.seeds_sasl(), kafka.seeds_tls(), kafka.ca());
    let encrypted = vec![("KAFKA_TLS", "1"), ("KAFKA_TLS_CA_PATH", path(&ca))];
    all_refused(
        &space,
        &[
            ("no login", &sasl, encrypted, vec!["KAFKA_USER"]),
            ("no TLS", &tls, Vec::new(), vec!["KAFKA_TLS"]),
        ],
    );
}

#[test]
fn nodes_that_race_for_the_first_record_agree_on_the_count_of_the_topic() {
    if skipped("nodes_that_race_for_the_first_record_agree_on_the_count_of_the_topic") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "race", 8);
    let counts = ["8", "16", "8", "4", "8"];
    let groups: Vec<String> = (0..counts.len()).map(|number| format!("g{number}")).collect();
    let dirs: Vec<tempfile::TempDir> =
        counts.iter().map(|_| tempfile::tempdir().expect("a scratch directory")).collect();
    let mut started: Vec<_> = counts
        .iter()
        .zip(&groups)
        .zip(&dirs)
        .map(|((count, group), dir)| {
            let more = [("PARTITIONS", *count), ("SHARDS", "1")];
            Node::spawn(dir.path(), &space.settings(group, "n", &more))
        })
        .collect();
    for (count, process) in counts.iter().zip(&mut started) {
        if *count == "8" {
            assert!(process.after("8 partitions assigned").is_some(), "{}", process.errors());
        } else {
            let ended = process.wait();
            check_refusal(&ended, 2, &["8 partitions", count, "PARTITIONS"]);
        }
    }
    let seeds = kafka.seeds();
    let topic = space.count_topic();
    let arguments =
        ["--bootstrap-server", &seeds, "--topic", &topic, "--from-beginning", "--max-messages", "1"];
    let first = kafka.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments, "");
    assert_eq!(first.trim(), r#"{"NumPartitions":8}"#);
}

#[test]
fn a_topic_that_is_given_more_partitions_stops_its_nodes() {
    if skipped("a_topic_that_is_given_more_partitions_stops_its_nodes") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "grown", 4);
    let (mut node, _dir) = Home::start(&space.settings("a", "a1", &[])).into_parts();
    node.client().put("p", "s", "{}");
    topic_tool(&kafka, &["--alter", "--topic", &space.mutations(), "--partitions", "6"]);
    let begun = Instant::now();
    let ended = node.ended();
    eprintln!("it ended {:?} after the change:\n{}", begun.elapsed(), ended.errors);
    assert!(matches!(ended.code, Some(1 | 2)), "{:?}: {}", ended.code, ended.errors);
    let last = ended.errors.lines().rfind(|line| line.contains("ERROR")).expect("it says why");
    for word in [space.mutations().as_str(), "has 6 partitions", "configured with 4 (PARTITIONS)"] {
        assert!(last.contains(word), "{word}: {last}");
    }
}

#[test]
fn topics_are_made_once_and_unsafe_settings_are_named() {
    if skipped("topics_are_made_once_and_unsafe_settings_are_named") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::named(&kafka, "tool", 8);
    let (code, said) = space.topics("check", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&space.mutations()) && said.contains("does not exist"), "{said}");
    let (code, said) = space.topics("create", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{}: made", space.mutations())), "{said}");
    assert!(said.contains(&format!("{}: made", space.count_topic())), "{said}");
    // With the only unsafe thing there is: a cluster of one broker.
    let (code, said) = space.topics("create", &[]);
    assert_eq!(code, Some(1), "{said}");
    for topic in [space.mutations(), space.count_topic()] {
        assert!(said.contains(&format!("{topic}: exists, left as it is")), "{said}");
        assert!(said.contains(&format!("{topic}: 1 replicas: ")), "{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");

    let space = Space::named(&kafka, "unsafe", 8);
    let settings = [
        "cleanup.policy=compact",
        "unclean.leader.election.enable=true",
        "message.timestamp.type=CreateTime",
        "retention.bytes=1000000",
        "retention.ms=3600000",
        "max.message.bytes=100000",
    ];
    let topic = space.mutations();
    let mut arguments = vec!["--create", "--topic", &topic, "--partitions", "8", "--replication-factor", "1"];
    settings.iter().for_each(|setting| arguments.extend(["--config", setting]));
    topic_tool(&kafka, &arguments);
    // Makes the other one, and finds what is wrong with this one.
    for action in ["create", "check"] {
        let (code, said) = space.topics(action, &[]);
        assert_eq!(code, Some(1), "{said}");
        for setting in settings {
            assert!(said.contains(&format!("{topic}: {setting}: ")), "{action}: {setting}:\n{said}");
        }
    }
    // A node says the same at its start, and serves.
    let node = Home::start(&space.settings("a", "a1", &[]));
    for setting in settings {
        assert!(node.errors().contains(setting), "{setting}: {}", node.errors());
    }
    let (code, said) = space.topics("check", &["--partitions", "16"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("has 8 partitions") && said.contains("16 (PARTITIONS)"), "{said}");
}

#[test]
fn a_node_without_partitions_is_not_ready_and_takes_over_when_it_gets_some() {
    if skipped("a_node_without_partitions_is_not_ready_and_takes_over_when_it_gets_some") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "spare", 1);
    let session = [("KAFKA_SESSION_MS", "3000")];
    let (first, _first_dir) = Home::start(&space.settings("a", "a1", &session)).into_parts();
    let token = first.client().put("p", "s", r#"{"n":1}"#);
    let dir = tempfile::tempdir().expect("a scratch directory");
    let spare = Node::begin(dir.path(), &space.settings("a", "a2", &session));
    let detail = spare.client().get("/ready").refusal(500);
    assert!(detail.contains("no partitions"), "{detail}");
    assert_eq!(spare.client().get("/up").status, 200);
    // It takes writes, which others apply; what it does not hold it does not answer.
    let later = spare.client().put("p", "t", r#"{"n":2}"#);
    assert_eq!(first.client().one(&later, "p", "t").map(|record| record.number("n")), Some(2));
    let body = json!({"records": [{"pk": "p", "sk": "s"}]}).to_string();
    assert!(spare.client().post("/records/get", &body).refusal(503).contains("partition 0"));
    assert!(spare.client().get("/ready").refusal(500).contains("no partitions"));

    let begun = Instant::now();
    first.kill();
    spare.wait_ready();
    eprintln!("took over after {:?}", begun.elapsed());
    assert_eq!(spare.client().one(&token, "p", "s").map(|record| record.number("n")), Some(1));
    assert_eq!(spare.client().one(&later, "p", "t").map(|record| record.number("n")), Some(2));
}

#[test]
fn a_partition_whose_next_mutation_is_gone_from_the_log_needs_a_restore() {
    if skipped("a_partition_whose_next_mutation_is_gone_from_the_log_needs_a_restore") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "gone", 4);
    let pks: Vec<String> = (0..4).map(|partition| pk_in(partition, 4, "gone")).collect();
    let (node, dir) = Home::start(&space.settings("a", "a1", &[])).into_parts();
    let other = Home::start(&space.settings("b", "b1", &[]));
    for n in 0..10 {
        for pk in &pks {
            let token = other.client().put(pk, "s", &support::data(n));
            assert!(node.client().one(&token, pk, "s").is_some());
        }
    }
    node.term();
    // It has applied 10 of each; now the log goes on, and forgets.
    for n in 10..20 {
        pks.iter().for_each(|pk| {
            other.client().put(pk, "s", &support::data(n));
        });
    }
    let before = |partition: u32, offset: u64| {
        let asked = json!({"version": 1, "partitions": [
            {"topic": space.mutations(), "partition": partition, "offset": offset}
        ]});
        let file = kafka.path().join(format!("delete-{}-{partition}.json", space.name));
        fs::write(&file, asked.to_string()).expect("the directory can be written");
        let seeds = kafka.seeds();
        let file = file.to_str().expect("a path of text");
        let arguments = ["--bootstrap-server", &seeds, "--offset-json-file", file];
        kafka.tool("org.apache.kafka.tools.DeleteRecordsCommand", &arguments, "")
    };
    // Beyond what it needs in partition 1, and up to what it needs in partition 2.
    before(1, 15);
    before(2, 10);

    let node = Node::begin(dir.path(), &space.settings("a", "a1", &[]));
    until("the other partitions to be held", || held(&node) == [0, 2, 3]);
    let get = |pk: &str| {
        let body = json!({"records": [{"pk": pk, "sk": "s"}]}).to_string();
        node.client().post("/records/get", &body)
    };
    until("the other partitions to catch up", || {
        [0, 2, 3].iter().all(|place| {
            let answer = get(&pks[*place]);
            answer.status == 200 && answer.records()[0].number("n") == 19
        })
    });
    assert!(get(&pks[1]).refusal(503).contains("partition 1"));
    let list = node.client().post("/records/list", &json!({"pk": &pks[1]}).to_string());
    assert!(list.refusal(503).contains("partition 1"));
    let single = node.client().get(&format!("/records/{}/s", pks[1]));
    assert!(single.refusal(503).contains("partition 1"));
    let partial = json!({"records": [{"pk": &pks[0], "sk": "s"}, {"pk": &pks[1], "sk": "s"}],
        "allow_partial": true});
    let partial = node.client().post("/records/get", &partial.to_string()).json();
    assert_eq!(partial["Unavailable"], json!([1]), "{partial}");
    assert_eq!(partial["Records"].as_array().map(Vec::len), Some(1), "{partial}");
    assert!(node.client().get("/ready").refusal(503).contains("partition 1"));

    let status = node.status();
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    let states: Vec<&str> = partitions.iter().filter_map(|partition| partition["state"].as_str()).collect();
    assert_eq!(states, ["serving", "needs_restore", "serving", "serving"], "{status}");
    assert_eq!(partitions[1]["log_start"], 15, "{status}");
    let errors = node.errors();
    let line = errors.lines().find(|line| line.contains("ERROR")).expect("it says so");
    eprintln!("{line}");
    for word in ["partition 1", "10", "15"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    // It still takes writes of that partition, for others.
    let token = node.client().put(&pks[1], "s", &support::data(20));
    assert_eq!(other.client().one(&token, &pks[1], "s").map(|record| record.number("n")), Some(20));
    assert!(get(&pks[1]).refusal(503).contains("partition 1"));
}

//! The log of a node, seen from outside: its format, messages that make no sense, and its end.
//!
//! The log is read and written by itself while no node has it open, as another node of the same log would.

mod support;

use std::path::Path;
use std::time::Duration;

use firescroll_io::log::{EmbeddedLog, EmbeddedOptions, Entry, Log, Message};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use support::{Home, Node, data, partition, pk_in};

const PARTITIONS: u32 = 8;

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&dir.join("log"), EmbeddedOptions::new(PARTITIONS)).expect("a whole log")
}

/// Everything in the log.
fn entries(dir: &Path) -> Vec<Entry> {
    let log = open(dir);
    let from: Vec<(u32, u64)> = (0..PARTITIONS).map(|partition| (partition, log.start(partition))).collect();
    let count: u64 = from.iter().map(|(partition, start)| log.end(*partition) - start).sum();
    let mut consumer = log.consumer(&from).expect("the log reads");
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let before = all.len();
        consumer.poll(Duration::from_secs(10), &mut all).expect("the log reads");
        assert!(all.len() > before, "{before} of {count} messages came");
    }
    log.close();
    all
}

/// Appends messages to the log of a node that is stopped.
fn append(dir: &Path, messages: &[(u32, &[u8])]) {
    let log = open(dir);
    let message = |(partition, value): &(u32, &[u8])| Message {
        partition: *partition,
        key: bytes::Bytes::new(),
        value: bytes::Bytes::copy_from_slice(value),
    };
    let ack = log.append(messages.iter().map(message).collect()).expect("the log takes them");
    block_on(ack).expect("the log answers").expect("the log has them");
    log.close();
}

#[test]
fn messages_have_the_form_that_other_nodes_read() {
    let (node, dir) = Home::start(&[]).into_parts();
    let client = node.client();
    client.put("format", "plain", "{ \"b\" : 1.10 , \"a\":\"x y\" }");
    client.put_if("format", "if", "{}", "data == `null`");
    client.delete("format", "gone");
    let batch = json!({"Operations": [
        {"op": "put", "pk": "format", "sk": "one", "data": {"n": 1}, "if": "data == `null`"},
        {"op": "delete", "pk": "format", "sk": "two"},
    ]});
    client.post("/records/batch", &batch.to_string()).token();
    node.term();
    let all = entries(dir.path());
    assert_eq!(all.len(), 4);
    let home = partition("format", PARTITIONS);
    let mut values = Vec::new();
    for (number, entry) in all.iter().enumerate() {
        assert_eq!((entry.partition, entry.offset), (home, number as u64));
        assert_eq!(entry.key, "format", "the key is the partition key");
        let mut value: Value = serde_json::from_slice(&entry.value).expect("a message is JSON");
        let sent = value["ts_ms"].as_i64().expect("a time");
        assert!((sent - entry.timestamp_ms).abs() < 60_000, "{sent} and {}", entry.timestamp_ms);
        value.as_object_mut().expect("an object").remove("ts_ms");
        if value.get("if").is_some_and(Value::is_null) {
            value.as_object_mut().expect("an object").remove("if");
        }
        values.push(value);
    }
    let put = json!({"pk": "format", "sk": "plain", "data": {"b": 1.10, "a": "x y"}, "mutation": "put"});
    assert_eq!(values[0], put);
    let condition = "data == `null`";
    assert_eq!(
        values[1],
        json!({"pk": "format", "sk": "if", "data": {}, "mutation": "put", "if": condition})
    );
    assert_eq!((&values[2]["mutation"], &values[2]["sk"]), (&json!("delete"), &json!("gone")));
    assert_eq!(values[3]["mutation"], "batch");
    let ops = values[3]["ops"].as_array().expect("operations");
    assert_eq!(ops.len(), 2);
    assert_eq!(
        (&ops[0]["pk"], &ops[0]["sk"], &ops[0]["data"]["n"]),
        (&json!("format"), &json!("one"), &json!(1))
    );
    assert_eq!(ops[0]["if"], condition);
    assert_eq!((&ops[1]["op"], &ops[1]["sk"]), (&json!("delete"), &json!("two")));
    // The bytes of the data are those that were sent, white space aside.
    let text = String::from_utf8_lossy(&all[0].value).into_owned();
    assert!(text.contains(r#""data":{"b":1.10,"a":"x y"}"#), "{text}");
}

#[test]
fn messages_of_another_writer_are_applied() {
    let (node, dir) = Home::start(&[]).into_parts();
    node.term();
    let home = partition("other", PARTITIONS);
    let messages: [&[u8]; 6] = [
        // As the original writes them: in any order of members, with white space, without a condition or with none.
        br#"{"pk":"other","sk":"a","data":{"n":1},"ts_ms":1700000000000,"mutation":"put","if":null}"#,
        br#"{"mutation":"put","if":"","ts_ms":1,"data":{"n":2},"sk":"b","pk":"other","more":[1]}"#,
        b"{ \"pk\" : \"other\", \"sk\" : \"c\", \"data\" : { \"n\" : 3 }, \"ts_ms\" : 1, \"mutation\" : \"put\" }",
        br#"{"pk":"other","sk":"a","data":null,"ts_ms":1,"mutation":"delete","if":"data.n == `1`"}"#,
        br#"{"mutation":"batch","ts_ms":1,"ops":[{"op":"put","pk":"other","sk":"d","data":{"n":4}},{"op":"delete","pk":"other","sk":"b"}]}"#,
        br#"{"pk":"other","sk":"c","data":{"n":9},"ts_ms":1,"mutation":"put","if":"data.n == `7`"}"#,
    ];
    append(dir.path(), &messages.map(|value| (home, value)));
    let node = Node::start(dir.path(), &[]);
    let listed = node.client().post("/records/list", r#"{"pk":"other"}"#).records();
    let found: Vec<(&str, u64)> =
        listed.iter().map(|record| (record.sk.as_str(), record.number("n"))).collect();
    assert_eq!(found, [("c", 3), ("d", 4)]);
    // Times are the log's, not the writer's.
    assert!(listed[0].created.as_str() > "2025", "{listed:?}");
}

#[test]
fn messages_without_sense_are_skipped_and_counted() {
    let (node, dir) = Home::start(&[]).into_parts();
    let pks: Vec<String> = (0..PARTITIONS).map(|number| pk_in(number, PARTITIONS, "poison")).collect();
    for pk in &pks {
        node.client().put(pk, "before", &data(1));
    }
    node.catch_up();
    node.term();
    let pk = &pks[3];
    let deep = format!(
        r#"{{"pk":"{pk}","sk":"s","data":{}1{},"ts_ms":1,"mutation":"put"}}"#,
        "[".repeat(9999),
        "]".repeat(9999)
    );
    let poison: Vec<String> = vec![
        String::new(),
        "nonsense".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "[".repeat(500_000),
        deep,
        format!(r#"{{"pk":"{pk}","sk":"s","data":{{}},"ts_ms":1,"mutation":"merge"}}"#),
        format!(r#"{{"pk":"{pk}","sk":"s","data":{{}},"ts_ms":1}}"#),
        format!(r#"{{"pk":"{pk}","sk":"s","data":[],"ts_ms":1,"mutation":"put"}}"#),
        format!(r#"{{"pk":"{pk}","sk":"s","ts_ms":1,"mutation":"put"}}"#),
        format!(r#"{{"pk":"{pk}","data":{{}},"ts_ms":1,"mutation":"put"}}"#),
        format!(r#"{{"pk":"{pk}","sk":"","data":{{}},"ts_ms":1,"mutation":"put"}}"#),
        format!(r#"{{"pk":"{pk}","sk":"a\u0000b","data":{{}},"ts_ms":1,"mutation":"put"}}"#),
        format!(r#"{{"pk":"{pk}","sk":7,"data":{{}},"ts_ms":1,"mutation":"put"}}"#),
        // Of another partition: readers would never look for it here.
        format!(r#"{{"pk":"{}","sk":"lost","data":{{}},"ts_ms":1,"mutation":"put"}}"#, pks[4]),
        r#"{"mutation":"batch","ts_ms":1}"#.to_owned(),
        r#"{"mutation":"batch","ts_ms":1,"ops":{}}"#.to_owned(),
        format!(
            r#"{{"mutation":"batch","ts_ms":1,"ops":[{{"op":"put","pk":"{pk}","sk":"half","data":{{}}}},{{"op":"x"}}]}}"#
        ),
        format!(
            r#"{{"mutation":"batch","ts_ms":1,"ops":[{{"op":"put","pk":"{pk}","sk":"half","data":{{}}}},{{"op":"delete","pk":"{}","sk":"before"}}]}}"#,
            pks[4]
        ),
    ];
    let good: Vec<String> = (0..=poison.len())
        .map(|n| {
            format!(r#"{{"pk":"{pk}","sk":"after-{n:02}","data":{{"n":{n}}},"ts_ms":1,"mutation":"put"}}"#)
        })
        .collect();
    let mut messages: Vec<(u32, &[u8])> = vec![(3, good[0].as_bytes())];
    for (poison, good) in poison.iter().zip(&good[1..]) {
        messages.push((3, poison.as_bytes()));
        messages.push((3, good.as_bytes()));
    }
    messages.push((3, b"\xff\xfe\x00"));
    // A condition that no node accepts is no poison, but it is never true.
    let strange =
        format!(r#"{{"pk":"{pk}","sk":"strange","data":{{}},"ts_ms":1,"mutation":"put","if":"nonsense"}}"#);
    messages.push((3, strange.as_bytes()));
    append(dir.path(), &messages);

    let node = Node::start(dir.path(), &[]);
    let listed: Vec<String> = node.client().listed("", &json!({"pk": pk}));
    let mut expected: Vec<String> = (0..=poison.len()).map(|n| format!("after-{n:02}")).collect();
    expected.push("before".to_owned());
    assert_eq!(listed, expected);
    assert_eq!(node.client().listed("", &json!({"pk": &pks[4]})), ["before"]);
    let count =
        |outcome: &str| node.metric(&format!("mutations_total{{partition=\"3\",outcome=\"{outcome}\"}}"));
    assert_eq!(count("undecodable"), (poison.len() + 1) as f64);
    assert_eq!(count("refused") + count("erred"), 1.0);
    // The first of them is at offset 2: a record, a good message, and then it.
    let errors = node.errors();
    let told = errors.lines().any(|line| line.contains("partition=3") && line.contains("offset=2"));
    assert!(told, "the place of the first bad message is not in\n{errors}");
    // The partition goes on, as do the others.
    for pk in &pks {
        let token = node.client().put(pk, "end", &data(2));
        assert!(node.client().one(&token, pk, "end").is_some());
    }
    let hashes = node.hashes();
    node.kill();
    assert_eq!(Node::start(dir.path(), &[]).hashes(), hashes, "skipped again in the same way");
}

#[test]
fn a_log_that_forgets_keeps_what_the_stores_lack() {
    let settings = [("TOPIC_RETENTION_MS", "1"), ("SHARDS", "2")];
    let (node, dir) = Home::start(&settings).into_parts();
    // More than two segments of 64 MiB.
    let pad = "x".repeat(250_000);
    let (mut count, mut versions) = (0u64, vec![0u64; 40]);
    while node.status()["log"]["segments"].as_u64() < Some(3) && count < 1200 {
        for _ in 0..50 {
            let place = (count % 40) as usize;
            versions[place] = count;
            node.client().put(&format!("forget-{place}"), "s", &format!(r#"{{"n":{count},"pad":"{pad}"}}"#));
            count += 1;
        }
        if node.status()["partitions"]
            .as_array()
            .expect("partitions")
            .iter()
            .any(|found| found["log_start"] != 0)
        {
            break;
        }
    }
    support::until("the log to forget", || {
        let status = node.status();
        let partitions = status["partitions"].as_array().expect("partitions").clone();
        partitions.iter().any(|found| found["log_start"].as_u64() > Some(0))
    });
    // Just before the end come some that only the log has.
    for place in 0..40u64 {
        versions[place as usize] = count + place;
        node.client().put(&format!("forget-{place}"), "s", &data(count + place));
    }
    node.kill();
    let node = Node::start(dir.path(), &settings);
    for (place, n) in versions.iter().enumerate() {
        let found = node.client().read_now(&[(&format!("forget-{place}"), "s")]);
        assert_eq!(found[0].number("n"), *n, "forget-{place}");
    }
    let hashes = node.hashes();
    node.term();
    assert_eq!(Node::start(dir.path(), &settings).hashes(), hashes);
}

#[test]
fn stores_that_are_ahead_of_their_log_are_not_served() {
    let (node, dir) = Home::start(&[]).into_parts();
    for n in 0..20 {
        node.client().put("ahead", &n.to_string(), &data(n));
    }
    node.catch_up();
    node.term();
    // An operator restores the stores of one day and the log of another: new offsets would be taken for old ones.
    std::fs::remove_dir_all(dir.path().join("log")).expect("the log's directory");
    let ended = Node::refused(dir.path(), &[]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    let home = partition("ahead", PARTITIONS).to_string();
    assert!(ended.errors.contains(&home) && ended.errors.contains("20"), "{}", ended.errors);
}

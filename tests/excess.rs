//! Too much of something: depth, length, size, and too little disk. Refused in few words, and nobody is hurt.

mod support;

use std::sync::{Arc, Mutex, Weak};

use serde_json::json;
use support::{Home, Node, Shared, Wire, data, log_ends, post, text};

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

#[test]
fn deep_json_is_refused_and_hurts_nobody() {
    let home = home();
    let client = home.client();
    let put = |data: &str| {
        client.post("/records/put", &format!(r#"{{"records":[{{"pk":"deep","sk":"s","data":{data}}}]}}"#))
    };
    let lists = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for depth in [200, 10_000, 1_000_000] {
        put(&lists(depth)).refusal(400);
        put(&objects(depth)).refusal(400);
        // Never closed.
        put(&"[".repeat(depth)).refusal(400);
        put(&r#"{"a":"#.repeat(depth)).refusal(400);
        client.post("/records/get", &"[".repeat(depth)).refusal(400);
        client.post("/records/list", &format!(r#"{{"pk":"deep","x":{}}}"#, lists(depth))).refusal(400);
    }
    // What people really nest is taken, and evaluated.
    for depth in [30, 100] {
        let token = put(&lists(depth)).token();
        assert_eq!(client.one(&token, "deep", "s").expect("it was put").raw(), lists(depth));
        let token = client.put_if("deep", "s", "{}", "data.a != `null`");
        assert_eq!(client.one(&token, "deep", "s").expect("it was put").raw(), "{}", "{depth}");
    }
}

#[test]
fn deep_and_dear_conditions_are_refused_and_hurt_nobody() {
    let home = home();
    let client = home.client();
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}data.a == `1`{}", open.repeat(depth), close.repeat(depth))
    };
    let mut conditions = vec![
        format!("{}data.a == `1`", "pk == 'x' && ".repeat(1000)),
        format!("data{} == `1`", ".a".repeat(2000)),
        format!("data{} == `1`", "[0]".repeat(2000)),
        format!("data.a == `{}1{}`", "[".repeat(50_000), "]".repeat(50_000)),
        format!("data.a{} == `1`", "|[@,@][]".repeat(100)),
        format!("data.a{} == `1`", "|[@,@][]".repeat(20)),
        format!("data.a == '{}'", "x".repeat(100_000)),
    ];
    for depth in [500, 30_000] {
        conditions.extend([
            nested("(", ")", depth),
            nested("!(", ")", depth),
            nested("!", "", depth),
            nested("contains(", ")", depth),
            nested("[", "]", depth),
            nested("{a:", "}", depth),
            nested("data[?", "]", depth),
            "(".repeat(depth),
            "[".repeat(depth),
        ]);
    }
    for condition in &conditions {
        let condition = text(condition);
        let put = format!(r#"{{"records":[{{"pk":"dear","sk":"s","data":{{}},"if":{condition}}}]}}"#);
        client.post("/records/put", &put).refusal(400);
        client.post("/records/list", &format!(r#"{{"pk":"dear","if":{condition}}}"#)).refusal(400);
    }
    // A condition as people write them is taken.
    let token = client.put_if("dear", "s", "{}", "((!(data.a == `1`)) && (pk == 'dear' || sk == 's'))");
    assert_eq!(client.listed(&token, &json!({"pk": "dear"})), ["s"]);
}

#[test]
fn keys_that_are_too_long_are_refused() {
    let home = home();
    for (pk, sk) in [("k".repeat(70_000), "s".to_owned()), ("p".to_owned(), "k".repeat(70_000))] {
        let body = json!({"records": [{"pk": &pk, "sk": &sk, "data": {}}]}).to_string();
        home.client().post("/records/put", &body).refusal(400);
        home.client().post("/records/get", &body).refusal(400);
        home.client().post("/records/delete", &body).refusal(400);
    }
}

#[test]
fn a_refusal_is_short_whatever_was_sent() {
    let home = home();
    let long = "\u{1}k\"".repeat(500_000);
    let record = |pk: &str, sk: &str| json!({"pk": pk, "sk": sk, "data": {}});
    for (path, body) in [
        ("/records/put", json!({"records": [record(&long, "s")]})),
        ("/records/put", json!({"records": [record("p", &long)]})),
        ("/records/put", json!({"records": [{"pk": &long}]})),
        ("/records/put", json!({"records": [{"pk": "p", "sk": "s", "data": {}, "if": &long}]})),
        ("/records/delete", json!({"records": [record(&long, "s")]})),
        ("/records/get", json!({"records": [record(&long, "s")]})),
        ("/records/list", json!({"pk": &long})),
        ("/records/list", json!({"pk": "p", "limit": &long})),
        ("/records/list", json!({"pk": "p", "if": &long})),
        ("/records/batch", json!({"Operations": [{"op": &long, "pk": "p", "sk": "s"}]})),
        ("/records/batch", json!({"Operations": [{"op": "delete", "pk": &long, "sk": "s"}]})),
    ] {
        let answer = home.client().post(path, &body.to_string());
        answer.refusal(400);
        assert!(answer.body.len() < 8192, "{path}: {} bytes of refusal", answer.body.len());
    }
}

#[test]
fn what_is_too_large_is_refused_with_413() {
    let home = Home::start(&[("MAX_BODY_BYTES", "8192"), ("MAX_MESSAGE_BYTES", "2048")]);
    let client = home.client();
    client.put("large", "sentinel", "{}");
    let before = log_ends(&home);
    let big = |size: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(size));

    // One mutation over what the log accepts, named among others.
    let body = format!(
        r#"{{"records":[{{"pk":"large","sk":"small","data":{{}}}},{{"pk":"large","sk":"the big one","data":{}}}]}}"#,
        big(2100)
    );
    let detail = client.post("/records/put", &body).refusal(413);
    for word in ["[1]", "large", "the big one", "2048"] {
        assert!(detail.contains(word), "{word:?} is not in {detail}");
    }
    let headers = [("Content-Type", "application/json")];
    client.send("PUT", "/records/large/alone", &headers, Some(big(2100).as_bytes())).refusal(413);

    // A batch is one mutation.
    let operation = |sk| format!(r#"{{"op":"put","pk":"large","sk":"{sk}","data":{}}}"#, big(900));
    let body = format!(r#"{{"Operations":[{},{},{}]}}"#, operation("a"), operation("b"), operation("c"));
    assert!(client.post("/records/batch", &body).refusal(413).contains("2048"));

    assert_eq!(log_ends(&home), before, "something of a refused request was logged");

    // However near to the limit, it is either taken or refused by name: the log counts the key as well.
    let pk = "k".repeat(200);
    let mut taken = 0u64;
    for size in (1500..2000).step_by(10) {
        let body = format!(r#"{{"records":[{{"pk":"{pk}","sk":"near the limit","data":{}}}]}}"#, big(size));
        let answer = client.post("/records/put", &body);
        if answer.status == 200 {
            taken += 1;
            continue;
        }
        let detail = answer.refusal(413);
        assert!(detail.contains("[0]") && detail.contains("near the limit"), "{size}: {detail}");
    }
    assert!((1..50).contains(&taken), "{taken}");
    let before = log_ends(&home);

    // Bodies over the limit: declared, in chunks, and only announced.
    let body = format!(r#"{{"records":[{{"pk":"large","sk":"s","data":{}}}]}}"#, big(9000));
    for path in ["/records/put", "/records/get", "/records/delete", "/records/list", "/records/batch"] {
        let reply = Wire::connect(home.api()).ask(&post(path, &body));
        assert!(reply.refusal(413).contains("8192"), "{path}");
    }
    let mut wire = Wire::connect(home.api());
    let head = "POST /records/put HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000));
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(9)).as_bytes());
    assert!(wire.reply().refusal(413).contains("8192"));
    let mut wire = Wire::connect(home.api());
    wire.send(format!("{head}content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n").as_bytes());
    wire.reply().refusal(413);

    assert_eq!(log_ends(&home), before, "something of a refused request was logged");
    // Up to the limits everything is taken.
    let token = client.put("large", "fits", &big(1800));
    let padded = format!("{:<8191}}}", r#"{"records":[{"pk":"large","sk":"fits"}]"#);
    assert_eq!(padded.len(), 8192);
    assert_eq!(client.post_after(&token, "/records/get", &padded).records().len(), 1);
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let (node, dir) = Home::start(&[]).into_parts();
    let token = node.client().put("disk", "s", &data(1));
    node.client().one(&token, "disk", "s").expect("it was put");
    node.term();
    // More than any disk has: the greatest reserve that may be configured is a tebibyte.
    let free = rustix::fs::statvfs(dir.path()).expect("the disk of a scratch directory");
    assert!(free.f_bavail * free.f_frsize < 1 << 40, "this disk has more than a tebibyte free");
    let node = Node::start(dir.path(), &[("DISK_RESERVE_MB", "1048576")]);
    support::until("writes to be refused", || node.status()["writes"]["accepted"] == false);
    let ends = log_ends(&node);
    let put = r#"{"records":[{"pk":"disk","sk":"s","data":{"n":2}}]}"#;
    let batch = r#"{"Operations":[{"op":"delete","pk":"disk","sk":"s"}]}"#;
    let delete = r#"{"records":[{"pk":"disk","sk":"s"}]}"#;
    for (path, body) in [("/records/put", put), ("/records/batch", batch), ("/records/delete", delete)] {
        let detail = node.client().post(path, body).refusal(503);
        assert!(detail.contains("disk"), "{path}: {detail}");
    }
    node.client().send("DELETE", "/records/disk/s", &[], None).refusal(503);
    assert_eq!(node.client().read_now(&[("disk", "s")])[0].number("n"), 1);
    assert_eq!(node.client().get("/ready").status, 200);
    assert!(node.metric("writes_refused") > 0.0);
    assert_eq!(log_ends(&node), ends);
}

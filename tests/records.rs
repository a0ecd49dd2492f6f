//! Records over HTTP: what is put is what is got, in the order and with the times that are promised.
//!
//! **Not here**: listings (`listings`), tokens (`sessions`), refused requests (`refusals`), conditions (`conditions`).

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::{Home, Record, Shared, Wire, data, millis, partition, pk_in, text};

const PARTITIONS: u32 = 8;

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

/// JSON without the white space outside strings.
fn stripped(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let keep = inside || !c.is_ascii_whitespace();
            match c {
                '"' if !escaped => inside = !inside,
                _ => {}
            }
            escaped = inside && c == '\\' && !escaped;
            keep
        })
        .collect()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292 million")
}

fn keys(records: &[Record]) -> Vec<(&str, &str)> {
    records.iter().map(|record| (record.pk.as_str(), record.sk.as_str())).collect()
}

#[test]
fn data_comes_back_as_the_bytes_that_were_sent() {
    let home = home();
    let sent = [
        r"{}",
        r#"{"z":1,"a":2,"m":{"y":[3,2,1],"b":null}}"#,
        r#"{"big":12345678901234567890,"bigger":123456789012345678901234567890,"negative":-9223372036854775809}"#,
        r#"{"money":1.10,"zero":-0,"exponent":1E+2,"small":1e-7,"long":0.1000000000000000055511151231257827}"#,
        r#"{"escapes":"\u00e9\/\ud83d\ude00\n\t\"\\","plain":"é😀 / "}"#,
        r#"{"twice":1,"twice":2}"#,
        r#"{"":{"":[]},"spaces inside":"  a  b  ","quoted":"\\\" { \" : , }"}"#,
        "{ \"white\" : [ 1 ,\t2 ,\r\n3 ] , \"space\" : { } }",
        r#"{"Pk":"not the key","Data":{"Data":{}},"Records":[]}"#,
    ];
    for (number, sent) in sent.iter().enumerate() {
        let sk = number.to_string();
        let token = home.client().put("exact", &sk, sent);
        let record = home.client().one(&token, "exact", &sk).expect("it was put");
        assert_eq!(stripped(record.raw()), stripped(sent));
        let alone = home.client().get(&format!("/records/exact/{sk}"));
        assert_eq!(stripped(&alone.text()), stripped(sent));
    }
    let listed = home.client().post("/records/list", r#"{"pk":"exact"}"#).records();
    let listed: Vec<String> = listed.iter().map(|record| stripped(record.raw())).collect();
    assert_eq!(listed, sent.map(stripped));
}

#[test]
fn data_of_many_sizes_comes_back_whole() {
    let home = home();
    // Around the sizes at which buffers change hands, up to nearly what the log takes.
    for size in [0, 1, 1000, 4096, 16_384, 32_700, 32_768, 65_536, 65_600, 262_144, 1_000_000] {
        let sent = format!(r#"{{"text":"{}","end":true}}"#, "x".repeat(size));
        let token = home.client().put("sizes", "one", &sent);
        let record = home.client().one(&token, "sizes", "one").expect("it was put");
        assert!(record.raw() == sent, "{size} bytes came back as {}", record.raw().len());
    }
}

#[test]
fn an_answer_spells_its_members_as_promised() {
    let home = home();
    let token = home.client().put("spelling", "s", r#"{"a":1}"#);
    let answer =
        home.client().post_after(&token, "/records/get", r#"{"records":[{"pk":"spelling","sk":"s"}]}"#);
    let records = answer.records();
    let (created, updated) = (&records[0].created, &records[0].updated);
    assert_eq!(
        answer.json(),
        json!({"Records": [
            {"Pk": "spelling", "Sk": "s", "Data": {"a": 1}, "CreatedAt": created, "UpdatedAt": updated}
        ]})
    );
}

#[test]
fn request_members_are_taken_in_both_spellings() {
    let home = home();
    let client = home.client();
    for (records, pk, sk, data, condition) in
        [("Records", "Pk", "Sk", "Data", "If"), ("records", "pk", "sk", "data", "if")]
    {
        let put = format!(
            r#"{{"{records}":[{{"{pk}":"both","{sk}":"{records}","{data}":{{"n":1}},"{condition}":"pk == 'both'"}}]}}"#
        );
        let token = client.post("/records/put", &put).token();
        let keys = format!(r#"{{"{records}":[{{"{pk}":"both","{sk}":"{records}"}}]}}"#);
        assert_eq!(client.post_after(&token, "/records/get", &keys).records().len(), 1, "{keys}");
        let list = format!(r#"{{"{pk}":"both","{condition}":"sk == '{records}'"}}"#);
        assert_eq!(client.post("/records/list", &list).records().len(), 1, "{list}");
        let token = client.post("/records/delete", &keys).token();
        assert_eq!(client.post_after(&token, "/records/get", &keys).records().len(), 0, "{keys}");
    }
}

#[test]
fn names_and_paths_may_be_written_in_other_ways() {
    let home = home();
    let client = home.client();
    // Escapes in names are part of JSON.
    let put = r#"{"\u0072ecords":[{"\u0070k":"ways","\u0073k":"a","d\u0061ta":{"\u006e":1}}]}"#;
    let token = client.post("/records/put", put).token();
    assert_eq!(client.one(&token, "ways", "a").expect("it was put").raw(), r#"{"\u006e":1}"#);
    let token = client.put_if("ways", "a", r#"{"n":2}"#, "data.n == `1`");
    assert_eq!(client.one(&token, "ways", "a").expect("it was put").number("n"), 2);
    // In a path a plus is a plus, and a query is not part of the key.
    let headers = [("Content-Type", "application/json")];
    let token = client.send("PUT", "/records/ways/b+c?d=e", &headers, Some(b"{}")).token();
    assert!(client.one(&token, "ways", "b+c").is_some());
    assert_eq!(client.get("/records/w%61ys/b%2bc?x").status, 200);
    // The whole address instead of the path, as proxies send it; a body where none is needed.
    let mut wire = Wire::connect(home.api());
    let request = "GET http://node/records/ways/b+c HTTP/1.1\r\nhost: node\r\ncontent-length: 5\r\n\r\n12345";
    assert_eq!(wire.ask(request).status, 200);
    assert_eq!(wire.ask(&support::get("/records/ways/b+c")).status, 200);
}

#[test]
fn a_get_answers_in_the_order_asked_and_leaves_absent_ones_out() {
    let home = home();
    let client = home.client();
    let pks: Vec<String> = (0..PARTITIONS).map(|number| pk_in(number, PARTITIONS, "order")).collect();
    let mut records = Vec::new();
    for (number, pk) in pks.iter().enumerate() {
        for sk in ["a", "b", "c"] {
            records.push(format!(r#"{{"pk":{},"sk":"{sk}","data":{{"n":{number}}}}}"#, text(pk)));
        }
    }
    let token = client.post("/records/put", &format!(r#"{{"records":[{}]}}"#, records.join(","))).token();
    let mut asked = Vec::new();
    for sk in ["c", "absent", "a", "b"] {
        asked.extend(pks.iter().rev().map(|pk| (pk.as_str(), sk)));
    }
    // Asked for twice is answered twice.
    asked.push((&pks[3], "a"));
    let found = client.read(&token, &asked);
    let expected: Vec<(&str, &str)> = asked.into_iter().filter(|(_, sk)| *sk != "absent").collect();
    assert_eq!(keys(&found), expected);
    for record in &found {
        assert_eq!(record.number("n"), u64::from(partition(&record.pk, PARTITIONS)), "{record:?}");
    }
    assert_eq!(keys(&client.read(&token, &[("order", "absent"), ("nobody", "s")])), []);
}

#[test]
fn a_get_of_many_keys_finds_them_all_in_order() {
    let home = home();
    let client = home.client();
    let names: Vec<(String, String)> =
        (0..1000).map(|n| (format!("many-{}", n % 37), n.to_string())).collect();
    let records: Vec<String> = names
        .iter()
        .map(|(pk, sk)| format!(r#"{{"pk":"{pk}","sk":"{sk}","data":{{"pad":"{}"}}}}"#, "p".repeat(60)))
        .collect();
    let token = client.post("/records/put", &format!(r#"{{"records":[{}]}}"#, records.join(","))).token();
    let asked: Vec<(&str, &str)> = names.iter().rev().map(|(pk, sk)| (pk.as_str(), sk.as_str())).collect();
    assert_eq!(keys(&client.read(&token, &asked)), asked);
}

#[test]
fn allow_partial_changes_nothing_while_everything_is_reachable() {
    let home = home();
    let token = home.client().put("partial", "s", "{}");
    for allow in ["true", "false"] {
        let body = format!(r#"{{"records":[{{"pk":"partial","sk":"s"}}],"allow_partial":{allow}}}"#);
        let answer = home.client().post_after(&token, "/records/get", &body);
        assert_eq!(answer.records().len(), 1);
        assert!(answer.json().get("Unavailable").is_none(), "{}", answer.text());
    }
}

#[test]
fn keys_may_be_any_text() {
    let home = home();
    let client = home.client();
    let long = "l".repeat(2000);
    let names = [
        "a b",
        "a/b",
        "a\"b\\c",
        "é",
        "😀",
        "\t\n\u{1}",
        "%2F",
        "..",
        "{\"pk\":1}",
        long.as_str(),
        "\u{7f}\u{80}",
    ];
    for name in names {
        let token = client.put(name, name, r#"{"here":true}"#);
        let record = client.one(&token, name, name).unwrap_or_else(|| panic!("{name:?} was put"));
        assert_eq!((record.pk.as_str(), record.sk.as_str()), (name, name));
        assert_eq!(client.listed(&token, &json!({"pk": name})), [name]);
    }
    // The same key, written with escapes.
    let token = client.put("escaped", "b", "{}");
    let body = r#"{"records":[{"pk":"\u0065scaped","sk":"\u0062"}]}"#;
    assert_eq!(client.post_after(&token, "/records/get", body).records().len(), 1);
}

#[test]
fn keys_are_told_apart_where_pk_and_sk_meet() {
    let home = home();
    let client = home.client();
    let mut token = String::new();
    for (pk, sk) in [("meet", "ab"), ("meeta", "b"), ("meetab", "c")] {
        token = client.put(pk, sk, &format!(r#"{{"pk":"{pk}"}}"#));
    }
    for (pk, sk) in [("meet", "ab"), ("meeta", "b")] {
        let found = client.read_now(&[(pk, sk)]);
        assert!(found.iter().all(|record| record.data()["pk"] == pk), "{found:?}");
    }
    assert_eq!(client.listed(&token, &json!({"pk": "meetab"})), ["c"]);
    assert!(client.read(&token, &[("meeta", "bc"), ("meet", "abc")]).is_empty());
}

#[test]
fn duplicate_keys_in_one_put_apply_in_order() {
    let home = home();
    let rows = (0..50).map(|n| ("s", data(n))).chain([("t", data(1)), ("s", data(99)), ("t", data(2))]);
    let token = home.client().put_all("duplicates", rows);
    let found = home.client().read(&token, &[("duplicates", "s"), ("duplicates", "t")]);
    assert_eq!(found.iter().map(|record| record.number("n")).collect::<Vec<_>>(), [99, 2]);
}

#[test]
fn times_are_the_logs_and_creation_is_kept() {
    let home = home();
    let client = home.client();
    let before = now();
    let token = client.put("times", "s", &data(1));
    let after = now();
    let first = client.one(&token, "times", "s").expect("it was put");
    assert_eq!(first.created, first.updated);
    assert!((before..=after).contains(&millis(&first.created)), "{before} {} {after}", first.created);

    // Put again until the log's clock has moved on.
    let mut second = first.clone();
    support::until("the log's clock to move", || {
        let token = client.put("times", "s", &data(2));
        second = client.one(&token, "times", "s").expect("it was put");
        second.updated != first.updated
    });
    assert_eq!(second.created, first.created);
    assert!(millis(&second.updated) > millis(&first.updated));

    client.delete("times", "s");
    let token = client.put("times", "s", &data(3));
    let third = client.one(&token, "times", "s").expect("it was put");
    assert_eq!(third.created, third.updated, "a deleted record begins anew");
    assert!(millis(&third.created) >= millis(&second.updated));
}

#[test]
fn a_deleted_record_is_absent_everywhere() {
    let home = home();
    let client = home.client();
    client.put_all("gone", ["a", "b", "c"].map(|sk| (sk, data(1))));
    let token = client.delete("gone", "b");
    assert_eq!(keys(&client.read(&token, &[("gone", "a"), ("gone", "b"), ("gone", "c")])).len(), 2);
    assert_eq!(client.listed(&token, &json!({"pk": "gone"})), ["a", "c"]);
    assert_eq!(client.get("/records/gone/b").status, 404);
    // Deleting what is not there is no error.
    let token = client.delete("gone", "b");
    assert_eq!(client.listed(&token, &json!({"pk": "gone"})), ["a", "c"]);
    let body = r#"{"records":[{"pk":"gone","sk":"a"},{"pk":"gone","sk":"c"},{"pk":"gone2","sk":"x"}]}"#;
    let token = client.post("/records/delete", body).token();
    assert!(client.listed(&token, &json!({"pk": "gone"})).is_empty());
}

#[test]
fn a_batch_applies_all_its_operations_in_order() {
    let home = home();
    let client = home.client();
    client.put_all("batch", ["old", "kept"].map(|sk| (sk, data(1))));
    let body = r#"{"Operations":[
        {"op":"put","pk":"batch","sk":"new","data":{"n":1}},
        {"op":"delete","pk":"batch","sk":"old"},
        {"op":"put","pk":"batch","sk":"new","data":{"n":2}},
        {"op":"put","pk":"batch","sk":"brief","data":{"n":3}},
        {"op":"delete","pk":"batch","sk":"brief"},
        {"op":"delete","pk":"batch","sk":"never"}
    ]}"#;
    let token = client.post("/records/batch", body).token();
    assert_eq!(token.split(',').count(), 1, "{token}");
    assert_eq!(client.listed(&token, &json!({"pk": "batch"})), ["kept", "new"]);
    assert_eq!(client.one(&token, "batch", "new").expect("it was put").number("n"), 2);
    // Different partition keys of one partition go together.
    let other = pk_in(partition("batch", PARTITIONS), PARTITIONS, "batch-mate");
    let body = json!({"Operations": [
        {"op": "put", "pk": "batch", "sk": "x", "data": {}}, {"op": "put", "pk": &other, "sk": "x", "data": {}}
    ]});
    let token = client.post("/records/batch", &body.to_string()).token();
    assert_eq!(client.read(&token, &[("batch", "x"), (&other, "x")]).len(), 2);
}

#[test]
fn a_reader_never_sees_half_a_batch() {
    let home = home();
    let client = home.client();
    let batch = |n: u64| {
        let put = |sk| json!({"op": "put", "pk": "halves", "sk": sk, "data": {"n": n}});
        json!({"Operations": [put("a"), put("b"), put("c")]}).to_string()
    };
    let token = client.post("/records/batch", &batch(0)).token();
    client.one(&token, "halves", "c").expect("it was put");
    let done = AtomicBool::new(false);
    let whole = |records: &[Record]| {
        assert_eq!(records.len(), 3);
        let seen: BTreeSet<u64> = records.iter().map(|record| record.number("n")).collect();
        assert_eq!(seen.len(), 1, "half a batch: {records:?}");
    };
    thread::scope(|scope| {
        let get = || {
            let client = client.anew();
            while !done.load(Ordering::Relaxed) {
                whole(&client.read_now(&[("halves", "c"), ("halves", "a"), ("halves", "b")]));
            }
        };
        let list = || {
            let client = client.anew();
            while !done.load(Ordering::Relaxed) {
                whole(&client.post("/records/list", r#"{"pk":"halves"}"#).records());
            }
        };
        let readers = [scope.spawn(get), scope.spawn(get), scope.spawn(list)];
        for n in 1..=300 {
            client.post("/records/batch", &batch(n)).token();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no reader saw half a batch");
        }
    });
}

#[test]
fn one_record_has_a_resource_of_its_own() {
    let home = home();
    let client = home.client();
    let put = |body: &str| {
        let headers = [("Content-Type", "application/json")];
        client.send("PUT", "/records/single/a%2Fb%20c", &headers, Some(body.as_bytes())).token()
    };
    let read = |method: &str, token: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("FireScroll-Session", token), ("FireScroll-Wait-Ms", "30000")];
        headers.extend_from_slice(more);
        client.send(method, "/records/single/a%2Fb%20c", &headers, None)
    };
    let token = put(r#"{"z":1.10,"a":12345678901234567890}"#);
    let answer = read("GET", &token, &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"z":1.10,"a":12345678901234567890}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let record = client.one(&token, "single", "a/b c").expect("the path holds the keys percent-encoded");
    assert_eq!(record.raw(), answer.text());
    let modified = answer.header("last-modified").expect("a date");
    let modified = httpdate::parse_http_date(modified).expect("an HTTP date");
    let modified = modified.duration_since(UNIX_EPOCH).expect("past 1970").as_secs();
    assert_eq!(i64::try_from(modified).expect("a near date"), millis(&record.updated) / 1000);

    let tag = answer.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
    for candidates in [tag.as_str(), &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        let answer = read("GET", &token, &[("If-None-Match", candidates)]);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{candidates}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(read("GET", &token, &[("If-None-Match", "\"other\"")]).status, 200);

    let head = read("HEAD", &token, &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-length", "etag", "last-modified"] {
        assert_eq!(head.header(name), answer.header(name), "{name}");
    }
    assert_eq!(read("HEAD", &token, &[("If-None-Match", &tag)]).status, 304);

    let token = put(r#"{"z":2}"#);
    let changed = read("GET", &token, &[("If-None-Match", &tag)]);
    assert_eq!((changed.status, changed.text().as_str()), (200, r#"{"z":2}"#));
    assert_ne!(changed.header("etag"), Some(tag.as_str()));

    let token = client.send("DELETE", "/records/single/a%2Fb%20c", &[], None).token();
    let detail = read("GET", &token, &[]).refusal(404);
    assert!(detail.contains("single") && detail.contains("a/b c"), "{detail}");
    assert_eq!(read("HEAD", &token, &[]).status, 404);
}

#[test]
fn a_head_answer_has_no_body_on_the_wire() {
    let home = home();
    let token = home.client().put("headless", "s", r#"{"long":"enough to be noticed"}"#);
    home.client().one(&token, "headless", "s").expect("it was put");
    let mut wire = Wire::connect(home.api());
    wire.send(b"HEAD /records/headless/s HTTP/1.1\r\nhost: node\r\n\r\n");
    assert_eq!(wire.head().status, 200);
    // The next answer follows at once.
    wire.send(b"HEAD /records/headless/absent HTTP/1.1\r\nhost: node\r\n\r\n");
    assert_eq!(wire.head().status, 404);
    let reply = wire.ask(&support::get("/records/headless/s"));
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"long":"enough to be noticed"}"#));
}

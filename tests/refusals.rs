//! Requests that are refused: with which status, in which words, and without a trace.
//!
//! Each wrong request is sent to a node, its answer compared with what is promised, and the log's next offset shows
//! that nothing of it was written. Overload and deadlines are in `limits`.

mod support;

use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use support::{Answer, Home, Node, Shared, Wire, data, pk_in, post, post_with, text};

const PARTITIONS: u32 = 8;

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

/// What the log holds of each partition.
fn log_ends(node: &Node) -> Vec<Value> {
    let status = node.status();
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    partitions.iter().map(|partition| partition["log_end"].clone()).collect()
}

/// Sends bodies that are wrong; the detail of each refusal holds all the words beside it. Nothing may be logged.
fn refused(path: &str, cases: &[(&str, &[&str])]) {
    let home = Home::start(&[]);
    home.client().put("sentinel", "s", &data(1));
    let before = log_ends(&home);
    for (body, words) in cases {
        let detail = home.client().post(path, body).refusal(400);
        for word in *words {
            assert!(detail.contains(word), "{word:?} is not in the refusal of {path} {body}: {detail}");
        }
    }
    assert_eq!(log_ends(&home), before, "something of a refused request was logged");
    // The node is as well as before.
    let token = home.client().put("sentinel", "s", &data(2));
    assert_eq!(home.client().one(&token, "sentinel", "s").expect("it was put").number("n"), 2);
}

/// Bodies that no route takes.
const NOT_JSON: [(&str, &[&str]); 14] = [
    ("", &["JSON"]),
    ("{", &["JSON"]),
    ("nope", &["JSON"]),
    ("{\"records\":[}", &["JSON"]),
    ("{\"records\":[]}}", &["JSON"]),
    ("{\"records\":[],}", &["JSON"]),
    ("{'records':[]}", &["JSON"]),
    ("\u{feff}{\"records\":[]}", &["JSON"]),
    ("{\"records\":[{\"pk\":\"a\",\"sk\":\"b\",\"data\":{\"n\":NaN}}]}", &["JSON"]),
    ("{\"records\":[{\"pk\":\"a\",\"sk\":\"b\",\"data\":{\"n\":01}}]}", &["JSON"]),
    ("{\"records\":[{\"pk\":\"a\",\"sk\":\"b\",\"data\":{\"n\":\"\\ud800\"}}]}", &["JSON"]),
    ("{\"records\":[{\"pk\":\"a\",\"sk\":\"b\",\"data\":{\"n\":\"\u{1}\"}}]}", &["JSON"]),
    ("[]", &["object"]),
    ("\"records\"", &["object"]),
];

#[test]
fn bodies_that_are_no_json_object() {
    for path in ["/records/put", "/records/list"] {
        refused(path, &NOT_JSON);
    }
    let home = home();
    for path in ["/records/delete", "/records/get", "/records/batch"] {
        for (body, _) in NOT_JSON {
            home.client().post(path, body).refusal(400);
        }
    }
    // Bytes that are no text at all.
    let headers = [("Content-Type", "application/json")];
    let body = b"{\"records\":[{\"pk\":\"\xff\xfe\",\"sk\":\"s\",\"data\":{}}]}";
    home.client().send("POST", "/records/put", &headers, Some(body)).refusal(400);
}

#[test]
fn puts_with_a_wrong_record() {
    refused(
        "/records/put",
        &[
            ("{}", &["Records"]),
            (r#"{"record":[]}"#, &["Records"]),
            (r#"{"records":null}"#, &["Records", "list"]),
            (r#"{"records":{}}"#, &["Records", "list"]),
            (r#"{"records":[]}"#, &["Records", "empty"]),
            (r#"{"records":[1]}"#, &["[0]", "object"]),
            (r#"{"records":[{"sk":"s","data":{}}]}"#, &["[0]", "pk", "missing"]),
            (r#"{"records":[{"pk":"some pk","data":{}}]}"#, &["[0]", "some pk", "sk", "missing"]),
            (r#"{"records":[{"pk":"p","sk":"some sk"}]}"#, &["[0]", "some sk", "data", "missing", "object"]),
            (r#"{"records":[{"pk":1,"sk":"s","data":{}}]}"#, &["[0]", "pk", "string"]),
            (r#"{"records":[{"pk":"p","sk":null,"data":{}}]}"#, &["[0]", "sk", "string"]),
            (r#"{"records":[{"pk":"p","sk":"s","data":[]}]}"#, &["data", "object"]),
            (r#"{"records":[{"pk":"p","sk":"s","data":"{}"}]}"#, &["data", "object"]),
            (r#"{"records":[{"pk":"p","sk":"s","data":null}]}"#, &["data", "object"]),
            (r#"{"records":[{"pk":"p","sk":"s","data":7}]}"#, &["data", "object"]),
            (r#"{"records":[{"pk":"","sk":"s","data":{}}]}"#, &["[0]", "pk", "empty"]),
            (r#"{"records":[{"pk":"p","sk":"","data":{}}]}"#, &["[0]", "sk", "empty"]),
            (r#"{"records":[{"pk":"p\u0000q","sk":"s","data":{}}]}"#, &["[0]", "pk", "NUL"]),
            (r#"{"records":[{"pk":"p","sk":"s\u0000","data":{}}]}"#, &["[0]", "sk", "NUL"]),
            (r#"{"records":[{"pk":"p","sk":"s","data":{},"if":7}]}"#, &["[0]", "if", "string"]),
            (
                r#"{"records":[{"pk":"a","sk":"a","data":{}},{"pk":"b","sk":"b","data":{}},{"pk":"third","sk":"x","data":1}]}"#,
                &["[2]", "third", "x", "data"],
            ),
        ],
    );
}

#[test]
fn deletes_and_gets_with_a_wrong_key() {
    let cases: [(&str, &[&str]); 9] = [
        ("{}", &["Records"]),
        (r#"{"records":[]}"#, &["Records", "empty"]),
        (r#"{"records":"all"}"#, &["Records", "list"]),
        (r#"{"records":[{"pk":"p","sk":"s"},{"pk":"q"}]}"#, &["[1]", "q", "sk"]),
        (r#"{"records":[{"pk":"p","sk":"s"},{"sk":"q"}]}"#, &["[1]", "pk"]),
        (r#"{"records":[{"pk":"p","sk":["s"]}]}"#, &["[0]", "sk", "string"]),
        (r#"{"records":[{"pk":"","sk":"s"}]}"#, &["[0]", "pk", "empty"]),
        (r#"{"records":[{"pk":"p","sk":""}]}"#, &["[0]", "sk", "empty"]),
        (r#"{"records":[{"pk":"p","sk":"\u0000"}]}"#, &["[0]", "sk", "NUL"]),
    ];
    refused("/records/delete", &cases);
    refused("/records/get", &cases);
    refused(
        "/records/get",
        &[(r#"{"records":[{"pk":"p","sk":"s"}],"allow_partial":1}"#, &["allow_partial"])],
    );
}

#[test]
fn listings_with_a_wrong_option() {
    refused(
        "/records/list",
        &[
            ("{}", &["pk"]),
            (r#"{"pk":""}"#, &["pk", "empty"]),
            (r#"{"pk":"p\u0000"}"#, &["pk", "NUL"]),
            (r#"{"pk":["p"]}"#, &["pk", "string"]),
            (r#"{"pk":"p","limit":-1}"#, &["limit", "-1"]),
            (r#"{"pk":"p","limit":1.5}"#, &["limit", "1.5"]),
            (r#"{"pk":"p","limit":"3"}"#, &["limit"]),
            (r#"{"pk":"p","limit":99999999999999999999}"#, &["limit"]),
            (r#"{"pk":"p","sk_prefix":1}"#, &["sk_prefix", "string"]),
            (r#"{"pk":"p","sk_after":{}}"#, &["sk_after", "string"]),
            (r#"{"pk":"p","sk_before":true}"#, &["sk_before", "string"]),
            (r#"{"pk":"p","reverse":"yes"}"#, &["reverse"]),
            (r#"{"pk":"p","if":"data.a == `1`","if_stop":1}"#, &["if_stop"]),
            (r#"{"pk":"p","if":1}"#, &["if", "string"]),
            (r#"{"pk":"p","if":"data.a"}"#, &["if"]),
            (r#"{"pk":"p","if":"nonsense == `1`"}"#, &["if", "nonsense"]),
        ],
    );
}

/// Conditions that are refused before anything is logged, and words of the refusal.
const CONDITIONS: [(&str, &[&str]); 30] = [
    // They do not compile.
    ("data.a ==", &[]),
    ("data.a = `1`", &[]),
    ("(data.a == `1`", &[]),
    ("data.a == `{`", &[]),
    ("data.a == 'open", &[]),
    ("&& data.a == `1`", &[]),
    (" ", &[]),
    // They are not boolean by construction.
    ("data", &["boolean"]),
    ("data.a", &["boolean"]),
    ("`1`", &["boolean"]),
    ("'text'", &["boolean"]),
    ("length(data.a)", &["boolean"]),
    ("data.a && data.b == `1`", &["boolean"]),
    ("data.a == `1` || data.b", &["boolean"]),
    ("data.a == `1` | data.b", &["boolean"]),
    ("[data.a == `1`]", &[]),
    ("{a: data.a == `1`}", &[]),
    ("data.list[?a == `1`]", &["boolean"]),
    // They name what does not exist.
    ("a == `1`", &["a", "data", "_created_at"]),
    ("created_at == `1`", &["created_at"]),
    ("Data.a == `1`", &["Data"]),
    ("contains(list, 'x')", &["list"]),
    ("data.a == null", &["null"]),
    ("data.a == true", &["true"]),
    ("!(missing.a == `1`)", &["missing"]),
    ("like(data.a, 'x')", &["like"]),
    ("contains(data.a)", &["contains"]),
    // The classic slip.
    (r#"data.hey == "ho""#, &["\"ho\"", "'ho'"]),
    (r#""ho" == data.hey"#, &["'ho'"]),
    (r#"contains(data.hey, "ho")"#, &["'ho'"]),
];

#[test]
fn conditions_that_cannot_be() {
    let home = Home::start(&[]);
    let client = home.client();
    client.put("conditions", "s", r#"{"a":1}"#);
    let before = log_ends(&home);
    for (condition, words) in CONDITIONS {
        let condition_text = text(condition);
        let good = r#"{"pk":"conditions","sk":"good","data":{}}"#;
        let put = format!(
            r#"{{"records":[{good},{{"pk":"conditions","sk":"bad one","data":{{}},"if":{condition_text}}}]}}"#
        );
        let delete = format!(r#"{{"records":[{{"pk":"conditions","sk":"bad one","if":{condition_text}}}]}}"#);
        let batch = format!(
            r#"{{"Operations":[{{"op":"delete","pk":"conditions","sk":"bad one","if":{condition_text}}}]}}"#
        );
        let list = format!(r#"{{"pk":"conditions","if":{condition_text}}}"#);
        for (path, body, place) in [
            ("/records/put", put, "[1]"),
            ("/records/delete", delete, "bad one"),
            ("/records/batch", batch, "[0]"),
            ("/records/list", list, "if"),
        ] {
            let detail = client.post(path, &body).refusal(400);
            for word in words.iter().chain(&[place]) {
                assert!(
                    detail.contains(word),
                    "{word:?} is not in the refusal of {path} {condition}: {detail}"
                );
            }
        }
    }
    assert_eq!(log_ends(&home), before, "something of a refused request was logged");
}

#[test]
fn batches_that_are_wrong() {
    let (one, two) = (pk_in(1, PARTITIONS, "span"), pk_in(2, PARTITIONS, "span"));
    let spans = json!({"Operations": [
        {"op": "put", "pk": &one, "sk": "s", "data": {}},
        {"op": "delete", "pk": &one, "sk": "t"},
        {"op": "put", "pk": &two, "sk": "s", "data": {}},
    ]});
    refused(
        "/records/batch",
        &[
            ("{}", &["Operations"]),
            (r#"{"Operations":[]}"#, &["Operations", "empty"]),
            (r#"{"Operations":{}}"#, &["Operations", "list"]),
            (r#"{"Operations":[{"pk":"p","sk":"s","data":{}}]}"#, &["[0]", "op", "put", "delete"]),
            (r#"{"Operations":[{"op":"patch","pk":"p","sk":"s"}]}"#, &["[0]", "patch", "put", "delete"]),
            (r#"{"Operations":[{"op":1,"pk":"p","sk":"s"}]}"#, &["[0]", "op"]),
            (r#"{"Operations":[{"op":"put","pk":"p","sk":"s"}]}"#, &["[0]", "data"]),
            (r#"{"Operations":[{"op":"put","pk":"p","sk":"s","data":[]}]}"#, &["[0]", "data", "object"]),
            (
                r#"{"Operations":[{"op":"delete","pk":"p","sk":"s"},{"op":"delete","sk":"s"}]}"#,
                &["[1]", "pk"],
            ),
            (r#"{"Operations":[{"op":"delete","pk":"p","sk":"a\u0000b"}]}"#, &["[0]", "NUL"]),
            (&spans.to_string(), &[&one, &two, "one partition", "1", "2"]),
        ],
    );
}

#[test]
fn single_records_that_are_wrong() {
    let home = home();
    let put = |path: &str, body: &str| {
        home.client().send("PUT", path, &[("Content-Type", "application/json")], Some(body.as_bytes()))
    };
    for (path, body) in [
        ("/records/wrong/s", "[]"),
        ("/records/wrong/s", "7"),
        ("/records/wrong/s", ""),
        ("/records/wrong/s", "{"),
        ("/records/wrong/s", "null"),
        ("/records/wrong/s", "{} {}"),
        ("/records/wrong/", "{}"),
        ("/records//s", "{}"),
        ("/records/wrong/a%00b", "{}"),
        ("/records/wrong%00/s", "{}"),
        ("/records/wrong/%ff", "{}"),
    ] {
        put(path, body).refusal(400);
    }
    for method in ["GET", "DELETE"] {
        home.client().send(method, "/records/wrong/%ff", &[], None).refusal(400);
        home.client().send(method, "/records/wrong/", &[], None).refusal(400);
    }
    let token = home.client().put("wrong", "sentinel", "{}");
    assert_eq!(home.client().listed(&token, &json!({"pk": "wrong"})), ["sentinel"]);
}

#[test]
fn tokens_that_do_not_read() {
    let home = home();
    let body = r#"{"records":[{"pk":"p","sk":"s"}]}"#;
    let get = |session: &str, wait: &str| {
        let headers = [
            ("Content-Type", "application/json"),
            ("FireScroll-Session", session),
            ("FireScroll-Wait-Ms", wait),
        ];
        home.client().send("POST", "/records/get", &headers, Some(body.as_bytes()))
    };
    for session in ["x", "1", "1:", ":1", "-1:1", "1:-1", "8:0", "1:1;2:2", "1:99999999999999999999999"] {
        let detail = get(session, "10").refusal(400);
        assert!(detail.contains("FireScroll-Session"), "{session}: {detail}");
    }
    assert!(get("1:0", "soon").refusal(400).contains("FireScroll-Wait-Ms"));
    get("1:0", "-1").refusal(400);
}

#[test]
fn unknown_routes_and_absent_records() {
    let home = home();
    for path in ["/", "/records", "/records/", "/records/a", "/records/a/b/c", "/metrics", "/status", "/upp"]
    {
        for method in ["GET", "POST"] {
            let answer = home.client().send(method, path, &[], None);
            assert!(answer.refusal(404).contains(path), "{method} {path}");
        }
    }
    let detail = home.client().get("/records/absent-pk/absent-sk").refusal(404);
    assert!(detail.contains("absent-pk") && detail.contains("absent-sk"), "{detail}");
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let home = home();
    let allowed = |answer: &Answer| -> Vec<String> {
        answer.refusal(405);
        let allow = answer.header("allow").expect("a 405 says what is allowed");
        allow.split(',').map(|method| method.trim().to_owned()).collect()
    };
    for path in ["put", "delete", "get", "list", "batch"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD"] {
            let path = format!("/records/{path}");
            if method == "HEAD" {
                assert_eq!(home.client().send(method, &path, &[], None).status, 405);
                continue;
            }
            let allow = allowed(&home.client().send(method, &path, &[], None));
            assert!(allow.contains(&"POST".to_owned()) && !allow.contains(&"GET".to_owned()), "{allow:?}");
        }
    }
    for method in ["POST", "PATCH", "BREW"] {
        let allow = allowed(&home.client().send(method, "/records/a/b", &[], None));
        for right in ["GET", "HEAD", "PUT", "DELETE"] {
            assert!(allow.contains(&right.to_owned()), "{right} is not in {allow:?}");
        }
    }
    for path in ["/up", "/ready"] {
        let allow = allowed(&home.client().send("POST", path, &[], None));
        assert!(allow.contains(&"GET".to_owned()), "{allow:?}");
    }
}

#[test]
fn bodies_declared_as_something_else() {
    let home = home();
    let body = r#"{"records":[{"pk":"declared","sk":"s","data":{}}]}"#;
    let put =
        |headers: &[(&str, &str)]| home.client().send("POST", "/records/put", headers, Some(body.as_bytes()));
    for declared in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", "*/*"]
    {
        let detail = put(&[("Content-Type", declared)]).refusal(415);
        assert!(detail.contains(declared) && detail.contains("application/json"), "{detail}");
        let single =
            home.client().send("PUT", "/records/declared/t", &[("Content-Type", declared)], Some(b"{}"));
        single.refusal(415);
    }
    let token = home.client().put("declared", "sentinel", "{}");
    assert_eq!(home.client().listed(&token, &json!({"pk": "declared"})), ["sentinel"]);
    for declared in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"] {
        put(&[("Content-Type", declared)]).token();
    }
    put(&[]).token();
}

#[test]
fn nothing_of_a_refused_request_is_applied() {
    let home = home();
    let client = home.client();
    let good: Vec<Value> =
        (0..20).map(|n| json!({"pk": "traceless", "sk": n.to_string(), "data": {}})).collect();
    let mut records = good.clone();
    records.push(json!({"pk": "traceless", "sk": "bad"}));
    client.post("/records/put", &json!({"records": records}).to_string()).refusal(400);
    let mut records = good;
    records.insert(0, json!({"pk": "traceless", "sk": "bad", "data": {}, "if": "data"}));
    client.post("/records/put", &json!({"records": records}).to_string()).refusal(400);
    let token = client.put("traceless", "sentinel", "{}");
    assert_eq!(client.listed(&token, &json!({"pk": "traceless"})), ["sentinel"]);
    client
        .post("/records/delete", r#"{"records":[{"pk":"traceless","sk":"sentinel"},{"pk":"x"}]}"#)
        .refusal(400);
    let token = client.put("traceless", "later", "{}");
    assert_eq!(client.listed(&token, &json!({"pk": "traceless"})), ["later", "sentinel"]);
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
fn a_refused_request_leaves_its_connection_usable() {
    let home = home();
    let mut wire = Wire::connect(home.api());
    for _ in 0..20 {
        wire.ask(&post("/records/put", "nope")).refusal(400);
        wire.ask(&support::get("/records/usable/absent")).refusal(404);
        wire.ask(&support::get("/records/list")).refusal(405);
        let body = r#"{"records":[{"pk":"usable","sk":"s","data":{}}]}"#;
        let plain =
            post_with("/records/put", "x-more: 1\r\n", body).replace("application/json", "text/plain");
        wire.ask(&plain).refusal(415);
        assert_eq!(wire.ask(&post("/records/put", body)).status, 200);
    }
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

//! Requests that are refused: with which status, in which words, and without a trace.
//!
//! Each wrong request is sent to a node, its answer compared with what is promised, and the log's next offset shows
//! that nothing of it was written. Too much of something is in `excess`, overload and deadlines in `limits`.

mod support;

use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use support::{Answer, Home, Shared, Wire, data, log_ends, pk_in, post, post_with, text};

const PARTITIONS: u32 = 8;

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
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

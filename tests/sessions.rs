//! Session tokens: a client reads its own writes, from any connection, and nobody else waits for it.

mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use serde_json::{Value, json};
use support::{Client, Home, Node, Shared, Wire, data, pk_in, until};

const PARTITIONS: u32 = 8;

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

#[test]
fn a_token_shows_each_partition_once_with_its_greatest_offset() {
    let home = home();
    let client = home.client();
    let (two, five) = (pk_in(2, PARTITIONS, "token"), pk_in(5, PARTITIONS, "token"));
    let token = |body: &Value| client.post("/records/put", &body.to_string()).token();
    let positions = |token: &str| -> Vec<(u32, u64)> {
        let position = |part: &str| {
            let (partition, offset) = part.split_once(':').expect("partition:offset");
            (partition.parse().expect("a partition"), offset.parse().expect("an offset"))
        };
        token.split(',').map(position).collect()
    };
    let row = |pk: &str, sk: &str| json!({"pk": pk, "sk": sk, "data": {}});
    let first = positions(&token(&json!({"records": [row(&two, "a")]})));
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].0, 2);
    let many = positions(&token(&json!({"records": [row(&two, "b"), row(&five, "a"), row(&two, "c")]})));
    let mut partitions: Vec<u32> = many.iter().map(|(partition, _)| *partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [2, 5]);
    let later = many.iter().find(|(partition, _)| *partition == 2).expect("it is there").1;
    // Other tests may write to the partition too, so that only the least distance is known.
    assert!(later >= first[0].1 + 2, "{first:?} then {many:?}");
}

#[test]
fn a_read_with_a_token_sees_the_write_from_any_connection() {
    let home = home();
    thread::scope(|scope| {
        for thread in 0..4 {
            let home = &home;
            scope.spawn(move || {
                for n in 0..60 {
                    let pk = format!("own-{thread}-{}", n % 5);
                    let token = home.client().put(&pk, "s", &data(n));
                    let anywhere = home.client().anew();
                    let record = anywhere.one(&token, &pk, "s").expect("it was put");
                    assert_eq!(record.number("n"), n);
                }
            });
        }
    });
}

/// The first request that a node answers finds all of it there: the other cores, and what its partitions hold.
#[test]
fn a_token_holds_as_soon_as_a_node_answers() {
    for _ in 0..8 {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let port = free.port().to_string();
        // Killed when dropped.
        let _node = Node::spawn(scratch.path(), &[("API_PORT", &port), ("SHARDS", "3"), ("PARTITIONS", "8")]);
        let client = Client::new(free);
        let records: Vec<Value> =
            (0..8).map(|p| json!({"pk": pk_in(p, PARTITIONS, "early"), "sk": "s", "data": {}})).collect();
        let body = json!({"records": records}).to_string();
        let mut put = None;
        until("the node to answer", || {
            put = client.try_post("/records/put", &body).ok();
            put.is_some()
        });
        let token = put.expect("it answered").token();
        assert_eq!(client.post_after(&token, "/records/get", &body).records().len(), 8);
    }
}

#[test]
fn a_token_also_holds_for_lists_and_single_records() {
    let home = home();
    for n in 0..40 {
        let token = home.client().put("holds", "s", &data(n));
        let anywhere = home.client().anew();
        let listed = anywhere.post_after(&token, "/records/list", r#"{"pk":"holds"}"#).records();
        assert_eq!(listed[0].number("n"), n);
        let token = home.client().put("holds", "s", &data(n + 1000));
        let headers = [("FireScroll-Session", token.as_str()), ("FireScroll-Wait-Ms", "30000")];
        let alone = home.client().anew().send("GET", "/records/holds/s", &headers, None);
        assert_eq!(alone.json()["n"], n + 1000);
    }
}

#[test]
fn a_position_that_does_not_come_is_a_503_that_names_its_partition() {
    let home = home();
    let pk = pk_in(6, PARTITIONS, "future");
    let headers = [
        ("Content-Type", "application/json"),
        ("FireScroll-Session", "6:999999999"),
        ("FireScroll-Wait-Ms", "30"),
    ];
    let get = json!({"records": [{"pk": &pk, "sk": "s"}]}).to_string();
    let list = json!({"pk": &pk}).to_string();
    for (method, path, body) in [
        ("POST", "/records/get", Some(get.as_bytes())),
        ("POST", "/records/list", Some(list.as_bytes())),
        ("GET", &format!("/records/{pk}/s"), None),
    ] {
        let detail = home.client().send(method, path, &headers, body).refusal(503);
        assert!(detail.contains('6'), "{path}: {detail}");
    }
    // Without the header nothing waits.
    assert!(home.client().post("/records/get", &get).records().is_empty());
}

#[test]
fn a_read_waits_for_its_position_and_then_answers() {
    // A node of its own, so that the next offset is known.
    let home = Home::start(&[("PARTITIONS", "1")]);
    for offset in 0..5u64 {
        let mut wire = Wire::connect(home.api());
        let headers = format!("firescroll-session: 0:{offset}\r\nfirescroll-wait-ms: 30000\r\n");
        let body = r#"{"records":[{"pk":"waited","sk":"s"}]}"#;
        wire.send(support::post_with("/records/get", &headers, body).as_bytes());
        support::until("the read to wait", || {
            let waiting = |shard| home.metric(&format!("requests_in_flight{{shard=\"{shard}\"}}"));
            waiting(0) + waiting(1) == 1.0
        });
        assert_eq!(home.client().put("waited", "s", &data(offset)), format!("0:{offset}"));
        let reply = wire.reply();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains(&format!("\"n\":{offset}")), "{}", reply.text());
    }
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

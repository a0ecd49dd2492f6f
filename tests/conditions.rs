//! The `if` of writes: judged when the mutation is applied, against the record as it is then.
//!
//! **Not here**: conditions that are refused (`refusals`), conditions of listings (`records`).

mod support;

use std::sync::{Arc, Mutex, Weak};
use std::thread;

use serde_json::{Value, json};
use support::{Client, Home, Shared, data};

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

/// Puts the record, then puts again on a condition; whether that was applied.
fn holds(client: &Client, pk: &str, before: Option<&str>, condition: &str) -> bool {
    let token = match before {
        Some(data) => client.put(pk, "s", data),
        None => client.delete(pk, "s"),
    };
    let existing = client.one(&token, pk, "s");
    assert_eq!(existing.is_some(), before.is_some());
    let token = client.put_if(pk, "s", r#"{"applied":true}"#, condition);
    let after = client.one(&token, pk, "s");
    after.is_some_and(|record| record.data()["applied"] == true)
}

#[test]
fn a_condition_is_judged_against_the_record() {
    let home = home();
    let client = home.client();
    let record = r#"{"n":7,"f":1.5,"text":"ho","yes":true,"no":false,"null":null,"list":["a","b"],"map":{"x":{"y":1}},"odd key":1}"#;
    for (condition, expected) in [
        ("data.n == `7`", true),
        ("data.n == `8`", false),
        ("data.n != `8`", true),
        ("data.n > `6` && data.n >= `7` && data.n < `8` && data.n <= `7`", true),
        ("data.n > `7`", false),
        ("data.f == `1.5`", true),
        ("data.f > `1`", true),
        ("data.text == 'ho'", true),
        ("data.text == 'hey'", false),
        ("data.text == `\"ho\"`", true),
        ("data.yes == `true`", true),
        ("data.no == `true`", false),
        ("data.\"odd key\" == `1`", true),
        ("data.map.x.y == `1`", true),
        ("data.map == `{\"x\":{\"y\":1}}`", true),
        ("data.list == `[\"a\",\"b\"]`", true),
        ("data.list[0] == 'a'", true),
        ("data.list[-1] == 'b'", true),
        ("data.list[5] == `null`", true),
        ("data.missing == `null`", true),
        ("data.null == `null`", true),
        ("data.missing.deeper == `null`", true),
        ("data.missing == `1`", false),
        ("contains(data.list, 'b')", true),
        ("contains(data.list, 'c')", false),
        ("contains(data.text, 'h')", true),
        ("starts_with(data.text, 'h') && ends_with(data.text, 'o')", true),
        ("starts_with(data.text, 'o')", false),
        ("!(data.n == `7`)", false),
        ("!contains(data.list, 'c')", true),
        ("data.n == `8` || data.text == 'ho'", true),
        ("data.n == `8` || data.text == 'hey'", false),
        ("data.n == `8` && data.text == 'ho' || data.yes == `true`", true),
        ("(data.n == `8` || data.n == `7`) && !(data.no == `true`)", true),
        ("pk == 'judged' && sk == 's'", true),
        ("pk == 's'", false),
        ("`true`", true),
        ("`false`", false),
        // Text and number are different, and have no order.
        ("data.n == '7'", false),
        ("data.text > `1`", false),
        ("data.n > 'a'", false),
        ("data.missing > `1`", false),
        ("!(data.missing > `1`)", true),
        ("_created_at > `0` && _updated_at >= _created_at", true),
    ] {
        assert_eq!(holds(client, "judged", Some(record), condition), expected, "{condition}");
    }
}

#[test]
fn of_an_absent_record_data_and_times_are_null() {
    let home = home();
    for (condition, expected) in [
        ("data == `null`", true),
        ("data != `null`", false),
        ("data.a == `null`", true),
        ("data.a == `1`", false),
        ("!(data.a == `1`)", true),
        ("_created_at == `null` && _updated_at == `null`", true),
        ("_created_at > `0`", false),
        ("pk == 'absent' && sk == 's'", true),
    ] {
        assert_eq!(holds(home.client(), "absent", None, condition), expected, "{condition}");
    }
    // The two uses that matter: create only, and update only.
    let client = home.client();
    assert!(!holds(client, "absent", Some("{}"), "data == `null`"));
    assert!(holds(client, "absent", Some("{}"), "data != `null`"));
}

#[test]
fn times_are_unix_milliseconds() {
    let home = home();
    let client = home.client();
    let token = client.put("clock", "s", "{}");
    let record = client.one(&token, "clock", "s").expect("it was put");
    // The milliseconds are found by halving the time since 1970.
    let earlier = |name: &str, ms: i64| {
        let request = json!({"pk": "clock", "if": format!("{name} < `{ms}`")});
        !client.listed(&token, &request).is_empty()
    };
    for (name, shown) in [("_created_at", &record.created), ("_updated_at", &record.updated)] {
        let (mut low, mut high) = (0i64, 1i64 << 43);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if earlier(name, middle) { high = middle } else { low = middle }
        }
        assert!(earlier(name, low + 1) && !earlier(name, low));
        let token = client.put_if("clock", "s", r#"{"exact":false}"#, &format!("{name} == `{}`", low + 1));
        assert!(client.one(&token, "clock", "s").expect("it is there").raw() == "{}");
        // Seconds and milliseconds of the day are what the answer shows.
        assert_eq!(low % 1000, shown[20..23].parse::<i64>().expect("digits"), "{shown}");
        assert_eq!(low / 1000 % 60, shown[17..19].parse::<i64>().expect("digits"), "{shown}");
        assert_eq!(low / 60_000 % 60, shown[14..16].parse::<i64>().expect("digits"), "{shown}");
        assert_eq!(low / 3_600_000 % 24, shown[11..13].parse::<i64>().expect("digits"), "{shown}");
    }
}

#[test]
fn a_false_condition_changes_nothing_and_is_acknowledged() {
    let home = home();
    let client = home.client();
    let token = client.put("unchanged", "s", &data(1));
    let before = client.one(&token, "unchanged", "s").expect("it was put");
    let token = client.put_if("unchanged", "s", &data(2), "data.n == `5`");
    let after = client.one(&token, "unchanged", "s").expect("it is there");
    assert_eq!(
        (after.raw(), &after.created, &after.updated),
        (before.raw(), &before.created, &before.updated)
    );
    let body = r#"{"records":[{"pk":"unchanged","sk":"s","if":"data.n == `5`"}]}"#;
    let token = client.post("/records/delete", body).token();
    assert!(client.one(&token, "unchanged", "s").is_some());
    let body = r#"{"records":[{"pk":"unchanged","sk":"s","if":"data.n == `1`"}]}"#;
    let token = client.post("/records/delete", body).token();
    assert!(client.one(&token, "unchanged", "s").is_none());
}

#[test]
fn a_later_record_of_one_put_sees_the_earlier_ones() {
    let home = home();
    let record =
        |n: u64, condition: &str| json!({"pk": "chain", "sk": "s", "data": {"n": n}, "if": condition});
    let body = json!({"records": [
        record(1, "data == `null`"),
        record(2, "data.n == `1`"),
        record(9, "data.n == `1`"),
        record(3, "data.n == `2`"),
        record(8, "data == `null`"),
    ]});
    let token = home.client().post("/records/put", &body.to_string()).token();
    assert_eq!(home.client().one(&token, "chain", "s").expect("it was put").number("n"), 3);
}

#[test]
fn one_false_condition_revokes_the_whole_batch() {
    let home = home();
    let client = home.client();
    client.put_all("batch", ["a", "b", "c"].map(|sk| (sk, data(1))));
    let batch = |conditions: [Option<&str>; 3]| {
        let mut operations = vec![
            json!({"op": "put", "pk": "batch", "sk": "a", "data": {"n": 2}}),
            json!({"op": "delete", "pk": "batch", "sk": "b"}),
            json!({"op": "put", "pk": "batch", "sk": "new", "data": {"n": 2}}),
        ];
        for (operation, condition) in operations.iter_mut().zip(conditions) {
            if let Some(condition) = condition {
                operation["if"] = condition.into();
            }
        }
        client.post("/records/batch", &json!({"Operations": operations}).to_string()).token()
    };
    let no = Some("data.n == `5`");
    let yes = Some("data.n == `1`");
    for conditions in [[no, None, None], [None, no, None], [None, None, no], [yes, no, None], [yes, yes, no]]
    {
        let token = batch(conditions);
        assert_eq!(client.listed(&token, &json!({"pk": "batch"})), ["a", "b", "c"], "{conditions:?}");
        assert_eq!(client.one(&token, "batch", "a").expect("it is there").number("n"), 1, "{conditions:?}");
    }
    // A condition that errs counts as false.
    let token = batch([yes, Some("starts_with(data.n, 'x')"), None]);
    assert_eq!(client.listed(&token, &json!({"pk": "batch"})), ["a", "b", "c"]);
    let token = batch([yes, yes, Some("data == `null`")]);
    assert_eq!(client.listed(&token, &json!({"pk": "batch"})), ["a", "c", "new"]);
    assert_eq!(client.one(&token, "batch", "a").expect("it is there").number("n"), 2);
}

#[test]
fn refused_and_erring_conditions_are_counted() {
    // A node of its own, so that nobody else counts.
    let home = Home::start(&[("PARTITIONS", "1")]);
    let client = home.client();
    let count =
        |outcome: &str| home.metric(&format!("mutations_total{{partition=\"0\",outcome=\"{outcome}\"}}"));
    client.put("counted", "s", r#"{"n":1,"text":"x"}"#);
    client.put_if("counted", "s", "{}", "data.n == `2`");
    client.put_if("counted", "s", "{}", "starts_with(data.n, 'x')");
    let token = client.put_if("counted", "s", r#"{"n":2}"#, "data.text == 'x'");
    assert_eq!(client.one(&token, "counted", "s").expect("it was put").number("n"), 2);
    assert_eq!(
        (count("applied"), count("refused"), count("erred"), count("undecodable")),
        (2.0, 1.0, 1.0, 0.0)
    );
}

#[test]
fn conditional_increments_by_many_writers_lose_nothing() {
    let home = home();
    home.client().put("counter", "value", &data(0));
    let increment = |client: &Client, id: String| {
        let token = client.put("counter", "seen", "{}");
        let seen = client.one(&token, "counter", "value").expect("it was put").number("n");
        let next = seen + 1;
        let batch = json!({"Operations": [
            {"op": "put", "pk": "counter", "sk": "value", "data": {"n": next}, "if": format!("data.n == `{seen}`")},
            {"op": "put", "pk": "counter", "sk": format!("win/{next:05}"), "data": {"by": id}, "if": "data == `null`"},
        ]});
        client.post("/records/batch", &batch.to_string()).token()
    };
    let tokens: Vec<String> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let client = home.client().anew();
                scope.spawn(move || {
                    (0..40).fold(String::new(), |_, turn| increment(&client, format!("{writer}-{turn}")))
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    let token = tokens.join(",");
    let value = home.client().one(&token, "counter", "value").expect("it is there").number("n");
    let wins = home.client().listed(&token, &json!({"pk": "counter", "sk_prefix": "win/"}));
    let expected: Vec<String> = (1..=value).map(|n| format!("win/{n:05}")).collect();
    assert_eq!(wins, expected, "each increment has exactly one winner");
    assert!(value >= 40, "one of the writers at each turn: {value}");
}

#[test]
fn numbers_compare_as_numbers() {
    let home = home();
    for (stored, condition, expected) in [
        ("1.0", "data.n == `1`", true),
        ("1e2", "data.n == `100`", true),
        ("10", "data.n > `9`", true),
        ("-1", "data.n < `0`", true),
        ("0.1", "data.n == `0.1`", true),
        ("12345678901234567890", "data.n > `1`", true),
    ] {
        let record = format!(r#"{{"n":{stored}}}"#);
        assert_eq!(
            holds(home.client(), "numbers", Some(&record), condition),
            expected,
            "{stored} {condition}"
        );
    }
}

#[test]
fn every_replay_decides_alike() {
    let (node, dir) = Home::start(&[]).into_parts();
    let mut token = String::new();
    for n in 0..60u64 {
        let condition = format!("data == `null` || data.n < `{}`", n % 7);
        token = node.client().put_if(&format!("alike-{}", n % 5), "s", &data(n % 11), &condition);
    }
    node.client().one(&token, "alike-0", "s").expect("it was put");
    let hashes = node.hashes();
    node.term();
    // Without its stores the node applies the whole log again.
    for shard in ["shard-000", "shard-001"] {
        std::fs::remove_dir_all(dir.path().join(shard)).expect("each shard has a store");
    }
    let node = support::Node::start(dir.path(), &[]);
    assert_eq!(node.hashes(), hashes);
    let hashed: Vec<&Value> = hashes.iter().filter(|hash| hash["records"] != 0).collect();
    assert!(!hashed.is_empty(), "{hashes:?}");
}

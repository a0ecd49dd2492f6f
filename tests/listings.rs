//! Listings: order, bounds, limits and conditions, against a model of what is promised.
//!
//! **Not here**: long listings and their memory (`limits`).

mod support;

use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use support::{Home, Shared, data, millis, partition, pk_in};

const PARTITIONS: u32 = 8;

static HOME: Shared = Mutex::new(Weak::new());

fn home() -> Arc<Home> {
    Home::shared(&HOME, &[])
}

/// A condition as a request states it, and the same as a function of the number in the data.
type Filter = (&'static str, fn(u64) -> bool);

/// What a listing is asked for, and what of it the promise makes.
#[derive(Debug, Clone, Default)]
struct Listing {
    prefix: Option<&'static str>,
    after: Option<&'static str>,
    before: Option<&'static str>,
    reverse: bool,
    limit: usize,
    condition: Option<Filter>,
    if_stop: bool,
}

impl Listing {
    fn body(&self, pk: &str) -> Value {
        let mut body = json!({"pk": pk});
        for (name, value) in
            [("sk_prefix", self.prefix), ("sk_after", self.after), ("sk_before", self.before)]
        {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        if self.reverse {
            body["reverse"] = true.into();
        }
        if self.limit > 0 {
            body["limit"] = self.limit.into();
        }
        if let Some((condition, _)) = self.condition {
            body["if"] = condition.into();
            body["if_stop"] = self.if_stop.into();
        }
        body
    }

    fn expected(&self, all: &[(&str, u64)]) -> Vec<String> {
        let mut rows: Vec<(&str, u64)> = all.to_vec();
        rows.sort_unstable_by_key(|(sk, _)| sk.as_bytes());
        if self.reverse {
            rows.reverse();
        }
        let prefix = self.prefix.unwrap_or("");
        rows.retain(|(sk, _)| {
            sk.starts_with(prefix)
                && *sk != prefix
                && self.after.is_none_or(|after| *sk > after)
                && self.before.is_none_or(|before| *sk < before)
        });
        let mut listed = Vec::new();
        for (sk, n) in rows {
            if self.condition.is_some_and(|(_, holds)| !holds(n)) {
                if self.if_stop {
                    break;
                }
                continue;
            }
            listed.push(sk.to_owned());
            if listed.len() == self.limit {
                break;
            }
        }
        listed
    }
}

#[test]
fn a_listing_obeys_every_combination_of_its_options() {
    let home = home();
    let client = home.client();
    let sks = [
        "b/",
        "b/1",
        "b/10",
        "b/2",
        "b/é",
        "b/\u{1f600}",
        "b",
        "a",
        "a0",
        "A",
        "b0",
        "b.",
        "c",
        "é",
        "ÿ",
        "\u{1}",
        "\u{7f}",
        "\u{1f600}",
        "bb",
        "b/1/x",
    ];
    let all: Vec<(&str, u64)> = sks.into_iter().zip(0..).collect();
    let token = client.put_all("options", all.iter().map(|(sk, n)| (*sk, data(*n))));
    let mut checked = 0;
    for prefix in [None, Some(""), Some("b"), Some("b/"), Some("b/1"), Some("é"), Some("zz")] {
        for (after, before) in [
            (None, None),
            (Some("b/1"), None),
            (Some("b/11"), Some("c")),
            (None, Some("b/2")),
            (Some("a"), Some("a0")),
            (Some("c"), Some("b")),
        ] {
            for reverse in [false, true] {
                for limit in [0, 1, 3, 100] {
                    let even: Filter = ("data.n != `1` && data.n < `15`", |n| n != 1 && n < 15);
                    for (condition, if_stop) in [(None, false), (Some(even), false), (Some(even), true)] {
                        let listing = Listing { prefix, after, before, reverse, limit, condition, if_stop };
                        let found = client.listed(&token, &listing.body("options"));
                        assert_eq!(found, listing.expected(&all), "{listing:?}");
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 7 * 6 * 2 * 4 * 3);
}

#[test]
fn a_cursor_walks_a_listing_without_gap_or_repetition() {
    let home = home();
    let client = home.client();
    let sks: Vec<String> = (0..257).map(|n| format!("k{n:04}")).collect();
    let token = client.put_all("cursor", sks.iter().zip(0..).map(|(sk, n)| (sk.as_str(), data(n))));
    for reverse in [false, true] {
        let (mut seen, mut bound) = (Vec::new(), None::<String>);
        loop {
            let mut body = json!({"pk": "cursor", "limit": 20, "reverse": reverse});
            if let Some(bound) = bound.take() {
                body[if reverse { "sk_before" } else { "sk_after" }] = bound.into();
            }
            let page = client.listed(&token, &body);
            let Some(last) = page.last() else { break };
            bound = Some(last.clone());
            seen.extend(page);
        }
        let mut expected = sks.clone();
        if reverse {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    // The original's cursor: the last sk seen as prefix of the next listing skips that record itself.
    client.put_all("walk", ["x", "x/1", "x/2"].map(|sk| (sk, data(0))));
    let token = client.put("walk", "y", &data(0));
    assert_eq!(client.listed(&token, &json!({"pk": "walk", "sk_prefix": "x"})), ["x/1", "x/2"]);
}

#[test]
fn a_listing_knows_one_partition_key_only() {
    let home = home();
    let client = home.client();
    let mate = pk_in(partition("alone", PARTITIONS), PARTITIONS, "alone");
    client.put("alone", "a", &data(1));
    let token = client.put(&mate, "b", &data(2));
    assert_eq!(client.listed(&token, &json!({"pk": "alone"})), ["a"]);
    assert_eq!(client.listed(&token, &json!({"pk": mate})), ["b"]);
    assert!(client.listed(&token, &json!({"pk": "alon"})).is_empty());
    let nobody = client.post("/records/list", r#"{"pk":"nobody at all"}"#);
    assert_eq!(nobody.text(), r#"{"Records":[]}"#);
}

#[test]
fn a_condition_of_a_listing_sees_keys_and_times() {
    let home = home();
    let client = home.client();
    client.put_all("seen", ["a", "b", "c"].map(|sk| (sk, data(1))));
    let token = client.put("seen", "d", r#"{"n":"text"}"#);
    let record = client.one(&token, "seen", "b").expect("it was put");
    let created = millis(&record.created);
    for (condition, expected) in [
        ("sk == 'b'".to_owned(), vec!["b"]),
        ("pk == 'seen' && sk > 'a'".to_owned(), vec![]),
        ("starts_with(sk, 'c') || data.n == 'text'".to_owned(), vec!["c", "d"]),
        (format!("sk == 'b' && _created_at == `{created}`"), vec!["b"]),
        (format!("sk == 'b' && _updated_at < `{created}`"), vec![]),
        // Of a record whose n is no number the comparison is null, which is not true.
        ("data.n > `0`".to_owned(), vec!["a", "b", "c"]),
        ("!(data.n == `1`)".to_owned(), vec!["d"]),
        // An evaluation that errs counts as false, and stops nothing.
        ("contains(data.n, 'ext')".to_owned(), vec!["d"]),
    ] {
        assert_eq!(client.listed(&token, &json!({"pk": "seen", "if": condition})), expected, "{condition}");
    }
}

//! A changed `SHARDS` moves partitions between stores, whatever happens on the way.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::{Client, Home, Node, text};

const PKS: usize = 300;
const SKS: usize = 10;

/// Writes records of every partition; gives what every key must hold.
fn fill(client: &Client) -> Vec<(String, String, String)> {
    let mut all = Vec::with_capacity(PKS * SKS);
    for pk in 0..PKS {
        for sk in 0..SKS {
            let data = format!(r#"{{"pk":{pk},"sk":{sk},"f":1.10,"pad":"{}"}}"#, "x".repeat(pk % 97));
            all.push((format!("pk-{pk}"), format!("sk-{sk}"), data));
        }
    }
    for page in all.chunks(500) {
        let record = |(pk, sk, data): &(String, String, String)| {
            format!(r#"{{"pk":{},"sk":{},"data":{data}}}"#, text(pk), text(sk))
        };
        let records: Vec<String> = page.iter().map(record).collect();
        client.post("/records/put", &format!(r#"{{"records":[{}]}}"#, records.join(","))).token();
    }
    all
}

/// Every record is where a reader looks for it.
fn check(node: &Node, all: &[(String, String, String)]) {
    for page in all.chunks(500) {
        let keys: Vec<(&str, &str)> = page.iter().map(|(pk, sk, _)| (pk.as_str(), sk.as_str())).collect();
        let found = node.client().read_now(&keys);
        assert_eq!(found.len(), page.len());
        for (record, (pk, sk, data)) in found.iter().zip(page) {
            assert_eq!((&record.pk, &record.sk, record.raw()), (pk, sk, data.as_str()));
        }
    }
}

fn start(dir: &Path, shards: &str) -> Node {
    Node::start(dir, &[("SHARDS", shards)])
}

/// The states alone: where a partition lives must not show.
fn states(node: &Node) -> Vec<Value> {
    let hashes = node.hashes();
    assert_eq!(hashes.len(), 8);
    hashes
}

#[test]
fn partitions_move_with_all_their_records() {
    let (node, dir) = Home::start(&[("SHARDS", "1")]).into_parts();
    let mut all = fill(node.client());
    let mut before = states(&node);
    check(&node, &all);
    node.term();
    for (turn, shards) in ["3", "2", "2", "8", "1"].into_iter().enumerate() {
        let node = start(dir.path(), shards);
        assert_eq!(states(&node), before, "{shards}");
        check(&node, &all);
        assert_eq!(node.status()["shards"].as_array().map(Vec::len), shards.parse().ok());
        // Writes go on in the new place, and move with the next change.
        let data = format!(r#"{{"turn":{turn}}}"#);
        for row in all.iter_mut().skip(turn).step_by(7).take(100) {
            node.client().put(&row.0, &row.1, &data);
            row.2.clone_from(&data);
        }
        before = states(&node);
        node.term();
    }
    let node = start(dir.path(), "2");
    assert_eq!(states(&node), before);
    check(&node, &all);
}

#[test]
fn a_crash_while_partitions_move_loses_nothing() {
    let (node, dir) = Home::start(&[("SHARDS", "2")]).into_parts();
    let all = fill(node.client());
    let before = states(&node);
    node.term();
    // Where the crash falls is chance: from the very start of the process to some time after the move.
    let mut crashed = 0;
    for (turn, shards) in ["1", "3", "4", "1", "5", "2", "3", "1", "7", "4", "3", "6"].into_iter().enumerate()
    {
        let mut process = Node::spawn(dir.path(), &[("SHARDS", shards)]);
        let moment = Duration::from_millis(5 + 23 * turn as u64);
        assert!(!process.ends_within(moment), "it ended by itself:\n{}", process.errors());
        crashed += usize::from(!process.errors().contains("serving http://"));
        process.kill();
        if turn % 4 == 3 {
            let node = start(dir.path(), if turn % 8 == 3 { "3" } else { "1" });
            assert_eq!(states(&node), before);
            node.kill();
        }
    }
    assert!(crashed > 0, "every start was over before its crash");
    let node = start(dir.path(), "2");
    assert_eq!(states(&node), before);
    check(&node, &all);
    node.term();
}

#[test]
fn a_crash_right_after_writes_moves_with_them() {
    let (node, dir) = Home::start(&[("SHARDS", "3")]).into_parts();
    let all = fill(node.client());
    // What the stores have not synced yet is in the log alone.
    node.kill();
    let node = start(dir.path(), "1");
    node.catch_up();
    check(&node, &all);
    let before = states(&node);
    node.kill();
    let node = start(dir.path(), "4");
    assert_eq!(states(&node), before);
    check(&node, &all);
}

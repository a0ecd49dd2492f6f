//! Messages in the topic that no node wrote: they are skipped and counted, and their neighbours apply.

mod support;

use serde_json::{Value, json};
use support::kafka::Kafka;
use support::{Home, Node, Positions, Space, agreed, pk_in, skipped, until};

const PARTITIONS: u32 = 8;
/// The largest message that the topic takes, as `firescroll topics create` makes it.
const LARGEST: usize = (1 << 20) + 4096;

/// Writes lines of key and value, with a tab between them, as another producer of the topic would: it finds
/// the partition by the key.
fn produce(kafka: &Kafka, space: &Space, lines: &[String]) {
    let seeds = kafka.seeds();
    let topic = space.mutations();
    let arguments = [
        "--bootstrap-server",
        &seeds,
        "--topic",
        &topic,
        "--property",
        "parse.key=true",
        "--property",
        "null.marker=NULL",
        "--producer-property",
        "max.request.size=4000000",
    ];
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    kafka.tool("org.apache.kafka.tools.ConsoleProducer", &arguments, &text);
}

/// The line of a good put in the log's format.
fn put(pk: &str, sk: &str, n: u64) -> String {
    let value = json!({"pk": pk, "sk": sk, "data": {"n": n}, "ts_ms": 1, "mutation": "put"});
    format!("{pk}\t{value}")
}

/// The counts of one partition.
fn counts(node: &Node, partition: u32) -> (u64, Value) {
    let status = node.status();
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    let found = partitions.iter().find(|found| found["partition"] == partition).expect("it is held");
    (found["next_offset"].as_u64().expect("a number"), found["mutations"].clone())
}

#[test]
fn poison_is_skipped_and_counted_and_its_neighbours_apply() {
    if skipped("poison_is_skipped_and_counted_and_its_neighbours_apply") {
        return;
    }
    let kafka = Kafka::shared();
    let space = Space::made(&kafka, "poison", PARTITIONS);
    let home = Home::start(&space.settings("a", "a1", &[]));
    let (poisoned, clean) = (3, 5);
    let pk = pk_in(poisoned, PARTITIONS, "poison");
    let stray = pk_in(clean, PARTITIONS, "stray");
    // Just under what the brokers take, and not what it should be: the JSON breaks off.
    let huge = format!("{{\"pk\":\"{pk}\",\"sk\":\"huge\",\"data\":{{\"x\":\"{}", "x".repeat(LARGEST - 300));
    let bad = [
        "this is not JSON".to_owned(),
        String::new(),
        "NULL".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        json!({"pk": pk, "sk": "a", "data": {}, "ts_ms": 1, "mutation": "upsert"}).to_string(),
        json!({"pk": pk, "sk": "a", "data": {}, "ts_ms": 1}).to_string(),
        json!({"pk": pk, "sk": "a", "ts_ms": 1, "mutation": "put"}).to_string(),
        json!({"pk": pk, "sk": "a", "data": [1], "ts_ms": 1, "mutation": "put"}).to_string(),
        json!({"pk": 7, "sk": "a", "data": {}, "ts_ms": 1, "mutation": "put"}).to_string(),
        json!({"pk": pk, "data": {}, "ts_ms": 1, "mutation": "delete"}).to_string(),
        json!({"pk": "", "sk": "a", "data": {}, "ts_ms": 1, "mutation": "put"}).to_string(),
        json!({"mutation": "batch", "ts_ms": 1, "ops": []}).to_string(),
        json!({"mutation": "batch", "ts_ms": 1, "ops": [
            {"op": "put", "pk": pk, "sk": "half", "data": {}},
            {"op": "increment", "pk": pk, "sk": "half"},
        ]})
        .to_string(),
        // A record of another partition, whose readers look for it there.
        json!({"pk": stray, "sk": "a", "data": {}, "ts_ms": 1, "mutation": "put"}).to_string(),
        json!({"mutation": "batch", "ts_ms": 1, "ops": [
            {"op": "put", "pk": pk, "sk": "half", "data": {}},
            {"op": "put", "pk": stray, "sk": "half", "data": {}},
        ]})
        .to_string(),
        json!({"pk": pk, "sk": "a", "data": {}, "ts_ms": 1, "mutation": "put", "v": 99}).to_string(),
        huge,
    ];
    let mut lines = vec![put(&pk, "before", 1), put(&stray, "before", 1)];
    for (place, bad) in bad.iter().enumerate() {
        lines.push(format!("{pk}\t{bad}"));
        lines.push(put(&pk, &format!("neighbour-{place:02}"), place as u64));
    }
    // A condition that cannot be compiled counts as false, which is something else.
    let wrong_condition =
        json!({"pk": pk, "sk": "erred", "data": {}, "ts_ms": 1, "mutation": "put", "if": "data.("});
    lines.push(format!("{pk}\t{wrong_condition}"));
    let delete = json!({"pk": pk, "sk": "before", "ts_ms": 1, "mutation": "delete", "if": "data.n == `1`"});
    lines.push(format!("{pk}\t{delete}"));
    let batch = json!({"mutation": "batch", "ts_ms": 1, "ops": [
        {"op": "put", "pk": pk, "sk": "after", "data": {"n": 1}},
        {"op": "put", "pk": pk, "sk": "after", "data": {"n": 2}, "if": "data.n == `1`"},
    ]});
    lines.push(format!("{pk}\t{batch}"));
    produce(&kafka, &space, &lines);

    let good = 1 + bad.len() as u64 + 2;
    let total = good + bad.len() as u64 + 1;
    until("everything to be applied", || counts(&home, poisoned).0 == total);
    let (_, of_poisoned) = counts(&home, poisoned);
    let expected = json!({"applied": good, "refused": 0, "erred": 1, "undecodable": bad.len()});
    assert_eq!(of_poisoned, expected, "{}", home.errors());
    assert_eq!(counts(&home, clean).1["undecodable"], 0);

    let list = json!({"pk": pk}).to_string();
    let found: Vec<String> =
        home.client().post("/records/list", &list).records().into_iter().map(|record| record.sk).collect();
    let mut expected = vec!["after".to_owned()];
    expected.extend((0..bad.len()).map(|place| format!("neighbour-{place:02}")));
    assert_eq!(found, expected);
    assert_eq!(home.client().read_now(&[(&pk, "after")])[0].number("n"), 2);
    let of_stray = home.client().listed("", &json!({"pk": stray}));
    assert_eq!(of_stray, ["before"], "nothing of the other partition's messages");
    assert_eq!(home.client().get("/ready").status, 200);
    // Told with partition and offset; the first of them is the second message.
    assert!(home.errors().contains("partition=3 offset=1 "), "{}", home.errors());

    // The partition goes on, and a copy made from all this is the same.
    let token = home.client().put(&pk, "later", r#"{"n":3}"#);
    assert_eq!(home.client().one(&token, &pk, "later").map(|record| record.number("n")), Some(3));
    let mut least = Positions::default();
    least.add(&token);
    let copy = Home::start(&space.settings("b", "b1", &[("SHARDS", "1")]));
    let states = agreed(&[&[&home], &[&copy]], PARTITIONS, &least);
    assert_eq!(space.replayed(), states, "the state is what the log says");
    assert_eq!(counts(&copy, poisoned).1["undecodable"], bad.len());
}

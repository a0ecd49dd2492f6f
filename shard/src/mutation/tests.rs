use super::*;
use crate::json::{JsonError, MAX_DEPTH};
use crate::key::KeyError;
use proptest::prelude::*;

fn text(build: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    build(&mut out);
    String::from_utf8(out).expect("messages are UTF-8")
}

fn refused(bytes: &str) -> DecodeError {
    MutationDecoder::new()
        .decode(bytes.as_bytes())
        .map(|mutation| format!("{mutation:?}"))
        .expect_err("refused")
}

#[test]
fn golden_messages() {
    let put = text(|out| encode_put(out, "p", "s\"", br#"{"a":1.10}"#, None, 1_767_323_045_678));
    assert_eq!(put, r#"{"pk":"p","sk":"s\"","data":{"a":1.10},"ts_ms":1767323045678,"mutation":"put"}"#);
    let put = text(|out| encode_put(out, "p", "s", b"{}", Some("data.a == 'x'"), -5));
    assert_eq!(put, r#"{"pk":"p","sk":"s","data":{},"ts_ms":-5,"mutation":"put","if":"data.a == 'x'"}"#);
    let delete = text(|out| encode_delete(out, "p", "s", Some("data.a == `1`"), 7));
    assert_eq!(delete, r#"{"pk":"p","sk":"s","ts_ms":7,"mutation":"delete","if":"data.a == `1`"}"#);
    let operations = [
        Operation::Put { pk: "p", sk: "a", data: b"{}", condition: None },
        Operation::Delete { pk: "p", sk: "b", condition: Some("sk == 'b'") },
    ];
    assert_eq!(
        text(|out| encode_batch(out, &operations, 9)),
        concat!(
            r#"{"mutation":"batch","ts_ms":9,"ops":[{"op":"put","pk":"p","sk":"a","data":{}},"#,
            r#"{"op":"delete","pk":"p","sk":"b","if":"sk == 'b'"}]}"#
        )
    );
}

#[test]
fn foreign_producers_are_understood() {
    let mut decoder = MutationDecoder::new();
    let loose = br#" {"mutation" : "put", "extra": [1], "if": "", "sk":"s", "pk":"\u0070",
        "data" : { "a b" : [ 1 , 2 ] }, "v": 1 } "#;
    let put = Operation::Put { pk: "p", sk: "s", data: br#"{"a b":[1,2]}"#, condition: None };
    assert_eq!(decoder.decode(loose), Ok(Mutation::One(put)));
    let delete = br#"{"pk":"p","sk":"s","data":null,"ts_ms":1,"mutation":"delete","if":null}"#;
    let expected = Operation::Delete { pk: "p", sk: "s", condition: None };
    assert_eq!(decoder.decode(delete), Ok(Mutation::One(expected)));
    let batch = br#"{"mutation":"batch","ops":[{"mutation":"delete","pk":"p","sk":"s"}]}"#;
    assert_eq!(decoder.decode(batch), Ok(Mutation::Batch(vec![expected])));
}

#[test]
fn what_is_no_mutation_is_refused() {
    assert!(matches!(refused("nonsense"), DecodeError::Json(JsonError::At { .. })));
    assert!(matches!(refused("[]"), DecodeError::Member { expected: "an object", .. }));
    assert!(matches!(refused(r#"{"pk":"p","sk":"s"}"#), DecodeError::Member { member: "mutation", .. }));
    assert!(matches!(refused(r#"{"pk":"p","sk":"s","mutation":"patch"}"#), DecodeError::Member { .. }));
    assert!(matches!(
        refused(r#"{"pk":1,"sk":"s","mutation":"delete"}"#),
        DecodeError::Member { member: "pk", .. }
    ));
    let put = |data: &str| format!(r#"{{"pk":"p","sk":"s","mutation":"put","data":{data}}}"#);
    for data in ["null", "1", "[]", "\"{}\""] {
        assert_eq!(refused(&put(data)), DecodeError::Member { member: "data", expected: "an object" });
    }
    assert_eq!(refused(r#"{"pk":"","sk":"s","mutation":"delete"}"#), DecodeError::Key(KeyError::EmptyPk));
    assert_eq!(
        refused(r#"{"pk":"p","sk":"\u0000","mutation":"delete"}"#),
        DecodeError::Key(KeyError::NulInSk)
    );
    assert!(matches!(refused(r#"{"mutation":"batch","ops":[]}"#), DecodeError::Member { member: "ops", .. }));
    assert!(matches!(refused(r#"{"mutation":"batch"}"#), DecodeError::Member { member: "ops", .. }));
    let nested = r#"{"mutation":"batch","ops":[{"mutation":"batch","pk":"p","sk":"s","ops":[]}]}"#;
    assert!(matches!(refused(nested), DecodeError::Member { member: "mutation", .. }));
    let newer = r#"{"v":2,"pk":"p","sk":"s","mutation":"delete"}"#;
    assert_eq!(refused(newer), DecodeError::Version { found: "2".to_owned() });
    let deep = put(&format!("{}{}", "{\"a\":".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH)));
    assert!(matches!(refused(&deep), DecodeError::Json(_)));
}

/// An operation that owns its parts.
type Owned = (bool, String, String, String, Option<String>);

fn view(owned: &Owned) -> Operation<'_> {
    let (put, pk, sk, data, condition) = owned;
    let condition = condition.as_deref();
    if *put {
        Operation::Put { pk, sk, data: data.as_bytes(), condition }
    } else {
        Operation::Delete { pk, sk, condition }
    }
}

fn operation() -> impl Strategy<Value = Owned> {
    let data = "[a-z\"\\\\\n é]{0,12}".prop_map(|value| {
        let mut out = b"{\"v\":".to_vec();
        escape_into(&value, &mut out);
        out.push(b'}');
        String::from_utf8(out).expect("escaping keeps UTF-8")
    });
    (any::<bool>(), "[^\0]{1,20}", "[^\0]{1,20}", data, proptest::option::of("[^\0]{1,20}"))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(operations in proptest::collection::vec(operation(), 1..5), ts_ms in any::<i64>()) {
        let views: Vec<Operation<'_>> = operations.iter().map(view).collect();
        let mut decoder = MutationDecoder::new();
        let mut out = Vec::new();
        encode_batch(&mut out, &views, ts_ms);
        prop_assert_eq!(decoder.decode(&out), Ok(Mutation::Batch(views.clone())));
        for operation in views {
            out.clear();
            match operation {
                Operation::Put { pk, sk, data, condition } => encode_put(&mut out, pk, sk, data, condition, ts_ms),
                Operation::Delete { pk, sk, condition } => encode_delete(&mut out, pk, sk, condition, ts_ms),
            }
            prop_assert_eq!(decoder.decode(&out), Ok(Mutation::One(operation)));
        }
    }
}

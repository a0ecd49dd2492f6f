use super::*;
use crate::key::Offset;
use crate::record::Meta;
use proptest::prelude::*;

const META: Meta = Meta { created_ms: 1000, updated_ms: 2000, offset: Offset(7) };

fn refusal(text: &str) -> ConditionError {
    match Condition::compile(text) {
        Ok(_) => panic!("{text} must be refused"),
        Err(error) => error,
    }
}

/// Evaluates both ways and insists that they agree.
fn decide(text: &str, data: Option<&str>) -> Result<bool, EvaluationError> {
    let condition = Condition::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let row = data.map(|data| Stored { meta: META, data: data.as_bytes() });
    let result = condition.evaluate("p", "s", row.as_ref());
    assert_eq!(result.is_ok(), condition.interpret("p", "s", row.as_ref()).is_ok(), "{text} on {data:?}");
    if let (Ok(result), Ok(reference)) = (&result, condition.interpret("p", "s", row.as_ref())) {
        assert_eq!(*result, reference, "{text} on {data:?}");
    }
    result
}

fn holds(text: &str, data: Option<&str>) -> bool {
    decide(text, data).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn records_are_seen_with_five_members() {
    let data = Some(r#"{"hey":"ho","n":2,"list":["a",1,null],"o":{"x":{"y":true}},"e":[]}"#);
    for text in [
        "data.hey == 'ho'",
        "pk == 'p' && sk == 's'",
        "_created_at == `1000` && _updated_at > `1999`",
        "data.n >= `2` && data.n < `2.5`",
        "data.list[0] == 'a' && data.list[-3] == 'a' && data.list[5] == `null`",
        "data.o.x.y == `true`",
        "data.o.x.y",
        "!(data.missing)",
        "contains(data.list, 'a') && !contains(data.list, 'b') && contains(data.list, `1`)",
        "starts_with(data.hey, 'h') && ends_with(data.hey, 'o') && contains(data.hey, 'h')",
        "length(data.list) == `3`",
        "data.list[?@ == 'a'] | [0] == 'a'",
        "data | hey == 'ho'",
        "data.missing == `null`",
        "type(data.n) == 'number'",
        "contains(keys(data), 'n')",
        "`true` || data.n == `0`",
        "data.e == `[]` && data.o == `{\"x\":{\"y\":true}}`",
        "data.\"hey\" == 'ho'",
    ] {
        if text == "data.o.x.y" {
            assert!(matches!(refusal(text), ConditionError::NotBoolean { .. }));
        } else {
            assert!(holds(text, data), "{text}");
        }
    }
    for text in [
        "data.hey == 'no'",
        "data.n > `2`",
        "data.hey < 'z'",
        "data.list == data.o",
        "`false`",
        "data == `{}`",
    ] {
        assert!(!holds(text, data), "{text}");
    }
}

#[test]
fn an_absent_record_has_keys_only() {
    assert!(holds("pk == 'p' && data == `null` && _created_at == `null`", None));
    assert!(!holds("data.n > `1`", None));
    assert!(holds("!(data.n > `1`)", None));
    assert!(holds("data.n != `1`", None));
}

#[test]
fn numbers_compare_as_doubles() {
    let data = Some(r#"{"big":123456789012345678901234567890,"i":9007199254740993,"f":1.10,"z":-0.0}"#);
    assert!(holds("data.i == `9007199254740992`", data));
    assert!(holds("data.f == `1.1` && data.z == `0`", data));
    assert!(holds("data.big > `123456789012345678`", data));
}

#[test]
fn the_last_duplicate_member_counts() {
    assert!(holds("data.a == `2`", Some(r#"{"a":1,"b":0,"a":2}"#)));
    assert!(holds("data.a == `2` && length(keys(data)) == `1`", Some(r#"{"a":1,"a":2}"#)));
}

#[test]
fn failing_functions_are_errors() {
    assert!(matches!(
        decide("contains(data.n, 'a')", Some(r#"{"n":1}"#)),
        Err(EvaluationError::Function { .. })
    ));
    assert!(matches!(decide("contains(data.n, 'a')", Some("{}")), Err(EvaluationError::Function { .. })));
    assert!(matches!(
        decide("starts_with(data.n, `1`)", Some(r#"{"n":"1"}"#)),
        Err(EvaluationError::Function { .. })
    ));
    assert!(holds("pk == 'p' || contains(data.n, 'a')", Some("{}")));
}

#[test]
fn the_classic_slip_is_explained() {
    let error = refusal("data.hey == \"ho\"").to_string();
    assert!(error.contains("\"ho\" in double quotes is an identifier, a string is written 'ho'"), "{error}");
    let error = refusal("hey == 'ho'").to_string();
    assert!(error.contains("unknown top-level name \"hey\"") && error.contains("data.hey"), "{error}");
    let error = refusal("data != null").to_string();
    assert!(error.contains("JSON is written in backticks, `null`"), "{error}");
}

#[test]
fn only_booleans_are_accepted() {
    for text in [
        "data",
        "data.a",
        "'a'",
        "`1`",
        "length(pk)",
        "data.a || data.b == 'x'",
        "pk == 'a' && data",
        "data[*]",
    ] {
        assert!(matches!(refusal(text), ConditionError::NotBoolean { .. }), "{text}");
    }
}

#[test]
fn what_has_no_bound_is_refused() {
    for text in [
        "data[].a == `1`",
        "[pk, sk] == `[]`",
        "{a: pk} == `{}`",
        "sort_by(data.a, &b) == `[]`",
        "@ == `1`",
        "* == `1`",
        "[0] == `1`",
        "[?a] == `1`",
        "to_string(to_array(to_string(data))) == 'a'",
        "data[?`[1,2]`[?@ == `1`]] == `[]`",
        "data[?(`[1,2]` | [?@ == `1`])] == `[]`",
        "data.a[0:2147483647:2147483647] == `[]`",
        "data.a[::0] == `[]`",
        "join(data.a, data.b) == 'x'",
        "!data.missing",
        "!data.missing == 'x'",
        "nope(pk) == 'x'",
        "length(pk, sk) == `1`",
        "",
        "  ",
        "data.a = 'x'",
        "(pk == 'x'",
    ] {
        assert!(!refusal(text).to_string().is_empty(), "{text}");
    }
    assert!(matches!(refusal(&format!("pk == '{}'", "x".repeat(1024))), ConditionError::TooLong { .. }));
}

#[test]
fn deep_conditions_are_refused_without_overflow() {
    let run = || {
        let nests = [
            ("(", ")"),
            ("!", ""),
            ("[", "]"),
            ("data[?", "]"),
            ("{a:", "}"),
            ("*.", ""),
            ("&", ""),
            ("`[", "]`"),
        ];
        for (open, close) in nests {
            for depth in [40, 100, 150, 1000, 30_000] {
                let text = format!("{}pk == 'a'{}", open.repeat(depth), close.repeat(depth));
                assert!(Condition::compile(&text).is_err(), "{depth} times {open}");
            }
        }
        let long = format!("data{} == 'a'", ".a".repeat(480));
        assert_eq!(refusal(&long), ConditionError::TooDeep);
        let long = format!("data{} == 'a'", "[*]".repeat(300));
        assert_eq!(refusal(&long), ConditionError::TooDeep);
        let wide = vec!["pk=='a'"; 100].join("||");
        assert_eq!(refusal(&wide), ConditionError::TooDeep);
        assert!(Condition::compile(&vec!["pk=='a'"; 30].join("||")).is_ok());
        assert!(Condition::compile(&format!("{}pk == 'a'{}", "(".repeat(30), ")".repeat(30))).is_ok());
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread starts");
    thread.join().expect("no overflow");
}

/// A value as JSON text.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        (-3i64..4).prop_map(|number| number.to_string()),
        (-3i64..4).prop_map(|number| format!("{number}.5")),
        "[ab]{0,2}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(("[abc]", inner), 0..3).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn operand() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        Just("data".to_owned()),
        Just("pk".to_owned()),
        Just("_updated_at".to_owned()),
        "data\\.[abc]",
        "data\\.[abc]\\.[abc]",
        "data\\.[abc]\\[-?[12]\\]",
        "data\\.[abc]\\[0\\]",
    ];
    prop_oneof![3 => path, 2 => value().prop_map(|value| format!("`{value}`")), 1 => Just("'a'".to_owned())]
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => (operand(), "==|!=|<|<=|>|>=", operand()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => ("contains|starts_with|ends_with", operand(), operand()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
        1 => Just("`true`".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn both_ways_of_evaluation_agree(
        text in expression(),
        members in proptest::option::of(proptest::collection::vec(("[abc]", value()), 0..4)),
    ) {
        let data = members.map(|members| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        // `decide` compares the two.
        let _ = decide(&text, data.as_deref());
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Condition::compile(&text);
    }

    #[test]
    fn arbitrary_tokens_never_panic(tokens in proptest::collection::vec(
        prop_oneof![Just("data"), Just("."), Just("["), Just("]"), Just("?"), Just("*"), Just("("), Just(")"), Just("=="),
            Just("'a'"), Just("`1`"), Just("`[1,[2]]`"), Just("&&"), Just("||"), Just("!"), Just("|"), Just("@"), Just(":"),
            Just("-1"), Just("length"), Just("sum"), Just("avg"), Just("contains"), Just(","), Just("\""), Just("&")], 0..14)) {
        if let Ok(condition) = Condition::compile(&tokens.concat()) {
            let _ = condition.evaluate("p", "s", Some(&Stored { meta: META, data: br#"{"a":[1,[2,"x"]],"b":1e308}"# }));
        }
    }
}

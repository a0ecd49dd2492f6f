use super::*;
use proptest::prelude::*;

fn refused(input: &[u8]) -> JsonError {
    JsonReader::new().parse(input).map(|json| format!("{json:?}")).expect_err("must be refused")
}

#[test]
fn raw_spans_are_the_bytes_sent() {
    let text =
        br#" { "a\u0062" : [ 1.10 , "x\n y" , {"n" : 123456789012345678901234567890 } ] , "e":1e2,"a":-0 } "#;
    let mut reader = JsonReader::new();
    let root = reader.parse(text).expect("valid");
    assert_eq!(root.raw(), &text[1..text.len() - 1]);
    let members: Vec<_> =
        root.object().expect("an object").map(|(name, value)| (name, value.raw())).collect();
    let array = br#"[ 1.10 , "x\n y" , {"n" : 123456789012345678901234567890 } ]"#.as_slice();
    assert_eq!(members, [("ab", array), ("e", b"1e2".as_slice()), ("a", b"-0".as_slice())]);
    let elements: Vec<_> =
        root.get("ab").expect("there").array().expect("an array").map(|element| element.raw()).collect();
    assert_eq!(elements[0], b"1.10");
    assert_eq!(elements[1], br#""x\n y""#);
    assert_eq!(elements[2], br#"{"n" : 123456789012345678901234567890 }"#);
    assert!(!reader.is_compact());
}

#[test]
fn values_have_their_kinds() {
    let mut reader = JsonReader::new();
    let json = reader.parse(br#"[null,true,1,-1,1.5,"s",[],{},18446744073709551615,""]"#).expect("valid");
    let items: Vec<Json<'_>> = json.array().expect("an array").collect();
    assert!(items[0].is_null());
    assert_eq!(items[1].as_bool(), Some(true));
    assert_eq!((items[2].as_i64(), items[2].as_u64()), (Some(1), Some(1)));
    assert_eq!((items[3].as_i64(), items[3].as_u64()), (Some(-1), None));
    assert_eq!((items[4].as_i64(), items[4].as_f64()), (None, Some(1.5)));
    assert_eq!(items[5].as_str(), Some("s"));
    assert_eq!(items[6].array().map(Iterator::count), Some(0));
    assert_eq!(items[7].object().map(Iterator::count), Some(0));
    assert_eq!((items[8].as_i64(), items[8].as_u64()), (None, Some(u64::MAX)));
    assert_eq!(items[9].as_str(), Some(""));
    let kinds: Vec<&str> = items.iter().map(|item| item.kind().name()).collect();
    assert_eq!(kinds[..4], ["null", "a boolean", "a number", "a number"]);
    assert!(reader.is_compact());
}

#[test]
fn a_scalar_is_a_document() {
    let mut reader = JsonReader::new();
    assert_eq!(reader.parse(b"  17 ").expect("valid").raw(), b"17");
    assert_eq!(reader.parse(b"null").expect("valid").raw(), b"null");
    assert_eq!(reader.parse(br#""a""#).expect("valid").as_str(), Some("a"));
}

#[test]
fn the_last_of_two_members_counts() {
    let mut reader = JsonReader::new();
    let root = reader.parse(br#"{"a":1,"b":2,"a":3}"#).expect("valid");
    assert_eq!(root.get("a").and_then(|value| value.as_i64()), Some(3));
    assert!(root.get("c").is_none());
}

#[test]
fn what_is_not_json_is_refused() {
    let bad: [&[u8]; 22] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"[1,]",
        b"{\"a\"}",
        b"{\"a\":1,}",
        b"{a:1}",
        b"nul",
        b"NaN",
        b"Infinity",
        b"01",
        b"+1",
        b"1.",
        b"\"\\ud800\"",
        b"\"\\x\"",
        b"\"a\nb\"",
        b"\"open",
        b"[1] 2",
        b"\xef\xbb\xbf{}",
        b"\"\xff\"",
        b"1e400",
    ];
    for input in bad {
        let error = refused(input);
        assert!(!error.to_string().is_empty(), "{}", String::from_utf8_lossy(input));
    }
    assert_eq!(
        refused(b"\xef\xbb\xbf{}").to_string(),
        "not valid JSON at byte 0: a byte order mark is not accepted"
    );
    assert_eq!(refused(b"[\"\xff\"]"), JsonError::At { at: 2, what: "not UTF-8" });
}

#[test]
fn depth_is_limited_and_never_overflows_the_stack() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let small_stack = std::thread::Builder::new().stack_size(128 << 10);
    small_stack
        .spawn(move || {
            let mut reader = JsonReader::new();
            assert!(reader.parse(&nested(MAX_DEPTH)).is_ok());
            let deeper = reader.parse(&nested(MAX_DEPTH + 1)).map(|_| ());
            assert_eq!(deeper, Err(JsonError::TooDeep { at: MAX_DEPTH }));
            assert!(matches!(reader.parse(&nested(2_000_000)).map(|_| ()), Err(JsonError::TooDeep { .. })));
            assert!(reader.parse(&vec![b'['; 1_000_000]).is_err());
            assert!(reader.parse("{\"a\":".repeat(500_000).as_bytes()).is_err());
            assert!(reader.parse(b"{}").is_ok());
        })
        .expect("a thread starts")
        .join()
        .expect("no overflow");
}

/// A document as text, with white space strewn in, beside its minified form.
fn document() -> impl Strategy<Value = (String, String)> {
    let space = "[ \n\t\r]{0,2}";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-1e9..1e9).prop_map(|number: f64| format!("{number:e}")),
        any::<String>().prop_map(|text| {
            let mut out = Vec::new();
            escape_into(&text, &mut out);
            String::from_utf8(out).expect("escaping keeps UTF-8")
        }),
    ];
    let leaf = (space, leaf, space).prop_map(|(a, value, b)| (format!("{a}{value}{b}"), value));
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let members = proptest::collection::vec(("[a-c \"\\\\é]{0,3}", space, inner.clone()), 0..4);
        let object = (members, space).prop_map(|(members, trailing)| {
            let (mut loose, mut tight) = (Vec::new(), Vec::new());
            for (name, gap, value) in &members {
                let mut key = Vec::new();
                escape_into(name, &mut key);
                let key = String::from_utf8(key).expect("escaping keeps UTF-8");
                loose.push(format!("{gap}{key}{gap}:{}", value.0));
                tight.push(format!("{key}:{}", value.1));
            }
            let inside = if loose.is_empty() { trailing.clone() } else { loose.join(",") };
            (format!("{{{inside}}}{trailing}"), format!("{{{}}}", tight.join(",")))
        });
        let array = (proptest::collection::vec(inner, 0..4), space).prop_map(|(values, leading)| {
            let loose: Vec<&str> = values.iter().map(|value| value.0.as_str()).collect();
            let tight: Vec<&str> = values.iter().map(|value| value.1.as_str()).collect();
            (format!("{leading}[{}]", loose.join(",")), format!("[{}]", tight.join(",")))
        });
        prop_oneof![object, array]
    })
}

proptest! {
    #[test]
    fn minify_drops_exactly_the_white_space((loose, tight) in document()) {
        let mut reader = JsonReader::new();
        let root = reader.parse(loose.as_bytes()).expect("generated documents are valid");
        prop_assert_eq!(root.raw(), loose.trim_matches([' ', '\n', '\t', '\r']).as_bytes());
        let mut out = Vec::new();
        minify(root.raw(), &mut out);
        prop_assert_eq!(std::str::from_utf8(&out), Ok(tight.as_str()));
        prop_assert_eq!(reader.is_compact(), loose == tight);
        reader.parse(tight.as_bytes()).expect("still valid");
        prop_assert!(reader.is_compact());
    }

    #[test]
    fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = JsonReader::new();
        if let Ok(root) = reader.parse(&input) {
            prop_assert!(!root.raw().is_empty());
        }
    }

    #[test]
    fn arbitrary_punctuation_never_panics(input in r#"[\[\]{}:,"\\ 0-9a-e.]{0,40}"#) {
        let mut reader = JsonReader::new();
        if let Ok(root) = reader.parse(input.as_bytes()) {
            prop_assert!(!root.raw().is_empty());
        }
    }
}

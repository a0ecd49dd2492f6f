//! The body of a get as almost every client sends it, read in one pass.
//!
//! `{"Records":[{"pk":"…","sk":"…"},…]}` with strings that need no unescaping is nearly all that a busy node is sent, and
//! a general parser's set-up costs more than reading it. Whatever differs in the least is left to that parser, which
//! alone decides what is an error: this one only says "usual" or "not for me".
//!
//! Invariant: where it succeeds, the general parser would have found the same keys (a test holds them together).
//! Runs on: serving cores. Not here: errors.

use std::num::NonZeroU32;

use firescroll_shard::check_key;

use crate::keys::KeyList;

/// Adds the keys of a usual body to `keys`. Of another body, `None`: `keys` then holds some that do not count.
pub(super) fn get(body: &[u8], partitions: NonZeroU32, keys: &mut KeyList) -> Option<()> {
    let mut reader = Reader { text: std::str::from_utf8(body).ok()?, at: 0 };
    reader.take(b'{')?;
    if !matches!(reader.string()?, "Records" | "records") {
        return None;
    }
    reader.take(b':')?;
    reader.take(b'[')?;
    loop {
        let (pk, sk) = reader.record()?;
        check_key(pk, sk).ok()?;
        keys.push(pk, sk, partitions);
        if !reader.took(b',') {
            break;
        }
    }
    reader.take(b']')?;
    reader.take(b'}')?;
    reader.skip_space();
    (reader.at == body.len()).then_some(())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether `byte` is next; takes it if so.
    fn took(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.took(byte).then_some(())
    }

    /// A string without anything to unescape.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        if rest[length] != b'"' {
            return None;
        }
        self.at = start + length + 1;
        // Both ends are beside an ASCII byte, so that this cuts no character.
        self.text.get(start..start + length)
    }

    /// An object of one partition key and one sort key, in either order.
    fn record(&mut self) -> Option<(&'a str, &'a str)> {
        self.take(b'{')?;
        let (mut pk, mut sk) = (None, None);
        for place in 0..2 {
            if place > 0 {
                self.take(b',')?;
            }
            let name = self.string()?;
            self.take(b':')?;
            let value = Some(self.string()?);
            match name {
                "pk" | "Pk" => pk = value,
                "sk" | "Sk" => sk = value,
                _ => return None,
            }
        }
        self.take(b'}')?;
        Some((pk?, sk?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::Parser;
    use proptest::prelude::*;

    fn eight() -> NonZeroU32 {
        NonZeroU32::new(8).expect("not zero")
    }

    fn usual(body: &str) -> Option<KeyList> {
        let mut keys = KeyList::default();
        get(body.as_bytes(), eight(), &mut keys).map(|()| keys)
    }

    #[test]
    fn the_usual_is_taken_and_the_rest_is_left() {
        for body in [
            r#"{"Records":[{"pk":"a","sk":"b"}]}"#,
            " {\n\"records\" : [ {\"Sk\":\"b\",\"Pk\":\"a\"} ,\t{\"pk\":\"ä\",\"sk\":\"€\"}]}\r\n",
        ] {
            assert!(usual(body).is_some(), "{body}");
        }
        for body in [
            "",
            "{}",
            r#"{"Records":[]}"#,
            r#"{"Records":[{"pk":"a","sk":"b"}]"#,
            r#"{"Records":[{"pk":"a","sk":"b"}]} x"#,
            r#"{"Records":[{"pk":"a","sk":"b"},]}"#,
            r#"{"Records":[{"pk":"a"}]}"#,
            r#"{"Records":[{"pk":"a","pk":"b"}]}"#,
            r#"{"Records":[{"pk":"a","sk":""}]}"#,
            r#"{"Records":[{"pk":"a\n","sk":"b"}]}"#,
            r#"{"Records":[{"pk":"a","sk":7}]}"#,
            r#"{"Records":[{"pk":"a","sk":"b"}],"allow_partial":true}"#,
        ] {
            assert!(usual(body).is_none(), "{body}");
        }
    }

    proptest! {
        /// Bodies made of the pieces of which bodies are made: what this reader takes, the general parser takes alike.
        #[test]
        fn it_agrees_with_the_general_parser(pieces in proptest::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just(" "), Just("\"pk\""),
                Just("\"sk\""), Just("\"Records\""), Just("\"a\""), Just("\"\\u0061\""), Just("\"ä\""), Just("\"\""),
                Just("1"), Just("{\"pk\":\"a\",\"sk\":\"b\"}"), Just("{\"sk\":\"x\",\"pk\":\"y\"}"),
            ], 0..8
        )) {
            let middle = pieces.concat();
            for body in [format!("{{\"Records\":[{middle}]}}"), middle] {
                if let Some(found) = usual(&body) {
                    let mut expected = KeyList::default();
                    let mut parser = Parser::new(eight(), 1 << 20);
                    prop_assert_eq!(parser.get_any(body.as_bytes(), &mut expected), Ok(false));
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}

//! One line of an import: text → keys and data, checked as far as a client can.
//!
//! **Not here**: what only the node knows (how large a mutation the log accepts, how deep data may be).

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::data;

/// A record as the file has it. Names are taken in the spelling of requests and in that of answers; any other
/// member is refused, because dropping it in silence could change what the import means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(alias = "Pk", borrow)]
    pk: Cow<'a, str>,
    #[serde(alias = "Sk", borrow)]
    sk: Cow<'a, str>,
    #[serde(alias = "Data", borrow)]
    data: &'a RawValue,
    /// An export has the times, and an import cannot set them.
    #[serde(rename = "CreatedAt", default)]
    _created_at: IgnoredAny,
    #[serde(rename = "UpdatedAt", default)]
    _updated_at: IgnoredAny,
}

/// A record ready to be sent.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    pub(super) pk: Cow<'a, str>,
    sk: Cow<'a, str>,
    data: &'a RawValue,
}

impl<'a> Record<'a> {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    /// A reason, without the line number.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, String> {
        let Line { pk, sk, data, .. } = serde_json::from_slice(line).map_err(|error| without_line(&error))?;
        for (name, key) in [("pk", &pk), ("sk", &sk)] {
            if key.is_empty() {
                return Err(format!("{name} is empty"));
            }
            if key.contains('\0') {
                return Err(format!("{name} holds a NUL"));
            }
        }
        data::object(data.get())?;
        Ok(Self { pk, sk, data })
    }

    /// Appends the record as the API takes it; the bytes of the data stay what they are.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        serde_json::to_writer(to, self).expect("strings and raw JSON can be written to memory");
    }
}

/// The parser counts lines within our one line; only its column means something to the user.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) => format!("{reason} (column {})", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> Result<String, String> {
        let mut to = Vec::new();
        Record::parse(line.as_bytes())?.write(&mut to);
        Ok(String::from_utf8(to).expect("JSON is text"))
    }

    #[test]
    fn both_spellings_and_the_times_of_an_export_are_taken() {
        let expected = r#"{"pk":"a","sk":"b","data":{"n":1.10}}"#;
        for line in [
            r#"{"pk":"a","sk":"b","data":{"n":1.10}}"#,
            r#"{"Pk":"a","Sk":"b","Data":{"n":1.10}}"#,
            r#" { "Data" : {"n":1.10} , "sk":"b","Pk":"a" , "CreatedAt":"2024-01-01T00:00:00.000Z","UpdatedAt":7}"#,
        ] {
            assert_eq!(written(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn bytes_of_data_and_meaning_of_keys_are_kept() {
        assert_eq!(
            written(r#"{"pk":"\u00e9\n","sk":"\"","data":{"b":12345678901234567890, "a":"\u00e9"}}"#)
                .as_deref(),
            Ok("{\"pk\":\"é\\n\",\"sk\":\"\\\"\",\"data\":{\"b\":12345678901234567890, \"a\":\"\\u00e9\"}}")
        );
    }

    #[test]
    fn a_line_that_is_no_record_says_why() {
        for (line, reason) in [
            ("", "EOF while parsing a value (column 0)"),
            ("not json", "expected ident (column 2)"),
            (r#"{"pk":"a","sk":"b"}"#, "missing field `data`"),
            (r#"{"pk":"a","data":{}}"#, "missing field `sk`"),
            (r#"{"pk":1,"sk":"b","data":{}}"#, "invalid type: integer `1`"),
            (r#"{"pk":"a","Pk":"a","sk":"b","data":{}}"#, "duplicate field `pk`"),
            (r#"{"pk":"a","sk":"b","data":{},"if":"x"}"#, "unknown field `if`"),
            (r#"{"pk":"","sk":"b","data":{}}"#, "pk is empty"),
            (r#"{"pk":"a","sk":"\u0000","data":{}}"#, "sk holds a NUL"),
            (r#"{"pk":"a","sk":"b","data":[]}"#, "no object"),
            (r#"{"pk":"a","sk":"b","data":{}} {}"#, "trailing characters"),
        ] {
            let told = written(line).expect_err("no record");
            assert!(told.contains(reason), "{line}: {told}");
        }
        assert!(Record::parse(b"{\"pk\":\"\xff\",\"sk\":\"b\",\"data\":{}}").is_err());
    }
}

//! `Data` as a user types it: checked to be one JSON object, and otherwise left alone.

use std::io::Read;

use serde_json::value::RawValue;

use super::failure::Failure;

/// The most that is read from standard input: more than any log accepts as one mutation.
const LONGEST: u64 = 64 << 20;

/// `text`, or standard input where it is `-`.
pub(crate) fn take(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    read(std::io::stdin().lock(), LONGEST)
}

fn read(input: impl Read, longest: u64) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(longest + 1)
        .read_to_string(&mut text)
        .map_err(|source| Failure::File { path: "-".into(), source })?;
    if text.len() as u64 > longest {
        return Err(Failure::Usage(format!("the data on standard input exceeds {longest} bytes")));
    }
    Ok(text)
}

/// Checks that `text` is one JSON object; the result is its bytes without the white space around them.
///
/// # Errors
/// A reason, without naming where the text came from.
pub(crate) fn object(text: &str) -> Result<&RawValue, String> {
    let value: &RawValue =
        serde_json::from_str(text).map_err(|error| format!("the data is no JSON: {error}"))?;
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err("the data is JSON but no object; accepted: {…}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_bytes() {
        let raw = object(" {\"b\":1.10, \"a\":12345678901234567890}\n").expect("an object");
        assert_eq!(raw.get(), "{\"b\":1.10, \"a\":12345678901234567890}");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "1", "[1]", "null", "{", "{} {}", "{'a':1}"] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn standard_input_is_bounded() {
        assert_eq!(read("{}".as_bytes(), 2).expect("short enough"), "{}");
        assert!(matches!(read("{ }".as_bytes(), 2), Err(Failure::Usage(_))));
    }
}

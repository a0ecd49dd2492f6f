//! White space out of JSON, and nothing else.

use super::is_space;
use memchr::{memchr, memchr2, memchr3};

/// Appends `raw`, which must be valid JSON, to `out` without the white space that lies outside strings.
///
/// No member is reordered or dropped and no number is touched.
pub fn minify(raw: &[u8], out: &mut Vec<u8>) {
    out.reserve(raw.len());
    if memchr3(b' ', b'\n', b'\r', raw).is_none() && memchr(b'\t', raw).is_none() {
        out.extend_from_slice(raw);
        return;
    }
    let mut rest = raw;
    while let Some(&first) = rest.first() {
        let taken = if first == b'"' {
            let end = string_end(rest);
            out.extend_from_slice(&rest[..end]);
            end
        } else if is_space(first) {
            1
        } else {
            let end = rest.iter().position(|byte| is_space(*byte) || *byte == b'"').unwrap_or(rest.len());
            out.extend_from_slice(&rest[..end]);
            end
        };
        rest = &rest[taken..];
    }
}

/// Length of the string that `bytes` starts with, its quotes included.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        // The backslash and what it escapes.
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini(raw: &str) -> String {
        let mut out = Vec::new();
        minify(raw.as_bytes(), &mut out);
        String::from_utf8(out).expect("minify keeps UTF-8")
    }

    #[test]
    fn only_outer_white_space_goes() {
        assert_eq!(mini("{\"a\":1}"), "{\"a\":1}");
        assert_eq!(mini(" { \"a b\" :\t[ 1.10 ,\r\n 1e2 ] } "), "{\"a b\":[1.10,1e2]}");
        assert_eq!(mini(r#"{ "q\" \\" : " \\\" " }"#), r#"{"q\" \\":" \\\" "}"#);
        assert_eq!(mini(r#"{ "a" : 1, "a" : 2 }"#), r#"{"a":1,"a":2}"#);
    }

    #[test]
    fn damaged_input_ends_where_it_ends() {
        assert_eq!(mini(" \"open"), "\"open");
        assert_eq!(mini(" \"open\\"), "\"open\\");
    }
}

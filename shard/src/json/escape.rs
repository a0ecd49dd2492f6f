//! Strings into JSON.

/// Appends `text` as a JSON string with its quotes. Escaped are the quote, the backslash and the control
/// characters below U+0020; everything else goes out as UTF-8.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Without an early exit the compiler compares whole vectors at once.
    if bytes.iter().fold(false, |found, byte| found | must_escape(*byte)) {
        escape_slowly(bytes, out);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn must_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape_slowly(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonReader;
    use proptest::prelude::*;

    #[test]
    fn golden_escapes() {
        let mut out = Vec::new();
        escape_into("a\"b\\c\n\r\t\u{1}\u{1f}\u{7f}é\u{2028}", &mut out);
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\u{7f}é\u{2028}\"".as_bytes());
    }

    proptest! {
        #[test]
        fn every_string_is_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            escape_into(&text, &mut out);
            let mut reader = JsonReader::new();
            let json = reader.parse(&out).expect("escaped text is JSON");
            prop_assert_eq!(json.as_str(), Some(text.as_str()));
        }
    }
}

//! The one JSON reader: request bodies and log messages alike.
//!
//! simd-json parses a scratch copy, because it unescapes strings in place; the pristine input is kept beside
//! it. One pass over its structural positions then gives every value its span in the pristine input, so that
//! a value can be taken over as the very bytes that were sent: no member reordered, no number rounded,
//! duplicate members kept. A [`Json`] is a copyable cursor to one value of a parsed document.
//!
//! Nesting is limited to [`MAX_DEPTH`], and nothing here recurses. All buffers are reused between parses.
//!
//! **Runs on** any thread; a reader belongs to one.
//!
//! **Not here**: printing of values. Stored JSON is never parsed and printed again.

mod escape;
mod minify;
mod value;

pub use escape::escape_into;
pub use minify::minify;
pub use value::{Elements, Json, JsonKind, Members};

use simd_json::{Buffers, ErrorType, INPUT_PADDING, StaticNode, Tape, tape};

/// Arrays and objects may nest this deep.
pub const MAX_DEPTH: usize = 128;
/// Longest document accepted, in bytes; spans are held in 32 bits.
const MAX_INPUT_BYTES: usize = 1 << 30;
/// Buffers that grew beyond this are given back when the next document is small.
const KEEP_BYTES: usize = 1 << 20;

/// Why bytes are not a JSON document. Nothing of the document is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The sender corrects the document at or near the position.
    #[error("not valid JSON at byte {at}: {what}")]
    At {
        /// Byte position in the input.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The sender corrects the document; the reader cannot say where.
    #[error("not valid JSON: {what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// The sender flattens the document.
    #[error("JSON nested deeper than {MAX_DEPTH} levels (at byte {at})")]
    TooDeep {
        /// Byte position in the input.
        at: usize,
    },
    /// The sender splits the document.
    #[error("a JSON document of {bytes} bytes is over the limit of {MAX_INPUT_BYTES}")]
    TooLarge {
        /// Length of the input.
        bytes: usize,
    },
}

/// One value of the document in progress.
#[derive(Clone, Copy)]
struct Node {
    /// Span in the pristine input.
    start: u32,
    end: u32,
    /// Index of the first node behind this value and all that it holds.
    next: u32,
    value: Value,
}

#[derive(Clone, Copy)]
enum Value {
    Scalar(StaticNode),
    /// An unescaped string, as a span of the scratch copy.
    Text {
        at: u32,
        len: u32,
    },
    Array,
    Object,
}

/// Parses documents, one at a time, into reused buffers.
pub struct JsonReader {
    buffers: Buffers,
    tape: Tape<'static>,
    scratch: Vec<u8>,
    nodes: Vec<Node>,
    open: Vec<u32>,
    compact: bool,
}

impl Default for JsonReader {
    fn default() -> Self {
        Self::new()
    }
}

impl JsonReader {
    /// A reader with empty buffers.
    pub fn new() -> JsonReader {
        JsonReader {
            buffers: Buffers::with_max_depth(0, MAX_DEPTH),
            tape: Tape(Vec::new()),
            scratch: Vec::new(),
            nodes: Vec::new(),
            open: Vec::new(),
            compact: true,
        }
    }

    /// Parses a whole document and returns its root value.
    ///
    /// # Errors
    /// [`JsonError`] when the input is not exactly one JSON value in UTF-8 without a byte order mark.
    pub fn parse<'a>(&'a mut self, input: &'a [u8]) -> Result<Json<'a>, JsonError> {
        self.fill(input)?;
        Ok(Json::root(self, input))
    }

    /// Parses the document again in another spelling, or hands out the one just parsed when it is the same
    /// bytes.
    pub(crate) fn parse_again<'a>(&'a mut self, input: &'a [u8]) -> Result<Json<'a>, JsonError> {
        if !self.compact {
            self.fill(input)?;
        }
        Ok(Json::root(self, input))
    }

    /// Whether the document parsed last had no white space outside strings, so that every value of it is
    /// minified already.
    pub fn is_compact(&self) -> bool {
        self.compact
    }

    fn fill(&mut self, input: &[u8]) -> Result<(), JsonError> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(JsonError::TooLarge { bytes: input.len() });
        }
        self.give_back(input.len());
        self.scratch.clear();
        self.scratch.extend_from_slice(input);
        self.scratch.resize(input.len() + INPUT_PADDING, b' ');
        let base = self.scratch.as_ptr() as usize;
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.scratch, input.len(), &mut self.buffers, &mut tape)
                .map_err(|error| explain(&error, input));
        let indexed = parsed.and_then(|()| {
            self.nodes.clear();
            self.open.clear();
            let structurals = self.buffers.structural_indexes();
            index(input, structurals, &tape.0, base, &mut self.nodes, &mut self.open)
        });
        self.tape = tape.reset();
        self.compact = indexed?;
        Ok(())
    }

    /// One huge document must not hold its memory for ever.
    fn give_back(&mut self, coming: usize) {
        if self.scratch.capacity() > KEEP_BYTES && coming < KEEP_BYTES / 4 {
            *self = JsonReader::new();
        }
    }
}

/// Walks the structural positions and the tape side by side and gives each value its span. Says whether the
/// document is compact.
fn index(
    input: &[u8],
    structurals: &[u32],
    tape: &[tape::Node<'_>],
    base: usize,
    nodes: &mut Vec<Node>,
    open: &mut Vec<u32>,
) -> Result<bool, JsonError> {
    const DISAGREE: JsonError = JsonError::Invalid { what: "the parser contradicts itself" };
    nodes.reserve(tape.len());
    let mut compact = !input.last().is_some_and(|byte| is_space(*byte));
    for (place, &start) in structurals.iter().enumerate() {
        let at = start as usize;
        compact &= at == 0 || !is_space(input[at - 1]);
        match input[at] {
            b',' | b':' => continue,
            b'}' | b']' => {
                let behind = nodes.len() as u32;
                let node = open.pop().and_then(|place| nodes.get_mut(place as usize)).ok_or(DISAGREE)?;
                (node.end, node.next) = (start + 1, behind);
                continue;
            }
            _ => {}
        }
        let behind = nodes.len() as u32 + 1;
        let value = match tape.get(nodes.len()).ok_or(DISAGREE)? {
            tape::Node::Object { .. } => Value::Object,
            tape::Node::Array { .. } => Value::Array,
            tape::Node::Static(scalar) => Value::Scalar(*scalar),
            tape::Node::String("") => Value::Text { at: 0, len: 0 },
            tape::Node::String(text) => {
                Value::Text { at: (text.as_ptr() as usize - base) as u32, len: text.len() as u32 }
            }
        };
        let end = match value {
            Value::Array | Value::Object => {
                open.push(nodes.len() as u32);
                start
            }
            _ => {
                let limit = structurals.get(place + 1).map_or(input.len(), |next| *next as usize);
                let spaces = input[at..limit].iter().rev().take_while(|byte| is_space(**byte)).count();
                (limit - spaces) as u32
            }
        };
        nodes.push(Node { start, end, next: behind, value });
    }
    if nodes.len() != tape.len() || !open.is_empty() || nodes.is_empty() {
        return Err(DISAGREE);
    }
    Ok(compact)
}

/// White space as JSON knows it.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Puts the parser's error into words of ours.
fn explain(error: &simd_json::Error, input: &[u8]) -> JsonError {
    if input.starts_with(b"\xef\xbb\xbf") {
        return JsonError::At { at: 0, what: "a byte order mark is not accepted" };
    }
    if let Err(utf8) = std::str::from_utf8(input) {
        return JsonError::At { at: utf8.valid_up_to(), what: "not UTF-8" };
    }
    if input.iter().all(|byte| is_space(*byte)) {
        return JsonError::Invalid { what: "the document is empty" };
    }
    let at = error.index().min(input.len());
    let what = match error.error() {
        ErrorType::DepthLimitExceeded => return JsonError::TooDeep { at },
        ErrorType::InvalidEscape => "unknown escape in a string",
        ErrorType::InvalidUnicodeEscape => "a \\u escape needs four hexadecimal digits",
        ErrorType::InvalidUnicodeCodepoint => "a \\u escape that stands for no character (a lone surrogate?)",
        ErrorType::InvalidNumber | ErrorType::InvalidExponent | ErrorType::ExpectedNumber => {
            "not a JSON number"
        }
        ErrorType::ExpectedObjectColon => "expected ':' after a member's name",
        ErrorType::ExpectedObjectKey | ErrorType::BadKeyType | ErrorType::KeyMustBeAString => {
            "expected a member's name in double quotes"
        }
        ErrorType::ExpectedObjectContent | ErrorType::ExpectedMapComma | ErrorType::ExpectedMapEnd => {
            "expected a member, ',' or '}'"
        }
        ErrorType::ExpectedArrayContent | ErrorType::ExpectedArrayComma => "expected a value, ',' or ']'",
        ErrorType::ExpectedNull | ErrorType::ExpectedTrue | ErrorType::ExpectedFalse => {
            "expected null, true or false"
        }
        ErrorType::TrailingData => "more follows after the end of the document",
        ErrorType::Eof | ErrorType::UnterminatedString => "the document ends too early",
        _ if at == 0 => {
            return JsonError::Invalid {
                what: "an open string, a control character in a string, or a syntax error",
            };
        }
        _ => "syntax error",
    };
    JsonError::At { at, what }
}

#[cfg(test)]
mod tests;

//! The one JSON reader: request bodies and log messages alike.
//!
//! simd-json parses a scratch copy, because it unescapes strings in place; the pristine input is kept beside it.
//! One pass over its structural positions then gives every value its span in the pristine input, so that a
//! value can be taken over as the very bytes that were sent: no member reordered, no number rounded, duplicate
//! members kept. A [`Json`] is a copyable cursor to one value of a parsed document.
//!
//! Nesting is limited to [`MAX_DEPTH`], and nothing here recurses. All buffers are reused between parses.
//!
//! **Runs on** any thread; a reader belongs to one.
//!
//! **Not here**: printing of values. Stored JSON is never parsed and printed again.

mod escape;
mod minify;

pub use escape::escape_into;
pub use minify::minify;

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

/// What sort of value a [`Json`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// Any number
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

impl JsonKind {
    /// The kind with its article, for messages.
    pub fn name(self) -> &'static str {
        match self {
            JsonKind::Null => "null",
            JsonKind::Bool => "a boolean",
            JsonKind::Number => "a number",
            JsonKind::String => "a string",
            JsonKind::Array => "an array",
            JsonKind::Object => "an object",
        }
    }
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
        Ok(Json { reader: self, input, at: 0 })
    }

    /// Parses the document again in another spelling, or hands out the one just parsed when it is the same bytes.
    pub(crate) fn parse_again<'a>(&'a mut self, input: &'a [u8]) -> Result<Json<'a>, JsonError> {
        if !self.compact {
            self.fill(input)?;
        }
        Ok(Json { reader: self, input, at: 0 })
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

/// A value of a parsed document: a cursor, copyable, valid until the reader parses again.
#[derive(Clone, Copy)]
pub struct Json<'a> {
    reader: &'a JsonReader,
    input: &'a [u8],
    at: u32,
}

impl std::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.raw()))
    }
}

impl<'a> Json<'a> {
    fn node(&self) -> &'a Node {
        &self.reader.nodes[self.at as usize]
    }

    /// What sort of value this is.
    pub fn kind(&self) -> JsonKind {
        match self.node().value {
            Value::Scalar(StaticNode::Null) => JsonKind::Null,
            Value::Scalar(StaticNode::Bool(_)) => JsonKind::Bool,
            Value::Scalar(_) => JsonKind::Number,
            Value::Text { .. } => JsonKind::String,
            Value::Array => JsonKind::Array,
            Value::Object => JsonKind::Object,
        }
    }

    /// Exactly the bytes of this value in the input, from its first to its last character.
    pub fn raw(&self) -> &'a [u8] {
        let node = self.node();
        &self.input[node.start as usize..node.end as usize]
    }

    /// The unescaped text of a string.
    pub fn as_str(&self) -> Option<&'a str> {
        // The parser has checked the encoding; asking again is cheap for what is short and read once.
        std::str::from_utf8(self.text()?).ok()
    }

    /// The unescaped bytes of a string.
    pub(crate) fn text(&self) -> Option<&'a [u8]> {
        match self.node().value {
            Value::Text { at, len } => Some(&self.reader.scratch[at as usize..(at + len) as usize]),
            _ => None,
        }
    }

    /// A whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self.node().value {
            Value::Scalar(StaticNode::I64(number)) => Some(number),
            Value::Scalar(StaticNode::U64(number)) => i64::try_from(number).ok(),
            _ => None,
        }
    }

    /// A whole number that is not negative and fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self.node().value {
            Value::Scalar(StaticNode::I64(number)) => u64::try_from(number).ok(),
            Value::Scalar(StaticNode::U64(number)) => Some(number),
            _ => None,
        }
    }

    /// Any number, rounded to the nearest double where it has to be.
    pub fn as_f64(&self) -> Option<f64> {
        match self.node().value {
            Value::Scalar(StaticNode::I64(number)) => Some(number as f64),
            Value::Scalar(StaticNode::U64(number)) => Some(number as f64),
            Value::Scalar(StaticNode::F64(number)) => Some(number),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node().value {
            Value::Scalar(StaticNode::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.node().value, Value::Scalar(StaticNode::Null))
    }

    /// The members of an object in the order sent, duplicates included.
    pub fn object(&self) -> Option<Members<'a>> {
        matches!(self.node().value, Value::Object).then(|| Members(self.inside()))
    }

    /// The elements of an array.
    pub fn array(&self) -> Option<Elements<'a>> {
        matches!(self.node().value, Value::Array).then(|| self.inside())
    }

    /// The member of that name, the last one where it occurs more than once.
    pub fn get(&self, name: &str) -> Option<Json<'a>> {
        let mut found = None;
        for (key, value) in Members(self.object()?.0).raw_names() {
            if key == name.as_bytes() {
                found = Some(value);
            }
        }
        found
    }

    fn inside(&self) -> Elements<'a> {
        Elements { reader: self.reader, input: self.input, at: self.at + 1, end: self.node().next }
    }
}

/// The elements of an array.
#[derive(Clone)]
pub struct Elements<'a> {
    reader: &'a JsonReader,
    input: &'a [u8],
    at: u32,
    end: u32,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        if self.at >= self.end {
            return None;
        }
        let value = Json { reader: self.reader, input: self.input, at: self.at };
        self.at = value.node().next;
        Some(value)
    }
}

/// The members of an object.
#[derive(Clone)]
pub struct Members<'a>(Elements<'a>);

impl<'a> Members<'a> {
    /// The members with the bytes of their names, which spares checking the encoding again.
    pub(crate) fn raw_names(mut self) -> impl Iterator<Item = (&'a [u8], Json<'a>)> {
        std::iter::from_fn(move || {
            let name = self.0.next()?;
            Some((name.text()?, self.0.next()?))
        })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Json<'a>);

    fn next(&mut self) -> Option<(&'a str, Json<'a>)> {
        let name = self.0.next()?;
        Some((name.as_str()?, self.0.next()?))
    }
}

#[cfg(test)]
mod tests;

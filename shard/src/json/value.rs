//! Values of a parsed document: cursors that copy nothing.

use super::{JsonReader, Node, Value};
use simd_json::StaticNode;

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
    /// The root of the document that the reader has just parsed from `input`.
    pub(super) fn root(reader: &'a JsonReader, input: &'a [u8]) -> Json<'a> {
        Json { reader, input, at: 0 }
    }

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

//! Log bytes into mutations.
//!
//! Tolerant of what other producers do (extra members, white space, any member order, `null` for what is
//! absent), strict about what would make replicas differ or a record unreadable. Every refusal is a pure
//! function of the bytes, so all replicas refuse alike.

use super::{FORMAT_VERSION, Mutation, Operation};
use crate::json::{Json, JsonError, JsonKind, JsonReader, minify};
use crate::key::{KeyError, check_key};

/// Why a message is skipped. It is counted and the partition goes on: nothing of the message is applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The producer wrote something else than JSON; find it by the offset.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The message comes from a newer build; upgrade this node and rebuild the partition.
    #[error("message format {found} is unknown; this build reads format {FORMAT_VERSION}")]
    Version {
        /// The member `v` as it was sent.
        found: String,
    },
    /// The producer left a member out or gave it another type.
    #[error("member `{member}` must be {expected}")]
    Member {
        /// The member's name.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The producer chose a key that cannot be stored.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An operation belongs to another partition; the producer uses another partition function or mixes keys.
    #[error("an operation on pk {pk:?} does not belong to the message's partition")]
    ForeignPartition {
        /// The pk of the operation.
        pk: String,
    },
}

/// Decodes messages, one at a time, into reused buffers.
#[derive(Default)]
pub struct MutationDecoder {
    reader: JsonReader,
    compacted: Vec<u8>,
}

impl MutationDecoder {
    /// A decoder with empty buffers.
    pub fn new() -> MutationDecoder {
        MutationDecoder::default()
    }

    /// Decodes one message. `data` of the result is minified, and keys are checked.
    ///
    /// # Errors
    /// [`DecodeError`] for everything that is not a mutation of this format.
    pub fn decode<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Mutation<'a>, DecodeError> {
        self.reader.parse(bytes)?;
        let bytes = if self.reader.is_compact() {
            bytes
        } else {
            // Rare: only foreign producers send white space. Without it, spans are minified as they are.
            self.compacted.clear();
            minify(bytes, &mut self.compacted);
            self.compacted.as_slice()
        };
        let root = self.reader.parse_again(bytes)?;
        decode_message(&Members::read(root)?)
    }
}

/// The members that a message or an operation may have.
#[derive(Default)]
struct Members<'a> {
    version: Option<Json<'a>>,
    kind: Option<Json<'a>>,
    pk: Option<Json<'a>>,
    sk: Option<Json<'a>>,
    data: Option<Json<'a>>,
    condition: Option<Json<'a>>,
    operations: Option<Json<'a>>,
}

impl<'a> Members<'a> {
    fn read(json: Json<'a>) -> Result<Members<'a>, DecodeError> {
        let mut members = Members::default();
        let Some(object) = json.object() else {
            return Err(DecodeError::Member { member: "(message or operation)", expected: "an object" });
        };
        for (name, value) in object.raw_names() {
            let place = match name {
                b"pk" => &mut members.pk,
                b"sk" => &mut members.sk,
                b"data" => &mut members.data,
                b"mutation" | b"op" => &mut members.kind,
                b"if" => &mut members.condition,
                b"ops" => &mut members.operations,
                b"v" => &mut members.version,
                _ => continue,
            };
            // A member that is null is as good as absent.
            *place = Some(value).filter(|value| !value.is_null());
        }
        Ok(members)
    }

    fn kind(&self) -> Option<&'a str> {
        self.kind.and_then(|kind| kind.as_str())
    }
}

fn decode_message<'a>(members: &Members<'a>) -> Result<Mutation<'a>, DecodeError> {
    if let Some(version) = members.version
        && version.as_u64() != Some(FORMAT_VERSION)
    {
        let found = String::from_utf8_lossy(version.raw()).chars().take(32).collect();
        return Err(DecodeError::Version { found });
    }
    if members.kind() != Some("batch") {
        return Ok(Mutation::One(decode_operation(members)?));
    }
    let operations = members.operations.and_then(|operations| operations.array()).ok_or(EXPECTED_OPS)?;
    let operations = operations
        .map(|operation| decode_operation(&Members::read(operation)?))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    if operations.is_empty() {
        return Err(EXPECTED_OPS);
    }
    Ok(Mutation::Batch(operations))
}

const EXPECTED_OPS: DecodeError =
    DecodeError::Member { member: "ops", expected: "an array of at least one operation" };

fn decode_operation<'a>(members: &Members<'a>) -> Result<Operation<'a>, DecodeError> {
    let pk = text(members.pk, "pk")?;
    let sk = text(members.sk, "sk")?;
    let condition = match members.condition {
        None => None,
        Some(condition) => Some(text(Some(condition), "if")?).filter(|condition| !condition.is_empty()),
    };
    let operation = match members.kind() {
        Some("put") => {
            let data = members.data.filter(|data| data.kind() == JsonKind::Object);
            let data = data.ok_or(DecodeError::Member { member: "data", expected: "an object" })?.raw();
            Operation::Put { pk, sk, data, condition }
        }
        Some("delete") => Operation::Delete { pk, sk, condition },
        _ => return Err(DecodeError::Member { member: "mutation", expected: "put, delete or batch" }),
    };
    check_key(pk, sk)?;
    Ok(operation)
}

fn text<'a>(member: Option<Json<'a>>, name: &'static str) -> Result<&'a str, DecodeError> {
    let text = member.and_then(|member| member.as_str());
    text.ok_or(DecodeError::Member { member: name, expected: "a string" })
}

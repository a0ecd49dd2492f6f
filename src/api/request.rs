//! Request bodies, parsed once at the edge into what the log and the stores take.
//!
//! body bytes → `JsonReader` cursor → checked members → log messages (writes), a [`KeyList`] (get), a [`ListRequest`].
//! Everything that can be wrong with a request is found here, before anything is logged; an error names the record's
//! index, its keys where they are known, what was wrong and what is accepted.
//!
//! Invariants: a message made here is one that `apply` decodes; nothing is returned of a request that has any fault.
//! Runs on: serving cores for small bodies, the parsing thread (`api::offload`) for large ones.
//! Not here: reading the body, and sending messages.

use std::num::NonZeroU32;
use std::rc::Rc;

use bytes::Bytes;
use firescroll_io::log::Message;
use firescroll_shard::{
    Condition, Conditions, Json, JsonReader, Operation, PartitionId, check_key, encode_batch, encode_delete,
    encode_put, minify, partition_of,
};

use super::usual;
use crate::error::ApiError;
use crate::keys::KeyList;

type Result<T> = std::result::Result<T, ApiError>;

/// The most characters of a client's text that a refusal repeats.
const LONGEST_SHOWN: usize = 200;

/// A parsed `POST /records/list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Partition of `pk`.
    pub partition: PartitionId,
    /// The partition key to list over.
    pub pk: String,
    /// Sort keys start with this; one that equals it is skipped.
    pub sk_prefix: String,
    /// Exclusive lower bound.
    pub sk_after: Option<String>,
    /// Exclusive upper bound.
    pub sk_before: Option<String>,
    /// From the greatest sort key to the least.
    pub reverse: bool,
    /// Greatest number of matching records; 0 for all.
    pub limit: u64,
    /// The text of a condition that has been checked.
    pub condition: Option<String>,
    /// Whether the first record that fails the condition ends the listing.
    pub if_stop: bool,
}

/// Parses bodies; holds the buffers and compiled conditions that make it cheap.
pub struct Parser {
    json: JsonReader,
    conditions: Conditions,
    partitions: NonZeroU32,
    max_message_bytes: usize,
}

impl Parser {
    /// A parser for a namespace of `partitions`, whose log takes messages of at most `max_message_bytes`.
    #[must_use]
    pub fn new(partitions: NonZeroU32, max_message_bytes: usize) -> Self {
        Self { json: JsonReader::new(), conditions: Conditions::default(), partitions, max_message_bytes }
    }

    /// `POST /records/put`: one message a record. `now_ms` is the sender's time, for the message's `ts_ms`.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn put(&mut self, body: &[u8], now_ms: i64) -> Result<Vec<Message>> {
        let Self { json, conditions, partitions, max_message_bytes } = self;
        let root = parse(json, body)?;
        let mut messages = Vec::new();
        let mut data = Vec::new();
        for (index, item) in members(root, "Records")?.enumerate() {
            let place = Place { list: "Records", index };
            let fields = Fields::read(item, place)?;
            fields.check(place, conditions)?;
            data.clear();
            minify(fields.data(place)?, &mut data);
            let mut value = Vec::with_capacity(data.len() + fields.pk.len() + fields.sk.len() + 96);
            encode_put(&mut value, fields.pk, fields.sk, &data, fields.condition, now_ms);
            messages.push(fields.message(place, value, *partitions, *max_message_bytes)?);
        }
        Ok(messages)
    }

    /// `POST /records/delete`: one message a record.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn delete(&mut self, body: &[u8], now_ms: i64) -> Result<Vec<Message>> {
        let Self { json, conditions, partitions, max_message_bytes } = self;
        let root = parse(json, body)?;
        let mut messages = Vec::new();
        for (index, item) in members(root, "Records")?.enumerate() {
            let place = Place { list: "Records", index };
            let fields = Fields::read(item, place)?;
            fields.check(place, conditions)?;
            let mut value = Vec::with_capacity(fields.pk.len() + fields.sk.len() + 96);
            encode_delete(&mut value, fields.pk, fields.sk, fields.condition, now_ms);
            messages.push(fields.message(place, value, *partitions, *max_message_bytes)?);
        }
        Ok(messages)
    }

    /// `POST /records/batch`: one message for all operations, which must be of one partition.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn batch(&mut self, body: &[u8], now_ms: i64) -> Result<Vec<Message>> {
        let Self { json, conditions, partitions, max_message_bytes } = self;
        let root = parse(json, body)?;
        let mut rows = Vec::new();
        for (index, item) in members(root, "Operations")?.enumerate() {
            let place = Place { list: "Operations", index };
            let fields = Fields::read(item, place)?;
            fields.check(place, conditions)?;
            let data = match fields.op {
                Some("put") => {
                    let raw = fields.data(place)?;
                    let mut data = Vec::with_capacity(raw.len());
                    minify(raw, &mut data);
                    Some(data)
                }
                Some("delete") => None,
                Some(other) => {
                    return Err(place
                        .wrong(&format!("`op` is {}; accepted are \"put\" and \"delete\"", shown(other))));
                }
                None => return Err(place.wrong("`op` is missing; accepted are \"put\" and \"delete\"")),
            };
            rows.push((fields, data));
        }
        let first = &rows[0].0;
        let home = partition_of(first.pk.as_bytes(), *partitions);
        for (index, (fields, _)) in rows.iter().enumerate() {
            let partition = partition_of(fields.pk.as_bytes(), *partitions);
            if partition != home {
                return Err(ApiError::Invalid(format!(
                    "a batch must fall in one partition: Operations[0] (pk {}) is in partition {home}, \
                     Operations[{index}] (pk {}) is in partition {partition}",
                    shown(first.pk),
                    shown(fields.pk)
                )));
            }
        }
        let operations: Vec<Operation<'_>> = rows
            .iter()
            .map(|(fields, data)| match data {
                Some(data) => {
                    Operation::Put { pk: fields.pk, sk: fields.sk, data, condition: fields.condition }
                }
                None => Operation::Delete { pk: fields.pk, sk: fields.sk, condition: fields.condition },
            })
            .collect();
        let mut value = Vec::with_capacity(body.len() + 64);
        encode_batch(&mut value, &operations, now_ms);
        let bytes = message_bytes(first.pk, &value);
        if bytes > *max_message_bytes {
            return Err(ApiError::TooLarge(format!(
                "the batch is a log message of {bytes} bytes, the log takes {max_message_bytes}; send fewer operations"
            )));
        }
        Ok(vec![Message {
            partition: home.0,
            key: Bytes::copy_from_slice(first.pk.as_bytes()),
            value: value.into(),
        }])
    }

    /// `PUT /records/{pk}/{sk}`: the body is the record's `Data`.
    ///
    /// # Errors
    /// Whatever is wrong with the keys or the body.
    pub fn put_one(&mut self, pk: &str, sk: &str, body: &[u8], now_ms: i64) -> Result<Vec<Message>> {
        let root = parse(&mut self.json, body)?;
        if root.object().is_none() {
            return Err(ApiError::Invalid(format!(
                "the body is the record's Data and must be a JSON object, found {}",
                describe(root)
            )));
        }
        let mut data = Vec::with_capacity(root.raw().len());
        minify(root.raw(), &mut data);
        let mut value = Vec::with_capacity(data.len() + pk.len() + sk.len() + 96);
        encode_put(&mut value, pk, sk, &data, None, now_ms);
        self.one(pk, sk, value)
    }

    /// `DELETE /records/{pk}/{sk}`.
    ///
    /// # Errors
    /// Whatever is wrong with the keys.
    pub fn delete_one(&mut self, pk: &str, sk: &str, now_ms: i64) -> Result<Vec<Message>> {
        let mut value = Vec::with_capacity(pk.len() + sk.len() + 96);
        encode_delete(&mut value, pk, sk, None, now_ms);
        self.one(pk, sk, value)
    }

    fn one(&self, pk: &str, sk: &str, value: Vec<u8>) -> Result<Vec<Message>> {
        check_key(pk, sk).map_err(|error| ApiError::Invalid(error.to_string()))?;
        let bytes = message_bytes(pk, &value);
        if bytes > self.max_message_bytes {
            return Err(too_large("the record", bytes, self.max_message_bytes));
        }
        Ok(vec![Message {
            partition: partition_of(pk.as_bytes(), self.partitions).0,
            key: Bytes::copy_from_slice(pk.as_bytes()),
            value: value.into(),
        }])
    }

    /// `POST /records/get`: the keys, added to `keys` (which the caller has cleared), and `allow_partial`.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn get(&mut self, body: &[u8], keys: &mut KeyList) -> Result<bool> {
        if usual::get(body, self.partitions, keys).is_some() {
            return Ok(false);
        }
        keys.clear();
        self.get_any(body, keys)
    }

    /// The same for a body of any form.
    pub(super) fn get_any(&mut self, body: &[u8], keys: &mut KeyList) -> Result<bool> {
        let root = parse(&mut self.json, body)?;
        let mut allow_partial = false;
        for (name, value) in object(root)? {
            if name == "allow_partial" {
                allow_partial = boolean(name, value)?;
            }
        }
        for (index, item) in members(root, "Records")?.enumerate() {
            let place = Place { list: "Records", index };
            let (pk, sk) = key_members(item, place)?;
            check_key(pk, sk).map_err(|error| place.wrong(&error.to_string()))?;
            keys.push(pk, sk, self.partitions);
        }
        Ok(allow_partial)
    }

    /// `POST /records/list`.
    ///
    /// # Errors
    /// Whatever is wrong with the body.
    pub fn list(&mut self, body: &[u8]) -> Result<ListRequest> {
        let Self { json, conditions, partitions, .. } = self;
        let root = parse(json, body)?;
        let mut pk = None;
        let mut request = ListRequest {
            partition: PartitionId(0),
            pk: String::new(),
            sk_prefix: String::new(),
            sk_after: None,
            sk_before: None,
            reverse: false,
            limit: 0,
            condition: None,
            if_stop: false,
        };
        for (name, value) in object(root)? {
            if value.is_null() && !matches!(name, "pk" | "Pk") {
                continue;
            }
            match name {
                "pk" | "Pk" => pk = Some(string(name, value)?),
                "sk_prefix" => request.sk_prefix = string(name, value)?.to_owned(),
                "sk_after" => request.sk_after = Some(string(name, value)?.to_owned()),
                "sk_before" => request.sk_before = Some(string(name, value)?.to_owned()),
                "reverse" => request.reverse = boolean(name, value)?,
                "if_stop" => request.if_stop = boolean(name, value)?,
                "if" | "If" => {
                    let text = string(name, value)?;
                    request.condition = (!text.is_empty()).then(|| text.to_owned());
                }
                "limit" => {
                    request.limit = value.as_u64().ok_or_else(|| {
                        ApiError::Invalid(format!(
                            "`limit` must be a whole number from 0 (no limit), found {}",
                            shown(&String::from_utf8_lossy(value.raw()))
                        ))
                    })?;
                }
                _ => {}
            }
        }
        let pk =
            pk.ok_or_else(|| ApiError::Invalid("`pk` is missing: the partition key to list over".into()))?;
        // The sort key is not part of a listing's address, so that only pk is checked.
        check_key(pk, "-").map_err(|error| ApiError::Invalid(error.to_string()))?;
        for (name, bound) in [
            ("sk_prefix", Some(&request.sk_prefix)),
            ("sk_after", request.sk_after.as_ref()),
            ("sk_before", request.sk_before.as_ref()),
        ] {
            if bound.is_some_and(|text| text.contains('\0')) {
                return Err(ApiError::Invalid(format!("`{name}` holds a NUL; sort keys cannot")));
            }
        }
        if let Some(text) = &request.condition {
            conditions.get(text).map_err(|error| ApiError::Invalid(format!("`if`: {error}")))?;
        }
        request.partition = partition_of(pk.as_bytes(), *partitions);
        request.pk = pk.to_owned();
        Ok(request)
    }

    /// The compiled form of a condition that a request of this namespace has passed.
    ///
    /// # Errors
    /// Whatever is wrong with the condition.
    pub fn condition(&mut self, text: &str) -> Result<Rc<Condition>> {
        self.conditions.get(text).map_err(|error| ApiError::Invalid(format!("`if`: {error}")))
    }
}

/// Where in a request a fault is.
#[derive(Clone, Copy)]
struct Place {
    list: &'static str,
    index: usize,
}

impl Place {
    fn wrong(self, what: &str) -> ApiError {
        ApiError::Invalid(format!("{}[{}]: {what}", self.list, self.index))
    }
}

/// The members of one record or operation.
struct Fields<'a> {
    pk: &'a str,
    sk: &'a str,
    data: Option<Json<'a>>,
    condition: Option<&'a str>,
    op: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(item: Json<'a>, place: Place) -> Result<Self> {
        let (pk, sk) = key_members(item, place)?;
        let mut fields = Self { pk, sk, data: None, condition: None, op: None };
        for (name, value) in item.object().into_iter().flatten() {
            match name {
                "data" | "Data" => fields.data = Some(value),
                "op" | "Op" => fields.op = Some(text_member(name, value, place)?),
                "if" | "If" if !value.is_null() => {
                    let text = text_member(name, value, place)?;
                    fields.condition = (!text.is_empty()).then_some(text);
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    fn check(&self, place: Place, conditions: &mut Conditions) -> Result<()> {
        check_key(self.pk, self.sk).map_err(|error| self.wrong(place, &error.to_string()))?;
        if let Some(text) = self.condition {
            conditions.get(text).map_err(|error| self.wrong(place, &format!("`if`: {error}")))?;
        }
        Ok(())
    }

    fn data(&self, place: Place) -> Result<&'a [u8]> {
        let Some(data) = self.data else {
            return Err(self.wrong(place, "`data` is missing; accepted is a JSON object"));
        };
        if data.object().is_none() {
            return Err(self.wrong(place, &format!("`data` must be a JSON object, found {}", describe(data))));
        }
        Ok(data.raw())
    }

    fn message(&self, place: Place, value: Vec<u8>, partitions: NonZeroU32, limit: usize) -> Result<Message> {
        let bytes = message_bytes(self.pk, &value);
        if bytes > limit {
            let what =
                format!("{}[{}] (pk {}, sk {})", place.list, place.index, shown(self.pk), shown(self.sk));
            return Err(too_large(&what, bytes, limit));
        }
        Ok(Message {
            partition: partition_of(self.pk.as_bytes(), partitions).0,
            key: Bytes::copy_from_slice(self.pk.as_bytes()),
            value: value.into(),
        })
    }

    fn wrong(&self, place: Place, what: &str) -> ApiError {
        place.wrong(&format!("(pk {}, sk {}) {what}", shown(self.pk), shown(self.sk)))
    }
}

/// A client's text as a refusal repeats it: in quotes, and cut where nobody would read on.
fn shown(text: &str) -> String {
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// What the log counts against its limit: the key, which is the partition key, and the value.
fn message_bytes(pk: &str, value: &[u8]) -> usize {
    pk.len() + value.len()
}

fn too_large(what: &str, bytes: usize, limit: usize) -> ApiError {
    ApiError::TooLarge(format!("{what} is a log message of {bytes} bytes, the log takes at most {limit}"))
}

fn parse<'a>(json: &'a mut JsonReader, body: &'a [u8]) -> Result<Json<'a>> {
    json.parse(body).map_err(|error| ApiError::Invalid(format!("the body is not JSON: {error}")))
}

fn object<'a>(root: Json<'a>) -> Result<impl Iterator<Item = (&'a str, Json<'a>)>> {
    root.object()
        .ok_or_else(|| ApiError::Invalid(format!("the body must be a JSON object, found {}", describe(root))))
}

/// The elements of the list that the whole request is about.
fn members<'a>(root: Json<'a>, list: &'static str) -> Result<impl Iterator<Item = Json<'a>>> {
    let mut found = None;
    for (name, value) in object(root)? {
        // `Records` or `records`: the first letter alone may differ.
        if name.eq_ignore_ascii_case(list) && name.as_bytes()[1..] == list.as_bytes()[1..] {
            found = Some(value);
        }
    }
    let value =
        found.ok_or_else(|| ApiError::Invalid(format!("`{list}` is missing: a list of at least one")))?;
    let mut items = value
        .array()
        .ok_or_else(|| ApiError::Invalid(format!("`{list}` must be a list, found {}", describe(value))))?
        .peekable();
    if items.peek().is_none() {
        return Err(ApiError::Invalid(format!("`{list}` is empty; send at least one")));
    }
    Ok(items)
}

fn key_members<'a>(item: Json<'a>, place: Place) -> Result<(&'a str, &'a str)> {
    let (mut pk, mut sk) = (None, None);
    let members =
        item.object().ok_or_else(|| place.wrong(&format!("must be an object, found {}", describe(item))))?;
    for (name, value) in members {
        match name {
            "pk" | "Pk" => pk = Some(text_member(name, value, place)?),
            "sk" | "Sk" => sk = Some(text_member(name, value, place)?),
            _ => {}
        }
    }
    match (pk, sk) {
        (Some(pk), Some(sk)) => Ok((pk, sk)),
        (None, _) => Err(place.wrong("`pk` is missing; accepted is a string")),
        (Some(pk), None) => {
            Err(place.wrong(&format!("(pk {}) `sk` is missing; accepted is a string", shown(pk))))
        }
    }
}

fn text_member<'a>(name: &str, value: Json<'a>, place: Place) -> Result<&'a str> {
    value
        .as_str()
        .ok_or_else(|| place.wrong(&format!("`{name}` must be a string, found {}", describe(value))))
}

fn string<'a>(name: &str, value: Json<'a>) -> Result<&'a str> {
    value
        .as_str()
        .ok_or_else(|| ApiError::Invalid(format!("`{name}` must be a string, found {}", describe(value))))
}

fn boolean(name: &str, value: Json<'_>) -> Result<bool> {
    value.as_bool().ok_or_else(|| {
        ApiError::Invalid(format!("`{name}` must be true or false, found {}", describe(value)))
    })
}

fn describe(value: Json<'_>) -> &'static str {
    match value.raw().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

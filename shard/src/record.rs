//! Records: the stored bytes, and the rendered form that a get returns.
//!
//! Stored: version byte (1), created (i64 LE, Unix ms), updated (i64 LE, Unix ms), offset of the mutation
//! that wrote the row (u64 LE), then the data's JSON bytes as they were sent, white space aside. The layout
//! is a promise: every replica holds the same bytes, and state hashes are taken over them.
//!
//! Rendered: the JSON fragment `{"Pk":…,"Sk":…,"Data":…,"CreatedAt":…,"UpdatedAt":…}`. The record cache holds
//! rendered records, so that a cached get is one copy of bytes. The encoded key stands right in front of the
//! fragment: comparing the key of a lookup brings the fragment's first bytes into the CPU's cache.
//!
//! **Runs on** any thread; pure.

use crate::json::escape_into;
use crate::key::{Offset, encode_key};
use crate::timestamp::{RFC3339_LEN, rfc3339};
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

/// The layout that this build writes, and the only one that it reads.
const VERSION: u8 = 1;
/// Bytes in front of the data.
pub(crate) const HEADER_BYTES: usize = 1 + 8 + 8 + 8;

/// What the log says about a record besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When the log received the put that created the record, Unix milliseconds.
    pub created_ms: i64,
    /// When the log received the put that wrote the data, Unix milliseconds.
    pub updated_ms: i64,
    /// Offset of that put in the record's partition.
    pub offset: Offset,
}

/// Why stored bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The row is damaged: the partition must be rebuilt from the log or a backup.
    #[error("a stored record of {bytes} bytes is shorter than its header of {HEADER_BYTES}")]
    Short {
        /// Bytes found.
        bytes: usize,
    },
    /// The row was written by a newer build, or is damaged; run the build that wrote it.
    #[error("stored record version {version} is unknown; this build reads version {VERSION}")]
    Version {
        /// The version byte found.
        version: u8,
    },
}

/// The stored bytes of a record. Source of `data`: a minified JSON object.
pub fn encode_record(meta: &Meta, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + data.len());
    encode_record_into(meta, data, &mut out);
    out.freeze()
}

/// Appends the stored bytes of a record to `out`.
pub(crate) fn encode_record_into(meta: &Meta, data: &[u8], out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_i64_le(meta.created_ms);
    out.put_i64_le(meta.updated_ms);
    out.put_u64_le(meta.offset.0);
    out.put_slice(data);
}

/// A decoded view of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Times and offset.
    pub meta: Meta,
    /// The data's JSON bytes.
    pub data: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Reads the header of stored bytes; the data is not looked at.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no record of this layout.
    pub fn decode(bytes: &'a [u8]) -> Result<Stored<'a>, RecordError> {
        let short = RecordError::Short { bytes: bytes.len() };
        let (version, rest) = bytes.split_first().ok_or(short)?;
        if *version != VERSION {
            return Err(RecordError::Version { version: *version });
        }
        let (created, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let (updated, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let (offset, data) = rest.split_first_chunk::<8>().ok_or(short)?;
        let meta = Meta {
            created_ms: i64::from_le_bytes(*created),
            updated_ms: i64::from_le_bytes(*updated),
            offset: Offset(u64::from_le_bytes(*offset)),
        };
        Ok(Stored { meta, data })
    }
}

/// A record as a get returns it: rendered, immutable, cheap to clone and to send to another core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The encoded key, then the fragment.
    bytes: Bytes,
    json_start: u32,
    data_start: u32,
    data_end: u32,
    meta: Meta,
}

impl Record {
    /// Renders a stored record.
    pub fn render(pk: &str, sk: &str, stored: &Stored<'_>) -> Record {
        let key_len = pk.len() + 1 + sk.len();
        let mut bytes = Vec::with_capacity(key_len + rendered_len(pk, sk, stored));
        encode_key(pk, sk, &mut bytes);
        debug_assert_eq!(bytes.len(), key_len);
        let data = render_into(pk, sk, stored, &mut bytes);
        let narrow =
            |at: usize| u32::try_from(at).expect("a record is far smaller than 4 GiB: the log bounds it");
        Record {
            json_start: narrow(key_len),
            data_start: narrow(data.start),
            data_end: narrow(data.end),
            bytes: Bytes::from(bytes),
            meta: stored.meta,
        }
    }

    /// The whole fragment, an object with `Pk`, `Sk`, `Data`, `CreatedAt` and `UpdatedAt`.
    pub fn json(&self) -> &[u8] {
        &self.bytes[self.json_start as usize..]
    }

    /// The encoded key, as a slice that shares the record's memory.
    pub(crate) fn key_bytes(&self) -> Bytes {
        self.bytes.slice(..self.json_start as usize)
    }

    /// The data's JSON bytes alone.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.data_range()]
    }

    /// The data's JSON bytes as a slice that shares the record's memory.
    pub fn data_bytes(&self) -> Bytes {
        self.bytes.slice(self.data_range())
    }

    /// Times and offset.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The record in the form that conditions are evaluated on.
    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { meta: self.meta, data: self.data() }
    }

    fn data_range(&self) -> Range<usize> {
        self.data_start as usize..self.data_end as usize
    }
}

/// The length of the rendered form when nothing in pk and sk has to be escaped.
fn rendered_len(pk: &str, sk: &str, stored: &Stored<'_>) -> usize {
    const FRAME: usize = r#"{"Pk":"","Sk":"","Data":,"CreatedAt":"","UpdatedAt":""}"#.len();
    FRAME + pk.len() + sk.len() + stored.data.len() + 2 * RFC3339_LEN
}

/// Appends the rendered form to `out` and says where in it the data lies.
pub(crate) fn render_into(pk: &str, sk: &str, stored: &Stored<'_>, out: &mut Vec<u8>) -> Range<usize> {
    out.reserve(rendered_len(pk, sk, stored));
    out.extend_from_slice(br#"{"Pk":"#);
    escape_into(pk, out);
    out.extend_from_slice(br#","Sk":"#);
    escape_into(sk, out);
    out.extend_from_slice(br#","Data":"#);
    let start = out.len();
    out.extend_from_slice(stored.data);
    let end = out.len();
    let mut tail = *br#","CreatedAt":"0000-00-00T00:00:00.000Z","UpdatedAt":"0000-00-00T00:00:00.000Z"}"#;
    const CREATED: usize = r#","CreatedAt":""#.len();
    const UPDATED: usize = CREATED + RFC3339_LEN + r#"","UpdatedAt":""#.len();
    tail[CREATED..CREATED + RFC3339_LEN].copy_from_slice(&rfc3339(stored.meta.created_ms));
    tail[UPDATED..UPDATED + RFC3339_LEN].copy_from_slice(&rfc3339(stored.meta.updated_ms));
    out.extend_from_slice(&tail);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta { created_ms: 1, updated_ms: 1_767_323_045_678, offset: Offset(258) };

    #[test]
    fn golden_bytes() {
        let bytes = encode_record(&META, b"{\"a\":1}");
        let golden = b"\x01\x01\0\0\0\0\0\0\0\x2e\x8f\xa9\x7c\x9b\x01\0\0\x02\x01\0\0\0\0\0\0{\"a\":1}";
        assert_eq!(bytes.as_ref(), golden.as_slice());
        assert_eq!(Stored::decode(&bytes), Ok(Stored { meta: META, data: b"{\"a\":1}" }));
    }

    #[test]
    fn damaged_bytes_are_told() {
        assert_eq!(Stored::decode(b""), Err(RecordError::Short { bytes: 0 }));
        assert_eq!(Stored::decode(&[1; HEADER_BYTES - 1]), Err(RecordError::Short { bytes: 24 }));
        assert_eq!(Stored::decode(&[2; HEADER_BYTES]), Err(RecordError::Version { version: 2 }));
    }

    #[test]
    fn rendering_escapes_keys_and_keeps_data() {
        let record = Record::render("p\"k", "s\nk", &Stored { meta: META, data: b"{\"n\":1.10}" });
        let expected = concat!(
            r#"{"Pk":"p\"k","Sk":"s\nk","Data":{"n":1.10},"CreatedAt":"1970-01-01T00:00:00.001Z","#,
            r#""UpdatedAt":"2026-01-02T03:04:05.678Z"}"#
        );
        assert_eq!(std::str::from_utf8(record.json()), Ok(expected));
        assert_eq!(record.data(), b"{\"n\":1.10}");
        assert_eq!(record.data_bytes().as_ref(), b"{\"n\":1.10}");
        assert_eq!(record.meta(), META);
    }

    #[test]
    fn the_reserved_length_is_exact() {
        let stored = Stored { meta: META, data: b"{}" };
        let mut out = Vec::new();
        render_into("pk", "sk", &stored, &mut out);
        assert_eq!(out.len(), rendered_len("pk", "sk", &stored));
    }
}

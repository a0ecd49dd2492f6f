//! A segment file: `00000000000000000000.log`, numbered without gaps; a header, then records.
//!
//! ```text
//!  0 magic       8 bytes "FIRELOG\0"
//!  8 version     u32  1
//! 12 partitions  u32
//! 16 number      u64  the file's own
//! 24 created     i64  Unix ms, no less than the timestamp of any record in an earlier segment
//! 32 salt        u64  mixed into the checksum of every record
//! 40 previous    u64  bytes of the segment before this one, 0 if it is the first
//! 48 starts      u64 for each partition: its next offset when the segment was begun
//! .. crc         u32  CRC-32 (IEEE) over all of the above
//! ```
//! A segment is written under another name, synced, and only then named `.log`: a `.log` file always has a whole
//! header, and all segments before the last are durable to their last byte.
//!
//! **Runs on**: made by the writer thread and at open; read by any.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::LogFile;
use super::options::Platform;
use super::record::{Seed, u32_at, u64_at};
use crate::log::LogError;

const MAGIC: &[u8; 8] = b"FIRELOG\0";
const VERSION: u32 = 1;
const HEADER_FIXED: usize = 48;

/// The name of a segment that is still being made.
pub(crate) const UNFINISHED: &str = "new";

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) created_ms: i64,
    pub(crate) salt: u64,
    pub(crate) previous_len: u64,
    pub(crate) starts: Vec<u64>,
}

impl Header {
    /// Bytes of the header.
    pub(crate) fn len(&self) -> u64 {
        (HEADER_FIXED + 8 * self.starts.len() + 4) as u64
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.starts.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.previous_len.to_le_bytes());
        for start in &self.starts {
            out.extend_from_slice(&start.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of a file of `len` bytes; the error says what is wrong with it.
    fn read(file: &File, len: u64) -> io::Result<Result<Header, &'static str>> {
        let mut fixed = [0; HEADER_FIXED];
        if len < HEADER_FIXED as u64 {
            return Ok(Err("the file is shorter than a header"));
        }
        file.read_exact_at(&mut fixed, 0)?;
        if &fixed[..8] != MAGIC {
            return Ok(Err("the file is not a segment of the log"));
        }
        if u32_at(&fixed, 8) != VERSION {
            return Ok(Err("the segment's format version is unknown"));
        }
        let partitions = u32_at(&fixed, 12) as usize;
        let all = HEADER_FIXED + 8 * partitions + 4;
        if len < all as u64 {
            return Ok(Err("the file is shorter than its header"));
        }
        let mut bytes = vec![0; all];
        file.read_exact_at(&mut bytes, 0)?;
        if crc32fast::hash(&bytes[..all - 4]) != u32_at(&bytes, all - 4) {
            return Ok(Err("the header's checksum is wrong"));
        }
        Ok(Ok(Header {
            number: u64_at(&bytes, 16),
            created_ms: u64_at(&bytes, 24) as i64,
            salt: u64_at(&bytes, 32),
            previous_len: u64_at(&bytes, 40),
            starts: (0..partitions).map(|p| u64_at(&bytes, HEADER_FIXED + 8 * p)).collect(),
        }))
    }
}

/// A segment that can be read up to its durable length.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) seed: Seed,
    file: File,
    len: AtomicU64,
}

impl Segment {
    /// Opens an existing segment. Its durable length is that of the file, until recovery has looked at it.
    ///
    /// # Errors
    /// Damage, another partition count, or what the operating system says.
    pub(crate) fn open(dir: &Path, number: u64, partitions: u32) -> Result<Segment, LogError> {
        let path = path(dir, number);
        let failed = |action, source| LogError::Io { action, path: path.clone(), source };
        let file = File::open(&path).map_err(|e| failed("open", e))?;
        let len = file.metadata().map_err(|e| failed("look at", e))?.len();
        let damaged = |reason| LogError::Corrupt { path: path.clone(), position: 0, reason };
        let header = Header::read(&file, len).map_err(|e| failed("read", e))?.map_err(damaged)?;
        if header.number != number {
            return Err(damaged("the header belongs to another segment"));
        }
        if header.starts.len() != partitions as usize {
            return Err(LogError::PartitionCount {
                found: header.starts.len() as u32,
                configured: partitions,
            });
        }
        let seed = Seed::new(header.salt);
        Ok(Segment { path, header, seed, file, len: AtomicU64::new(len) })
    }

    /// Makes a new segment durable, header, name and all, before anything is written to it.
    pub(crate) fn create(
        platform: &Platform,
        dir: &Path,
        header: Header,
    ) -> Result<(Arc<Segment>, Box<dyn LogFile>), CreateError> {
        let path = path(dir, header.number);
        let unfinished = path.with_extension(UNFINISHED);
        let writer = platform.disk.create(&unfinished).map_err(CreateError::Write)?;
        writer.write_at(0, &header.encode()).map_err(CreateError::Write)?;
        writer.sync().map_err(CreateError::Sync)?;
        // The last thing that may fail and be tried again: once the name is there, the log goes on in this segment.
        let file = File::open(&unfinished).map_err(CreateError::Write)?;
        platform.disk.rename(&unfinished, &path).map_err(CreateError::Write)?;
        platform.disk.sync_dir(dir).map_err(CreateError::Sync)?;
        let (seed, len) = (Seed::new(header.salt), AtomicU64::new(header.len()));
        Ok((Arc::new(Segment { path, header, seed, file, len }), writer))
    }

    /// Its place in the log.
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    /// Bytes that are durable and may be read.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Publishes the durable length.
    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// Reads exactly `want` bytes, which the caller knows to be there.
    pub(crate) fn read(&self, position: u64, want: usize) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; want];
        self.file.read_exact_at(&mut bytes, position).map_err(|source| LogError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        Ok(bytes)
    }

    /// Damage at a position of this file.
    pub(crate) fn corrupt(&self, position: u64, reason: &'static str) -> LogError {
        LogError::Corrupt { path: self.path.clone(), position, reason }
    }
}

/// Why a segment could not be made.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// It may be tried again.
    Write(io::Error),
    /// The disk did not keep what it had taken; nothing may be assumed about it any more.
    Sync(io::Error),
}

impl CreateError {
    /// What the operating system said.
    pub(crate) fn into_source(self) -> io::Error {
        match self {
            CreateError::Write(source) | CreateError::Sync(source) => source,
        }
    }
}

/// Where a segment lies.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

/// The number in a segment's name; `None` for other files.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            number: 3,
            created_ms: 1_700_000_000_000,
            salt: 0x0102_0304_0506_0708,
            previous_len: 99,
            starts: vec![5, 0x0a0b],
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "464952454c4f4700",
                "01000000",
                "02000000",
                "0300000000000000",
                "0068e5cf8b010000",
                "0807060504030201",
                "6300000000000000",
                "0500000000000000",
                "0b0a000000000000",
                "bf203101"
            )
        );
    }

    #[test]
    fn a_header_comes_back_and_no_flipped_bit_passes() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let file_path = path(dir.path(), 3);
        let good = sample().encode();
        assert_eq!(good.len() as u64, sample().len());
        std::fs::write(&file_path, &good).expect("the scratch file is written");
        let segment = Segment::open(dir.path(), 3, 2).expect("a good header opens");
        assert_eq!(segment.header, sample());
        assert_eq!(segment.len(), good.len() as u64);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file_path, &bytes).expect("the scratch file is written");
            let error = Segment::open(dir.path(), 3, 2).expect_err("damage is found");
            assert!(matches!(error, LogError::Corrupt { position: 0, .. }), "bit {bit}: {error}");
        }
    }

    #[test]
    fn only_segment_names_are_segments() {
        assert_eq!(number_of("00000000000000000012.log"), Some(12));
        for other in [
            "lock",
            "12.log",
            "00000000000000000012.new",
            "0000000000000000001x.log",
            "+0000000000000000012.log",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
        let name = path(Path::new("d"), u64::MAX);
        assert_eq!(name.file_name().and_then(|n| n.to_str()).and_then(number_of), Some(u64::MAX));
    }
}

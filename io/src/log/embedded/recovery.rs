//! Opening a log: what is in the directory, and where does it end?
//!
//! The headers vouch for all segments but the last: their names have no gap and their lengths are those that the next
//! header states. The last segment is read through. What follows its last whole record is either the **torn tail** of a
//! group that was being written when the machine stopped, which nobody was told about and which is cut; or **damage**
//! to records that were durable, which is an error and stays as it is. The difference: a record is written only after
//! everything below its group was synced. So if a whole record exists behind the bad place whose group begins behind it,
//! the bad place was once durable. Zeros to the file's end are room that was made ahead, and cut as well.
//!
//! That leaves one case open: damage within the very last group looks like a torn tail. Then the log's end goes back, and
//! a store that has applied what was cut is told so when it asks for its offset.
//!
//! **Runs on**: the thread that opens the log, before anything else does.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::disk::LogFile;
use super::options::{EmbeddedOptions, Platform};
use super::reader::CHUNK;
use super::record::{self, Parsed, RECORD_FIXED, Record};
use super::segment::{self, Header, Segment, UNFINISHED};
use crate::log::LogError;

/// What was found.
pub(crate) struct Recovered {
    /// Oldest first, never empty; the last is to be continued.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// The last segment, open for writing.
    pub(crate) file: Box<dyn LogFile>,
    /// The next offset of each partition.
    pub(crate) ends: Vec<u64>,
    /// No record is younger.
    pub(crate) last_ms: i64,
}

/// Reads the directory, cuts a torn tail, and makes durable what is there.
pub(crate) fn recover(
    dir: &Path,
    options: &EmbeddedOptions,
    platform: &Platform,
) -> Result<Recovered, LogError> {
    let segments = open_segments(dir, options, platform)?;
    let Some(last) = segments.back() else { return begin(dir, options, platform) };
    let mut scan = Scan::new(last);
    let damage = scan.run()?;
    let rest = if damage.is_some() { last.read(scan.at, scan.left())? } else { Vec::new() };
    let is_room = rest.iter().all(|byte| *byte == 0);
    if let Some(reason) = damage.filter(|_| !is_room) {
        scan.check_torn(&rest, reason)?;
        tracing::warn!(
            file = %last.path.display(), position = scan.at, bytes = rest.len(), reason,
            "the log ends in an unfinished write, which nobody was told about: it is cut off"
        );
    }
    let failed = |action, source| LogError::Io { action, path: last.path.clone(), source };
    let file = platform.disk.open(&last.path).map_err(|e| failed("open", e))?;
    if !rest.is_empty() {
        file.truncate(scan.at).map_err(|e| failed("cut", e))?;
        last.set_len(scan.at);
    }
    // A killed process may have left whole records that were never synced; readers may see only what is durable.
    file.sync().map_err(|e| failed("sync", e))?;
    sync_dir(dir, platform)?;
    let Scan { ends, last_ms, .. } = scan;
    Ok(Recovered { segments, file, ends, last_ms })
}

/// The first segment of a new log.
fn begin(dir: &Path, options: &EmbeddedOptions, platform: &Platform) -> Result<Recovered, LogError> {
    let starts = vec![0; options.partitions as usize];
    let created_ms = (platform.now_ms)();
    let header =
        Header { number: 0, created_ms, salt: (platform.salt)(), previous_len: 0, starts: starts.clone() };
    let (segment, file) = Segment::create(platform, dir, header).map_err(|error| LogError::Io {
        action: "create",
        path: segment::path(dir, 0),
        source: error.into_source(),
    })?;
    Ok(Recovered { segments: VecDeque::from([segment]), file, ends: starts, last_ms: created_ms })
}

fn sync_dir(dir: &Path, platform: &Platform) -> Result<(), LogError> {
    let failed = |source| LogError::Io { action: "sync", path: dir.to_owned(), source };
    platform.disk.sync_dir(dir).map_err(failed)
}

/// Opens all segments and checks that they are one log. Drops what a roll has left unfinished.
fn open_segments(
    dir: &Path,
    options: &EmbeddedOptions,
    platform: &Platform,
) -> Result<VecDeque<Arc<Segment>>, LogError> {
    let failed = |action| move |source| LogError::Io { action, path: dir.to_owned(), source };
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir).map_err(failed("list"))? {
        let file = file.map_err(failed("list"))?;
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = segment::number_of(name) {
            numbers.push(number);
        } else if name.ends_with(UNFINISHED) {
            platform.disk.remove(&file.path()).map_err(failed("clean up"))?;
        }
    }
    numbers.sort_unstable();
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::with_capacity(numbers.len());
    for number in numbers {
        let segment = Segment::open(dir, number, options.partitions)?;
        if let Some(previous) = segments.back() {
            if previous.number() + 1 != number {
                return Err(LogError::MissingSegment { path: segment::path(dir, previous.number() + 1) });
            }
            let (len, stated) = (previous.len(), segment.header.previous_len);
            if len != stated {
                return Err(
                    previous.corrupt(len.min(stated), "the file's length is not what the next one states")
                );
            }
        }
        segments.push_back(Arc::new(segment));
    }
    Ok(segments)
}

/// The walk over the last segment.
struct Scan<'a> {
    segment: &'a Segment,
    len: u64,
    /// Everything below is whole.
    at: u64,
    ends: Vec<u64>,
    last_ms: i64,
}

impl<'a> Scan<'a> {
    fn new(segment: &'a Segment) -> Scan<'a> {
        let header = &segment.header;
        Scan {
            segment,
            len: segment.len(),
            at: header.len(),
            ends: header.starts.clone(),
            last_ms: header.created_ms,
        }
    }

    /// Goes to the end, or to the first bad place and says what is wrong with it.
    fn run(&mut self) -> Result<Option<&'static str>, LogError> {
        let mut want = CHUNK;
        while self.at < self.len {
            let left = self.left();
            let chunk = self.segment.read(self.at, want.min(left))?;
            let mut used = 0;
            want = CHUNK;
            while used < chunk.len() {
                match record::parse(self.segment.seed, &chunk[used..]) {
                    Parsed::Whole(record) if self.accept(&record) => used += record.len(),
                    Parsed::Whole(_) => {
                        self.at += used as u64;
                        return Ok(Some("the record does not continue its partition"));
                    }
                    Parsed::Short { need } if need > left - used => {
                        self.at += used as u64;
                        return Ok(Some("the record is longer than the file"));
                    }
                    Parsed::Short { need } => {
                        want = need.max(CHUNK);
                        break;
                    }
                    Parsed::Bad(reason) => {
                        self.at += used as u64;
                        return Ok(Some(reason));
                    }
                }
            }
            self.at += used as u64;
        }
        Ok(None)
    }

    fn left(&self) -> usize {
        usize::try_from(self.len - self.at).unwrap_or(usize::MAX)
    }

    /// Counts a record if it is the next of its partition.
    fn accept(&mut self, record: &Record) -> bool {
        let stamp = record.stamp;
        match self.ends.get_mut(stamp.partition as usize) {
            Some(end) if *end == stamp.offset => *end += 1,
            _ => return false,
        }
        self.last_ms = self.last_ms.max(stamp.timestamp_ms);
        true
    }

    /// Refuses to call `rest`, which begins at the bad place at `self.at`, a torn tail if a later group was written in it.
    fn check_torn(&self, rest: &[u8], reason: &'static str) -> Result<(), LogError> {
        let partitions = self.ends.len() as u32;
        for place in 1..rest.len().saturating_sub(RECORD_FIXED - 1) {
            let candidate = &rest[place..];
            let stamp = record::stamp(candidate);
            let group = u64::from(stamp.group);
            // Cheap tests first: hardly any place gets as far as the checksum.
            let plausible =
                stamp.partition < partitions && group > self.at && group <= self.at + place as u64;
            if plausible && matches!(record::parse(self.segment.seed, candidate), Parsed::Whole(_)) {
                return Err(self.segment.corrupt(self.at, reason));
            }
        }
        Ok(())
    }
}

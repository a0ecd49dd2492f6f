//! The few operations by which the log changes the disk, so that tests can fail each of them.
//!
//! Reading goes through plain `File`s: a failed read changes nothing.
//!
//! **Runs on**: the log's writer thread, and at open the opener's. Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A directory of log files.
pub(crate) trait Disk: Send + Sync {
    /// Makes an empty file, over an older one of the name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
    /// Opens a file for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
    /// Gives a file its final name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Drops a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file of the log.
pub(crate) trait LogFile: Send {
    /// Writes all bytes at a position; after an error some of them may have been written.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written, and the length, durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// The file system.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl LogFile for File {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

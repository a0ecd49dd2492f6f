//! Makes the creation of a store one step: a crash on the way leaves nothing that counts as a store.
//!
//! fjall makes a store's files one after the other, and does not open what it finds half made. So a mark stands beside
//! the directory (`shard-003.new`) from before the first file until all are durable; a directory that is opened with the
//! mark still there has never held a record, and is made again.
//!
//! Invariants: the mark is durable before the directory is there, and durably gone before the store is given to
//! anybody. Runs on: whichever thread opens the store. Not here: two processes in one place (the node's lock).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A creation that is under way.
pub(super) struct Creation {
    mark: PathBuf,
}

impl Creation {
    /// Begins if nothing is in `path`, or what an earlier creation left; `None` if a store is there.
    pub(super) fn begin(path: &Path) -> io::Result<Option<Creation>> {
        let creation = Creation { mark: path.with_extension("new") };
        if creation.mark.try_exists()? {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return Ok(Some(creation)),
            }
        }
        let is_new = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if !is_new {
            return Ok(None);
        }
        creation.above().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&creation.mark)?;
        creation.sync()?;
        Ok(Some(creation))
    }

    /// Everything is durable: from here on it is a store.
    pub(super) fn end(self) -> io::Result<()> {
        fs::remove_file(&self.mark)?;
        self.sync()
    }

    /// The directory that holds mark and store, if it has a name.
    fn above(&self) -> Option<&Path> {
        self.mark.parent().filter(|above| !above.as_os_str().is_empty())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(self.above().unwrap_or(Path::new(".")))?.sync_all()
    }
}

//! The directory `DB_PATH`: who holds it, and which data it is.
//!
//! ```text
//! DB_PATH/LOCK        locked while a node runs; holds its process id
//! DB_PATH/node.json   namespace and partition count, written once
//! DB_PATH/layout      how many shards the stores were left with (`firescroll_shard::reshard`)
//! DB_PATH/log/        the embedded log
//! DB_PATH/shard-000/  the store of shard 0, …
//! ```
//!
//! Invariants: one process at a time; a directory is never used for another namespace or partition count than the one
//! it was made with, because every key would be looked for in the wrong partition.
//! Runs on: the main thread, before and after everything else. Not here: what is inside the log and the stores.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Why `DB_PATH` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The system refuses something; the operator mends the path or its permissions.
    #[error(
        "cannot {action} {path}: {source} (DB_PATH names the directory; it must be writable by this user)"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another node runs on it; the operator stops that one or names another directory.
    #[error("{path} is in use by the process {holder}; stop it, or set another DB_PATH")]
    Held {
        /// The directory.
        path: PathBuf,
        /// The process id as the holder wrote it.
        holder: String,
    },
    /// It was made for something else; the operator sets the old value or names another directory.
    #[error(
        "{path} holds data of {variable} {found}, this node is configured with {configured}: \
         set {variable}={found}, or another DB_PATH"
    )]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// The variable that differs.
        variable: &'static str,
        /// What the data was made with.
        found: String,
        /// What is configured.
        configured: String,
    },
    /// `node.json` does not read; the operator restores it.
    #[error(
        "{path} cannot be read: {reason}; it should be {{\"version\":1,\"namespace\":…,\"partitions\":…}}"
    )]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Manifest {
    version: u32,
    namespace: String,
    partitions: u32,
}

const VERSION: u32 = 1;

/// The directory, held until this is dropped.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    _lock: File,
}

impl Layout {
    /// Makes the directory if need be, locks it, and checks that it is this node's.
    ///
    /// # Errors
    /// [`LayoutError`] says which and what to do.
    pub fn open(root: &Path, namespace: &str, partitions: u32) -> Result<Self, LayoutError> {
        fs::create_dir_all(root).map_err(|source| io_error("create", root, source))?;
        let lock = lock(root)?;
        let wanted = Manifest { version: VERSION, namespace: namespace.to_owned(), partitions };
        match read_manifest(&root.join("node.json"))? {
            Some(found) => check(root, &found, &wanted)?,
            None => write_manifest(root, &wanted)?,
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Where the embedded log is.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Where the stores are.
    #[must_use]
    pub fn stores(&self) -> &Path {
        &self.root
    }
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> LayoutError {
    LayoutError::Io { action, path: path.to_owned(), source }
}

fn lock(root: &Path) -> Result<File, LayoutError> {
    let path = root.join("LOCK");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        // Only for the message: an unreadable file leaves it empty.
        let _ = file.read_to_string(&mut holder);
        return Err(LayoutError::Held { path: root.to_owned(), holder: holder.trim().to_owned() });
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    written.map_err(|source| io_error("write", &path, source))?;
    Ok(file)
}

fn read_manifest(path: &Path) -> Result<Option<Manifest>, LayoutError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", path, source)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| LayoutError::Manifest { path: path.to_owned(), reason: error.to_string() })
}

fn check(root: &Path, found: &Manifest, wanted: &Manifest) -> Result<(), LayoutError> {
    let mismatch = |variable, found: String, configured: String| {
        Err(LayoutError::Mismatch { path: root.to_owned(), variable, found, configured })
    };
    if found.version != VERSION {
        return Err(LayoutError::Manifest {
            path: root.join("node.json"),
            reason: format!("its version is {}, this program knows {VERSION}", found.version),
        });
    }
    if found.partitions != wanted.partitions {
        return mismatch("PARTITIONS", found.partitions.to_string(), wanted.partitions.to_string());
    }
    if found.namespace != wanted.namespace {
        return mismatch("NAMESPACE", found.namespace.clone(), wanted.namespace.clone());
    }
    Ok(())
}

/// Written beside and renamed, so that it is either absent or whole.
fn write_manifest(root: &Path, manifest: &Manifest) -> Result<(), LayoutError> {
    let path = root.join("node.json");
    let draft = root.join("node.json.tmp");
    let text = serde_json::to_vec(manifest)
        .map_err(|error| LayoutError::Manifest { path: path.clone(), reason: error.to_string() })?;
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(root)?.sync_all()
    };
    write().map_err(|source| io_error("write", &path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_namespace_and_count() {
        let dir = tempfile::tempdir().expect("scratch");
        drop(Layout::open(dir.path(), "dns", 8).expect("new"));
        drop(Layout::open(dir.path(), "dns", 8).expect("again"));
        let error = Layout::open(dir.path(), "dns", 9).expect_err("another count").to_string();
        assert!(error.contains("PARTITIONS 8") && error.contains("configured with 9"), "{error}");
        let error = Layout::open(dir.path(), "flags", 8).expect_err("another namespace").to_string();
        assert!(error.contains("NAMESPACE dns"), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("scratch");
        let _held = Layout::open(dir.path(), "dns", 8).expect("new");
        let error = Layout::open(dir.path(), "dns", 8).expect_err("held").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }
}

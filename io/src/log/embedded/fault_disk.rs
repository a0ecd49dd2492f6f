//! A disk for tests that fails or stops at any step, and knows what a power cut would leave.
//!
//! Everything goes through to real files, so that consumers can read them, but no sync costs anything: the double keeps
//! for each file and for the names what is durable and what is only written. [`FaultDisk::images`] lists what may be on
//! the disk after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, LogFile, RealDisk};
use super::options::Platform;

/// The unit that a power cut loses or keeps; smaller than a real sector, so that small tests have many.
const SECTOR: usize = 64;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine stops: before the step, or right after it took effect.
    Stop { done: bool },
    /// The machine stops after so many bytes of a write.
    StopWithin(usize),
    /// The disk is full, after so many bytes if it is a write.
    Full(usize),
    /// The device fails.
    Broken,
}

/// The kinds of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Truncate,
    Rename,
    Remove,
    SyncDir,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct FaultDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    plan: BTreeMap<usize, Fault>,
    steps: Vec<Step>,
    stopped: bool,
    files: Vec<Contents>,
    names: Names,
}

#[derive(Default, Clone)]
struct Contents {
    durable: Vec<u8>,
    written: Vec<u8>,
    /// What was written before a cut that is not yet durable: it may be what is found.
    ghosts: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Names {
    durable: BTreeMap<PathBuf, usize>,
    written: BTreeMap<PathBuf, usize>,
}

/// The files of a directory after a power cut, by name.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

impl FaultDisk {
    /// A disk that fails as planned, by step from 0.
    pub(crate) fn new(plan: &[(usize, Fault)]) -> FaultDisk {
        let disk = FaultDisk::default();
        disk.with(|state| state.plan = plan.iter().copied().collect());
        disk
    }

    /// What an embedded log takes from outside, with this disk.
    pub(crate) fn platform(&self) -> Platform {
        Platform { disk: Box::new(self.clone()), ..Platform::real() }
    }

    /// The steps so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.with(|state| state.steps.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a step, unless the plan says otherwise. `partly` is what so many bytes of a write do.
    fn step(
        &self,
        step: Step,
        partly: impl FnOnce(&mut State, usize) -> io::Result<()>,
        whole: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        self.with(|state| {
            if state.stopped {
                return Err(io::Error::other("the machine has stopped"));
            }
            let fault = state.plan.get(&state.steps.len()).copied();
            state.steps.push(step);
            match fault {
                None => whole(state),
                Some(Fault::Broken) => Err(io::Error::other("the device is broken")),
                Some(Fault::Full(bytes)) => {
                    partly(state, bytes)?;
                    Err(io::ErrorKind::StorageFull.into())
                }
                Some(Fault::Stop { done }) => {
                    state.stopped = true;
                    if done { whole(state) } else { Err(io::Error::other("the machine stops")) }
                }
                Some(Fault::StopWithin(bytes)) => {
                    state.stopped = true;
                    partly(state, bytes)?;
                    Err(io::Error::other("the machine stops"))
                }
            }
        })
    }

    fn open_file(&self, inner: Box<dyn LogFile>, file: usize) -> Box<dyn LogFile> {
        Box::new(FaultFile { disk: self.clone(), inner, file })
    }

    /// All that may be found after a power cut now.
    pub(crate) fn images(&self) -> BTreeSet<Image> {
        self.with(|state| {
            let variants = state.files.iter().map(Contents::variants).max().unwrap_or(1);
            let mut images = BTreeSet::new();
            for names in state.names.variants() {
                for variant in 0..variants {
                    let content = |(path, file): (&PathBuf, &usize)| {
                        let name = path.file_name().expect("log files have names");
                        (PathBuf::from(name), state.files[*file].variant(variant))
                    };
                    images.insert(names.iter().map(content).collect());
                }
            }
            images
        })
    }
}

impl Names {
    /// Durable; written; durable without one of the names that are gone.
    fn variants(&self) -> Vec<BTreeMap<PathBuf, usize>> {
        let mut variants = vec![self.durable.clone(), self.written.clone()];
        for gone in self.durable.keys().filter(|path| !self.written.contains_key(*path)) {
            let mut names = self.durable.clone();
            names.remove(gone);
            variants.push(names);
        }
        variants
    }
}

impl Contents {
    /// Where durable and written begin to differ.
    fn differs_at(&self) -> usize {
        self.durable.iter().zip(&self.written).take_while(|(a, b)| a == b).count()
    }

    fn unsynced(&self) -> usize {
        self.written.len() - self.differs_at()
    }

    fn sectors(&self) -> usize {
        self.unsynced().div_ceil(SECTOR)
    }

    fn variants(&self) -> usize {
        2 + self.unsynced() / 5 + 2 * self.sectors() + self.ghosts.len()
    }

    /// Durable; written; cut at every fifth byte; each sector lost; each sector alone kept; as if never cut.
    fn variant(&self, variant: usize) -> Vec<u8> {
        let (from, cuts, sectors) = (self.differs_at(), self.unsynced() / 5, self.sectors());
        match variant {
            0 => self.durable.clone(),
            1 => self.written.clone(),
            n if n - 2 < cuts => self.written[..from + 5 * (n - 2)].to_vec(),
            n if n - 2 - cuts < 2 * sectors => {
                let (sector, keep) = ((n - 2 - cuts) / 2, (n - cuts) % 2 == 0);
                let mut bytes = self.written.clone();
                for (index, byte) in bytes.iter_mut().enumerate().skip(from) {
                    if ((index - from) / SECTOR == sector) != keep {
                        *byte = 0;
                    }
                }
                bytes
            }
            n => self.ghosts.get(n - 2 - cuts - 2 * sectors).unwrap_or(&self.written).clone(),
        }
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let whole = |state: &mut State| {
            state.files.push(Contents::default());
            state.names.written.insert(path.to_owned(), state.files.len() - 1);
            Ok(())
        };
        self.step(Step::Create, |_, _| Ok(()), whole)?;
        let file = self.with(|state| state.names.written[path]);
        Ok(self.open_file(RealDisk.create(path)?, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let inner = RealDisk.open(path)?;
        let bytes = fs::read(path)?;
        let file = self.with(|state| {
            state.files.push(Contents { durable: bytes.clone(), written: bytes, ghosts: Vec::new() });
            let file = state.files.len() - 1;
            state.names.written.insert(path.to_owned(), file);
            state.names.durable.insert(path.to_owned(), file);
            file
        });
        Ok(self.open_file(inner, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let whole = |state: &mut State| {
            let file = state.names.written.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.written.insert(to.to_owned(), file);
            fs::rename(from, to)
        };
        self.step(Step::Rename, |_, _| Ok(()), whole)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let whole = |state: &mut State| {
            state.names.written.remove(path);
            fs::remove_file(path)
        };
        self.step(Step::Remove, |_, _| Ok(()), whole)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let whole = |state: &mut State| {
            state.names.durable = state.names.written.clone();
            Ok(())
        };
        self.step(Step::SyncDir, |_, _| Ok(()), whole)
    }
}

struct FaultFile {
    disk: FaultDisk,
    inner: Box<dyn LogFile>,
    file: usize,
}

impl FaultFile {
    fn put(&self, state: &mut State, position: u64, bytes: &[u8]) -> io::Result<()> {
        let (written, at) = (&mut state.files[self.file].written, position as usize);
        written.resize(written.len().max(at + bytes.len()), 0);
        written[at..at + bytes.len()].copy_from_slice(bytes);
        self.inner.write_at(position, bytes)
    }
}

impl LogFile for FaultFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let partly =
            |state: &mut State, count: usize| self.put(state, position, &bytes[..count.min(bytes.len())]);
        self.disk.step(Step::Write, partly, |state| self.put(state, position, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let whole = |state: &mut State| {
            let file = &mut state.files[self.file];
            file.durable.clone_from(&file.written);
            file.ghosts.clear();
            Ok(())
        };
        self.disk.step(Step::Sync, |_, _| Ok(()), whole)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let whole = |state: &mut State| {
            let file = &mut state.files[self.file];
            file.ghosts.push(file.written.clone());
            file.written.truncate(len as usize);
            self.inner.truncate(len)
        };
        self.disk.step(Step::Truncate, |_, _| Ok(()), whole)
    }
}

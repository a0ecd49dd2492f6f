//! What this process finds around it: CPUs, limits, host name, and where data may go by default.
//!
//! Gathered once by [`Machine::observe`], so that validation itself is a pure function of its arguments.
//!
//! **Runs on**: the main thread, before any other exists.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Access, access};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// The directory for data where the operator names none and this process may write there.
pub(crate) const SYSTEM_DB_PATH: &str = "/var/firescroll/dbs";

/// Where the kernel tells the host name, which saves a system call wrapper.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Facts about the machine and the process that defaults and checks depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs that this process may use, ascending; never empty.
    pub cpus: Vec<usize>,
    /// How many of them it may keep busy at once: fewer than `cpus` under a CPU quota.
    pub parallelism: usize,
    /// The most files it may open (the hard `RLIMIT_NOFILE`); `None` is unlimited.
    pub open_files: Option<u64>,
    /// Memory that it may use, in bytes: the machine's, or its control group's if that is less.
    pub memory: u64,
    /// The host's name; empty when it has none.
    pub host_name: String,
    /// Where data goes by default; `None` when there is no place that this user can write to.
    pub db_path: Option<PathBuf>,
}

impl Machine {
    /// Looks around. Never fails: what cannot be found out is replaced by the most cautious value.
    #[must_use]
    pub fn observe() -> Self {
        let parallelism = thread::available_parallelism().map_or(1, usize::from);
        let cpus = match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
            Err(_) => (0..parallelism).collect(),
        };
        let system = Path::new(SYSTEM_DB_PATH);
        let db_path = if geteuid().is_root() || may_create(system) {
            Some(system.to_owned())
        } else {
            user_db_path(env::var_os("XDG_DATA_HOME"), env::var_os("HOME"))
        };
        Self {
            cpus,
            parallelism,
            open_files: getrlimit(Resource::Nofile).maximum,
            memory: memory(),
            host_name: fs::read_to_string(HOST_NAME).map(|name| name.trim().to_owned()).unwrap_or_default(),
            db_path,
        }
    }
}

/// The machine's memory or the control group's limit. A gibibyte when neither can be read.
fn memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1 << 10)
    });
    // "max" where there is no limit.
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    total.into_iter().chain(limit).min().unwrap_or(1 << 30)
}

/// Whether this process may write to `path`, or to the nearest directory above it that exists.
fn may_create(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .is_some_and(|ancestor| access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// The data directory of a user, as the XDG base directory specification has it: a relative or empty
/// `XDG_DATA_HOME` is ignored.
fn user_db_path(xdg_data_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = xdg_data_home
        .and_then(absolute)
        .or_else(|| home.and_then(absolute).map(|home| home.join(".local/share")))?;
    Some(base.join("firescroll/dbs"))
}

/// Raises the soft limit of open files to the hard one, which is what validation counted on.
///
/// # Errors
/// What the kernel says when it refuses; the limit is then unchanged.
pub fn raise_open_files() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu() {
        let machine = Machine::observe();
        assert!(!machine.cpus.is_empty());
        assert!(machine.parallelism >= 1);
        assert!(machine.memory > 1 << 20);
    }

    #[test]
    fn a_user_gets_the_xdg_directory_then_the_home_directory() {
        let path = |xdg: Option<&str>, home: Option<&str>| {
            user_db_path(xdg.map(OsString::from), home.map(OsString::from))
        };
        assert_eq!(path(Some("/data"), Some("/home/u")), Some("/data/firescroll/dbs".into()));
        assert_eq!(path(None, Some("/home/u")), Some("/home/u/.local/share/firescroll/dbs".into()));
        assert_eq!(path(Some(""), Some("/home/u")), Some("/home/u/.local/share/firescroll/dbs".into()));
        assert_eq!(path(Some("relative"), None), None);
        assert_eq!(path(None, None), None);
    }

    #[test]
    fn the_nearest_directory_that_exists_decides() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        assert!(may_create(&scratch.path().join("a/b/c")));
    }
}

//! A real Kafka: brokers of `scripts/kafka`, each a process of its own, on a scratch directory.
//!
//! The script starts, restarts and stops them and runs Kafka's own tools; the signals of a lost or a stalled
//! broker come from here. A watcher of the script's stops the brokers also when the test process is killed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::{PATIENCE, until};

/// The user that the listeners of `--sasl` know.
pub(crate) const USER: &str = "firescroll";
/// That user's password.
pub(crate) const PASSWORD: &str = "open sesame";

/// The longest a start may take when it has to fetch Kafka first.
const INSTALL_PATIENCE: Duration = Duration::from_secs(900);

/// The brokers of [`Kafka::shared`], while any test uses them.
static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
/// How many names [`namespace`] has given out.
static NAMES: AtomicU32 = AtomicU32::new(0);

/// Whether this machine has what brokers need: Java, and Maven to fetch Kafka with.
pub(crate) fn available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    has("java") && has("mvn")
}

/// A name for topics and groups that no other test has: of letters, digits and minus, with the hint in it.
pub(crate) fn namespace(hint: &str) -> String {
    format!("{hint}-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// Running brokers, numbered from 1; killed when dropped.
pub(crate) struct Kafka {
    dir: TempDir,
}

impl Kafka {
    /// Starts brokers with options of `scripts/kafka start`, such as `--sasl`, and waits until they serve.
    ///
    /// # Panics
    /// If they do not; with what the script said.
    pub(crate) fn start(brokers: u32, options: &[&str]) -> Self {
        // Brokers that have started when something fails end with this value.
        let kafka = Self { dir: tempfile::tempdir().expect("a scratch directory") };
        let mut start = script("start", INSTALL_PATIENCE);
        start.arg(kafka.path()).arg("--brokers").arg(brokers.to_string());
        start.arg("--parent").arg(std::process::id().to_string()).args(options);
        output(&mut start, "");
        kafka
    }

    /// The one broker without options that others are using, or a new one.
    pub(crate) fn shared() -> Arc<Self> {
        let mut place = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        place.upgrade().unwrap_or_else(|| {
            let kafka = Arc::new(Self::start(1, &[]));
            *place = Arc::downgrade(&kafka);
            kafka
        })
    }

    /// The directory of everything the brokers write, their logs in `broker-N/log`.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The addresses of all brokers as `host:port,…`, without encryption and without a user.
    pub(crate) fn seeds(&self) -> String {
        self.read("seeds")
    }

    /// The addresses that want [`USER`], behind TLS if both `--sasl` and `--tls` were given.
    ///
    /// # Panics
    /// If they were started without `--sasl`.
    pub(crate) fn seeds_sasl(&self) -> String {
        self.read("seeds-sasl")
    }

    /// The addresses that speak TLS and want no user.
    ///
    /// # Panics
    /// If they were started without `--tls`.
    pub(crate) fn seeds_tls(&self) -> String {
        self.read("seeds-tls")
    }

    /// The authority that signed the brokers' certificate, as PEM, if they were started with `--tls`.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// An authority that signed nothing of theirs.
    pub(crate) fn other_ca(&self) -> PathBuf {
        self.path().join("other-ca.pem")
    }

    /// Ends a broker as a lost machine would, and waits until it is gone.
    pub(crate) fn kill(&self, broker: u32) {
        let pid = self.pid(broker);
        signal(pid, Signal::KILL);
        // One that is waiting to be reaped by whoever adopted it has no command line any more.
        let line = format!("/proc/{}/cmdline", pid.as_raw_pid());
        until("the killed broker to be gone", || !fs::read(&line).is_ok_and(|line| !line.is_empty()));
    }

    /// Stops a broker's clock: it neither answers nor ends its connections.
    ///
    /// # Panics
    /// If it does not stand still.
    pub(crate) fn pause(&self, broker: u32) {
        let pid = self.pid(broker);
        signal(pid, Signal::STOP);
        // A thread that runs on another CPU sees the signal a little later, and until then may answer.
        until("the broker to stand still", || {
            let tasks =
                fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())).expect("the broker is there");
            tasks.flatten().all(|task| {
                // A thread that has ended since does not move either.
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
            })
        });
    }

    /// Lets a paused broker go on.
    pub(crate) fn resume(&self, broker: u32) {
        signal(self.pid(broker), Signal::CONT);
    }

    /// Starts a killed broker again, on its ports and with its data, and waits until it serves.
    ///
    /// # Panics
    /// If it does not serve; with what the script said.
    pub(crate) fn restart(&self, broker: u32) {
        let mut restart = script("restart", PATIENCE * 2);
        output(restart.arg(self.path()).arg(broker.to_string()), "");
    }

    /// Runs a tool of Kafka, by the name of its class, and returns what it wrote to standard output.
    ///
    /// # Panics
    /// If it fails, or does not end within [`PATIENCE`]; with what it said.
    pub(crate) fn tool(&self, class: &str, arguments: &[&str], stdin: &str) -> String {
        let mut tool = script("tool", PATIENCE);
        let output = output(tool.arg(self.path()).arg(class).args(arguments), stdin);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a file of the script's says, in one line.
    fn read(&self, name: &str) -> String {
        let path = self.path().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    /// The process of a broker.
    fn pid(&self, broker: u32) -> Pid {
        let text = self.read(&format!("broker-{broker}/pid"));
        let pid = text.parse().ok().and_then(Pid::from_raw);
        pid.unwrap_or_else(|| panic!("{text:?} is no process id"))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The data goes with the directory, so nothing is gained by a clean stop. A failure here is not the
        // test's, and the watcher has the last word.
        let _ = script("stop", PATIENCE).arg("--now").arg(self.path()).output();
    }
}

/// The script with one of its commands, ended when it takes too long.
fn script(command: &str, within: Duration) -> Command {
    let mut script = Command::new("timeout");
    script.args(["--kill-after=5", &within.as_secs().to_string()]);
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka")).arg(command);
    script
}

/// Runs a command to its end with the given standard input.
///
/// # Panics
/// If it fails; with what it said.
fn output(command: &mut Command, stdin: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the script can be started");
    let mut input = child.stdin.take().expect("standard input is piped");
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // One that ends without reading everything says so by its status.
            let _ = input.write_all(stdin.as_bytes());
        });
        child.wait_with_output().expect("it is our child")
    });
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    output
}

/// Sends a signal; one that has ended already does not mind.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

//! A running node.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::process::{Ended, Process, serve, until};

/// A node that serves; killed when dropped.
pub(crate) struct Node {
    process: Process,
    api: SocketAddr,
    internal: SocketAddr,
    client: Client,
    operator: Client,
}

impl Node {
    /// Starts a node on `dir` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready; with everything it said.
    pub(crate) fn start(dir: &Path, settings: &[(&str, &str)]) -> Self {
        let node = Self::begin(dir, settings);
        node.wait_ready();
        node
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready; with everything it said.
    pub(crate) fn wait_ready(&self) {
        until("the node to be ready", || {
            assert!(!self.process.ends_within(std::time::Duration::ZERO), "it ended:\n{}", self.errors());
            self.is_ready()
        });
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        // A client of its own each time, so that no connection stays open.
        Client::new(self.api).try_get("/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// Starts a node on `dir` and waits until it listens, ready or not.
    ///
    /// # Panics
    /// If it does not; with everything it said.
    pub(crate) fn begin(dir: &Path, settings: &[(&str, &str)]) -> Self {
        let process = Process::spawn(serve(dir, settings));
        let address = |marker: &str| -> SocketAddr {
            let Some(rest) = process.after(marker) else {
                panic!("no line with {marker:?}; the node said:\n{}", process.errors());
            };
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
            let text = rest[..end].trim_end_matches(':');
            text.parse().unwrap_or_else(|_| panic!("{text:?} after {marker:?} is no address"))
        };
        let internal = address("internal port http://");
        let api = address("serving http://");
        Self { process, api, internal, client: Client::new(api), operator: Client::new(internal) }
    }

    /// Starts a node that is expected to refuse, and waits for its end.
    pub(crate) fn refused(dir: &Path, settings: &[(&str, &str)]) -> Ended {
        Process::spawn(serve(dir, settings)).wait()
    }

    /// Starts a node and does not wait for anything.
    pub(crate) fn spawn(dir: &Path, settings: &[(&str, &str)]) -> Process {
        Process::spawn(serve(dir, settings))
    }

    /// Where clients connect.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where operators connect.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// A client of the API that all users of the node share.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A client of the internal port.
    pub(crate) fn operator(&self) -> &Client {
        &self.operator
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub(crate) fn errors(&self) -> String {
        self.process.errors()
    }

    /// What stands after `marker` in the first log line that has it.
    pub(crate) fn logged(&self, marker: &str) -> String {
        let found = self.process.after(marker);
        found.unwrap_or_else(|| panic!("no line with {marker:?}; the node said:\n{}", self.errors()))
    }

    /// Asks it to stop; does not wait.
    pub(crate) fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Whether it ends within the time.
    pub(crate) fn ends_within(&self, time: std::time::Duration) -> bool {
        self.process.ends_within(time)
    }

    /// Waits for its end after [`Node::ask_to_stop`].
    pub(crate) fn ended(&mut self) -> Ended {
        self.process.wait()
    }

    /// Stops it as a service manager does.
    ///
    /// # Panics
    /// If that is not a clean stop.
    pub(crate) fn term(mut self) {
        self.ask_to_stop();
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "a clean stop; it said:\n{}", ended.errors);
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// The status document.
    pub(crate) fn status(&self) -> Value {
        let answer = self.operator.get("/status");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// One value of the metrics page: the number in the line that starts with `line` and a blank.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let page = self.operator.get("/metrics").text();
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no metric {line} in\n{page}"));
        value.parse().unwrap_or_else(|_| panic!("{line} is {value:?}, no number"))
    }

    /// Waits until everything in the log has been applied.
    pub(crate) fn catch_up(&self) {
        until("the node to have applied its log", || {
            let status = self.status();
            let partitions = status["partitions"].as_array().cloned().unwrap_or_default();
            assert!(!partitions.is_empty(), "no partitions in {status}");
            partitions.iter().all(|partition| partition["lag"] == 0)
        });
    }

    /// The hash of each partition: what `GET /partitions/{p}/hash` says once the log has been applied.
    pub(crate) fn hashes(&self) -> Vec<Value> {
        self.catch_up();
        let all = self.operator.get("/partitions").json();
        let numbers = all["partitions"].as_array().expect("a list of partitions").clone();
        let hash = |number: &Value| {
            let answer = self.operator.get(&format!("/partitions/{number}/hash"));
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()
        };
        numbers.iter().map(hash).collect()
    }
}

/// The end of each partition's log: what a refused request must leave as it was.
pub(crate) fn log_ends(node: &Node) -> Vec<Value> {
    let status = node.status();
    let partitions = status["partitions"].as_array().expect("a list of partitions");
    partitions.iter().map(|partition| partition["log_end"].clone()).collect()
}

/// A node with a scratch directory of its own.
pub(crate) struct Home {
    // Dropped first: the node ends before its directory goes.
    node: Node,
    dir: TempDir,
}

/// A node that the tests of one file use together while any of them runs.
pub(crate) type Shared = Mutex<Weak<Home>>;

impl Home {
    /// A new node on a new directory.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        Self { node: Node::start(dir.path(), settings), dir }
    }

    /// The node that others are using, or a new one.
    pub(crate) fn shared(place: &Shared, settings: &[(&str, &str)]) -> Arc<Self> {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        place.upgrade().unwrap_or_else(|| {
            let home = Arc::new(Self::start(settings));
            *place = Arc::downgrade(&home);
            home
        })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The node and its directory, to be stopped and started.
    pub(crate) fn into_parts(self) -> (Node, TempDir) {
        (self.node, self.dir)
    }
}

impl Deref for Home {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

//! What a service manager hears of a node: that it has started, how it is, that it lives, that it stops.

mod support;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Instant;

use support::{Client, Home, Node, PATIENCE, data};
use tempfile::TempDir;

/// The manager's end of the line.
struct Manager {
    socket: UnixDatagram,
    /// Assignments that have come and were not asked for yet.
    heard: Vec<String>,
}

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).expect("a free address");
        Self { socket, heard: Vec::new() }
    }

    /// Takes everything up to the first assignment that starts with `wanted`, and returns that.
    fn hear(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 4096];
        loop {
            if let Some(place) = self.heard.iter().position(|line| line.starts_with(wanted)) {
                return self.heard.drain(..=place).next_back().expect("it is there");
            }
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("no {wanted} in {PATIENCE:?}, but {:?}", self.heard));
            self.socket.set_read_timeout(Some(left)).expect("a time above zero");
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| {
                panic!("no {wanted} but {:?}: {error}", self.heard);
            });
            let text = std::str::from_utf8(&bytes[..length]).expect("assignments are text");
            assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text:?} is no list of assignments");
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }
}

fn in_directory() -> (TempDir, String, Manager) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = dir.path().join("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    (dir, path.display().to_string(), manager)
}

#[test]
fn a_manager_hears_of_the_start_of_life_and_of_the_stop() {
    let (_place, socket, mut manager) = in_directory();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let settings = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "1000000")];
    let mut process = Node::spawn(dir.path(), &settings);
    assert!(manager.hear("STATUS=").contains("starting"));
    manager.hear("READY=1");
    // The address is logged at the same moment; at the first attempt the node answers there.
    let address = process.after("serving http://").expect("it serves");
    let client = Client::new(address.trim().parse().expect("an address"));
    assert_eq!(client.get("/up").status, 200);
    let token = client.put("manager", "s", &data(1));
    assert!(client.one(&token, "manager", "s").is_some());
    manager.hear("STATUS=serving 8 partitions");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    process.signal(rustix::process::Signal::TERM);
    manager.hear("STOPPING=1");
    assert_eq!(manager.hear("STATUS="), "STATUS=stopping");
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(!ended.errors.contains("service manager"), "{}", ended.errors);
}

/// A start that takes long says what it is at: nothing else answers yet.
#[test]
fn a_manager_hears_which_partition_is_being_moved() {
    let (_place, socket, mut manager) = in_directory();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let node = Node::start(dir.path(), &[]);
    for key in 0..32 {
        node.client().put(&format!("key {key}"), "s", &data(key));
    }
    node.term();
    let mut process = Node::spawn(dir.path(), &[("SHARDS", "1"), ("NOTIFY_SOCKET", &socket)]);
    manager.hear("STATUS=starting: moving partition ");
    manager.hear("READY=1");
    process.signal(rustix::process::Signal::TERM);
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

/// An abstract name, and a manager that reads nothing while the node starts.
#[test]
fn a_manager_that_does_not_listen_holds_no_node_up() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    // Scratch directories have names of their own; so does this then.
    let name = format!("firescroll{}", dir.path().display());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let mut manager = Manager::at(&address);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("an option of every socket");
    while filler.send_to_addr(b"FILLER=1\n", &address).is_ok() {}

    let notify = format!("@{name}");
    let mut node = Node::start(dir.path(), &[("NOTIFY_SOCKET", &notify), ("WATCHDOG_USEC", "200000")]);
    let token = node.client().put("manager", "s", &data(1));
    assert!(node.client().one(&token, "manager", "s").is_some());
    // What it could not say then, it says when it can.
    manager.hear("FILLER=1");
    manager.hear("READY=1");
    manager.hear("WATCHDOG=1");
    node.ask_to_stop();
    manager.hear("STOPPING=1");
    let ended = node.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn a_manager_that_cannot_be_told_is_said_once_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let nowhere = dir.path().join("nobody").display().to_string();
    for socket in [nowhere.as_str(), "relative", "vsock:2:1"] {
        let home = Home::start(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "200000")]);
        let token = home.client().put("manager", "s", &data(1));
        assert!(home.client().one(&token, "manager", "s").is_some());
        let (mut node, _dir) = home.into_parts();
        node.ask_to_stop();
        let ended = node.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        let said = ended.errors.matches("the service manager cannot be told").count();
        assert_eq!(said, 1, "{}", ended.errors);
    }
}

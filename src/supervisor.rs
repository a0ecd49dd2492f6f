//! The service manager that started this node, if one did: it is told when the node serves, how it is, and that it lives.
//!
//! systemd's protocol: datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names, a path or an abstract
//! `@name`. `READY=1` is sent once every core listens, not once `/ready` turns: a node that catches up with the log, that
//! its group has given no partition, or that has lost the store of one serves the others, and a manager that still waited
//! for its start would kill it for being late, again and again. `STATUS=` says which of these it is; balancers ask
//! `/ready`. `STOPPING=1` is sent as soon as a stop begins. `WATCHDOG=1` is sent every half of `WATCHDOG_USEC`, but only
//! while every core ticks: the manager ends a process in which a core or the control thread hangs.
//!
//! Why no crate does it: `sd-notify` 0.5 makes a blocking socket for each message, which waits for as long as the manager
//! does not read, and takes an abstract name for a path. Without its sending it is a list of constants.
//!
//! Invariants: a send never blocks, since a manager that hangs must not hang the control core; what did not go out is sent
//! later, and only the newest state counts. A manager that cannot be told is said once and changes nothing else; without
//! one nothing is done at all.
//! Runs on: the main thread, which becomes the control core's; while partitions move, the thread that moves them. Not
//! here: the state itself (`control`), unsetting the variables (a node starts no other processes that could inherit them).

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A service manager, or none.
#[derive(Debug)]
pub struct Supervisor {
    line: Option<Line>,
    /// How often it wants to hear that the node lives: half of the time after which it acts.
    beat: Option<Duration>,
    /// When it heard so last.
    beaten: Option<Instant>,
    phase: Phase,
    /// The state in words, and whether it and the phase have gone out.
    status: String,
    told: bool,
    /// A failing line has been logged.
    complained: bool,
}

/// Where messages go.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl Supervisor {
    /// The one that the environment names.
    #[must_use]
    pub fn observe() -> Self {
        Self::named(|name| std::env::var_os(name), std::process::id())
    }

    /// The one that `variables` name to the process `pid`.
    fn named(variables: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let given = |name| variables(name).filter(|value| !value.is_empty());
        let mut supervisor = Self {
            line: None,
            beat: None,
            beaten: None,
            phase: Phase::Starting,
            status: String::new(),
            told: true,
            complained: false,
        };
        let Some(place) = given("NOTIFY_SOCKET") else { return supervisor };
        match Line::to(&place) {
            Ok(line) => supervisor.line = Some(line),
            Err(error) => {
                supervisor.complain(&format!("NOTIFY_SOCKET is {}: {error}", place.display()));
                return supervisor;
            }
        }
        let number = |name| given(name).map(|value| value.to_str().and_then(|text| text.parse::<u64>().ok()));
        // Meant for another process, which has passed its environment on.
        if number("WATCHDOG_PID").is_some_and(|meant| meant != Some(u64::from(pid))) {
            return supervisor;
        }
        match number("WATCHDOG_USEC") {
            None | Some(Some(0)) => {}
            Some(Some(micros)) => supervisor.beat = Some(Duration::from_micros(micros) / 2),
            Some(None) => supervisor.complain("WATCHDOG_USEC is no number: nothing is sent to the watchdog"),
        }
        supervisor
    }

    /// Whether there is one to be told anything.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.line.is_some()
    }

    /// The state in words, for people. Goes out if it is news.
    pub fn status(&mut self, text: &str) {
        // A line break would end the value, and what follows would be read as an assignment.
        let text = text.replace(['\n', '\r'], " ");
        if text != self.status {
            self.status = text;
            self.told = false;
        }
        self.send(None);
    }

    /// Every core listens.
    pub fn ready(&mut self, status: &str) {
        self.phase = Phase::Serving;
        self.told = false;
        self.status(status);
    }

    /// A stop has begun.
    pub fn stopping(&mut self, status: &str) {
        self.phase = Phase::Stopping;
        self.told = false;
        self.status(status);
    }

    /// To be called several times a beat: sends what is due. `alive`: every core has ticked just now.
    pub fn tick(&mut self, now: Instant, alive: bool) {
        let due = self.beat.is_some_and(|beat| {
            self.beaten.is_none_or(|beaten| now.saturating_duration_since(beaten) >= beat)
        });
        // A beat that is not sent stays due, so that a core that was merely slow costs no more than the delay.
        self.send((due && alive).then_some(now));
    }

    /// Sends the state unless it has been told, with a sign of life if it is time for one.
    fn send(&mut self, beat: Option<Instant>) {
        let Some(line) = &self.line else { return };
        if self.told && beat.is_none() {
            return;
        }
        let mut message = String::new();
        if !self.told {
            message += match self.phase {
                Phase::Starting => "",
                Phase::Serving => "READY=1\n",
                Phase::Stopping => "STOPPING=1\n",
            };
            message += &format!("STATUS={}\n", self.status);
        }
        if beat.is_some() {
            message += "WATCHDOG=1\n";
        }
        match line.socket.send_to_addr(message.as_bytes(), &line.address) {
            Ok(_) => {
                self.told = true;
                self.beaten = beat.or(self.beaten);
            }
            // The manager is busy; the next tick tries again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.complain(&error.to_string()),
        }
    }

    fn complain(&mut self, what: &str) {
        if !self.complained {
            self.complained = true;
            tracing::warn!("the service manager cannot be told how the node is: {what}");
        }
    }
}

impl Line {
    /// To a path, or to the abstract name behind an `@`. Not connected: the manager may bind its socket anew.
    fn to(place: &OsStr) -> io::Result<Self> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(place)?,
            _ => return Err(io::Error::new(ErrorKind::InvalidInput, "neither an absolute path nor @name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager's end, and the node's with the given variables beside the socket's.
    fn pair(variables: &[(&str, &str)]) -> (tempfile::TempDir, UnixDatagram, Supervisor) {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        manager.set_nonblocking(true).expect("an option of every socket");
        let supervisor = Supervisor::named(
            |name| match name {
                "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
                _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
            },
            7,
        );
        (dir, manager, supervisor)
    }

    fn heard(manager: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn news_is_told_once() {
        let (_dir, manager, mut supervisor) = pair(&[]);
        assert!(supervisor.listens());
        supervisor.status("opening");
        supervisor.status("opening");
        assert_eq!(heard(&manager).as_deref(), Some("STATUS=opening\n"));
        supervisor.ready("serving\nREADY=0");
        assert_eq!(heard(&manager).as_deref(), Some("READY=1\nSTATUS=serving READY=0\n"));
        // No watchdog was asked for.
        supervisor.tick(Instant::now(), true);
        assert_eq!(heard(&manager), None);
        supervisor.stopping("stopping");
        assert_eq!(heard(&manager).as_deref(), Some("STOPPING=1\nSTATUS=stopping\n"));
        assert_eq!(heard(&manager), None);
    }

    #[test]
    fn signs_of_life_come_at_half_the_time_and_only_from_the_living() {
        let (_dir, manager, mut supervisor) = pair(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]);
        let start = Instant::now();
        let mut at = |ms, alive| {
            supervisor.tick(start + Duration::from_millis(ms), alive);
            heard(&manager)
        };
        let beat = Some("WATCHDOG=1\n".to_owned());
        assert_eq!(at(0, true), beat);
        assert_eq!(at(999, true), None);
        assert_eq!(at(1000, true), beat);
        assert_eq!(at(2000, false), None);
        assert_eq!(at(5000, false), None);
        // It was due all the time.
        assert_eq!(at(5100, true), beat);
        assert_eq!(at(6000, true), None);
    }

    #[test]
    fn a_watchdog_of_another_process_or_with_a_wrong_time_gets_nothing() {
        for variables in [
            [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "8")],
            [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "x")],
            [("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "7")],
            [("WATCHDOG_USEC", "1s"), ("WATCHDOG_PID", "")],
        ] {
            let (_dir, manager, mut supervisor) = pair(&variables);
            supervisor.tick(Instant::now(), true);
            assert_eq!(heard(&manager), None, "{variables:?}");
            assert!(supervisor.listens());
        }
    }

    #[test]
    fn a_manager_that_does_not_read_is_told_later_and_holds_nothing_up() {
        let (_dir, manager, mut supervisor) = pair(&[]);
        let filler = UnixDatagram::unbound().expect("a socket");
        filler.set_nonblocking(true).expect("an option of every socket");
        let address = manager.local_addr().expect("it is bound");
        while filler.send_to_addr(b"X=1", &address).is_ok() {}
        supervisor.status("opening");
        supervisor.ready("serving");
        while heard(&manager).as_deref() == Some("X=1") {}
        supervisor.tick(Instant::now(), true);
        assert_eq!(heard(&manager).as_deref(), Some("READY=1\nSTATUS=serving\n"));
        assert!(!supervisor.complained);
    }

    #[test]
    fn without_a_manager_nothing_is_done_and_a_wrong_one_is_said_once() {
        let mut none = Supervisor::named(|_| None, 7);
        none.ready("serving");
        none.tick(Instant::now(), true);
        assert!(!none.listens() && !none.complained);
        assert!(!Supervisor::named(|_| Some(OsString::new()), 7).complained);
        let wrong = Supervisor::named(|_| Some("relative/path".into()), 7);
        assert!(!wrong.listens() && wrong.complained);

        let (dir, manager, mut gone) = pair(&[]);
        drop((manager, dir));
        gone.ready("serving");
        assert!(gone.complained && !gone.told);
    }
}

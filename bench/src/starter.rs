//! Starts processes that die with this one, however it dies.
//!
//! A command made by [`command`] runs under `setpriv --pdeathsig KILL`, which asks the kernel to kill it when the *thread*
//! that started it ends. So all are started by one thread that lives as long as this program. If that has ended before
//! `setpriv` could ask, nobody would kill the process: a line of shell looks once more who its parent is, and then becomes the
//! program. It also gives each its CPUs: a child inherits those of the thread that starts it.
//!
//! **Invariants**: that thread has the priority that this program was started with, and so have all servers.
//! **Runs on**: the thread `starter`. **Not here**: stopping in good order (`process`). Without `setpriv`, a part of
//! util-linux, a killed run leaves its servers behind, and says so beforehand.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::cpu;
use crate::error::{Result, Tried};
use crate::process::find;

static STARTER: OnceLock<flume::Sender<Order>> = OnceLock::new();
static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
const BOUND: [&str; 3] = ["--pdeathsig", "KILL", "--"];
/// Becomes the command behind its own first argument, the number of the process that must be its parent.
const UNLESS_ORPHANED: [&str; 3] = ["/bin/sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#];

struct Order {
    command: Command,
    cpus: Vec<usize>,
    started: flume::Sender<Result<Child>>,
}

/// A command that runs `program` bound to this one; arguments and settings are added as to any other.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let Some(setpriv) = SETPRIV.get_or_init(setpriv) else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(BOUND).args(UNLESS_ORPHANED).arg(std::process::id().to_string()).arg(program);
    command
}

/// `setpriv`, if it is installed and knows what is asked of it.
fn setpriv() -> Option<PathBuf> {
    let works = |program: &PathBuf| {
        let mut tried = Command::new(program);
        tried.args(BOUND).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    };
    let found = find("setpriv").filter(works);
    if found.is_none() {
        eprintln!("setpriv (util-linux) is not installed: servers outlive this program if it is killed");
    }
    found
}

/// Starts a command on the given CPUs.
pub(crate) fn start(command: Command, cpus: &[usize]) -> Result<Child> {
    let starter = STARTER.get_or_init(run);
    let (started, answer) = flume::bounded(1);
    let order = Order { command, cpus: cpus.to_vec(), started };
    starter.send(order).expect("the starter lives as long as the program");
    answer.recv().expect("the starter answers every order")
}

fn run() -> flume::Sender<Order> {
    let (orders, inbox) = flume::unbounded::<Order>();
    let thread = thread::Builder::new().name("starter".into());
    let running = thread.spawn(move || {
        for Order { mut command, cpus, started } in inbox {
            let child = cpu::pin_to(&cpus)
                .and_then(|()| command.spawn().tried(|| format!("start {:?}", command.get_program())));
            // Who asked may be gone with a panic; then this program ends, and the child with it.
            let _ = started.send(child);
        }
    });
    running.expect("a thread more can be started");
    orders
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Set in the program that is killed.
    const PARENT: &str = "FIRESCROLL_BENCH_TEST_PARENT";

    /// Not a test by itself: the program that is killed. It starts a process and waits for its end, which never comes.
    #[test]
    fn parent() {
        if std::env::var_os(PARENT).is_none() {
            return;
        }
        let mut sleep = command("sleep");
        sleep.arg("100").stderr(Stdio::null());
        // From a thread that ends at once: it must not take the child with it.
        let started = thread::spawn(move || start(sleep, &cpu::allowed()?)).join();
        let mut child = started.expect("no panic").expect("started");
        println!("\nstarted {}", child.id());
        child.wait().expect("never");
    }

    #[test]
    fn a_process_dies_with_the_program_that_started_it() {
        if SETPRIV.get_or_init(setpriv).is_none() {
            return;
        }
        let mut parent = Command::new(std::env::current_exe().expect("this test"));
        parent.args(["--exact", "starter::tests::parent", "--nocapture", "--test-threads=1"]);
        let mut parent = parent.env(PARENT, "1").stdout(Stdio::piped()).spawn().expect("start");
        // The started process has this pipe as well: it ends when both of them are gone.
        let mut output = BufReader::new(parent.stdout.take().expect("piped"));
        let line =
            output.by_ref().lines().map(|line| line.expect("text")).find(|line| line.starts_with("started "));
        let line = line.expect("the parent runs");
        let pid = line.trim_start_matches("started ").parse().ok().and_then(Pid::from_raw).expect("a number");
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(output.read_to_end(&mut Vec::new())));
        assert!(matches!(end.try_recv(), Err(mpsc::TryRecvError::Empty)), "both run");
        parent.kill().expect("SIGKILL");
        parent.wait().expect("killed");
        let read = end.recv_timeout(Duration::from_secs(60));
        if read.is_err() {
            kill_process(pid, Signal::KILL).expect("it still runs");
        }
        assert!(matches!(read, Ok(Ok(_))), "the child has outlived its parent: {read:?}");
    }
}

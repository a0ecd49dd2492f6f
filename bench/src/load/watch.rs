//! The scheduler's account of the generator's thread and of the threads of the server that it loads.
//!
//! A node and the constant responder serve on threads of their own names; Redis and nginx, started with one worker, on
//! their main thread. All that a process has besides are its *other* threads: what they use of the serving CPU is the
//! server's own doing. A server whose other threads sit on CPUs of their own is charged with a little more than that.
//!
//! **Invariants**: every thread of the server is in one of the two groups; when there is another number of them, they are
//! looked up anew. **Runs on**: the generator's thread. **Not here**: what follows from a reading (`judge`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use super::judge::Reading;
use super::witness::Witnesses;
use crate::cpu::{self, Account, Times};
use crate::error::{Result, Tried};

/// Names of serving threads.
const SERVING: [&str; 2] = ["shard-", "constant"];

/// Reads both.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    witnesses: &'a Witnesses,
    generator: Account,
    server: Option<Server>,
    /// How often the server's threads were looked up.
    set: u32,
}

#[derive(Debug)]
struct Server {
    pid: u32,
    tasks: PathBuf,
    /// The number of links of `tasks`, which grows and shrinks with its entries.
    links: u64,
    serving: Vec<Account>,
    others: Vec<Account>,
}

impl<'a> Watch<'a> {
    /// Watches the calling thread, and the process `pid`.
    pub(super) fn new(pid: Option<u32>, witnesses: &'a Witnesses) -> Result<Self> {
        Ok(Self { witnesses, generator: Account::own()?, server: pid.map(Server::find).transpose()?, set: 0 })
    }

    /// The sums so far.
    pub(super) fn read(&mut self) -> Result<Reading> {
        if let Some(server) = &mut self.server
            && server.has_changed()?
        {
            *server = Server::find(server.pid)?;
            self.set += 1;
        }
        let server = self.server.as_ref();
        let serving = server.map_or(&[][..], |server| &server.serving);
        let others = server.map_or(&[][..], |server| &server.others);
        let sum = |threads: &[Account], value: fn(Times) -> Duration| -> Duration {
            threads.iter().filter_map(Account::times).map(value).sum()
        };
        Ok(Reading {
            set: self.set,
            generator: self.generator.times().map_or(Duration::ZERO, |times| times.delayed),
            serving: sum(serving, |times| times.delayed),
            runs: serving.iter().filter_map(Account::times).map(|times| times.runs).sum(),
            others: sum(others, |times| times.used) + self.witnesses.used(),
            absent: self.witnesses.absent(),
        })
    }
}

/// The CPUs that serving threads of a process have for themselves, ascending.
pub(super) fn serving_cpus(pid: u32) -> Result<Vec<usize>> {
    let (serving, _) = serving_and_others(pid)?;
    let cpus: BTreeSet<usize> = serving.iter().filter_map(|task| cpu::only_cpu(task)).collect();
    Ok(cpus.into_iter().collect())
}

/// The threads of a process by what they do: their directories below `/proc`.
fn serving_and_others(pid: u32) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let threads = cpu::threads(pid)?;
    let is_named = |name: &str| SERVING.iter().any(|prefix| name.starts_with(prefix));
    let any_named = threads.iter().any(|(_, name)| is_named(name));
    let main = PathBuf::from(format!("/proc/{pid}/task/{pid}"));
    let serves = |(path, name): &(PathBuf, String)| if any_named { is_named(name) } else { *path == main };
    let (serving, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(serves);
    let paths = |threads: Vec<(PathBuf, String)>| threads.into_iter().map(|(path, _)| path).collect();
    Ok((paths(serving), paths(others)))
}

impl Server {
    fn find(pid: u32) -> Result<Self> {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let links = links(&tasks)?;
        let (serving, others) = serving_and_others(pid)?;
        // One that has just ended has no account any more.
        let accounts =
            |tasks: Vec<PathBuf>| tasks.iter().filter_map(|task| Account::open(task).ok()).collect();
        let (serving, others) = (accounts(serving), accounts(others));
        Ok(Self { pid, tasks, links, serving, others })
    }

    fn has_changed(&self) -> Result<bool> {
        Ok(links(&self.tasks)? != self.links)
    }
}

fn links(tasks: &PathBuf) -> Result<u64> {
    Ok(fs::metadata(tasks).tried(|| format!("look at {}", tasks.display()))?.nlink())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn without_named_threads_the_main_thread_serves() {
        let mut child: Child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
        let server = Server::find(child.id()).expect("its threads");
        assert_eq!((server.serving.len(), server.others.len()), (1, 0));
        drop(child.stdin.take());
        child.wait().expect("ends with its input");
    }

    #[test]
    fn named_threads_serve_and_new_ones_are_found() {
        let (ready, is_ready) = mpsc::channel();
        let start = |name: &str| {
            let (ready, (stop, stopped)) = (ready.clone(), mpsc::channel::<()>());
            let run = move || {
                ready.send(()).expect("the test waits");
                // Ends when the test drops the other end.
                let _ = stopped.recv();
            };
            (stop, thread::Builder::new().name(name.into()).spawn(run).expect("spawn"))
        };
        let first = start("shard-7");
        is_ready.recv().expect("runs");
        let witnesses = Witnesses::default();
        let mut watch = Watch::new(Some(std::process::id()), &witnesses).expect("own threads");
        assert_eq!(watch.server.as_ref().map(|server| server.serving.len()), Some(1));
        let before = watch.read().expect("own threads");
        let second = start("shard-8");
        is_ready.recv().expect("runs");
        // Other tests start and end threads as well: only what is looked up anew is certain.
        watch.server = Some(Server::find(std::process::id()).expect("own threads"));
        assert_eq!(watch.server.as_ref().map(|server| server.serving.len()), Some(2));
        assert!(watch.read().expect("own threads").generator >= before.generator);
        for (stop, thread) in [first, second] {
            drop(stop);
            thread.join().expect("no panic");
        }
    }
}

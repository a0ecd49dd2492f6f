//! `firescroll import`: NDJSON into a node, over several connections, to be continued after a failure.
//!
//! file → [`source`] (a thread that reads) → [`line`] (parsed here) → one [`batch`] for each connection, chosen
//! by the hash of pk → [`worker`] → `POST /records/put` → [`resume`] keeps account.
//!
//! **Invariants**: records of one key arrive in the order of the file. The printed `--skip` never passes over a
//! line that is not in. Running an import again is harmless.
//!
//! **Runs on**: the main thread parses; see `source` and `worker` for the others. Queues between them are
//! bounded, so a slow node slows the reading.
//!
//! **Not here**: deletions and conditions. A line states a record, nothing else.

mod batch;
mod line;
mod resume;
mod source;
mod worker;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use flume::{RecvTimeoutError, Sender};

use super::failure::Failure;
use super::progress::Progress;
use super::stop::{Reason, Stop};
use super::{Connection, Outcome};
use batch::Batch;
use line::Record;
use resume::Resume;
use source::{Piece, Source};
use worker::Shared;

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll import records.ndjson
  zcat records.ndjson.gz | firescroll import -
  firescroll import --connections 16 --skip-bad records.ndjson
  firescroll import --skip 120000 records.ndjson      continue where a failed run said

A line is one record, as `export` writes them:
  {\"Pk\":\"example.com\",\"Sk\":\"A\",\"Data\":{\"ttl\":300}}
Pk, Sk and Data may be in lower case; CreatedAt and UpdatedAt are ignored; blank lines too. Records of one \
partition key are written in the order of the file. An import may be run again: a record is stated as a whole.

Exit code: 0 done, 1 done with lines left out (--skip-bad), 2 mistake, bad line or refusal, 3 server not \
reachable or not able to answer, 130 interrupted.";

/// Batches that wait for one connection.
const QUEUE: usize = 2;
/// How often the main thread looks whether to stop while the input is silent.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The file, one JSON object a line; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Connections that write at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Pass over so many lines at the start, as a failed run said
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    skip: u64,
    /// Leave out lines that are no records, and records that the server refuses, and count them
    #[arg(long)]
    skip_bad: bool,
    /// How long to try again when the server is overloaded or gone, in seconds
    #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    retry_sec: u64,
    #[command(flatten)]
    connection: Connection,
}

impl Import {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let stop = Stop::on_interrupt();
        self.run_until(stop.map_err(|source| Failure::File { path: self.file.clone(), source })?)
    }

    fn run_until(&self, stop: Stop) -> Result<Outcome, Failure> {
        let system = |source| Failure::File { path: self.file.clone(), source };
        let server = self.connection.server()?;
        // A wrong address shall show at once, and not after the patience for lost connections is spent.
        server.get("/up")?;
        let source = Source::open(&self.file).map_err(system)?;
        let connections = usize::from(self.connections);
        let shared = Shared {
            server,
            stop,
            progress: Progress::start(source.size),
            resume: Arc::new(Mutex::new(Resume::new(connections, self.skip))),
            failure: Arc::default(),
            left_out: Arc::default(),
            skip_bad: self.skip_bad,
            patience: Duration::from_secs(self.retry_sec),
        };
        let (queues, workers) = start_workers(connections, &shared).map_err(system)?;
        let batches = std::iter::repeat_with(Batch::default).take(connections).collect();
        let feed = Feed { path: &self.file, line: 0, skip: self.skip, batches, queues, shared: &shared };
        let fed = feed.all(&source);
        for worker in workers {
            worker.join().expect("a worker reports failures and does not panic");
        }
        self.conclude(fed, &shared)
    }

    /// Says how it ended and where to go on.
    fn conclude(&self, fed: Result<(), Failure>, shared: &Shared) -> Result<Outcome, Failure> {
        let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let interrupted = (shared.stop.reason() == Some(Reason::Interrupt)).then_some(Failure::Interrupted);
        let left_out = shared.left_out.load(Ordering::Relaxed);
        let Some(failure) = failure.or(fed.err()).or(interrupted) else {
            shared.progress.finish("imported");
            if left_out == 0 {
                return Ok(Outcome::Complete);
            }
            eprintln!("left out {left_out} lines");
            return Ok(Outcome::Partial);
        };
        shared.progress.clear();
        let certain = shared.account(|resume| resume.certain());
        let file = self.file.display();
        if certain == 0 {
            eprintln!("no line from the start is certainly in: run the import again");
        } else {
            eprintln!(
                "{certain} lines from the start are in; go on with: firescroll import --skip {certain} {file}"
            );
        }
        Err(failure)
    }
}

/// The threads of all connections.
type Workers = Vec<JoinHandle<()>>;

fn start_workers(connections: usize, shared: &Shared) -> std::io::Result<(Vec<Sender<Batch>>, Workers)> {
    let mut queues = Vec::with_capacity(connections);
    let mut workers = Vec::with_capacity(connections);
    for connection in 0..connections {
        let (sender, receiver) = flume::bounded(QUEUE);
        let shared = shared.clone();
        let worker = thread::Builder::new()
            .name(format!("import-{connection}"))
            .spawn(move || worker::run(connection, &receiver, &shared))?;
        queues.push(sender);
        workers.push(worker);
    }
    Ok((queues, workers))
}

/// The connection that writes a partition key: always the same one, which keeps the order.
fn route(pk: &str, connections: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    pk.hash(&mut hasher);
    let connections = connections as u64;
    usize::try_from(hasher.finish() % connections).expect("less than the count of connections")
}

/// The main thread's part: pieces of the file in, batches out.
struct Feed<'a> {
    path: &'a Path,
    /// The number of the line last seen, from 1.
    line: u64,
    skip: u64,
    /// The batch that is being filled, for each connection.
    batches: Vec<Batch>,
    queues: Vec<Sender<Batch>>,
    shared: &'a Shared,
}

/// Somebody wants the import to stop, and has said why.
struct Stopped;

impl Feed<'_> {
    /// Takes the input to its end. What is wrong with a line ends it as well, after everything before that
    /// line was handed over. The queues are closed when this returns.
    fn all(mut self, source: &Source) -> Result<(), Failure> {
        let mut ended = Ok(());
        while self.shared.stop.reason().is_none() {
            let piece = match source.pieces.recv_timeout(LOOK) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            ended = self.piece(piece);
            if ended.is_err() {
                break;
            }
        }
        for (batch, queue) in self.batches.into_iter().zip(&self.queues) {
            if !batch.is_empty() && self.shared.stop.reason().is_none() {
                // A queue without its worker belongs to an import that has failed, and knows why.
                let _ = queue.send(batch);
            }
        }
        ended
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Failure> {
        match piece {
            Piece::Lines(lines) => {
                for line in lines.split_inclusive(|&byte| byte == b'\n') {
                    if let Some(Stopped) = self.line(line)? {
                        break;
                    }
                    self.shared.progress.bytes(line.len() as u64);
                }
                Ok(())
            }
            Piece::TooLong(length) => {
                self.line += 1;
                self.shared.progress.bytes(length);
                if self.line <= self.skip {
                    return Ok(());
                }
                self.bad(format!("{length} bytes are too long for a record"))
            }
            Piece::Failed(source) => Err(Failure::File { path: self.path.to_owned(), source }),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Stopped>, Failure> {
        self.line += 1;
        let number = self.line;
        if number <= self.skip {
            return Ok(None);
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            self.shared.account(|resume| resume.without_record(number));
            return Ok(None);
        }
        let record = match Record::parse(line) {
            Ok(record) => record,
            Err(reason) => return self.bad(reason).map(|()| None),
        };
        let connection = route(&record.pk, self.queues.len());
        let sealed = self.batches[connection].add(number, &record);
        let first = self.batches[connection].len() == 1;
        self.shared.account(|resume| resume.record(number, connection, first));
        let Some(batch) = sealed else { return Ok(None) };
        Ok(self.queues[connection].send(batch).err().map(|_| Stopped))
    }

    /// Leaves the current line out, or ends the import with it.
    fn bad(&self, reason: String) -> Result<(), Failure> {
        if !self.shared.skip_bad {
            return Err(Failure::Line { line: self.line, reason });
        }
        self.shared.leave_out(self.line, &reason);
        self.shared.account(|resume| resume.without_record(self.line));
        Ok(())
    }
}

#[cfg(test)]
mod tests;

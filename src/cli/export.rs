//! `firescroll export`: the records of a node, or of one partition key, into a file.
//!
//! `GET /partitions` on the internal port → one stream for each partition, or pages of a listing on the API
//! port → `FILE.part` → fsync → renamed to `FILE`. A file of that name is either whole or was there before.
//!
//! **Invariants**: each partition is a consistent snapshot of its own. A stream that ends early fails the
//! export. Memory is bounded.
//!
//! **Not here**: what other nodes hold. An export of a node has the partitions of that node.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::failure::Failure;
use super::list::Query;
use super::progress::Progress;
use super::server::Server;
use super::stop::Stop;
use super::{Connection, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll export records.ndjson                   all partitions of the node
  firescroll export - | gzip > records.ndjson.gz
  firescroll export --pk example.com records.ndjson  one partition key, over the API port

Whole nodes are read over the internal port, which by default answers on the node's own machine alone. Each \
partition is a consistent snapshot; writes that come meanwhile may be in one partition and not in another. \
A file is complete when it has its name: until then it is called FILE.part.

Exit code: 0 done, 2 mistake or refusal, 3 server not reachable or not able to answer, 130 interrupted.";

/// Bytes that are copied at once.
const CHUNK: usize = 256 << 10;
/// The longest list of partitions that is read, in bytes.
const LONGEST_LIST: u64 = 4 << 20;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The file, overwritten when the export is complete; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Only the records of this partition key
    #[arg(long, value_name = "PK")]
    pk: Option<String>,
    /// Address of the node's internal port
    #[arg(
        long,
        env = "FIRESCROLL_INTERNAL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8191"
    )]
    internal_url: String,
    #[command(flatten)]
    connection: Connection,
}

/// What the internal port says about a node's partitions.
#[derive(Deserialize)]
struct Partitions {
    partitions: Vec<u32>,
}

impl Export {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        let api = self.connection.server()?;
        let internal = Server::new(&self.internal_url, Duration::from_secs(self.connection.timeout_sec))?;
        let mut target = Target::create(&self.file)?;
        let stop = Stop::on_interrupt().map_err(|source| Failure::File { path: self.file, source })?;
        let progress = Progress::start(None);
        let copied = match self.pk {
            Some(pk) => Query::all(pk).run(&api, None, |record| {
                target.write(record.as_bytes())?;
                target.write(b"\n")?;
                progress.bytes(record.len() as u64 + 1);
                progress.records(1);
                go_on(&stop)
            }),
            None => whole_node(&internal, &mut target, &progress, &stop),
        };
        match copied.and_then(|()| target.commit()) {
            Ok(()) => {
                progress.finish("exported");
                Ok(Outcome::Complete)
            }
            Err(failure) => {
                progress.clear();
                target.discard();
                Err(failure)
            }
        }
    }
}

fn go_on(stop: &Stop) -> Result<(), Failure> {
    if stop.reason().is_some() { Err(Failure::Interrupted) } else { Ok(()) }
}

fn whole_node(
    internal: &Server,
    target: &mut Target,
    progress: &Progress,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut answer = internal.get("/partitions")?;
    let text = answer.body_mut().with_config().limit(LONGEST_LIST).read_to_string();
    let text = text.map_err(|error| internal.useless(&error))?;
    let Partitions { partitions } = serde_json::from_str(&text).map_err(|error| internal.useless(&error))?;
    for partition in partitions {
        let answer = internal.get(&format!("/partitions/{partition}/export"))?;
        let stream = answer.into_body().into_reader();
        let copied = copy_lines(stream, |chunk, lines| {
            target.write(chunk)?;
            progress.bytes(chunk.len() as u64);
            progress.records(lines);
            go_on(stop)
        });
        copied.map_err(|trouble| match trouble {
            Trouble::Stream(reason) => {
                internal.useless(&format!("partition {partition} was cut off: {reason}"))
            }
            Trouble::Own(failure) => failure,
        })?;
    }
    Ok(())
}

/// What went wrong while copying a stream.
#[derive(Debug)]
enum Trouble {
    /// The stream ended early.
    Stream(String),
    /// The closure failed.
    Own(Failure),
}

/// Copies a stream of lines piece by piece; `each` gets the bytes and how many lines end in them.
fn copy_lines(
    mut stream: impl Read,
    mut each: impl FnMut(&[u8], u64) -> Result<(), Failure>,
) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK];
    let mut last = b'\n';
    loop {
        let length = match stream.read(&mut chunk) {
            Ok(0) if last == b'\n' => return Ok(()),
            Ok(0) => return Err(Trouble::Stream("the last line has no end".to_owned())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Trouble::Stream(error.to_string())),
        };
        let bytes = &chunk[..length];
        last = bytes[length - 1];
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        each(bytes, lines).map_err(Trouble::Own)?;
    }
}

/// Where an export goes.
enum Target {
    Stdout(BufWriter<io::Stdout>),
    /// `part` becomes `path` when all of it is there.
    File {
        output: BufWriter<File>,
        part: PathBuf,
        path: PathBuf,
    },
}

impl Target {
    /// Opens standard output for `-`, else a `.part` file beside `path`; one left by an earlier run is
    /// overwritten.
    fn create(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(BufWriter::with_capacity(CHUNK, io::stdout())));
        }
        if path.is_dir() || path.file_name().is_none() {
            let path = path.display();
            return Err(Failure::Usage(format!("{path} is a directory; accepted: the name of a file")));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|source| Failure::File { path: part.clone(), source })?;
        let output = BufWriter::with_capacity(CHUNK, file);
        Ok(Self::File { output, part, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(output) => output.write_all(bytes).map_err(Failure::Output),
            Self::File { output, part, .. } => {
                output.write_all(bytes).map_err(|source| Failure::File { path: part.clone(), source })
            }
        }
    }

    /// Makes everything written durable and gives the file its name.
    fn commit(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout(output) => output.flush().map_err(Failure::Output),
            Self::File { output, part, path } => output
                .flush()
                .and_then(|()| output.get_ref().sync_all())
                .and_then(|()| fs::rename(&*part, &*path))
                .map_err(|source| Failure::File { path: part.clone(), source }),
        }
    }

    /// Removes what a failed export has left.
    fn discard(self) {
        if let Self::File { part, .. } = self {
            // It is overwritten by the next export if it cannot be removed now.
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_copied_and_counted() {
        let (mut seen, mut count) = (Vec::new(), 0);
        copy_lines(&b"{}\n{}\n{}\n"[..], |bytes, lines| {
            seen.extend_from_slice(bytes);
            count += lines;
            Ok(())
        })
        .expect("a whole stream");
        assert_eq!((seen.as_slice(), count), (&b"{}\n{}\n{}\n"[..], 3));
        copy_lines(&b""[..], |_, _| Ok(())).expect("a partition without records");
    }

    #[test]
    fn a_stream_that_ends_within_a_line_is_an_error() {
        assert!(matches!(copy_lines(&b"{}\n{\"Pk"[..], |_, _| Ok(())), Err(Trouble::Stream(_))));
        let stopped = copy_lines(&b"{}\n"[..], |_, _| Err(Failure::Interrupted));
        assert!(matches!(stopped, Err(Trouble::Own(Failure::Interrupted))));
    }

    #[test]
    fn a_file_gets_its_name_only_when_complete() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("out");
        let part = scratch.path().join("out.part");

        let mut target = Target::create(&path).expect("a new file");
        target.write(b"half").expect("a write");
        assert!(part.exists() && !path.exists());
        target.discard();
        assert!(!part.exists() && !path.exists());

        let mut target = Target::create(&path).expect("a new file");
        target.write(b"whole\n").expect("a write");
        target.commit().expect("a rename");
        assert!(!part.exists());
        assert_eq!(fs::read(&path).expect("the file"), b"whole\n");
    }

    #[test]
    fn a_directory_is_no_file() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        assert!(matches!(Target::create(scratch.path()), Err(Failure::Usage(_))));
        assert!(matches!(Target::create(Path::new("/no/such/directory/file")), Err(Failure::File { .. })));
    }
}

//! Why a client command did not do its work, and which exit code says so.
//!
//! **Not here**: retries. [`Failure::may_pass`] only says which failures are worth one.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a command ended without its work done.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The call itself makes no sense: nothing was sent. The user corrects the arguments.
    #[error("{0}")]
    Usage(String),
    /// The server understood and said no: nothing of the request was applied. The user corrects the request.
    #[error("the server refused: {detail} (status {status})")]
    Refused {
        /// The HTTP status, 4xx.
        status: u16,
        /// What the server says is wrong.
        detail: String,
    },
    /// The server cannot do it now. Writes may or may not have happened; the same call may be made again.
    #[error("the server cannot answer now: {detail} (status {status})")]
    Unavailable {
        /// The HTTP status, 408, 429 or 5xx.
        status: u16,
        /// What the server says about it.
        detail: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// No server, or it fell silent. Writes may or may not have happened; the same call may be made again.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The address that was tried.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The answer ended early or is none that a node gives. What was printed before is good, and incomplete.
    #[error("the answer of {url} is of no use: {reason}")]
    Answer {
        /// The address that answered.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of this machine could not be read or written. The user looks at path and reason.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// A line of an import is no record. Earlier lines are in; the user corrects it, or passes `--skip-bad`.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number in the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A batch of an import failed for good.
    #[error("lines {first} to {last}: {source}")]
    Batch {
        /// The number of the batch's first line.
        first: u64,
        /// The number of the batch's last line; those between need not all be in this batch.
        last: u64,
        /// Why.
        source: Box<Failure>,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The exit code of the program for this failure.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Refused { .. }
            | Self::File { .. }
            | Self::Output(_)
            | Self::Line { .. } => 2,
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Answer { .. } => 3,
            Self::Batch { source, .. } => source.exit_code(),
            Self::Interrupted => 130,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable { status, .. } => matches!(status, 408 | 429 | 502 | 503 | 504),
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// How long the server asks to be left alone, if it says so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the reader of standard output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(status: u16) -> Failure {
        Failure::Unavailable { status, detail: String::new(), retry_after: None }
    }

    #[test]
    fn overload_and_lost_connections_may_pass_but_a_broken_server_does_not() {
        for status in [408, 429, 502, 503, 504] {
            assert!(unavailable(status).may_pass(), "{status}");
        }
        assert!(!unavailable(500).may_pass());
        assert!(!Failure::Refused { status: 400, detail: String::new() }.may_pass());
        assert!(Failure::Unreachable { url: String::new(), reason: String::new() }.may_pass());
    }

    #[test]
    fn a_batch_exits_as_its_cause_does() {
        let source = Box::new(unavailable(503));
        assert_eq!(Failure::Batch { first: 1, last: 2, source }.exit_code(), 3);
        let source = Box::new(Failure::Refused { status: 400, detail: "no".to_owned() });
        let failure = Failure::Batch { first: 1, last: 2, source };
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(failure.to_string(), "lines 1 to 2: the server refused: no (status 400)");
    }
}

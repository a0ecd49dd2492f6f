//! What ends a benchmark without a figure.
//!
//! **Not here**: retries. A run whose answers are wrong or missing is no measurement, so everything is final.

use std::io;

/// Why there is no result. The run prints this and exits with status 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The machine or the peer refused something; the sentence says what was tried.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A server answered, but not with what was asked: its figures would be of something else.
    #[error("wrong answer: {0}")]
    Answer(String),
    /// The server did not do in time what the run needs.
    #[error("gave up: {0}")]
    Patience(String),
    /// The options cannot be measured as given.
    #[error("{0}")]
    Usage(String),
    /// The engine refused what it was fed.
    #[error("engine: {0}")]
    Engine(String),
    /// Somebody asked the run to end; all that it started was stopped.
    #[error("interrupted")]
    Interrupted,
    /// The measured thing missed what the run promises to check.
    #[error("failed: {0}")]
    Missed(String),
}

/// The result of everything that can end a run.
pub(crate) type Result<T> = std::result::Result<T, BenchError>;

/// Says in words what was tried when an I/O error came.
pub(crate) trait Tried<T> {
    /// Turns the error into [`BenchError::Io`] with what `what` says.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| BenchError::Io { what: what(), source })
    }
}

impl<T> Tried<T> for rustix::io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| BenchError::Io { what: what(), source: errno.into() })
    }
}

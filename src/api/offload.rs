//! A thread that parses large bodies, so that no serving core is held up by one.
//!
//! A body of megabytes takes milliseconds to parse; on a serving core that would delay everybody else's reads. Cores
//! hand such a body over with a closure and wait for its result like for any other event.
//!
//! Invariant: the queue is bounded; a full one refuses (429).
//! Runs on: its own thread, not pinned. Not here: small bodies, which a core parses in place.

use futures_channel::oneshot;

use super::request::Parser;
use crate::error::ApiError;

/// Bodies longer than this are parsed on the thread. At about 1 GB/s, this bounds a core's slice to some 50 µs.
pub const INLINE_BYTES: usize = 32 * 1024;

const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Parser) + Send>;

/// The cores' side of the thread; clones share it. The thread ends with the last clone.
#[derive(Clone)]
pub struct Offload {
    jobs: flume::Sender<Job>,
}

impl Offload {
    /// Starts the thread with a parser of its own.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(make: impl FnOnce() -> Parser + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = flume::bounded::<Job>(QUEUE);
        std::thread::Builder::new().name("parse".into()).spawn(move || {
            let mut parser = make();
            for job in queue {
                job(&mut parser);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `work` there.
    ///
    /// # Errors
    /// The queue is full, or `work` itself fails.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Parser) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |parser| {
            // Nobody waits any more if the client has gone.
            let _ = done.send(work(parser));
        });
        if self.jobs.try_send(job).is_err() {
            return Err(ApiError::Overloaded("too many large bodies are being parsed; try again".into()));
        }
        result.await.unwrap_or_else(|_| Err(ApiError::Internal("the parsing thread has ended".into())))
    }
}

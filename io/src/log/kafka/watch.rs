//! The watch: keeps the bounds fresh and notices a topic that was given more partitions.
//!
//! **Runs on**: its own thread with a client of its own, so that a broker that does not answer holds up nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::bounds::Bounds;
use super::context::Context;
use crate::log::LogError;

/// How old bounds may be.
const BOUNDS_EVERY: Duration = Duration::from_secs(1);
/// How long a changed partition count may go unnoticed.
const COUNT_EVERY: Duration = Duration::from_secs(3);
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// What the watch has found, for everybody.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The partition count that the topic has by now, if it is not the one it had.
    count: OnceLock<u32>,
}

impl Verdict {
    pub(super) fn changed_count(&self) -> Option<u32> {
        self.count.get().copied()
    }
}

/// The thread's handle.
pub(super) struct Watch {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Stop {
    /// Waits, or less if the end comes first; whether it has come.
    fn wait(&self, time: Duration) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = |(): &mut ()| !self.stopped.load(Ordering::Relaxed);
        let (_guard, _) =
            self.rung.wait_timeout_while(guard, time, stopped).unwrap_or_else(PoisonError::into_inner);
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Starts the thread. `on_count` is called once, when the topic's count is not `partitions` any more.
    pub(super) fn start(
        client: BaseConsumer<Context>,
        topic: String,
        partitions: u32,
        bounds: Arc<Bounds>,
        verdict: Arc<Verdict>,
        on_count: impl Fn(u32) + Send + 'static,
    ) -> Result<Watch, LogError> {
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let run = move || {
            let all: Vec<u32> = (0..partitions).collect();
            let mut count_at = Instant::now() + COUNT_EVERY;
            while !stopped.wait(BOUNDS_EVERY) {
                // Serves the client's events; it has no messages to give.
                let _ = client.poll(Duration::ZERO);
                match bounds.refresh(&client, &topic, &all, ANSWER_WAIT) {
                    Ok(()) => client.context().health.clear(),
                    Err(error) => tracing::debug!("Kafka: bounds: {error}"),
                }
                if Instant::now() < count_at {
                    continue;
                }
                count_at = Instant::now() + COUNT_EVERY;
                if let Some(found) = count(&client, &topic).filter(|found| *found != partitions)
                    && verdict.count.set(found).is_ok()
                {
                    on_count(found);
                }
            }
        };
        let thread = std::thread::Builder::new().name("kafka-watch".into()).spawn(run).map_err(|source| {
            LogError::Io { action: "start a thread for", path: "kafka-watch".into(), source }
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.stopped.store(true, Ordering::Relaxed);
        drop(self.stop.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.stop.rung.notify_all();
        // It ends after at most one question to the brokers.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The partitions of the topic, if the brokers say.
fn count(client: &BaseConsumer<Context>, topic: &str) -> Option<u32> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WAIT).ok()?;
    let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
    if topic.error().is_some() {
        return None;
    }
    u32::try_from(topic.partitions().len()).ok().filter(|count| *count > 0)
}

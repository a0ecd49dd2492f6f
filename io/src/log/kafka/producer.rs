//! The producer: messages in, acknowledgements out.
//!
//! `append` (serving cores) → librdkafka's queue → brokers → `delivery` (the producer's thread) → the ack of the call,
//! once its last message is answered; that wakes the request on its own core.
//!
//! Invariants: idempotent, acks from all in-sync replicas; an ack says Ok only when every message of the call was
//! acknowledged; what is in flight is bounded by messages and bytes, and refused above with nothing queued. A producer
//! that librdkafka declares dead is replaced by a new one; what was in flight in it fails.
//!
//! **Runs on**: any thread may append; answers come on the producer's own thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures_channel::oneshot;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::bounds::{Bounds, number};
use super::context::{self, Health};
use super::options::KafkaOptions;
use crate::log::{Ack, AppendError, LogError, Message};

/// Messages and bytes that may be in flight; more are refused.
const MAX_MESSAGES: usize = 200_000;
const MAX_BYTES: usize = 128 << 20;

/// The shared side of all answers.
pub(super) struct Deliveries {
    health: Arc<Health>,
    bounds: Arc<Bounds>,
    topic: String,
    flight: Flight,
    appended: AtomicU64,
    failing: Mutex<Option<String>>,
}

/// What is in flight.
#[derive(Default)]
struct Flight {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Flight {
    /// Makes room for a call, or says that there is none.
    fn enter(&self, messages: usize, bytes: usize) -> bool {
        let messages = self.messages.fetch_add(messages, Ordering::Relaxed) + messages;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        messages <= MAX_MESSAGES && bytes <= MAX_BYTES
    }

    fn leave(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One call of `append`.
struct Call {
    left: AtomicUsize,
    offsets: Box<[AtomicU64]>,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    failed: Option<AppendError>,
    ack: Option<oneshot::Sender<Result<Vec<u64>, AppendError>>>,
}

/// One message of a call, as librdkafka carries it.
pub(super) struct Ticket {
    call: Arc<Call>,
    index: usize,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    fn new(messages: usize) -> (Arc<Call>, Ack) {
        let (ack, answer) = oneshot::channel();
        let call = Call {
            left: AtomicUsize::new(messages),
            offsets: (0..messages).map(|_| AtomicU64::new(0)).collect(),
            outcome: Mutex::new(Outcome { failed: None, ack: Some(ack) }),
        };
        (Arc::new(call), answer)
    }

    /// The fate of one message; the last one answers the call.
    fn settle(&self, index: usize, fate: Result<u64, AppendError>) {
        match fate {
            Ok(offset) => self.offsets[index].store(offset, Ordering::Relaxed),
            Err(error) => {
                lock(&self.outcome).failed.get_or_insert(error);
            }
        }
        // Orders the offsets of all threads before the reading of them.
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let Outcome { failed, ack } = &mut *lock(&self.outcome);
        let answer = match failed.take() {
            Some(error) => Err(error),
            None => Ok(self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).collect()),
        };
        if let Some(ack) = ack.take() {
            // A client that has gone wants no answer.
            let _ = ack.send(answer);
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(&self.health, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::note(&self.health, &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.flight.leave(1, ticket.bytes);
        let fate = match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).unwrap_or(0);
                if message.topic() == self.topic {
                    self.bounds.saw(u32::try_from(message.partition()).unwrap_or(u32::MAX), offset);
                }
                self.appended.fetch_add(1, Ordering::Relaxed);
                lock(&self.failing).take();
                self.health.clear();
                Ok(offset)
            }
            Err((error, _)) => {
                let refused = self.refusal(error, ticket.bytes);
                if !matches!(refused, AppendError::RefusedTooLarge { .. }) {
                    *lock(&self.failing) = Some(refused.to_string());
                }
                Err(refused)
            }
        };
        ticket.call.settle(ticket.index, fate);
    }
}

impl Deliveries {
    fn refusal(&self, error: &KafkaError, size: usize) -> AppendError {
        let code = error.rdkafka_error_code();
        let why = |text: &str| {
            let trouble = self.health.trouble().map(|trouble| format!(": {}", trouble.reason));
            AppendError::Failed { reason: format!("{text}{}", trouble.unwrap_or_default()).into() }
        };
        match code {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                AppendError::RefusedTooLarge { size }
            }
            Some(RDKafkaErrorCode::QueueFull) => AppendError::Overloaded,
            Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => {
                why("Kafka did not acknowledge in time (LOG_ACK_TIMEOUT_MS); the write may still be applied")
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => why(&format!("Kafka does not let KAFKA_USER write to the topic {}", self.topic)),
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition,
            ) => why(&format!("Kafka does not know the topic {} or the partition any more", self.topic)),
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => AppendError::Closed,
            Some(code) => why(&format!("Kafka refused the write ({code})")),
            None => why(&format!("Kafka refused the write ({error})")),
        }
    }
}

type Native = ThreadedProducer<Deliveries>;

/// The producer of this process.
pub(super) struct Producer {
    options: KafkaOptions,
    health: Arc<Health>,
    bounds: Arc<Bounds>,
    topic: String,
    native: RwLock<Arc<Native>>,
    closed: AtomicBool,
    /// Why no message may be written any more.
    stopped: OnceLock<Arc<str>>,
}

impl Producer {
    pub(super) fn new(
        options: &KafkaOptions,
        topic: String,
        health: Arc<Health>,
        bounds: Arc<Bounds>,
    ) -> Result<Producer, LogError> {
        let native = Producer::native(options, &topic, &health, &bounds)?;
        Ok(Producer {
            options: options.clone(),
            health,
            bounds,
            topic,
            native: RwLock::new(Arc::new(native)),
            closed: AtomicBool::new(false),
            stopped: OnceLock::new(),
        })
    }

    fn native(
        options: &KafkaOptions,
        topic: &str,
        health: &Arc<Health>,
        bounds: &Arc<Bounds>,
    ) -> Result<Native, LogError> {
        let context = Deliveries {
            health: Arc::clone(health),
            bounds: Arc::clone(bounds),
            topic: topic.to_owned(),
            flight: Flight::default(),
            appended: AtomicU64::new(0),
            failing: Mutex::new(None),
        };
        options
            .producer()
            .create_with_context(context)
            .map_err(|error| LogError::Options(format!("Kafka's producer: {error}")))
    }

    /// The producer of the moment; a dead one is replaced first.
    pub(super) fn current(&self) -> Result<Arc<Native>, LogError> {
        let native = Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner));
        let Some((code, reason)) = native.client().fatal_error() else { return Ok(native) };
        let mut slot = self.native.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&slot, &native) {
            tracing::warn!("Kafka: the producer has to start afresh: {reason} ({code:?})");
            *slot = Arc::new(Producer::native(&self.options, &self.topic, &self.health, &self.bounds)?);
        }
        Ok(Arc::clone(&slot))
    }

    /// No message is written from here on.
    pub(super) fn stop(&self, reason: &str) {
        let _ = self.stopped.set(reason.into());
    }

    /// Queues messages for the mutations topic; see [`crate::log::Log::append`].
    pub(super) fn append(&self, messages: &[Message]) -> Result<Ack, AppendError> {
        if let Some(reason) = self.stopped.get() {
            return Err(AppendError::Failed { reason: Arc::clone(reason) });
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(AppendError::Closed);
        }
        let limit = self.options.max_message_bytes;
        for (index, message) in messages.iter().enumerate() {
            let size = message.key.len() + message.value.len();
            if size > limit {
                return Err(AppendError::TooLarge { size, limit, index });
            }
        }
        self.send(&self.topic, messages)
    }

    /// Queues messages for any topic.
    pub(super) fn send(&self, topic: &str, messages: &[Message]) -> Result<Ack, AppendError> {
        let native =
            self.current().map_err(|error| AppendError::Failed { reason: error.to_string().into() })?;
        let context = native.context();
        let bytes = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
        if !context.flight.enter(messages.len(), bytes) {
            context.flight.leave(messages.len(), bytes);
            return Err(AppendError::Overloaded);
        }
        let (call, ack) = Call::new(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let size = message.key.len() + message.value.len();
            let ticket = Box::new(Ticket { call: Arc::clone(&call), index, bytes: size });
            let record = BaseRecord::with_opaque_to(topic, ticket)
                .partition(number(message.partition))
                .key(&message.key[..])
                .payload(&message.value[..]);
            if let Err((error, record)) = native.send(record) {
                context.flight.leave(1, size);
                // Earlier messages of the call are on their way: the answer is an unknown outcome.
                let refused = context.refusal(&error, size);
                record.delivery_opaque.call.settle(index, Err(refused));
            }
        }
        Ok(ack)
    }

    /// Messages and bytes in flight, messages acknowledged, and why the last one failed.
    pub(super) fn state(&self) -> (u64, u64, u64, Option<String>) {
        let native = Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner));
        let context = native.context();
        (
            context.flight.messages.load(Ordering::Relaxed) as u64,
            context.flight.bytes.load(Ordering::Relaxed) as u64,
            context.appended.load(Ordering::Relaxed),
            lock(&context.failing).clone(),
        )
    }

    /// Takes no more messages and waits for what is in flight.
    pub(super) fn close(&self, patience: Duration) {
        self.closed.store(true, Ordering::Relaxed);
        let native = Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = native.flush(patience) {
            tracing::warn!("Kafka: not every write was acknowledged before the end: {error}");
        }
    }
}

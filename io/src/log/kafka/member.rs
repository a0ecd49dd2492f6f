//! Consumers: a member of the group, whose partitions the brokers deal out, and a reader of given partitions.
//!
//! Messages: librdkafka's queue → one buffer a poll → entries that are slices of it. Assignments: librdkafka's
//! rebalance callback only notes the change; whoever polls takes it ([`Consumer::change`]), opens or closes stores,
//! and answers ([`Consumer::start`], [`Consumer::give_back`]). Until then the group waits, and everything else goes on.
//!
//! Invariants: every change is answered, one without partitions too; a partition delivers nothing before it was started and
//! nothing after it was revoked, whatever librdkafka still had in its queue; an offset is delivered once.
//!
//! **Runs on**: the ingest thread, which may block here.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _, Timestamp};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::bounds::{Bounds, number};
use super::context::{self, Health};
use super::options::KafkaOptions;
use crate::log::{Change, Consumer, Entry, Gap, LogError};

/// A poll takes at most so many messages and about so many bytes.
const BATCH_MESSAGES: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;
/// How long the brokers may take to say where partitions begin and end.
const BOUNDS_WAIT: Duration = Duration::from_secs(5);
/// How long until a look for lost positions that failed is taken again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long leaving the group may take before the process goes on without waiting for it.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long after an outage and the session the group's answer may take.
const LATE_NEWS: Duration = Duration::from_secs(10);

/// What the rebalance callback notes.
#[derive(Debug)]
enum Rebalance {
    Assigned(Vec<u32>),
    Revoked { partitions: Vec<u32>, lost: bool },
}

/// The context of a consumer.
struct GroupContext {
    health: Arc<Health>,
    changes: Mutex<VecDeque<Rebalance>>,
    /// Nobody answers changes any more: the callback does.
    closing: AtomicBool,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(&self.health, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::note(&self.health, &error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let answered = if assigned {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(list)
            };
            if let Err(error) = answered {
                tracing::debug!("Kafka: while leaving the group: {error}");
            }
            return;
        }
        let partitions =
            list.elements().iter().filter_map(|each| u32::try_from(each.partition()).ok()).collect();
        let change = if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }
}

/// A consumer of the mutations topic.
pub(super) struct Member {
    consumer: Option<BaseConsumer<GroupContext>>,
    topic: String,
    group: String,
    instance: String,
    /// How long the group waits for its members.
    session: Duration,
    health: Arc<Health>,
    bounds: Arc<Bounds>,
    /// By partition that delivers: the first offset that it has not.
    tracks: HashMap<u32, u64>,
    /// Whether the brokers deal out the partitions.
    grouped: bool,
    /// Said by librdkafka: some partition's position is not in the log any more. When to look which.
    look_at: Option<Instant>,
    gaps: VecDeque<Gap>,
}

impl Member {
    /// Joins the group.
    pub(super) fn join(
        options: &KafkaOptions,
        topic: &str,
        health: &Arc<Health>,
        bounds: &Arc<Bounds>,
    ) -> Result<Member, LogError> {
        let member = Member::new(&options.member(), options, topic, health, bounds, true)?;
        member
            .consumer()
            .subscribe(&[topic])
            .map_err(|error| LogError::Options(format!("Kafka: cannot subscribe to {topic}: {error}")))?;
        Ok(member)
    }

    /// Reads given partitions and belongs to no group.
    pub(super) fn reader(
        options: &KafkaOptions,
        topic: &str,
        health: &Arc<Health>,
        bounds: &Arc<Bounds>,
        from: &[(u32, u64)],
    ) -> Result<Member, LogError> {
        let mut member = Member::new(&options.reader(), options, topic, health, bounds, false)?;
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in from {
            let (start, end) = (bounds.start(partition), bounds.end(partition));
            if offset < start || offset > end {
                return Err(LogError::OutOfRange { partition, offset, start, end });
            }
            position(&mut list, topic, partition, offset)?;
            member.tracks.insert(partition, offset);
        }
        member.consumer().assign(&list).map_err(|error| refused("assign", &error))?;
        Ok(member)
    }

    fn new(
        config: &rdkafka::ClientConfig,
        options: &KafkaOptions,
        topic: &str,
        health: &Arc<Health>,
        bounds: &Arc<Bounds>,
        grouped: bool,
    ) -> Result<Member, LogError> {
        let context = GroupContext {
            health: Arc::clone(health),
            changes: Mutex::default(),
            closing: AtomicBool::new(false),
        };
        let consumer = config
            .create_with_context(context)
            .map_err(|error| LogError::Options(format!("Kafka's consumer: {error}")))?;
        Ok(Member {
            consumer: Some(consumer),
            topic: topic.to_owned(),
            group: options.group.clone(),
            instance: options.instance.clone(),
            session: options.session,
            health: Arc::clone(health),
            bounds: Arc::clone(bounds),
            tracks: HashMap::new(),
            grouped,
            look_at: None,
            gaps: VecDeque::new(),
        })
    }

    fn consumer(&self) -> &BaseConsumer<GroupContext> {
        self.consumer.as_ref().expect("only the drop takes it")
    }

    /// Puts what is delivered of a message into the batch.
    fn take(&mut self, message: &BorrowedMessage<'_>, batch: &mut Batch) {
        let (Ok(partition), Ok(offset)) =
            (u32::try_from(message.partition()), u64::try_from(message.offset()))
        else {
            return;
        };
        let Some(next) = self.tracks.get_mut(&partition).filter(|next| offset >= **next) else { return };
        *next = offset + 1;
        self.bounds.saw(partition, offset);
        batch.push(partition, offset, message);
    }

    /// What an error of a poll means for the caller: nothing, mostly, since librdkafka tries again by itself.
    fn judge(&mut self, error: &KafkaError) -> Result<(), LogError> {
        match error {
            KafkaError::MessageConsumptionFatal(
                RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnknownMemberId,
            ) => Err(LogError::Fenced {
                instance: self.instance.clone(),
                group: self.group.clone(),
                after_outage: self.health.had_outage(self.session + LATE_NEWS),
            }),
            KafkaError::MessageConsumptionFatal(code) => {
                Err(LogError::Refused { reason: format!("Kafka's consumer cannot go on: {code}") })
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                self.look_at.get_or_insert_with(Instant::now);
                Ok(())
            }
            KafkaError::MessageConsumption(code) => {
                self.health.note(*code, &code.to_string());
                Ok(())
            }
            other => {
                tracing::warn!("Kafka: {other}");
                Ok(())
            }
        }
    }

    /// Finds the partitions whose position the log does not hold any more, and sets the others back to where they
    /// stood: librdkafka has stopped fetching one of them, and does not say which.
    fn look_for_gaps(&mut self) {
        self.look_at = Some(Instant::now() + LOOK_AGAIN);
        let partitions: Vec<u32> = self.tracks.keys().copied().collect();
        if let Err(error) = self.bounds.refresh(self.consumer(), &self.topic, &partitions, BOUNDS_WAIT) {
            tracing::warn!("Kafka: the bounds of the partitions are not to be had: {error}");
            return;
        }
        for partition in partitions {
            if let Some(gap) = self.gap(partition, self.tracks[&partition]) {
                self.tracks.remove(&partition);
                self.gaps.push_back(gap);
            }
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.tracks {
            if position(&mut list, &self.topic, *partition, *next).is_err() {
                return;
            }
        }
        match self.consumer().seek_partitions(list, BOUNDS_WAIT) {
            Ok(_) => self.look_at = None,
            Err(error) => tracing::warn!("Kafka: the partitions were not set back: {error}"),
        }
    }

    fn gap(&self, partition: u32, next: u64) -> Option<Gap> {
        let (start, end) = (self.bounds.start(partition), self.bounds.end(partition));
        (next < start || next > end).then_some(Gap { partition, next, start, end })
    }
}

impl Consumer for Member {
    fn poll(&mut self, wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError> {
        let mut batch = Batch::default();
        let mut verdict = Ok(());
        let until = Instant::now() + wait;
        let mut patience = wait;
        // Taken out, so that a message may be held while the tracks change.
        let consumer = self.consumer.take().expect("only the drop takes it");
        while verdict.is_ok() && !batch.is_full() {
            match consumer.poll(patience) {
                Some(Ok(message)) => {
                    self.take(&message, &mut batch);
                    patience = Duration::ZERO;
                }
                Some(Err(error)) => {
                    verdict = self.judge(&error);
                    patience = until.saturating_duration_since(Instant::now());
                }
                None => break,
            }
        }
        self.consumer = Some(consumer);
        if !batch.entries.is_empty() {
            self.health.clear();
        }
        batch.finish(out);
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_for_gaps();
        }
        verdict
    }

    fn pause(&mut self, partition: u32) {
        if self.tracks.contains_key(&partition) {
            let list = one(&self.topic, partition);
            if let Err(error) = self.consumer().pause(&list) {
                tracing::warn!("Kafka: cannot pause partition {partition}: {error}");
            }
        }
    }

    fn resume(&mut self, partition: u32) {
        if self.tracks.contains_key(&partition) {
            let list = one(&self.topic, partition);
            if let Err(error) = self.consumer().resume(&list) {
                tracing::warn!("Kafka: cannot resume partition {partition}: {error}");
            }
        }
    }

    fn change(&mut self) -> Option<Change> {
        if let Some(gap) = self.gaps.pop_front() {
            return Some(Change::Missing(gap));
        }
        loop {
            let context = Arc::clone(self.consumer().context());
            let change = context.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
            let answered = match change {
                Rebalance::Revoked { partitions, .. } if partitions.is_empty() => {
                    self.consumer().incremental_unassign(&TopicPartitionList::new())
                }
                Rebalance::Assigned(partitions) => return Some(Change::Assigned(partitions)),
                Rebalance::Revoked { partitions, lost } => {
                    for partition in &partitions {
                        self.tracks.remove(partition);
                    }
                    if !lost {
                        return Some(Change::Revoked(partitions));
                    }
                    let mut list = TopicPartitionList::new();
                    for partition in &partitions {
                        list.add_partition(&self.topic, number(*partition));
                    }
                    // There is nobody to wait for.
                    if let Err(error) = self.consumer().incremental_unassign(&list) {
                        tracing::warn!("Kafka: the group was not answered: {error}");
                    }
                    return Some(Change::Lost(partitions));
                }
            };
            if let Err(error) = answered {
                tracing::warn!("Kafka: the group was not answered: {error}");
            }
        }
    }

    fn start(&mut self, from: &[(u32, u64)]) -> Result<Vec<Gap>, LogError> {
        if from.is_empty() {
            let nothing = TopicPartitionList::new();
            self.consumer()
                .incremental_assign(&nothing)
                .map_err(|error| refused("take no partitions", &error))?;
            return Ok(Vec::new());
        }
        let partitions: Vec<u32> = from.iter().map(|(partition, _)| *partition).collect();
        let known = self.bounds.refresh(self.consumer(), &self.topic, &partitions, BOUNDS_WAIT);
        if let Err(error) = &known {
            // What the log does not hold is then found out when it is fetched.
            tracing::warn!("Kafka: the bounds of the new partitions are not to be had yet: {error}");
        }
        let mut list = TopicPartitionList::new();
        let mut gaps = Vec::new();
        for &(partition, next) in from {
            match self.gap(partition, next).filter(|_| known.is_ok()) {
                Some(gap) => {
                    // Assigned like the others, so that it can be given back like them; it delivers nothing.
                    position(&mut list, &self.topic, partition, self.bounds.end(partition))?;
                    gaps.push(gap);
                }
                None => {
                    position(&mut list, &self.topic, partition, next)?;
                    self.tracks.insert(partition, next);
                }
            }
        }
        self.consumer().incremental_assign(&list).map_err(|error| refused("take partitions", &error))?;
        Ok(gaps)
    }

    fn give_back(&mut self, partitions: &[u32]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            self.tracks.remove(&partition);
            list.add_partition(&self.topic, number(partition));
        }
        self.consumer().incremental_unassign(&list).map_err(|error| refused("give partitions back", &error))
    }

    fn report(&mut self, applied: &[(u32, u64)]) {
        let mut list = TopicPartitionList::new();
        for &(partition, next) in applied.iter().filter(|(partition, _)| self.tracks.contains_key(partition))
        {
            if position(&mut list, &self.topic, partition, next).is_err() {
                return;
            }
        }
        if self.grouped && list.count() > 0 {
            // For lag displays alone: nothing ever starts from there, so that a failure has no consequence.
            if let Err(error) = self.consumer().commit(&list, CommitMode::Async) {
                tracing::debug!("Kafka: offsets were not committed: {error}");
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let context = Arc::clone(consumer.context());
        context.closing.store(true, Ordering::Relaxed);
        // What the group still waits for, so that it lets go.
        for change in context.changes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let answered = match change {
                Rebalance::Assigned(_) => consumer.incremental_assign(&TopicPartitionList::new()),
                Rebalance::Revoked { partitions, .. } => {
                    let mut list = TopicPartitionList::new();
                    for partition in partitions {
                        list.add_partition(&self.topic, number(partition));
                    }
                    consumer.incremental_unassign(&list)
                }
            };
            if let Err(error) = answered {
                tracing::debug!("Kafka: while leaving the group: {error}");
            }
        }
        // Closing waits for the brokers without a limit of its own.
        let (closed, done) = mpsc::channel();
        let closing = std::thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(consumer);
            let _ = closed.send(());
        });
        if closing.is_err() || done.recv_timeout(CLOSE_WAIT).is_err() {
            tracing::warn!("Kafka: the consumer was not closed within {CLOSE_WAIT:?}; going on without it");
        }
    }
}

fn refused(what: &str, error: &KafkaError) -> LogError {
    LogError::Refused { reason: format!("Kafka's consumer could not {what}: {error}") }
}

fn one(topic: &str, partition: u32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, number(partition));
    list
}

fn position(list: &mut TopicPartitionList, topic: &str, partition: u32, next: u64) -> Result<(), LogError> {
    let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
    list.add_partition_offset(topic, number(partition), offset)
        .map_err(|error| refused("name an offset", &error))
}

/// The messages of one poll: their bytes in one buffer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Placed>,
}

struct Placed {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    key: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_MESSAGES || self.bytes.len() >= BATCH_BYTES
    }

    fn push(&mut self, partition: u32, offset: u64, message: &BorrowedMessage<'_>) {
        let timestamp_ms = match message.timestamp() {
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
            Timestamp::NotAvailable => 0,
        };
        let key = self.place(message.key().unwrap_or_default());
        // A tombstone has no value; it decodes as nothing and is counted like any other poison.
        let value = self.place(message.payload().unwrap_or_default());
        self.entries.push(Placed { partition, offset, timestamp_ms, key, value });
    }

    fn place(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn finish(self, out: &mut Vec<Entry>) {
        let bytes = Bytes::from(self.bytes);
        out.extend(self.entries.into_iter().map(|placed| Entry {
            partition: placed.partition,
            offset: placed.offset,
            timestamp_ms: placed.timestamp_ms,
            key: bytes.slice(placed.key),
            value: bytes.slice(placed.value),
        }));
    }
}

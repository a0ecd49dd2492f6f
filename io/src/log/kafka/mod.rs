//! Kafka or Redpanda as the log: shared by all nodes of all regions, durable on several brokers.
//!
//! [`KafkaLog::open`] talks to the brokers, agrees with the other nodes on the partition count and starts the watch.
//! Appends go through one producer; a member of the consumer group reads what the group gives this node.
//!
//! Invariants: an acknowledged message is on all in-sync replicas, once; a topic whose partition count is not the
//! configured one takes no more messages from this process.
//!
//! **Runs on**: librdkafka's own threads, which inherit the CPUs of the thread that opens the log; see each part.
//!
//! **Not here**: offsets to start from (the stores' checkpoints say), who opens stores.

mod admin;
mod bounds;
mod connect;
mod context;
mod handshake;
mod member;
mod names;
mod options;
mod producer;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use self::bounds::Bounds;
use self::connect::Topic;
use self::context::{Context, Health};
use self::member::Member;
use self::producer::Producer;
use self::watch::{Verdict, Watch};
use super::{Ack, AppendError, Consumer, Log, LogError, LogStatus, Message};

pub use admin::{Created, Finding, TopicPlan, check_topics, create_topics};
pub use names::{group, mutations_topic, partitions_topic};
pub use options::{KafkaOptions, Mechanism, Sasl, Tls};

/// How long one look at the partitions' bounds may take, and the pause before the next.
const BOUNDS_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The mutations topic of one namespace.
pub struct KafkaLog {
    options: KafkaOptions,
    topic: String,
    health: Arc<Health>,
    bounds: Arc<Bounds>,
    verdict: Arc<Verdict>,
    producer: Arc<Producer>,
    watch: Mutex<Option<Watch>>,
}

impl KafkaLog {
    /// Connects, checks both topics and agrees on the partition count. Blocks, up to `connect_timeout` for each answer.
    ///
    /// # Errors
    /// [`LogError::Unreachable`], [`LogError::Refused`], [`LogError::MissingTopic`], [`LogError::TopicPartitions`],
    /// [`LogError::Namespace`]; [`LogError::Options`] for settings that librdkafka does not take.
    pub fn open(options: KafkaOptions) -> Result<KafkaLog, LogError> {
        let health = Arc::new(Health::default());
        let topic = mutations_topic(&options.namespace);
        let client = connect::observer(&options, Context { health: Arc::clone(&health) })?;
        match connect::topic(&options, &client, &topic)? {
            Topic::Missing => return Err(LogError::MissingTopic { topic }),
            Topic::Partitions(found) if found != options.partitions => {
                return Err(LogError::TopicPartitions { topic, found, configured: options.partitions });
            }
            Topic::Partitions(_) => {}
        }
        let bounds = Arc::new(Bounds::new(options.partitions));
        let producer = Producer::new(&options, topic.clone(), Arc::clone(&health), Arc::clone(&bounds))?;
        handshake::agree(&options, &client, &producer)?;
        let all: Vec<u32> = (0..options.partitions).collect();
        let deadline = Instant::now() + options.connect_timeout;
        // Leaders may be on the move just now.
        while let Err(error) = bounds.refresh(&client, &topic, &all, BOUNDS_WAIT) {
            if Instant::now() >= deadline {
                return Err(LogError::Unreachable {
                    seeds: options.seeds,
                    reason: format!("the bounds of {topic} are not to be had: {error}"),
                });
            }
            std::thread::sleep(PAUSE);
        }
        client.context().health.clear();
        let (producer, verdict) = (Arc::new(producer), Arc::new(Verdict::default()));
        let stopping = Arc::clone(&producer);
        let (named, configured) = (topic.clone(), options.partitions);
        let on_count = move |found| {
            let changed = LogError::TopicPartitions { topic: named.clone(), found, configured };
            stopping.stop(&changed.to_string());
        };
        let watch = Watch::start(
            client,
            topic.clone(),
            options.partitions,
            Arc::clone(&bounds),
            Arc::clone(&verdict),
            on_count,
        )?;
        Ok(KafkaLog { options, topic, health, bounds, verdict, producer, watch: Mutex::new(Some(watch)) })
    }
}

impl Log for KafkaLog {
    fn partitions(&self) -> u32 {
        self.options.partitions
    }

    fn append(&self, messages: Vec<Message>) -> Result<Ack, AppendError> {
        assert!(
            messages.iter().all(|message| message.partition < self.options.partitions),
            "the caller knows the partitions"
        );
        if messages.is_empty() {
            let (ack, answer) = futures_channel::oneshot::channel();
            ack.send(Ok(Vec::new())).expect("the receiver is at hand");
            return Ok(answer);
        }
        self.producer.append(&messages)
    }

    fn max_message_bytes(&self) -> usize {
        self.options.max_message_bytes
    }

    fn end(&self, partition: u32) -> u64 {
        self.bounds.end(partition)
    }

    fn start(&self, partition: u32) -> u64 {
        self.bounds.start(partition)
    }

    fn consumer(&self, from: &[(u32, u64)]) -> Result<Box<dyn Consumer>, LogError> {
        let reader = Member::reader(&self.options, &self.topic, &self.health, &self.bounds, from)?;
        Ok(Box::new(reader))
    }

    fn subscribe(&self) -> Result<Box<dyn Consumer>, LogError> {
        Ok(Box::new(Member::join(&self.options, &self.topic, &self.health, &self.bounds)?))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn fatal(&self) -> Option<LogError> {
        let found = self.verdict.changed_count()?;
        Some(LogError::TopicPartitions {
            topic: self.topic.clone(),
            found,
            configured: self.options.partitions,
        })
    }

    /// Does nothing: how long mutations are kept is a setting of the topic.
    fn release(&self, _durable: &[(u32, u64)]) {}

    fn status(&self) -> LogStatus {
        let (queued_messages, queued_bytes, appended_messages, failing) = self.producer.state();
        LogStatus {
            kind: "kafka",
            queued_messages,
            queued_bytes,
            appended_messages,
            failing: failing.or_else(|| self.health.trouble().map(|trouble| trouble.reason)),
            poisoned: self.fatal().map(|error| error.to_string()),
            ..LogStatus::default()
        }
    }

    fn close(&self) {
        self.producer.close(self.options.ack_timeout);
        drop(self.watch.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.close();
    }
}

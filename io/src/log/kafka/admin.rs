//! Making and checking the two topics of a namespace.
//!
//! **Runs on**: the thread that calls; blocks for at most some seconds a question.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::bounds::number;
use super::connect::{self, Topic};
use super::context::Context;
use super::names::{mutations_topic, partitions_topic};
use super::options::KafkaOptions;
use crate::log::LogError;

const WAIT: Duration = Duration::from_secs(15);
/// What a message of the largest size takes beyond key and value: a record batch's header, with room to spare.
pub(super) const OVERHEAD: usize = 4096;

/// How new topics are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPlan {
    /// Replicas of each partition; `None` is the cluster's default.
    pub replication: Option<u16>,
    /// Replicas that must have a message before it is acknowledged; `None` is one less than the replicas, at least one.
    pub min_in_sync: Option<u16>,
    /// How long mutations are kept, in milliseconds; `None` is for ever.
    pub retention_ms: Option<u64>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The topic.
    pub topic: String,
    /// Whether it was there before, and was left as it is.
    pub existed: bool,
}

/// One setting of a topic that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The topic.
    pub topic: String,
    /// The setting, and the value that it has.
    pub setting: String,
    /// What can happen because of it.
    pub consequence: String,
    /// What it should be.
    pub advice: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}; {}", self.topic, self.setting, self.consequence, self.advice)
    }
}

fn client(options: &KafkaOptions) -> Result<AdminClient<Context>, LogError> {
    options
        .client()
        .create_with_context(Context::default())
        .map_err(|error| LogError::Options(format!("Kafka's admin client: {error}")))
}

fn wait() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}

/// Makes one topic; `false` if it was there already.
fn create(admin: &AdminClient<Context>, topic: &NewTopic<'_>) -> Result<bool, LogError> {
    let refused = |reason: String| LogError::Refused {
        reason: format!("the topic {} could not be made: {reason}", topic.name),
    };
    let made = futures_lite::future::block_on(admin.create_topics([topic], &wait()))
        .map_err(|error| refused(error.to_string()))?;
    match made.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(refused(code.to_string())),
        None => Err(refused("the brokers said nothing about it".to_owned())),
    }
}

/// The partitions topic, with the cluster's replication.
pub(super) fn create_partitions_topic(options: &KafkaOptions) -> Result<(), LogError> {
    let name = partitions_topic(&options.namespace);
    let made = create(&client(options)?, &for_ever(&name, None))?;
    if made {
        tracing::info!("made the topic {name}");
    }
    Ok(())
}

fn replicas(replication: Option<u16>) -> TopicReplication<'static> {
    // -1 leaves it to the cluster.
    TopicReplication::Fixed(replication.map_or(-1, i32::from))
}

fn for_ever(name: &str, replication: Option<u16>) -> NewTopic<'_> {
    NewTopic::new(name, 1, replicas(replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
}

/// Makes both topics of the namespace; those that are there are left as they are.
///
/// # Errors
/// The brokers cannot be reached, or refuse.
pub fn create_topics(options: &KafkaOptions, plan: TopicPlan) -> Result<Vec<Created>, LogError> {
    let observer = connect::observer(options, Context::default())?;
    let (mutations, partitions) = (mutations_topic(&options.namespace), partitions_topic(&options.namespace));
    // Says at once and in clear words what is wrong with the connection.
    connect::topic(options, &observer, &mutations)?;
    let admin = client(options)?;
    let in_sync = plan.min_in_sync.or(plan.replication.map(|replicas| replicas.saturating_sub(1).max(1)));
    let in_sync = in_sync.map(|least| least.to_string());
    let retention = plan.retention_ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
    let largest = (options.max_message_bytes + OVERHEAD).to_string();
    let mut topic = NewTopic::new(&mutations, number(options.partitions), replicas(plan.replication))
        .set("message.timestamp.type", "LogAppendTime")
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention)
        .set("retention.bytes", "-1")
        .set("max.message.bytes", &largest);
    let mut record = for_ever(&partitions, plan.replication);
    if let Some(in_sync) = &in_sync {
        topic = topic.set("min.insync.replicas", in_sync);
        record = record.set("min.insync.replicas", in_sync);
    }
    let mut made = Vec::new();
    for new in [&topic, &record] {
        made.push(Created { topic: new.name.to_owned(), existed: !create(&admin, new)? });
    }
    Ok(made)
}

/// Looks for settings of the topics that could lose or refuse mutations. `retention_ms` is what the nodes were told.
///
/// # Errors
/// The brokers cannot be reached or refuse, a topic is missing, or has another partition count.
pub fn check_topics(options: &KafkaOptions, retention_ms: Option<u64>) -> Result<Vec<Finding>, LogError> {
    let observer = connect::observer(options, Context::default())?;
    let mut findings = Vec::new();
    for (topic, wanted) in
        [(mutations_topic(&options.namespace), options.partitions), (partitions_topic(&options.namespace), 1)]
    {
        match connect::topic(options, &observer, &topic)? {
            Topic::Missing => return Err(LogError::MissingTopic { topic }),
            Topic::Partitions(found) if found != wanted => {
                return Err(LogError::TopicPartitions { topic, found, configured: wanted });
            }
            Topic::Partitions(_) => {}
        }
        let replicas = replication(&observer, &topic);
        let settings = settings(options, &topic)?;
        let facts = Facts { topic: &topic, replicas, settings: &settings };
        if wanted == 1 && topic.ends_with("_partitions") {
            facts.judge_partitions(&mut findings);
        } else {
            facts.judge_mutations(options, retention_ms, &mut findings);
        }
    }
    Ok(findings)
}

/// The fewest replicas that a partition of the topic has.
fn replication(observer: &rdkafka::consumer::BaseConsumer<Context>, topic: &str) -> usize {
    let metadata = observer.fetch_metadata(Some(topic), WAIT).ok();
    metadata
        .iter()
        .flat_map(|metadata| metadata.topics())
        .filter(|found| found.name() == topic)
        .flat_map(|found| found.partitions())
        .map(|partition| partition.replicas().len())
        .min()
        .unwrap_or(0)
}

fn settings(options: &KafkaOptions, topic: &str) -> Result<HashMap<String, String>, LogError> {
    let refused = |reason: String| LogError::Refused {
        reason: format!("the settings of {topic} cannot be read: {reason}"),
    };
    let admin = client(options)?;
    let resource = ResourceSpecifier::Topic(topic);
    let answers = futures_lite::future::block_on(admin.describe_configs([&resource], &wait()))
        .map_err(|error| refused(error.to_string()))?;
    let answer = answers.into_iter().next().ok_or_else(|| refused("no answer".to_owned()))?;
    let answer = answer.map_err(|code| refused(code.to_string()))?;
    Ok(answer.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

/// What is known of a topic.
struct Facts<'a> {
    topic: &'a str,
    replicas: usize,
    settings: &'a HashMap<String, String>,
}

impl Facts<'_> {
    fn text(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.text(name).parse().ok()
    }

    fn find(
        &self,
        out: &mut Vec<Finding>,
        setting: &str,
        consequence: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let value = self.text(setting);
        let setting = if value.is_empty() { setting.to_owned() } else { format!("{setting}={value}") };
        out.push(Finding {
            topic: self.topic.to_owned(),
            setting,
            consequence: consequence.into(),
            advice: advice.into(),
        });
    }

    fn judge_safety(&self, out: &mut Vec<Finding>) {
        if self.replicas < 3 {
            self.find(
                out,
                &format!("{} replicas", self.replicas),
                "a broker that dies can take acknowledged mutations with it",
                "make it 3, over racks or regions",
            );
        }
        let least = self.number("min.insync.replicas").unwrap_or(1);
        if least < 2 && self.replicas >= 3 {
            self.find(
                out,
                "min.insync.replicas",
                "a mutation is acknowledged while a single replica has it",
                "set it to 2",
            );
        }
        if least >= self.replicas as i64 && self.replicas > 1 {
            self.find(
                out,
                "min.insync.replicas",
                "writes stop as soon as one broker is away",
                format!("set it to {}", self.replicas - 1),
            );
        }
        if self.text("unclean.leader.election.enable") == "true" {
            self.find(
                out,
                "unclean.leader.election.enable",
                "a replica that lacks acknowledged mutations may become the leader",
                "set it to false",
            );
        }
    }

    fn judge_mutations(&self, options: &KafkaOptions, retention_ms: Option<u64>, out: &mut Vec<Finding>) {
        self.judge_safety(out);
        if self.text("message.timestamp.type") == "CreateTime" {
            self.find(
                out,
                "message.timestamp.type",
                "CreatedAt and UpdatedAt are the senders' clocks, not the time at which the log received a mutation",
                "set it to LogAppendTime",
            );
        }
        if self.text("cleanup.policy").contains("compact") {
            self.find(
                out,
                "cleanup.policy",
                "compaction drops all mutations of a partition key but the last: records are lost",
                "set it to delete",
            );
        }
        if self.number("retention.bytes").is_some_and(|bytes| bytes >= 0) {
            self.find(
                out,
                "retention.bytes",
                "a burst of writes can drop mutations that a node has not applied or backed up",
                "set it to -1 and bound the time (retention.ms)",
            );
        }
        let kept = self.number("retention.ms").unwrap_or(-1);
        match (kept, retention_ms) {
            (kept, Some(told)) if kept >= 0 && (kept as u64) < told => self.find(
                out,
                "retention.ms",
                format!("mutations go sooner than the nodes were told (TOPIC_RETENTION_MS={told})"),
                "set both alike",
            ),
            (kept, None) if kept >= 0 => self.find(
                out,
                "retention.ms",
                "mutations go after that time, and the nodes were not told",
                "set TOPIC_RETENTION_MS to the same, and have backups or replicas that do not stay away for so long",
            ),
            _ => {}
        }
        let largest = self.number("max.message.bytes").unwrap_or(i64::MAX);
        if largest < (options.max_message_bytes + OVERHEAD) as i64 {
            self.find(
                out,
                "max.message.bytes",
                format!(
                    "the brokers refuse mutations that the nodes accept (MAX_MESSAGE_BYTES={})",
                    options.max_message_bytes
                ),
                format!("raise it to {} or lower MAX_MESSAGE_BYTES", options.max_message_bytes + OVERHEAD),
            );
        }
    }

    fn judge_partitions(&self, out: &mut Vec<Finding>) {
        self.judge_safety(out);
        let compacted = self.text("cleanup.policy") == "compact";
        for setting in ["retention.ms", "retention.bytes"] {
            if !compacted && self.number(setting).is_some_and(|value| value >= 0) {
                self.find(
                    out,
                    setting,
                    "the record of the partition count will be dropped, and a node with another count could start",
                    "set it to -1",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> KafkaOptions {
        KafkaOptions {
            seeds: String::new(),
            tls: None,
            sasl: None,
            namespace: "n".into(),
            group: "g".into(),
            instance: "i".into(),
            rack: "r".into(),
            session: Duration::from_secs(60),
            partitions: 8,
            max_message_bytes: 1 << 20,
            ack_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn judge(replicas: usize, settings: &[(&str, &str)], told: Option<u64>) -> Vec<String> {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let facts = Facts { topic: "t", replicas, settings: &settings };
        let mut findings = Vec::new();
        facts.judge_mutations(&options(), told, &mut findings);
        findings.into_iter().map(|finding| finding.setting).collect()
    }

    #[test]
    fn a_safe_topic_has_no_finding() {
        let safe = [
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete"),
            ("retention.bytes", "-1"),
            ("retention.ms", "604800000"),
            ("max.message.bytes", "2000000"),
        ];
        assert_eq!(judge(3, &safe, Some(604_800_000)), Vec::<String>::new());
        assert_eq!(judge(3, &safe, None), ["retention.ms=604800000"]);
        assert_eq!(judge(3, &safe, Some(604_800_001)), ["retention.ms=604800000"]);
    }

    #[test]
    fn each_unsafe_setting_is_named_with_its_value() {
        let unsafe_ones = [
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
            ("message.timestamp.type", "CreateTime"),
            ("cleanup.policy", "compact,delete"),
            ("retention.bytes", "1000"),
            ("retention.ms", "-1"),
            ("max.message.bytes", "1000000"),
        ];
        assert_eq!(
            judge(3, &unsafe_ones, None),
            [
                "min.insync.replicas=1",
                "unclean.leader.election.enable=true",
                "message.timestamp.type=CreateTime",
                "cleanup.policy=compact,delete",
                "retention.bytes=1000",
                "max.message.bytes=1000000",
            ]
        );
        assert_eq!(judge(1, &[("min.insync.replicas", "1")], None), ["1 replicas"]);
        assert_eq!(judge(3, &[("min.insync.replicas", "3")], None), ["min.insync.replicas=3"]);
    }
}

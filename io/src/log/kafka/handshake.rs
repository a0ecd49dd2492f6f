//! The partitions topic: all nodes of a namespace agree, once and for ever, on how many partitions it has.
//!
//! The first record of the topic says `{"NumPartitions":N}`. Whoever finds the topic empty writes his own count; whoever
//! finds it missing makes it first, or finds that another has just done so. Then everybody, the writer too, reads the
//! first record there is and compares: of several writers at once the first one decides, and the others refuse to start.
//!
//! **Runs on**: the thread that opens the log. Blocks, for a bounded time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::admin;
use super::connect::{self, Topic};
use super::context::Context;
use super::names::partitions_topic;
use super::options::KafkaOptions;
use super::producer::Producer;
use crate::log::{AppendError, LogError, Message};

/// How long a record that was just written may take to be readable.
const READ_WAIT: Duration = Duration::from_secs(30);
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The record.
fn record(partitions: u32) -> String {
    format!(r#"{{"NumPartitions":{partitions}}}"#)
}

/// The count in a record.
fn parse(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (name, count) = inner.split_once(':')?;
    (name.trim() == r#""NumPartitions""#).then(|| count.trim().parse().ok()).flatten()
}

/// Agrees with all other nodes, or says who is wrong.
///
/// # Errors
/// [`LogError::Namespace`] when the namespace was made with another count; what the brokers refuse.
pub(super) fn agree(
    options: &KafkaOptions,
    client: &BaseConsumer<Context>,
    producer: &Producer,
) -> Result<(), LogError> {
    let topic = partitions_topic(&options.namespace);
    if connect::topic(options, client, &topic)? == Topic::Missing {
        admin::create_partitions_topic(options)?;
    }
    let until = Instant::now() + READ_WAIT;
    let mut written = false;
    loop {
        let bounds = client.fetch_watermarks(&topic, 0, ANSWER_WAIT);
        match bounds {
            Ok((low, high)) if high > low => {
                // Deleted records may leave nothing behind a start that is not the end.
                if let Some(found) = first(client, &topic, low)? {
                    return if found == options.partitions {
                        Ok(())
                    } else {
                        Err(LogError::Namespace { topic, found, configured: options.partitions })
                    };
                }
            }
            Ok(_) if !written => {
                write(options, producer, &topic)?;
                written = true;
            }
            // A topic that was just made has no leader for a moment.
            Ok(_) | Err(_) => {}
        }
        if Instant::now() >= until {
            return Err(LogError::Unreachable {
                seeds: options.seeds.clone(),
                reason: format!("the first record of {topic} cannot be read"),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn write(options: &KafkaOptions, producer: &Producer, topic: &str) -> Result<(), LogError> {
    let message = Message {
        partition: 0,
        // Its own key, so that a compacted topic does not replace one node's record by another's.
        key: Bytes::from(options.instance.clone()),
        value: Bytes::from(record(options.partitions)),
    };
    let ack = producer.send(topic, &[message]).map(futures_lite::future::block_on);
    let written = match ack {
        Ok(Ok(Ok(_))) => return Ok(()),
        Ok(Ok(Err(error))) | Err(error) => error,
        Ok(Err(_)) => AppendError::Closed,
    };
    Err(LogError::Refused { reason: format!("the first record of {topic} was not written: {written}") })
}

/// The count in the first record, `None` if there is no record to be had for now.
fn first(client: &BaseConsumer<Context>, topic: &str, low: i64) -> Result<Option<u32>, LogError> {
    let mut list = TopicPartitionList::new();
    let assigned =
        list.add_partition_offset(topic, 0, Offset::Offset(low)).and_then(|()| client.assign(&list));
    let read = assigned.map(|()| {
        let until = Instant::now() + ANSWER_WAIT;
        while Instant::now() < until {
            if let Some(Ok(message)) = client.poll(Duration::from_millis(100)) {
                return Some(message.payload().unwrap_or_default().to_vec());
            }
        }
        None
    });
    // The client goes on without messages.
    let _ = client.unassign();
    let Some(value) = read.map_err(|error| LogError::Refused { reason: format!("{topic}: {error}") })? else {
        return Ok(None);
    };
    parse(&value).map(Some).ok_or_else(|| LogError::Refused {
        reason: format!(
            "the first record of {topic} is {:?}; it should be like {}",
            String::from_utf8_lossy(&value[..value.len().min(100)]),
            record(256)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_clusters_already_have() {
        assert_eq!(record(256), r#"{"NumPartitions":256}"#);
        assert_eq!(parse(record(8).as_bytes()), Some(8));
        assert_eq!(parse(b" { \"NumPartitions\" : 12 }\n"), Some(12));
        for wrong in ["", "{}", "8", r#"{"NumPartitions":-1}"#, r#"{"Partitions":8}"#] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

//! Where each partition of the log begins and ends, as far as this process knows.
//!
//! Written by the watch (what the brokers say), by consumers (an entry seen) and by acknowledgements (an entry made);
//! read by everybody without waiting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

/// The bounds of all partitions.
#[derive(Debug)]
pub(super) struct Bounds {
    starts: Box<[AtomicU64]>,
    ends: Box<[AtomicU64]>,
}

impl Bounds {
    pub(super) fn new(partitions: u32) -> Bounds {
        let zeros = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Bounds { starts: zeros(), ends: zeros() }
    }

    pub(super) fn start(&self, partition: u32) -> u64 {
        self.starts[partition as usize].load(Relaxed)
    }

    pub(super) fn end(&self, partition: u32) -> u64 {
        self.ends[partition as usize].load(Relaxed)
    }

    /// There is an entry at this offset.
    pub(super) fn saw(&self, partition: u32, offset: u64) {
        if let Some(end) = self.ends.get(partition as usize) {
            end.fetch_max(offset + 1, Relaxed);
        }
    }

    /// Asks the brokers about some partitions, one request to each leader. Blocks.
    pub(super) fn refresh<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        topic: &str,
        partitions: &[u32],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        for (which, values) in [(Offset::Beginning, &self.starts), (Offset::End, &self.ends)] {
            let mut asked = TopicPartitionList::new();
            for &partition in partitions {
                asked.add_partition_offset(topic, number(partition), which)?;
            }
            for answer in consumer.offsets_for_times(asked, timeout)?.elements() {
                answer.error()?;
                let partition = usize::try_from(answer.partition()).ok();
                if let (Offset::Offset(at), Some(value)) =
                    (answer.offset(), partition.and_then(|partition| values.get(partition)))
                {
                    value.store(u64::try_from(at).unwrap_or(0), Relaxed);
                }
            }
        }
        Ok(())
    }
}

/// A partition's number as the protocol has it.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("the configuration allows far fewer partitions")
}

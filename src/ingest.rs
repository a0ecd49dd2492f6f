//! The log's consumer, and the fan-out to the cores that own what it brings.
//!
//! log → `Consumer::poll` → entries grouped by partition, one delivery a core → the core's bounded channel → `apply`.
//! A core that does not keep up fills its channel; its partitions are then paused in the consumer, and the others go on.
//!
//! Invariants: entries of a partition reach their core in offset order, none left out, none twice; at most one
//! delivery a core waits here.
//! Runs on: its own thread, pinned with the control core if that is. Not here: apply, and where a partition starts
//! (the stores' checkpoints say).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use firescroll_io::log::{Consumer, Entry, Log, LogError};
use firescroll_shard::{LogEntry, Offset, PartitionId};

use crate::progress::Progress;
use crate::route::{Routes, ShardId};

/// Mutations for one core, by partition, each in offset order.
pub type Delivery = Vec<(PartitionId, Vec<LogEntry>)>;

/// Deliveries that may wait in a core's channel.
pub const DELIVERIES: usize = 4;

const IDLE_WAIT: Duration = Duration::from_millis(50);
/// While a core does not keep up, how long the consumer waits before it is tried again.
const PRESSED_WAIT: Duration = Duration::from_millis(1);
/// How long an unreachable log is left alone.
const LOST_WAIT: Duration = Duration::from_millis(500);

/// The running thread.
pub struct Ingest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Ingest {
    /// Starts reading at the given offsets, the first of each partition that has not been applied.
    ///
    /// # Errors
    /// The log does not hold one of the offsets, or the system refuses a thread.
    pub fn start(
        log: &dyn Log,
        from: &[(u32, u64)],
        routes: Routes,
        cores: Vec<flume::Sender<Delivery>>,
        progress: Arc<Progress>,
        pin: impl FnOnce() + Send + 'static,
    ) -> Result<Self, LogError> {
        let consumer = log.consumer(from)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut fan_out = FanOut::new(consumer, routes, cores);
        let thread = std::thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                pin();
                fan_out.run(&stopped, &progress);
            })
            .map_err(|source| LogError::Io { action: "start a thread for", path: "ingest".into(), source })?;
        Ok(Self { stop, thread })
    }

    /// Stops reading; what a core has been given it still applies.
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        // A panic ends the process, so that there is no error to report.
        let _ = self.thread.join();
    }
}

struct FanOut {
    consumer: Box<dyn Consumer>,
    routes: Routes,
    cores: Vec<flume::Sender<Delivery>>,
    /// By core: what did not fit in its channel. Its partitions are paused meanwhile.
    held: Vec<Option<Delivery>>,
    /// By partition: its place in the delivery that is being made.
    places: Vec<Option<usize>>,
}

impl FanOut {
    fn new(consumer: Box<dyn Consumer>, routes: Routes, cores: Vec<flume::Sender<Delivery>>) -> Self {
        Self {
            consumer,
            routes,
            held: cores.iter().map(|_| None).collect(),
            cores,
            places: vec![None; routes.partitions.get() as usize],
        }
    }

    fn run(&mut self, stop: &AtomicBool, progress: &Progress) {
        let mut entries = Vec::new();
        while !stop.load(Relaxed) {
            self.retry();
            let pressed = self.held.iter().any(Option::is_some);
            let polled = self.consumer.poll(if pressed { PRESSED_WAIT } else { IDLE_WAIT }, &mut entries);
            self.deliver(&mut entries);
            match polled {
                Ok(()) => {}
                Err(LogError::Closed) => return,
                Err(error @ LogError::Unavailable { .. }) => {
                    tracing::warn!("{error}; reads go on, trying again");
                    std::thread::sleep(LOST_WAIT);
                }
                Err(error) => {
                    tracing::error!(
                        "the log cannot be read any further: {error}; reads go on, writes are refused"
                    );
                    progress.fail(&error.to_string());
                    return;
                }
            }
        }
    }

    /// Groups entries by core and partition, and sends each core its part.
    fn deliver(&mut self, entries: &mut Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut deliveries: Vec<Delivery> = self.cores.iter().map(|_| Vec::new()).collect();
        for entry in entries.drain(..) {
            let partition = PartitionId(entry.partition);
            let delivery = &mut deliveries[self.routes.owner(partition).0 as usize];
            let place = *self.places[partition.0 as usize].get_or_insert_with(|| {
                delivery.push((partition, Vec::new()));
                delivery.len() - 1
            });
            delivery[place].1.push(LogEntry {
                offset: Offset(entry.offset),
                timestamp_ms: entry.timestamp_ms,
                value: entry.value,
            });
        }
        for (core, delivery) in deliveries.into_iter().enumerate() {
            for (partition, _) in &delivery {
                self.places[partition.0 as usize] = None;
            }
            if !delivery.is_empty() {
                self.send(core, delivery);
            }
        }
    }

    fn send(&mut self, core: usize, mut delivery: Delivery) {
        if let Some(earlier) = &mut self.held[core] {
            // A consumer may still have had entries of a partition that has just been paused.
            earlier.append(&mut delivery);
            return;
        }
        match self.cores[core].try_send(delivery) {
            Ok(()) => {}
            Err(flume::TrySendError::Full(delivery)) => {
                self.held[core] = Some(delivery);
                self.for_partitions_of(core, |consumer, partition| consumer.pause(partition));
            }
            Err(flume::TrySendError::Disconnected(_)) => {
                tracing::debug!("core {core} takes no more mutations");
            }
        }
    }

    /// Tries what is held again; a core that takes it gets its partitions back.
    fn retry(&mut self) {
        for core in 0..self.cores.len() {
            let Some(delivery) = self.held[core].take() else { continue };
            match self.cores[core].try_send(delivery) {
                Err(flume::TrySendError::Full(delivery)) => self.held[core] = Some(delivery),
                _ => self.for_partitions_of(core, |consumer, partition| consumer.resume(partition)),
            }
        }
    }

    fn for_partitions_of(&mut self, core: usize, act: impl Fn(&mut dyn Consumer, u32)) {
        let routes = self.routes;
        for partition in 0..routes.partitions.get() {
            let ShardId(owner) = routes.owner(PartitionId(partition));
            if owner as usize == core {
                act(self.consumer.as_mut(), partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::num::NonZeroU32;

    /// Entries of two partitions, a few a poll, that honours pauses.
    struct Script {
        left: Vec<Vec<Entry>>,
        paused: Vec<bool>,
    }

    impl Consumer for Script {
        fn poll(&mut self, _wait: Duration, out: &mut Vec<Entry>) -> Result<(), LogError> {
            let mut open = false;
            for (entries, paused) in self.left.iter_mut().zip(&self.paused) {
                open |= !entries.is_empty();
                if !paused {
                    out.extend(entries.drain(..entries.len().min(3)));
                }
            }
            if open { Ok(()) } else { Err(LogError::Closed) }
        }
        fn pause(&mut self, partition: u32) {
            self.paused[partition as usize] = true;
        }
        fn resume(&mut self, partition: u32) {
            self.paused[partition as usize] = false;
        }
    }

    fn entry(partition: u32, offset: u64) -> Entry {
        Entry { partition, offset, timestamp_ms: 0, key: Default::default(), value: Default::default() }
    }

    #[test]
    fn a_slow_core_loses_nothing_and_keeps_order() {
        let routes = Routes {
            partitions: NonZeroU32::new(2).expect("not zero"),
            shards: NonZeroU32::new(2).expect("not zero"),
        };
        let left = (0..2).map(|p| (0..100).map(|offset| entry(p, offset)).collect()).collect();
        let (fast, fast_out) = flume::unbounded();
        let (slow, slow_out) = flume::bounded(1);
        let mut fan_out =
            FanOut::new(Box::new(Script { left, paused: vec![false; 2] }), routes, vec![fast, slow]);
        let reader = std::thread::spawn(move || slow_out.iter().collect::<Vec<Delivery>>());
        fan_out.run(&AtomicBool::new(false), &Progress::new(2));
        while fan_out.held.iter().any(Option::is_some) {
            fan_out.retry();
        }
        drop(fan_out);
        let mut seen: HashMap<u32, Vec<u64>> = HashMap::new();
        for delivery in fast_out.iter().chain(reader.join().expect("reader")) {
            for (partition, entries) in delivery {
                seen.entry(partition.0).or_default().extend(entries.iter().map(|entry| entry.offset.0));
            }
        }
        assert_eq!(seen[&0], (0..100).collect::<Vec<u64>>());
        assert_eq!(seen[&1], (0..100).collect::<Vec<u64>>());
    }
}

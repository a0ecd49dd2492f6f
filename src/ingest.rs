//! The log's consumer, the fan-out to the cores that own what it brings, and the partitions' coming and going.
//!
//! log → `Consumer::poll` → entries grouped by partition, one delivery a core → the core's bounded channel → `apply`.
//! A core that does not keep up fills its channel; what comes for it then waits here. When too much waits, its partitions
//! are paused in the consumer, and the others go on; when too much waits for every core, the consumer is left alone,
//! because a pause throws away what it has fetched ahead.
//!
//! A partition that the log's group assigns to this node is opened here (which blocks), sent to its core, and delivered
//! from its own checkpoint on. One that is revoked is closed by its core behind everything delivered before; when it is
//! durable, the group has it back.
//!
//! When this node and the group have lost touch, its partitions may be another node's by now; they stay open for readers,
//! as old as they are, until the group speaks again: those that it assigns anew go on, the others are closed.
//!
//! Invariants: entries of a partition reach their core in offset order, none left out, none twice; a core gets
//! openings, deliveries and closings in the order in which they were decided, through one channel; what waits here is
//! bounded.
//! Runs on: its own thread, pinned with the control core if that is. Not here: apply, and where a partition starts
//! (the stores' checkpoints say).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firescroll_io::log::{Change, Consumer, Entry, Log, LogError};
use firescroll_shard::{LogEntry, Offset, OpenedPartition, Opener, PartitionId};

use crate::progress::{Holding, Progress};
use crate::route::{Routes, ShardId};

/// Mutations for one core, by partition, each in offset order.
pub type Delivery = Vec<(PartitionId, Vec<LogEntry>)>;

/// What a core is sent.
pub enum Step {
    /// Mutations to apply.
    Apply(Delivery),
    /// A partition to own from here on; it counts as caught up when it has reached the offset.
    Open(Box<OpenedPartition>, Offset),
    /// A partition to give up; it is durable when the sender is used.
    Close(PartitionId, flume::Sender<PartitionId>),
}

/// Steps that may wait in a core's channel.
pub const STEPS: usize = 4;

/// Steps for one core that wait here before no more are fetched for it; a step holds about a mebibyte at most.
const HELD: usize = 8;
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// While a core does not keep up, how long the consumer waits before it is tried again.
const PRESSED_WAIT: Duration = Duration::from_millis(1);
/// How long an unreachable log is left alone.
const LOST_WAIT: Duration = Duration::from_millis(500);
/// A node that the group has thrown out joins again, but not a second time within this: then another node has its name.
const REJOIN: Duration = Duration::from_secs(60);
/// Unless brokers were out of reach shortly before each time, when the group itself mistakes one node for two; then so
/// many times within it.
const REJOINS_IN_OUTAGES: usize = 5;
/// How long nothing comes although the log holds more before the group is joined again.
const SILENCE: Duration = Duration::from_secs(10);
/// How often the log is told how far partitions have been applied.
const REPORT: Duration = Duration::from_secs(5);

/// The running thread.
pub struct Ingest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the thread works with.
pub struct Parts {
    /// Reads the log.
    pub consumer: Box<dyn Consumer>,
    /// The log, to look at its bounds.
    pub log: Arc<dyn Log>,
    /// Who owns what.
    pub routes: Routes,
    /// The cores' channels.
    pub cores: Vec<flume::Sender<Step>>,
    /// By core: what opens a partition in its store.
    pub openers: Vec<Opener>,
    /// What every thread may see.
    pub progress: Arc<Progress>,
}

impl Ingest {
    /// Starts reading.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(parts: Parts, pin: impl FnOnce() + Send + 'static) -> Result<Self, LogError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut fan_out = FanOut::new(parts);
        let thread = std::thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                pin();
                fan_out.run(&stopped);
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

/// Partitions that were revoked together and are given back together.
struct Leaving {
    partitions: Vec<u32>,
    since: Instant,
}

struct FanOut {
    parts: Parts,
    /// By core: steps that did not fit in its channel, in order.
    held: Vec<VecDeque<Step>>,
    /// By core: whether its partitions are paused.
    paused: Vec<bool>,
    /// By partition: its place in the delivery that is being made.
    places: Vec<Option<usize>>,
    leaving: VecDeque<Leaving>,
    /// Partitions that stay open for readers while the group is out of touch.
    kept: BTreeSet<u32>,
    /// When it joined again, as far as that counts still.
    rejoined: VecDeque<Instant>,
    /// When anything came last, or nothing was missing.
    heard: Instant,
    /// Partitions that are being closed; none is opened or given back before it has been closed.
    closing: HashMap<u32, flume::Receiver<PartitionId>>,
    report_at: Instant,
}

impl FanOut {
    fn new(parts: Parts) -> Self {
        Self {
            held: parts.cores.iter().map(|_| VecDeque::new()).collect(),
            paused: vec![false; parts.cores.len()],
            places: vec![None; parts.routes.partitions.get() as usize],
            leaving: VecDeque::new(),
            kept: BTreeSet::new(),
            rejoined: VecDeque::new(),
            heard: Instant::now(),
            closing: HashMap::new(),
            report_at: Instant::now() + REPORT,
            parts,
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut entries = Vec::new();
        while !stop.load(Relaxed) {
            let outcome = self.turn(&mut entries);
            match outcome {
                Ok(()) => {}
                Err(LogError::Closed) => return,
                Err(error @ LogError::Unavailable { .. }) => {
                    tracing::warn!("{error}; reads go on, trying again");
                    std::thread::sleep(LOST_WAIT);
                }
                Err(ref error @ LogError::Fenced { after_outage, .. }) if self.may_rejoin(after_outage) => {
                    tracing::warn!("{error}; or the brokers have lost track of this one: joining again");
                    if let Err(error) = self.rejoin() {
                        self.parts.progress.fail(&error.to_string(), true);
                        return;
                    }
                }
                Err(error) if self.parts.log.is_shared() => {
                    tracing::error!("{error}; the node stops");
                    self.parts.progress.fail(&error.to_string(), true);
                    return;
                }
                Err(error) => {
                    tracing::error!(
                        "the log cannot be read any further: {error}; reads go on, writes are refused"
                    );
                    self.parts.progress.fail(&error.to_string(), false);
                    return;
                }
            }
        }
    }

    /// One round: what waits, what the log has, what has changed.
    fn turn(&mut self, entries: &mut Vec<Entry>) -> Result<(), LogError> {
        self.retry();
        self.give_back()?;
        if self.held.iter().all(|held| held.len() >= HELD) {
            std::thread::sleep(PRESSED_WAIT);
            return Ok(());
        }
        self.pause_the_full();
        let pressed = self.held.iter().any(|held| !held.is_empty()) || !self.leaving.is_empty();
        let polled = self.parts.consumer.poll(if pressed { PRESSED_WAIT } else { IDLE_WAIT }, entries);
        if !entries.is_empty() {
            self.heard = Instant::now();
        }
        self.deliver(entries);
        polled?;
        self.break_silence()?;
        while let Some(change) = self.parts.consumer.change() {
            match change {
                Change::Assigned(partitions) => self.open(&partitions)?,
                Change::Revoked(partitions) => self.close(partitions),
                Change::Lost(partitions) => {
                    tracing::warn!(
                        "out of touch with the group for longer than KAFKA_SESSION_MS; {} partitions stay open for \
                         readers, and may be elsewhere by now",
                        partitions.len()
                    );
                    self.kept.extend(partitions);
                }
                Change::Missing(gap) => {
                    tracing::error!("{gap}");
                    self.drop_partition(gap.partition, Holding::Missing);
                }
            }
        }
        if let Some(fatal) = self.parts.log.fatal() {
            return Err(fatal);
        }
        self.report();
        Ok(())
    }

    /// Opens the partitions that this node was given and has their cores own those that the log can continue.
    fn open(&mut self, partitions: &[u32]) -> Result<(), LogError> {
        let mut opened = Vec::with_capacity(partitions.len());
        let mut from = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            let id = PartitionId(partition);
            let core = self.parts.routes.owner(id).0 as usize;
            if self.kept.contains(&partition) {
                // Its core still has it; what is on the way to it is delivered twice, and applied once.
                from.push((partition, self.parts.progress.applied(id).0));
                continue;
            }
            self.wait_for_close(partition);
            match self.parts.openers[core].open(id) {
                Ok(store) => {
                    from.push((partition, store.next().0));
                    opened.push((core, store));
                }
                Err(error) => {
                    tracing::error!("partition {partition} cannot be opened: {error}");
                    self.parts.progress.poison(id);
                    // Taken all the same, so that the group is answered; nothing of it reaches a core.
                    from.push((partition, self.parts.log.end(partition)));
                }
            }
        }
        let gaps = self.parts.consumer.start(&from)?;
        let kept = std::mem::take(&mut self.kept);
        for &partition in partitions.iter().filter(|partition| !kept.contains(partition)) {
            self.parts.progress.set_holding(PartitionId(partition), Holding::Missing);
        }
        // Whoever has these now serves them.
        for &partition in kept.iter().filter(|partition| !partitions.contains(partition)) {
            self.drop_partition(partition, Holding::Elsewhere);
        }
        for gap in &gaps {
            tracing::error!("{gap}");
            opened.retain(|(_, store)| store.partition().0 != gap.partition);
            if kept.contains(&gap.partition) {
                self.drop_partition(gap.partition, Holding::Missing);
            }
        }
        for (_, store) in &opened {
            self.parts.progress.set_holding(store.partition(), Holding::Opening);
        }
        for (core, store) in opened {
            let end = Offset(self.parts.log.end(store.partition().0));
            self.send(core, Step::Open(Box::new(store), end));
        }
        if !partitions.is_empty() {
            tracing::info!("{} partitions assigned: {}", partitions.len(), name(partitions));
        }
        Ok(())
    }

    /// Has a partition closed, behind what was delivered before.
    fn drop_partition(&mut self, partition: u32, holding: Holding) {
        let id = PartitionId(partition);
        self.parts.progress.set_holding(id, holding);
        if !self.is_closed(partition) {
            // A missing one that is revoked: the first closing is the one that makes it durable.
            return;
        }
        let (closed, closing) = flume::bounded(1);
        self.send(self.parts.routes.owner(id).0 as usize, Step::Close(id, closed));
        self.closing.insert(partition, closing);
    }

    /// Whether nothing of a partition is left to be closed.
    fn is_closed(&mut self, partition: u32) -> bool {
        let Some(closing) = self.closing.get(&partition) else { return true };
        // A core that has gone closes nothing any more; the node is stopping then.
        let closed = !matches!(closing.try_recv(), Err(flume::TryRecvError::Empty));
        if closed {
            self.closing.remove(&partition);
        }
        closed
    }

    /// Waits until a partition that was dropped is closed: what its store has not committed yet would be missed.
    fn wait_for_close(&mut self, partition: u32) {
        while !self.is_closed(partition) {
            self.retry();
            std::thread::sleep(PRESSED_WAIT);
        }
    }

    fn may_rejoin(&mut self, after_outage: bool) -> bool {
        self.rejoined.retain(|at| at.elapsed() < REJOIN);
        self.rejoined.len() < if after_outage { REJOINS_IN_OUTAGES } else { 1 }
    }

    /// Joins the group again when the log answers, is known to hold more, and nothing of it comes: a membership that was
    /// lost while a broker stood still is not always told of it.
    fn break_silence(&mut self) -> Result<(), LogError> {
        if self.heard.elapsed() < SILENCE {
            return Ok(());
        }
        self.heard = Instant::now();
        let is_behind = |id: &PartitionId| self.parts.log.end(id.0) > self.parts.progress.applied(*id).0;
        let pressed = self.paused.contains(&true) || self.held.iter().any(|held| !held.is_empty());
        let log = &self.parts.log;
        if pressed || !log.is_shared() || log.status().failing.is_some() {
            return Ok(());
        }
        let Some(behind) = self.parts.progress.held().find(is_behind) else { return Ok(()) };
        if !self.may_rejoin(false) {
            return Ok(());
        }
        tracing::warn!(
            "nothing has come from the log for {SILENCE:?}, although it holds more of partition {behind}: joining the \
             group again"
        );
        self.rejoin()
    }

    /// Leaves the consumer that the group does not know any more, and joins with a new one.
    fn rejoin(&mut self) -> Result<(), LogError> {
        self.rejoined.push_back(Instant::now());
        self.kept.extend(self.parts.progress.held().map(|partition| partition.0));
        // What was to be given back to the old membership is closed all the same.
        self.leaving.clear();
        self.paused.fill(false);
        self.parts.consumer = self.parts.log.subscribe()?;
        Ok(())
    }

    /// Has revoked partitions closed, to be given back.
    fn close(&mut self, partitions: Vec<u32>) {
        for &partition in &partitions {
            self.drop_partition(partition, Holding::Elsewhere);
        }
        self.leaving.push_back(Leaving { partitions, since: Instant::now() });
    }

    /// Gives back what has been closed, in the order of the revocations.
    fn give_back(&mut self) -> Result<(), LogError> {
        while let Some(leaving) = self.leaving.pop_front() {
            if !leaving.partitions.iter().all(|partition| self.is_closed(*partition)) {
                self.leaving.push_front(leaving);
                break;
            }
            self.parts.consumer.give_back(&leaving.partitions)?;
            tracing::info!(
                "{} partitions given back after {} ms: {}",
                leaving.partitions.len(),
                leaving.since.elapsed().as_millis(),
                name(&leaving.partitions)
            );
        }
        Ok(())
    }

    /// Tells the log how far the partitions are, now and then.
    fn report(&mut self) {
        let now = Instant::now();
        if now < self.report_at {
            return;
        }
        self.report_at = now + REPORT;
        let applied: Vec<(u32, u64)> = self
            .parts
            .progress
            .held()
            .map(|partition| (partition.0, self.parts.progress.applied(partition).0))
            .collect();
        self.parts.consumer.report(&applied);
    }

    /// Groups entries by core and partition, and sends each core its part.
    fn deliver(&mut self, entries: &mut Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut deliveries: Vec<Delivery> = self.parts.cores.iter().map(|_| Vec::new()).collect();
        for entry in entries.drain(..) {
            let partition = PartitionId(entry.partition);
            let delivery = &mut deliveries[self.parts.routes.owner(partition).0 as usize];
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
                self.send(core, Step::Apply(delivery));
            }
        }
    }

    fn send(&mut self, core: usize, step: Step) {
        self.held[core].push_back(step);
        self.push(core);
    }

    /// Fetches no more for cores for which too much waits.
    fn pause_the_full(&mut self) {
        for core in 0..self.held.len() {
            if self.held[core].len() >= HELD && !self.paused[core] {
                self.paused[core] = true;
                self.for_partitions_of(core, |consumer, partition| consumer.pause(partition));
            }
        }
    }

    /// Sends what is held as far as the core takes it.
    fn push(&mut self, core: usize) {
        while let Some(step) = self.held[core].pop_front() {
            match self.parts.cores[core].try_send(step) {
                Ok(()) => {}
                Err(flume::TrySendError::Full(step)) => {
                    self.held[core].push_front(step);
                    return;
                }
                Err(flume::TrySendError::Disconnected(_)) => {
                    tracing::debug!("core {core} takes no more mutations");
                }
            }
        }
    }

    /// Tries what is held again; a core that has taken all of it gets its partitions back.
    fn retry(&mut self) {
        for core in 0..self.parts.cores.len() {
            self.push(core);
            if self.paused[core] && self.held[core].is_empty() {
                self.paused[core] = false;
                self.for_partitions_of(core, |consumer, partition| consumer.resume(partition));
            }
        }
    }

    fn for_partitions_of(&mut self, core: usize, act: impl Fn(&mut dyn Consumer, u32)) {
        let routes = self.parts.routes;
        for partition in 0..routes.partitions.get() {
            let ShardId(owner) = routes.owner(PartitionId(partition));
            if owner as usize == core {
                act(self.parts.consumer.as_mut(), partition);
            }
        }
    }
}

/// The numbers of some partitions, as many as fit in a line.
fn name(partitions: &[u32]) -> String {
    const MOST: usize = 32;
    let mut names: Vec<String> = partitions.iter().take(MOST).map(u32::to_string).collect();
    if partitions.len() > MOST {
        names.push("…".to_owned());
    }
    names.join(" ")
}

#[cfg(test)]
mod tests;

//! The event loop of the load generator.
//!
//! epoll → read an answer → record its latency → send the connection's next request (closed loop), or put the
//! connection among the idle ones, from which due requests are sent (open loop). Writes beside reads are a second lane of
//! the same loop, with connections and pace of its own. Two system calls a request and a
//! share of an `epoll_wait`; nothing is allocated once every connection has had its first answer.
//!
//! **Invariants**: a request that is due is sent as soon as a connection is free, and charged from when it was due.
//! **Runs on**: the generator's thread, which spins in the open loop when the next request is due within 2 ms, because
//! epoll sleeps in milliseconds. **Not here**: what a run comes to (`measure`).

use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::LoadPlan;
use super::again::{Again, Resent};
use super::connection::Connection;
use super::in_flight::InFlight;
use super::judge::MOST;
use super::lane::Lane;
use super::pieces::Pieces;
use super::window::Windows;
use super::witness::Witnesses;
use crate::client;
use crate::error::{BenchError, Result, Tried};
use crate::interrupt;
use crate::request::Workload;

/// One answer in so many is compared byte by byte.
const SAMPLE: u64 = 1009;
const BUFFER: usize = 256 * 1024;
/// A server that has answered nothing for so long ends the run.
const SILENCE: Duration = Duration::from_secs(10);
const SPIN: Duration = Duration::from_millis(2);
/// A request that has been due for no longer waits for nothing that was before it.
const FRESH: u64 = MOST.as_nanos() as u64;
/// Connections of the writes beside reads: more than wait for the log at any time.
const WRITE_CONNECTIONS: usize = 128;

/// The load that is reported, and the one beside it.
pub(super) const READS: usize = 0;
pub(super) const WRITES: usize = 1;

pub(super) struct Generator<'a> {
    pub(super) plan: &'a LoadPlan,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    pub(super) lanes: Vec<Lane>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    start: Instant,
    witnesses: &'a Witnesses,
    /// Time spent without anything to do although awake, in ns.
    pub(super) spun: u64,
    /// Whether something was sent in this turn of the loop.
    has_sent: bool,
    in_flight: InFlight,
    last_answer: u64,
    /// Longest time between two answers.
    pub(super) longest_gap: u64,
    pub(super) again: Again,
    pub(super) pieces: Option<Pieces>,
    /// Of the open loop, while it is measured.
    pub(super) windows: Option<Windows<'a>>,
}

impl<'a> Generator<'a> {
    pub(super) fn new(plan: &'a LoadPlan, witnesses: &'a Witnesses) -> Result<Self> {
        let mut lanes = vec![Lane::new(plan, plan.workload, plan.rate)?];
        let mut counts = vec![(plan.workload, plan.connections)];
        if let Some(rate) = plan.writes {
            lanes.push(Lane::new(plan, Workload::Put, Some(rate))?);
            counts.push((Workload::Put, WRITE_CONNECTIONS));
        }
        let poll = Poll::new().tried(|| "create an epoll instance".into())?;
        let mut connections = Vec::new();
        for (number, (workload, count)) in counts.into_iter().enumerate() {
            let lane = &mut lanes[number];
            for _ in 0..count {
                let index = connections.len();
                let stream = open(plan, &poll, index)?;
                let request = lane.template.bytes();
                connections.push(Connection::new(stream, number, plan.protocol, request, workload.keys()));
                lane.idle.push_back(index);
            }
        }
        Ok(Self {
            plan,
            poll,
            events: Events::with_capacity(1024),
            connections,
            lanes,
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            start: Instant::now(),
            witnesses,
            spun: 0,
            has_sent: false,
            in_flight: InFlight::default(),
            last_answer: 0,
            longest_gap: 0,
            again: Again::default(),
            pieces: None,
            windows: None,
        })
    }

    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// Forgets what was measured and starts the paces anew.
    pub(super) fn restart(&mut self, from: u64) -> Result<()> {
        for lane in &mut self.lanes {
            lane.restart(from);
        }
        self.longest_gap = 0;
        self.spun = 0;
        self.again.resent = Resent::default();
        self.pieces = self.plan.pieces.map(|length| Pieces::new(nanoseconds(length), from));
        self.windows =
            self.plan.rate.map(|rate| Windows::new(self.plan.pid, self.witnesses, from, rate)).transpose()?;
        Ok(())
    }

    /// Keeps the load up until `end`.
    pub(super) fn until(&mut self, end: u64) -> Result<()> {
        let mut idle_from = None;
        loop {
            let now = self.now();
            self.spun += idle_from.take().map_or(0, |from| now - from);
            self.has_sent = false;
            if now >= end {
                return Ok(());
            }
            interrupt::check()?;
            if now.saturating_sub(self.last_answer) > nanoseconds(SILENCE) {
                return Err(BenchError::Patience(format!("no answer for {SILENCE:?}")));
            }
            let mut timeout = Duration::from_nanos(end - now).min(Duration::from_millis(100));
            if let Some(windows) = &mut self.windows {
                windows.look(now);
                timeout = timeout.min(windows.at(now)?);
            }
            timeout = timeout.min(self.send_again(now)?);
            for lane in 0..self.lanes.len() {
                timeout = timeout.min(self.send_due(lane, now)?);
            }
            let polled = self.poll.poll(&mut self.events, Some(timeout));
            if !timeout.is_zero() {
                let now = self.now();
                if let Some(windows) = &mut self.windows {
                    windows.slept(now);
                }
            }
            if let Err(error) = polled {
                if error.kind() == std::io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error).tried(|| "wait for events".into());
            }
            if timeout.is_zero() && self.events.is_empty() && !self.has_sent {
                idle_from = Some(now);
            }
            let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            for event in &events {
                let index = event.token().0;
                if event.is_writable() && !self.connections[index].ended {
                    let written = self.connections[index].write();
                    self.unless_ended(index, written)?;
                }
                if event.is_readable() && !self.connections[index].ended {
                    self.answered(index)?;
                    // A handful of answers takes longer than the time between two requests: what falls due
                    // meanwhile goes out between them, not behind the last.
                    self.send_overdue()?;
                }
            }
            self.events = events;
        }
    }

    /// Sends what is due by now, in every lane that has a pace.
    fn send_overdue(&mut self) -> Result<()> {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].interval > 0.0 {
                let now = self.now();
                if self.lanes[lane].next_due() <= now {
                    self.send_due(lane, now)?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is due as far as connections are free; how long to wait for events then.
    fn send_due(&mut self, lane: usize, now: u64) -> Result<Duration> {
        if self.lanes[lane].interval == 0.0 {
            while let Some(index) = self.lanes[lane].idle.pop_front() {
                self.send(index, now, now)?;
            }
            return Ok(Duration::MAX);
        }
        let mut due = self.lanes[lane].next_due();
        while due <= now {
            let Some(index) = self.lanes[lane].idle.pop_front() else {
                return Ok(Duration::MAX);
            };
            let now = self.now();
            // The time since it was due and a connection was free is this loop's own delay.
            let delay = now - due.max(self.connections[index].free_since);
            self.lanes[lane].delay.saturating_record(delay);
            if let Some(windows) = &mut self.windows {
                windows.look(now);
                if lane == READS {
                    windows.sent(delay);
                }
            }
            self.send(index, due, now)?;
            self.lanes[lane].paced += 1;
            due = self.lanes[lane].next_due();
        }
        if lane == READS
            && let Some(windows) = &mut self.windows
            && self
                .in_flight
                .oldest(&self.connections)
                .is_none_or(|oldest| now.saturating_sub(oldest) <= FRESH)
        {
            windows.caught_up();
        }
        Ok(Duration::from_nanos(due - now).saturating_sub(SPIN))
    }

    fn send(&mut self, index: usize, due: u64, now: u64) -> Result<()> {
        self.has_sent = true;
        if self.windows.is_some() && self.connections[index].lane == READS {
            self.in_flight.sent(index, due, &self.connections);
        }
        let connection = &mut self.connections[index];
        let lane = &mut self.lanes[connection.lane];
        lane.picker.pick_distinct(&mut connection.numbers);
        lane.template.patch(&mut connection.request, &connection.numbers, &mut self.scratch);
        lane.template.number(&mut connection.request, connection.number);
        let sampled = lane.length.is_none() || lane.requests.is_multiple_of(SAMPLE);
        let sent = connection.send(due, now, sampled);
        self.unless_ended(index, sent)?;
        Ok(())
    }

    /// What came out, unless the connection has ended and shall be opened again.
    fn unless_ended<T>(&mut self, index: usize, outcome: Result<T>) -> Result<Option<T>> {
        let connection = &mut self.connections[index];
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.plan.reopen && connection.ended => {
                connection.hang_up();
                let (lane, busy) = (connection.lane, connection.busy);
                self.again.ended(index, busy, self.now());
                self.lanes[lane].idle.retain(|&idle| idle != index);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens what has ended, and sends again what was not answered; how long to wait for events then.
    fn send_again(&mut self, now: u64) -> Result<Duration> {
        let due = self.again.due(now);
        for (place, &index) in due.iter().enumerate() {
            if self.connections[index].ended {
                let Ok(stream) = open(self.plan, &self.poll, index) else {
                    // What one connection is refused now, the others are as well.
                    self.again.later(&due[place..], now);
                    break;
                };
                self.connections[index].reopened(stream, self.plan.protocol);
            }
            let connection = &mut self.connections[index];
            if connection.busy {
                self.again.resent.again += 1;
                let sent = connection.send_again(now);
                self.unless_ended(index, sent)?;
            } else {
                self.lanes[connection.lane].idle.push_back(index);
            }
        }
        // As long before the next try as before a request that is due.
        let next = self.again.next(now).map_or(Duration::MAX, Duration::from_nanos);
        Ok(next.saturating_sub(SPIN))
    }

    fn answered(&mut self, index: usize) -> Result<()> {
        let read = self.connections[index].read(&mut self.buffer);
        let Some((status, length)) = self.unless_ended(index, read)?.flatten() else {
            return Ok(());
        };
        let now = self.now();
        if let Some(windows) = &mut self.windows {
            windows.look(now);
        }
        if self.plan.reopen && matches!(status, 429 | 503) {
            self.connections[index].busy = true;
            self.again.refused(index, now);
            return Ok(());
        }
        self.connections[index].free_since = now;
        let connection = &self.connections[index];
        let lane = &mut self.lanes[connection.lane];
        let (latency, service) = (now - connection.due, now - connection.sent);
        lane.latency.saturating_record(latency);
        lane.service.saturating_record(service);
        lane.requests += 1;
        self.longest_gap = self.longest_gap.max(now - self.last_answer);
        self.last_answer = now;
        if connection.lane == READS {
            if let Some(pieces) = &mut self.pieces {
                pieces.record(now, latency);
            }
            if let Some(windows) = &mut self.windows {
                windows.answered(latency, service);
            }
        }
        lane.check(&self.plan.set, connection, status, length, &mut self.scratch)?;
        if self.plan.reopen && connection.reader.is_last() {
            self.connections[index].hang_up();
            self.again.ended(index, false, now);
        } else if lane.interval == 0.0 {
            return self.send(index, now, now);
        } else {
            lane.idle.push_back(index);
        }
        Ok(())
    }
}

/// Opens a connection and has its events told under its number.
fn open(plan: &LoadPlan, poll: &Poll, index: usize) -> Result<TcpStream> {
    let stream = client::connect(&plan.target)?;
    stream.set_nonblocking(true).tried(|| "make a socket non-blocking".into())?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
        .tried(|| "register a socket".into())?;
    Ok(stream)
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

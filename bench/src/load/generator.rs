//! The event loop of the load generator.
//!
//! epoll → read an answer → record its latency → send the connection's next request (closed loop), or put the
//! connection among the idle ones, from which due requests are sent (open loop). Writes beside reads are a second lane of
//! the same loop, with connections and pace of its own. Two system calls a request and a
//! share of an `epoll_wait`; nothing is allocated once every connection has had its first answer.
//!
//! **Invariants**: a request that is due is sent as soon as a connection is free, and charged from when it was due.
//! **Runs on**: the calling thread, which spins in the open loop when the next request is due within 2 ms, because
//! epoll sleeps in milliseconds.

use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::LoadPlan;
use super::again::{Again, Resent};
use super::connection::Connection;
use super::lane::Lane;
use super::pieces::Pieces;
use super::report::{LoadReport, Undisturbed, Usage};
use super::window::Windows;
use crate::client;
use crate::cpu;
use crate::dataset::{LISTED, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::interrupt;
use crate::report::Interval;
use crate::request::Workload;
use crate::summary::Summary;

/// One answer in so many is compared byte by byte.
const SAMPLE: u64 = 1009;
const BUFFER: usize = 256 * 1024;
/// A server that has answered nothing for so long ends the run.
const SILENCE: Duration = Duration::from_secs(10);
const SPIN: Duration = Duration::from_millis(2);
/// Connections of the writes beside reads: more than wait for the log at any time.
const WRITE_CONNECTIONS: usize = 128;

/// A report and the histogram that it was made from.
pub(crate) struct Measured {
    pub(crate) report: LoadReport,
    pub(crate) latency: Histogram<u64>,
    pub(crate) started: SystemTime,
    /// The same piece by piece, if the plan asks for pieces.
    pub(crate) intervals: Vec<Interval>,
}

/// Opens the connections, warms up, measures. `raised` says whether the calling thread has the priority it should have.
pub(super) fn run(plan: &LoadPlan, raised: bool) -> Result<Measured> {
    let mut generator = Generator::new(plan)?;
    let warm = nanoseconds(plan.warmup);
    generator.until(warm)?;
    generator.restart(warm)?;
    let started = SystemTime::now();
    let before = Usage::now(plan.pid)?;
    let end = warm + nanoseconds(plan.measured);
    generator.until(end)?;
    let took = Duration::from_nanos(generator.now() - warm);
    let used = Usage::now(plan.pid)?.since(&before);
    if generator.lanes[READS].requests == 0 {
        return Err(BenchError::Patience(format!("no answer in {:?}", plan.measured)));
    }
    let undisturbed = generator.windows.take().map(|windows| windows.finish(end)).transpose()?.flatten();
    let mut report = generator.report(took, &used, undisturbed);
    report.normal_priority = !raised;
    let Generator { mut lanes, pieces, .. } = generator;
    let latency = lanes.swap_remove(READS).latency;
    Ok(Measured { report, latency, started, intervals: pieces.map(|pieces| pieces.done).unwrap_or_default() })
}

/// The load that is reported, and the one beside it.
const READS: usize = 0;
const WRITES: usize = 1;

struct Generator<'a> {
    plan: &'a LoadPlan,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    lanes: Vec<Lane>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    start: Instant,
    last_answer: u64,
    /// Longest time between two answers.
    longest_gap: u64,
    again: Again,
    pieces: Option<Pieces>,
    /// Of the open loop, while it is measured.
    windows: Option<Windows>,
}

impl<'a> Generator<'a> {
    fn new(plan: &'a LoadPlan) -> Result<Self> {
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
                lane.idle.push(index);
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
            last_answer: 0,
            longest_gap: 0,
            again: Again::default(),
            pieces: None,
            windows: None,
        })
    }

    fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// Forgets what was measured and starts the paces anew.
    fn restart(&mut self, from: u64) -> Result<()> {
        for lane in &mut self.lanes {
            lane.restart(from);
        }
        self.longest_gap = 0;
        self.again.resent = Resent::default();
        self.pieces = self.plan.pieces.map(|length| Pieces::new(nanoseconds(length), from));
        self.windows = self.plan.rate.map(|rate| Windows::new(self.plan.pid, from, rate)).transpose()?;
        Ok(())
    }

    /// Keeps the load up until `end`.
    fn until(&mut self, end: u64) -> Result<()> {
        loop {
            let now = self.now();
            if now >= end {
                return Ok(());
            }
            interrupt::check()?;
            if now.saturating_sub(self.last_answer) > nanoseconds(SILENCE) {
                return Err(BenchError::Patience(format!("no answer for {SILENCE:?}")));
            }
            let mut timeout = Duration::from_nanos(end - now).min(Duration::from_millis(100));
            if let Some(windows) = &mut self.windows {
                timeout = timeout.min(windows.at(now)?);
            }
            timeout = timeout.min(self.send_again(now)?);
            for lane in 0..self.lanes.len() {
                timeout = timeout.min(self.send_due(lane, now)?);
            }
            let polled = self.poll.poll(&mut self.events, Some(timeout));
            if let Err(error) = polled {
                if error.kind() == std::io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error).tried(|| "wait for events".into());
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
            while let Some(index) = self.lanes[lane].idle.pop() {
                self.send(index, now, now)?;
            }
            return Ok(Duration::MAX);
        }
        let mut due = self.lanes[lane].next_due();
        while due <= now {
            let Some(index) = self.lanes[lane].idle.pop() else {
                return Ok(Duration::MAX);
            };
            let now = self.now();
            // With a connection free, the time since it was due is this loop's own delay.
            self.lanes[lane].delay.saturating_record(now - due);
            if let (READS, Some(windows)) = (lane, &mut self.windows) {
                windows.sent(now - due);
            }
            self.send(index, due, now)?;
            self.lanes[lane].paced += 1;
            due = self.lanes[lane].next_due();
        }
        Ok(Duration::from_nanos(due - now).saturating_sub(SPIN))
    }

    fn send(&mut self, index: usize, due: u64, now: u64) -> Result<()> {
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
        let connection = &self.connections[index];
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.plan.reopen && connection.ended => {
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
                self.lanes[connection.lane].idle.push(index);
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
        if self.plan.reopen && matches!(status, 429 | 503) {
            self.connections[index].busy = true;
            self.again.refused(index, now);
            return Ok(());
        }
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
        self.check(index, status, length)?;
        let lane = &mut self.lanes[self.connections[index].lane];
        if lane.interval == 0.0 {
            return self.send(index, now, now);
        }
        lane.idle.push(index);
        Ok(())
    }

    fn check(&mut self, index: usize, status: u16, length: usize) -> Result<()> {
        let connection = &self.connections[index];
        let lane = &mut self.lanes[connection.lane];
        if status != 200 || lane.length.is_some_and(|expected| expected != length) {
            let expected = lane.length.map_or(String::new(), |expected| format!(" instead of {expected}"));
            let body = String::from_utf8_lossy(connection.reader.body()).into_owned();
            return Err(BenchError::Answer(format!("status {status}, {length} bytes{expected} {body}")));
        }
        if !connection.sampled {
            return Ok(());
        }
        let body = connection.reader.body();
        match if connection.lane == READS { self.plan.workload } else { Workload::Put } {
            Workload::Get(_) => self.plan.set.check(&connection.numbers, body, &mut self.scratch)?,
            Workload::List => {
                assert!(self.plan.set.shape == Shape::Listed, "a list is planned over listed records");
                let first = connection.numbers[0] / LISTED * LISTED;
                let numbers: Vec<u32> = (first..first + LISTED).collect();
                self.plan.set.check(&numbers, body, &mut self.scratch)?;
            }
            Workload::Miss => {
                if body != br#"{"Records":[]}"# {
                    return Err(BenchError::Answer("a record that nobody put is there".into()));
                }
            }
            Workload::Put | Workload::Constant => {}
        }
        lane.length = Some(length);
        Ok(())
    }

    fn report(&self, took: Duration, used: &Usage, undisturbed: Option<Undisturbed>) -> LoadReport {
        let seconds = took.as_secs_f64();
        let lane = &self.lanes[READS];
        let unsent = if lane.interval == 0.0 {
            0
        } else {
            let due = nanoseconds(took) as f64 / lane.interval;
            (due as u64).saturating_sub(lane.paced)
        };
        LoadReport {
            target: self.plan.target.to_string(),
            workload: format!("{:?}", self.plan.workload),
            connections: self.plan.connections,
            records: self.plan.set.records,
            asked_records: self.plan.range,
            value_bytes: self.plan.set.value_bytes,
            answer_bytes: lane.length.unwrap_or(0),
            seconds,
            requests: lane.requests,
            rate: lane.requests as f64 / seconds,
            records_rate: (lane.requests * self.plan.workload.records() as u64) as f64 / seconds,
            offered_rate: self.plan.rate,
            unsent,
            latency: Summary::of(&lane.latency),
            service: self.plan.rate.map(|_| Summary::of(&lane.service)),
            delay: self.plan.rate.map(|_| Summary::of(&lane.delay)),
            undisturbed,
            writes: self.lanes.get(WRITES).map(|lane| Summary::of(&lane.latency)),
            generator_cpu: used.own.as_secs_f64() / seconds,
            server_cpu: used.server.map(|time| time.as_secs_f64() / seconds),
            normal_priority: false,
            resent: self
                .plan
                .reopen
                .then(|| Resent { longest_gap_us: self.longest_gap as f64 / 1000.0, ..self.again.resent }),
        }
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

impl Usage {
    fn now(pid: Option<u32>) -> Result<Self> {
        Ok(Self { own: cpu::thread_time()?, server: pid.map(cpu::process_time).transpose()? })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Target;
    use crate::dataset::DataSet;

    /// Answers what comes with the given statuses, then with 200 until the other end closes.
    fn serve(mut stream: TcpStream, statuses: &[u16]) {
        let mut statuses = statuses.iter();
        let mut request = [0; 4096];
        // The requests are short and come one at a time.
        while stream.read(&mut request).is_ok_and(|length| length > 0) {
            let status = statuses.next().copied().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).expect("the load reads");
        }
    }

    fn plan(listener: &TcpListener) -> LoadPlan {
        let target = Target::local(listener.local_addr().expect("address").port());
        let set = DataSet::new(10, 64, Shape::Single).expect("valid");
        let mut plan = LoadPlan::closed(target, Workload::Constant, set, Duration::from_secs(1));
        (plan.connections, plan.warmup, plan.rate) = (1, Duration::ZERO, Some(100.0));
        plan
    }

    #[test]
    fn what_was_cut_or_refused_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut plan = plan(&listener);
        plan.reopen = true;
        let server = std::thread::spawn(move || {
            // The first request is read and never answered.
            let (mut first, _) = listener.accept().expect("accept");
            assert!(first.read(&mut [0; 4096]).expect("read") > 0);
            drop(first);
            serve(listener.accept().expect("accept").0, &[200, 503, 429]);
        });
        let report = plan.run().expect("measured");
        server.join().expect("no panic");
        let resent = report.resent.expect("asked for");
        assert_eq!((resent.cut, resent.refused, resent.again), (1, 2, 3));
        assert!(resent.longest_gap_us > 0.0 && report.latency.count == report.requests);
    }

    #[test]
    fn without_being_asked_for_an_end_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let plan = plan(&listener);
        let server = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().expect("accept");
            assert!(first.read(&mut [0; 4096]).expect("read") > 0);
        });
        assert!(plan.run().is_err_and(|error| error.to_string().contains("closed a connection")));
        server.join().expect("no panic");
    }
}

//! The event loop of the load generator.
//!
//! epoll → read an answer → record its latency → send the connection's next request (closed loop), or put the
//! connection among the idle ones, from which due requests are sent (open loop). Two system calls a request and a
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
use super::connection::Connection;
use super::report::{LoadReport, Usage};
use crate::client;
use crate::cpu;
use crate::dataset::{LISTED, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::picker::Picker;
use crate::request::{Template, Workload};
use crate::summary::{Summary, latencies};

/// One answer in so many is compared byte by byte.
const SAMPLE: u64 = 1009;
const BUFFER: usize = 256 * 1024;
/// A server that has answered nothing for so long ends the run.
const SILENCE: Duration = Duration::from_secs(10);
const SPIN: Duration = Duration::from_millis(2);

/// A report and the histogram that it was made from.
pub(super) struct Measured {
    pub(super) report: LoadReport,
    pub(super) latency: Histogram<u64>,
    pub(super) started: SystemTime,
}

/// Opens the connections, warms up, measures.
pub(super) fn run(plan: &LoadPlan) -> Result<Measured> {
    let mut generator = Generator::new(plan)?;
    let warm = nanoseconds(plan.warmup);
    generator.until(warm)?;
    generator.restart(warm);
    let started = SystemTime::now();
    let before = Usage::now(plan.pid)?;
    let end = warm + nanoseconds(plan.measured);
    generator.until(end)?;
    let took = Duration::from_nanos(generator.now() - warm);
    let used = Usage::now(plan.pid)?.since(&before);
    if generator.requests == 0 {
        return Err(BenchError::Patience(format!("no answer in {:?}", plan.measured)));
    }
    let report = generator.report(took, &used);
    Ok(Measured { report, latency: generator.latency, started })
}

struct Generator<'a> {
    plan: &'a LoadPlan,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    template: Template,
    picker: Picker,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    start: Instant,
    /// Time between two requests in the open loop, in ns.
    interval: f64,
    /// Requests sent since the pace was last restarted, and when that was.
    paced: u64,
    pace_from: u64,
    /// Length of every answer's body, learnt from the first one that was compared.
    length: Option<usize>,
    requests: u64,
    last_answer: u64,
    /// From due to answered, and from sent to answered.
    latency: Histogram<u64>,
    service: Histogram<u64>,
    /// From due to sent when a connection was free: the generator's own delay.
    delay: Histogram<u64>,
}

impl<'a> Generator<'a> {
    fn new(plan: &'a LoadPlan) -> Result<Self> {
        let template = Template::new(plan.workload, plan.set, &plan.target.host)?;
        let poll = Poll::new().tried(|| "create an epoll instance".into())?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let stream = client::connect(&plan.target)?;
            stream.set_nonblocking(true).tried(|| "make a socket non-blocking".into())?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .tried(|| "register a socket".into())?;
            connections.push(Connection::new(stream, template.bytes(), plan.workload.keys()));
        }
        Ok(Self {
            plan,
            poll,
            events: Events::with_capacity(1024),
            idle: (0..connections.len()).collect(),
            connections,
            template,
            picker: Picker::new(plan.seed, plan.range, plan.distribution),
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            start: Instant::now(),
            interval: plan.rate.map_or(0.0, |rate| 1e9 / rate),
            paced: 0,
            pace_from: 0,
            length: None,
            requests: 0,
            last_answer: 0,
            latency: latencies(),
            service: latencies(),
            delay: latencies(),
        })
    }

    fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// Forgets what was measured and starts the open loop's pace anew.
    fn restart(&mut self, from: u64) {
        self.latency.reset();
        self.service.reset();
        self.delay.reset();
        self.requests = 0;
        self.paced = 0;
        self.pace_from = from;
    }

    /// Keeps the load up until `end`.
    fn until(&mut self, end: u64) -> Result<()> {
        loop {
            let now = self.now();
            if now >= end {
                return Ok(());
            }
            if now.saturating_sub(self.last_answer) > nanoseconds(SILENCE) {
                return Err(BenchError::Patience(format!("no answer for {SILENCE:?}")));
            }
            let timeout = self.send_due(now, end)?;
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
                if event.is_writable() {
                    self.connections[index].write()?;
                }
                if event.is_readable() {
                    self.answered(index)?;
                }
            }
            self.events = events;
        }
    }

    /// Sends what is due as far as connections are free; how long to wait for events then.
    fn send_due(&mut self, now: u64, end: u64) -> Result<Duration> {
        let left = Duration::from_nanos(end - now).min(Duration::from_millis(100));
        if self.interval == 0.0 {
            while let Some(index) = self.idle.pop() {
                self.send(index, now, now)?;
            }
            return Ok(left);
        }
        let mut due = self.next_due();
        while due <= now {
            let Some(index) = self.idle.pop() else {
                return Ok(left);
            };
            let now = self.now();
            // With a connection free, the time since it was due is this loop's own delay.
            self.delay.saturating_record(now - due);
            self.send(index, due, now)?;
            self.paced += 1;
            due = self.next_due();
        }
        let wait = Duration::from_nanos(due - now).min(left);
        Ok(if wait < SPIN { Duration::ZERO } else { wait - SPIN })
    }

    fn next_due(&self) -> u64 {
        self.pace_from + (self.paced as f64 * self.interval) as u64
    }

    fn send(&mut self, index: usize, due: u64, now: u64) -> Result<()> {
        let connection = &mut self.connections[index];
        self.picker.pick_distinct(&mut connection.numbers);
        self.template.patch(&mut connection.request, &connection.numbers, &mut self.scratch);
        let sampled = self.length.is_none() || self.requests.is_multiple_of(SAMPLE);
        connection.send(due, now, sampled)
    }

    fn answered(&mut self, index: usize) -> Result<()> {
        let Some((status, length)) = self.connections[index].read(&mut self.buffer)? else {
            return Ok(());
        };
        let now = self.now();
        let connection = &self.connections[index];
        self.latency.saturating_record(now - connection.due);
        self.service.saturating_record(now - connection.sent);
        self.requests += 1;
        self.last_answer = now;
        self.check(index, status, length)?;
        if self.interval == 0.0 {
            return self.send(index, now, now);
        }
        self.idle.push(index);
        Ok(())
    }

    fn check(&mut self, index: usize, status: u16, length: usize) -> Result<()> {
        let connection = &self.connections[index];
        if status != 200 || self.length.is_some_and(|expected| expected != length) {
            let expected = self.length.map_or(String::new(), |expected| format!(" instead of {expected}"));
            let body = String::from_utf8_lossy(connection.reader.body()).into_owned();
            return Err(BenchError::Answer(format!("status {status}, {length} bytes{expected} {body}")));
        }
        if !connection.sampled {
            return Ok(());
        }
        let body = connection.reader.body();
        match self.plan.workload {
            Workload::Get(_) => self.plan.set.check(&connection.numbers, body, &mut self.scratch)?,
            Workload::List => {
                assert!(self.plan.set.shape == Shape::Listed, "a list is planned over listed records");
                let first = connection.numbers[0] / LISTED * LISTED;
                let numbers: Vec<u32> = (first..first + LISTED).collect();
                self.plan.set.check(&numbers, body, &mut self.scratch)?;
            }
            Workload::Put | Workload::Constant => {}
        }
        self.length = Some(length);
        Ok(())
    }

    fn report(&self, took: Duration, used: &Usage) -> LoadReport {
        let seconds = took.as_secs_f64();
        let unsent = if self.interval == 0.0 {
            0
        } else {
            let due = nanoseconds(took) as f64 / self.interval;
            (due as u64).saturating_sub(self.paced)
        };
        LoadReport {
            target: self.plan.target.to_string(),
            workload: format!("{:?}", self.plan.workload),
            connections: self.plan.connections,
            records: self.plan.set.records,
            asked_records: self.plan.range,
            value_bytes: self.plan.set.value_bytes,
            answer_bytes: self.length.unwrap_or(0),
            seconds,
            requests: self.requests,
            rate: self.requests as f64 / seconds,
            records_rate: (self.requests * self.plan.workload.records() as u64) as f64 / seconds,
            offered_rate: self.plan.rate,
            unsent,
            latency: Summary::of(&self.latency),
            service: self.plan.rate.map(|_| Summary::of(&self.service)),
            delay: self.plan.rate.map(|_| Summary::of(&self.delay)),
            generator_cpu: used.own.as_secs_f64() / seconds,
            server_cpu: used.server.map(|time| time.as_secs_f64() / seconds),
        }
    }
}

impl Usage {
    fn now(pid: Option<u32>) -> Result<Self> {
        Ok(Self { own: cpu::thread_time()?, server: pid.map(cpu::process_time).transpose()? })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

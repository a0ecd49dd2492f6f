//! One measurement from its first connection to its report.
//!
//! warm up → forget → measure → what the generator found, with the CPU time that both sides used meanwhile.
//!
//! **Runs on**: the generator's thread. **Not here**: the loop itself (`generator`).

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::LoadPlan;
use super::again::Resent;
use super::generator::{Generator, READS, WRITES, nanoseconds};
use super::lane::Lane;
use super::report::{LoadReport, Undisturbed, Usage};
use super::witness::Witnesses;
use crate::cpu;
use crate::error::{BenchError, Result};
use crate::report::Interval;
use crate::summary::Summary;

/// A report and the histogram that it was made from.
pub(crate) struct Measured {
    pub(crate) report: LoadReport,
    pub(crate) latency: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    pub(super) delay: Histogram<u64>,
    /// Of undisturbed windows, in the open loop.
    pub(super) calm: Option<Calm>,
    pub(crate) started: SystemTime,
    /// The same piece by piece, if the plan asks for pieces.
    pub(crate) intervals: Vec<Interval>,
}

/// The histograms of undisturbed windows, and how many of all windows those were.
pub(crate) struct Calm {
    pub(super) latency: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    pub(super) delay: Histogram<u64>,
    pub(super) windows: u64,
    pub(super) undisturbed: u64,
}

impl Undisturbed {
    /// What is reported of them.
    pub(super) fn of(calm: &Calm) -> Self {
        Self {
            latency: Summary::of(&calm.latency),
            service: Summary::of(&calm.service),
            delay: Summary::of(&calm.delay),
            windows: calm.windows,
            share: calm.undisturbed as f64 / calm.windows.max(1) as f64,
        }
    }
}

/// Opens the connections, warms up, measures. `raised` says whether all threads have the priority that they should have.
pub(super) fn run(plan: &LoadPlan, witnesses: &Witnesses, raised: bool) -> Result<Measured> {
    let mut generator = Generator::new(plan, witnesses)?;
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
    let calm = generator.windows.take().map(|windows| windows.finish(end)).transpose()?.flatten();
    let mut report = generator.report(took, &used, calm.as_ref().map(Undisturbed::of));
    report.normal_priority = !raised;
    let Generator { mut lanes, pieces, .. } = generator;
    let Lane { latency, service, delay, .. } = lanes.swap_remove(READS);
    let intervals = pieces.map(|pieces| pieces.done).unwrap_or_default();
    Ok(Measured { report, latency, service, delay, calm, started, intervals })
}

impl Generator<'_> {
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
            generator_cpu: used.own.saturating_sub(Duration::from_nanos(self.spun)).as_secs_f64() / seconds,
            server_cpu: used.server.map(|time| time.as_secs_f64() / seconds),
            normal_priority: false,
            resent: self
                .plan
                .reopen
                .then(|| Resent { longest_gap_us: self.longest_gap as f64 / 1000.0, ..self.again.resent }),
        }
    }
}

impl Usage {
    fn now(pid: Option<u32>) -> Result<Self> {
        Ok(Self { own: cpu::thread_time()?, server: pid.map(cpu::process_time).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Target;
    use crate::dataset::{DataSet, Shape};
    use crate::request::Workload;

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

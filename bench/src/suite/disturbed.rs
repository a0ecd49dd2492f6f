//! Reads over time while the node is disturbed: by a bulk load, by a restart, and while it applies its whole log.
//!
//! An open loop at half of the most, in pieces of 200 ms → [`Timeline`] with a mark for each thing that was done. What
//! disturbs runs on the background's CPU, which is the servers' if there is no other: the load's CPU stays the load's.
//!
//! **Invariants**: the node that is left behind holds the same data as before. **Not here**: steady loads (`latency`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use firescroll_io::cpu::stand_back;

use super::beside::EASY;
use super::latency::plain;
use super::{FEW, HOT, Suite, say, tell};
use crate::client::Client;
use crate::cpu;
use crate::dataset::DataSet;
use crate::error::{BenchError, Result, Tried};
use crate::fill;
use crate::interrupt;
use crate::load::{LoadPlan, Measured};
use crate::node::{Node, NodePlan};
use crate::report::{Interval, Mark, Report, Timeline, median};

const PIECE: Duration = Duration::from_millis(200);
const TIMELINE: Duration = Duration::from_secs(8);
/// Records that are put at once in the middle of a time line.
const BULK: u32 = 100_000;
/// A record that is not readable for so long after a start is lost.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);
/// Steps of niceness to the end of the scale.
const LAST: i32 = 19;

impl Suite<'_> {
    /// All of them, one after the other; the node that runs afterwards.
    pub(super) fn disturbed(&self, report: &mut Report, node: Node, data: &Path, knee: f64) -> Result<Node> {
        self.bulk_load(report, &node, knee)?;
        let node = self.restarted(report, node, data, knee)?;
        self.caught_up(report, node, data, knee)
    }

    fn over_time(&self, node: &Node, knee: f64, range: u32) -> LoadPlan {
        let mut plan = self.paced(node.process(), knee * EASY, 64);
        plan.range = range;
        plan.pieces = Some(PIECE);
        plan.measured = TIMELINE;
        plan
    }

    /// Measures while `act` is done on the background's CPU. It is told when the measured time begins.
    fn meanwhile<T: Send>(
        &self,
        plan: &LoadPlan,
        act: impl FnOnce(Instant) -> Result<T> + Send,
    ) -> Result<(Measured, T)> {
        let begin = Instant::now() + plan.warmup;
        thread::scope(|scope| {
            let acting = scope.spawn(move || {
                cpu::pin(self.places.background.unwrap_or(self.places.server))?;
                act(begin)
            });
            let measured = plan.measure();
            let done = acting.join().expect("what disturbs does not panic");
            Ok((measured?, done?))
        })
    }

    fn bulk_load(&self, report: &mut Report, node: &Node, knee: f64) -> Result<()> {
        let plan = self.over_time(node, knee, HOT);
        let (target, set) = (node.api().clone(), DataSet { records: BULK.min(self.set.records), ..self.set });
        let (measured, (from, to)) = self.meanwhile(&plan, |begin| {
            wait_until(begin + TIMELINE / 4);
            // The client of the puts shares a CPU with the node; what it takes of it is no doing of the node's.
            stand_back(LAST);
            let from = Instant::now();
            fill::fill(&target, set)?;
            Ok((from - begin, begin.elapsed()))
        })?;
        tell("reads beside a bulk load", &measured.report);
        let from_where = if self.places.background.is_some() { "the background's" } else { "the servers'" };
        report.timelines.push(Timeline {
            name: format!("Reads at 50 % of the most, and {BULK} puts in batches from {from_where} CPU"),
            intervals: measured.intervals,
            marks: vec![mark(from, "puts begin"), mark(to, "all readable")],
        });
        Ok(())
    }

    /// The node is stopped in good order and started again at once, on its data and its ports.
    fn restarted(&self, report: &mut Report, node: Node, data: &Path, knee: f64) -> Result<Node> {
        let mut plan = self.over_time(&node, knee, FEW);
        plan.reopen = true;
        // The process is another one in the end.
        plan.pid = None;
        let ports = node.ports();
        let cpus = self.with_background(&[self.places.server]);
        let start = NodePlan { binary: &self.options.node, data, cpus: &cpus, shards: 1, settings: &[] };
        let (measured, (node, from, up)) = self.meanwhile(&plan, |begin| {
            wait_until(begin + TIMELINE / 4);
            let from = Instant::now();
            node.stop()?;
            let node = Node::start_on(&start, ports)?;
            Ok((node, from - begin, begin.elapsed()))
        })?;
        tell("reads over a restart", &measured.report);
        if let (Some(resent), true) = (measured.report.resent, up < TIMELINE) {
            let name = "a restart at 50 % load: longest time without an answer";
            report.facts.push(plain(name.into(), resent.longest_gap_us / 1000.0, "ms"));
            let counts = [
                ("in flight and cut", resent.cut),
                ("refused", resent.refused),
                ("sent again", resent.again),
            ];
            for (what, count) in counts {
                report.facts.push(plain(format!("a restart at 50 % load: {what}"), count as f64, "requests"));
            }
        } else {
            report.notes.push("The restart took longer than its time line; it is not quoted.".into());
        }
        report.timelines.push(Timeline {
            name: "Reads at 50 % of the most over a restart; what finds no server is sent again".into(),
            intervals: measured.intervals,
            marks: vec![mark(from, "SIGTERM"), mark(up, "answers again")],
        });
        Ok(node)
    }

    /// The node is killed and loses its stores; it is read while it applies its log from the first mutation on.
    fn caught_up(&self, report: &mut Report, node: Node, data: &Path, knee: f64) -> Result<Node> {
        say("a node without stores applies its log");
        node.kill();
        remove_stores(data)?;
        let node = self.node(data, &[])?;
        self.readable(&node)?;
        let mut plan = self.over_time(&node, knee, FEW);
        // What is applied meanwhile cannot be read beforehand.
        plan.warmup = Duration::ZERO;
        let (measured, ready) = self.meanwhile(&plan, |begin| {
            node.ready()?;
            Ok(begin.elapsed())
        })?;
        tell("reads beside a catch-up", &measured.report);
        // What is measured next should find the store as it is after a load.
        node.settle()?;
        plan.measured = TIMELINE / 4;
        let quiet = plan.measure()?;
        tell("reads after it", &quiet.report);
        let name = "p99 of reads at 50 % load beside a catch-up";
        let both = median_p99(&measured.intervals, ready).zip(median_p99(&quiet.intervals, plan.measured));
        if let Some((beside, after)) = both {
            report.facts.push(plain(name.into(), beside, "µs"));
            report.facts.push(plain(format!("{name}, against the same after it"), beside / after, "×"));
        } else {
            report.notes.push(format!("Not quoted: {name}: it was over in {:.2} s.", ready.as_secs_f64()));
        }
        report.timelines.push(Timeline {
            name: "Reads at 50 % of the most while the node applies its whole log".into(),
            intervals: measured.intervals,
            marks: vec![mark(Duration::ZERO, "reads begin"), mark(ready, "/ready")],
        });
        Ok(node)
    }

    /// Waits until the few records that are read are there.
    fn readable(&self, node: &Node) -> Result<()> {
        let numbers: Vec<u32> = (0..FEW).collect();
        let mut body = Vec::new();
        self.set.get(&numbers, &mut body);
        let mut client = Client::new(node.api().clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            let answer = client.post("/records/get", "", &body)?;
            if answer.status == 200 && self.set.check(&numbers, &answer.body, &mut Vec::new()).is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(BenchError::Patience(format!(
                    "the first records are not there after {PATIENCE:?}"
                )));
            }
            thread::sleep(LOOK);
        }
    }
}

/// Removes what a node can make again from its log, as `src/layout.rs` of the node lists it.
fn remove_stores(data: &Path) -> Result<()> {
    let list = || format!("list {}", data.display());
    for entry in fs::read_dir(data).tried(list)? {
        let entry = entry.tried(list)?;
        if entry.file_name().to_string_lossy().starts_with("shard-") {
            let path = entry.path();
            fs::remove_dir_all(&path).tried(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn wait_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn mark(at: Duration, label: &str) -> Mark {
    Mark { at_s: at.as_secs_f64(), label: label.to_owned() }
}

/// The median p99 of the pieces that were over by then; nothing if there is none.
fn median_p99(intervals: &[Interval], until: Duration) -> Option<f64> {
    // The pieces' ends are sums of fractions.
    let until = until.as_secs_f64() + 1e-6;
    let over = intervals
        .iter()
        .filter(|interval| interval.rate > 0.0 && interval.from_s + PIECE.as_secs_f64() <= until);
    median(over.map(|interval| interval.p99_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_with_answers_count_until_their_end() {
        let interval = |i: u32| Interval {
            from_s: f64::from(i) * 0.2,
            rate: if i == 2 { 0.0 } else { 1.0 },
            p50_us: 0.0,
            p99_us: if i < 10 { f64::from(i) } else { 70_000.0 },
            max_us: 0.0,
        };
        let intervals: Vec<Interval> = (0..40).map(interval).collect();
        let median = |millis| median_p99(&intervals, Duration::from_millis(millis));
        assert_eq!([median(100), median(200), median(790)], [None, Some(0.0), Some(0.5)]);
        assert_eq!(median(2_000), Some(5.0));
    }

    #[test]
    fn only_stores_are_removed() {
        let data = tempfile::tempdir().expect("scratch directory");
        for name in ["shard-000", "shard-001", "log"] {
            fs::create_dir(data.path().join(name)).expect("make");
        }
        fs::write(data.path().join("node.json"), "{}").expect("write");
        remove_stores(data.path()).expect("removed");
        let mut left: Vec<_> =
            fs::read_dir(data.path()).expect("list").map(|e| e.expect("entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["log", "node.json"]);
    }
}

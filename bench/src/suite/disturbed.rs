//! Reads over time while the node is disturbed: by a bulk load, by a restart, and while it applies its whole log.
//!
//! An open loop at half of the most, in pieces of 200 ms → [`Timeline`] with a mark for each thing that was done. What
//! disturbs runs on the servers' CPU: the load's CPU stays the load's.
//!
//! **Invariants**: the node that is left behind holds the same data as before. **Not here**: steady loads (`latency`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::latency::{EASY, plain};
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

impl Suite<'_> {
    /// All of them, one after the other; the node that runs afterwards.
    pub(super) fn disturbed(&self, report: &mut Report, node: Node, data: &Path, knee: f64) -> Result<Node> {
        self.bulk_load(report, &node, knee)?;
        let node = self.restarted(report, node, data, knee)?;
        let node = self.caught_up(report, node, data, knee)?;
        // What is measured next should find the store as it is after a load.
        node.settle()?;
        Ok(node)
    }

    fn over_time(&self, node: &Node, knee: f64, range: u32) -> LoadPlan {
        let mut plan = self.paced(node.process(), knee * EASY, 64);
        plan.range = range;
        plan.pieces = Some(PIECE);
        plan.measured = TIMELINE;
        plan
    }

    /// Measures while `act` is done on the servers' CPU. It is told when the measured time begins.
    fn meanwhile<T: Send>(
        &self,
        plan: &LoadPlan,
        act: impl FnOnce(Instant) -> Result<T> + Send,
    ) -> Result<(Measured, T)> {
        let begin = Instant::now() + plan.warmup;
        thread::scope(|scope| {
            let acting = scope.spawn(move || {
                cpu::pin(self.options.server_cpu)?;
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
            let from = Instant::now();
            fill::fill(&target, set)?;
            Ok((from - begin, begin.elapsed()))
        })?;
        tell("reads beside a bulk load", &measured.report);
        report.timelines.push(Timeline {
            name: format!("Reads at 50 % of the most, and {BULK} puts in batches from the servers' CPU"),
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
        let cpus = [self.options.server_cpu];
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
        let node = self.node(data, 1, &[])?;
        self.readable(&node)?;
        let mut plan = self.over_time(&node, knee, FEW);
        // What is applied meanwhile cannot be read beforehand.
        plan.warmup = Duration::ZERO;
        let (measured, ready) = self.meanwhile(&plan, |begin| {
            node.ready()?;
            Ok(begin.elapsed())
        })?;
        tell("reads beside a catch-up", &measured.report);
        let name = "p99 of reads at 50 % load beside a catch-up, against the same after it";
        match beside_and_after(&measured.intervals, ready) {
            Some((beside, after)) => {
                report.facts.push(plain(name.into(), beside / after, "×"));
                let name = "p99 of reads at 50 % load beside a catch-up";
                report.facts.push(plain(name.into(), beside, "µs"));
            }
            None => report.notes.push(format!(
                "Not quoted: {name}: it took {:.1} s of the {:.0} s that were looked at.",
                ready.as_secs_f64(),
                TIMELINE.as_secs_f64()
            )),
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

/// The median p99 of the pieces before the node was ready, and of those in the last quarter of the line: by then it is
/// at rest. Nothing if one of the two has no piece of its own.
fn beside_and_after(intervals: &[Interval], ready: Duration) -> Option<(f64, f64)> {
    let (ready, piece) = (ready.as_secs_f64(), PIECE.as_secs_f64());
    let rest = TIMELINE.as_secs_f64() * 0.75;
    let p99 = |wanted: &dyn Fn(&Interval) -> bool| {
        let wanted = intervals.iter().filter(|interval| interval.rate > 0.0 && wanted(interval));
        median(wanted.map(|interval| interval.p99_us))
    };
    let beside = p99(&|interval| interval.from_s + piece <= ready)?;
    let after = p99(&|interval| interval.from_s >= rest)?;
    (ready < rest).then_some((beside, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_judged_before_ready_and_at_rest() {
        let interval = |i: u32| Interval {
            from_s: f64::from(i) * 0.2,
            rate: if i == 2 { 0.0 } else { 1.0 },
            p50_us: 0.0,
            p99_us: match i {
                2 => 0.0,
                0..10 => 300.0,
                10..30 => 70_000.0,
                _ => 100.0,
            },
            max_us: 0.0,
        };
        let intervals: Vec<Interval> = (0..40).map(interval).collect();
        assert_eq!(beside_and_after(&intervals, Duration::from_secs(2)), Some((300.0, 100.0)));
        assert_eq!(beside_and_after(&intervals, Duration::from_millis(100)), None);
        assert_eq!(beside_and_after(&intervals, Duration::from_secs(7)), None);
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

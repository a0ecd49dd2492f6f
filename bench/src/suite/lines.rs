//! The closed-loop lines: what one serving core does at most, beside what it is compared with.
//!
//! **Not here**: latency under a given load (`latency`).

use super::{FEW, HOT, Suite, Yardsticks, told};
use crate::dataset::{DataSet, Shape};
use crate::error::Result;
use crate::fill;
use crate::load::LoadPlan;
use crate::metrics::Share;
use crate::node::Node;
use crate::protocol::Protocol;
use crate::report::{Fact, Line, Report, Round};
use crate::request::Workload;

const OPERATIONS: &str = "partition_operation_latencies_micro";
const CONSTANT: &str = "constant answer on the same runtime";
pub(super) const UNCACHED: (&str, Option<f64>) = ("get of 1 key, uncached", Some(UNCACHED_RATIO));
pub(super) const LARGE: (&str, Option<f64>) = ("get of 1 key, data four times the caches", None);
const ONE_KEY: &str = "get of 1 key, cached, 100 hot records";
const ONE_KEY_RATIO: f64 = 0.9;
const NGINX_RATIO: f64 = 0.75;
const UNCACHED_RATIO: f64 = 0.6;
const RECORDS_RATE: f64 = 600_000.0;
const WITHIN_10_US: f64 = 0.99;
/// Records of each of the larger sizes: what fits into the record cache.
const SIZED: u32 = 1_000;

impl Suite<'_> {
    /// A line whose rounds alternate with what it is compared with.
    pub(super) fn line(
        &self,
        name: &str,
        plan: &LoadPlan,
        against: Option<(&str, &LoadPlan)>,
        at_least: Option<f64>,
    ) -> Result<Line> {
        self.line_of(self.rounds, name, plan, against, at_least)
    }

    /// A line of so many rounds.
    fn line_of(
        &self,
        count: usize,
        name: &str,
        plan: &LoadPlan,
        against: Option<(&str, &LoadPlan)>,
        at_least: Option<f64>,
    ) -> Result<Line> {
        let mut rounds = Vec::with_capacity(count);
        for _ in 0..count {
            let against = against.map(|(name, plan)| told(name, plan)).transpose()?;
            rounds.push(Round { measured: told(name, plan)?, against });
        }
        let against = against.map(|(name, _)| name.to_owned());
        Ok(Line { name: name.to_owned(), against, at_least, rounds })
    }

    /// Everything that is read from the record cache.
    pub(super) fn cached_lines(
        &self,
        report: &mut Report,
        yardsticks: &Yardsticks,
        node: &Node,
    ) -> Result<()> {
        let server = node.process();
        let constant = self.plan(&yardsticks.constant, Workload::Constant, HOT);
        told("warm-up", &self.plan(server, Workload::Get(1), HOT))?;
        let one = self.plan(server, Workload::Get(1), FEW);
        let before = Share::read(&node.metrics()?, OPERATIONS, "get", "10")?;
        // Its target is a few hundredths away, and single rounds differ by as much.
        let rounds = 2 * self.rounds - 1;
        let against = Some((CONSTANT, &constant));
        report.lines.push(self.line_of(rounds, ONE_KEY, &one, against, Some(ONE_KEY_RATIO))?);
        let spread = self.plan(server, Workload::Get(1), HOT);
        let name = "get of 1 key, cached, 10,000 hot records";
        report.lines.push(self.line(name, &spread, Some((CONSTANT, &constant)), None)?);
        let after = Share::read(&node.metrics()?, OPERATIONS, "get", "10")?;
        let within = after.since(&before);
        report.facts.push(Fact {
            name: "partition-level gets within 10 µs, cached".into(),
            value: within * 100.0,
            unit: "%".into(),
            target: Some(("≥ 99 %".into(), within >= WITHIN_10_US)),
        });
        if let Some(nginx) = &yardsticks.nginx {
            let nginx = self.plan(nginx, Workload::Constant, HOT);
            let name = "the same, against nginx";
            report.lines.push(self.line(
                name,
                &one,
                Some(("nginx: return 200", &nginx)),
                Some(NGINX_RATIO),
            )?);
        }
        if let Some(redis) = &yardsticks.redis {
            let mut redis = self.plan(redis, Workload::Get(1), FEW);
            redis.protocol = Protocol::Redis;
            report.lines.push(self.line(
                "the same, against Redis",
                &one,
                Some(("Redis: GET", &redis)),
                None,
            )?);
        }
        let mut http2 = one.clone();
        http2.protocol = Protocol::Http2;
        report.lines.push(self.line("the same over HTTP/2", &http2, Some((ONE_KEY, &one)), None)?);
        let miss = self.plan(server, Workload::Miss, HOT);
        report.lines.push(self.line("get of 1 key that is not there", &miss, Some((ONE_KEY, &one)), None)?);
        for keys in [2, 3] {
            let plan = self.plan(server, Workload::Get(keys), HOT);
            let name = format!("get of {keys} keys, cached");
            report.lines.push(self.line(&name, &plan, Some((ONE_KEY, &one)), None)?);
        }
        let plan = self.plan(server, Workload::Get(100), HOT);
        let line = self.line("get of 100 keys, cached", &plan, None, None)?;
        let mut rates: Vec<f64> = line.rounds.iter().map(|round| round.measured.records_rate).collect();
        rates.sort_by(f64::total_cmp);
        let records = rates[rates.len() / 2];
        report.facts.push(Fact {
            name: "records, 100 keys a request, cached".into(),
            value: records,
            unit: "/s".into(),
            target: Some(("≥ 600,000/s".into(), records >= RECORDS_RATE)),
        });
        report.lines.push(line);
        let mut zipf = self.plan(server, Workload::Get(1), self.set.records);
        zipf.distribution = crate::picker::Distribution::Zipf;
        let name = "get of 1 key of all records, by Zipf's law";
        report.lines.push(self.line(name, &zipf, Some((ONE_KEY, &one)), None)?);
        Ok(())
    }

    /// Larger records, which replace the first ones of the data set.
    pub(super) fn value_sizes(&self, report: &mut Report, node: &Node) -> Result<()> {
        for (name, bytes) in [("1 KiB", 1 << 10), ("16 KiB", 16 << 10)] {
            let set = DataSet { records: SIZED, value_bytes: bytes, ..self.set };
            fill::fill(node.api(), set)?;
            let mut plan = self.plan(node.process(), Workload::Get(1), SIZED);
            plan.set = set;
            told("warm-up", &plan)?;
            report.lines.push(self.line(
                &format!("get of 1 key, cached, {name} of data"),
                &plan,
                None,
                None,
            )?);
        }
        // The next node reads this data: what it expects must be there again.
        fill::fill(node.api(), DataSet { records: SIZED, ..self.set })?;
        Ok(())
    }

    /// The 100 records of one partition key in one answer.
    pub(super) fn listings(&self, report: &mut Report, node: &Node) -> Result<()> {
        let set = DataSet { records: HOT, shape: Shape::Listed, ..self.set };
        fill::fill(node.api(), set)?;
        let mut plan = self.plan(node.process(), Workload::List, HOT);
        plan.set = set;
        report.lines.push(self.line("list of 100 records", &plan, None, None)?);
        Ok(())
    }

    /// The node has next to no record cache.
    pub(super) fn uncached_line(
        &self,
        report: &mut Report,
        yardsticks: &Yardsticks,
        node: &Node,
        (name, at_least): (&str, Option<f64>),
    ) -> Result<()> {
        // What the store itself keeps in memory shall be there, not still on its way.
        for _ in 0..2 {
            told("warm-up", &self.plan(node.process(), Workload::Get(100), self.set.records))?;
        }
        let constant = self.plan(&yardsticks.constant, Workload::Constant, HOT);
        let plan = self.plan(node.process(), Workload::Get(1), self.set.records);
        let against = Some((CONSTANT, &constant));
        report.lines.push(self.line(name, &plan, against, at_least)?);
        Ok(())
    }
}

//! Several shards: what it costs that a connection's core does not own the keys that are asked for.
//!
//! Two arrangements: two shards, of which one shares the load's CPU if the machine has no others, for requests whose keys lie
//! in both; and more and more shards on the servers' one CPU, where nothing is gained by them, so that what is lost is the
//! crossing alone.
//!
//! **Not here**: how rates grow with cores (`cores`).

use super::{HOT, Suite, say, told};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::fill;
use crate::load::LoadPlan;
use crate::node::{Node, NodePlan};
use crate::report::Report;
use crate::request::Workload;

const CROSS_RATIO: f64 = 0.6;

impl Suite<'_> {
    /// Keys of several shards in one request. On two CPUs the second shard shares its CPU with the load, in every line alike.
    pub(super) fn two_shards(&self, report: &mut Report) -> Result<()> {
        let is_several = self.places.is_several();
        let node = if is_several {
            say("two shards on CPUs of their own");
            self.own_cpus(2)?
        } else {
            say("two shards, one of them on the load's CPU");
            let node =
                self.node_on(&self.scratch.path().join("two"), &[self.places.server, self.places.load], &[])?;
            fill::fill(node.api(), DataSet { records: HOT, ..self.set })?;
            node
        };
        let plan = |keys| {
            let mut plan = self.plan(node.process(), Workload::Get(keys), HOT);
            if is_several {
                plan = LoadPlan { workload: Workload::Get(keys), ..self.loaded_by_many(&node, 2) };
            }
            plan
        };
        let name = "two shards: get of 1 key, cached";
        let one = plan(1);
        told("warm-up", &one)?;
        report.lines.push(self.line(name, &one, None, None)?);
        for (keys, at_least) in [(2, None), (3, Some(CROSS_RATIO))] {
            let line = format!("two shards: get of {keys} keys, cached");
            report.lines.push(self.line(&line, &plan(keys), Some((name, &one)), at_least)?);
        }
        node.stop()
    }

    /// With `n` shards, all but one in `n` of the keys lie elsewhere.
    pub(super) fn shards_on_one_cpu(&self, report: &mut Report) -> Result<()> {
        say("more and more shards on one CPU");
        let one = self.sharing(1)?;
        let name = "one shard";
        for (shards, share) in [(2, "half"), (4, "three quarters")] {
            let node = self.sharing(shards)?;
            let plan = self.plan(node.process(), Workload::Get(1), HOT);
            let against = self.plan(one.process(), Workload::Get(1), HOT);
            told("warm-up", &plan)?;
            told("warm-up", &against)?;
            let line = format!("{shards} shards on the CPU of one: get of 1 key, {share} of them cross");
            report.lines.push(self.line(&line, &plan, Some((name, &against)), None)?);
            node.stop()?;
        }
        one.stop()
    }

    /// A node with the hot records whose shards all sit on the servers' CPU.
    fn sharing(&self, shards: usize) -> Result<Node> {
        let data = self.scratch.path().join(format!("sharing-{shards}"));
        let cpus = [self.places.server];
        let plan = NodePlan { binary: &self.options.node, data: &data, cpus: &cpus, shards, settings: &[] };
        let node = Node::start(&plan)?;
        fill::fill(node.api(), DataSet { records: HOT, ..self.set })?;
        node.settle()?;
        Ok(node)
    }
}

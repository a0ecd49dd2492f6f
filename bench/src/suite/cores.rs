//! More and more shards, each on a CPU of its own: how the rate grows with cores.
//!
//! A half of the machine's CPUs is for shards, the other for the load, in every line alike.
//!
//! **Not here**: what it costs that requests cross shards (`crossing`), and machines with fewer than four CPUs, where
//! nothing would be left for the load.

use super::{HOT, Suite, say, told};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::fill;
use crate::load::LoadPlan;
use crate::node::{Node, NodePlan};
use crate::report::Report;
use crate::request::Workload;

const LEAST: usize = 4;
/// Connections for each shard.
const CONNECTIONS: usize = 64;

impl Suite<'_> {
    /// 1, 2, 4, … shards against one.
    pub(super) fn cores(&self, report: &mut Report) -> Result<()> {
        let count = self.cpus.len();
        if count < LEAST {
            report.notes.push(format!(
                "Rates of several shards on CPUs of their own are left out: there are {count} CPUs, and {LEAST} are needed."
            ));
            return Ok(());
        }
        say("more and more shards on CPUs of their own");
        let most = count / 2;
        let one = self.own_cpus(1)?;
        let name = "one shard on a CPU of its own";
        let against = self.loaded_by_the_rest(&one, 1, most);
        told("warm-up", &against)?;
        let mut shards = 2;
        while shards <= most {
            let node = self.own_cpus(shards)?;
            let plan = self.loaded_by_the_rest(&node, shards, most);
            told("warm-up", &plan)?;
            let line = format!("{shards} shards on CPUs of their own: get of 1 key");
            report.lines.push(self.line(&line, &plan, Some((name, &against)), None)?);
            node.stop()?;
            shards *= 2;
        }
        one.stop()
    }

    /// A node with the hot records whose shards sit on the first CPUs, one on each.
    fn own_cpus(&self, shards: usize) -> Result<Node> {
        let data = self.scratch.path().join(format!("cores-{shards}"));
        let cpus = &self.cpus[..shards];
        let node =
            Node::start(&NodePlan { binary: &self.options.node, data: &data, cpus, shards, settings: &[] })?;
        fill::fill(node.api(), DataSet { records: HOT, ..self.set })?;
        node.settle()?;
        Ok(node)
    }

    /// The load comes from all CPUs that no line has shards on.
    fn loaded_by_the_rest(&self, node: &Node, shards: usize, most: usize) -> LoadPlan {
        let mut plan = self.plan(node.process(), Workload::Get(1), HOT);
        plan.cpus = self.cpus[most..].to_vec();
        plan.connections = (CONNECTIONS * shards).max(plan.cpus.len());
        plan
    }
}

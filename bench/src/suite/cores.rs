//! More and more shards, each on a CPU of its own: how the rate grows with cores.
//!
//! A half of the machine's cores is for shards, the other for the load, in every line alike; shards sit on cores of their own
//! as long as there are enough, then on the second CPUs of the same cores.
//!
//! **Not here**: what it costs that requests cross shards (`crossing`), and machines with fewer than four CPUs, where
//! nothing would be left for the load.

use super::{HOT, Suite, say, told};
use crate::dataset::DataSet;
use crate::error::Result;
use crate::fill;
use crate::load::LoadPlan;
use crate::node::Node;
use crate::report::Report;
use crate::request::Workload;

/// Connections for each shard.
const CONNECTIONS: usize = 64;

impl Suite<'_> {
    /// 1, 2, 4, … shards against one.
    pub(super) fn cores(&self, report: &mut Report) -> Result<()> {
        if !self.places.is_several() {
            report.notes.push(
                "Rates of several shards on CPUs of their own are left out: four CPUs are needed.".into(),
            );
            return Ok(());
        }
        say("more and more shards on CPUs of their own");
        let one = self.own_cpus(1)?;
        let name = "one shard on a CPU of its own";
        let against = self.loaded_by_many(&one, 1);
        told("warm-up", &against)?;
        let mut shards = 2;
        while shards <= self.places.shards.len() {
            let node = self.own_cpus(shards)?;
            let plan = self.loaded_by_many(&node, shards);
            told("warm-up", &plan)?;
            let line = format!("{shards} shards on CPUs of their own: get of 1 key");
            report.lines.push(self.line(&line, &plan, Some((name, &against)), None)?);
            node.stop()?;
            shards *= 2;
        }
        one.stop()
    }

    /// A node with the hot records whose shards have a CPU each.
    pub(super) fn own_cpus(&self, shards: usize) -> Result<Node> {
        let data = self.scratch.path().join(format!("cores-{shards}"));
        let node = self.node_on(&data, &self.places.shards[..shards], &[])?;
        fill::fill(node.api(), DataSet { records: HOT, ..self.set })?;
        node.settle()?;
        Ok(node)
    }

    /// The load comes from all CPUs that are for it.
    pub(super) fn loaded_by_many(&self, node: &Node, shards: usize) -> LoadPlan {
        let mut plan = self.plan(node.process(), Workload::Get(1), HOT);
        plan.cpus.clone_from(&self.places.loads);
        plan.connections = (CONNECTIONS * shards).max(plan.cpus.len());
        plan
    }
}

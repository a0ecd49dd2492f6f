//! The way of a put, and of a node that was killed.
//!
//! **Not here**: puts beside reads (`latency`), and what the engine applies at most (`facts`).

use std::path::Path;
use std::time::Instant;

use super::{Suite, quantiles, say};
use crate::error::Result;
use crate::node::Node;
use crate::propagation::{self, Way};
use crate::report::{Fact, Report};

impl Suite<'_> {
    /// Single puts on an idle node: until they are durable and acknowledged, and until a get shows them.
    pub(super) fn way_of_a_put(&self, report: &mut Report, node: &Node) -> Result<()> {
        let puts = if self.options.quick { 50 } else { 500 };
        say(&format!("the way of {puts} puts"));
        let Way { acknowledged, visible } = propagation::measure(node.api(), node.api(), puts)?;
        for (name, summary) in [("acknowledged", acknowledged), ("visible", visible)] {
            quantiles(report, &format!("a put until it is {name}, embedded log"), &summary);
        }
        Ok(())
    }

    /// Kills the node and times it from its start to the end of its log.
    pub(super) fn restart(&self, report: &mut Report, node: Node, data: &Path) -> Result<Node> {
        say("kill -9, and start again");
        node.kill();
        let begun = Instant::now();
        let node = self.node(data, &[])?;
        node.ready()?;
        report.facts.push(Fact {
            name: format!("from the start after kill -9 to ready, {} records", self.set.records),
            value: begun.elapsed().as_secs_f64(),
            unit: "s".into(),
            target: None,
        });
        Ok(node)
    }
}

//! `GET /metrics`: the merged measurements of all cores as Prometheus text.
//!
//! Runs on: the control core. Not here: recording (`crate::metrics`).

use firescroll_shard::PartitionId;

use super::Internal;
use crate::core::Report;
use crate::metrics::{Metrics, print_values};
use crate::progress::Holding;

impl Internal {
    /// The whole page.
    pub(super) async fn metrics(&self) -> String {
        let (reports, silent) = self.reports().await;
        let mut merged = Metrics::default();
        for report in &reports {
            merged.merge(&report.metrics);
        }
        let mut out = String::with_capacity(32 * 1024);
        merged.print(&mut out);
        self.print_partitions(&mut out, &reports);
        print_cores(&mut out, &reports, &merged, silent.len());
        self.print_log(&mut out);
        out
    }

    fn print_partitions(&self, out: &mut String, reports: &[Report]) {
        let partitions = || reports.iter().flat_map(|report| &report.partitions);
        let each = |value: fn(&firescroll_shard::PartitionStatus) -> u64| {
            partitions()
                .map(move |p| (format!("{{partition=\"{}\"}}", p.partition), value(p)))
                .collect::<Vec<_>>()
        };
        let held = partitions().filter(|partition| partition.poisoned.is_none()).count() as u64;
        print_values(out, "partitions", "gauge", "Partitions that this node serves", [(String::new(), held)]);
        print_values(
            out,
            "partition_applied_offset",
            "gauge",
            "First offset that has not been applied",
            each(|partition| partition.next.0),
        );
        let held = |value: &dyn Fn(PartitionId) -> u64| {
            let named = |id| (format!("{{partition=\"{id}\"}}"), value(id));
            self.progress.held().map(named).collect::<Vec<_>>()
        };
        print_values(
            out,
            "partition_high_watermark",
            "gauge",
            "Where the log ends, as far as this node knows",
            held(&|id| self.log.end(id.0)),
        );
        print_values(
            out,
            "partition_lag",
            "gauge",
            "Mutations in the log that have not been applied",
            held(&|id| self.log.end(id.0).saturating_sub(self.progress.applied(id).0)),
        );
        print_values(
            out,
            "partition_lag_milliseconds",
            "gauge",
            "How long ago the log received what was applied last, while there is more; else 0",
            held(&|id| self.lag_ms(id, self.log.end(id.0))),
        );
        let missing = self.progress.partitions().filter(|id| self.progress.holding(*id) == Holding::Missing);
        print_values(
            out,
            "partitions_missing",
            "gauge",
            "Partitions that are this node's and that it cannot serve: they must be restored",
            [(String::new(), missing.count() as u64)],
        );
        let outcomes = partitions().flat_map(|partition| {
            let counts = &partition.counts;
            [
                ("applied", counts.applied),
                ("refused", counts.refused),
                ("erred", counts.erred),
                ("undecodable", counts.undecodable),
            ]
            .map(|(outcome, count)| {
                (format!("{{partition=\"{}\",outcome=\"{outcome}\"}}", partition.partition), count)
            })
        });
        print_values(
            out,
            "mutations_total",
            "counter",
            "Mutations since start: applied, refused by a false condition, by one that erred, or not decodable",
            outcomes,
        );
    }

    fn print_log(&self, out: &mut String) {
        let log = self.log.status();
        for (name, kind, help, value) in [
            ("log_bytes", "gauge", "Bytes that the log holds on disk", log.bytes),
            ("log_queued_messages", "gauge", "Messages accepted and not yet durable", log.queued_messages),
            ("log_appended_total", "counter", "Messages made durable since start", log.appended_messages),
            ("log_syncs_total", "counter", "Group commits since start", log.syncs),
            ("log_sync_micro_total", "counter", "Time spent in syncs", log.sync_total_us),
            ("log_sync_micro_max", "gauge", "Slowest sync since start", log.sync_max_us),
        ] {
            print_values(out, name, kind, help, [(String::new(), value)]);
        }
        let refusing = u64::from(
            self.progress.starved().is_some() || self.progress.failed().is_some() || log.poisoned.is_some(),
        );
        print_values(
            out,
            "writes_refused",
            "gauge",
            "1 while the node refuses all writes",
            [(String::new(), refusing)],
        );
    }
}

fn print_cores(out: &mut String, reports: &[Report], merged: &Metrics, silent: usize) {
    let by_core = |value: fn(&Report) -> u64| {
        reports.iter().map(move |r| (format!("{{shard=\"{}\"}}", r.shard), value(r))).collect::<Vec<_>>()
    };
    let classes = merged.answers.iter().enumerate().map(|(i, n)| (format!("{{class=\"{}xx\"}}", i + 1), *n));
    print_values(out, "http_answers_total", "counter", "Answers by class of status", classes);
    print_values(out, "http_shed_total", "counter", "Requests shed with 429", [(String::new(), merged.shed)]);
    print_values(
        out,
        "cross_shard_keys_total",
        "counter",
        "Keys that another core than the connection's answered",
        [(String::new(), merged.crossed)],
    );
    print_values(out, "requests_in_flight", "gauge", "Requests in flight", by_core(|r| r.requests as u64));
    print_values(out, "listings_open", "gauge", "Listings that stream", by_core(|r| r.streams as u64));
    let connections = reports.iter().flat_map(|report| {
        report
            .connections
            .iter()
            .map(|(what, count)| (format!("{{shard=\"{}\",what=\"{what}\"}}", report.shard), *count))
    });
    print_values(
        out,
        "connections",
        "untyped",
        "Connections of a core: open now, and totals of accepted, shed and cut ones",
        connections,
    );
    print_values(
        out,
        "executor_stall_micro",
        "gauge",
        "Longest time between two ticks of a core since the last scrape",
        by_core(|r| u64::try_from(r.longest_stall.as_micros()).unwrap_or(u64::MAX)),
    );
    print_values(
        out,
        "cores_silent",
        "gauge",
        "Cores that did not report to this scrape in time",
        [(String::new(), silent as u64)],
    );
}

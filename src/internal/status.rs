//! `GET /status`: the node as one JSON document, for people and for scripts.
//!
//! Runs on: the control core. Not here: the numbers' history, which `/metrics` and its collector keep.

use serde_json::{Value, json};

use super::Internal;
use crate::core::Report;
use crate::progress::Holding;

impl Internal {
    /// The document.
    pub(super) async fn status(&self) -> String {
        let (reports, silent) = self.reports().await;
        let mut partitions: Vec<(u32, Value)> = reports.iter().flat_map(|r| self.partitions_of(r)).collect();
        partitions.extend(self.missing());
        partitions.sort_by_key(|(number, _)| *number);
        let log = self.log.status();
        let cluster = &self.config.cluster;
        let document = json!({
            "node": {
                "version": env!("CARGO_PKG_VERSION"),
                "instance_id": cluster.instance_id,
                "namespace": cluster.namespace,
                "region": cluster.region,
                "replica_group": cluster.replica_group,
                "db_path": self.config.storage.db_path,
                "api": self.config.http.api.to_string(),
                "uptime_sec": self.started.elapsed().as_secs(),
                "ready": self.progress.ready(),
                "stopping": self.progress.stopping(),
            },
            "writes": {
                "accepted": self.progress.starved().is_none()
                    && self.progress.failed().is_none() && log.poisoned.is_none(),
                "disk_free_bytes_too_few": self.progress.starved(),
                "log_read_error": self.progress.failed(),
            },
            "shards": reports.iter().map(|report| json!({
                "shard": report.shard.0,
                "cpu": self.config.cores.shard_cpus.get(report.shard.0 as usize),
                "partitions": report.partitions.len(),
                "connections": report.connections.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
                "requests_in_flight": report.requests,
                "listings_open": report.streams,
            })).collect::<Vec<_>>(),
            "shards_silent": silent,
            "log": {
                "kind": log.kind,
                "bytes": log.bytes,
                "segments": log.segments,
                "queued_messages": log.queued_messages,
                "queued_bytes": log.queued_bytes,
                "appended_messages": log.appended_messages,
                "syncs": log.syncs,
                "sync_last_us": log.sync_last_us,
                "sync_max_us": log.sync_max_us,
                "failing": log.failing,
                "poisoned": log.poisoned,
            },
            "partitions": partitions.into_iter().map(|(_, partition)| partition).collect::<Vec<_>>(),
            "gossip": { "members": [] },
            "backups": { "enabled": false },
        });
        format!("{document:#}\n")
    }

    /// Partitions that are this node's and that it cannot serve.
    fn missing(&self) -> impl Iterator<Item = (u32, Value)> + '_ {
        let missing = self.progress.partitions().filter(|id| self.progress.holding(*id) == Holding::Missing);
        missing.map(|id| {
            let value = json!({
                "partition": id.0,
                "shard": self.routes.owner(id).0,
                "state": if self.progress.poisoned(id) { "failed" } else { "needs_restore" },
                "log_start": self.log.start(id.0),
                "log_end": self.log.end(id.0),
            });
            (id.0, value)
        })
    }

    fn partitions_of<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = (u32, Value)> + 'a {
        report.partitions.iter().map(|partition| {
            let number = partition.partition.0;
            let end = self.log.end(number);
            let value = json!({
                "partition": number,
                "shard": report.shard.0,
                "state": if partition.poisoned.is_some() { "failed" } else { "serving" },
                "error": partition.poisoned,
                "applied_offset": partition.next.0.checked_sub(1),
                "next_offset": partition.next.0,
                "durable_offset": partition.durable.0.checked_sub(1),
                "log_start": self.log.start(number),
                "log_end": end,
                "lag": end.saturating_sub(partition.next.0),
                "lag_ms": self.lag_ms(partition.partition, end),
                "records_approximate": partition.approximate_records,
                "overlay_rows": partition.overlay_rows,
                "mutations": {
                    "applied": partition.counts.applied,
                    "refused": partition.counts.refused,
                    "erred": partition.counts.erred,
                    "undecodable": partition.counts.undecodable,
                },
            });
            (number, value)
        })
    }
}

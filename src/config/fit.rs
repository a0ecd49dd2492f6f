//! How much of the machine a node takes: its CPUs, and its share of the limit of open files.
//!
//! settings + [`Machine`] → the CPU of each shard, the number of connections.
//!
//! **Invariants**: only CPUs that the process may use; never more connections than files are left for.

use std::time::Duration;

use super::cpu_list;
use super::reader::{Reader, given};
use super::{Cores, Machine, RawConfig};

/// The most shards: as many as there are CPU numbers.
const MOST_SHARDS: u64 = cpu_list::MOST_CPUS as u64;
/// The longest look before a sleep: a core that burns more never sleeps at all.
const MOST_BUSY_US: u64 = 10_000;
/// Connections when nothing else is asked for.
const DEFAULT_CONNECTIONS: u64 = 10_000;
/// The most connections: no process opens more files than this by Linux's own default.
const MOST_CONNECTIONS: u64 = 1 << 20;
/// Files that a shard needs besides connections: its rings, and the tables and journals of its store.
const FILES_PER_SHARD: u64 = 512;
/// Files that the rest of the process needs: log segments, the internal port, standard streams.
const OTHER_FILES: u64 = 128;

/// Places the shards and the control thread.
pub(super) fn cores(reader: &mut Reader, raw: &RawConfig, machine: &Machine) -> Cores {
    let usable = cpu_list::print(&machine.cpus);
    let listed = given(raw.shard_cpus.as_ref()).and_then(|text| match cpu_list::parse(text) {
        Ok(cpus) if cpus.iter().all(|cpu| machine.cpus.contains(cpu)) => Some(cpus),
        Ok(_) => {
            reader.refuse("SHARD_CPUS", Some(text), format!("accepted: CPUs of {usable}"));
            None
        }
        Err(reason) => {
            reader.refuse("SHARD_CPUS", Some(text), format!("{reason}; accepted: CPUs of {usable}"));
            None
        }
    });
    let asked = reader.optional_number("SHARDS", raw.shards.as_ref(), 1..=MOST_SHARDS, "shards");
    let asked = asked.and_then(|count| usize::try_from(count).ok());
    if let (Some(cpus), Some(shards)) = (&listed, asked)
        && cpus.len() != shards
    {
        let reason = format!("SHARD_CPUS lists {} CPUs; accepted: one for each shard", cpus.len());
        reader.refuse("SHARDS", Some(&shards.to_string()), reason);
    }
    let control_cpu = given(raw.control_cpu.as_ref()).and_then(|text| {
        let cpu = text.parse().ok().filter(|cpu| machine.cpus.contains(cpu));
        if cpu.is_none() {
            reader.refuse("CONTROL_CPU", Some(text), format!("accepted: one CPU of {usable}"));
        }
        cpu
    });
    let pool = listed.as_deref().unwrap_or(&machine.cpus);
    let shards =
        asked.or(listed.as_ref().map(Vec::len)).unwrap_or(machine.parallelism.min(machine.cpus.len())).max(1);
    let shard_cpus = pool.iter().copied().cycle().take(shards).collect();
    let busy_poll =
        reader.number("BUSY_POLL_US", raw.busy_poll_us.as_ref(), 0, 0..=MOST_BUSY_US, "microseconds");
    let busy_poll = Duration::from_micros(busy_poll);
    Cores { shard_cpus, control_cpu, busy_poll, allowed: machine.cpus.clone() }
}

/// Connections must fit under the limit of open files together with what the stores need: running out of
/// files in the middle of a compaction is far worse than refusing here. The default gives way; a number that
/// was asked for does not.
pub(super) fn connections(
    reader: &mut Reader,
    raw: &RawConfig,
    machine: &Machine,
    cores: &Cores,
    notes: &mut Vec<String>,
) -> usize {
    let shards = cores.shard_cpus.len() as u64;
    let others = shards * FILES_PER_SHARD + OTHER_FILES;
    let room = machine.open_files.unwrap_or(u64::MAX).saturating_sub(others);
    let asked = reader.optional_number(
        "MAX_CONNECTIONS",
        raw.max_connections.as_ref(),
        1..=MOST_CONNECTIONS,
        "connections",
    );
    let limit = machine.open_files.unwrap_or(u64::MAX);
    if room < shards {
        let reason = format!(
            "the limit of open files (RLIMIT_NOFILE) is {limit}, and {shards} shards need {others} beside \
             connections; raise it (LimitNOFILE= of the unit, ulimit -Hn) or lower SHARDS"
        );
        reader.refuse("MAX_CONNECTIONS", given(raw.max_connections.as_ref()), reason);
        return cores.shard_cpus.len();
    }
    let chosen = match asked {
        Some(count) if count < shards => {
            let reason = format!("accepted: at least one for each of the {shards} shards");
            reader.refuse("MAX_CONNECTIONS", Some(&count.to_string()), reason);
            shards
        }
        Some(count) if count > room => {
            let reason = format!(
                "the limit of open files (RLIMIT_NOFILE) is {limit}, of which {others} are needed beside \
                 connections; accepted: up to {room}, or raise that limit"
            );
            reader.refuse("MAX_CONNECTIONS", Some(&count.to_string()), reason);
            room
        }
        Some(count) => count,
        None if room < DEFAULT_CONNECTIONS => {
            notes.push(format!(
                "MAX_CONNECTIONS is {room} instead of {DEFAULT_CONNECTIONS}: the limit of open files is {limit}"
            ));
            room
        }
        None => DEFAULT_CONNECTIONS.max(shards),
    };
    usize::try_from(chosen).expect("connections are bounded by MOST_CONNECTIONS or by a default")
}

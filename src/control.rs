//! The control core's duties while the node serves: signals, the internal port, the disk, retention, the watchdog, the
//! service manager.
//!
//! Once a second it looks at the free space (too little refuses writes), tells the log what the stores hold durably,
//! checks that every core has ticked, and stops the node if the log cannot be gone on with. A core that is stuck for
//! `STUCK_CHECKS` checks ends the process: its partitions would stay unanswered for ever, while the service manager can
//! start afresh. The manager hears what the node does, and as long as all cores tick, that it lives (`supervisor`): that
//! catches a control core that hangs as well.
//!
//! Invariants: a duty that fails is logged and tried again; none of them can stop another.
//! Runs on: the control thread (tokio, current thread). Not here: starting and stopping services (`node`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firescroll_io::http::Heartbeat;
use firescroll_io::log::Log;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use crate::internal::{self, Internal};
use crate::progress::Progress;
use crate::supervisor::Supervisor;

const DUTY: Duration = Duration::from_secs(1);
/// A core that has not ticked for this long is reported.
const LATE: Duration = Duration::from_secs(1);
/// So many duties in a row with a silent core end the process. Counted rather than timed, so that a machine that was
/// suspended does not count as stuck.
const STUCK_CHECKS: u32 = 15;
/// How often it is seen to that the service manager hears a sign of life in time, if there is one.
const BEAT: Duration = Duration::from_millis(100);

/// Says with `announce` that the node is up once signals are handled: whoever hears of it may send one at once. Serves
/// the internal port and does the duties until SIGTERM or SIGINT, then sees `stop` through on a thread of its own. A second signal ends the process at once: nothing acknowledged is lost by that, the log has it.
///
/// # Errors
/// Signals cannot be handled, the internal port cannot be used, or a thread cannot be had.
pub fn until_stopped(
    listener: std::net::TcpListener,
    internal: Internal,
    heartbeats: &[Arc<Heartbeat>],
    supervisor: &mut Supervisor,
    announce: impl FnOnce(),
    stop: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let internal = Arc::new(internal);
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::task::spawn_local(internal::serve(listener, Arc::clone(&internal)));
        // Not before signals are handled: whoever hears of the start may ask for a stop at once.
        supervisor.ready(&state(&internal.progress));
        announce();
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = duties(&internal, heartbeats, supervisor) => "the log cannot be gone on with",
        };
        // Balancers need no notice of a node that must not take another write.
        let fatal = internal.progress.fatal().is_some();
        let sleep = if fatal { Duration::ZERO } else { internal.config.shutdown.sleep };
        tracing::info!("{name}: stopping; a second signal ends the process at once");
        internal.progress.stop();
        supervisor.stopping(&state(&internal.progress));
        let (done, stopped) = tokio::sync::oneshot::channel();
        let stopping = async {
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = duties(&internal, heartbeats, supervisor) => {}
            }
            std::thread::Builder::new().name("stop".into()).spawn(move || {
                stop();
                let _ = done.send(());
            })?;
            let _ = stopped.await;
            Ok(())
        };
        tokio::select! {
            stopped = stopping => stopped,
            _ = terminate.recv() => std::process::exit(130),
            _ = interrupt.recv() => std::process::exit(130),
        }
    })
}

/// Ends only when the node must.
async fn duties(internal: &Internal, heartbeats: &[Arc<Heartbeat>], supervisor: &mut Supervisor) {
    let mut stuck = vec![0; heartbeats.len()];
    let (mut ticks, mut beats) = (every(DUTY), every(BEAT));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let storage = &internal.config.storage;
                watch_disk(&storage.db_path, storage.disk_reserve_bytes, &internal.progress);
                release(internal.log.as_ref(), &internal.progress);
                watch_cores(heartbeats, &mut stuck);
                if supervisor.listens() {
                    supervisor.status(&state(&internal.progress));
                }
                if internal.progress.fatal().is_some() && !internal.progress.stopping() {
                    return;
                }
            }
            _ = beats.tick(), if supervisor.listens() => {
                let alive = heartbeats.iter().all(|heartbeat| heartbeat.age() < LATE);
                supervisor.tick(Instant::now(), alive);
            }
        }
    }
}

/// From now on, once in each `period`. Times that a suspended machine or a stopped process has missed are not made up for:
/// in one burst they would count as that many checks with a silent core.
fn every(period: Duration) -> Interval {
    let mut times = tokio::time::interval(period);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times
}

/// What the node does, in a few words for people.
fn state(progress: &Progress) -> String {
    if progress.stopping() {
        return "stopping".to_owned();
    }
    if let Some(reason) = progress.failed() {
        return format!("serving what it has, the log cannot be read any further: {reason}");
    }
    let (held, behind) = (progress.held().count(), progress.behind());
    let missing: u64 = behind.iter().map(|(_, missing)| missing).sum();
    let mut text = match (held, behind.len()) {
        (0, 0) => "waiting for partitions".to_owned(),
        (_, 0) => format!("serving {held} partitions"),
        (_, late) => format!("not ready: partitions behind or failed: {late}, mutations to go: {missing}"),
    };
    if progress.starved().is_some() {
        text.push_str("; the disk is nearly full, writes are refused");
    }
    text
}

fn watch_disk(path: &Path, reserve: u64, progress: &Progress) {
    let free = match rustix::fs::statvfs(path) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            tracing::warn!("cannot read the free space of {}: {error}", path.display());
            return;
        }
    };
    let starved = (free < reserve).then_some(free);
    if starved.is_some() != progress.starved().is_some() {
        match starved {
            Some(free) => tracing::error!(
                "{} has {free} bytes left, DISK_RESERVE_MB keeps {reserve}: writes are refused, reads go on",
                path.display()
            ),
            None => tracing::info!("{} has {free} bytes again: writes are accepted", path.display()),
        }
    }
    progress.set_starved(starved);
}

fn release(log: &dyn Log, progress: &Progress) {
    let durable: Vec<(u32, u64)> =
        progress.partitions().map(|partition| (partition.0, progress.durable(partition).0)).collect();
    log.release(&durable);
}

fn watch_cores(heartbeats: &[Arc<Heartbeat>], stuck: &mut [u32]) {
    for (core, (heartbeat, stuck)) in heartbeats.iter().zip(stuck).enumerate() {
        if heartbeat.age() < LATE {
            *stuck = 0;
            continue;
        }
        *stuck += 1;
        tracing::warn!("core {core} has not ticked for {} ms", heartbeat.age().as_millis());
        if *stuck >= STUCK_CHECKS {
            tracing::error!("core {core} is stuck; ending the process so that it is started afresh");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use firescroll_shard::{Offset, PartitionId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_has_missed_its_duties_for_good() {
        let mut times = every(DUTY);
        times.tick().await;
        tokio::time::advance(DUTY * 60).await;
        times.tick().await;
        let next = tokio::time::Instant::now();
        times.tick().await;
        assert_eq!(next.elapsed(), DUTY);
    }

    #[test]
    fn the_state_in_words_follows_the_progress() {
        let progress = Progress::new(2);
        assert_eq!(state(&progress), "waiting for partitions");
        progress.take(PartitionId(0), Offset(0), Offset(0));
        progress.take(PartitionId(1), Offset(1), Offset(4));
        assert_eq!(state(&progress), "not ready: partitions behind or failed: 1, mutations to go: 3");
        progress.set_applied(PartitionId(1), Offset(4));
        assert_eq!(state(&progress), "serving 2 partitions");
        progress.set_starved(Some(1));
        assert_eq!(state(&progress), "serving 2 partitions; the disk is nearly full, writes are refused");
        progress.fail("the topic is gone", false);
        assert!(state(&progress).contains("the topic is gone"));
        progress.stop();
        assert_eq!(state(&progress), "stopping");
    }
}

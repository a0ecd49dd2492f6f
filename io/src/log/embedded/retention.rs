//! Dropping whole segments that nobody needs.
//!
//! A segment goes when it is older than the retention and every store durably holds all of it. The oldest goes first
//! and durably, so that what remains after a crash has no gap. The active segment stays.
//!
//! **Runs on**: the writer thread, between two groups.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::segment::Segment;
use super::writer::Writer;

impl Writer {
    /// Drops what may go, given the offsets below which the stores need nothing.
    pub(super) fn retain(&self, released: &[u64]) {
        let Some(retention) = self.options.retention else { return };
        let now_ms = (self.platform.now_ms)();
        loop {
            let (first, second) = {
                let segments = self.shared.segments();
                match (segments.front(), segments.get(1)) {
                    (Some(first), Some(second)) => (first.clone(), second.clone()),
                    _ => return,
                }
            };
            if !may_go(&second, released, retention, now_ms) {
                return;
            }
            if let Err(error) = self.drop_file(&first) {
                // It is tried again with the next release; until then the segment only takes room.
                tracing::warn!(file = %first.path.display(), %error, "cannot drop a segment");
                return;
            }
            self.shared.forget_first();
            tracing::info!(file = %first.path.display(), "retention dropped a segment");
        }
    }

    fn drop_file(&self, segment: &Arc<Segment>) -> io::Result<()> {
        match self.platform.disk.remove(&segment.path) {
            // An earlier attempt got this far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        self.platform.disk.sync_dir(&self.shared.dir)
    }
}

/// Whether the segment before `successor` is needed by nobody: the successor's header says where each partition had
/// got to, and is no older than the segment's last record.
fn may_go(successor: &Segment, released: &[u64], retention: Duration, now_ms: i64) -> bool {
    let age_ms = now_ms.saturating_sub(successor.header.created_ms);
    let old = u128::try_from(age_ms).is_ok_and(|age| age >= retention.as_millis());
    old && successor.header.starts.iter().zip(released).all(|(start, released)| start <= released)
}

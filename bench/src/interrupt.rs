//! SIGINT and SIGTERM: the run ends at the next look, and everything that it started is stopped on the way out.
//!
//! signal → a flag → [`check`] in every loop that waits → [`BenchError::Interrupted`], which unwinds like any other error:
//! servers are asked to stop, in the reverse order of their start, and scratch directories are removed. A second
//! signal ends this program at once; what it started dies with it (`starter`).
//!
//! **Not here**: programs that start nothing; signals end those as usual.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{BenchError, Result, Tried};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Exit status after a second signal, as shells spell an interrupt.
const AT_ONCE: i32 = 130;

/// From now on signals set the flag.
pub(crate) fn watch() -> Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // This one first: it sees the flag as the signal before has left it.
        flag::register_conditional_shutdown(signal, AT_ONCE, Arc::clone(asked))
            .and_then(|_| flag::register(signal, Arc::clone(asked)))
            .tried(|| format!("handle signal {signal}"))?;
    }
    Ok(())
}

/// Whether a signal has come.
pub(crate) fn is_asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// Fails once a signal has come.
pub(crate) fn check() -> Result<()> {
    if is_asked() { Err(BenchError::Interrupted) } else { Ok(()) }
}

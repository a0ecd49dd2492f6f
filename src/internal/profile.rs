//! `GET /debug/pprof/profile?seconds=N`: a CPU profile of the whole process in pprof's format.
//!
//! Runs on: the control core waits, a signal samples the others. Not here: heap profiles.

use std::time::Duration;

use pprof::ProfilerGuardBuilder;
use pprof::protos::Message;

use crate::error::ApiError;

const DEFAULT_SECONDS: u64 = 10;
const LONGEST_SECONDS: u64 = 120;
/// Samples a second; a prime, so that it does not beat with the ticks.
const HERTZ: i32 = 97;

/// Samples for the asked time and returns the profile, gzip not applied.
///
/// # Errors
/// A wrong number of seconds; another profile is under way.
pub(crate) async fn profile(query: Option<&str>) -> Result<Vec<u8>, ApiError> {
    let seconds = seconds(query)?;
    let failed = |error: pprof::Error| ApiError::Overloaded(format!("no profile can be taken now: {error}"));
    let guard = ProfilerGuardBuilder::default()
        .frequency(HERTZ)
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(failed)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let report = guard.report().build().map_err(failed)?;
    let profile = report.pprof().map_err(failed)?;
    Ok(profile.encode_to_vec())
}

fn seconds(query: Option<&str>) -> Result<u64, ApiError> {
    let asked = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let Some(text) = asked else { return Ok(DEFAULT_SECONDS) };
    text.parse().ok().filter(|seconds| (1..=LONGEST_SECONDS).contains(seconds)).ok_or_else(|| {
        ApiError::Invalid(format!("seconds={text:?}: accepted is a whole number from 1 to {LONGEST_SECONDS}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(seconds(None), Ok(DEFAULT_SECONDS));
        assert_eq!(seconds(Some("debug=1&seconds=3")), Ok(3));
        for wrong in ["seconds=0", "seconds=121", "seconds=x"] {
            assert!(seconds(Some(wrong)).is_err(), "{wrong}");
        }
    }
}

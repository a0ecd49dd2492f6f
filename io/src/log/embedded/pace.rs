//! How long the writer lets calls gather before the next group.
//!
//! A disk that syncs faster than calls come answers nearly each of them with a sync of its own, and a sync costs CPU
//! whatever it carries: 5,000 single calls a second took 27 % of a CPU in 4,000 syncs. So while groups are small and yet
//! hold more than one caller's call, the disk rests twice as long as it worked, and the next group holds more. Who calls
//! alone and waits for each answer is never kept waiting, nor is a crowd, whose groups are large by themselves.
//!
//! **Runs on**: the writer thread. **Not here**: what a group holds at most (`options`).

use std::time::Duration;

/// Groups of more calls than this spread the cost of their sync well enough.
const CROWD: usize = 8;
/// The disk rests so many times as long as it worked.
const REST: u32 = 2;
/// No call is kept waiting for longer by this, however slow the disk is.
const LONGEST: Duration = Duration::from_millis(1);

/// The pause after a group of so many `calls` that took `worked` to make durable.
pub(super) fn rest(calls: usize, worked: Duration) -> Duration {
    if (2..=CROWD).contains(&calls) { (worked * REST).min(LONGEST) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_groups_of_several_callers_make_it_rest() {
        let worked = Duration::from_micros(200);
        assert_eq!(rest(1, worked), Duration::ZERO);
        assert_eq!(rest(2, worked), Duration::from_micros(400));
        assert_eq!(rest(CROWD, worked), Duration::from_micros(400));
        assert_eq!(rest(CROWD + 1, worked), Duration::ZERO);
        assert_eq!(rest(3, Duration::from_millis(9)), LONGEST);
    }

    /// At an even pace it stays as it is: the groups that a rest makes are groups after which it rests.
    #[test]
    fn an_even_stream_finds_its_pace() {
        let (worked, every) = (Duration::from_micros(220), Duration::from_micros(200));
        let mut calls = 2;
        for _ in 0..20 {
            let cycle = worked + rest(calls, worked);
            calls = (cycle.as_micros() / every.as_micros()) as usize;
        }
        assert_eq!(calls, 3);
    }
}

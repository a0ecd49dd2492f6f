//! Whether the machine disturbed a window: pure, from one reading of the scheduler after another.
//!
//! **Invariants**: what a server's own threads take from each other excuses nothing. **Not here**: reading (`watch`), and
//! what becomes of the values (`window`).

use std::time::Duration;

/// A window in which somebody waited for longer than this is disturbed.
pub(super) const MOST: Duration = Duration::from_micros(100);

/// What every wake-up costs on an idle CPU, by the scheduler's account, where nobody keeps anybody off: 0.05 to 0.4 µs were
/// seen. A server that sleeps between requests wakes up a thousand times a window.
const WAKING: Duration = Duration::from_nanos(500);

/// What strangers take of the serving CPU in every window is at most this; servers that idle beside the measured one tick.
const USUAL: Duration = Duration::from_micros(400);

/// What the scheduler says at one moment: sums so far, of one set of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Which set of the server's threads was read: sums of two sets say nothing together.
    pub(super) set: u32,
    /// How long the generator's thread was kept from its work.
    pub(super) generator: Duration,
    /// How long the server's serving threads were.
    pub(super) serving: Duration,
    /// How often those were given a CPU.
    pub(super) runs: u64,
    /// CPU time of the server's other threads, and of the witnesses.
    pub(super) others: Duration,
    /// How long the server's CPUs were not there for anybody.
    pub(super) absent: Duration,
}

/// Judges window after window.
#[derive(Debug)]
pub(super) struct Judge {
    last: Reading,
    /// The least that strangers have kept the server off in a window so far: the machine as it always is.
    usual: Duration,
    /// Whether what a disturbance has left behind may still be on its way.
    behind: bool,
}

impl Judge {
    /// Begins with the reading at the first window's start.
    pub(super) fn new(first: Reading) -> Self {
        Self { last: first, usual: USUAL, behind: false }
    }

    /// Whether the window that ends with this reading was disturbed: somebody was kept off by strangers in it, or it began
    /// with what had piled up before. `caught_up` says whether there was a moment in it at which nothing waited but
    /// what had just fallen due: from then on a disturbance before it is past.
    pub(super) fn is_disturbed(&mut self, now: Reading, caught_up: bool) -> bool {
        let last = std::mem::replace(&mut self.last, now);
        let grown = |now: Duration, then: Duration| now.saturating_sub(then);
        // That the server's other threads get the CPU is its own doing, and no excuse for it.
        let waking = WAKING * u32::try_from(now.runs.saturating_sub(last.runs)).unwrap_or(u32::MAX);
        let strangers =
            grown(now.serving, last.serving).saturating_sub(grown(now.others, last.others) + waking);
        let is_other = now.set != last.set;
        if !is_other {
            self.usual = self.usual.min(strangers);
        }
        // A quarter more than usual is still usual.
        let unusual = strangers > self.usual * 5 / 4 + MOST;
        let itself =
            is_other || grown(now.generator, last.generator) > MOST || now.absent > last.absent || unusual;
        let was_behind = self.behind;
        self.behind = itself || (was_behind && !caught_up);
        itself || was_behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(generator: u64, serving: u64, others: u64) -> Reading {
        let [generator, serving, others] = [generator, serving, others].map(Duration::from_micros);
        Reading { set: 0, generator, serving, runs: 0, others, absent: Duration::ZERO }
    }

    /// Which windows between the readings are disturbed.
    fn disturbed(readings: &[Reading]) -> Vec<bool> {
        let mut judge = Judge::new(readings[0]);
        readings[1..].iter().map(|&reading| judge.is_disturbed(reading, true)).collect()
    }

    #[test]
    fn a_window_in_which_the_generator_waited_is_disturbed_and_so_is_the_next() {
        let waited = [0, 100, 200, 301, 301, 301].map(|micros| reading(7_000 + micros, 0, 0));
        assert_eq!(disturbed(&waited), [false, false, true, true, false]);
    }

    #[test]
    fn a_window_in_which_the_servers_cpu_was_not_there_is_disturbed() {
        let absent = |micros| Reading { absent: Duration::from_micros(micros), ..reading(0, 0, 0) };
        assert_eq!(disturbed(&[0, 1, 1, 1].map(absent)), [true, true, false]);
    }

    #[test]
    fn what_has_piled_up_disturbs_until_it_is_worked_off() {
        let mut judge = Judge::new(reading(0, 0, 0));
        let mut window = |generator, caught_up| judge.is_disturbed(reading(generator, 0, 0), caught_up);
        // Caught up before the disturbance is no help: it may have come at the window's end.
        assert_eq!([window(500, true), window(500, false), window(500, false)], [true, true, true]);
        assert_eq!([window(500, true), window(500, false), window(500, true)], [true, false, false]);
    }

    #[test]
    fn only_strangers_excuse_the_server() {
        // Kept off for 500 µs: by its own threads, by strangers, and by both.
        let readings =
            [reading(0, 0, 0), reading(0, 500, 500), reading(0, 1_000, 510), reading(0, 1_000, 600)];
        assert_eq!(disturbed(&readings), [false, true, true]);
        let both = [reading(0, 0, 0), reading(0, 9, 9), reading(0, 500, 391), reading(0, 500, 391)];
        assert_eq!(disturbed(&both), [false, true, true]);
        // What its threads used while nobody was kept off is no credit for later.
        let credit = [reading(0, 0, 0), reading(0, 0, 40_000), reading(0, 101, 40_000)];
        assert_eq!(disturbed(&credit), [false, true]);
    }

    #[test]
    fn waking_up_is_nobodys_disturbance() {
        let woken = |serving, runs| Reading { runs, ..reading(0, serving, 0) };
        let readings = [woken(0, 0), woken(500, 1_000), woken(1_101, 2_000), woken(1_101, 3_000)];
        assert_eq!(disturbed(&readings), [false, true, true]);
    }

    #[test]
    fn what_strangers_always_take_is_usual() {
        let mut waited = 0;
        let mut readings = vec![reading(0, 0, 0)];
        // The third is above 400 µs, a quarter of that and 100 µs; the last two are a stall and its follower.
        for window in [450, 400, 601, 400, 500, 400, 4_400, 400] {
            waited += window;
            readings.push(reading(0, waited, 0));
        }
        let found = disturbed(&readings);
        assert_eq!(found, [false, false, true, true, false, false, true, true]);
        // A stall in the first window does not become usual.
        assert_eq!(disturbed(&[reading(0, 0, 0), reading(0, 601, 0)]), [true]);
    }

    #[test]
    fn a_follower_does_not_disturb_its_own_follower() {
        let mut readings = vec![reading(0, 0, 0)];
        for waited in [200, 200, 400, 400, 400, 400] {
            readings.push(reading(waited, 0, 0));
        }
        assert_eq!(disturbed(&readings), [true, true, true, true, false, false]);
    }

    #[test]
    fn sums_of_other_threads_are_not_compared() {
        let other = |serving| Reading { set: 1, ..reading(0, serving, 0) };
        let readings = [reading(0, 9_000, 0), other(10), other(20), other(30)];
        assert_eq!(disturbed(&readings), [true, true, false]);
    }
}

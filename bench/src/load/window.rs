//! The latencies of those windows of an open loop that the machine did not disturb.
//!
//! a reading of the scheduler (`watch`) at each window's end → [`Judge`] → the values of an undisturbed window go into
//! the histograms of [`Windows`], those of a disturbed one are dropped.
//!
//! **Invariants**: a value belongs to the window in which it was found: a wait is noted by the scheduler when it is over,
//! and what waited with it is answered after that. Nothing here costs the loop more than some nanoseconds a value: values of
//! a window that is over are counted two at a time, with each new one.
//!
//! **Not here**: what disturbs a window (`judge`), reading `/proc` (`watch`), and histograms over everything (`lane`).

use std::time::Duration;

use hdrhistogram::Histogram;

use super::judge::{Judge, MOST};
use super::measure::Calm;
use super::watch::Watch;
use super::witness::Witnesses;
use crate::error::Result;
use crate::summary::latencies;

/// Length of a window: short, so that little is lost with a disturbed one; at its end the accounts are read, which takes the
/// generator some 30 µs.
const WINDOW: Duration = Duration::from_millis(20);

/// Values that count only once their window is judged.
#[derive(Debug)]
struct Kept {
    open: Vec<u64>,
    /// Those of a good window that are not counted yet.
    good: Vec<u64>,
    counted: Histogram<u64>,
}

impl Kept {
    fn new(expected: usize) -> Self {
        Self { open: Vec::with_capacity(expected), good: Vec::with_capacity(expected), counted: latencies() }
    }

    fn record(&mut self, value: u64) {
        self.open.push(value);
        for _ in 0..2 {
            if let Some(value) = self.good.pop() {
                self.counted.saturating_record(value);
            }
        }
    }

    fn close(&mut self, disturbed: bool) {
        for value in self.good.drain(..) {
            self.counted.saturating_record(value);
        }
        if disturbed {
            self.open.clear();
        } else {
            std::mem::swap(&mut self.open, &mut self.good);
        }
    }

    fn finish(mut self) -> Histogram<u64> {
        // What is open belongs to no window.
        self.close(true);
        self.counted
    }
}

/// The windows of a run.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    watch: Watch<'a>,
    judge: Judge,
    /// Whether there was a moment in the open window at which nothing waited but what had just fallen due.
    caught_up: bool,
    /// When the generator last looked at the clock, and how long it stood still between two looks: interrupts and the
    /// hypervisor take a CPU as well, and the scheduler does not know.
    looked: u64,
    stood_still: Duration,
    /// When the open window began, in ns since the run's start.
    from: u64,
    all: u64,
    undisturbed: u64,
    latency: Kept,
    service: Kept,
    delay: Kept,
}

impl<'a> Windows<'a> {
    /// Windows from `from` on, at a pace of `rate` requests a second.
    pub(super) fn new(pid: Option<u32>, witnesses: &'a Witnesses, from: u64, rate: f64) -> Result<Self> {
        let mut watch = Watch::new(pid, witnesses)?;
        let judge = Judge::new(watch.read()?);
        // Twice what is due: a backlog may be answered in one window.
        let expected = (rate * WINDOW.as_secs_f64() * 2.0) as usize + 64;
        let kept = || Kept::new(expected);
        let (latency, service, delay) = (kept(), kept(), kept());
        let stood_still = Duration::ZERO;
        Ok(Self {
            watch,
            judge,
            caught_up: false,
            looked: from,
            stood_still,
            from,
            all: 0,
            undisturbed: 0,
            latency,
            service,
            delay,
        })
    }

    /// The generator looks at the clock. Between two looks it does the work of one request at most, so that what a
    /// server's own burst of answers costs it is not taken for a disturbance.
    pub(super) fn look(&mut self, now: u64) {
        let still = Duration::from_nanos(now.saturating_sub(self.looked));
        if still > MOST {
            self.stood_still += still;
        }
        self.looked = now;
    }

    /// The generator has slept until now of its own will.
    pub(super) fn slept(&mut self, now: u64) {
        self.looked = now;
    }

    /// Nothing waits but what has just fallen due.
    pub(super) fn caught_up(&mut self) {
        self.caught_up = true;
    }

    /// Closes the window if it is over; the time until the open one ends.
    pub(super) fn at(&mut self, now: u64) -> Result<Duration> {
        let length = WINDOW.as_nanos() as u64;
        let over = now.saturating_sub(self.from) / length;
        if over > 0 {
            // Whatever kept the loop for several of them disturbed all.
            self.close(over)?;
            self.from += over * length;
        }
        Ok(Duration::from_nanos(self.from + length - now))
    }

    fn close(&mut self, windows: u64) -> Result<()> {
        let mut reading = self.watch.read()?;
        reading.generator += self.stood_still;
        let disturbed = self.judge.is_disturbed(reading, std::mem::take(&mut self.caught_up));
        self.all += windows;
        if !disturbed {
            self.undisturbed += windows;
        }
        for kept in [&mut self.latency, &mut self.service, &mut self.delay] {
            kept.close(disturbed);
        }
        Ok(())
    }

    /// A request was answered, so long after it was due and after it was sent.
    pub(super) fn answered(&mut self, latency: u64, service: u64) {
        self.latency.record(latency);
        self.service.record(service);
    }

    /// A request was sent, so long after it was due although a connection was free.
    pub(super) fn sent(&mut self, delay: u64) {
        self.delay.record(delay);
    }

    /// What the whole windows up to `now` came to; nothing if there was none.
    pub(super) fn finish(mut self, now: u64) -> Result<Option<Calm>> {
        self.at(now)?;
        Ok((self.all > 0).then(|| Calm {
            latency: self.latency.finish(),
            service: self.service.finish(),
            delay: self.delay.finish(),
            windows: self.all,
            undisturbed: self.undisturbed,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_still_disturbs_and_sleeping_does_not() {
        let length = WINDOW.as_nanos() as u64;
        let most = MOST.as_nanos() as u64;
        let witnesses = Witnesses::default();
        let mut windows = Windows::new(None, &witnesses, 0, 1_000.0).expect("own account");
        windows.look(most);
        windows.look(2 * most);
        windows.slept(length - 1);
        windows.look(length);
        assert_eq!(windows.stood_still, Duration::ZERO);
        windows.look(length + most + 1);
        assert_eq!(windows.stood_still, MOST + Duration::from_nanos(1));
        windows.at(length + most + 1).expect("own account");
        assert_eq!((windows.all, windows.undisturbed), (1, 0));
    }

    #[test]
    fn values_count_with_their_window() {
        let mut kept = Kept::new(4);
        for (values, disturbed) in
            [([1_000_u64, 2_000], false), ([50_000, 60_000], true), ([3_000, 4_000], false)]
        {
            values.into_iter().for_each(|value| kept.record(value));
            kept.close(disturbed);
        }
        kept.record(70_000);
        let counted = kept.finish();
        assert_eq!((counted.len(), counted.max() / 1000), (4, 4));
    }

    #[test]
    fn windows_are_counted_whole() {
        let length = WINDOW.as_nanos() as u64;
        let witnesses = Witnesses::default();
        let mut windows =
            Windows::new(Some(std::process::id()), &witnesses, 5, 1_000.0).expect("own threads");
        windows.sent(1_000);
        windows.answered(3_000, 2_000);
        assert_eq!(windows.at(5 + length - 1).expect("own account"), Duration::from_nanos(1));
        assert_eq!(windows.at(5 + length).expect("own account"), WINDOW);
        windows.answered(9_000, 9_000);
        let found = windows.finish(5 + 4 * length - 1).expect("own account").expect("some windows");
        assert_eq!(found.windows, 3);
        assert!(found.undisturbed <= found.windows && found.latency.len() <= 2);
        let none = Windows::new(None, &witnesses, 0, 1.0).expect("own account").finish(length - 1);
        assert!(none.expect("own account").is_none());
    }
}

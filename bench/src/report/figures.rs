//! What follows from a report's numbers: medians, ratios, what a disturbance did, what to doubt; and how numbers look.
//!
//! **Invariants**: no figure is made up: what cannot be known is `None`. The latencies shown for a line are those of
//! the round whose rate is the median, so that a row is one thing that happened. **Not here**: targets
//! (`target`), and tests of whether two runs differ (`rank`, `compare`).

use std::time::{Duration, UNIX_EPOCH};

use super::model::{Fact, Interval, Line, Machine, Mark, Point, Report, Round, Timeline};
use crate::load::LoadReport;

/// A timeline is disturbed where its p99 is above so many times what it was before.
const DISTURBED: f64 = 2.0;

/// The middle of the finite values; of an even number, halfway between the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len().is_multiple_of(2) { (sorted[sorted.len() / 2 - 1] + upper) / 2.0 } else { upper })
}

impl Line {
    /// The measurement with the median rate; of an even number of rounds, the upper of the two in the middle.
    pub(super) fn middle(&self) -> Option<&LoadReport> {
        let mut sorted: Vec<&LoadReport> = self.rounds.iter().map(|round| &round.measured).collect();
        sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        sorted.get(sorted.len() / 2).copied()
    }

    /// Each round's rate by that of its yardstick; nothing for rounds without one.
    pub(super) fn ratios(&self) -> Vec<f64> {
        self.pairs(|report| Some(report.rate))
    }

    /// The median of the rounds' ratios, by the clock.
    pub(super) fn ratio(&self) -> Option<f64> {
        median(self.ratios())
    }

    /// The same by the CPU time of the servers. On a machine that others use as well it is the steadier of the two.
    pub(super) fn ratio_by_cpu(&self) -> Option<f64> {
        median(self.pairs(LoadReport::rate_per_server_cpu))
    }

    fn pairs(&self, value: impl Fn(&LoadReport) -> Option<f64>) -> Vec<f64> {
        let ratio = |round: &Round| Some(value(&round.measured)? / value(round.against.as_ref()?)?);
        self.rounds.iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
    }
}

impl Fact {
    /// The value with as many digits as mean something, and its unit.
    pub(super) fn measured(&self) -> String {
        let number = match self.value.abs() {
            // Of shares the last digits matter: 99.9 % and 99.99 % are ten times apart.
            _ if self.unit == "%" => format!("{:.2}", self.value),
            _ if self.unit == "requests" => grouped(self.value),
            large if large >= 999.5 => grouped(self.value),
            middle if middle >= 99.95 => format!("{:.0}", self.value),
            small if small >= 9.995 => format!("{:.1}", self.value),
            _ => format!("{:.2}", self.value),
        };
        let gap = if self.unit.is_empty() || self.unit.starts_with('/') { "" } else { " " };
        format!("{number}{gap}{}", self.unit)
    }
}

impl Point {
    /// Why the point is not to be believed, by whoever measured it or by its own figures.
    pub(super) fn doubted(&self) -> Option<String> {
        self.doubt.clone().or_else(|| self.report.doubt())
    }
}

impl Timeline {
    /// The interval with the highest p99.
    pub(super) fn worst(&self) -> Option<&Interval> {
        self.intervals.iter().max_by(|a, b| a.p99_us.total_cmp(&b.p99_us))
    }

    /// For each mark, what came between it and the next one, against the calm before the first of all: what an earlier
    /// mark did must not pass for calm.
    pub(super) fn effects(&self) -> Vec<Effect<'_>> {
        let mut marks: Vec<&Mark> = self.marks.iter().collect();
        marks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        // The interval in which something happened already belongs to what it did.
        let first = |mark: &Mark| {
            self.intervals.partition_point(|interval| interval.from_s <= mark.at_s).saturating_sub(1)
        };
        let quiet = marks.first().map_or(0, |mark| first(mark));
        let calm = if quiet > 0 { &self.intervals[..quiet] } else { &self.intervals };
        let before_us = median(calm.iter().map(|interval| interval.p99_us)).unwrap_or(0.0);
        let mut effects = Vec::new();
        for (i, mark) in marks.iter().enumerate() {
            let from = first(mark);
            let to = marks.get(i + 1).map_or(self.intervals.len(), |next| first(next).max(from));
            effects.push(Effect::of(mark, before_us, &self.intervals[from..to], self.begin(to)));
        }
        effects
    }

    /// When interval number `i` begins, also for the one that would come after the last.
    pub(super) fn begin(&self, i: usize) -> f64 {
        let from = |i: usize| self.intervals.get(i).map(|interval| interval.from_s);
        let last = self.intervals.len().checked_sub(2).and_then(|i| Some(from(i + 1)? * 2.0 - from(i)?));
        from(i).or(last).unwrap_or(0.0)
    }
}

/// What a mark of a timeline did.
#[derive(Debug, PartialEq)]
pub(super) struct Effect<'a> {
    pub(super) mark: &'a Mark,
    /// The median p99 before, and the highest after it.
    pub(super) before_us: f64,
    pub(super) worst_us: f64,
    /// How long until the p99 was back; `None` if it was not.
    pub(super) lasted_s: Option<f64>,
}

impl<'a> Effect<'a> {
    fn of(mark: &'a Mark, before_us: f64, after: &[Interval], end_s: f64) -> Self {
        let disturbed =
            |interval: &&Interval| interval.rate == 0.0 || interval.p99_us > before_us * DISTURBED;
        let last = after.iter().rposition(|interval| disturbed(&interval));
        let ends = |i: usize| after.get(i + 1).map_or(end_s, |next| next.from_s);
        let lasted_s = match last {
            None => Some(0.0),
            Some(i) if i + 1 < after.len() => Some((ends(i) - mark.at_s).max(0.0)),
            Some(_) => None,
        };
        let worst_us = after.iter().map(|interval| interval.p99_us).fold(0.0, f64::max);
        Self { mark, before_us, worst_us, lasted_s }
    }

    /// As a sentence.
    pub(super) fn line(&self) -> String {
        let (before, worst) = (micros(self.before_us), micros(self.worst_us));
        let what = match self.lasted_s {
            Some(0.0) => format!("p99 stayed within {DISTURBED:.0} × of {before} µs (highest {worst} µs)"),
            Some(lasted) => format!("p99 {before} → {worst} µs, back after {lasted:.1} s"),
            None if self.worst_us == 0.0 => "no answer until the next mark or the end".into(),
            None => format!("p99 {before} → {worst} µs, not back before the next mark or the end"),
        };
        format!("“{}” at {:.1} s: {what}.", self.mark.label, self.mark.at_s)
    }
}

impl Machine {
    /// One line.
    pub(super) fn line(&self) -> String {
        format!("{} × {}, {:.1} GiB, {}", self.cpus, self.cpu, self.memory_gib, self.kernel)
    }
}

impl Report {
    /// When it ran and how long it took.
    pub(super) fn when(&self) -> String {
        // The latest date that the formatter takes is in the year 9999.
        let started = Duration::from_secs(self.started_s.min(253_402_300_799));
        let date = httpdate::fmt_http_date(UNIX_EPOCH + started).replace("GMT", "UTC");
        format!("{date}, took {:.0} min", (self.took_s / 60.0).ceil())
    }
}

/// `1234567.8` → `1,234,568`.
pub(super) fn grouped(value: f64) -> String {
    let text = format!("{value:.0}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let mut out = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds: a tenth matters below ten of them only.
pub(super) fn micros(us: f64) -> String {
    if us < 9.95 { format!("{us:.1}") } else { grouped(us) }
}

/// A place on an axis, without digits that say nothing.
pub(super) fn place(at: f64) -> String {
    if at.fract().abs() < 1e-9 || at.abs() >= 100.0 {
        return grouped(at);
    }
    format!("{at:.3}").trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{fact, line, paired};
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, f64::NAN, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_the_median_of_pairs() {
        // The machine slowed down for the second round: the ratio of the medians would be 0.44.
        let line = paired("get", "yardstick", &[(90.0, 100.0), (9.5, 10.0), (44.0, 50.0)]);
        assert_eq!(line.ratio(), Some(0.9));
        assert_eq!(line.middle().map(|report| report.rate), Some(44.0));
    }

    #[test]
    fn a_ratio_by_cpu_needs_the_cpu_of_both() {
        let mut line = paired("get", "yardstick", &[(90.0, 100.0)]);
        line.rounds[0].measured.server_cpu = Some(0.5);
        assert_eq!(line.ratio_by_cpu(), Some(1.8));
        line.rounds[0].measured.server_cpu = None;
        assert_eq!(line.ratio_by_cpu(), None);
        assert_eq!(line.ratio(), Some(0.9));
    }

    #[test]
    fn what_is_missing_is_not_judged() {
        let mut alone = line("alone", &[1.0, 2.0]);
        alone.at_least = Some(0.5);
        assert_eq!((alone.ratio(), alone.met()), (None, None));
        let empty = line("empty", &[]);
        assert!(empty.middle().is_none() && empty.ratio().is_none());
        let mut still = paired("still", "yardstick", &[(1.0, 0.0)]);
        still.at_least = Some(0.5);
        assert_eq!((still.ratio(), still.met()), (None, None));
    }

    #[test]
    fn a_mark_is_judged_against_what_was_before_it() {
        let p99s = [100.0, 110.0, 90.0, 900.0, 400.0, 100.0, 120.0, 130.0, 500.0];
        let intervals = p99s.iter().enumerate().map(|(i, &p99_us)| Interval {
            from_s: i as f64,
            rate: 1.0,
            p50_us: 50.0,
            p99_us,
            max_us: 2_000.0,
        });
        let mark = |at_s, label: &str| Mark { at_s, label: label.into() };
        let timeline = Timeline {
            name: "t".into(),
            intervals: intervals.collect(),
            marks: vec![mark(7.5, "second"), mark(3.2, "first")],
        };
        let lines: Vec<String> = timeline.effects().iter().map(Effect::line).collect();
        assert_eq!(
            lines,
            [
                "“first” at 3.2 s: p99 100 → 900 µs, back after 1.8 s.",
                "“second” at 7.5 s: p99 100 → 500 µs, not back before the next mark or the end."
            ]
        );
        let mut silent = timeline;
        silent.intervals[7].rate = 0.0;
        silent.intervals[7].p99_us = 0.0;
        silent.marks = vec![mark(7.5, "stop"), mark(8.0, "start")];
        let line = silent.effects()[0].line();
        assert_eq!(line, "“stop” at 7.5 s: no answer until the next mark or the end.");
        let empty = Timeline { name: "e".into(), intervals: vec![], marks: vec![mark(1.0, "x")] };
        assert_eq!(empty.effects().len(), 1);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([7.0, 1234.4, -1_234_567.8].map(grouped), ["7", "1,234", "-1,234,568"]);
        assert_eq!([0.04, 9.94, 12_345.6].map(micros), ["0.0", "9.9", "12,346"]);
        let shown = |value, unit| fact("x", value, unit, None).measured();
        assert_eq!(
            [shown(0.913, "×"), shown(17.52, "KiB"), shown(99.98, "%")],
            ["0.91 ×", "17.5 KiB", "99.98 %"]
        );
        assert_eq!([shown(4.0, "requests"), shown(1_234.0, "requests")], ["4 requests", "1,234 requests"]);
        assert_eq!(
            [shown(1_673.2, "µs"), shown(512_000.0, "/s"), shown(3.0, "")],
            ["1,673 µs", "512,000/s", "3.00"]
        );
        assert_eq!([0.5, 64.0, 1.25, 12_345.6].map(place), ["0.5", "64", "1.25", "12,346"]);
    }

    #[test]
    fn the_date_is_in_utc() {
        let mut report = super::super::fixture::sample();
        (report.started_s, report.took_s) = (784_111_777, 61.0);
        assert_eq!(report.when(), "Sun, 06 Nov 1994 08:49:37 UTC, took 2 min");
        report.started_s = u64::MAX;
        assert!(report.when().contains("9999"));
    }
}

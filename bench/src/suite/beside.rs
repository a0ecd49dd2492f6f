//! Reads beside writes: what puts cost the readers of the same core.
//!
//! Pairs of an open loop of reads alone and the same with puts beside it, one right after the other: what is judged is the
//! median of the pairs' ratios, so that a machine whose speed drifts moves both sides of it.
//!
//! **Not here**: how long a put takes (`writes`).

use super::latency::{ALL, CALM, plain};
use super::{HOT, Suite, say, tell};
use crate::error::Result;
use crate::load::{LoadReport, Measured};
use crate::node::Node;
use crate::report::{Fact, Report, Sweep, median};
use crate::summary::Summary;

/// The load at which disturbances are tried, as a share of what the closed loop reached.
pub(super) const EASY: f64 = 0.5;
/// Puts a second.
const WRITES: f64 = 5_000.0;
const AT_MOST: f64 = 2.0;
const NAME: &str = "p99 of reads at 50 % load beside 5,000 puts/s, against the same alone";

struct Pair {
    quiet: Measured,
    beside: Measured,
}

impl Suite<'_> {
    pub(super) fn beside_writes(&self, report: &mut Report, node: &Node) -> Result<()> {
        let mut quiet = self.paced(node.process(), self.most(node, HOT)? * EASY, 64);
        quiet.range = HOT;
        let mut beside = quiet.clone();
        beside.writes = Some(WRITES);
        let mut pairs = Vec::new();
        for _ in 0..self.rounds {
            let pair = Pair { quiet: quiet.measure()?, beside: beside.measure()? };
            tell("reads alone", &pair.quiet.report);
            tell("reads beside puts", &pair.beside.report);
            pairs.push(pair);
        }
        let reports: Vec<_> = pairs.iter().map(|pair| (&pair.quiet.report, &pair.beside.report)).collect();
        judge(report, &reports);
        // What is shown is one thing that happened: the pair in the middle.
        pairs.sort_by(|a, b| {
            let ratio = |pair: &Pair| all(&pair.quiet.report, &pair.beside.report);
            ratio(a).total_cmp(&ratio(b))
        });
        let Some(Pair { quiet, beside }) = pairs.get(pairs.len() / 2) else { return Ok(()) };
        report.sweeps.push(Sweep {
            name: "Reads at 50 % of the most".into(),
            axis: "puts/s beside".into(),
            points: vec![self.point("no puts", 0.0, quiet)?, self.point("puts beside", WRITES, beside)?],
        });
        Ok(())
    }
}

/// The ratio over everything.
fn all(quiet: &LoadReport, beside: &LoadReport) -> f64 {
    ratio(&quiet.latency, &beside.latency)
}

/// The ratio over undisturbed windows, if both have enough of them.
fn calm(quiet: &LoadReport, beside: &LoadReport) -> Option<f64> {
    quiet.calm().zip(beside.calm()).map(|(quiet, beside)| ratio(&quiet.latency, &beside.latency))
}

fn ratio(quiet: &Summary, beside: &Summary) -> f64 {
    beside.p99_us / quiet.p99_us
}

/// By undisturbed windows if most pairs have enough of them, else over everything; by pairs that are in no doubt, if those are
/// most.
fn judge(report: &mut Report, pairs: &[(&LoadReport, &LoadReport)]) {
    let is_most = |count: usize| count * 2 > pairs.len();
    let doubt = |(quiet, beside): &(&LoadReport, &LoadReport)| quiet.doubt().or_else(|| beside.doubt());
    let sound: Vec<_> = pairs.iter().filter(|pair| doubt(pair).is_none()).collect();
    if !is_most(sound.len()) {
        let doubt = pairs.iter().find_map(doubt).unwrap_or_else(|| "nothing was measured".into());
        report.notes.push(format!("Not quoted: {NAME}: {doubt}."));
        return;
    }
    let over_all: Vec<f64> = sound.iter().map(|(quiet, beside)| all(quiet, beside)).collect();
    let over_calm: Vec<f64> = sound.iter().filter_map(|(quiet, beside)| calm(quiet, beside)).collect();
    let is_calm = is_most(over_calm.len());
    let (judged, which) = if is_calm { (&over_calm, CALM) } else { (&over_all, "") };
    let value = median(judged.iter().copied()).expect("most pairs have one");
    say(&format!("{NAME}{which}: {}", list(judged)));
    report.facts.push(Fact {
        name: format!("{NAME}{which}"),
        value,
        unit: "×".into(),
        target: Some((format!("≤ {AT_MOST} ×"), value <= AT_MOST)),
    });
    if is_calm {
        let value = median(over_all.iter().copied()).expect("at least as many");
        report.facts.push(plain(format!("{NAME}{ALL}"), value, "×"));
    }
    report.notes.push(format!(
        "Reads beside puts, pair by pair: {}{}.",
        if is_calm {
            format!("undisturbed windows {}; all windows ", list(&over_calm))
        } else {
            String::new()
        },
        list(&over_all)
    ));
}

/// Ratios in words: `1.82, 1.90 ×`.
fn list(ratios: &[f64]) -> String {
    let ratios: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    format!("{} ×", ratios.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Undisturbed;
    use crate::report::fixture;

    /// An open loop with this p99 in undisturbed windows, a share of all of them, and over everything.
    fn open_loop(share: f64, calm_us: f64, all_us: f64) -> LoadReport {
        let mut report = fixture::load(1_000.0);
        let p99 = |p99_us| Summary { count: 100_000, p99_us, ..Summary::default() };
        report.offered_rate = Some(1_000.0);
        report.latency = p99(all_us);
        // So late over everything, and hardly in undisturbed windows.
        report.delay = Some(p99(if share < 0.2 { 3_000.0 } else { 50.0 }));
        report.undisturbed = Some(Undisturbed {
            latency: p99(calm_us),
            service: p99(calm_us),
            delay: p99(5.0),
            windows: 30,
            share,
        });
        report
    }

    fn judged(pairs: &[(LoadReport, LoadReport)]) -> Report {
        let mut report = fixture::sample();
        (report.facts, report.notes) = (Vec::new(), Vec::new());
        judge(&mut report, &pairs.iter().map(|(quiet, beside)| (quiet, beside)).collect::<Vec<_>>());
        report
    }

    #[test]
    fn the_median_of_the_pairs_is_judged() {
        let pair = |calm, all| (open_loop(0.5, 40.0, 500.0), open_loop(0.5, 40.0 * calm, 500.0 * all));
        let report = judged(&[pair(1.7, 0.5), pair(9.0, 0.7), pair(1.9, 3.0)]);
        let [calm, all] = &report.facts[..] else { panic!("{:?}", report.facts) };
        assert!(calm.name.ends_with(CALM) && all.name.ends_with(ALL));
        assert_eq!((calm.value, calm.target.as_ref().map(|target| target.1)), (1.9, Some(true)));
        assert_eq!((all.value, all.target.as_ref()), (0.7, None));
        assert!(
            report.notes[0].contains("1.70, 9.00, 1.90 ×") && report.notes[0].contains("0.50, 0.70, 3.00 ×")
        );
        let report = judged(&[pair(1.7, 0.5), pair(9.0, 0.7), pair(2.1, 3.0)]);
        assert_eq!(report.facts[0].target.as_ref().map(|target| target.1), Some(false));
    }

    #[test]
    fn pairs_in_doubt_count_only_as_long_as_they_are_few() {
        let sound = || (open_loop(0.5, 40.0, 500.0), open_loop(0.5, 60.0, 500.0));
        let doubtful = || (open_loop(0.5, 40.0, 500.0), open_loop(0.1, 400.0, 500.0));
        let report = judged(&[doubtful(), sound(), sound()]);
        assert_eq!(report.facts[0].value, 1.5);
        let report = judged(&[doubtful(), sound(), doubtful()]);
        assert!(report.facts.is_empty());
        assert!(report.notes[0].starts_with("Not quoted") && report.notes[0].contains("late by 3000 µs"));
    }

    #[test]
    fn without_undisturbed_windows_everything_is_judged() {
        let mut pair = (open_loop(0.1, 1.0, 500.0), open_loop(0.1, 1.0, 800.0));
        for report in [&mut pair.0, &mut pair.1] {
            report.delay = report.undisturbed.as_ref().map(|calm| calm.delay);
        }
        let report = judged(&[pair]);
        assert_eq!((report.facts.len(), report.facts[0].value), (1, 1.6));
        assert!(!report.facts[0].name.contains("windows"));
    }
}

//! Two runs side by side: which lines became faster or slower, beyond what their own rounds differ by.
//!
//! Reports → lines of the same name → [`verdict`] → a Markdown table. A line with a yardstick in every round of both
//! runs is judged by the rounds' ratios, which a machine whose speed drifts leaves alone; else by the rates. A
//! difference counts when a rank test finds it ([`ALPHA`]) and it is greater than what single rounds scatter by
//! ([`effect`]): the test alone would call a steady 0.1 % a regression.
//!
//! **Invariants**: one sample is never judged, only pointed at (`single`). **Not here**: thresholds for a product's
//! release, and trends over more than two runs.

mod single;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::figures::{grouped, median};
use super::model::{Line, Report};
use super::table::{Cell, Table, UNKNOWN};
use super::{markdown, rank};
use crate::error::{BenchError, Result};

/// Probability of seeing a difference where there is none, for each line. A run has some fifteen lines, and at 5 % more
/// than every second comparison of equal builds would name one.
const ALPHA: f64 = 0.01;
/// Differences below this share are of no interest, however steady.
const FLOOR: f64 = 0.01;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const SIGMA: f64 = 1.4826;
/// With `--fail-on-slower`; 1 is what cannot be compared and 2 a wrong command line.
const SLOWER: u8 = 3;

/// What `compare` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareOptions {
    /// The `report.json` of the run before, or the directory that it is in.
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The same of the run after.
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Exit with status 3 when a line is slower. Points of sweeps and other figures are one sample each and never count.
    #[arg(long)]
    fail_on_slower: bool,
    /// Point at a figure, or a sweep's p50 or p99, that differs by at least so many times.
    #[arg(long, value_name = "TIMES", default_value_t = 1.5, value_parser = factor)]
    factor: f64,
}

fn factor(text: &str) -> std::result::Result<f64, String> {
    let factor = text.parse().map_err(|error| format!("{error}"))?;
    if factor > 1.0 && f64::is_finite(factor) { Ok(factor) } else { Err("must be above 1".into()) }
}

/// `firescroll-bench compare`.
pub(crate) fn command(options: &CompareOptions) -> Result<ExitCode> {
    let reports = [&options.before, &options.after].map(|path| Report::read(path));
    let [before, after] = reports;
    let compared = Compared::of(&before?, &after?, options.factor)?;
    print!("{}", compared.text);
    let fails = options.fail_on_slower && compared.slower > 0;
    Ok(if fails { ExitCode::from(SLOWER) } else { ExitCode::SUCCESS })
}

/// What is printed, and how many lines are slower.
#[derive(Debug)]
struct Compared {
    text: String,
    slower: usize,
}

impl Compared {
    fn of(before: &Report, after: &Report, factor: f64) -> Result<Self> {
        let mut table = Table::new(&["line", "A /s:", "B /s:", "change:", "judged by", "verdict"]);
        let mut slower = 0;
        for (a, b) in both(&before.lines, &after.lines, |line| &line.name) {
            let judged = Judged::of(a, b);
            slower += usize::from(judged.verdict == Verdict::Slower);
            table.rows.push(judged.row(a, b));
        }
        if table.rows.is_empty() {
            return Err(BenchError::Usage("the two reports have no line in common".into()));
        }
        let mut text = heading(before, after);
        text += &markdown::of(&table);
        text += &lacking("lines", &before.lines, &after.lines, |line| &line.name);
        text += &single::facts(before, after, factor);
        for (a, b) in both(&before.sweeps, &after.sweeps, |sweep| &sweep.name) {
            text += &single::sweeps(a, b, factor);
        }
        text += &lacking("sweeps", &before.sweeps, &after.sweeps, |sweep| &sweep.name);
        Ok(Self { text, slower })
    }
}

fn heading(before: &Report, after: &Report) -> String {
    let mut text = String::new();
    for (name, report) in [("A", before), ("B", after)] {
        let commit = report.commit.as_deref().unwrap_or("unknown");
        text += &format!("{name}: {}, {}, commit {commit}\n", report.title, report.when());
    }
    if before.machine != after.machine {
        text += &format!(
            "\nWARNING: the machines differ, so rates say little and ratios not much more:\n  A: {}\n  B: {}\n",
            before.machine.line(),
            after.machine.line()
        );
    }
    text + "\n"
}

/// What of the one has its like in the other, in the order of the first.
fn both<'a, T>(before: &'a [T], after: &'a [T], name: impl Fn(&T) -> &String) -> Vec<(&'a T, &'a T)> {
    let like = |a: &T| after.iter().find(|b| name(b) == name(a));
    before.iter().filter_map(|a| Some((a, like(a)?))).collect()
}

/// A sentence on what only one of the two has.
fn lacking<T>(what: &str, before: &[T], after: &[T], name: impl Fn(&T) -> &String) -> String {
    let mut text = String::new();
    for (which, has, lacks) in [("A", before, after), ("B", after, before)] {
        let alone = has.iter().filter(|one| !lacks.iter().any(|other| name(other) == name(one)));
        let names: Vec<&str> = alone.map(|one| name(one).as_str()).collect();
        if !names.is_empty() {
            text += &format!("\nIn {which} alone, {what}: {}.\n", names.join("; "));
        }
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Faster,
    Slower,
    NotSeen,
    /// With so many rounds of each there would have been something to say.
    TooFew(usize, usize),
}

/// How two lines compare.
#[derive(Debug)]
struct Judged {
    verdict: Verdict,
    /// The yardstick by whose ratio it was judged, if not by rate.
    against: Option<String>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Judged {
    fn of(before: &Line, after: &Line) -> Self {
        let ratios = [before.ratios(), after.ratios()];
        let whole = ratios[0].len() == before.rounds.len() && ratios[1].len() == after.rounds.len();
        let paired =
            whole && before.against == after.against && !ratios[0].is_empty() && !ratios[1].is_empty();
        let rates = |line: &Line| line.rounds.iter().map(|round| round.measured.rate).collect();
        let [a, b] = if paired { ratios } else { [rates(before), rates(after)] };
        let against = paired.then(|| before.against.clone().unwrap_or_else(|| "its pair".into()));
        Self { verdict: verdict(&a, &b), against, a, b }
    }

    fn row(&self, before: &Line, after: &Line) -> Vec<Cell> {
        let rate = |line: &Line| line.middle().map(|report| report.rate);
        let shown = |rate: Option<f64>| rate.map_or(UNKNOWN.into(), grouped).into();
        let rates = (rate(before), rate(after));
        let change = rates.0.zip(rates.1).map_or(UNKNOWN.into(), |(a, b)| per_cent(a, b));
        let verdict = match self.verdict {
            Verdict::Faster => "faster".into(),
            Verdict::Slower => Cell::strong("slower"),
            Verdict::NotSeen => "no difference seen".into(),
            Verdict::TooFew(a, b) => format!(
                "too few rounds to say: {} and {}, and it takes {a} and {b}",
                self.a.len(),
                self.b.len()
            )
            .into(),
        };
        vec![
            before.name.as_str().into(),
            shown(rates.0),
            shown(rates.1),
            change.into(),
            self.grounds().into(),
            verdict,
        ]
    }

    /// What it was judged by: `ratio to constant 0.88 → 0.91 (+3.1 %; counts from 1.2 %), p 0.004`.
    fn grounds(&self) -> String {
        let (Some(a), Some(b)) = (median(self.a.iter().copied()), median(self.b.iter().copied())) else {
            return UNKNOWN.into();
        };
        let what = match &self.against {
            Some(name) => format!("ratio to {name} {a:.3} → {b:.3} ({}", per_cent(a, b)),
            None => format!("rate ({}", per_cent(a, b)),
        };
        let (least, p) = (effect(&self.a, &self.b) * 100.0, rank::two_sided(&self.a, &self.b));
        format!("{what}; counts from {least:.1} %), p {p:.3}")
    }
}

/// A difference that is great enough, and that the rank test would find if the same rounds came a second time, is
/// neither there nor absent: more rounds will tell.
fn verdict(a: &[f64], b: &[f64]) -> Verdict {
    let medians = median(a.iter().copied()).zip(median(b.iter().copied()));
    let Some((before, after)) = medians.filter(|_| rank::least(a.len(), b.len()) <= ALPHA) else {
        let needed = rank::needed(ALPHA);
        return Verdict::TooFew(needed, needed);
    };
    let change = after / before - 1.0;
    if change.abs() < effect(a, b) {
        Verdict::NotSeen
    } else if rank::two_sided(a, b) <= ALPHA {
        if change > 0.0 { Verdict::Faster } else { Verdict::Slower }
    } else if rank::two_sided(&a.repeat(2), &b.repeat(2)) <= ALPHA {
        Verdict::TooFew(2 * a.len(), 2 * b.len())
    } else {
        Verdict::NotSeen
    }
}

/// The least difference that counts, as a share: what a single round of the more scattered side is off by.
fn effect(a: &[f64], b: &[f64]) -> f64 {
    let scatter = |values: &[f64]| {
        let middle = median(values.iter().copied())?;
        let off = median(values.iter().map(|value| (value - middle).abs()))?;
        Some(off * SIGMA / middle).filter(|share| share.is_finite())
    };
    [a, b].into_iter().filter_map(scatter).fold(FLOOR, f64::max)
}

fn per_cent(before: f64, after: f64) -> String {
    format!("{:+.1} %", (after / before - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, line, paired};
    use super::super::model::Machine;
    use super::*;

    const STEADY: [f64; 7] = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8];

    fn scaled(by: f64) -> [f64; 7] {
        STEADY.map(|rate| rate * by)
    }

    #[test]
    fn verdicts_know_the_noise() {
        assert_eq!(verdict(&STEADY, &scaled(1.05)), Verdict::Faster);
        assert_eq!(verdict(&STEADY, &scaled(0.95)), Verdict::Slower);
        assert_eq!(verdict(&STEADY, &scaled(1.0)), Verdict::NotSeen);
        assert_eq!(verdict(&STEADY, &scaled(1.002)), Verdict::NotSeen);
        // Fully separated, but by less than anybody cares for.
        let exact = [1000.0, 1000.1, 1000.2, 1000.3, 1000.4];
        assert_eq!(verdict(&exact, &exact.map(|rate| rate + 5.0)), Verdict::NotSeen);
        assert_eq!(verdict(&exact, &exact.map(|rate| rate + 50.0)), Verdict::Faster);
        // One wild round cannot turn a verdict round, only put it off; two blur it.
        let mut wild = scaled(0.95);
        wild[3] = 1.0;
        assert_eq!(verdict(&STEADY, &wild), Verdict::Slower);
        wild[3] = 1e6;
        assert_eq!(verdict(&STEADY, &wild), Verdict::TooFew(14, 14));
        wild[4] = 1e6;
        assert_eq!(verdict(&STEADY, &wild), Verdict::NotSeen);
    }

    #[test]
    fn too_few_rounds_are_said_to_be() {
        assert_eq!(verdict(&STEADY[..4], &scaled(2.0)[..4]), Verdict::TooFew(5, 5));
        assert_eq!(verdict(&STEADY[..5], &scaled(2.0)[..5]), Verdict::Faster);
        assert_eq!(verdict(&[], &STEADY), Verdict::TooFew(5, 5));
        let (a, b) = (line("x", &[1.0, 2.0]), line("x", &STEADY));
        let row = Judged::of(&a, &b).row(&a, &b);
        assert!(row[5].text.contains("2 and 7, and it takes 5 and 5"), "{row:?}");
    }

    #[test]
    fn scatter_raises_what_counts() {
        assert!((effect(&[100.0; 5], &[100.0; 5]) - FLOOR).abs() < 1e-12);
        let wide = [80.0, 90.0, 100.0, 110.0, 120.0];
        assert!((effect(&wide, &[100.0; 5]) - 0.14826).abs() < 1e-9);
        assert!((effect(&[0.0; 5], &[f64::NAN; 5]) - FLOOR).abs() < 1e-12);
    }

    #[test]
    fn ratios_count_where_both_runs_have_them() {
        // The whole machine is twice as fast in B: the rates double, the ratios stay.
        let a: Vec<(f64, f64)> = STEADY.iter().map(|&rate| (rate, 200.0)).collect();
        let b: Vec<(f64, f64)> = STEADY.iter().map(|&rate| (rate * 2.0, 400.0)).collect();
        let (a, mut b) = (paired("get", "still", &a), paired("get", "still", &b));
        assert_eq!(Judged::of(&a, &b).verdict, Verdict::NotSeen);
        assert!(Judged::of(&a, &b).grounds().starts_with("ratio to still 0.500 → 0.500 (+0.0 %"));
        b.against = Some("something else".into());
        assert_eq!(Judged::of(&a, &b).verdict, Verdict::Faster);
        b.against.clone_from(&a.against);
        b.rounds[0].against = None;
        assert_eq!(Judged::of(&a, &b).verdict, Verdict::Faster);
        assert!(Judged::of(&a, &b).grounds().starts_with("rate (+100.0 %"));
    }

    #[test]
    fn a_report_beside_a_slower_one() {
        let a = fixture::sample();
        let mut b = fixture::sample();
        for round in &mut b.lines[1].rounds {
            round.measured.rate *= 0.9;
        }
        b.lines.remove(4);
        b.lines.push(line("new", &[1.0]));
        b.facts[0].target = Some(("≤ 16 KiB".into(), false));
        b.sweeps.truncate(1);
        b.sweeps[0].points[0].report.latency.p99_us *= 2.0;
        b.sweeps[0].points[1].report.latency.p50_us /= 1.6;
        b.sweeps[0].points.remove(2);
        b.machine = Machine::default();
        let compared = Compared::of(&a, &b, 1.5).expect("comparable");
        assert_eq!(compared.slower, 1);
        for wanted in [
            "WARNING: the machines differ",
            "| -10.0 % | ratio to constant answer 0.930 → 0.837 (-10.0 %; counts from ",
            "| **slower** |",
            "no difference seen",
            "In A alone, lines: get of 100 keys, cached.",
            "In B alone, lines: new.",
            "**target no longer met**",
            "In A alone, sweeps: Latency against connections; Reads at half of the most.",
            "**p99 higher 2.00 times**",
            "**p50 lower 1.60 times**",
            "one sample: not judged",
            "| 100,000 | – → – | – → – | doubtful, not judged: ",
            "Points without their like in the other run: 1.",
        ] {
            assert!(compared.text.contains(wanted), "no {wanted} in\n{}", compared.text);
        }
    }

    #[test]
    fn equal_runs_differ_in_nothing() {
        let compared = Compared::of(&fixture::sample(), &fixture::sample(), 1.5).expect("comparable");
        assert_eq!(compared.slower, 0);
        for unwanted in ["WARNING", "slower", "faster", "alone", "higher", "lower"] {
            assert!(!compared.text.contains(unwanted), "{unwanted} in\n{}", compared.text);
        }
    }

    #[test]
    fn exit_status_is_about_files_and_wishes() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let a = fixture::sample();
        let mut b = fixture::sample();
        for round in &mut b.lines[1].rounds {
            round.measured.rate *= 0.5;
        }
        let [before, after] = ["a/report.json", "b"].map(|name| directory.path().join(name));
        a.write(&directory.path().join("a")).expect("write");
        b.write(&directory.path().join("b")).expect("write");
        let mut options = CompareOptions { before, after, fail_on_slower: false, factor: 1.5 };
        let status = |options: &CompareOptions| command(options).map(|code| format!("{code:?}"));
        let (success, slower) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(3)));
        assert_eq!(status(&options).expect("compared"), success);
        options.fail_on_slower = true;
        assert_eq!(status(&options).expect("compared"), slower);
        b.lines = vec![line("other", &[1.0])];
        b.write(&directory.path().join("b")).expect("write");
        assert!(status(&options).is_err_and(|error| error.to_string().contains("no line in common")));
        options.after = directory.path().join("none.json");
        assert!(status(&options).is_err());
    }

    #[test]
    fn the_factor_is_above_one() {
        assert_eq!(factor("2"), Ok(2.0));
        assert!(["1", "0.5", "NaN", "inf", "x"].map(factor).iter().all(std::result::Result::is_err));
    }
}

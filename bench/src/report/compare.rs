//! Two reports side by side, with a verdict that knows the noise.
//!
//! A line's rounds are its samples: ratios to its yardstick where it has one, for they do not move with the machine, else
//! rates. Two lines differ if the rank-sum test says so at 5 % (exact, for rounds are few) and the medians lie further
//! apart than the rounds of either scatter. A point of a sweep is one sample: it is shown, and never judged.
//!
//! **Not here**: measuring again.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::{Line, Report, grouped, median, micros};
use crate::error::{BenchError, Result};

/// What `compare` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareOptions {
    /// The report.json of the earlier run.
    before: PathBuf,
    /// The report.json of the later run.
    after: PathBuf,
    /// Fail when a line has become slower.
    #[arg(long)]
    fail_on_slower: bool,
}

/// What is to be said of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Faster,
    Slower,
    Same,
    /// No test on so few rounds could ever show a difference.
    TooFew,
}

/// The chance, at most, of seeing a difference where none is.
const LEVEL: f64 = 0.05;
/// Differences below this share are nobody's business, however sure.
const LEAST: f64 = 0.01;

/// `firescroll-bench compare`.
pub(crate) fn command(options: &CompareOptions) -> Result<()> {
    let (before, after) = (Report::read(&options.before)?, Report::read(&options.after)?);
    let (text, slower) = compared(&before, &after)?;
    print!("{text}");
    if options.fail_on_slower && slower > 0 {
        return Err(BenchError::Answer(format!("{slower} lines are slower")));
    }
    Ok(())
}

/// The table, and how many lines are slower.
fn compared(before: &Report, after: &Report) -> Result<(String, usize)> {
    let mut out = String::new();
    if before.machine != after.machine {
        out.push_str("The machines differ: believe ratios, not rates.\n\n");
    }
    out.push_str("| line | before | after | change | |\n|---|---:|---:|---:|---|\n");
    let (mut common, mut slower) = (0, 0);
    for line in &before.lines {
        let Some(later) =
            after.lines.iter().find(|later| later.name == line.name && later.against == line.against)
        else {
            let _ = writeln!(out, "| {} | | | | only before |", line.name);
            continue;
        };
        let (a, b) = (samples(line), samples(later));
        let (Some(from), Some(to)) = (median(a.clone()), median(b.clone())) else { continue };
        common += 1;
        let verdict = judge(&a, &b);
        slower += usize::from(verdict == Verdict::Slower);
        let said = match verdict {
            Verdict::Faster => "**faster**".to_owned(),
            Verdict::Slower => "**slower**".to_owned(),
            Verdict::Same => "no difference seen".to_owned(),
            Verdict::TooFew => {
                format!("too few rounds to say: {} and {}, at least 4 and 4 are needed", a.len(), b.len())
            }
        };
        let shown = |value: f64| {
            if line.against.is_some() { format!("{value:.3} ×") } else { format!("{}/s", grouped(value)) }
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:+.1} % | {said} |",
            line.name,
            shown(from),
            shown(to),
            (to / from - 1.0) * 100.0
        );
    }
    for line in after.lines.iter().filter(|line| before.lines.iter().all(|earlier| earlier.name != line.name))
    {
        let _ = writeln!(out, "| {} | | | | only after |", line.name);
    }
    if common == 0 {
        return Err(BenchError::Usage("the two reports have no line in common".into()));
    }
    for sweep in &before.sweeps {
        let Some(later) =
            after.sweeps.iter().find(|later| later.name == sweep.name && later.axis == sweep.axis)
        else {
            continue;
        };
        let _ = writeln!(
            out,
            "\n{}, by {}, point by point (one sample each, not judged):\n",
            sweep.name, sweep.axis
        );
        out.push_str("| before | after | p50 µs | p99 µs |\n|---:|---:|---:|---:|\n");
        for (a, b) in sweep.points.iter().zip(&later.points) {
            let (from, to) = (&a.report.latency, &b.report.latency);
            let pair = |from: f64, to: f64| format!("{} → {}", micros(from), micros(to));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                grouped(a.at),
                grouped(b.at),
                pair(from.p50_us, to.p50_us),
                pair(from.p99_us, to.p99_us)
            );
        }
    }
    Ok((out, slower))
}

fn samples(line: &Line) -> Vec<f64> {
    let (ratios, _) = line.ratios();
    if ratios.is_empty() { line.rounds.iter().map(|round| round.measured.rate).collect() } else { ratios }
}

fn judge(a: &[f64], b: &[f64]) -> Verdict {
    // Were all of one side below all of the other, the test could say no more than this.
    if 2.0 / choose(a.len() + b.len(), a.len()) > LEVEL {
        return Verdict::TooFew;
    }
    let (Some(from), Some(to)) = (median(a.to_vec()), median(b.to_vec())) else { return Verdict::TooFew };
    let scatter = scatter(a, from).max(scatter(b, to));
    if rank_sum(a, b) > LEVEL || (to - from).abs() <= scatter.max(from * LEAST) {
        return Verdict::Same;
    }
    if to > from { Verdict::Faster } else { Verdict::Slower }
}

/// The median distance from the median.
fn scatter(values: &[f64], middle: f64) -> f64 {
    median(values.iter().map(|value| (value - middle).abs()).collect()).unwrap_or(0.0)
}

/// The two-sided Mann–Whitney test: how likely so uneven an order is by chance. Ties count half.
fn rank_sum(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len(), b.len());
    let beaten = |x: f64| {
        b.iter()
            .map(|y| {
                if x > *y {
                    1.0
                } else if x < *y {
                    0.0
                } else {
                    0.5
                }
            })
            .sum::<f64>()
    };
    let u: f64 = a.iter().map(|x| beaten(*x)).sum();
    let extreme = u.min((n * m) as f64 - u).floor() as usize;
    // ways[i][s]: how many orders of i values of one side and all those of the other so far have the sum s.
    let mut ways = vec![vec![0.0; n * m + 1]; n + 1];
    ways[0][0] = 1.0;
    for j in 1..=n + m {
        for i in (1..=n.min(j)).rev() {
            // The j-th of all in rank is of the first side and stands above j - i of the other.
            let above = j - i;
            if above > m {
                continue;
            }
            for sum in (above..=n * m).rev() {
                ways[i][sum] += ways[i - 1][sum - above];
            }
        }
    }
    let tail: f64 = ways[n][..=extreme.min(n * m)].iter().sum();
    (2.0 * tail / choose(n + m, n)).min(1.0)
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{line, report};
    use super::*;

    #[test]
    fn the_test_agrees_with_published_tables() {
        // Of the 70 orders of four and four, one is as extreme on each side.
        assert!((rank_sum(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]) - 2.0 / 70.0).abs() < 1e-9);
        // Five and five: U = 2 is the critical value at 5 %, U = 3 is not significant.
        assert!(rank_sum(&[1.0, 2.0, 3.0, 4.0, 7.5], &[5.0, 6.0, 7.0, 8.0, 9.0]) > LEVEL);
        assert!(rank_sum(&[1.0, 2.0, 3.0, 4.0, 6.5], &[5.0, 6.0, 7.0, 8.0, 9.0]) < LEVEL);
        assert!((rank_sum(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn verdicts_know_the_noise() {
        let steady = [100.0, 101.0, 99.0, 100.5, 99.5];
        let moved = |by: f64| steady.map(|value| value * by);
        assert_eq!(judge(&steady, &moved(1.1)), Verdict::Faster);
        assert_eq!(judge(&steady, &moved(0.9)), Verdict::Slower);
        assert_eq!(judge(&steady, &moved(1.002)), Verdict::Same);
        assert_eq!(judge(&steady[..3], &moved(2.0)[..3]), Verdict::TooFew);
        let noisy = [60.0, 140.0, 100.0, 80.0, 120.0];
        assert_eq!(judge(&noisy, &noisy.map(|value| value * 1.1)), Verdict::Same);
    }

    #[test]
    fn lines_are_matched_by_name() {
        let before = report();
        let mut after = report();
        after.lines[1] = line("something else", &[1.0], None);
        let (text, slower) = compared(&before, &after).expect("a line in common");
        assert!(text.contains("| get of 1 key | 0.930 × | 0.930 × | +0.0 % |"), "{text}");
        assert!(text.contains("only before") && text.contains("only after"), "{text}");
        assert_eq!(slower, 0);
        after.lines.clear();
        assert!(compared(&before, &after).is_err());
    }
}

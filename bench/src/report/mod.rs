//! Reports of runs: as JSON for programs, as Markdown for PERF.md, as one HTML page for people.
//!
//! [`Report`] (`model`) ← `suite`; → report.json, report.md (`markdown`), report.html (`html`, with pictures of `plot`).
//! Two of them side by side are `compare`. What tables and pictures share, the medians and ratios of rounds, is here.
//!
//! **Not here**: measuring.

mod compare;
mod html;
mod markdown;
mod model;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

pub(crate) use compare::{CompareOptions, command as compare};
pub(crate) use model::{
    Fact, Interval, Line, Machine, Mark, Point, Quantile, Report, Round, Sweep, Timeline,
};

use crate::error::{BenchError, Result, Tried};
use crate::load::LoadReport;
use crate::summary;

/// What `render` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct RenderOptions {
    /// The report.json of a run.
    report: PathBuf,
    /// Directory for report.md and report.html.
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

/// `firescroll-bench render`.
pub(crate) fn render(options: &RenderOptions) -> Result<()> {
    Report::read(&options.report)?.write(&options.out)
}

impl Report {
    /// Reads what an earlier run wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).tried(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| BenchError::Usage(format!("{}: {error}", path.display())))
    }

    /// Writes all three forms into a directory, which is made if it is not there.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out).tried(|| format!("create {}", out.display()))?;
        summary::write_json(&out.join("report.json"), self)?;
        for (name, text) in [("report.md", self.markdown()), ("report.html", html::page(self))] {
            let path = out.join(name);
            fs::write(&path, text).tried(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// The tables, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        markdown::text(self)
    }

    /// One line for the foot: where and how long it ran.
    fn place(&self) -> String {
        let Machine { cpu, cpus, kernel, memory_gib } = &self.machine;
        let commit = self.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
        format!("{cpus} × {cpu}, {kernel}, {memory_gib:.0} GiB{commit}; {:.0} s in all.", self.took_s)
    }
}

impl Line {
    /// The round of median rate.
    fn median(&self) -> Option<&LoadReport> {
        let mut rounds: Vec<&LoadReport> = self.rounds.iter().map(|round| &round.measured).collect();
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.get(rounds.len() / 2).copied()
    }

    /// Each round's ratio to what was measured right before it: by the clock, and by the servers' CPU time.
    fn ratios(&self) -> (Vec<f64>, Vec<f64>) {
        let pairs =
            || self.rounds.iter().filter_map(|round| Some((&round.measured, round.against.as_ref()?)));
        let clock = pairs().map(|(measured, against)| measured.rate / against.rate).collect();
        let per_cpu = |report: &LoadReport| report.rate_per_server_cpu();
        let cpu =
            pairs().filter_map(|(measured, against)| Some(per_cpu(measured)? / per_cpu(against)?)).collect();
        (clock, cpu)
    }

    /// The medians of these, and whether the better one reaches what is wanted: a generator that shares its CPU makes
    /// the clock unfair, a server that waits for its disk the CPU time.
    fn ratio(&self) -> Option<Ratio> {
        let (clock, cpu) = self.ratios();
        let (clock, cpu) = (median(clock)?, median(cpu));
        Some(Ratio { clock, cpu, met: self.at_least.map(|least| clock >= least) })
    }

    /// The rounds in which the generator may have been the limit.
    fn doubt(&self) -> Option<String> {
        self.median()?.doubt()
    }
}

/// A line against another.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio {
    clock: f64,
    cpu: Option<f64>,
    met: Option<bool>,
}

/// The middle value; the upper one of two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A fact's value with as many digits as mean something.
fn shown(value: f64, unit: &str) -> String {
    let number = match value.abs() {
        large if large >= 1000.0 => grouped(value),
        middle if middle >= 100.0 => format!("{value:.0}"),
        small if small >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if unit.starts_with('/') { number + unit } else { format!("{number} {unit}") }
}

/// Microseconds, three digits.
fn micros(us: f64) -> String {
    if us < 9.95 { format!("{us:.1}") } else { grouped(us) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::summary::Summary;

    pub(crate) fn load(rate: f64, p99_us: f64) -> LoadReport {
        let latency = Summary {
            count: 1000,
            mean_us: p99_us / 2.0,
            p50_us: p99_us / 4.0,
            p90_us: p99_us / 2.0,
            p99_us,
            p999_us: p99_us * 3.0,
            max_us: p99_us * 9.0,
        };
        LoadReport {
            target: "http://127.0.0.1:1".into(),
            workload: "Get(1)".into(),
            connections: 64,
            records: 1000,
            asked_records: 100,
            value_bytes: 300,
            answer_bytes: 420,
            seconds: 2.0,
            requests: (rate * 2.0) as u64,
            rate,
            records_rate: rate,
            offered_rate: None,
            unsent: 0,
            latency,
            service: Some(latency),
            delay: None,
            writes: None,
            generator_cpu: 0.5,
            server_cpu: Some(1.0),
        }
    }

    pub(crate) fn line(name: &str, rates: &[f64], against: Option<f64>) -> Line {
        let round = |rate: &f64| Round {
            measured: load(*rate, 400.0),
            against: against.map(|rate| load(rate, 300.0)),
        };
        Line {
            name: name.into(),
            against: against.map(|_| "the yardstick".into()),
            at_least: against.map(|_| 0.9),
            rounds: rates.iter().map(round).collect(),
        }
    }

    pub(crate) fn report() -> Report {
        let point = |at: f64| Point {
            at,
            report: load(at, at / 100.0),
            curve: (0..18)
                .map(|n| Quantile { quantile: 1.0 - 0.5_f64.powi(n), us: 30.0 + at / 1000.0 * f64::from(n) })
                .collect(),
            doubt: (at > 90_000.0).then(|| "the generator <itself> was late".to_owned()),
        };
        let interval = |n: u32| Interval {
            from_s: f64::from(n) * 0.2,
            rate: 50_000.0,
            p50_us: 60.0,
            p99_us: 200.0 + f64::from(n % 7) * 90.0,
            max_us: 3000.0,
        };
        Report {
            title: "A <sample>".into(),
            commit: Some("abc1234".into()),
            started_s: 1_793_000_000,
            took_s: 321.0,
            machine: Machine { cpu: "Some CPU".into(), cpus: 2, kernel: "Linux 6".into(), memory_gib: 24.0 },
            lines: vec![
                line("get of 1 key", &[95_000.0, 91_000.0, 93_000.0], Some(100_000.0)),
                line("get of 3 keys", &[50_000.0], None),
            ],
            facts: vec![Fact {
                name: "memory each".into(),
                value: 3.84,
                unit: "KiB".into(),
                target: Some(("≤ 16 KiB".into(), true)),
            }],
            sweeps: vec![Sweep {
                name: "One key".into(),
                axis: "offered load, requests/s".into(),
                points: [10_000.0, 40_000.0, 80_000.0, 95_000.0].map(point).to_vec(),
            }],
            timelines: vec![Timeline {
                name: "Beside a load".into(),
                intervals: (0..40).map(interval).collect(),
                marks: vec![Mark { at_s: 2.0, label: "puts begin".into() }],
            }],
            notes: vec!["nginx is not installed".into()],
        }
    }

    #[test]
    fn ratios_are_medians_of_pairs() {
        let ratio = line("x", &[80_000.0, 95_000.0, 90_000.0], Some(100_000.0)).ratio().expect("paired");
        assert!((ratio.clock - 0.9).abs() < 1e-9);
        assert_eq!(ratio.met, Some(true));
        assert_eq!(line("x", &[1.0], None).ratio(), None);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(shown(0.913, "×"), "0.91 ×");
        assert_eq!(shown(512_000.0, "/s"), "512,000/s");
        assert_eq!(micros(3.26), "3.3");
    }

    #[test]
    fn a_report_is_written_and_read_back() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let out = directory.path().join("made");
        report().write(&out).expect("written");
        // Compared by what is shown: the last digit of a number may change on its way through text.
        let back = Report::read(&out.join("report.json")).expect("readable");
        assert_eq!((back.markdown(), back.lines.len()), (report().markdown(), 2));
        assert!(out.join("report.md").is_file() && out.join("report.html").is_file());
        assert!(Report::read(&out.join("report.md")).is_err());
    }
}

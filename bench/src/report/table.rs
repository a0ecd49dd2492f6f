//! The tables of a report, as cells: `markdown` and `html` show the same ones.
//!
//! **Invariants**: what is not known, and a latency that is not to be believed, is a dash. **Not here**: escaping; each of the two knows its own.

use super::figures::{Effect, grouped, median, micros, place};
use super::model::{Fact, Line, Point, Report, Sweep, Timeline};
use crate::load::LoadReport;
use crate::summary::Summary;

/// Stands where nothing is known.
pub(super) const UNKNOWN: &str = "–";

/// What the columns of undisturbed windows mean; under a table that has them.
pub(super) const UNDISTURBED: &str = "Undisturbed: over those windows of 20 ms alone in which nothing kept the \
    generator, and no other program the server’s serving threads, from their work for 100 µs \
    longer than it always does, in which the server’s CPU was there, and which began with nothing that an earlier \
    disturbance had left waiting; beside it the share of such windows. Where they are enough, they are what is judged.";

/// Rows under headings.
#[derive(Debug, PartialEq)]
pub(super) struct Table {
    pub(super) head: Vec<Heading>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A column's name, and whether its cells are numbers, which stand at the right.
#[derive(Debug, PartialEq)]
pub(super) struct Heading {
    pub(super) name: String,
    pub(super) number: bool,
}

/// What stands in one place of a table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) look: Look,
    /// A ratio and the least that is wanted of it, for a bar.
    pub(super) bar: Option<(f64, Option<f64>)>,
}

/// How a cell catches the eye.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Look {
    #[default]
    Plain,
    /// What was wanted came about.
    Met,
    /// To be seen at once.
    Strong,
}

impl Cell {
    /// To be seen at once.
    pub(super) fn strong(text: impl Into<String>) -> Self {
        Self { text: text.into(), look: Look::Strong, bar: None }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl Table {
    /// Headings as given; one that ends in `:` is of a column of numbers.
    pub(super) fn new(head: &[&str]) -> Self {
        let heading = |name: &&str| Heading {
            name: name.trim_end_matches(':').to_string(),
            number: name.ends_with(':'),
        };
        Self { head: head.iter().map(heading).collect(), rows: Vec::new() }
    }
}

/// All lines, or nothing if there are none.
pub(super) fn lines(report: &Report) -> Option<Table> {
    let mut table = Table::new(&[
        "line",
        "requests/s:",
        "p50 µs:",
        "p99 µs:",
        "p99.9 µs:",
        "ratio",
        "target:",
        "verdict",
    ]);
    table.rows = report.lines.iter().map(line).collect();
    (!table.rows.is_empty()).then_some(table)
}

fn line(line: &Line) -> Vec<Cell> {
    let middle = line.middle();
    let quoted = middle.filter(|report| report.doubt().is_none());
    let latency = |value: fn(&Summary) -> f64| known(quoted.map(|report| micros(value(&report.latency))));
    let ratio = line.ratio();
    let by_cpu = line.ratio_by_cpu().map_or(String::new(), |ratio| format!(" ({ratio:.2} × by CPU time)"));
    let compared = match (ratio, &line.against) {
        (None, None) => Cell::default(),
        (None, Some(_)) => UNKNOWN.into(),
        (Some(ratio), against) => {
            let against = against.as_deref().map_or(String::new(), |name| format!(" of {name}"));
            let text = format!("{ratio:.2} ×{by_cpu}{against}");
            Cell { text, bar: Some((ratio, line.at_least)), ..Cell::default() }
        }
    };
    vec![
        line.name.as_str().into(),
        known(middle.map(|report| grouped(report.rate))),
        latency(|latency| latency.p50_us),
        latency(|latency| latency.p99_us),
        latency(|latency| latency.p999_us),
        compared,
        line.wanted().unwrap_or_default().into(),
        if line.at_least.is_some() { verdict(line.met()) } else { Cell::default() },
    ]
}

fn verdict(met: Option<bool>) -> Cell {
    match met {
        None => UNKNOWN.into(),
        Some(true) => Cell { text: "met".into(), look: Look::Met, bar: None },
        Some(false) => Cell::strong("missed"),
    }
}

/// All facts, or nothing if there are none.
pub(super) fn facts(report: &Report) -> Option<Table> {
    let mut table = Table::new(&["figure", "measured:", "target:", "verdict"]);
    table.rows = report.facts.iter().map(fact).collect();
    (!table.rows.is_empty()).then_some(table)
}

fn fact(fact: &Fact) -> Vec<Cell> {
    let wanted = fact.target.as_ref().map_or("", |(wanted, _)| wanted);
    vec![
        fact.name.as_str().into(),
        fact.measured().into(),
        wanted.into(),
        if fact.target.is_some() { verdict(fact.met()) } else { Cell::default() },
    ]
}

/// The points of a sweep, by their place on its axis.
pub(super) fn sweep(sweep: &Sweep) -> Table {
    let axis = format!("{}:", sweep.axis);
    let mut head = vec![axis.as_str(), "requests/s:", "p50 µs:", "p99 µs:", "p99.9 µs:"];
    let windows = has_windows(sweep);
    if windows {
        head.extend(["p99.9 undisturbed µs:", "undisturbed:"]);
    }
    head.extend(["p99 uncorrected µs:", "own delay p99 µs:", "server CPU:"]);
    let writes = sweep.points.iter().any(|point| point.report.writes.is_some());
    if writes {
        head.extend(["writes p50 µs:", "writes p99 µs:"]);
    }
    head.push("doubt");
    let mut table = Table::new(&head);
    table.rows = sweep.points.iter().map(|at| point(at, windows, writes)).collect();
    table
}

/// Whether a sweep's table has columns of undisturbed windows: reports of earlier programs have none.
pub(super) fn has_windows(sweep: &Sweep) -> bool {
    sweep.points.iter().any(|point| point.report.undisturbed.is_some())
}

fn point(point: &Point, with_windows: bool, with_writes: bool) -> Vec<Cell> {
    let LoadReport { rate, latency, service, delay, writes, server_cpu, .. } = &point.report;
    let doubt = point.doubted();
    let quoted = doubt.is_none().then_some(*latency);
    let of = |summary: Option<Summary>, value: fn(&Summary) -> f64| {
        known(summary.map(|summary| micros(value(&summary))))
    };
    let mut cells = vec![
        place(point.at).into(),
        grouped(*rate).into(),
        of(quoted, |latency| latency.p50_us),
        of(quoted, |latency| latency.p99_us),
        of(quoted, |latency| latency.p999_us),
    ];
    if with_windows {
        let calm = quoted.and_then(|_| point.report.calm());
        let share = point.report.undisturbed.map(|windows| format!("{:.0} %", windows.share * 100.0));
        cells.extend([of(calm.map(|calm| calm.latency), |latency| latency.p999_us), known(share)]);
    }
    cells.extend([
        of(*service, |service| service.p99_us),
        of(*delay, |delay| delay.p99_us),
        known(server_cpu.map(|cpu| format!("{:.0} %", cpu * 100.0))),
    ]);
    if with_writes {
        cells.extend([of(*writes, |writes| writes.p50_us), of(*writes, |writes| writes.p99_us)]);
    }
    cells.push(doubt.unwrap_or_default().into());
    cells
}

/// All timelines, or nothing if there are none.
pub(super) fn timelines(report: &Report) -> Option<Table> {
    let mut table =
        Table::new(&["over time", "median p50 µs:", "median p99 µs:", "worst interval", "what was done"]);
    table.rows = report.timelines.iter().map(timeline).collect();
    (!table.rows.is_empty()).then_some(table)
}

fn timeline(timeline: &Timeline) -> Vec<Cell> {
    // A piece without an answer has no latency.
    let answered = || timeline.intervals.iter().filter(|interval| interval.rate > 0.0);
    let p50 = median(answered().map(|interval| interval.p50_us));
    let p99 = median(answered().map(|interval| interval.p99_us));
    let worst = timeline.worst().map(|worst| {
        format!(
            "from {:.1} s: p99 {} µs, max {} µs, {}/s",
            worst.from_s,
            micros(worst.p99_us),
            micros(worst.max_us),
            grouped(worst.rate)
        )
    });
    let effects: Vec<String> = timeline.effects().iter().map(Effect::line).collect();
    vec![
        timeline.name.as_str().into(),
        known(p50.map(micros)),
        known(p99.map(micros)),
        known(worst),
        effects.join(" ").into(),
    ]
}

fn known(text: Option<String>) -> Cell {
    text.map_or(UNKNOWN.into(), Cell::from)
}

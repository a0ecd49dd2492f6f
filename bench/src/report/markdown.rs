//! The tables of a report as Markdown.
//!
//! **Not here**: judging whether a run is worth publishing; doubtful figures are left out, with the reason in their place.

use std::fmt::Write as _;

use super::{Report, grouped, micros, shown};
use crate::load::LoadReport;

/// The whole text.
pub(super) fn text(report: &Report) -> String {
    let mut out = format!("# {}\n\n{}\n\n", report.title, report.place());
    out.push_str("Ratios are medians of rounds, each against the other measured right before it; in parentheses by the servers' CPU time.\n\n");
    out.push_str("| line | requests/s | p50 / p99 / p99.9 µs | ratio | to | wanted | |\n|---|---:|---:|---:|---|---:|---|\n");
    for line in &report.lines {
        let Some(median) = line.median() else { continue };
        let doubt = line.doubt();
        let figures =
            doubt.as_ref().map_or_else(|| latencies(median), |doubt| format!("not quoted: {doubt}"));
        let ratio = line.ratio();
        let shown = ratio.map_or(String::new(), |ratio| {
            let cpu = ratio.cpu.map_or(String::new(), |cpu| format!(" ({cpu:.2})"));
            format!("{:.2} ×{cpu}", ratio.clock)
        });
        let wanted = line.at_least.map_or(String::new(), |least| format!("≥ {least:.2} ×"));
        let verdict = verdict(ratio.and_then(|ratio| ratio.met));
        let against = line.against.as_deref().unwrap_or("");
        let _ = writeln!(
            out,
            "| {} | {} | {figures} | {shown} | {against} | {wanted} | {verdict} |",
            line.name,
            grouped(median.rate)
        );
    }
    if !report.facts.is_empty() {
        out.push_str("\n| figure | measured | wanted | |\n|---|---:|---:|---|\n");
        for fact in &report.facts {
            let (wanted, met) =
                fact.target.as_ref().map_or(("", None), |(text, met)| (text.as_str(), Some(*met)));
            let _ = writeln!(
                out,
                "| {} | {} | {wanted} | {} |",
                fact.name,
                shown(fact.value, &fact.unit),
                verdict(met)
            );
        }
    }
    for sweep in &report.sweeps {
        let _ = writeln!(out, "\n## {}\n", sweep.name);
        let _ = writeln!(
            out,
            "| {} | answered/s | p50 / p99 / p99.9 µs | uncorrected | own delay p99 µs | |",
            sweep.axis
        );
        out.push_str("|---:|---:|---:|---:|---:|---|\n");
        for point in &sweep.points {
            let load = &point.report;
            let of = |summary: &Option<crate::summary::Summary>| {
                summary.map_or(String::new(), |s| triple(s.p50_us, s.p99_us, s.p999_us))
            };
            let delay = load.delay.map_or(String::new(), |delay| micros(delay.p99_us));
            let (figures, doubt) = match &point.doubt {
                None => (latencies(load), String::new()),
                Some(doubt) => ("—".to_owned(), format!("not quoted: {doubt}")),
            };
            let _ = writeln!(
                out,
                "| {} | {} | {figures} | {} | {delay} | {doubt} |",
                grouped(point.at),
                grouped(load.rate),
                of(&load.service)
            );
        }
    }
    for timeline in &report.timelines {
        let _ = writeln!(out, "\n## {}\n", timeline.name);
        let middle = super::median(timeline.intervals.iter().map(|i| i.p99_us).collect()).unwrap_or(0.0);
        let worst = timeline.intervals.iter().map(|i| i.p99_us).fold(0.0, f64::max);
        let _ = writeln!(
            out,
            "p99 of {} pieces: median {} µs, worst {} µs.",
            timeline.intervals.len(),
            micros(middle),
            micros(worst)
        );
        for mark in &timeline.marks {
            let _ = writeln!(out, "At {:.1} s {}.", mark.at_s, mark.label);
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "\n{note}");
    }
    out
}

fn latencies(load: &LoadReport) -> String {
    triple(load.latency.p50_us, load.latency.p99_us, load.latency.p999_us)
}

fn triple(p50: f64, p99: f64, p999: f64) -> String {
    format!("{} / {} / {}", micros(p50), micros(p99), micros(p999))
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        None => "",
        Some(true) => "met",
        Some(false) => "**missed**",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;

    #[test]
    fn lines_name_ratio_target_and_verdict() {
        let text = report().markdown();
        for wanted in [
            "| get of 1 key | 93,000 | 100 / 400 / 1,200 | 0.93 × (0.93) | the yardstick | ≥ 0.90 × | met |",
            "| memory each | 3.84 KiB | ≤ 16 KiB | met |",
            "| 95,000 | 95,000 | — |",
            "not quoted: the generator <itself> was late",
            "At 2.0 s puts begin.",
            "nginx is not installed",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
    }
}

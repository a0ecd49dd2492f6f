//! One page that holds everything: no script, nothing fetched, readable on a phone and on paper.
//!
//! **Not here**: drawing (`plot`).

use std::fmt::Write as _;

use super::plot::{Curve, Plot, escape, even_ticks};
use super::{Report, Sweep, Timeline, grouped, micros, shown};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#5b6570;--rule:#d5dae0;--bar:#0072b2;--miss:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#14171a;--soft:#9aa4ae;--rule:#363c43;--bar:#56b4e9;--miss:#ff8a80}}
body{margin:0 auto;max-width:62rem;padding:1rem;font:16px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}p{margin:.5rem 0}.soft{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
td:first-child,th:first-child{text-align:left;padding-left:0}th{font-weight:600;color:var(--soft);font-size:.85rem}td.num{white-space:nowrap}
.bar{display:block;height:.5rem;background:var(--bar);border-radius:2px;min-width:1px}.track{display:block;width:8rem;background:var(--rule);border-radius:2px;margin-top:.3rem}
.missed{color:var(--miss);font-weight:700}figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.9rem}
svg{width:100%;height:auto;display:block;min-width:20rem}svg text{font:14px system-ui,sans-serif;fill:var(--ink)}svg text[fill]{fill:revert-layer}.end{text-anchor:end}.mid{text-anchor:middle}
.grid{stroke:var(--soft);stroke-opacity:.45}.faint{stroke:var(--rule);stroke-opacity:.6}.mark{stroke:var(--miss);stroke-dasharray:3 3}
.curve{fill:none;stroke-width:2.5;stroke-linejoin:round}.hollow{fill:var(--paper);stroke-width:2}
@media(max-width:34rem){body{font-size:15px}svg text{font-size:19px}td,th{padding:.3rem .35rem}.track{width:4rem}}
@media print{body{max-width:none;font-size:11pt}figure,tr{break-inside:avoid}:root{--ink:#000;--paper:#fff;--soft:#444;--rule:#bbb;--bar:#0072b2;--miss:#b00}}
";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"soft\">{}<br>{}</p>",
        when(report.started_s),
        escape(&report.place())
    );
    lines(report, &mut out);
    facts(report, &mut out);
    for sweep in &report.sweeps {
        sweep_figures(sweep, &mut out);
    }
    for timeline in &report.timelines {
        timeline_figure(timeline, &mut out);
    }
    for note in &report.notes {
        let _ = write!(out, "<p>{}</p>", escape(note));
    }
    out.push_str("</body></html>\n");
    out
}

fn lines(report: &Report, out: &mut String) {
    out.push_str(
        "<h2>What a core does at most</h2><div class=\"wide\"><table><tr><th>line</th><th>requests/s</th><th>p50 / p99 / p99.9 µs</th><th>ratio</th><th>wanted</th></tr>",
    );
    for line in &report.lines {
        let Some(median) = line.median() else { continue };
        let latency = match line.doubt() {
            None => format!(
                "{} / {} / {}",
                micros(median.latency.p50_us),
                micros(median.latency.p99_us),
                micros(median.latency.p999_us)
            ),
            Some(doubt) => format!("not quoted: {}", escape(&doubt)),
        };
        let ratio = line.ratio().map_or(String::new(), |ratio| {
            let against = escape(line.against.as_deref().unwrap_or_default());
            let width = (ratio.clock * 100.0).clamp(0.0, 100.0);
            format!("{:.2} ×<span class=\"track\"><span class=\"bar\" style=\"width:{width:.0}%\"></span></span><small class=\"soft\">{against}</small>", ratio.clock)
        });
        let wanted = line
            .at_least
            .map(|least| (format!("≥ {least:.2} ×"), line.ratio().and_then(|ratio| ratio.met) == Some(true)));
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{latency}</td><td>{ratio}</td><td class=\"num\">{}</td></tr>",
            escape(&line.name),
            grouped(median.rate),
            verdict(wanted.as_ref())
        );
    }
    out.push_str("</table></div><p class=\"soft\">A ratio is the median of rounds, each against the other measured right before it.</p>");
}

fn facts(report: &Report, out: &mut String) {
    if report.facts.is_empty() {
        return;
    }
    out.push_str("<h2>Other figures</h2><div class=\"wide\"><table><tr><th>figure</th><th>measured</th><th>wanted</th></tr>");
    for fact in &report.facts {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
            escape(&fact.name),
            escape(&shown(fact.value, &fact.unit)),
            verdict(fact.target.as_ref())
        );
    }
    out.push_str("</table></div>");
}

fn verdict(target: Option<&(String, bool)>) -> String {
    match target {
        None => String::new(),
        Some((text, true)) => format!("{}<br>met", escape(text)),
        Some((text, false)) => format!("{}<br><span class=\"missed\">missed</span>", escape(text)),
    }
}

fn sweep_figures(sweep: &Sweep, out: &mut String) {
    let _ = write!(out, "<h2>{}</h2>", escape(&sweep.name));
    // A step for each point where the places lie too far apart for a common scale.
    let most = sweep.points.iter().map(|point| point.at).fold(0.0, f64::max);
    let is_even = sweep.points.len() > 4;
    let place = |number: usize, at: f64| if is_even { at } else { number as f64 };
    let ticks = if is_even {
        even_ticks(most)
    } else {
        sweep.points.iter().enumerate().map(|(number, point)| (number as f64, grouped(point.at))).collect()
    };
    let hollow: Vec<bool> = sweep.points.iter().map(|point| point.doubt.is_some()).collect();
    let curve = |name: &str, dashed: bool, value: &dyn Fn(&super::Point) -> Option<f64>| Curve {
        name: name.to_owned(),
        points: sweep
            .points
            .iter()
            .enumerate()
            .filter_map(|(number, point)| Some((place(number, point.at), value(point)?)))
            .collect(),
        dashed,
        hollow: hollow.clone(),
    };
    let plot = Plot {
        across: sweep.axis.clone(),
        up: "latency, µs".into(),
        ticks,
        curves: vec![
            curve("p50", false, &|point| Some(point.report.latency.p50_us)),
            curve("p99", false, &|point| Some(point.report.latency.p99_us)),
            curve("p99.9", false, &|point| Some(point.report.latency.p999_us)),
            curve("p99 sent", true, &|point| Some(point.report.service?.p99_us)),
        ],
        marks: Vec::new(),
    };
    let _ = write!(
        out,
        "<figure>{}<figcaption>From when a request was due; dashed from when it was sent. Hollow points: the generator itself was late, or more was due than could be sent.</figcaption></figure>",
        plot.svg()
    );
    let curves = sweep.points.iter().filter(|point| point.doubt.is_none()).map(|point| Curve {
        name: if point.at >= 10_000.0 { format!("{:.0} k", point.at / 1000.0) } else { grouped(point.at) },
        points: point
            .curve
            .iter()
            .map(|quantile| ((1.0 / (1.0 - quantile.quantile)).log10(), quantile.us))
            .collect(),
        dashed: false,
        hollow: Vec::new(),
    });
    let plot = Plot {
        across: "percentile".into(),
        up: "latency, µs".into(),
        ticks: [(0.0, "0"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")]
            .map(|(at, label)| (at, label.to_owned()))
            .to_vec(),
        curves: curves.collect(),
        marks: Vec::new(),
    };
    let _ = write!(
        out,
        "<figure>{}<figcaption>Each curve is one point of the picture above: {}.</figcaption></figure>",
        plot.svg(),
        escape(&sweep.axis)
    );
}

fn timeline_figure(timeline: &Timeline, out: &mut String) {
    let curve = |name: &str, value: fn(&super::Interval) -> f64| Curve {
        name: name.to_owned(),
        points: timeline.intervals.iter().map(|interval| (interval.from_s, value(interval))).collect(),
        dashed: false,
        hollow: Vec::new(),
    };
    let last = timeline.intervals.last().map_or(0.0, |interval| interval.from_s);
    let plot = Plot {
        across: "time, s".into(),
        up: "latency, µs".into(),
        ticks: even_ticks(last),
        curves: vec![curve("p50", |i| i.p50_us), curve("p99", |i| i.p99_us), curve("longest", |i| i.max_us)],
        marks: timeline.marks.iter().map(|mark| (mark.at_s, mark.label.clone())).collect(),
    };
    let _ = write!(out, "<h2>{}</h2><figure>{}</figure>", escape(&timeline.name), plot.svg());
}

/// A date and time of day, from Unix seconds.
fn when(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in the Gregorian calendar, whose years begin with March here.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_page_holds_all_and_fetches_nothing() {
        let page = page(&report());
        for wanted in [
            "A &lt;sample&gt;",
            "get of 3 keys",
            "memory each",
            "offered load, requests/s",
            "puts begin",
            "nginx is not installed",
            "0.93 ×",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert!(
            !page.contains("<script")
                && !page.contains("http://")
                && !page.contains("https://")
                && !page.contains("NaN")
        );
        for tag in ["table", "figure", "svg", "div", "tr", "td", "p"] {
            let (open, closed) = (
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
                page.matches(&format!("</{tag}>")).count(),
            );
            assert_eq!(open, closed, "{tag}");
        }
    }

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(when(0), "1970-01-01 00:00 UTC");
        assert_eq!(when(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(when(1_793_000_000), "2026-10-26 07:33 UTC");
    }
}

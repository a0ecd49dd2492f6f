//! The report as one page that needs nothing else: style and pictures are inside, and there is no script.
//!
//! Every plot is in it twice, laid out for a wide and for a narrow screen; the style shows one. **Invariants**: all
//! text from the report is escaped, and nothing is loaded from anywhere.

use std::fmt::Write as _;

use super::model::{Interval, Point, Quantile, Report, Sweep, Timeline};
use super::plot::{Curve, Dot, NARROW, Plot, WIDE, escaped};
use super::scale::Axis;
use super::table::{self, Cell, Heading, Look, Table};
use super::target::{Target, Targets};
use crate::summary::Summary;

const STYLE: &str = include_str!("style.css");
/// Steps of the style's ramp, from the least to the greatest point of a sweep.
const RAMP: usize = 8;
const LATENCY: &str = "latency, µs";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = escaped(&report.title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    head(&mut out, report);
    targets(&mut out, report);
    if let Some(lines) = table::lines(report) {
        out.push_str("<section>\n<h2>Rates</h2>\n");
        tabulate(&mut out, &lines, "cards");
        out.push_str(
            "<p class=\"small\">Closed loop: what a server does at most. The latencies are those of the round with the median \
             rate; a ratio is the median of the rounds’ own, each against the yardstick measured right before it. In the \
             bars the thin line is 1 ×, the thick one the target.</p>\n</section>\n",
        );
    }
    if let Some(facts) = table::facts(report) {
        out.push_str("<section>\n<h2>Other figures</h2>\n");
        tabulate(&mut out, &facts, "cards");
        out.push_str("</section>\n");
    }
    for sweep in &report.sweeps {
        section(&mut out, sweep);
    }
    if let Some(timelines) = table::timelines(report) {
        out.push_str("<section>\n<h2>Over time</h2>\n");
        for timeline in &report.timelines {
            let caption = "Each step is one interval. The dashed lines say what was done to the server.";
            figure(&mut out, &timeline.name, &over_time(timeline), caption);
        }
        tabulate(&mut out, &timelines, "cards");
        out.push_str("</section>\n");
    }
    notes(&mut out, &report.remarks());
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<header>\n<h1>{}</h1>\n<dl>", escaped(&report.title));
    let facts = [
        ("When", Some(report.when())),
        ("Machine", Some(report.machine.line())),
        ("Commit", report.commit.clone()),
    ];
    for (name, fact) in facts {
        let Some(fact) = fact else { continue };
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(&fact));
    }
    out.push_str("</dl>\n</header>\n");
}

fn targets(out: &mut String, report: &Report) {
    let Some(targets) = Targets::of(report) else { return };
    let _ = writeln!(out, "<section class=\"targets\">\n<h2>{}</h2>", escaped(&targets.line()));
    if !targets.missed.is_empty() || !targets.unknown.is_empty() {
        out.push_str("<ul>\n");
        for target in &targets.missed {
            item(out, "<strong>missed</strong>", target);
        }
        for target in &targets.unknown {
            item(out, "not measured", target);
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
}

fn item(out: &mut String, what: &str, target: &Target) {
    // The sign of a ratio stays with its number.
    let found = escaped(&target.found).replace(" ×", "\u{a0}×");
    let wanted = escaped(&target.wanted);
    let _ = writeln!(out, "<li>{what} {found}; <span class=\"whole\">wanted {wanted}</span></li>");
}

fn notes(out: &mut String, remarks: &[String]) {
    if remarks.is_empty() {
        return;
    }
    out.push_str("<section>\n<h2>Notes</h2>\n<ul>\n");
    for remark in remarks {
        let _ = writeln!(out, "<li>{}</li>", escaped(remark));
    }
    out.push_str("</ul>\n</section>\n");
}

fn section(out: &mut String, sweep: &Sweep) {
    let _ = writeln!(out, "<section>\n<h2>{}</h2>", escaped(&sweep.name));
    let doubted = sweep.points.iter().any(|point| point.doubted().is_some());
    let doubt =
        |how: &str| if doubted { format!(" {how}: doubtful, the table says why.") } else { String::new() };
    let caption = format!(
        "Latency counts from when a request was due. Dashed: p99 uncorrected, from when it was sent.{}",
        doubt("Hollow")
    );
    figure(out, "p50, p99 and p99.9", &against_axis(sweep), &caption);
    if sweep.points.iter().any(|point| !point.curve.is_empty()) {
        let caption = format!(
            "One curve for each point ({}): so many per cent of the requests were answered within that time.{}",
            sweep.axis,
            doubt("Dashed")
        );
        figure(out, "Every percentile", &percentiles(sweep), &caption);
    }
    tabulate(out, &table::sweep(sweep), "sheet");
    if table::has_windows(sweep) {
        let _ = writeln!(out, "<p class=\"small\">{}</p>", escaped(table::UNDISTURBED));
    }
    out.push_str("</section>\n");
}

fn figure(out: &mut String, name: &str, plot: &Plot, caption: &str) {
    let _ = writeln!(
        out,
        "<figure>\n<p class=\"name\">{}</p>\n{}{}<figcaption>{}</figcaption>\n</figure>",
        escaped(name),
        plot.svg(WIDE),
        plot.svg(NARROW),
        escaped(caption)
    );
}

/// The percentiles of a sweep's points against its axis. p90 is left to the other plot: it lies close to p50.
fn against_axis(sweep: &Sweep) -> Plot {
    let latency = |value: fn(&Summary) -> f64| move |point: &Point| Some(value(&point.report.latency));
    let curves = vec![
        along(sweep, "p50", "c0", latency(|latency| latency.p50_us)),
        along(sweep, "p99", "c1", latency(|latency| latency.p99_us)),
        along(sweep, "p99.9", "c2", latency(|latency| latency.p999_us)),
        along(sweep, "uncorrected", "c1 dashed", |point| Some(point.report.service?.p99_us)),
    ];
    let ys: Vec<f64> = curves.iter().flat_map(|curve| &curve.dots).map(|dot| dot.y).collect();
    Plot {
        title: format!("{}: percentiles", sweep.name),
        x: Axis::fitting(&sweep.axis, sweep.points.iter().map(|point| point.at).collect::<Vec<_>>()),
        y: Axis::log(LATENCY, ys),
        curves,
        marks: Vec::new(),
    }
}

fn along(sweep: &Sweep, name: &str, class: &str, value: impl Fn(&Point) -> Option<f64>) -> Curve {
    let dot = |point: &Point| Some(Dot { x: point.at, y: value(point)?, hollow: point.doubted().is_some() });
    let mut dots: Vec<Dot> = sweep.points.iter().filter_map(dot).collect();
    dots.sort_by(|a, b| a.x.total_cmp(&b.x));
    Curve { name: name.into(), class: class.into(), dotted: true, dots }
}

/// The percentile curve of each point of a sweep.
fn percentiles(sweep: &Sweep) -> Plot {
    let mut points: Vec<&Point> = sweep.points.iter().filter(|point| !point.curve.is_empty()).collect();
    points.sort_by(|a, b| a.at.total_cmp(&b.at));
    let steps = points.len().saturating_sub(1).max(1);
    let curve = |(i, point): (usize, &&Point)| {
        let doubt = if point.doubted().is_some() { " dashed" } else { "" };
        Curve {
            name: super::figures::place(point.at),
            class: format!("r{}{doubt}", i * (RAMP - 1) / steps),
            dotted: false,
            dots: resolved(point).map(|at| Dot { x: at.quantile, y: at.us, hollow: false }).collect(),
        }
    };
    let all = || points.iter().flat_map(|point| resolved(point));
    Plot {
        title: format!("{}: all percentiles", sweep.name),
        x: Axis::percentiles("percentile of the requests", all().map(|at| at.quantile)),
        y: Axis::log(LATENCY, all().map(|at| at.us)),
        curves: points.iter().enumerate().map(curve).collect(),
        marks: Vec::new(),
    }
}

/// The part of a percentile curve that has requests above it. Beyond there is only the greatest value of all, over and
/// over, which looks as if latency rose no further.
fn resolved(point: &Point) -> impl Iterator<Item = &Quantile> {
    let requests = point.report.latency.count as f64;
    point.curve.iter().filter(move |at| (1.0 - at.quantile) * requests >= 1.0 - 1e-6)
}

/// The percentiles of a timeline's intervals, and what was done meanwhile.
fn over_time(timeline: &Timeline) -> Plot {
    let curve = |name: &str, class: &str, value: fn(&Interval) -> f64| {
        // A step as long as the interval: what happened in it is not known more closely.
        let step = |(i, interval): (usize, &Interval)| {
            let y = value(interval);
            [interval.from_s, timeline.begin(i + 1)].map(|x| Dot { x, y, hollow: false })
        };
        let dots = timeline.intervals.iter().enumerate().flat_map(step).collect();
        Curve { name: name.into(), class: class.into(), dotted: false, dots }
    };
    let curves = vec![
        curve("p50", "c0", |interval| interval.p50_us),
        curve("p99", "c1", |interval| interval.p99_us),
        curve("max", "c2", |interval| interval.max_us),
    ];
    let times = (0..=timeline.intervals.len()).map(|i| timeline.begin(i));
    let ys: Vec<f64> = curves.iter().flat_map(|curve| &curve.dots).map(|dot| dot.y).collect();
    let mut marks: Vec<_> = timeline.marks.iter().map(|mark| (mark.at_s, mark.label.clone())).collect();
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    Plot {
        title: timeline.name.clone(),
        x: Axis::linear("time, s", times.chain(marks.iter().map(|mark| mark.0))),
        y: Axis::log(LATENCY, ys),
        curves,
        marks,
    }
}

/// A table; `class` says whether a narrow screen shows its rows as cards or lets it be moved sideways.
fn tabulate(out: &mut String, table: &Table, class: &str) {
    // Room for the longest bar: ratios above 1 are part of the picture.
    let bars = table.rows.iter().flatten().filter_map(|cell| cell.bar);
    let scale = bars.fold(1.0, |scale: f64, (ratio, least)| scale.max(ratio).max(least.unwrap_or(0.0)));
    let _ = write!(out, "<div class=\"{class}\">\n<table>\n<thead><tr>");
    for heading in &table.head {
        let _ = write!(out, "<th{}>{}</th>", number(heading), escaped(&heading.name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (heading, cell) in table.head.iter().zip(row) {
            let _ = write!(
                out,
                "<td{} data-name=\"{}\">{}</td>",
                number(heading),
                escaped(&heading.name),
                shown(cell, scale)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

fn number(heading: &Heading) -> &'static str {
    if heading.number { " class=\"number\"" } else { "" }
}

fn shown(cell: &Cell, scale: f64) -> String {
    let text = escaped(&cell.text);
    let text = match cell.look {
        Look::Plain => text,
        Look::Met => format!("<span class=\"met\">{text}</span>"),
        Look::Strong => format!("<strong>{text}</strong>"),
    };
    let Some((ratio, least)) = cell.bar else { return text };
    let share = |value: f64| (value / scale * 100.0).clamp(0.0, 100.0);
    let class = if least.is_some_and(|least| ratio < least) { "bar short" } else { "bar" };
    let mut bar = format!(
        "<span class=\"{class}\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i><u style=\"left:{:.1}%\"></u>",
        share(ratio),
        share(1.0)
    );
    if let Some(least) = least {
        let _ = write!(bar, "<b style=\"left:{:.1}%\"></b>", share(least));
    }
    format!("{text}{bar}</span>")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, fact, paired};
    use super::*;

    /// Fails unless every tag is closed in its turn: with that and escaped text the page is well-formed.
    fn balanced(page: &str) {
        const EMPTY: [&str; 3] = ["meta", "!DOCTYPE", "br"];
        let mut open: Vec<&str> = Vec::new();
        let body = page.replace(STYLE, "");
        for piece in body.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "a bare > after {tag}");
            assert!(tag.matches('"').count() % 2 == 0, "an attribute does not end in {tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag} closes something else");
            } else if !tag.ends_with('/') && !EMPTY.contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "not closed: {open:?}");
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        let report = fixture::sample();
        let page = page(&report);
        balanced(&page);
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "NaN", "inf "] {
            assert!(!page.contains(outside), "{outside}");
        }
        let names = report.lines.iter().map(|line| &line.name);
        let names = names.chain(report.sweeps.iter().flat_map(|sweep| [&sweep.name, &sweep.axis]));
        let names = names.chain(report.timelines.iter().map(|timeline| &timeline.name));
        let names = names.chain(report.facts.iter().flat_map(|fact| [&fact.name, &fact.unit]));
        let marks = report.timelines.iter().flat_map(|timeline| &timeline.marks).map(|mark| &mark.label);
        for name in names.chain(marks).chain(&report.notes).chain(&report.commit) {
            assert!(page.contains(&escaped(name)), "{name}");
        }
        // Three sweeps with two plots each and one timeline, all wide and narrow.
        assert_eq!(page.matches("<svg").count(), 14);
    }

    #[test]
    fn a_percentile_curve_ends_with_its_requests() {
        let mut sweep = fixture::sample().sweeps.remove(0);
        sweep.points.truncate(1);
        sweep.points[0].report.latency.count = 100;
        let at = |quantile| Quantile { quantile, us: 10.0 };
        sweep.points[0].curve = [0.0, 0.9, 0.99, 0.995, 1.0].map(at).to_vec();
        let plot = percentiles(&sweep);
        let ends: Vec<f64> = plot.curves[0].dots.iter().map(|dot| dot.x).collect();
        assert_eq!(ends, [0.0, 0.9, 0.99]);
        assert_eq!((plot.x.at(0.99), plot.x.at(0.995)), (Some(1.0), None));
    }

    #[test]
    fn text_from_the_report_stays_text() {
        let mut report = fixture::sample();
        let evil = "<script>alert('1')</script>\" & \u{0}";
        report.title = evil.into();
        report.commit = Some(evil.into());
        report.machine.cpu = evil.into();
        report.lines[0].name = evil.into();
        report.lines[1].against = Some(evil.into());
        report.sweeps[0].name = evil.into();
        report.sweeps[0].axis = evil.into();
        report.sweeps[0].points[0].doubt = Some(evil.into());
        report.timelines[0].name = evil.into();
        report.timelines[0].marks[0].label = evil.into();
        report.notes.push(evil.into());
        report.facts = vec![fact(evil, 1.0, evil, Some((evil, false)))];
        let page = page(&report);
        balanced(&page);
        assert!(!page.contains("<script") && !page.contains("('1')") && !page.contains('\u{0}'));
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let mut report = fixture::sample();
        (report.lines, report.facts, report.timelines, report.notes) = (vec![], vec![], vec![], vec![]);
        report.sweeps.truncate(1);
        report.sweeps[0].points.clear();
        let page = page(&report);
        balanced(&page);
        for heading in ["Rates", "Other figures", "Over time", "Notes", "targets met"] {
            assert!(!page.replace(STYLE, "").contains(heading), "{heading} in {page}");
        }
    }

    #[test]
    fn verdicts_come_first_and_are_marked() {
        let mut report = fixture::sample();
        report.lines = vec![paired("get", "constant", &[(50.0, 100.0)])];
        report.lines[0].at_least = Some(0.9);
        report.facts = vec![fact("memory", 3.8, "KiB", Some(("< 16 KiB", true)))];
        let page = page(&report);
        let at = |wanted: &str| page.find(wanted).unwrap_or_else(|| panic!("no {wanted} in {page}"));
        let heading = at("<h2>1 of 2 targets met, 1 missed</h2>");
        let missed = at(
            "<li><strong>missed</strong> get: 0.50\u{a0}× of constant; <span class=\"whole\">wanted ≥ 0.90 ×</span></li>",
        );
        assert!(
            heading < missed && missed < at("<h2>Rates</h2>") && at("<h2>Rates</h2>") < at("Other figures")
        );
        at(
            "<td class=\"number\" data-name=\"target\">&lt; 16 KiB</td><td data-name=\"verdict\"><span class=\"met\">met</span></td>",
        );
    }

    #[test]
    fn a_bar_shows_ratio_one_and_target() {
        let mut line = paired("get", "constant", &[(125.0, 100.0)]);
        line.at_least = Some(1.5);
        let mut report = fixture::sample();
        report.lines = vec![line];
        let page = page(&report);
        let bar = "<span class=\"bar short\" aria-hidden=\"true\"><i style=\"width:83.3%\"></i>\
                   <u style=\"left:66.7%\"></u><b style=\"left:100.0%\"></b></span>";
        assert!(page.contains(bar), "{page}");
        assert!(page.contains("<strong>missed</strong>"));
    }
}

//! What was taken once in each run, side by side: points of sweeps, and facts.
//!
//! Nothing says how far such a sample is off, so none is judged: what differs many times over, and a target that is met
//! in one run alone, is pointed at.

use super::super::figures::{micros, place};
use super::super::markdown;
use super::super::model::{Fact, Point, Report, Sweep};
use super::super::table::{Cell, Table, UNKNOWN};
use super::{both, lacking, per_cent};

/// Places on an axis that differ by less than this share are the same.
const SAME_PLACE: f64 = 1e-6;
/// Shares of the last place that differ by less than this are the same: they were divided and printed.
const SAME_SHARE: f64 = 1e-3;

/// The facts that both runs have, and the names of the others.
pub(super) fn facts(before: &Report, after: &Report, factor: f64) -> String {
    let mut text = String::new();
    let mut table = Table::new(&["figure", "A:", "B:", "change:", "to look at"]);
    let pairs = both(&before.facts, &after.facts, |fact| &fact.name);
    table.rows = pairs.into_iter().map(|(a, b)| fact(a, b, factor)).collect();
    if !table.rows.is_empty() {
        text += &format!("\nOther figures\n{}\n", heading(factor));
        text += &markdown::of(&table);
    }
    text + &lacking("figures", &before.facts, &after.facts, |fact| &fact.name)
}

fn heading(factor: f64) -> String {
    format!("One sample each: only what differs {factor} times or more is named.\n")
}

fn fact(a: &Fact, b: &Fact, factor: f64) -> Vec<Cell> {
    let (change, mut flags) = if a.unit == b.unit {
        (per_cent(a.value, b.value), Vec::from_iter(flag("", a.value, b.value, factor)))
    } else {
        (UNKNOWN.into(), vec!["not in the same unit".to_owned()])
    };
    match (a.met(), b.met()) {
        (Some(true), Some(false)) => flags.push("target no longer met".into()),
        (Some(false), Some(true)) => flags.push("target now met".into()),
        _ => {}
    }
    vec![
        a.name.as_str().into(),
        a.measured().into(),
        b.measured().into(),
        change.into(),
        to_look_at(&flags).unwrap_or_default(),
    ]
}

/// The points of two sweeps of the same name, as far as they have their like.
pub(super) fn sweeps(before: &Sweep, after: &Sweep, factor: f64) -> String {
    let mut text = format!("\n{}\n", before.name);
    if before.axis != after.axis {
        return text + &format!("Not compared: A is along “{}” and B along “{}”.\n", before.axis, after.axis);
    }
    let mut table =
        Table::new(&[&format!("{}:", before.axis), "p50 µs A → B:", "p99 µs A → B:", "to look at"]);
    table.rows = pairs(before, after).into_iter().map(|(a, b)| point(a, b, factor)).collect();
    let alone = (before.points.len() + after.points.len()).saturating_sub(2 * table.rows.len());
    if table.rows.is_empty() {
        return text + "Not compared: no place on the axis is in both.\n";
    }
    text += &heading(factor);
    text.push('\n');
    text += &markdown::of(&table);
    if alone > 0 {
        text += &format!("\nPoints without their like in the other run: {alone}.\n");
    }
    text
}

/// Points at the same place; or at the same share of the last place, all of them, when each run set its places by what
/// it had found it can reach.
fn pairs<'a>(before: &'a Sweep, after: &'a Sweep) -> Vec<(&'a Point, &'a Point)> {
    let last = |sweep: &Sweep| sweep.points.iter().map(|point| point.at).fold(0.0, f64::max);
    let ends = (last(before), last(after));
    let share = |(a, b): (&Point, &Point)| (a.at / ends.0 - b.at / ends.1).abs() <= SAME_SHARE;
    if before.points.len() == after.points.len() && before.points.iter().zip(&after.points).all(share) {
        return before.points.iter().zip(&after.points).collect();
    }
    let like = |a: &Point| after.points.iter().find(|b| is_same_place(a, b));
    before.points.iter().filter_map(|a| Some((a, like(a)?))).collect()
}

fn is_same_place(a: &Point, b: &Point) -> bool {
    (a.at - b.at).abs() <= SAME_PLACE * a.at.abs().max(b.at.abs())
}

fn point(a: &Point, b: &Point, factor: f64) -> Vec<Cell> {
    let latencies = [
        ("p50 ", a.report.latency.p50_us, b.report.latency.p50_us),
        ("p99 ", a.report.latency.p99_us, b.report.latency.p99_us),
    ];
    let flags: Vec<String> = latencies.iter().filter_map(|(name, a, b)| flag(name, *a, *b, factor)).collect();
    let remark = match a.doubted().or_else(|| b.doubted()) {
        Some(doubt) => format!("doubtful, not judged: {doubt}").into(),
        None => to_look_at(&flags).unwrap_or_else(|| "one sample: not judged".into()),
    };
    let quoted = |point: &Point, us| if point.doubted().is_some() { UNKNOWN.into() } else { micros(us) };
    let [p50, p99] =
        latencies.map(|(_, us_a, us_b)| Cell::from(format!("{} → {}", quoted(a, us_a), quoted(b, us_b))));
    let at = if is_same_place(a, b) { place(a.at) } else { format!("{} → {}", place(a.at), place(b.at)) };
    vec![at.into(), p50, p99, remark]
}

fn to_look_at(flags: &[String]) -> Option<Cell> {
    (!flags.is_empty()).then(|| Cell::strong(flags.join(", ")))
}

fn flag(name: &str, a: f64, b: f64, factor: f64) -> Option<String> {
    let times = b / a;
    if !times.is_finite() || times <= 0.0 {
        return None;
    }
    if times >= factor {
        Some(format!("{name}higher {times:.2} times"))
    } else if times <= 1.0 / factor {
        Some(format!("{name}lower {:.2} times", 1.0 / times))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::{self, fact as made};
    use super::*;

    fn remark(a: &Fact, b: &Fact) -> String {
        fact(a, b, 1.5).pop().expect("a remark").text
    }

    #[test]
    fn a_fact_is_pointed_at_by_size_and_by_its_target() {
        let with = |value, met| made("memory", value, "KiB", Some(("≤ 16 KiB", met)));
        assert_eq!(remark(&with(10.0, true), &with(14.0, true)), "");
        assert_eq!(remark(&with(15.9, true), &with(16.1, false)), "target no longer met");
        assert_eq!(remark(&with(40.0, false), &with(10.0, true)), "lower 4.00 times, target now met");
        let (a, b) = (made("x", 10.0, "ns", None), made("x", 10.0, "µs", None));
        let row = fact(&a, &b, 1.5);
        assert_eq!((row[3].text.as_str(), row[4].text.as_str()), ("–", "not in the same unit"));
    }

    #[test]
    fn facts_of_one_run_alone_are_named() {
        let (mut a, mut b) = (fixture::sample(), fixture::sample());
        a.facts = vec![made("both", 1.0, "ns", None), made("gone", 1.0, "ns", None)];
        b.facts = vec![made("both", 1.1, "ns", None)];
        let text = facts(&a, &b, 1.5);
        assert!(text.contains("| both | 1.00 ns | 1.10 ns | +10.0 % |  |\n"), "{text}");
        assert!(text.contains("In A alone, figures: gone."), "{text}");
        (a.facts, b.facts) = (vec![], vec![]);
        assert_eq!(facts(&a, &b, 1.5), "");
    }

    #[test]
    fn places_are_matched_by_share_where_each_run_set_its_own() {
        let a = fixture::sample().sweeps.remove(0);
        let mut b = a.clone();
        for point in &mut b.points {
            point.at *= 0.93;
        }
        let text = sweeps(&a, &b, 1.5);
        assert!(text.contains("| 10,000 → 9,300 |") && !text.contains("without their like"), "{text}");
        // Another shape: only what is at the same place is comparable.
        b.points[0].at = 40_000.0;
        let text = sweeps(&a, &b, 1.5);
        assert!(
            text.contains("| 40,000 |") && text.contains("without their like in the other run: 14."),
            "{text}"
        );
        for point in &mut b.points {
            point.at += 1.0;
        }
        assert!(sweeps(&a, &b, 1.5).contains("no place on the axis is in both"));
    }
}

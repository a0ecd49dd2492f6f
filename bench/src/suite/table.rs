//! The suite's Markdown table: what was measured, what it is compared with, and the target.
//!
//! **Not here**: measuring, and judging whether a run is worth publishing.

use std::fmt::Write as _;

use super::{Paired, SuiteReport};
use crate::apply::ApplyReport;
use crate::load::LoadReport;

/// Targets, each as stated for this product.
const CACHED_RATIO: f64 = 0.85;
const UNCACHED_RATIO: f64 = 0.6;
const RECORDS_RATE: f64 = 600_000.0;
const APPLY_RATE: f64 = 250_000.0;
const APPLY_IF_RATE: f64 = 150_000.0;
const IDLE_BYTES: f64 = 16.0 * 1024.0;
const WITHIN_10_US: f64 = 0.99;
/// A yardstick whose rounds spread wider than this share says that something else used the machine.
const SPREAD: f64 = 0.25;

/// The whole table, with what it needs to be read underneath.
pub(super) fn markdown(report: &SuiteReport) -> String {
    let mut out = String::from(
        "| line | measured | p50 / p99 / p99.9 µs | compared | target | |\n|---|---:|---:|---:|---:|---|\n",
    );
    let yardstick = median(&report.constant.yardstick);
    let name = "constant answer, body read (the yardstick)";
    row(&mut out, name, &rate(yardstick.rate), &latencies(yardstick), "", "", None);
    ratio_row(&mut out, "constant answer, body not read", &report.constant, None);
    ratio_row(&mut out, "get of 1 key, cached, 100 hot records", &report.get1_cached, Some(CACHED_RATIO));
    ratio_row(&mut out, "get of 1 key, cached, 10,000 hot records", &report.get1_spread, None);
    ratio_row(&mut out, "get of 1 key, uncached", &report.get1_uncached, Some(UNCACHED_RATIO));
    let hundred = median(&report.get100_cached);
    row(
        &mut out,
        "get of 100 keys, cached",
        &format!("{} records/s", grouped(hundred.records_rate)),
        &latencies(hundred),
        &rate(hundred.rate),
        "≥ 600,000 records/s",
        Some(hundred.records_rate >= RECORDS_RATE),
    );
    let within = report.partition_gets_within_10_us;
    row(
        &mut out,
        "partition-level gets within 10 µs, cached",
        &format!("{:.2} %", within * 100.0),
        "",
        "",
        "≥ 99 %",
        Some(within >= WITHIN_10_US),
    );
    idle_rows(&mut out, report);
    engine_rows(&mut out, &report.engine);
    foot(&mut out, report);
    out
}

fn idle_rows(out: &mut String, report: &SuiteReport) {
    let idle = &report.idle;
    row(
        out,
        &format!("{} idle connections, memory each", grouped(idle.connections as f64)),
        &format!("{:.1} KiB", idle.bytes_per_connection / 1024.0),
        "",
        "",
        "≤ 16 KiB",
        Some(idle.bytes_per_connection <= IDLE_BYTES),
    );
    for (name, latency) in
        [("10,000 gets/s without them", &idle.quiet), ("10,000 gets/s beside them", &idle.beside)]
    {
        let shown = format!("{:.0} / {:.0} / {:.0}", latency.p50_us, latency.p99_us, latency.p999_us);
        row(out, name, "", &shown, "", "", None);
    }
}

fn engine_rows(out: &mut String, engine: &ApplyReport) {
    for apply in &engine.applies {
        let target = match apply.kind.as_str() {
            "puts, one if on each" => Some(("≥ 150,000/s", APPLY_IF_RATE)),
            kind if kind.contains("if") => None,
            _ => Some(("≥ 250,000/s", APPLY_RATE)),
        };
        row(
            out,
            &format!("apply: {}", apply.kind),
            &format!("{}/s", grouped(apply.rate)),
            "",
            &format!("{} per CPU second", grouped(apply.rate_per_cpu_second)),
            target.map_or("", |(text, _)| text),
            target.map(|(_, least)| apply.rate >= least),
        );
    }
    for get in &engine.gets {
        let shown =
            format!("{:.1} / {:.1} / {:.1}", get.latency.p50_us, get.latency.p99_us, get.latency.p999_us);
        row(
            out,
            &format!("engine get, {}", get.kind),
            &format!("{:.0} ns", get.mean_ns),
            &shown,
            "",
            "",
            None,
        );
    }
}

fn foot(out: &mut String, report: &SuiteReport) {
    let pairs = [&report.constant, &report.get1_cached, &report.get1_spread, &report.get1_uncached];
    let mut rates: Vec<f64> = pairs.iter().flat_map(|pair| &pair.yardstick).map(|round| round.rate).collect();
    rates.sort_by(f64::total_cmp);
    let (least, most, middle) = (rates[0], rates[rates.len() - 1], rates[rates.len() / 2]);
    let _ = writeln!(
        out,
        "\n{}; 64 connections, closed loop, {} bytes of data a record. A ratio is the median of {} rounds, each \
         against the yardstick measured right before it.",
        report.machine,
        report.get1_cached.measured[0].value_bytes,
        report.get1_cached.measured.len()
    );
    let _ = writeln!(out, "The yardstick's rounds lay between {} and {}.", rate(least), rate(most));
    if (most - least) / middle > SPREAD {
        let _ = writeln!(
            out,
            "So wide a spread means that something else used the machine: believe the ratios, by CPU time above all, and \
             not the rates."
        );
    }
    let measured = pairs.iter().flat_map(|pair| pair.yardstick.iter().chain(&pair.measured));
    for doubt in measured.chain(&report.get100_cached).filter_map(LoadReport::doubt) {
        let _ = writeln!(out, "Doubtful: {doubt}.");
    }
    if report.quick {
        let _ = writeln!(out, "A quick run: good for seeing that everything works, not for figures.");
    }
}

/// The ratio by the clock is what counts. The one by CPU time stands beside it: on a machine that others use as well
/// it is the steadier of the two.
fn ratio_row(out: &mut String, name: &str, pairs: &Paired, least: Option<f64>) {
    let shown = median(&pairs.measured);
    let by_clock = median_ratio(pairs, |report| Some(report.rate)).unwrap_or(0.0);
    let by_cpu = median_ratio(pairs, LoadReport::rate_per_server_cpu);
    let by_cpu = by_cpu.map_or(String::new(), |ratio| format!(" ({ratio:.2} × by CPU time)"));
    let target = least.map_or(String::new(), |least| format!("≥ {least:.2} ×"));
    let compared = format!("{by_clock:.2} ×{by_cpu}");
    let met = least.map(|least| by_clock >= least);
    row(out, name, &rate(shown.rate), &latencies(shown), &compared, &target, met);
}

/// The middle one of the rounds' ratios.
fn median_ratio(pairs: &Paired, value: impl Fn(&LoadReport) -> Option<f64>) -> Option<f64> {
    let rounds = pairs.measured.iter().zip(&pairs.yardstick);
    let mut ratios: Vec<f64> =
        rounds.filter_map(|(measured, yardstick)| Some(value(measured)? / value(yardstick)?)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

fn row(
    out: &mut String,
    name: &str,
    measured: &str,
    latency: &str,
    compared: &str,
    target: &str,
    met: Option<bool>,
) {
    let verdict = match met {
        None => "",
        Some(true) => "met",
        Some(false) => "**missed**",
    };
    let _ = writeln!(out, "| {name} | {measured} | {latency} | {compared} | {target} | {verdict} |");
}

fn median(reports: &[LoadReport]) -> &LoadReport {
    let mut sorted: Vec<&LoadReport> = reports.iter().collect();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    sorted[sorted.len() / 2]
}

fn latencies(report: &LoadReport) -> String {
    let latency = report.latency;
    format!("{:.0} / {:.0} / {:.0}", latency.p50_us, latency.p99_us, latency.p999_us)
}

fn rate(rate: f64) -> String {
    format!("{}/s", grouped(rate))
}

/// `1234567.8` → `1,234,568`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{ApplyRate, GetLatency};
    use crate::idle::IdleReport;
    use crate::summary::Summary;

    fn load(rate: f64) -> LoadReport {
        LoadReport {
            target: "http://127.0.0.1:1".into(),
            workload: "Get(1)".into(),
            connections: 64,
            records: 1000,
            asked_records: 1000,
            value_bytes: 300,
            answer_bytes: 420,
            seconds: 1.0,
            requests: rate as u64,
            rate,
            records_rate: rate * 100.0,
            offered_rate: None,
            unsent: 0,
            latency: Summary::default(),
            service: None,
            delay: None,
            generator_cpu: 0.5,
            server_cpu: Some(1.0),
        }
    }

    #[test]
    fn names_ratios_targets_and_misses() {
        let apply = |kind: &str, rate| ApplyRate {
            kind: kind.into(),
            mutations: 1,
            rate,
            rate_per_cpu_second: rate,
            waiting: 0.0,
        };
        let report = SuiteReport {
            quick: true,
            machine: "2 × CPU".into(),
            constant: Paired { yardstick: vec![load(100_000.0)], measured: vec![load(110_000.0)] },
            get1_cached: Paired {
                yardstick: vec![load(100_000.0), load(10.0), load(50_000.0)],
                measured: vec![load(90_000.0), load(9.5), load(44_000.0)],
            },
            get1_spread: Paired { yardstick: vec![load(100_000.0)], measured: vec![load(80_000.0)] },
            get1_uncached: Paired { yardstick: vec![load(100_000.0)], measured: vec![load(50_000.0)] },
            get100_cached: vec![load(7_000.0)],
            partition_gets_within_10_us: 0.995,
            idle: IdleReport {
                connections: 10_000,
                resident_before: 0,
                resident_after: 0,
                bytes_per_connection: 20_000.0,
                quiet: Summary::default(),
                beside: Summary::default(),
            },
            engine: ApplyReport {
                applies: vec![apply("puts, new keys", 300_000.0), apply("puts, one if on each", 100_000.0)],
                gets: vec![GetLatency { kind: "cached".into(), mean_ns: 300.0, latency: Summary::default() }],
            },
        };
        let table = markdown(&report);
        assert!(
            table.contains("| get of 1 key, cached, 100 hot records | 44,000/s | 0 / 0 / 0 | 0.90 × (0.90 × by CPU time) | ≥ 0.85 × | met |"),
            "{table}"
        );
        assert!(table.contains("| 0.50 × (0.50 × by CPU time) | ≥ 0.60 × | **missed** |"), "{table}");
        assert!(table.contains("700,000 records/s"), "{table}");
        assert!(table.contains("19.5 KiB |  |  | ≤ 16 KiB | **missed** |"), "{table}");
        assert!(
            table.contains("| ≥ 250,000/s | met |") && table.contains("| ≥ 150,000/s | **missed** |"),
            "{table}"
        );
        assert!(table.contains("between 10/s and 100,000/s"), "{table}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([grouped(7.0), grouped(1234.4), grouped(1_234_567.8)], ["7", "1,234", "1,234,568"]);
    }
}

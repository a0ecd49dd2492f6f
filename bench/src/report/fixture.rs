//! A report as a run might leave it, for the tests and for looking at what `html` draws:
//! `REPORT_SAMPLE=/tmp/sample cargo test -p firescroll-bench report::tests::writes`.

use serde_json::json;

use super::model::{Fact, Interval, Line, Machine, Mark, Point, Quantile, Report, Round, Sweep, Timeline};
use crate::load::{LoadReport, Undisturbed};
use crate::summary::Summary;

/// A closed loop's report, from JSON so that a field with a default does not concern the tests.
pub(crate) fn load(rate: f64) -> LoadReport {
    let latency = json!({ "count": 1000, "mean_us": 60.0, "p50_us": 50.0, "p90_us": 100.0, "p99_us": 200.0,
        "p999_us": 400.0, "max_us": 900.0 });
    serde_json::from_value(json!({
        "target": "http://127.0.0.1:1", "workload": "Get(1)", "connections": 64, "records": 1000,
        "asked_records": 1000, "value_bytes": 300, "answer_bytes": 420, "seconds": 2.0, "requests": 1000,
        "rate": rate, "records_rate": rate, "offered_rate": null, "unsent": 0, "latency": latency,
        "service": null, "delay": null, "generator_cpu": 0.5, "server_cpu": 1.0,
    }))
    .expect("a load report")
}

/// A line of rounds without a yardstick.
pub(super) fn line(name: &str, rates: &[f64]) -> Line {
    let rounds = rates.iter().map(|&rate| Round { measured: load(rate), against: None });
    Line { name: name.into(), against: None, at_least: None, rounds: rounds.collect() }
}

/// A line of rounds, each `(measured, yardstick)`.
pub(super) fn paired(name: &str, against: &str, rates: &[(f64, f64)]) -> Line {
    let round =
        |&(rate, yardstick): &(f64, f64)| Round { measured: load(rate), against: Some(load(yardstick)) };
    let rounds = rates.iter().map(round).collect();
    Line { name: name.into(), against: Some(against.into()), at_least: None, rounds }
}

/// A figure; its target is what is wanted, and whether it is so.
pub(super) fn fact(name: &str, value: f64, unit: &str, target: Option<(&str, bool)>) -> Fact {
    let target = target.map(|(wanted, met)| (wanted.to_owned(), met));
    Fact { name: name.into(), value, unit: unit.into(), target }
}

/// A percentile curve: exponential above `base`, with a second, slower kind of answer in one of a thousand.
fn curve(base: f64, tail: f64) -> Vec<Quantile> {
    let places = (0..=48).map(|i| 1.0 - 10_f64.powf(-f64::from(i) / 10.0));
    let us = |quantile: f64| {
        let nines = -(1.0 - quantile).log10();
        base * (1.0 + 0.25 * nines) + tail * (nines - 2.0).max(0.0).powi(2)
    };
    let mut curve: Vec<Quantile> = places.map(|quantile| Quantile { quantile, us: us(quantile) }).collect();
    curve.push(Quantile { quantile: 1.0, us: us(0.999_99) });
    curve
}

fn summary(base: f64, tail: f64) -> Summary {
    let curve = curve(base, tail);
    let at = |quantile: f64| curve.iter().rfind(|at| at.quantile <= quantile + 1e-9).map_or(0.0, |at| at.us);
    Summary {
        count: 100_000,
        mean_us: base * 1.1,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
    }
}

/// An open loop's point whose latency rises as a queue's does when `load` (share of the capacity) nears 1.
fn point(at: f64, offered: f64, load_share: f64) -> Point {
    let over = load_share > 1.0;
    let wait = if over { 900.0 } else { 1.0 / (1.0 - load_share.min(0.97)) };
    let mut report = load(offered.min(offered / load_share));
    report.offered_rate = Some(offered);
    report.latency = summary(55.0 * wait, 30.0 * wait);
    report.service = Some(summary(55.0 * wait.min(8.0), 25.0 * wait.min(8.0)));
    report.delay = Some(summary(1.5, if over { 140.0 } else { 2.0 }));
    report.undisturbed = Some(Undisturbed {
        latency: summary(55.0 * wait, 8.0 * wait),
        service: summary(55.0 * wait.min(8.0), 8.0 * wait.min(8.0)),
        delay: summary(1.5, if over { 140.0 } else { 1.0 }),
        windows: 30,
        share: 25.0 / 30.0,
    });
    report.server_cpu = Some(load_share.min(0.99));
    let doubt = over.then(|| "the generator itself was late by 145 µs (p99)".into());
    Point { at, report, curve: curve(55.0 * wait, 30.0 * wait), doubt }
}

fn beside_writes() -> Point {
    let mut point = point(5_000.0, 46_000.0, 0.6);
    point.report.writes = Some(summary(420.0, 90.0));
    point
}

fn timeline() -> Timeline {
    let interval = |i: u32| {
        let (from_s, wave) = (f64::from(i), f64::from(i * 7 % 5));
        let extra = match i {
            20..24 => 40.0 / f64::from(i - 19),
            40 => 3.0,
            _ => 0.0,
        };
        Interval {
            from_s,
            rate: 20_000.0 - extra * 50.0,
            p50_us: 60.0 + wave + extra,
            p99_us: (180.0 + 6.0 * wave) * (1.0 + extra),
            max_us: (700.0 + 90.0 * wave) * (1.0 + extra * 1.5),
        }
    };
    let mark = |at_s, label: &str| Mark { at_s, label: label.into() };
    Timeline {
        name: "20,000 gets/s while the node is disturbed".into(),
        intervals: (0..60).map(interval).collect(),
        marks: vec![mark(20.3, "10,000 puts/s begin"), mark(24.0, "and end"), mark(40.2, "backup begins")],
    }
}

/// A run with everything in it.
pub(crate) fn sample() -> Report {
    let pairs = |ratio: f64| {
        let noise = [0.99, 1.01, 1.0, 0.97, 1.02, 1.005, 0.995];
        noise.map(|noise| (98_000.0 * ratio * noise, 98_000.0 * (2.0 - noise)))
    };
    let against = "constant answer";
    let mut lines = vec![
        line(against, &[98_211.0, 99_020.0, 97_500.0]),
        paired("get of 1 key, cached, 100 hot records", against, &pairs(0.93)),
        paired("get of 1 key, cached, 10,000 hot records", against, &pairs(0.88)),
        paired("get of 1 key, uncached", against, &pairs(0.52)),
        line("get of 100 keys, cached", &[7_212.0, 7_300.0, 7_105.0]),
    ];
    for (line, least) in lines[1..4].iter_mut().zip([0.85, 0.85, 0.6]) {
        line.at_least = Some(least);
    }
    let loads = [10_000.0, 20_000.0, 40_000.0, 60_000.0, 70_000.0, 80_000.0, 88_000.0, 100_000.0];
    let counts = [1.0, 8.0, 64.0, 512.0, 4_096.0, 10_000.0];
    Report {
        title: "FireScroll benchmarks".into(),
        commit: Some("0123abc".into()),
        started_s: 1_782_907_200,
        took_s: 2_450.0,
        machine: Machine {
            cpu: "Example CPU at 3.0 GHz".into(),
            cpus: 2,
            kernel: "Linux 6.8.0".into(),
            memory_gib: 7.8,
        },
        lines,
        facts: vec![
            fact("10,000 idle connections, memory each", 3.84, "KiB", Some(("≤ 16 KiB", true))),
            fact("partition-level gets within 10 µs, cached", 99.937, "%", Some(("≥ 99 %", true))),
            fact("p99.9 of one cached key at 70 % of the most", 1_673.2, "µs", Some(("< 1000 µs", false))),
            fact(
                "p99 of reads beside 5,000 puts/s, against the same without",
                1.31,
                "×",
                Some(("≤ 2 ×", true)),
            ),
            fact("apply: puts, new keys", 504_582.0, "/s", Some(("≥ 250,000/s", true))),
            fact("engine get, cached", 44.1, "ns", None),
        ],
        sweeps: vec![
            Sweep {
                name: "Latency against load, get of 1 key, cached".into(),
                axis: "offered load, requests/s".into(),
                points: loads.map(|at| point(at, at, at / 92_000.0)).into(),
            },
            Sweep {
                name: "Latency against connections".into(),
                axis: "connections".into(),
                points: counts.map(|at| point(at, 30_000.0, 0.3 + at.log10() / 10.0)).into(),
            },
            Sweep {
                name: "Reads at half of the most".into(),
                axis: "puts/s beside".into(),
                points: vec![point(0.0, 46_000.0, 0.5), beside_writes()],
            },
        ],
        timelines: vec![timeline()],
        notes: vec!["Load and server share one machine: the network is the loopback device.".into()],
    }
}

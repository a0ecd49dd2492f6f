//! What each step of a request costs by itself, on one thread.
//!
//! `transport` (loopback, look, hyper) → body → `parse` → `route` → `find` (record cache, or store) → `answer`; and for writes `parse` → log → `decode` →
//! `condition` → `apply`. `cargo bench --package firescroll-bench` times the steps; `scripts/instructions` counts their
//! instructions, with `--count` below under valgrind. PERF.md sets the steps beside the whole.
//!
//! **Invariants**: a step is defined once and both ways do the same; inputs are what a client sends for a record of
//! 300 bytes of data; every step is asserted to do its work before it is measured. **Not here**: throughput under load
//! (`firescroll-bench apply`, `suite`); the valgrind that counts.

mod apply;
mod condition;
mod find;
mod input;
mod meter;
mod request;
mod shard;
mod transport;

use std::process::ExitCode;

use divan::Bencher;

use meter::{Meter, Step};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GROUPS: [(&str, &[Step]); 7] = [
    ("transport", transport::STEPS),
    ("parse", request::PARSE),
    ("route", request::ROUTE),
    ("find", find::STEPS),
    ("answer", request::ANSWER),
    ("condition", condition::STEPS),
    ("apply", apply::STEPS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--count") {
        return count(&arguments[1..]);
    }
    divan::main();
    ExitCode::SUCCESS
}

/// `--count ITEMS [NAME …]`: does each step, or those with a NAME in their own, until so many items are through. Prints
/// a line for each on stdout, in the order in which they are done: name, times done, items each time.
fn count(arguments: &[String]) -> ExitCode {
    let Some(items) = arguments.first().and_then(|items| items.parse().ok()) else {
        eprintln!("usage: steps --count ITEMS [NAME …]");
        return ExitCode::from(2);
    };
    let names = &arguments[1..];
    let steps: Vec<(String, &Step)> = GROUPS
        .iter()
        .flat_map(|(group, steps)| steps.iter().map(move |step| (format!("{group}: {step}"), step)))
        .filter(|(name, _)| names.is_empty() || names.iter().any(|part| name.contains(part)))
        .collect();
    if steps.is_empty() {
        eprintln!("steps: no step has such a name");
        return ExitCode::from(2);
    }
    // What the counting itself costs, to be taken off.
    Meter::Count { name: "nothing", items }.each(1, || ());
    for (name, step) in &steps {
        step.run(Meter::Count { name, items });
    }
    ExitCode::SUCCESS
}

#[divan::bench(args = transport::STEPS)]
fn transport(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = request::PARSE)]
fn parse(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = request::ROUTE)]
fn route(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = find::STEPS)]
fn find(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = request::ANSWER)]
fn answer(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = condition::STEPS)]
fn condition(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

#[divan::bench(args = apply::STEPS)]
fn apply(bencher: Bencher<'_, '_>, step: &Step) {
    step.run(Meter::Time(bencher));
}

//! `firescroll-bench`: load over HTTP, the yardstick server, the engine without HTTP, and the suite that puts them
//! side by side.
//!
//! Each subcommand is one file with its options beside it; `suite` starts the others' pieces itself. Numbers are
//! only comparable within one run on one machine, so the suite prints ratios next to them.
//!
//! **Invariants**: every run is bounded in count and time, and fails (exit status 1) rather than print a figure when
//! an answer was wrong. **Runs on**: the CPU that `--cpu` names, so that load and server do not share one.
//!
//! **Not here**: micro-benchmarks (`benches/`), and anything that the product links.

mod answer;
mod apply;
mod calibrate;
mod client;
mod constant;
mod cpu;
mod dataset;
mod error;
mod fill;
mod idle;
mod interrupt;
mod kafka;
mod load;
mod metrics;
mod node;
mod picker;
mod process;
mod propagation;
mod protocol;
mod report;
mod request;
mod soak;
mod starter;
mod suite;
mod summary;
mod yardstick;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator, yardsticks and engine benchmarks for FireScroll.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a running node over HTTP and print rate and latencies.
    Load(load::LoadOptions),
    /// Measure answers that take a known time, and say how right the generator's latencies are.
    Calibrate(calibrate::CalibrateOptions),
    /// Serve a constant answer on the node's own HTTP listener: the yardstick for every rate.
    Constant(constant::ConstantOptions),
    /// Apply mutations and read records in-process, without HTTP or log.
    Apply(apply::ApplyOptions),
    /// Open many idle connections and report what they cost the server, and what others see of it.
    Idle(idle::IdleOptions),
    /// Send widely spaced requests that cross shards, and fail when one stalls.
    Soak(soak::SoakOptions),
    /// Start brokers and nodes on them: time puts to another node, and the catch-up of a new replica.
    Kafka(kafka::KafkaOptions),
    /// Run everything against nodes of its own and write a report: JSON, Markdown, and a page with pictures.
    Suite(suite::SuiteOptions),
    /// Make the Markdown and the HTML page of a run again, from its report.json.
    Render(report::RenderOptions),
    /// Compare the reports of two runs, line by line, and say what is faster or slower beyond the noise of the rounds.
    ///
    /// Exit status: 0 whatever was found, 1 when a file cannot be read or no line is in both, and with
    /// --fail-on-slower 3 when a line is slower.
    Compare(report::CompareOptions),
}

fn main() -> ExitCode {
    // As a node does: what is measured in this process is the node's engine and runtime. What it starts inherits it.
    firescroll_io::memory::refuse_huge_pages();
    let done = match Cli::parse().command {
        Command::Load(options) => load::command(&options),
        Command::Calibrate(options) => calibrate::command(&options),
        Command::Constant(options) => constant::command(&options),
        Command::Apply(options) => apply::command(&options),
        Command::Idle(options) => idle::command(&options),
        Command::Soak(options) => soak::command(&options),
        Command::Kafka(options) => kafka::command(&options),
        Command::Suite(options) => suite::command(&options),
        Command::Render(options) => report::render(&options),
        // What it found may be a third outcome.
        Command::Compare(options) => return finish(report::compare(&options)),
    };
    finish(done.map(|()| ExitCode::SUCCESS))
}

fn finish(done: error::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("firescroll-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The program: `firescroll serve` is a node, every other command is a client of one.
//!
//! arguments and environment → `serve`: checked configuration → logs and panic hook → `node::run`; or a client
//! command → `cli::run`. Either ends in an exit code.
//!
//! **Invariants**: a node with a wrong setting touches nothing and exits with 2. A panic on any thread of a node
//! ends the process, so that a dead core never leaves the others answering half the data.
//!
//! **Runs on**: the main thread. **Not here**: what a node does (`node`) and what clients do (`cli`).

use std::backtrace::Backtrace;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::{env, panic, thread};

use clap::{Parser, Subcommand};
use firescroll::cli::{self, ClientCommand};
use firescroll::config::{Config, RawConfig, raise_open_files};
use firescroll::node;
use firescroll_io::memory::refuse_huge_pages;
use tracing_subscriber::EnvFilter;

/// Every thread has a heap of its own: no allocator lock between cores.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for a mistake in the call.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  firescroll serve                                   a node with the embedded log, on port 8190
  DB_PATH=/data SHARDS=4 firescroll serve            settings as variables
  firescroll put example.com A '{\"ttl\":300}'         write a record
  firescroll get example.com A                       read it
  firescroll list example.com --limit 10             read all of a partition key
  firescroll delete example.com A                    delete it
  firescroll export records.ndjson                   save all records of a node
  firescroll import records.ndjson                   write them to another
  firescroll version                                 which build this is

Clients find the node by --url or FIRESCROLL_URL. Exit codes of clients: 0 done, 1 something was absent, \
2 mistake or refusal, 3 server not reachable or not able to answer.";

#[derive(Debug, Parser)]
#[command(name = "firescroll", version, about, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    #[command(after_help = "\
Every flag is also an environment variable, which is how a service is configured; a flag goes before its \
variable, and an empty value counts as unset. All wrong values are reported together before anything starts.

Example:
  PARTITIONS=64 firescroll serve --db-path /data --cache-mb 512")]
    Serve(Box<RawConfig>),
    #[command(flatten)]
    Client(ClientCommand),
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(raw) => serve(&raw),
        Command::Client(command) => cli::run(command),
        Command::Version => {
            println!("firescroll {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn serve(raw: &RawConfig) -> ExitCode {
    let config = match Config::validate(raw) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("firescroll: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = start_logs(config.debug) {
        eprintln!("firescroll: {error}");
        return ExitCode::from(USAGE);
    }
    abort_on_panic();
    refuse_huge_pages();
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "cannot raise the limit of open files; connections may be refused early");
    }
    node::run(config)
}

/// One line for each event on standard error, coloured where that is a terminal. `RUST_LOG` decides what is
/// shown; else `DEBUG` does, for this program's own events.
fn start_logs(debug: bool) -> Result<(), String> {
    let own = if debug { "info,firescroll=debug,firescroll_io=debug,firescroll_shard=debug" } else { "info" };
    let asked = env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(own)).map_err(|error| {
        format!(
            "RUST_LOG is {:?}: {error}; accepted: like info or firescroll=debug",
            asked.unwrap_or_default()
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Logs a panic like every other event, and ends the process whatever the build's panic strategy is.
fn abort_on_panic() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let backtrace = Backtrace::capture();
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!(
            thread = name,
            "{info}; the process ends, and starts again under a service manager\n{backtrace}"
        );
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// A setting is found as a variable by the very name that the documentation gives.
    #[test]
    fn every_setting_has_a_flag_and_a_variable_of_the_same_name_and_help() {
        let command = Arguments::command();
        let serve = command.find_subcommand("serve").expect("the command serve");
        let settings: Vec<_> =
            serve.get_arguments().filter(|setting| !matches!(setting.get_id().as_str(), "help")).collect();
        assert_eq!(settings.len(), 53);
        for setting in settings {
            let flag = setting.get_long().expect("a flag");
            let variable = setting.get_env().expect("a variable").to_string_lossy();
            assert_eq!(flag.to_ascii_uppercase().replace('-', "_"), variable);
            let help = setting.get_help().expect("a help text").to_string();
            assert!(help.contains("[default: ") || help.contains("must be unset"), "{variable}: {help}");
        }
    }

    #[test]
    fn a_switch_needs_no_value_and_a_number_may_be_negative() {
        let arguments =
            Arguments::try_parse_from(["firescroll", "serve", "--debug", "--topic-retention-ms", "-1"]);
        let Command::Serve(raw) = arguments.expect("good arguments").command else { panic!("not serve") };
        assert_eq!(raw.debug.as_deref(), Some("1"));
        assert_eq!(raw.topic_retention_ms.as_deref(), Some("-1"));
    }

    #[test]
    fn keys_come_in_pairs_or_more_and_conditions_before_if_stop() {
        assert!(Arguments::try_parse_from(["firescroll", "get", "a"]).is_err());
        assert!(Arguments::try_parse_from(["firescroll", "list", "a", "--if-stop"]).is_err());
        assert!(Arguments::try_parse_from(["firescroll", "import", "--connections", "0"]).is_err());
        assert!(Arguments::try_parse_from(["firescroll", "get", "a", "b", "c", "d", "--data"]).is_ok());
    }
}

//! The client half of the program: `get`, `put`, `delete`, `list`, `import` and `export` over HTTP, and `topics`, which
//! talks to Kafka.
//!
//! arguments → one file for each command → `server::Server` (blocking HTTP) → NDJSON on standard output,
//! words on standard error, an exit code for scripts: 0 done and everything found, 1 done but something was
//! absent or left out, 2 a mistake in the call or a refused request, 3 a server that cannot be reached or
//! cannot answer now, 130 interrupted.
//!
//! **Invariants**: the bytes of `Data` go through unchanged in both directions. Memory is bounded however many
//! records pass. Nothing is printed to standard output but what was asked for.
//!
//! **Runs on**: the main thread; `import` adds a thread for each connection and one that reads.
//!
//! **Not here**: the stores. A client knows the HTTP API and nothing else of a node; `topics` knows no node at all.

mod answer;
mod data;
mod delete;
mod export;
mod failure;
mod get;
mod import;
mod list;
mod progress;
mod put;
mod server;
mod stop;
mod topics;
mod write;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use failure::Failure;
use server::Server;

/// The commands that talk to a node that is already running.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Print records by their keys, one JSON object a line
    #[command(after_help = get::EXAMPLES)]
    Get(get::Get),
    /// Write one record; prints the session token of the write
    #[command(after_help = put::EXAMPLES)]
    Put(put::Put),
    /// Delete one record; prints the session token of the deletion
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::Delete),
    /// Print the records under one partition key in the order of their sort keys
    #[command(after_help = list::EXAMPLES)]
    List(list::List),
    /// Write records from a file, one JSON object a line
    #[command(after_help = import::EXAMPLES)]
    Import(import::Import),
    /// Save records to a file, one JSON object a line
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Make or check the Kafka topics of a namespace
    Topics(Box<topics::Topics>),
}

/// Where the node is and how long to wait for it: the same for every client command.
#[derive(Debug, Args)]
struct Connection {
    /// Address of the node's API
    #[arg(long, env = "FIRESCROLL_URL", value_name = "URL", default_value = "http://127.0.0.1:8190")]
    url: String,
    /// The longest wait for the node to take or give any bytes, in seconds
    #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_sec: u64,
}

impl Connection {
    fn server(&self) -> Result<Server, Failure> {
        Server::new(&self.url, std::time::Duration::from_secs(self.timeout_sec))
    }
}

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything that was asked for.
    Complete,
    /// Some of it: a record was absent, or a bad line was left out.
    Partial,
}

/// Runs one command to its end and says how it went: messages on standard error, a code for the shell.
#[must_use]
pub fn run(command: ClientCommand) -> ExitCode {
    let outcome = match command {
        ClientCommand::Get(get) => get.run(),
        ClientCommand::Put(put) => put.run(),
        ClientCommand::Delete(delete) => delete.run(),
        ClientCommand::List(list) => list.run(),
        ClientCommand::Import(import) => import.run(),
        ClientCommand::Export(export) => export.run(),
        ClientCommand::Topics(topics) => topics.run(),
    };
    match outcome {
        Ok(Outcome::Complete) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(1),
        // Whoever reads our output has seen enough, as `head` does: nothing went wrong.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("firescroll: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

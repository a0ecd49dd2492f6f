//! `firescroll delete`: one record.

use clap::Args;

use super::failure::Failure;
use super::write::Mutation;
use super::{Connection, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll delete example.com A
  firescroll delete example.com A --if 'data.ttl == `300`'

Deleting an absent record is no error.

Exit code: 0 done, 2 mistake or refusal, 3 server not reachable or not able to answer.";

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Partition key
    pk: String,
    /// Sort key
    sk: String,
    /// Delete only where this JMESPath condition holds
    #[arg(long = "if", value_name = "CONDITION")]
    condition: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Delete {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        let server = self.connection.server()?;
        let mutation =
            Mutation { pk: &self.pk, sk: &self.sk, data: None, condition: self.condition.as_deref() };
        mutation.send(&server, "/records/delete")?;
        Ok(Outcome::Complete)
    }
}

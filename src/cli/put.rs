//! `firescroll put`: one record.

use clap::Args;

use super::failure::Failure;
use super::write::Mutation;
use super::{Connection, Outcome, data};

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll put example.com A '{\"ttl\":300,\"address\":\"192.0.2.1\"}'
  firescroll put example.com A - < record.json
  firescroll put example.com A '{\"n\":2}' --if 'data.n == `1`'
  firescroll get example.com A --session \"$(firescroll put example.com A '{\"n\":3}')\"

The record is durable in the log when the command ends; nodes apply it a moment later. --session makes a \
get wait for that. A condition is judged when the record is applied, so a false one is no error here.

Exit code: 0 done, 2 mistake or refusal, 3 server not reachable or not able to answer.";

/// Arguments of `put`.
#[derive(Debug, Args)]
pub struct Put {
    /// Partition key
    pk: String,
    /// Sort key
    sk: String,
    /// The data, a JSON object; - reads it from standard input
    data: String,
    /// Apply only where this JMESPath condition holds, like data.version == `3` or data == `null`
    #[arg(long = "if", value_name = "CONDITION")]
    condition: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Put {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        let server = self.connection.server()?;
        let text = data::take(self.data)?;
        let data = data::object(&text).map_err(Failure::Usage)?;
        let mutation =
            Mutation { pk: &self.pk, sk: &self.sk, data: Some(data), condition: self.condition.as_deref() };
        mutation.send(&server, "/records/put")?;
        Ok(Outcome::Complete)
    }
}

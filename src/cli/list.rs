//! `firescroll list`: the records under one partition key.
//!
//! arguments → [`Query`] → pages of up to 1000 records, each continued after the last sort key seen → NDJSON.
//!
//! **Invariants**: each page is a consistent snapshot; the pages together are not, where records change
//! meanwhile: no record is seen twice, and none that stayed is missed.

use std::io::{BufWriter, Write};

use clap::Args;
use serde::Serialize;

use super::answer::{Record, Trouble, each_record};
use super::failure::Failure;
use super::server::Server;
use super::{Connection, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll list example.com                        all records of one partition key
  firescroll list example.com --prefix mail/ --limit 10
  firescroll list example.com --reverse --before 2024   the newest before a point, if keys are times
  firescroll list example.com --if 'data.ttl > `300`'

Exit code: 0 done, 2 mistake or refusal, 3 server not reachable or not able to answer.";

/// Records in one request.
const PAGE: u64 = 1000;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Partition key
    pk: String,
    /// Only sort keys that begin with this; a sort key equal to it is left out
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// At most so many records; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    limit: u64,
    /// Only records for which this JMESPath condition holds
    #[arg(long = "if", value_name = "CONDITION")]
    condition: Option<String>,
    /// End at the first record for which the condition does not hold
    #[arg(long, requires = "condition")]
    if_stop: bool,
    /// Only sort keys after this one
    #[arg(long, value_name = "SK")]
    after: Option<String>,
    /// Only sort keys before this one
    #[arg(long, value_name = "SK")]
    before: Option<String>,
    /// In descending order of sort keys
    #[arg(long)]
    reverse: bool,
    /// Wait for the writes of this session token, as `put` printed it
    #[arg(long, value_name = "TOKEN")]
    session: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// A listing as the API takes it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Query {
    pub(super) pk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sk_prefix: Option<String>,
    limit: u64,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    if_stop: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sk_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sk_before: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reverse: bool,
}

impl List {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        let server = self.connection.server()?;
        let query = Query {
            pk: self.pk,
            sk_prefix: self.prefix,
            limit: self.limit,
            condition: self.condition,
            if_stop: self.if_stop,
            sk_after: self.after,
            sk_before: self.before,
            reverse: self.reverse,
        };
        let mut output = BufWriter::new(std::io::stdout().lock());
        query.run(&server, self.session.as_deref(), |record| {
            writeln!(output, "{record}").map_err(Failure::Output)
        })?;
        output.flush().map_err(Failure::Output)?;
        Ok(Outcome::Complete)
    }
}

impl Query {
    /// All records under `pk`.
    pub(super) fn all(pk: String) -> Self {
        Self { pk, ..Self::default() }
    }

    /// Hands every record of the listing to `each`, as the text that the server sent, in order.
    pub(super) fn run(
        self,
        server: &Server,
        session: Option<&str>,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.pages(|page| {
            let body = serde_json::to_vec(page).expect("strings can be written as JSON");
            let answer = server.post("/records/list", &body, session)?;
            let mut last = String::new();
            let count = each_record(answer.into_body().into_reader(), |text| {
                let record: Record<'_> =
                    serde_json::from_str(text).map_err(|error| server.useless(&error))?;
                last.clear();
                last.push_str(&record.sk);
                each(text)
            });
            let count = count.map_err(|trouble| match trouble {
                Trouble::Answer(error) => server.useless(&error),
                Trouble::Own(failure) => failure,
            })?;
            Ok(Page { count, last })
        })
    }

    /// Cuts the listing into requests of at most [`PAGE`] records. `fetch` makes one of them.
    fn pages(mut self, mut fetch: impl FnMut(&Self) -> Result<Page, Failure>) -> Result<(), Failure> {
        let mut left = if self.limit == 0 { u64::MAX } else { self.limit };
        while left > 0 {
            self.limit = left.min(PAGE);
            let page = fetch(&self)?;
            // A short page is the last: the listing ended, or `if_stop` ended it.
            if page.count < self.limit {
                return Ok(());
            }
            left = left.saturating_sub(page.count);
            let bound = if self.reverse { &mut self.sk_before } else { &mut self.sk_after };
            *bound = Some(page.last);
        }
        Ok(())
    }
}

/// What a request brought.
#[derive(Debug)]
struct Page {
    count: u64,
    /// The last sort key in it; empty when the page is.
    last: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's part: sort keys 0000, 0001, … below `end`; answers as the API promises and keeps what it
    /// was asked.
    fn listing(query: Query, end: u64) -> (Vec<String>, Vec<u64>) {
        let mut seen = Vec::new();
        let mut limits = Vec::new();
        query
            .pages(|page| {
                limits.push(page.limit);
                let keys = (0..end).map(|key| format!("{key:04}"));
                let within = |sk: &String| {
                    page.sk_after.as_ref().is_none_or(|after| sk > after)
                        && page.sk_before.as_ref().is_none_or(|before| sk < before)
                };
                let mut matching: Vec<String> = keys.filter(within).collect();
                if page.reverse {
                    matching.reverse();
                }
                matching.truncate(usize::try_from(page.limit).expect("a page is small"));
                seen.extend(matching.iter().cloned());
                let last = matching.last().cloned().unwrap_or_default();
                Ok(Page { count: matching.len() as u64, last })
            })
            .expect("nothing fails here");
        (seen, limits)
    }

    #[test]
    fn pages_join_without_gap_or_repetition() {
        let (seen, limits) = listing(Query::all("p".to_owned()), 2500);
        assert_eq!(seen, (0..2500).map(|key| format!("{key:04}")).collect::<Vec<_>>());
        assert_eq!(limits, [1000, 1000, 1000]);
    }

    #[test]
    fn a_full_last_page_is_followed_by_an_empty_one() {
        let (seen, limits) = listing(Query::all("p".to_owned()), 1000);
        assert_eq!((seen.len(), limits.len()), (1000, 2));
        let (seen, limits) = listing(Query::all("p".to_owned()), 0);
        assert_eq!((seen.len(), limits.len()), (0, 1));
    }

    #[test]
    fn a_limit_spans_pages_and_is_kept() {
        let query = Query { limit: 1001, ..Query::all("p".to_owned()) };
        let (seen, limits) = listing(query, 5000);
        assert_eq!(seen.len(), 1001);
        assert_eq!(limits, [1000, 1]);
    }

    #[test]
    fn reverse_goes_on_before_the_last_seen_and_keeps_the_other_bound() {
        let query = Query {
            reverse: true,
            sk_after: Some("0009".to_owned()),
            sk_before: Some("2000".to_owned()),
            ..Query::all("p".to_owned())
        };
        let (seen, _) = listing(query, 3000);
        assert_eq!(seen, (10..2000).rev().map(|key| format!("{key:04}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_query_spells_only_what_was_asked() {
        let text = serde_json::to_string(&Query::all("p".to_owned())).expect("JSON");
        assert_eq!(text, r#"{"pk":"p","limit":0}"#);
    }
}

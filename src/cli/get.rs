//! `firescroll get`: records by their keys.

use std::io::{BufWriter, Write};

use clap::Args;
use serde::Serialize;

use super::answer::{Record, Trouble, each_record};
use super::failure::Failure;
use super::{Connection, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  firescroll get example.com A                 one record, with its times
  firescroll get --data example.com A          its data alone
  firescroll get example.com A example.com MX  two records, in this order

Exit code: 0 all found, 1 some absent, 2 mistake or refusal, 3 server not reachable or not able to answer.";

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Partition key and sort key of each record
    #[arg(value_names = ["PK", "SK"], num_args = 2.., required = true)]
    keys: Vec<String>,
    /// Print the data of each record and nothing else of it
    #[arg(long)]
    data: bool,
    /// Wait for the writes of this session token, as `put` printed it
    #[arg(long, value_name = "TOKEN")]
    session: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Request<'a> {
    records: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    pk: &'a str,
    sk: &'a str,
}

impl Get {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let (pairs, rest) = self.keys.as_chunks::<2>();
        if let [lonely] = rest {
            return Err(Failure::Usage(format!(
                "{lonely:?} has no sort key; accepted: PK SK, once for each record"
            )));
        }
        let server = self.connection.server()?;
        let records = pairs.iter().map(|[pk, sk]| Key { pk, sk }).collect();
        let body = serde_json::to_vec(&Request { records }).expect("strings can be written as JSON");
        let answer = server.post("/records/get", &body, self.session.as_deref())?;

        let mut absent = Absent::of(pairs);
        let mut output = BufWriter::new(std::io::stdout().lock());
        let read = each_record(answer.into_body().into_reader(), |text| {
            let record: Record<'_> = serde_json::from_str(text).map_err(|error| server.useless(&error))?;
            if !absent.found(&record.pk, &record.sk) {
                return Err(server.useless("it holds a record that was not asked for, or out of order"));
            }
            let line = if self.data { record.data.get() } else { text };
            writeln!(output, "{line}").map_err(Failure::Output)
        });
        read.map_err(|trouble| match trouble {
            Trouble::Answer(error) => server.useless(&error),
            Trouble::Own(failure) => failure,
        })?;
        output.flush().map_err(Failure::Output)?;
        let absent = absent.finish();
        for [pk, sk] in &absent {
            eprintln!("absent: {pk} {sk}");
        }
        Ok(if absent.is_empty() { Outcome::Complete } else { Outcome::Partial })
    }
}

/// Tells which keys have no record in an answer that keeps the order of the question.
struct Absent<'a> {
    rest: std::slice::Iter<'a, [String; 2]>,
    absent: Vec<&'a [String; 2]>,
}

impl<'a> Absent<'a> {
    fn of(asked: &'a [[String; 2]]) -> Self {
        Self { rest: asked.iter(), absent: Vec::new() }
    }

    /// The answer goes on with this record: keys before it are absent. False when nobody asked for it here.
    fn found(&mut self, pk: &str, sk: &str) -> bool {
        for key in self.rest.by_ref() {
            if key[0] == pk && key[1] == sk {
                return true;
            }
            self.absent.push(key);
        }
        false
    }

    /// The answer has ended: the keys that are absent, in the order of the question.
    fn finish(mut self) -> Vec<&'a [String; 2]> {
        self.absent.extend(self.rest);
        self.absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<[String; 2]> {
        text.split(' ').map(|sk| ["p".to_owned(), sk.to_owned()]).collect()
    }

    /// The sort keys that are absent from the answer; `None` when it does not fit the question.
    fn absent(asked: &str, answered: &[&str]) -> Option<Vec<String>> {
        let asked = keys(asked);
        let mut absent = Absent::of(&asked);
        if !answered.iter().all(|sk| absent.found("p", sk)) {
            return None;
        }
        Some(absent.finish().into_iter().map(|key| key[1].clone()).collect())
    }

    #[test]
    fn absent_keys_are_those_without_a_record() {
        let list = |text: &str| Some(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(absent("a b c", &["a", "b", "c"]), list(""));
        assert_eq!(absent("a b c", &["b"]), list("a c"));
        assert_eq!(absent("a b c", &[]), list("a b c"));
        assert_eq!(absent("a a b", &["a", "a"]), list("b"));
    }

    #[test]
    fn an_answer_to_another_question_is_noticed() {
        assert_eq!(absent("a b", &["b", "a"]), None);
        assert_eq!(absent("a b", &["x"]), None);
        assert_eq!(absent("a", &["a", "a"]), None);
    }
}

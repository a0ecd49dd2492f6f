//! The `if` of a mutation or a listing: JMESPath, compiled and checked once, evaluated purely.
//!
//! A condition sees the record as `pk`, `sk`, `data`, `_created_at` and `_updated_at` (Unix ms; of an absent
//! record `data` and both times are null) and must be boolean by construction. Checking (`check`) happens
//! before anything is logged, so that a mistake is the client's answer and not a silent false at apply time.
//! It also bounds what a condition can cost: text, nesting and the constructs that multiply.
//!
//! Evaluation has two ways. Comparisons of field paths, `&&`, `||`, `!` and the string functions run directly
//! on the parsed data (`direct`); everything else builds JMESPath's own values and interprets. Which one is
//! taken depends on the condition and the record alone, and both agree, so all replicas decide alike. A null
//! result is false.
//!
//! **Runs on** the shard's executor; a condition never leaves its thread.
//!
//! **Not here**: what a false condition leads to (apply, scan).

mod cached;
mod check;
mod direct;

pub use cached::Conditions;

use crate::json::JsonReader;
use crate::record::Stored;
use check::Roots;
use direct::{Direct, Outcome};
use jmespath::ast::Ast;
use jmespath::{Context, DEFAULT_RUNTIME, Rcvar, Variable};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Longest condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 1024;
/// Deepest syntax tree of a condition.
pub const MAX_CONDITION_DEPTH: usize = 32;

thread_local! {
    /// Parses `data` for direct evaluation. Conditions share it, so that its buffers stay warm.
    static READER: RefCell<JsonReader> = RefCell::new(JsonReader::new());
}

/// Why a condition is refused. Nothing is logged; the client corrects the `if`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The text is empty.
    #[error("the condition is empty; leave `if` out for none")]
    Empty,
    /// The text is too long.
    #[error("the condition takes {bytes} bytes; at most {MAX_CONDITION_BYTES} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Parentheses, brackets or operators nest too deep.
    #[error("the condition nests deeper than {MAX_CONDITION_DEPTH} levels")]
    TooDeep,
    /// JMESPath does not parse it.
    #[error("the condition is not valid JMESPath at character {at}: {what}")]
    Syntax {
        /// Position in the text.
        at: usize,
        /// What JMESPath says.
        what: String,
    },
    /// It yields something else than a boolean.
    #[error(
        "the condition must be boolean: a comparison, &&, ||, ! or a function that returns a boolean \
         (contains, starts_with, ends_with), not {what}"
    )]
    NotBoolean {
        /// What it is.
        what: &'static str,
    },
    /// A top-level name that no record has.
    #[error(
        "unknown top-level name {name:?}: a condition sees pk, sk, data, _created_at and _updated_at{hint}"
    )]
    UnknownName {
        /// The name.
        name: String,
        /// How a string is written, when one was probably meant.
        hint: String,
    },
    /// A function that conditions do not have.
    #[error("unknown function {name:?}; conditions have {functions}", functions = check::function_names())]
    UnknownFunction {
        /// The name.
        name: String,
    },
    /// A function called with the wrong number of arguments.
    #[error("{name} takes {expected} argument(s), not {found}")]
    Arity {
        /// The function.
        name: String,
        /// How many it takes.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A construct that conditions leave out, because it has no use in them or its cost has no bound.
    #[error("{what} cannot be used in a condition")]
    Unsupported {
        /// The construct.
        what: &'static str,
    },
}

/// Why a condition came to no result on a record; it then counts as false.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A function was given a value of the wrong type, say `contains` a number.
    #[error("the condition fails on this record: {what}")]
    Function {
        /// What went wrong.
        what: String,
    },
    /// The record's data is no JSON that conditions can read.
    #[error("the record's data cannot be read: {what}")]
    Data {
        /// What went wrong.
        what: String,
    },
}

/// A compiled condition.
#[derive(Debug)]
pub struct Condition {
    text: Box<str>,
    ast: Ast,
    roots: Roots,
    direct: Option<Direct>,
}

impl Condition {
    /// Compiles and checks the text of an `if`.
    ///
    /// # Errors
    /// [`ConditionError`] says what is wrong and what would be accepted.
    pub fn compile(text: &str) -> Result<Condition, ConditionError> {
        check::text(text)?;
        let ast = jmespath::parse(text).map_err(|error| ConditionError::Syntax {
            at: error.offset,
            what: error.reason.to_string().trim_start_matches("Parse error: ").to_owned(),
        })?;
        let roots = check::tree(text, &ast)?;
        let direct = Direct::compile(&ast);
        Ok(Condition { text: text.into(), ast, roots, direct })
    }

    /// The text that was compiled.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Decides on a record as it is now; `None` is an absent one.
    ///
    /// # Errors
    /// [`EvaluationError`]; the caller counts it and takes it for false.
    pub fn evaluate(&self, pk: &str, sk: &str, row: Option<&Stored<'_>>) -> Result<bool, EvaluationError> {
        if let Some(direct) = &self.direct {
            let outcome =
                READER.with_borrow_mut(|reader| self.evaluate_directly(direct, pk, sk, row, reader))?;
            if let Outcome::Decided(result) = outcome {
                return Ok(result);
            }
        }
        self.interpret(pk, sk, row)
    }

    fn evaluate_directly(
        &self,
        direct: &Direct,
        pk: &str,
        sk: &str,
        row: Option<&Stored<'_>>,
        reader: &mut JsonReader,
    ) -> Result<Outcome, EvaluationError> {
        let data = match row {
            Some(row) if self.roots.data => Some(
                reader.parse(row.data).map_err(|error| EvaluationError::Data { what: error.to_string() })?,
            ),
            _ => None,
        };
        direct.evaluate(&direct::Subject { pk, sk, data, meta: row.map(|row| row.meta) })
    }

    /// The reference: JMESPath's own interpreter on JMESPath's own values.
    pub(crate) fn interpret(
        &self,
        pk: &str,
        sk: &str,
        row: Option<&Stored<'_>>,
    ) -> Result<bool, EvaluationError> {
        let document = Rcvar::new(Variable::Object(self.document(pk, sk, row)?));
        let mut context = Context::new(&self.text, &DEFAULT_RUNTIME);
        let result = jmespath::interpret(&document, &self.ast, &mut context)
            .map_err(|error| EvaluationError::Function { what: error.reason.to_string() })?;
        Ok(matches!(*result, Variable::Bool(true)))
    }

    /// The members that the condition names, and no others: data above all is built only when asked for.
    fn document(
        &self,
        pk: &str,
        sk: &str,
        row: Option<&Stored<'_>>,
    ) -> Result<BTreeMap<String, Rcvar>, EvaluationError> {
        let mut members = BTreeMap::new();
        let mut add = |name: &str, value| members.insert(name.to_owned(), Rcvar::new(value));
        if self.roots.pk {
            add("pk", Variable::String(pk.to_owned()));
        }
        if self.roots.sk {
            add("sk", Variable::String(sk.to_owned()));
        }
        let Some(row) = row else { return Ok(members) };
        if self.roots.created {
            add("_created_at", number(row.meta.created_ms)?);
        }
        if self.roots.updated {
            add("_updated_at", number(row.meta.updated_ms)?);
        }
        if self.roots.data {
            let text = std::str::from_utf8(row.data).map_err(|error| error.to_string());
            let value = text.and_then(Variable::from_json);
            add("data", value.map_err(|what| EvaluationError::Data { what })?);
        }
        Ok(members)
    }
}

/// A whole number as JMESPath holds it.
fn number(value: i64) -> Result<Variable, EvaluationError> {
    Variable::from_serializable(value).map_err(|error| EvaluationError::Data { what: error.to_string() })
}

#[cfg(test)]
mod tests;

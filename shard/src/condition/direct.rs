//! Direct evaluation of the common conditions, without building JMESPath's values.
//!
//! Covered: comparisons of paths (`data.a.b[0]`, `pk`, `_updated_at`, …) and scalar literals, `&&`, `||`, `!`
//! of covered conditions, boolean literals, and `contains`, `starts_with`, `ends_with`. Where two compound
//! values would have to be compared the outcome is left to the interpreter.
//!
//! Semantics are JMESPath's: numbers compare as doubles by its own comparison, ordering of anything but
//! numbers is null, values of different types are unequal, and of duplicate members the last one counts.

use super::{EvaluationError, number};
use crate::json::{Json, JsonKind};
use crate::record::Meta;
use jmespath::Variable;
use jmespath::ast::{Ast, Comparator};

/// The record under decision.
pub(super) struct Subject<'a> {
    pub(super) pk: &'a str,
    pub(super) sk: &'a str,
    /// Parsed data, when the record exists and the condition names it.
    pub(super) data: Option<Json<'a>>,
    pub(super) meta: Option<Meta>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Decided(bool),
    /// The interpreter must look.
    Open,
}

/// A condition in directly evaluable form.
#[derive(Debug)]
pub(super) enum Direct {
    Constant(bool),
    Compare(Comparator, Operand, Operand),
    And(Box<Direct>, Box<Direct>),
    Or(Box<Direct>, Box<Direct>),
    Not(Box<Direct>),
    Search(Search, Operand, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Debug)]
pub(super) enum Operand {
    Null,
    Bool(bool),
    Number(Variable),
    Text(Box<str>),
    Pk,
    Sk,
    Created,
    Updated,
    Data(Vec<Step>),
}

#[derive(Debug)]
pub(super) enum Step {
    Member(Box<str>),
    Element(i32),
}

/// An operand's value on a record.
enum Found<'a> {
    Null,
    Bool(bool),
    Number(Variable),
    Text(&'a [u8]),
    Compound(Json<'a>),
}

/// Why evaluation stops short.
enum Stop {
    Open,
    Failed(EvaluationError),
}

impl Direct {
    /// The direct form, if the whole condition is covered.
    pub(super) fn compile(ast: &Ast) -> Option<Direct> {
        let boxed = |ast: &Ast| Some(Box::new(Direct::compile(ast)?));
        match ast {
            Ast::And { lhs, rhs, .. } => Some(Direct::And(boxed(lhs)?, boxed(rhs)?)),
            Ast::Or { lhs, rhs, .. } => Some(Direct::Or(boxed(lhs)?, boxed(rhs)?)),
            Ast::Not { node, .. } => Some(Direct::Not(boxed(node)?)),
            Ast::Literal { value, .. } => value.as_boolean().map(Direct::Constant),
            Ast::Comparison { comparator, lhs, rhs, .. } => {
                Some(Direct::Compare(comparator.clone(), Operand::compile(lhs)?, Operand::compile(rhs)?))
            }
            Ast::Function { name, args, .. } => {
                let search = match name.as_str() {
                    "contains" => Search::Contains,
                    "starts_with" => Search::StartsWith,
                    "ends_with" => Search::EndsWith,
                    _ => return None,
                };
                let [subject, part] = args.as_slice() else { return None };
                Some(Direct::Search(search, Operand::compile(subject)?, Operand::compile(part)?))
            }
            _ => None,
        }
    }

    /// Decides, or leaves it open.
    pub(super) fn evaluate(&self, subject: &Subject<'_>) -> Result<Outcome, EvaluationError> {
        match self.result(subject) {
            Ok(result) => Ok(Outcome::Decided(result == Some(true))),
            Err(Stop::Open) => Ok(Outcome::Open),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// True, false, or `None` for null. Depth is bounded by that of the condition.
    fn result(&self, subject: &Subject<'_>) -> Result<Option<bool>, Stop> {
        match self {
            Direct::Constant(value) => Ok(Some(*value)),
            Direct::Not(inner) => Ok(Some(inner.result(subject)? != Some(true))),
            Direct::And(left, right) => match left.result(subject)? {
                Some(true) => right.result(subject),
                falsy => Ok(falsy),
            },
            Direct::Or(left, right) => match left.result(subject)? {
                Some(true) => Ok(Some(true)),
                _ => right.result(subject),
            },
            Direct::Compare(comparator, left, right) => {
                compare(comparator, &left.find(subject)?, &right.find(subject)?)
            }
            Direct::Search(search, whole, part) => {
                search.run(&whole.find(subject)?, &part.find(subject)?).map(Some)
            }
        }
    }
}

impl Operand {
    fn compile(ast: &Ast) -> Option<Operand> {
        match ast {
            Ast::Literal { value, .. } => match &**value {
                Variable::Null => Some(Operand::Null),
                Variable::Bool(value) => Some(Operand::Bool(*value)),
                Variable::Number(_) => Some(Operand::Number((**value).clone())),
                Variable::String(text) => Some(Operand::Text(text.as_str().into())),
                _ => None,
            },
            Ast::Field { name, .. } => match name.as_str() {
                "pk" => Some(Operand::Pk),
                "sk" => Some(Operand::Sk),
                "_created_at" => Some(Operand::Created),
                "_updated_at" => Some(Operand::Updated),
                "data" => Some(Operand::Data(Vec::new())),
                _ => None,
            },
            Ast::Subexpr { lhs, rhs, .. } => {
                let Operand::Data(mut steps) = Operand::compile(lhs)? else { return None };
                walk(rhs, &mut steps)?;
                Some(Operand::Data(steps))
            }
            _ => None,
        }
    }

    fn find<'a>(&'a self, subject: &Subject<'a>) -> Result<Found<'a>, Stop> {
        let time = |ms: Option<i64>| ms.map_or(Ok(Found::Null), |ms| number(ms).map(Found::Number));
        match self {
            Operand::Null => Ok(Found::Null),
            Operand::Bool(value) => Ok(Found::Bool(*value)),
            Operand::Number(value) => Ok(Found::Number(value.clone())),
            Operand::Text(text) => Ok(Found::Text(text.as_bytes())),
            Operand::Pk => Ok(Found::Text(subject.pk.as_bytes())),
            Operand::Sk => Ok(Found::Text(subject.sk.as_bytes())),
            Operand::Created => time(subject.meta.map(|meta| meta.created_ms)).map_err(Stop::Failed),
            Operand::Updated => time(subject.meta.map(|meta| meta.updated_ms)).map_err(Stop::Failed),
            Operand::Data(steps) => {
                let mut value = subject.data;
                for step in steps {
                    value = value.and_then(|value| step.take(value));
                }
                value.map_or(Ok(Found::Null), found)
            }
        }
    }
}

/// Appends the steps of a relative path.
fn walk(ast: &Ast, steps: &mut Vec<Step>) -> Option<()> {
    match ast {
        Ast::Field { name, .. } => steps.push(Step::Member(name.as_str().into())),
        Ast::Index { idx, .. } => steps.push(Step::Element(*idx)),
        Ast::Subexpr { lhs, rhs, .. } => {
            walk(lhs, steps)?;
            walk(rhs, steps)?;
        }
        _ => return None,
    }
    Some(())
}

impl Step {
    fn take<'a>(&self, value: Json<'a>) -> Option<Json<'a>> {
        match self {
            Step::Member(name) => value.get(name),
            Step::Element(index) => {
                let mut elements = value.array()?;
                match usize::try_from(*index) {
                    Ok(index) => elements.nth(index),
                    Err(_) => {
                        let from_end = index.unsigned_abs() as usize;
                        let length = elements.clone().count();
                        elements.nth(length.checked_sub(from_end)?)
                    }
                }
            }
        }
    }
}

fn found(value: Json<'_>) -> Result<Found<'_>, Stop> {
    match value.kind() {
        JsonKind::Null => Ok(Found::Null),
        JsonKind::Bool => Ok(Found::Bool(value.as_bool() == Some(true))),
        JsonKind::String => Ok(Found::Text(value.text().unwrap_or_default())),
        JsonKind::Number => {
            let exact = match (value.as_i64(), value.as_u64()) {
                (Some(number), _) => Variable::from_serializable(number),
                (None, Some(number)) => Variable::from_serializable(number),
                (None, None) => Variable::from_serializable(value.as_f64()),
            };
            exact
                .map(Found::Number)
                .map_err(|error| Stop::Failed(EvaluationError::Data { what: error.to_string() }))
        }
        JsonKind::Array | JsonKind::Object => Ok(Found::Compound(value)),
    }
}

fn compare(comparator: &Comparator, left: &Found<'_>, right: &Found<'_>) -> Result<Option<bool>, Stop> {
    let equal = match (left, right) {
        (Found::Number(left), Found::Number(right)) => return Ok(left.compare(comparator, right)),
        (Found::Null, Found::Null) => true,
        (Found::Bool(left), Found::Bool(right)) => left == right,
        (Found::Text(left), Found::Text(right)) => left == right,
        (Found::Compound(left), Found::Compound(right)) if left.kind() == right.kind() => {
            return Err(Stop::Open);
        }
        _ => false,
    };
    Ok(match comparator {
        Comparator::Equal => Some(equal),
        Comparator::NotEqual => Some(!equal),
        _ => None,
    })
}

impl Search {
    fn run(self, whole: &Found<'_>, part: &Found<'_>) -> Result<bool, Stop> {
        match (self, whole, part) {
            (Search::Contains, Found::Text(whole), Found::Text(part)) => {
                Ok(memchr::memmem::find(whole, part).is_some())
            }
            (Search::Contains, Found::Text(_), _) => Ok(false),
            (Search::Contains, Found::Compound(list), part) if list.kind() == JsonKind::Array => {
                for element in list.array().into_iter().flatten() {
                    if compare(&Comparator::Equal, &found(element)?, part)? == Some(true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Search::StartsWith, Found::Text(whole), Found::Text(part)) => Ok(whole.starts_with(part)),
            (Search::EndsWith, Found::Text(whole), Found::Text(part)) => Ok(whole.ends_with(part)),
            // A wrong type: the interpreter words the error.
            _ => Err(Stop::Open),
        }
    }
}

//! What a condition may be: the checks before and after parsing.
//!
//! JMESPath's parser, interpreter and destructor recurse, so nesting is bounded on the bare text first. On
//! the tree the checks walk with a scope: names at root scope must be those of a record, names behind a dot,
//! a pipe or inside a filter are relative to some value and free.
//!
//! The cost of a condition is bounded by (its size) × (the record's size), because what could multiply is
//! left out: multi-selects, flattening, function references, `join`, nested `to_string`, and a list literal
//! that is filtered again for each element of another list.

use super::{ConditionError, MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH};
use jmespath::Variable;
use jmespath::ast::Ast;

/// Which of a record's members a condition names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roots {
    pub(super) pk: bool,
    pub(super) sk: bool,
    pub(super) data: bool,
    pub(super) created: bool,
    pub(super) updated: bool,
}

/// Name, least and most arguments, and the same in words.
const FUNCTIONS: [(&str, usize, usize, &str); 21] = [
    ("abs", 1, 1, "1"),
    ("avg", 1, 1, "1"),
    ("ceil", 1, 1, "1"),
    ("contains", 2, 2, "2"),
    ("ends_with", 2, 2, "2"),
    ("floor", 1, 1, "1"),
    ("keys", 1, 1, "1"),
    ("length", 1, 1, "1"),
    ("max", 1, 1, "1"),
    ("merge", 1, usize::MAX, "1 or more"),
    ("min", 1, 1, "1"),
    ("not_null", 1, usize::MAX, "1 or more"),
    ("reverse", 1, 1, "1"),
    ("sort", 1, 1, "1"),
    ("starts_with", 2, 2, "2"),
    ("sum", 1, 1, "1"),
    ("to_array", 1, 1, "1"),
    ("to_number", 1, 1, "1"),
    ("to_string", 1, 1, "1"),
    ("type", 1, 1, "1"),
    ("values", 1, 1, "1"),
];

/// The functions that conditions have, for messages.
pub(super) fn function_names() -> String {
    FUNCTIONS.map(|(name, ..)| name).join(", ")
}

fn is_boolean_function(name: &str) -> bool {
    matches!(name, "contains" | "starts_with" | "ends_with")
}

/// Slices step and end within this; JMESPath's 32-bit arithmetic overflows near its ends.
const MAX_SLICE: i32 = 1_000_000;

/// Checks the bare text, before the recursive parser sees it.
pub(super) fn text(text: &str) -> Result<(), ConditionError> {
    if text.trim().is_empty() {
        return Err(ConditionError::Empty);
    }
    if text.len() > MAX_CONDITION_BYTES {
        return Err(ConditionError::TooLong { bytes: text.len() });
    }
    let (mut nesting, mut chained) = (0usize, 0usize);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' | b'"' | b'`' => {
                while let Some(inside) = bytes.next() {
                    if inside == b'\\' {
                        bytes.next();
                    } else if inside == byte {
                        break;
                    }
                }
            }
            b'(' | b'{' => nesting += 1,
            // A chain of brackets recurses in the parser even where they do not nest.
            b'[' => (nesting, chained) = (nesting + 1, chained + 1),
            b')' | b'}' | b']' => nesting = nesting.saturating_sub(1),
            b'!' if bytes.peek() != Some(&b'=') => chained += 1,
            b'*' => chained += 1,
            // && and || do not recurse on the right; a single & does.
            b'&' if bytes.peek() == Some(&b'&') => _ = bytes.next(),
            b'&' => chained += 1,
            _ => {}
        }
        if nesting > MAX_CONDITION_DEPTH || chained > 2 * MAX_CONDITION_DEPTH {
            return Err(ConditionError::TooDeep);
        }
    }
    Ok(())
}

/// Checks the tree and says which members of a record it names.
pub(super) fn tree(text: &str, ast: &Ast) -> Result<Roots, ConditionError> {
    if depth(ast) > MAX_CONDITION_DEPTH {
        return Err(ConditionError::TooDeep);
    }
    let mut walk = Walk { text, roots: Roots::default() };
    walk.node(ast, Scope { root: true, projected: false, printed: false })?;
    boolean(ast)?;
    Ok(walk.roots)
}

fn depth(ast: &Ast) -> usize {
    1 + children(ast).into_iter().map(depth).max().unwrap_or(0)
}

fn children(ast: &Ast) -> Vec<&Ast> {
    match ast {
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => vec![lhs, rhs],
        Ast::Condition { predicate, then, .. } => vec![predicate, then],
        Ast::Expref { ast, .. } => vec![ast],
        Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => vec![node],
        Ast::Function { args, .. } => args.iter().collect(),
        Ast::MultiList { elements, .. } => elements.iter().collect(),
        Ast::MultiHash { elements, .. } => elements.iter().map(|pair| &pair.value).collect(),
        Ast::Identity { .. }
        | Ast::Field { .. }
        | Ast::Index { .. }
        | Ast::Literal { .. }
        | Ast::Slice { .. } => Vec::new(),
    }
}

/// Whether the result can be nothing but true, false or (of a comparison) null.
fn boolean(ast: &Ast) -> Result<(), ConditionError> {
    let what = match ast {
        Ast::Comparison { .. } | Ast::Not { .. } => return Ok(()),
        // && and || return one of their operands.
        Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } => {
            return boolean(lhs).and_then(|()| boolean(rhs));
        }
        Ast::Subexpr { rhs, .. } => return boolean(rhs),
        Ast::Literal { value, .. } if value.is_boolean() => return Ok(()),
        Ast::Function { name, .. } if is_boolean_function(name) => return Ok(()),
        Ast::Literal { .. } => "a literal of another type",
        Ast::Function { .. } => "a function of another type",
        Ast::Field { .. } | Ast::Identity { .. } | Ast::Index { .. } => "a value of the record",
        _ => "a list",
    };
    Err(ConditionError::NotBoolean { what })
}

/// Where in the condition a node stands.
#[derive(Clone, Copy)]
struct Scope {
    /// Names mean the record's members.
    root: bool,
    /// The node is evaluated for each element of a list.
    projected: bool,
    /// The node is inside `to_string`.
    printed: bool,
}

struct Walk<'a> {
    text: &'a str,
    roots: Roots,
}

impl Walk<'_> {
    fn node(&mut self, ast: &Ast, scope: Scope) -> Result<(), ConditionError> {
        let relative = Scope { root: false, ..scope };
        match ast {
            Ast::Field { name, offset } if scope.root => self.root(name, *offset),
            Ast::Identity { .. } | Ast::Index { .. } | Ast::Slice { .. } if scope.root => {
                Err(ConditionError::Unsupported { what: "the record as a whole (name pk, sk, data, …)" })
            }
            Ast::Field { .. } | Ast::Identity { .. } | Ast::Index { .. } | Ast::Literal { .. } => Ok(()),
            Ast::Slice { start, stop, step, .. } => slice(*start, *stop, *step),
            Ast::Subexpr { lhs, .. } if matches!(**lhs, Ast::Not { .. }) => {
                // In JMESPath ! binds closer than the dot: !data.x asks for member x of a boolean.
                Err(ConditionError::Unsupported {
                    what: "! before a path without parentheses (write !(data.x))",
                })
            }
            Ast::Subexpr { lhs, rhs, .. } => {
                refuse_repeated_list(lhs, scope)?;
                self.node(lhs, scope)?;
                self.node(rhs, relative)
            }
            Ast::Projection { lhs, rhs, .. } => {
                refuse_repeated_list(lhs, scope)?;
                self.node(lhs, scope)?;
                self.node(rhs, Scope { projected: true, ..relative })
            }
            Ast::Function { name, args, .. } => self.function(name, args, scope),
            Ast::Comparison { .. }
            | Ast::And { .. }
            | Ast::Or { .. }
            | Ast::Not { .. }
            | Ast::Condition { .. }
            | Ast::ObjectValues { .. } => {
                children(ast).into_iter().try_for_each(|child| self.node(child, scope))
            }
            Ast::MultiList { .. } => Err(ConditionError::Unsupported { what: "a multi-select list [a, b]" }),
            Ast::MultiHash { .. } => Err(ConditionError::Unsupported { what: "a multi-select hash {a: b}" }),
            Ast::Flatten { .. } => Err(ConditionError::Unsupported { what: "flattening []" }),
            Ast::Expref { .. } => Err(ConditionError::Unsupported { what: "a function reference &" }),
        }
    }

    fn root(&mut self, name: &str, offset: usize) -> Result<(), ConditionError> {
        let named = match name {
            "pk" => &mut self.roots.pk,
            "sk" => &mut self.roots.sk,
            "data" => &mut self.roots.data,
            "_created_at" => &mut self.roots.created,
            "_updated_at" => &mut self.roots.updated,
            _ => {
                let hint = if self.text.as_bytes().get(offset) == Some(&b'"') {
                    format!("; \"{name}\" in double quotes is an identifier, a string is written '{name}'")
                } else if matches!(name, "null" | "true" | "false") {
                    format!("; JSON is written in backticks, `{name}`")
                } else {
                    format!("; a string is written '{name}', a member of the data data.{name}")
                };
                return Err(ConditionError::UnknownName { name: name.to_owned(), hint });
            }
        };
        *named = true;
        Ok(())
    }

    fn function(&mut self, name: &str, args: &[Ast], scope: Scope) -> Result<(), ConditionError> {
        let known = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let Some((_, least, most, expected)) = known else {
            return Err(ConditionError::UnknownFunction { name: name.to_owned() });
        };
        if args.len() < *least || args.len() > *most {
            return Err(ConditionError::Arity { name: name.to_owned(), expected, found: args.len() });
        }
        let prints = name == "to_string";
        if prints && scope.printed {
            // Each level may double the backslashes of the one inside.
            return Err(ConditionError::Unsupported { what: "to_string inside to_string" });
        }
        let scope = Scope { printed: scope.printed || prints, ..scope };
        args.iter().try_for_each(|arg| self.node(arg, scope))
    }
}

fn slice(start: Option<i32>, stop: Option<i32>, step: i32) -> Result<(), ConditionError> {
    let within = |value: i32| (-MAX_SLICE..=MAX_SLICE).contains(&value);
    if step == 0 || !within(step) || !start.is_none_or(within) || !stop.is_none_or(within) {
        return Err(ConditionError::Unsupported { what: "a slice of step 0 or beyond 1000000" });
    }
    Ok(())
}

/// A list written into the condition may be walked once, but not once for each element of another list.
fn refuse_repeated_list(source: &Ast, scope: Scope) -> Result<(), ConditionError> {
    if scope.projected && holds_list(source) {
        return Err(ConditionError::Unsupported {
            what: "walking a list literal inside a projection or filter",
        });
    }
    Ok(())
}

fn holds_list(ast: &Ast) -> bool {
    match ast {
        Ast::Literal { value, .. } => matches!(**value, Variable::Array(_) | Variable::Object(_)),
        _ => children(ast).into_iter().any(holds_list),
    }
}

//! What is wrong with a configuration, in words an operator can act on.

use std::fmt;

use thiserror::Error;

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable; the flag follows from it.
    pub variable: &'static str,
    /// The value as it was given; `None` when it is missing or secret.
    pub value: Option<String>,
    /// What is wrong and what would be accepted.
    pub reason: String,
}

impl Problem {
    /// The flag of `firescroll serve` that sets the same value.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.variable.to_ascii_lowercase().replace('_', "-"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.variable, self.flag())?;
        if let Some(value) = &self.value {
            write!(f, " is {value:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The configuration cannot be used. The node does not start and has touched nothing; the operator corrects
/// every value that is named and starts it again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// All that is wrong, in the order of `--help`; never empty.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let noun = if problems.len() == 1 { "setting is" } else { "settings are" };
    let mut text = format!("{} {noun} wrong:", problems.len());
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_variable_flag_value_and_reason() {
        let problem = Problem {
            variable: "API_PORT",
            value: Some("abc".to_owned()),
            reason: "accepted: 1 to 65535".to_owned(),
        };
        let error = ConfigError { problems: vec![problem.clone(), problem] };
        assert_eq!(
            error.to_string(),
            "2 settings are wrong:\n  API_PORT (--api-port) is \"abc\": accepted: 1 to 65535\
             \n  API_PORT (--api-port) is \"abc\": accepted: 1 to 65535"
        );
    }
}

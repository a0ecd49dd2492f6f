//! A value that must not reach a log, an error message or a screen.
//!
//! **Not here**: wiping memory. The value is in the process's environment anyway.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A password. Its `Debug` prints a placeholder; only [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that hands it to the other side.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_text() {
        let secret: Secret = "hunter2".parse().expect("any text parses");
        assert_eq!(format!("{secret:?}"), "(secret)");
        assert_eq!(secret.expose(), "hunter2");
    }
}

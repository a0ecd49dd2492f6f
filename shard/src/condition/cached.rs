//! Compiled conditions, by their text.

use super::{Condition, ConditionError};
use quick_cache::unsync::Cache;
use std::rc::Rc;

/// Texts remembered. Clients use few distinct conditions; one that comes back later is compiled again in
/// some microseconds.
const TEXTS: usize = 1024;

/// A bounded cache of compiled conditions, refusals included.
pub struct Conditions {
    compiled: Cache<Box<str>, Result<Rc<Condition>, ConditionError>>,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions { compiled: Cache::new(TEXTS) }
    }
}

impl Conditions {
    /// An empty cache.
    pub fn new() -> Conditions {
        Conditions::default()
    }

    /// The compiled form of `text`, from the cache where it is there.
    ///
    /// # Errors
    /// [`ConditionError`], the same as compiling gives.
    pub fn get(&mut self, text: &str) -> Result<Rc<Condition>, ConditionError> {
        if let Some(known) = self.compiled.get(text) {
            return known.clone();
        }
        let compiled = Condition::compile(text).map(Rc::new);
        // A text over the limit is refused quickly enough; remembering it would make the cache unbounded.
        if text.len() <= super::MAX_CONDITION_BYTES {
            self.compiled.insert(text.into(), compiled.clone());
        }
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compiled_once() {
        let mut conditions = Conditions::new();
        let first = conditions.get("pk == 'a'").expect("compiles");
        let second = conditions.get("pk == 'a'").expect("compiles");
        assert!(Rc::ptr_eq(&first, &second));
        assert!(conditions.get("data").is_err());
        assert!(conditions.get("data").is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut conditions = Conditions::new();
        for n in 0..3 * TEXTS {
            assert!(conditions.get(&format!("pk == '{n}'")).is_ok());
        }
        assert!(conditions.compiled.len() <= TEXTS);
    }
}

//! What was wanted of a run and whether it came about, over lines and facts: what a reader asks first.
//!
//! **Invariants**: what was not measured is neither met nor missed. **Not here**: which targets there are (`suite`).

use super::model::{Fact, Line, Report};

/// All targets of a run.
#[derive(Debug, PartialEq)]
pub(super) struct Targets {
    pub(super) met: usize,
    pub(super) missed: Vec<Target>,
    pub(super) unknown: Vec<Target>,
}

/// One that is not met.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    /// Of what, and what it came to.
    pub(super) found: String,
    pub(super) wanted: String,
}

impl Targets {
    /// Nothing if the run had none.
    pub(super) fn of(report: &Report) -> Option<Self> {
        let mut all = Self { met: 0, missed: Vec::new(), unknown: Vec::new() };
        for line in &report.lines {
            let Some(wanted) = line.wanted() else { continue };
            let of = line.against.as_deref().map_or(String::new(), |name| format!(" of {name}"));
            let measured = line.ratio().map_or("nothing".into(), |ratio| format!("{ratio:.2} ×{of}"));
            all.add(line.met(), Target { found: format!("{}: {measured}", line.name), wanted });
        }
        for fact in &report.facts {
            let Some((wanted, met)) = &fact.target else { continue };
            let found = format!("{}: {}", fact.name, fact.measured());
            all.add(Some(*met), Target { found, wanted: wanted.clone() });
        }
        (all.count() > 0).then_some(all)
    }

    fn add(&mut self, met: Option<bool>, target: Target) {
        match met {
            Some(true) => self.met += 1,
            Some(false) => self.missed.push(target),
            None => self.unknown.push(target),
        }
    }

    fn count(&self) -> usize {
        self.met + self.missed.len() + self.unknown.len()
    }

    /// The heading.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{} of {} targets met", self.met, self.count());
        for (which, number) in [("missed", self.missed.len()), ("not measured", self.unknown.len())] {
            if number > 0 {
                line += &format!(", {number} {which}");
            }
        }
        line
    }
}

impl Line {
    /// The target, as text.
    pub(super) fn wanted(&self) -> Option<String> {
        self.at_least.map(|least| format!("≥ {least:.2} ×"))
    }

    /// Whether the target is met; nothing without a target or without a pair to judge by.
    pub(super) fn met(&self) -> Option<bool> {
        Some(self.ratio()? >= self.at_least?)
    }
}

impl Fact {
    /// Whether the target is met; nothing without one.
    pub(super) fn met(&self) -> Option<bool> {
        self.target.as_ref().map(|(_, met)| *met)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, fact, line, paired};
    use super::*;

    #[test]
    fn lines_and_facts_are_counted_and_the_missed_ones_named() {
        let mut report = fixture::sample();
        report.lines = vec![
            paired("one", "still", &[(9.0, 10.0)]),
            paired("two", "still", &[(5.0, 10.0)]),
            line("alone", &[1.0]),
            line("no target", &[1.0]),
        ];
        for line in &mut report.lines[..3] {
            line.at_least = Some(0.9);
        }
        report.facts = vec![
            fact("memory", 17.52, "KiB", Some(("≤ 16 KiB", false))),
            fact("share", 99.9, "%", Some(("≥ 99 %", true))),
            fact("time", 40.0, "ns", None),
        ];
        let targets = Targets::of(&report).expect("there are some");
        assert_eq!(targets.line(), "2 of 5 targets met, 2 missed, 1 not measured");
        let target =
            |found: &str, wanted: &str| Target { found: found.to_owned(), wanted: wanted.to_owned() };
        let missed = [target("two: 0.50 × of still", "≥ 0.90 ×"), target("memory: 17.5 KiB", "≤ 16 KiB")];
        assert_eq!(targets.missed, missed);
        assert_eq!(targets.unknown, [target("alone: nothing", "≥ 0.90 ×")]);
    }

    #[test]
    fn no_target_is_no_verdict() {
        let mut report = fixture::sample();
        report.lines = vec![paired("one", "still", &[(9.0, 10.0)])];
        report.facts = vec![fact("time", 40.0, "ns", None)];
        assert_eq!(Targets::of(&report), None);
    }
}

//! What a reader must know beside the figures: the notes of the run, and what the figures themselves say against
//! believing them.
//!
//! **Not here**: leaving doubtful figures out (`table`).

use super::figures::{grouped, median};
use super::model::{Line, Report};
use crate::load::LoadReport;

/// A yardstick whose rounds spread wider than this share says that something else used the machine.
const SPREAD: f64 = 0.25;

impl Report {
    /// The notes, and what the figures themselves say against believing them.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        remarks.extend(self.priority());
        remarks.extend(self.spreads());
        remarks.extend(self.lines.iter().flat_map(Line::doubts));
        remarks
    }

    /// Whether ordinary threads could delay the generator.
    fn priority(&self) -> Option<String> {
        let rounds = self.lines.iter().flat_map(|line| &line.rounds).map(|round| &round.measured);
        let points = self.sweeps.iter().flat_map(|sweep| &sweep.points).map(|point| &point.report);
        let normal = rounds.chain(points).any(|load| load.normal_priority);
        normal.then(|| "The generator ran at normal priority, and nothing watched whether the server's CPU was there: root may do better.".into())
    }

    /// How far apart the rounds of each yardstick lay.
    fn spreads(&self) -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.lines.iter().filter_map(|line| line.against.as_deref()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let spreads: Vec<(String, bool)> = names.into_iter().filter_map(|name| self.spread(name)).collect();
        let wide = spreads.iter().any(|(_, wide)| *wide);
        let mut texts: Vec<String> = spreads.into_iter().map(|(text, _)| text).collect();
        if wide {
            texts.push(
                "A spread that is called wide means that something else used the machine: believe the ratios, by CPU \
                 time above all, and not the rates."
                    .into(),
            );
        }
        texts
    }

    /// The sentence, and whether the rounds lay wide apart.
    fn spread(&self, name: &str) -> Option<(String, bool)> {
        let lines = self.lines.iter().filter(|line| line.against.as_deref() == Some(name));
        let rounds = lines.flat_map(|line| &line.rounds).filter_map(|round| round.against.as_ref());
        let rates: Vec<f64> = rounds.map(|against| against.rate).collect();
        // A single round has no spread.
        let middle = median(rates.iter().copied()).filter(|_| rates.len() > 1)?;
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let wide = (most - least) / middle > SPREAD;
        let text = format!(
            "The rounds of “{name}” lay between {}/s and {}/s beside the lines compared with it{}.",
            grouped(least),
            grouped(most),
            if wide { ", which is wide" } else { "" }
        );
        Some((text, wide))
    }
}

impl Line {
    /// Which rounds are not to be believed: of the line, and of what it is compared with.
    fn doubts(&self) -> Vec<String> {
        let measured = self.rounds.iter().map(|round| &round.measured);
        let against = self.rounds.iter().filter_map(|round| round.against.as_ref());
        let whose = self.against.as_deref().unwrap_or_default();
        [
            doubt(&format!("“{}”", self.name), measured),
            doubt(&format!("“{whose}” beside “{}”", self.name), against),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn doubt<'a>(whose: &str, rounds: impl Iterator<Item = &'a LoadReport>) -> Option<String> {
    let all: Vec<Option<String>> = rounds.map(LoadReport::doubt).collect();
    let doubted: Vec<&String> = all.iter().flatten().collect();
    let first = doubted.first()?;
    Some(format!("Doubtful: {whose}, {} of {} rounds: {first}.", doubted.len(), all.len()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, paired};

    #[test]
    fn the_yardsticks_spread_is_remarked() {
        let mut report = fixture::sample();
        report.notes = vec!["a note".into()];
        report.lines = vec![paired("get", "still", &[(9.0, 100.0), (8.0, 60.0)])];
        let remarks = report.remarks();
        assert_eq!(remarks[0], "a note");
        assert!(remarks[1].contains("“still” lay between 60/s and 100/s"), "{remarks:?}");
        assert!(remarks[2].contains("something else used the machine"), "{remarks:?}");
        report.lines = vec![paired("get", "still", &[(9.0, 100.0), (8.0, 99.0)])];
        let remarks = report.remarks();
        assert!(remarks.len() == 2 && !remarks[1].contains("wide"), "{remarks:?}");
        report.lines[0].rounds.truncate(1);
        assert_eq!(report.remarks(), ["a note"], "one round has no spread");
    }

    #[test]
    fn a_generator_without_priority_is_remarked() {
        let mut report = fixture::sample();
        let remarked = |remarks: &[String]| remarks.iter().any(|remark| remark.contains("normal priority"));
        assert!(!remarked(&report.remarks()));
        report.sweeps[0].points[0].report.normal_priority = true;
        assert!(remarked(&report.remarks()));
    }

    #[test]
    fn doubtful_rounds_are_counted() {
        let mut report = fixture::sample();
        report.notes.clear();
        report.lines = vec![paired("get", "still", &[(9.0, 10.0), (9.0, 10.0), (9.0, 10.0)])];
        for round in &mut report.lines[0].rounds[1..] {
            round.measured.generator_cpu = 0.99;
        }
        let remarks = report.remarks();
        assert!(
            remarks[1].starts_with("Doubtful: “get”, 2 of 3 rounds: the generator used 99 %"),
            "{remarks:?}"
        );
        report.lines[0].rounds[0].against.as_mut().expect("paired").generator_cpu = 0.98;
        let remarks = report.remarks();
        assert!(remarks[2].starts_with("Doubtful: “still” beside “get”, 1 of 3 rounds: "), "{remarks:?}");
    }
}

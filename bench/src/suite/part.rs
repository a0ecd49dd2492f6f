//! The parts of a run, by name, so that one of them can be measured without the others.

use clap::ValueEnum;

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// What one core does at most: reads of cached records beside the yardsticks.
    Cached,
    /// What a request waits, by load and by connections.
    Latency,
    /// What idle connections cost.
    Idle,
    /// Reads beside puts.
    Beside,
    /// Reads beside a bulk load, over a restart, beside a catch-up.
    Disturbed,
    /// Larger records, and listings.
    Sizes,
    /// The way of a put; the start after a kill.
    Puts,
    /// Reads of records that are not in the record cache.
    Uncached,
    /// What it costs that keys lie on other shards.
    Crossing,
    /// How the rate grows with shards.
    Cores,
    /// The engine without HTTP.
    Engine,
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// These, or all if there are none.
    pub(super) fn only(parts: &[Part]) -> Self {
        Self(if parts.is_empty() { Part::value_variants().to_vec() } else { parts.to_vec() })
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// Whether one of these is among them.
    pub(super) fn has_any(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.has(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_named_are_all() {
        let all = Parts::only(&[]);
        assert!(Part::value_variants().iter().all(|part| all.has(*part)));
        let one = Parts::only(&[Part::Beside]);
        assert!(one.has(Part::Beside) && !one.has(Part::Cached));
        assert!(one.has_any(&[Part::Cached, Part::Beside]) && !one.has_any(&[Part::Cached, Part::Idle]));
    }
}

//! Which record is asked for next: uniform or zipf over the first `range` records, from a seed.
//!
//! Zipf follows Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994), with skew 0.99;
//! ranks are scattered over the range, so that popular records do not sit side by side in the store.
//!
//! **Invariants**: equal seeds give equal sequences. **Not here**: keys and data (`dataset`).

use clap::ValueEnum;

use crate::dataset::mix;

const SKEW: f64 = 0.99;

/// How often each record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Each record equally often.
    Uniform,
    /// A few very often, most hardly ever (skew 0.99).
    Zipf,
}

/// A seeded source of record numbers.
#[derive(Debug, Clone)]
pub(crate) struct Picker {
    state: u64,
    range: u32,
    zipf: Option<Zipf>,
}

#[derive(Debug, Clone, Copy)]
struct Zipf {
    zeta: f64,
    eta: f64,
    alpha: f64,
    second: f64,
}

impl Picker {
    /// Picks numbers below `range`.
    pub(crate) fn new(seed: u64, range: u32, distribution: Distribution) -> Self {
        assert!(range > 0, "there is nothing to pick from");
        let zipf = (distribution == Distribution::Zipf && range > 2).then(|| Zipf::new(range));
        Self { state: seed, range, zipf }
    }

    /// The next record number.
    pub(crate) fn pick(&mut self) -> u32 {
        let random = mix(&mut self.state);
        match &self.zipf {
            // The high half of a 32 × 32 bit product maps evenly enough without a division.
            None => (((random >> 32) * u64::from(self.range)) >> 32) as u32,
            Some(zipf) => {
                let rank = zipf.rank(random, self.range);
                (mix(&mut u64::from(rank)) % u64::from(self.range)) as u32
            }
        }
    }

    /// Fills `out` with different numbers, each the next one that is free.
    pub(crate) fn pick_distinct(&mut self, out: &mut [u32]) {
        assert!(out.len() <= self.range as usize, "more keys a request than records");
        for i in 0..out.len() {
            let mut n = self.pick();
            while out[..i].contains(&n) {
                n = (n + 1) % self.range;
            }
            out[i] = n;
        }
    }
}

impl Zipf {
    fn new(range: u32) -> Self {
        let n = f64::from(range);
        let zeta: f64 = (1..=range).map(|i| f64::from(i).powf(-SKEW)).sum();
        let second = 1.0 + 0.5_f64.powf(SKEW);
        let eta = (1.0 - (2.0 / n).powf(1.0 - SKEW)) / (1.0 - second / zeta);
        Self { zeta, eta, alpha: 1.0 / (1.0 - SKEW), second }
    }

    fn rank(&self, random: u64, range: u32) -> u32 {
        let u = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < self.second {
            return 1;
        }
        let rank = f64::from(range) * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u32).min(range - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn counts(distribution: Distribution, range: u32) -> HashMap<u32, u32> {
        let mut picker = Picker::new(7, range, distribution);
        let mut counts = HashMap::new();
        for _ in 0..100_000 {
            *counts.entry(picker.pick()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn uniform_covers_the_range_evenly() {
        let counts = counts(Distribution::Uniform, 100);
        assert_eq!(counts.len(), 100);
        assert!(counts.values().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }

    #[test]
    fn zipf_has_a_head_and_a_tail() {
        let counts = counts(Distribution::Zipf, 10_000);
        let mut sorted: Vec<u32> = counts.into_values().collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        // With skew 0.99 over 10,000 the first rank gets a tenth of all.
        assert!((8_000..13_000).contains(&sorted[0]), "{}", sorted[0]);
        assert!(sorted.len() > 3_000, "{}", sorted.len());
    }

    #[test]
    fn equal_seeds_pick_alike_and_distinct_is_distinct() {
        let mut a = Picker::new(1, 1000, Distribution::Uniform);
        let mut b = Picker::new(1, 1000, Distribution::Uniform);
        assert!((0..100).all(|_| a.pick() == b.pick()));
        let mut all = [0; 50];
        Picker::new(3, 50, Distribution::Zipf).pick_distinct(&mut all);
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..50));
    }
}

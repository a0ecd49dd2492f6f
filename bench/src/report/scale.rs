//! Axes: where a value lies between the two ends of a plot, and which values are worth a tick.
//!
//! **Invariants**: the ends are finite and apart, also when there is no value or one alone. Ticks lie on 1, 2 or 5
//! times a power of ten (percentiles: on nines), between the ends.

use super::figures::place;

/// The percentiles that have a tick, and the curve's last visible place.
const NINES: [f64; 7] = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
/// From so many times the least value on, a linear axis would press the small ones together.
const WIDE: f64 = 30.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// By 1/(1 − q), as HdrHistogram's plots are.
    Percentile,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// What it is, with the unit.
    pub(super) label: String,
    kind: Kind,
    /// The ends, as `Kind` transforms them.
    low: f64,
    high: f64,
}

impl Axis {
    /// From nought, or from the least value below it.
    pub(super) fn linear(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values.into_iter()).unwrap_or((0.0, 1.0));
        Self::new(label, Kind::Linear, low.min(0.0), high)
    }

    /// From the 1, 2 or 5 below the least value to the one above the greatest; values that are not positive have no
    /// place on it.
    pub(super) fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values.into_iter().filter(|&value| value > 0.0)).unwrap_or((1.0, 10.0));
        Self::new(label, Kind::Log, round_down(low).log10(), round_up(high).log10())
    }

    /// Logarithmic if the values are positive and far apart, else linear.
    pub(super) fn fitting(label: &str, values: impl IntoIterator<Item = f64> + Clone) -> Self {
        match ends(values.clone().into_iter()) {
            Some((low, high)) if low > 0.0 && high / low > WIDE => Self::log(label, values),
            _ => Self::linear(label, values),
        }
    }

    /// From 0 % to the last of the given quantiles below 1.
    pub(super) fn percentiles(label: &str, quantiles: impl IntoIterator<Item = f64>) -> Self {
        let (_, high) = ends(quantiles.into_iter().filter(|&q| q < 1.0)).unwrap_or((0.0, 0.99));
        Self::new(label, Kind::Percentile, 0.0, Kind::Percentile.of(high).unwrap_or(2.0))
    }

    fn new(label: &str, kind: Kind, low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { label: label.into(), kind, low, high }
    }

    /// Where the value lies: 0 at the lower end, 1 at the upper. `None` for what this axis cannot show.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let share = (self.kind.of(value)? - self.low) / (self.high - self.low);
        (-1e-9..=1.0 + 1e-9).contains(&share).then_some(share.clamp(0.0, 1.0))
    }

    /// At most about `count` ticks, each a place and its label.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self.kind {
            Kind::Linear => self.linear_ticks(count),
            Kind::Log => self.log_ticks(count),
            Kind::Percentile => NINES.to_vec(),
        };
        let label = |value: f64| match self.kind {
            Kind::Percentile => format!("{} %", place_of_percent(value)),
            _ => place(value),
        };
        values.into_iter().filter_map(|value| Some((self.at(value)?, label(value)))).collect()
    }

    fn linear_ticks(&self, count: usize) -> Vec<f64> {
        let step = round_up((self.high - self.low) / count.max(1) as f64);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|&tick| tick <= self.high * (1.0 + 1e-9)).collect()
    }

    /// 1, 2 and 5 of each decade, or the decades alone, or every so manieth of them.
    fn log_ticks(&self, count: usize) -> Vec<f64> {
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let length = self.high - self.low;
        if length * 3.0 <= count as f64 {
            return decades.flat_map(|d| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(d))).collect();
        }
        let step = (length / count.max(1) as f64).ceil().max(1.0) as usize;
        decades.step_by(step).map(|d| 10_f64.powi(d)).collect()
    }
}

impl Kind {
    fn of(self, value: f64) -> Option<f64> {
        let transformed = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Percentile => -(1.0 - value).log10(),
        };
        transformed.is_finite().then_some(transformed)
    }
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |ends, value| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The next 1, 2 or 5 times a power of ten, at or above a positive value.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|&up| up >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// The same at or below.
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    [5.0, 2.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|&down| down <= value * (1.0 + 1e-9))
        .unwrap_or(decade)
}

/// `0.999` → `99.9`, without what the multiplication leaves behind.
fn place_of_percent(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, count: usize) -> Vec<String> {
        axis.ticks(count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_axes_begin_at_nought() {
        let axis = Axis::linear("x", [10_000.0, 100_000.0]);
        assert_eq!(axis.at(50_000.0), Some(0.5));
        assert_eq!(labels(&axis, 5), ["0", "20,000", "40,000", "60,000", "80,000", "100,000"]);
        assert_eq!(axis.at(f64::NAN), None);
        assert_eq!(axis.at(200_000.0), None);
    }

    #[test]
    fn log_axes_end_on_round_numbers() {
        let axis = Axis::log("y", [30.0, 0.0, 4_000.0]);
        assert_eq!((axis.at(20.0), axis.at(5_000.0)), (Some(0.0), Some(1.0)));
        assert_eq!(labels(&axis, 9), ["20", "50", "100", "200", "500", "1,000", "2,000", "5,000"]);
        assert_eq!(labels(&axis, 3), ["100", "1,000"]);
        assert_eq!(axis.at(0.0), None);
        assert_eq!(labels(&Axis::log("y", [1.0, 1e6]), 3), ["1", "100", "10,000", "1,000,000"]);
    }

    #[test]
    fn percentiles_are_spaced_by_nines() {
        let axis = Axis::percentiles("q", [0.0, 0.5, 0.9999, 1.0]);
        assert_eq!(labels(&axis, 9), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((axis.at(0.99).expect("on it") - 0.5).abs() < 1e-9);
        assert_eq!(axis.at(1.0), None);
    }

    #[test]
    fn few_values_still_make_an_axis() {
        for axis in [
            Axis::linear("x", []),
            Axis::linear("x", [0.0]),
            Axis::log("x", []),
            Axis::log("x", [-1.0]),
            Axis::log("x", [10.0]),
            Axis::percentiles("x", []),
            Axis::percentiles("x", [1.0]),
            Axis::fitting("x", [f64::INFINITY]),
        ] {
            assert!(!axis.ticks(5).is_empty(), "{axis:?}");
            assert!(axis.high > axis.low, "{axis:?}");
        }
        assert_eq!(Axis::fitting("x", [1.0, 10_000.0]).kind, Kind::Log);
        assert_eq!(Axis::fitting("x", [1.0, 10.0]).kind, Kind::Linear);
    }
}

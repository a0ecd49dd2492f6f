//! Pictures of curves as SVG: a linear or stretched axis below, a logarithmic one at the side.
//!
//! The picture scales with the page; its letters are large enough for a phone. Curves are named at their ends, so that
//! nobody has to match colours with a legend; colours are told apart by those who see few (Okabe and Ito's palette).
//!
//! **Not here**: what the curves mean (`html`).

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 96.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 58.0;
const PALETTE: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a8a"];
/// Names at the ends of curves stand at least so far apart.
const APART: f64 = 17.0;

/// A curve; its points are in the units of the axes.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) dashed: bool,
    /// Points that are not to be believed are hollow.
    pub(super) hollow: Vec<bool>,
}

/// A picture in the making.
pub(super) struct Plot {
    /// Names of both axes, with units.
    pub(super) across: String,
    pub(super) up: String,
    /// Places on the axis below that are labelled.
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) curves: Vec<Curve>,
    /// Labelled lines across the curves.
    pub(super) marks: Vec<(f64, String)>,
}

impl Plot {
    /// The picture; empty if there is nothing to show.
    pub(super) fn svg(&self) -> String {
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        let (mut first, mut last) = (f64::MAX, f64::MIN);
        for (x, y) in all() {
            (first, last) = (first.min(*x), last.max(*x));
            let y = y.max(1.0);
            (low, high) = (low.min(y), high.max(y));
        }
        if first > last {
            return String::new();
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
        let span = if last > first { last - first } else { 1.0 };
        let x = |value: f64| LEFT + (value - first) / span * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| {
            HEIGHT - BOTTOM - (value.max(1.0).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        };
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} by {}\">",
            escape(&self.up),
            escape(&self.across)
        );
        for decade in low as i32..=high as i32 {
            for step in [1.0, 2.0, 5.0] {
                let value = step * 10_f64.powi(decade);
                if value.log10() > high + 1e-9 {
                    continue;
                }
                let (at, class) = (y(value), if step > 1.0 { "faint" } else { "grid" });
                let _ = write!(
                    out,
                    "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                    WIDTH - RIGHT
                );
                if step == 1.0 || high - low < 3.0 {
                    let _ = write!(
                        out,
                        "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                        LEFT - 7.0,
                        at + 5.0,
                        super::grouped(value)
                    );
                }
            }
        }
        for (value, label) in self.ticks.iter().filter(|(value, _)| (first..=last).contains(value)) {
            let at = x(*value);
            let _ = write!(
                out,
                "<line class=\"faint\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
                HEIGHT - BOTTOM
            );
            let _ = write!(
                out,
                "<text class=\"mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - BOTTOM + 19.0,
                escape(label)
            );
        }
        let _ = write!(
            out,
            "<text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 12.0,
            escape(&self.across)
        );
        let _ = write!(out, "<text x=\"4\" y=\"{:.1}\">{}</text>", TOP - 6.0, escape(&self.up));
        for (number, (value, label)) in self.marks.iter().enumerate() {
            let (at, height) = (x(value.clamp(first, last)), TOP + 16.0 + 18.0 * number as f64);
            let _ = write!(
                out,
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
                HEIGHT - BOTTOM
            );
            let _ = write!(out, "<text x=\"{:.1}\" y=\"{height:.1}\">{}</text>", at + 5.0, escape(label));
        }
        let mut names: Vec<(f64, usize)> = Vec::new();
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = PALETTE[number % PALETTE.len()];
            let dash = if curve.dashed { " stroke-dasharray=\"6 5\"" } else { "" };
            let path: Vec<String> =
                curve.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            let _ = write!(
                out,
                "<polyline class=\"curve\" stroke=\"{colour}\"{dash} points=\"{}\"/>",
                path.join(" ")
            );
            for (place, (px, py)) in
                curve.points.iter().enumerate().filter(|(place, _)| curve.hollow.get(*place) == Some(&true))
            {
                debug_assert!(place < curve.points.len());
                let _ = write!(
                    out,
                    "<circle class=\"hollow\" stroke=\"{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"/>",
                    x(*px),
                    y(*py)
                );
            }
            if let Some((_, py)) = curve.points.last() {
                names.push((y(*py), number));
            }
        }
        // From above to below, each at its curve's end or as near as the one above allows.
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut above = f64::MIN;
        for (wanted, number) in names {
            above = wanted.max(above + APART);
            let _ = write!(
                out,
                "<text fill=\"{}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                PALETTE[number % PALETTE.len()],
                WIDTH - RIGHT + 6.0,
                above + 5.0,
                escape(&self.curves[number].name)
            );
        }
        out.push_str("</svg>");
        out
    }
}

/// Round places over a linear axis.
pub(super) fn even_ticks(most: f64) -> Vec<(f64, String)> {
    let rough = most / 6.0;
    let magnitude = 10_f64.powf(rough.max(1e-9).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let label = |value: f64| {
        if value >= 10_000.0 {
            format!("{:.0} k", value / 1000.0)
        } else if step < 1.0 {
            format!("{value:.1}")
        } else {
            super::grouped(value)
        }
    };
    (0..=12)
        .map(|n| f64::from(n) * step)
        .take_while(|value| *value <= most * 1.001)
        .map(|value| (value, label(value)))
        .collect()
}

/// Text that a page shows as it is.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let labels: Vec<String> = even_ticks(95_000.0).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "20 k", "40 k", "60 k", "80 k"]);
    }

    #[test]
    fn curves_are_named_and_names_do_not_touch() {
        let curve = |name: &str| Curve {
            name: name.into(),
            points: vec![(0.0, 10.0), (1.0, 20.0)],
            dashed: false,
            hollow: vec![false, true],
        };
        let plot = Plot {
            across: "a<b".into(),
            up: "µs".into(),
            ticks: Vec::new(),
            curves: vec![curve("one"), curve("two")],
            marks: Vec::new(),
        };
        let svg = plot.svg();
        assert!(svg.contains("a&lt;b") && svg.contains(">one</text>") && svg.matches("<circle").count() == 2);
        let heights: Vec<&str> = svg
            .split("<text fill")
            .skip(1)
            .filter_map(|text| text.split("y=\"").nth(1)?.split('"').next())
            .collect();
        assert_ne!(heights[0], heights[1]);
    }
}

//! A line plot as SVG text: axes, faint grid, curves with their names at their ends, vertical marks.
//!
//! Made by hand and not with `plotters`: its SVG carries fixed colours and a fixed size, while these plots take their
//! colours from the page's style (light, dark, print) and are laid out once for a wide and once for a narrow screen, so
//! that letters keep their size on a telephone. What is left to do by itself is this file.
//!
//! **Invariants**: all text is escaped; values that an axis cannot show leave a gap and are never moved to its edge.
//! **Not here**: colours (`style.css`), and what is plotted (`html`).

use std::fmt::Write as _;

use super::scale::Axis;

/// Width that one letter takes, and the distance that names need from each other, in units of the picture.
const LETTER: f64 = 6.6;
const NAME_HEIGHT: f64 = 14.0;
/// Room for the y axis' title above, and for the x axis' numbers and title below.
const HEAD: f64 = 26.0;
const FOOT: f64 = 40.0;

/// What is drawn.
#[derive(Debug)]
pub(super) struct Plot {
    /// Read out where the picture cannot be seen.
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) curves: Vec<Curve>,
    /// Vertical lines, by place on the x axis, in ascending order.
    pub(super) marks: Vec<(f64, String)>,
}

/// One curve.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    /// Classes of the style sheet, without those that the plot itself gives.
    pub(super) class: String,
    /// Whether each place is marked with a dot.
    pub(super) dotted: bool,
    pub(super) dots: Vec<Dot>,
}

/// One place on a curve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Not to be believed.
    pub(super) hollow: bool,
}

/// The picture's size, which is also how large its letters look beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) class: &'static str,
}

/// Where a screen has room, and on paper.
pub(super) const WIDE: Size = Size { width: 800.0, height: 400.0, class: "wide" };
/// A telephone held upright.
pub(super) const NARROW: Size = Size { width: 360.0, height: 340.0, class: "narrow" };

/// Where the axes lie.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
}

impl Plot {
    /// The picture.
    pub(super) fn svg(&self, size: Size) -> String {
        let y_ticks = self.y.ticks(((size.height - HEAD - FOOT) / 22.0) as usize);
        let longest = y_ticks.iter().map(|(_, label)| width(label)).fold(0.0, f64::max);
        let names = self.curves.iter().map(|curve| width(&curve.name)).fold(0.0, f64::max);
        let room = size.width - longest - names - 40.0;
        let rows = self.rows(longest + 10.0, room);
        let depth = rows.iter().map(|row| row.0).max().map_or(0.0, |deepest| (deepest + 1) as f64);
        let frame = Frame {
            left: longest + 10.0,
            right: longest + 10.0 + room,
            top: HEAD + depth * NAME_HEIGHT,
            bottom: size.height - FOOT,
        };
        let mut out = format!(
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            size.class,
            size.width,
            size.height,
            escaped(&self.title)
        );
        self.axes(&mut out, &frame, &y_ticks);
        self.marks(&mut out, &frame, &rows);
        for curve in &self.curves {
            self.curve(&mut out, &frame, curve);
        }
        self.names(&mut out, &frame);
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String, frame: &Frame, y_ticks: &[(f64, String)]) {
        let Frame { left, right, top, bottom } = *frame;
        text(out, 2.0, 14.0, "title", &self.y.label);
        for (share, label) in y_ticks {
            let y = frame.y(*share);
            line(out, "grid", (left, y), (right, y));
            text(out, left - 6.0, y + 4.0, "end", label);
        }
        // As many as there is room for, so that numbers never touch.
        let mut free = f64::NEG_INFINITY;
        for (share, label) in self.x.ticks(((right - left) / 50.0) as usize) {
            let (x, half) = (frame.x(share), width(&label) / 2.0);
            line(out, "grid", (x, top), (x, bottom));
            if x - half > free {
                text(out, x, bottom + 16.0, "middle", &label);
                free = x + half + LETTER;
            }
        }
        line(out, "axis", (left, bottom), (right, bottom));
        line(out, "axis", (left, top), (left, bottom));
        text(out, (left + right) / 2.0, bottom + 34.0, "middle title", &self.x.label);
    }

    /// The row above the plot in which each mark's label stands, and whether it stands to the left of its line:
    /// labels that would touch are put into different rows.
    fn rows(&self, left: f64, room: f64) -> Vec<(usize, bool)> {
        let mut ends: Vec<f64> = Vec::new();
        let mut rows = Vec::new();
        for (at, label) in &self.marks {
            let x = left + self.x.at(*at).unwrap_or(0.0) * room;
            let wide = width(label) + LETTER;
            let before = x + wide > left + room && x - wide > 0.0;
            let from = if before { x - wide } else { x };
            let row = ends.iter().position(|&end| end <= from).unwrap_or(ends.len());
            ends.resize(ends.len().max(row + 1), 0.0);
            ends[row] = from + wide;
            rows.push((row, before));
        }
        rows
    }

    fn marks(&self, out: &mut String, frame: &Frame, rows: &[(usize, bool)]) {
        for ((at, label), (row, before)) in self.marks.iter().zip(rows) {
            let Some(share) = self.x.at(*at) else { continue };
            let (x, y) = (frame.x(share), HEAD + *row as f64 * NAME_HEIGHT);
            line(out, "mark", (x, y), (x, frame.bottom));
            let (x, class) = if *before { (x - 4.0, "end") } else { (x + 4.0, "start") };
            text(out, x, y + 10.0, class, label);
        }
    }

    fn places<'a>(
        &'a self,
        frame: &'a Frame,
        curve: &'a Curve,
    ) -> impl Iterator<Item = (&'a Dot, Option<(f64, f64)>)> {
        curve.dots.iter().map(|dot| {
            let at = self.x.at(dot.x).zip(self.y.at(dot.y));
            (dot, at.map(|(x, y)| (frame.x(x), frame.y(y))))
        })
    }

    fn curve(&self, out: &mut String, frame: &Frame, curve: &Curve) {
        let mut path = String::new();
        let mut drawing = false;
        for (_, at) in self.places(frame, curve) {
            if let Some((x, y)) = at {
                let _ = write!(path, "{}{x:.1} {y:.1}", if drawing { "L" } else { "M" });
            }
            drawing = at.is_some();
        }
        let _ = writeln!(out, "<path class=\"curve {}\" d=\"{path}\"/>", curve.class);
        if !curve.dotted {
            return;
        }
        for (dot, at) in self.places(frame, curve) {
            let Some((x, y)) = at else { continue };
            let hollow = if dot.hollow { " hollow" } else { "" };
            let _ = writeln!(
                out,
                "<circle class=\"{}{hollow}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{}: {} µs at {}</title></circle>",
                curve.class,
                escaped(&curve.name),
                super::figures::micros(dot.y),
                super::figures::place(dot.x)
            );
        }
    }

    /// Each curve's name at the right, as near to its end as the others let it be, joined to it by a thin line.
    fn names(&self, out: &mut String, frame: &Frame) {
        let mut ends: Vec<(&Curve, (f64, f64))> = self
            .curves
            .iter()
            .filter_map(|curve| Some((curve, self.places(frame, curve).filter_map(|(_, at)| at).last()?)))
            .collect();
        ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let wanted: Vec<f64> = ends.iter().map(|(_, (_, y))| *y).collect();
        for ((curve, from), y) in ends.iter().zip(apart(&wanted, frame.bottom)) {
            let x = frame.right + 14.0;
            line(out, &format!("lead {}", curve.class), *from, (x, y));
            text(out, x + 4.0, y + 4.0, "start", &curve.name);
        }
    }
}

/// Moves ascending places as little down as needed to stand apart, and all up again where the last would leave.
fn apart(wanted: &[f64], bottom: f64) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + NAME_HEIGHT);
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - NAME_HEIGHT;
    }
    places
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}

/// Text that is text in HTML, in attributes too.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(ys: &[f64]) -> Plot {
        let dots = ys.iter().enumerate().map(|(i, &y)| Dot { x: i as f64, y, hollow: i == 1 }).collect();
        Plot {
            title: "a \"title\"".into(),
            x: Axis::linear("x <unit>", [0.0, 3.0]),
            y: Axis::log("y", [1.0, 100.0]),
            curves: vec![Curve { name: "p50".into(), class: "c0".into(), dotted: true, dots }],
            marks: vec![],
        }
    }

    #[test]
    fn curves_have_gaps_dots_and_names() {
        let svg = plot(&[1.0, 10.0, 0.0, 100.0]).svg(NARROW);
        let path = svg.lines().find(|line| line.starts_with("<path")).expect("a path");
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("hollow").count(), 1);
        assert!(svg.contains(">p50</text>") && svg.contains("x &lt;unit&gt;"), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;title&quot;\""), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_still_a_picture() {
        let svg = plot(&[]).svg(WIDE);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("p50"), "{svg}");
    }

    #[test]
    fn names_keep_apart_and_inside() {
        assert_eq!(apart(&[10.0, 12.0, 100.0], 200.0), [10.0, 24.0, 100.0]);
        assert_eq!(apart(&[190.0, 195.0, 200.0], 200.0), [172.0, 186.0, 200.0]);
    }

    #[test]
    fn labels_of_marks_do_not_touch() {
        let mut plot = plot(&[1.0]);
        plot.marks =
            vec![(0.1, "a long label".into()), (0.2, "another".into()), (2.9, "the last one".into())];
        let rows = plot.rows(20.0, 300.0);
        assert_eq!(rows, [(0, false), (1, false), (0, true)]);
    }
}

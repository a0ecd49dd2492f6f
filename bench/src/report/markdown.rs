//! The report as Markdown, for a repository or a terminal. No pictures: `html` has those.

use std::fmt::Write as _;

use super::model::Report;
use super::table::{self, Cell, Look, Table};
use super::target::{Target, Targets};

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut out = format!("# {}\n\n{}", escaped(&report.title), report.when());
    if let Some(commit) = &report.commit {
        let _ = write!(out, ", commit {}", escaped(commit));
    }
    let _ = writeln!(out, ".\n{}.", escaped(&report.machine.line()));
    if let Some(targets) = Targets::of(report) {
        let _ = writeln!(out, "\n**{}.**", targets.line());
        list(&mut out, "missed", &targets.missed);
        list(&mut out, "not measured", &targets.unknown);
    }
    if let Some(lines) = table::lines(report) {
        let _ = write!(out, "\n## Rates\n\n{}", of(&lines));
        out.push_str("\nThe latencies are those of the round with the median rate; a ratio is the median of the rounds' own.\n");
    }
    if let Some(facts) = table::facts(report) {
        let _ = write!(out, "\n## Other figures\n\n{}", of(&facts));
    }
    for sweep in &report.sweeps {
        let _ = write!(
            out,
            "\n## {}\n\nLatencies count from when a request was due; uncorrected, from when it was sent. Doubtful ones are not \
             quoted.\n\n{}",
            escaped(&sweep.name),
            of(&table::sweep(sweep))
        );
        if table::has_windows(sweep) {
            let _ = writeln!(out, "\n{}", table::UNDISTURBED);
        }
    }
    if let Some(timelines) = table::timelines(report) {
        let _ = write!(out, "\n## Over time\n\n{}", of(&timelines));
    }
    let remarks = report.remarks();
    if !remarks.is_empty() {
        out.push_str("\n## Notes\n\n");
    }
    for remark in remarks {
        let _ = writeln!(out, "- {}", escaped(&remark));
    }
    out
}

fn list(out: &mut String, what: &str, targets: &[Target]) {
    if !targets.is_empty() {
        out.push('\n');
    }
    for Target { found, wanted } in targets {
        let _ = writeln!(out, "- {what}: {}; wanted {}", escaped(found), escaped(wanted));
    }
}

/// One table.
pub(super) fn of(table: &Table) -> String {
    let mut out = String::new();
    row(&mut out, table.head.iter().map(|heading| escaped(&heading.name)));
    row(&mut out, table.head.iter().map(|heading| if heading.number { "---:" } else { "---" }.to_string()));
    for cells in &table.rows {
        row(&mut out, cells.iter().map(shown));
    }
    out
}

fn row(out: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        let _ = write!(out, "| {cell} ");
    }
    out.push_str("|\n");
}

fn shown(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    if cell.look == Look::Strong { format!("**{text}**") } else { text }
}

/// Text that cannot end a cell or a line, and cannot begin a tag. `< 5` stays as it is, for those who read it raw.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '|' => out.push_str("\\|"),
            '<' if !rest.as_str().starts_with(' ') => out.push_str("&lt;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, line, paired};
    use super::*;

    #[test]
    fn a_line_has_its_ratio_target_and_verdict() {
        let mut report = fixture::sample();
        let rounds = [(90_000.0, 100_000.0), (9.5, 10.0), (44_000.0, 50_000.0)];
        report.lines = vec![line("constant", &[1_234_567.0]), paired("met", "constant", &rounds)];
        report.lines[1].at_least = Some(0.85);
        report.lines.push(paired("missed | <b>", "constant", &[(50_000.0, 100_000.0)]));
        report.lines[2].at_least = Some(0.6);
        report.facts.truncate(4);
        let text = page(&report);
        for wanted in [
            "| line | requests/s | p50 µs | p99 µs | p99.9 µs | ratio | target | verdict |\n| --- | ---: |",
            "| constant | 1,234,567 | 50 | 200 | 400 |  |  |  |\n",
            "| met | 44,000 | 50 | 200 | 400 | 0.90 × (0.90 × by CPU time) of constant | ≥ 0.85 × | met |\n",
            "| missed \\| &lt;b> | 50,000 | 50 | 200 | 400 | 0.50 × (0.50 × by CPU time) of constant | ≥ 0.60 × | **missed** |\n",
            "“constant” lay between 10/s and 100,000/s",
            "\n**4 of 6 targets met, 2 missed.**\n\n- missed: missed \\| &lt;b>: 0.50 × of constant; wanted ≥ 0.60 ×\n",
        ] {
            assert!(text.contains(wanted), "no {wanted} in\n{text}");
        }
    }

    #[test]
    fn doubtful_latencies_are_not_quoted() {
        let mut report = fixture::sample();
        report.lines = vec![line("constant", &[1_000.0])];
        report.lines[0].rounds[0].measured.generator_cpu = 0.99;
        let text = page(&report);
        assert!(text.contains("| constant | 1,000 | – | – | – |  |  |  |\n"), "{text}");
        assert!(text.contains("\n- Doubtful: “constant”, 1 of 1 rounds: the generator used 99 %"), "{text}");
    }

    #[test]
    fn sweeps_and_timelines_have_their_tables() {
        let text = page(&fixture::sample());
        for wanted in [
            "| offered load, requests/s | requests/s | p50 µs | p99 µs | p99.9 µs | p99.9 undisturbed µs | undisturbed | p99 uncorrected µs | own delay p99 µs | server CPU | doubt |",
            "| 10,000 | 10,000 |",
            " | 83 % | ",
            "\nUndisturbed: over those windows of 20 ms alone",
            "| 100,000 | 92,000 | – | – | – | ",
            "the generator itself was late",
            "| server CPU | writes p50 µs | writes p99 µs | doubt |",
            "| 10,000 idle connections, memory each | 3.84 KiB | ≤ 16 KiB | met |\n",
            "| p99.9 of one cached key at 70 % of the most | 1,673 µs | < 1000 µs | **missed** |\n",
            "| engine get, cached | 44.1 ns |  |  |\n",
            "| over time | median p50 µs | median p99 µs | worst interval | what was done |",
            "2 × Example CPU at 3.0 GHz, 7.8 GiB, Linux 6.8.0",
            "Wed, 01 Jul 2026 12:00:00 UTC, took 41 min, commit 0123abc",
        ] {
            assert!(text.contains(wanted), "no {wanted} in\n{text}");
        }
    }

    #[test]
    fn an_empty_report_has_no_tables() {
        let mut report = fixture::sample();
        (report.lines, report.sweeps, report.timelines, report.notes) = (vec![], vec![], vec![], vec![]);
        report.facts.clear();
        let text = page(&report);
        assert!(!text.contains('|') && !text.contains("## "), "{text}");
        report.lines = vec![line("not measured", &[])];
        assert!(page(&report).contains("| not measured | – | – | – | – |  |  |  |"), "{}", page(&report));
    }
}

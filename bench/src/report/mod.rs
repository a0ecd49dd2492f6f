//! What a run of the suite leaves behind: `report.json`, and the same as `report.md` and `report.html`.
//!
//! suite or `report.json` → [`Report`] → `figures` (medians, ratios), `target` and `remarks` (what to make of them) →
//! `table` and `plot` → `markdown` and `html`; two of them → `compare`. Everything shown is made from the JSON alone, so
//! that an old run can be drawn again by a newer program.
//!
//! **Invariants**: rendering never changes the file that it was given; what the JSON lacks is shown as a dash and
//! never as a nought; a latency that is not to be believed is not quoted. **Not here**: measuring (`suite`).

mod compare;
mod figures;
#[cfg(test)]
pub(crate) mod fixture;
mod html;
mod markdown;
mod model;
mod plot;
mod rank;
mod remarks;
mod scale;
mod table;
mod target;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{BenchError, Result, Tried};
use crate::summary;

pub(crate) use compare::{CompareOptions, command as compare};
pub(crate) use figures::median;
pub(crate) use model::{
    Fact, Interval, Line, Machine, Mark, Point, Quantile, Report, Round, Sweep, Timeline,
};

const JSON: &str = "report.json";
const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";

/// What `render` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct RenderOptions {
    /// The `report.json` of a run, or the directory that it is in.
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// Directory for the files, made if it is missing; the report's own without.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `firescroll-bench render`.
pub(crate) fn render(options: &RenderOptions) -> Result<()> {
    let report = Report::read(&options.report)?;
    let file = Report::file(&options.report);
    let own = file.parent().filter(|own| !own.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = options.out.as_deref().unwrap_or(own);
    // A report of a later program may hold more than this one knows: writing over it would lose that.
    let same = file.canonicalize().ok();
    if same.is_some() && same == directory.join(JSON).canonicalize().ok() {
        report.write_pages(directory)?;
    } else {
        report.write(directory)?;
    }
    println!("{}", directory.join(HTML).display());
    Ok(())
}

impl Report {
    /// The file that is meant by its own path or by that of its directory.
    fn file(path: &Path) -> PathBuf {
        if path.is_dir() { path.join(JSON) } else { path.to_path_buf() }
    }

    /// Reads a `report.json`, or the one in a directory.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let path = Self::file(path);
        let text = std::fs::read(&path).tried(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|error| BenchError::Usage(format!("{}: not a report: {error}", path.display())))
    }

    /// Writes all three files into a directory, which is made if it is missing. The JSON comes first: the others can
    /// be made from it again.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).tried(|| format!("make {}", directory.display()))?;
        summary::write_json(&directory.join(JSON), self)?;
        self.write_pages(directory)
    }

    /// The tables, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        markdown::page(self)
    }

    fn write_pages(&self, directory: &Path) -> Result<()> {
        for (name, text) in [(MARKDOWN, self.markdown()), (HTML, html::page(self))] {
            let path = directory.join(name);
            std::fs::write(&path, text).tried(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_reads_and_renders_again() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let report = fixture::sample();
        let first = directory.path().join("run/deep");
        report.write(&first).expect("write");
        let read = Report::read(&first.join(JSON)).expect("read");
        assert_eq!(read.lines.len(), report.lines.len());
        let second = directory.path().join("again");
        let options = RenderOptions { report: first.clone(), out: Some(second.clone()) };
        render(&options).expect("render");
        assert!(second.join(JSON).is_file());
        // Not the JSON's text: reading may change a number's last bit.
        for name in [MARKDOWN, HTML] {
            let texts = [&first, &second].map(|at| std::fs::read_to_string(at.join(name)).expect("read"));
            assert!(texts[0] == texts[1], "{name} differs when it is rendered from the JSON");
        }
        // For looking at: see the header of `fixture`.
        if let Some(kept) = std::env::var_os("REPORT_SAMPLE") {
            report.write(Path::new(&kept)).expect("write");
        }
    }

    #[test]
    fn rendering_beside_the_report_leaves_it_as_it_was() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let path = directory.path().join(JSON);
        let mut value = serde_json::to_value(fixture::sample()).expect("a value");
        value["of_a_later_program"] = 1.into();
        let text = value.to_string();
        std::fs::write(&path, &text).expect("write");
        for given in [path.clone(), directory.path().to_path_buf()] {
            render(&RenderOptions { report: given, out: None }).expect("render");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
            for page in [HTML, MARKDOWN] {
                std::fs::remove_file(directory.path().join(page)).expect("was written beside the report");
            }
        }
    }

    #[test]
    fn a_report_without_what_came_later_is_read() {
        let mut value = serde_json::to_value(fixture::sample()).expect("a value");
        let whole = value.as_object_mut().expect("an object");
        for later in ["commit", "facts", "sweeps", "timelines", "notes"] {
            whole.remove(later).expect("was there");
        }
        for line in whole["lines"].as_array_mut().expect("lines") {
            let line = line.as_object_mut().expect("a line");
            line.remove("against").and(line.remove("at_least")).expect("was there");
            for round in line["rounds"].as_array_mut().expect("rounds") {
                round.as_object_mut().expect("a round").remove("against").expect("was there");
                let load = round["measured"].as_object_mut().expect("a load");
                load.remove("writes").and(load.remove("undisturbed")).expect("was there");
            }
        }
        let directory = tempfile::tempdir().expect("scratch directory");
        std::fs::write(directory.path().join(JSON), value.to_string()).expect("write");
        let report = Report::read(directory.path()).expect("readable");
        assert_eq!(report.lines.len(), fixture::sample().lines.len());
        assert!(report.facts.is_empty() && report.markdown().contains("## Rates"));
    }

    #[test]
    fn says_which_file_is_no_report() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let path = directory.path().join("x.json");
        assert!(Report::read(&path).is_err_and(|error| error.to_string().contains("x.json")));
        // A directory is asked for the report in it.
        assert!(Report::read(directory.path()).is_err_and(|error| error.to_string().contains(JSON)));
        std::fs::write(&path, "{}").expect("write");
        assert!(Report::read(&path).is_err_and(|error| error.to_string().contains("not a report")));
    }
}

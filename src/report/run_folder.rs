//! Reads what runs have left: summary.json, history.csv and config.toml, all of which may be missing in part (a run under
//! way, an older version) or made by strangers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ReportError;
use super::line_plot::Look;
use super::study::{self, Study};
use super::trace::Trace;
use crate::train::runs_in;

/// Largest files that are read.
const LARGEST_HISTORY: u64 = 1 << 30;
const LARGEST_SUMMARY: u64 = 1 << 24;
const LARGEST_CONFIG: u64 = 1 << 20;
/// Longest text that is shown, in characters.
const LONGEST_TEXT: usize = 200;
/// Longest name of a run.
const LONGEST_NAME: usize = 28;
/// Ends of stages that are kept.
const MOST_STAGES: usize = 64;

/// What a run has left.
#[derive(Debug, Clone, Default)]
pub(super) struct RunFolder {
    /// Tells it from the others: the end of its path.
    pub name: String,
    /// Where it is, for people.
    pub path: String,
    /// summary.json; `None` where there is none yet.
    pub summary: Option<RunSummary>,
    /// history.csv.
    pub history: History,
    /// config.toml: keys and values as text.
    pub settings: BTreeMap<String, String>,
}

/// What the report shows of summary.json. What is absent is 0, empty or `None`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunSummary {
    pub status: String,
    pub version: String,
    pub dataset: String,
    pub split: String,
    pub iterations: u64,
    pub ranks: u64,
    pub threads: u64,
    pub accuracy: Shares,
    pub best: Shares,
    pub f1: BestAndLast,
    pub bytes: Bytes,
    pub seconds: Seconds,
    pub phases: BTreeMap<String, Phase>,
}

/// Accuracies.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shares {
    pub val: Option<f64>,
    pub test: Option<f64>,
    pub iteration: u64,
}

/// F1 of the test nodes.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct BestAndLast {
    pub best: MacroF1,
}

/// Macro-F1.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct MacroF1 {
    #[serde(rename = "macro")]
    pub macro_: Option<f64>,
}

/// Bytes between ranks.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bytes {
    pub p: f64,
    pub q: f64,
    pub ratio: Option<f64>,
    pub other: f64,
}

/// Wall time.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seconds {
    pub total: f64,
    pub train: f64,
}

/// Seconds of a phase over the ranks.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Phase {
    pub min: f64,
    pub avg: f64,
    pub max: f64,
}

/// The columns of history.csv that are drawn, against iterations unless said otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub objective: Trace,
    pub lagrangian: Trace,
    pub primal_residual: Trace,
    pub dual_residual: Trace,
    pub train_accuracy: Trace,
    pub val_accuracy: Trace,
    pub test_accuracy: Trace,
    /// Against seconds.
    pub test_by_seconds: Trace,
    /// Seconds since training started.
    pub seconds: Trace,
    /// Last iterations of the stages but the last.
    pub stage_ends: Vec<f64>,
}

impl RunFolder {
    /// Iterations that were done.
    pub fn iterations(&self) -> f64 {
        let of_summary = self.summary.as_ref().map(|summary| summary.iterations as f64);
        of_summary.filter(|&n| n > 0.0).or(self.history.seconds.last().map(|last| last.0)).unwrap_or(0.0)
    }

    /// Seconds of training.
    pub fn train_seconds(&self) -> f64 {
        let of_summary = self.summary.as_ref().map(|summary| summary.seconds.train);
        of_summary.filter(|&s| s > 0.0).or(self.history.seconds.last().map(|last| last.1)).unwrap_or(0.0)
    }
}

/// The runs in these folders, in order; a folder of several runs stands for them.
///
/// A folder of `scaling` is a study, whose short runs are not shown one by one.
pub(super) fn read_all(folders: &[PathBuf]) -> Result<(Vec<RunFolder>, Vec<Study>), ReportError> {
    let (studies, folders) = study::split(folders, holds_run);
    let study_names = names(&studies);
    let studies = studies.iter().zip(study_names).map(|(path, name)| Study::read(path, name));
    let studies = studies.collect::<Result<Vec<_>, _>>()?;
    let mut paths = Vec::new();
    for folder in &folders {
        let mut several = runs_in(folder);
        several.retain(|(_, path)| holds_run(path));
        several.sort();
        // Several runs leave no history of their own, or an empty one.
        let has_rows = folder.join("history.csv").metadata().is_ok_and(|file| file.len() > 0);
        match several.is_empty() || has_rows {
            true => paths.push(folder.clone()),
            false => paths.extend(several.into_iter().map(|(_, path)| path)),
        }
    }
    if paths.len() > Look::COUNT {
        return Err(ReportError::TooMany { found: paths.len() });
    }
    let names = names(&paths);
    let runs = paths.iter().zip(names).map(|(path, name)| read(path, name)).collect::<Result<_, _>>()?;
    Ok((runs, studies))
}

fn holds_run(folder: &Path) -> bool {
    ["history.csv", "summary.json"].iter().any(|file| folder.join(file).is_file())
}

fn read(folder: &Path, name: String) -> Result<RunFolder, ReportError> {
    if !holds_run(folder) {
        return Err(ReportError::NoRun(folder.to_owned()));
    }
    let path = shown(&folder.to_string_lossy(), LONGEST_TEXT);
    let summary = optional(folder.join("summary.json"), summary)?;
    let history = optional(folder.join("history.csv"), history)?.unwrap_or_default();
    let settings = optional(folder.join("config.toml"), settings)?.unwrap_or_default();
    Ok(RunFolder { name, path, summary, history, settings })
}

/// What `read` makes of a file, where there is one.
fn optional<T>(
    path: PathBuf,
    read: impl FnOnce(&Path) -> Result<T, ReportError>,
) -> Result<Option<T>, ReportError> {
    if path.symlink_metadata().is_err() { Ok(None) } else { read(&path).map(Some) }
}

/// A regular file that is not too large: a pipe or a device might never end.
pub(super) fn open(path: &Path, largest: u64) -> Result<io::Take<File>, ReportError> {
    let fail = |source| ReportError::Read { path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(fail)?;
    if !found.is_file() {
        return Err(fail(io::Error::other("it is no regular file")));
    }
    if found.len() > largest {
        return Err(fail(io::Error::other(format!("it is larger than {} MiB", largest >> 20))));
    }
    File::open(path).map(|file| file.take(largest)).map_err(fail)
}

fn text(path: &Path, largest: u64) -> Result<String, ReportError> {
    let mut text = String::new();
    let read = open(path, largest)?.read_to_string(&mut text);
    read.map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
    Ok(text)
}

fn malformed(path: &Path, what: impl std::fmt::Display) -> ReportError {
    ReportError::Malformed { path: path.to_owned(), what: what.to_string() }
}

fn summary(path: &Path) -> Result<RunSummary, ReportError> {
    let mut summary: RunSummary =
        serde_json::from_str(&text(path, LARGEST_SUMMARY)?).map_err(|error| malformed(path, error))?;
    let RunSummary { status, version, dataset, split, .. } = &mut summary;
    for text in [status, version, dataset, split] {
        *text = shown(text, LONGEST_TEXT);
    }
    summary.phases =
        summary.phases.into_iter().map(|(name, phase)| (shown(&name, LONGEST_NAME), phase)).collect();
    Ok(summary)
}

fn settings(path: &Path) -> Result<BTreeMap<String, String>, ReportError> {
    let table: toml::Table = text(path, LARGEST_CONFIG)?.parse().map_err(|error| malformed(path, error))?;
    let plain = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table
        .into_iter()
        .map(|(key, value)| (shown(&key, LONGEST_NAME), shown(&plain(value), LONGEST_TEXT)))
        .collect())
}

fn history(path: &Path) -> Result<History, ReportError> {
    let mut reader = csv::ReaderBuilder::new()
        // The last row of a run under way may be cut off.
        .flexible(true)
        .from_reader(io::BufReader::new(open(path, LARGEST_HISTORY)?));
    let head = reader.byte_headers().map_err(|error| malformed(path, error))?.clone();
    let place = |name: &str| head.iter().position(|column| column == name.as_bytes());
    let Some(iteration) = place("iteration") else {
        return Err(malformed(path, "expected a head with the column iteration"));
    };
    let columns = [
        "stage",
        "seconds",
        "objective",
        "lagrangian",
        "primal_residual",
        "dual_residual",
        "train_accuracy",
        "val_accuracy",
        "test_accuracy",
    ]
    .map(place);
    let mut history = History::default();
    let mut before: Option<(f64, f64)> = None;
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).map_err(|error| malformed(path, error))? {
        // A number is not known to be whole unless something comes after it.
        if row.len() < head.len() {
            continue;
        }
        let number = |place: usize| {
            let text = row.get(place).and_then(|bytes| std::str::from_utf8(bytes).ok());
            text.and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let x = number(iteration);
        let [stage, seconds, objective, lagrangian, primal, dual, train, val, test] =
            columns.map(|place| place.map_or(f64::NAN, number));
        let share = |y: f64| if (0.0..=1.0).contains(&y) { y } else { f64::NAN };
        history.seconds.push(x, seconds);
        history.objective.push(x, objective);
        history.lagrangian.push(x, lagrangian);
        history.primal_residual.push(x, primal);
        history.dual_residual.push(x, dual);
        history.train_accuracy.push(x, share(train));
        history.val_accuracy.push(x, share(val));
        history.test_accuracy.push(x, share(test));
        history.test_by_seconds.push(seconds, share(test));
        if let Some((stage_before, x)) = before
            && stage > stage_before
            && history.stage_ends.len() < MOST_STAGES
        {
            history.stage_ends.push(x);
        }
        before = Some((stage, x));
    }
    Ok(history)
}

/// The shortest ends of paths that differ from each other; the whole paths where none do.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let parts = |path: &Path, count: usize| {
        let parts: Vec<String> = path
            .components()
            .filter(|part| !matches!(part, std::path::Component::CurDir))
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        let name = parts[parts.len().saturating_sub(count)..].join("/");
        shown(if name.is_empty() { "." } else { &name }, LONGEST_NAME)
    };
    for count in 1..=4 {
        let names: Vec<String> = paths.iter().map(|path| parts(path, count)).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        if sorted.len() == names.len() {
            return names;
        }
    }
    paths.iter().enumerate().map(|(i, path)| format!("{}. {}", i + 1, parts(path, 1))).collect()
}

/// Text of strangers as it may be shown: control characters, which XML does not know, are replaced, and the beginning of
/// what is too long is left out.
fn shown(text: &str, longest: usize) -> String {
    let count = text.chars().count();
    let skipped = if count > longest { count - longest + 1 } else { 0 };
    let is_shown = |c: &char| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}');
    let replaced = text.chars().skip(skipped).map(|c| if is_shown(&c) { c } else { '\u{FFFD}' });
    (skipped > 0).then_some('…').into_iter().chain(replaced).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_the_ends_that_differ() {
        let of = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["study/a", "study/b/"]), ["a", "b"]);
        assert_eq!(of(&["a/seed-0", "b/seed-0"]), ["a/seed-0", "b/seed-0"]);
        assert_eq!(of(&["a", "a"]), ["1. a", "2. a"]);
        assert_eq!(of(&["."]), ["."]);
    }

    #[test]
    fn text_is_cut_and_cleaned() {
        assert_eq!(shown("a\u{0}b\u{1b}[31m", 20), "a\u{FFFD}b\u{FFFD}[31m");
        assert_eq!(shown("0123456789", 5), "…6789");
    }

    #[test]
    fn a_history_that_is_cut_off_is_read_up_to_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        std::fs::write(
            &path,
            "stage,iteration,objective,test_accuracy\n1,1,5.0,\n1,2,4.0,0.5\n2,3,3.0,7\n2,4,2",
        )
        .unwrap();
        let history = history(&path).unwrap();
        assert_eq!(history.objective.points(), [(1.0, 5.0), (2.0, 4.0), (3.0, 3.0)]);
        assert_eq!(history.test_accuracy.points(), [(2.0, 0.5)]);
        assert_eq!(history.stage_ends, [2.0]);
    }
}

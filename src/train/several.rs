//! Several runs with consecutive seeds: each in a folder of its own, and what they come to together.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use super::backprop_run::Nodes;
use super::checkpoint::{CheckpointError, whole_parts};
use super::driver::{RunOptions, train_one};
use super::ended::Ended;
use super::error::{SetUpError, TrainError};
use super::output::{LOCK, OutputError, OutputFolder, Summary};
use super::problem::Problem;
use super::screen::Screen;
use super::status::Status;
use crate::linalg::Real;
use crate::parallel::{Communicator, WaitPolicy, agree, broadcast};
use crate::settings::Settings;

/// Mean and standard deviation over runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct MeanAndDeviation {
    /// The mean; `None` where no run has a value.
    pub mean: Option<f64>,
    /// The standard deviation of a sample: the sum of squares is divided by one less than the number of runs. `None`
    /// with fewer than two.
    pub std: Option<f64>,
    /// Runs that have a value.
    pub runs: usize,
}

impl MeanAndDeviation {
    /// Of the values that there are.
    pub fn of(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        let count = values.len() as f64;
        let mean = (count > 0.0).then(|| values.iter().sum::<f64>() / count);
        let squares = mean.map(|mean| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>());
        let std = squares.filter(|_| count > 1.0).map(|squares| (squares / (count - 1.0)).sqrt());
        Self { mean, std, runs: values.len() }
    }
}

impl std::fmt::Display for MeanAndDeviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
        write!(f, "{} ± {}", number(self.mean), number(self.std))
    }
}

/// Measures of one kind of model of each run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Validation accuracy.
    pub val: MeanAndDeviation,
    /// Test accuracy.
    pub test: MeanAndDeviation,
    /// Micro-F1 of the test nodes.
    pub f1_micro: MeanAndDeviation,
    /// Macro-F1 of the test nodes.
    pub f1_macro: MeanAndDeviation,
}

/// `summary.json` of several runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SeveralSummary {
    /// `interrupted` where a run was; `unfinished` where others are to follow; else `diverged` where a run has, else the
    /// status of the last.
    pub status: String,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// Models of the best validation accuracy.
    pub best: Measures,
    /// Models of the last iteration.
    pub last: Measures,
    /// The summary of each run.
    pub runs: Vec<Summary>,
}

impl SeveralSummary {
    /// Takes in the next of `planned` runs.
    fn add(&mut self, summary: Summary, planned: usize) {
        self.seeds.push(summary.seed);
        self.runs.push(summary);
        self.status = self.status_of(planned).to_owned();
        let over = |value: fn(&Summary) -> Option<f64>| MeanAndDeviation::of(self.runs.iter().map(value));
        self.best = Measures {
            val: over(|run| run.best.val),
            test: over(|run| run.best.test),
            f1_micro: over(|run| run.f1.best.micro),
            f1_macro: over(|run| run.f1.best.macro_),
        };
        self.last = Measures {
            val: over(|run| run.accuracy.val),
            test: over(|run| run.accuracy.test),
            f1_micro: over(|run| run.f1.last.micro),
            f1_macro: over(|run| run.f1.last.macro_),
        };
    }

    fn status_of(&self, planned: usize) -> &str {
        let last = self.runs.last().map_or("", |run| run.status.as_str());
        match last {
            "interrupted" => last,
            _ if self.runs.len() < planned => "unfinished",
            _ if self.runs.iter().any(|run| run.status == "diverged") => "diverged",
            _ => last,
        }
    }
}

/// Makes the folder above those of the runs, given the split in use.
type OpenAbove = Box<dyn FnOnce(&str) -> Result<OutputFolder, OutputError>>;

/// What the runs of one command share.
pub(super) struct Shared<T> {
    /// What one run by backpropagation leaves to the next on the same data.
    pub nodes: Option<Nodes<T>>,
    /// How the folder above is made, where that is still to be done.
    to_open: Option<OpenAbove>,
    /// Settings to be written in the folder above once the data set is known to be right: where runs that are gone on with
    /// find it may be another place.
    to_write: Option<Settings>,
    /// The data set of an earlier run: its folder, name and checksum.
    before: Option<[String; 3]>,
    /// That folder, on rank 0 and with several runs.
    above: Option<OutputFolder>,
}

impl<T> Shared<T> {
    /// For a run alone.
    pub fn nothing() -> Self {
        Self { nodes: None, to_open: None, to_write: None, before: None, above: None }
    }

    /// Makes the folder above those of the runs and writes the settings there, if that is still to be done; on rank 0, once
    /// a run has found the data good: what replaces an earlier result has then been read.
    ///
    /// # Errors
    /// As [`OutputFolder::empty`].
    pub fn open_above(&mut self, split: &str) -> Result<(), OutputError> {
        if let Some(open) = self.to_open.take() {
            self.above = Some(open(split)?);
        }
        match (&self.above, self.to_write.take()) {
            (Some(above), Some(settings)) => above.write_config(&settings.spelled_out(split)),
            _ => Ok(()),
        }
    }

    /// Holds the data set to that of the runs that have ended.
    ///
    /// # Errors
    /// It is another one.
    pub fn same_data_as_before(&self, problem: &Problem) -> Result<(), CheckpointError> {
        match &self.before {
            Some([folder, name, checksum]) if *checksum != problem.checksum => {
                let there = format!("{name} with checksum {checksum}");
                let here = format!("{} with checksum {}", problem.name, problem.checksum);
                Err(CheckpointError::OtherData { path: folder.into(), there, here })
            }
            _ => Ok(()),
        }
    }
}

/// Trains `settings.runs` networks with the seeds seed, seed + 1, …, into `run-0`, `run-1`, … below the output folder;
/// every rank calls this. Returns the exit code of a run that was interrupted, else of the first that diverged, else 0,
/// with the summary. The features are read once where the method is not the ADMM. With `resume`, runs that have ended are
/// kept, the one that was interrupted goes on, and the others follow.
///
/// # Errors
/// As [`super::train`]; a run that fails ends them all, and what earlier ones have left stays.
pub fn train_several<T: Real>(
    settings: &Settings,
    communicator: &dyn Communicator,
    options: RunOptions,
) -> Result<(u8, SeveralSummary), TrainError> {
    let policy = WaitPolicy::new().with_deadline(std::time::Duration::from_secs(settings.comm_timeout));
    let RunOptions { overwrite, resume, mut screen, inspected, since, stop, measure_ranks } = options;
    // The time is that of all runs together.
    let since = Some(since.unwrap_or_else(Instant::now));
    let stop = Rc::new(stop);
    let is_root = communicator.rank() == 0;
    let mut shared = Shared::nothing();
    let above = match (is_root, resume) {
        (true, true) => OutputFolder::lock(&settings.output).map(Some),
        (true, false) => check_free(&settings.output, overwrite).map(|()| None),
        _ => Ok(None),
    };
    let above = above.map_err(SetUpError::from);
    shared.above = agree(communicator, &policy, "output folder", above, SetUpError::describe)?;
    if is_root && !resume {
        let settings = settings.clone();
        shared.to_open = Some(Box::new(move |split| open(&settings, overwrite, split)));
    }
    let mut code = 0;
    let mut several = SeveralSummary::default();
    let mut chosen = settings.clone();
    for run in 0..settings.runs {
        let mut own = chosen.clone();
        own.runs = 1;
        own.seed = settings.seed + run as u64;
        own.output = settings.output.join(format!("run-{run}"));
        screen.run(run, settings.runs, own.seed);
        let left = if resume { left_by(&own, communicator, &policy)? } else { Left::Nothing };
        let own_code = match left {
            Left::Ended(code, summary) => {
                if is_root {
                    Ended::remove_checkpoints(&own.output, 1);
                }
                screen.kept(&summary);
                // Older versions wrote no checksum.
                if shared.before.is_none() && !summary.dataset_checksum.is_empty() {
                    let folder = own.output.display().to_string();
                    shared.before = Some([folder, summary.dataset.clone(), summary.dataset_checksum.clone()]);
                }
                several.add(*summary, settings.runs);
                code
            }
            left => {
                shared.to_write = (is_root && resume).then(|| chosen.clone());
                let stop = Rc::clone(&stop);
                let begun = matches!(left, Left::Begun);
                let options = RunOptions {
                    // What is there has neither a result nor a checkpoint.
                    overwrite: overwrite || resume && !begun,
                    resume: begun,
                    screen: screen.clone(),
                    inspected: inspected.clone(),
                    since,
                    stop: Box::new(move |iteration| stop(iteration)),
                    measure_ranks,
                };
                let outcome = train_one::<T>(&own, communicator, options, &mut shared)?;
                several.add(outcome.summary, settings.runs);
                outcome.status.exit_code()
            }
        };
        if chosen.auto_operators
            && let Some(first) = several.runs.first()
        {
            // The first run has chosen for all.
            let operators = first.operators.used.parse().map_err(SetUpError::from);
            chosen.operators = agree(communicator, &policy, "operators", operators, SetUpError::describe)?;
            chosen.feature_norm = first.operators.feature_norm;
            chosen.auto_operators = false;
            // The settings above all runs were written before the choice; going on must not choose anew.
            let used = chosen.spelled_out(&first.split);
            let written = shared.above.as_ref().map_or(Ok(()), |folder| folder.write_config(&used));
            agree(
                communicator,
                &policy,
                "settings",
                written.map_err(SetUpError::from),
                SetUpError::describe,
            )?;
        }
        if code == 0 || own_code == INTERRUPTED {
            code = own_code;
        }
        let written = shared.above.as_ref().map_or(Ok(()), |folder| folder.write_summary(&several));
        agree(communicator, &policy, "summary", written.map_err(SetUpError::from), SetUpError::describe)?;
        if code == INTERRUPTED {
            return Ok((code, several));
        }
    }
    screen.several(&several);
    Ok((code, several))
}

/// The files of checkpoints that going on with the run in `output`, or with the `runs` runs there, may open.
pub fn checkpoint_files(output: &Path, runs: usize) -> Vec<PathBuf> {
    match runs {
        1 => whole_parts(output),
        _ => runs_in(output).iter().flat_map(|(_, path)| whole_parts(path)).collect(),
    }
}

/// The exit code of a run that was stopped and can go on.
const INTERRUPTED: u8 = 75;

/// What an earlier part of several runs has left of one of them.
enum Left {
    /// Nothing: it has not begun.
    Nothing,
    /// A run that was stopped or killed.
    Begun,
    /// A run that ended by itself, with its exit code.
    Ended(u8, Box<Summary>),
}

/// What rank 0 finds in the folder of a run, told to all.
fn left_by(
    settings: &Settings,
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
) -> Result<Left, TrainError> {
    let folder = &settings.output;
    let own = match communicator.rank() {
        0 if folder.join("summary.json").is_file() => summary_of_ended(&folder.join("summary.json")),
        0 if folder.join("config.toml").is_file() => Ok(b"begun".to_vec()),
        _ => Ok(Vec::new()),
    };
    let own =
        agree(communicator, policy, "earlier runs", own.map_err(SetUpError::from), SetUpError::describe)?;
    let text = broadcast(communicator, policy, "what is left of a run", 0, own)?;
    if text.is_empty() {
        return Ok(Left::Nothing);
    }
    let summary: Option<Summary> = serde_json::from_slice(&text).ok();
    Ok(match summary.and_then(|summary| Some((Status::code_of_ended(&summary.status)?, summary))) {
        Some((code, summary)) => Left::Ended(code, Box::new(summary)),
        None => Left::Begun,
    })
}

/// The summary of a run that has ended by itself; `begun` for that of any other.
fn summary_of_ended(path: &Path) -> Result<Vec<u8>, OutputError> {
    let unreadable = |source| OutputError::Read { path: path.to_owned(), source };
    let text = Summary::read_text(path).map_err(unreadable)?;
    let summary: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
    let status = summary.get("status").and_then(|status| status.as_str());
    if status.and_then(Status::code_of_ended).is_none() {
        return Ok(b"begun".to_vec());
    }
    // A result that this program cannot read must not be trained over.
    serde_json::from_value::<Summary>(summary).map_err(|error| unreadable(error.into()))?;
    Ok(text)
}

/// The folder that holds the runs: no results of an earlier command are left in it, and nothing of them is removed while
/// another process has one.
fn open(settings: &Settings, overwrite: bool, split: &str) -> Result<OutputFolder, OutputError> {
    let take = |(_, path): (usize, PathBuf)| Ok((OutputFolder::lock(&path)?, path));
    let earlier: Vec<_> =
        runs_in(&settings.output).into_iter().map(take).collect::<Result<_, OutputError>>()?;
    let folder = OutputFolder::empty(&settings.output, overwrite)?;
    for (held, path) in earlier {
        held.remove_files()?;
        // Not the folder where anything else is in it.
        let _ = fs::remove_file(held.file(LOCK)).and_then(|()| fs::remove_dir(&path));
    }
    folder.write_config(&settings.spelled_out(split))?;
    Ok(folder)
}

/// Refuses a folder that holds a run or several, unless they may be replaced.
fn check_free(output: &Path, overwrite: bool) -> Result<(), OutputError> {
    OutputFolder::check(output, overwrite)?;
    runs_in(output).into_iter().try_for_each(|(_, path)| OutputFolder::check(&path, overwrite))
}

/// Folders `run-0`, `run-1`, … below `output`.
pub(crate) fn runs_in(output: &Path) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(output).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("run-").and_then(|digits| digits.parse().ok());
    entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect()
}

impl Screen {
    /// The head of one of several runs.
    fn run(&mut self, run: usize, runs: usize, seed: u64) {
        if run > 0 {
            self.line(format_args!(""));
        }
        self.line(format_args!("run {} of {runs}, seed {seed}", run + 1));
    }

    /// A run that had ended before.
    fn kept(&mut self, summary: &Summary) {
        self.line(format_args!("kept: it has {} before", summary.status));
    }

    /// What several runs came to.
    fn several(&mut self, several: &SeveralSummary) {
        let seeds: Vec<String> = several.seeds.iter().map(ToString::to_string).collect();
        self.line(format_args!(""));
        self.line(format_args!(
            "{} runs, seeds {}: mean ± standard deviation",
            seeds.len(),
            seeds.join(", ")
        ));
        for (name, measures) in [("best", &several.best), ("last", &several.last)] {
            self.line(format_args!(
                "{name}       validation {}, test accuracy {}, F1 micro {}, macro {}",
                measures.val, measures.test, measures.f1_micro, measures.f1_macro
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_leave_out_what_is_not_there() {
        let of = MeanAndDeviation::of([Some(1.0), None, Some(2.0), Some(4.5)]);
        assert_eq!((of.mean, of.runs), (Some(2.5), 3));
        // (1.5² + 0.5² + 2²)/2 = 3.25
        assert_eq!(of.std, Some(3.25f64.sqrt()));
        assert_eq!(of.to_string(), "2.5000 ± 1.8028");
        assert_eq!(MeanAndDeviation::of([Some(1.0)]).std, None);
        assert_eq!(MeanAndDeviation::of([None]), MeanAndDeviation::default());
    }
}

//! Several runs with consecutive seeds: each in a folder of its own, and what they come to together.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use super::checkpoint::whole_parts;
use super::driver::{RunOptions, train_one};
use super::error::{SetUpError, TrainError};
use super::output::{FILES, LOCK, OutputError, OutputFolder, Summary};
use super::screen::Screen;
use super::status::Status;
use crate::linalg::Real;
use crate::parallel::{Communicator, WaitPolicy, agree, broadcast};
use crate::settings::{Method, Settings};

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
    /// `interrupted` where a run was, else the status of the first run that diverged, else that of the last run.
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
    fn add(&mut self, summary: Summary) {
        if self.status != "diverged" || summary.status == "interrupted" {
            self.status.clone_from(&summary.status);
        }
        self.seeds.push(summary.seed);
        self.runs.push(summary);
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
    let RunOptions { overwrite, resume, mut screen, inspected, since, stop } = options;
    // The time is that of all runs together.
    let since = Some(since.unwrap_or_else(Instant::now));
    let stop = Rc::new(stop);
    let is_root = communicator.rank() == 0;
    let free = if is_root && !resume { check_free(&settings.output, overwrite) } else { Ok(()) };
    agree(communicator, &policy, "output folder", free.map_err(SetUpError::from), SetUpError::describe)?;
    let mut code = 0;
    let mut nodes = None;
    let mut several = SeveralSummary::default();
    let mut folder: Option<OutputFolder> = None;
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
                screen.kept(&summary);
                several.add(*summary);
                code
            }
            left => {
                let stop = Rc::clone(&stop);
                let begun = matches!(left, Left::Begun);
                let has_checkpoints = settings.method == Method::Admm;
                let options = RunOptions {
                    // What is there has neither a result nor a checkpoint.
                    overwrite: overwrite || resume && !(begun && has_checkpoints),
                    resume: begun && has_checkpoints,
                    screen: screen.clone(),
                    inspected: inspected.clone(),
                    since,
                    stop: Box::new(move |iteration| stop(iteration)),
                };
                let outcome = train_one::<T>(&own, communicator, options, &mut nodes)?;
                several.add(outcome.summary);
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
        }
        if code == 0 || own_code == INTERRUPTED {
            code = own_code;
        }
        // The first run has read the data: what replaces an earlier result has been found good.
        let written = match (is_root, &folder) {
            (true, None) if resume => OutputFolder::lock(&settings.output).map(Some),
            (true, None) => open(&chosen, overwrite, &several).map(Some),
            _ => Ok(None),
        };
        let made =
            agree(communicator, &policy, "output", written.map_err(SetUpError::from), SetUpError::describe)?;
        folder = folder.or(made);
        let written = folder.as_ref().map_or(Ok(()), |folder| folder.write_summary(&several));
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
    let text = fs::read(path).map_err(unreadable)?;
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

/// The folder that holds the runs, once the first of them has ended: no results of an earlier command are left in it.
fn open(settings: &Settings, overwrite: bool, several: &SeveralSummary) -> Result<OutputFolder, OutputError> {
    for (number, path) in runs_in(&settings.output) {
        // Runs that are still to come must not be taken for done.
        if number >= several.runs.len() {
            clear(&path)?;
        }
    }
    let split = several.runs.first().map_or("", |run| run.split.as_str());
    OutputFolder::create_without_history(&settings.output, overwrite, &settings.spelled_out(split))
}

/// Refuses a folder that holds a run or several, unless they may be replaced.
fn check_free(output: &Path, overwrite: bool) -> Result<(), OutputError> {
    OutputFolder::check(output, overwrite)?;
    runs_in(output).into_iter().try_for_each(|(_, path)| OutputFolder::check(&path, overwrite))
}

/// Folders `run-0`, `run-1`, … below `output`.
fn runs_in(output: &Path) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(output).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("run-").and_then(|digits| digits.parse().ok());
    entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect()
}

/// Removes the files of a run that is not under way, and its folder where nothing else is in it.
fn clear(path: &Path) -> Result<(), OutputError> {
    let held = OutputFolder::lock(path)?;
    for file in FILES.iter().chain([&LOCK]).map(|file| path.join(file)).filter(|file| file.is_file()) {
        fs::remove_file(&file).map_err(|source| OutputError::Write { path: file, source })?;
    }
    held.remove_checkpoints();
    // A folder with anything else in it stays.
    let _ = fs::remove_dir(path);
    Ok(())
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

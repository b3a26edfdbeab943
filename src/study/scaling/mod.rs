//! Seconds an iteration over numbers of ranks, layers and nodes: strong and weak scaling, and the paper's
//! Figures 3 and 4.
//!
//! Every run is a job of its own, started by the launcher of the site (`mpirun -n {ranks}`,
//! `srun -n {ranks}`), so that a study works on a workstation and within one allocation of Slurm. A run that
//! has finished is not repeated.
//!
//! Where ranks outnumber processors, or other work takes these away, wall time says nothing. There the study
//! takes the processor time of each rank's parts of an iteration, and derives the critical path: the pace of
//! ranks that have a processor each and a network that takes no time
//! ([`pace`](crate::performance::pipeline::pace)). The table says which it is.

mod case;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use thiserror::Error;

pub use case::{Mode, WeakSizes};
pub use table::{Basis, Point, points};

use crate::dataset::DatasetError;
use crate::dataset::generate::{GenerateSettings, generate};
use crate::progress::{seconds_left, time};
use crate::settings::{Method, RawSettings, Settings, SettingsError};
use crate::storage::read_small;
use crate::train::output::Summary;
use case::Case;

/// What stands for the number of ranks in the words of a launcher.
pub const RANKS: &str = "{ranks}";

/// What to run.
#[derive(Debug, Clone)]
pub struct ScalingStudy {
    /// Settings of every run but for layers, stages, shards and output; its output folder is the study's.
    pub base: RawSettings,
    /// Kinds of scaling.
    pub modes: Vec<Mode>,
    /// Numbers of ranks, for strong and weak scaling.
    pub ranks: Vec<usize>,
    /// Numbers of layers, for scaling in layers.
    pub depths: Vec<usize>,
    /// Runs of each case.
    pub repeats: usize,
    /// The words that start ranks, with [`RANKS`] in one of them.
    pub launcher: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// Sizes of weak scaling, which makes its own data sets.
    pub weak: WeakSizes,
    /// Read data sets without inspecting them.
    pub trust_files: bool,
}

/// A study that could not be finished.
#[derive(Debug, Error)]
pub enum ScalingError {
    /// Settings that no run can start with.
    #[error("{case}: {source}")]
    Settings {
        /// The case.
        case: String,
        /// Why.
        source: Box<SettingsError>,
    },
    /// A method without layers on ranks.
    #[error("scaling measures ranks that hold layers, and those of --optimizer {0} hold nodes: leave it out")]
    Optimizer(&'static str),
    /// No output folder.
    #[error("--output is needed: the folder of the study")]
    NoFolder,
    /// A launcher that is not told how many.
    #[error(
        "the launcher '{0}' is not told the number of ranks: write {RANKS} where it goes, as in \"mpirun -n {RANKS}\""
    )]
    Launcher(String),
    /// Started by a launcher itself.
    #[error("{0} is set: start scaling itself without mpirun or srun; it starts the ranks")]
    Launched(&'static str),
    /// Numbers of ranks that weak scaling cannot share nodes between.
    #[error("weak scaling shares nodes between a power of two of ranks, not {0}: leave it out of --ranks")]
    Ranks(usize),
    /// A launcher that cannot be started.
    #[error("cannot start {command}; give --launcher the words that start {RANKS} ranks here")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A run that failed.
    #[error("{case}: '{command}' ended with {code}; what has finished stays, and the same command goes on")]
    Run {
        /// The case.
        case: String,
        /// The command.
        command: String,
        /// Its exit code, or a signal.
        code: String,
        /// The exit code of the study.
        exit_code: u8,
    },
    /// A run whose ranks' work cannot be told.
    #[error(
        "{case}: {ranks} ranks of {threads} threads outnumber the {processors} processors of {host}, where a rank's work is \
         measured by its own thread alone: use --threads 1, or more hosts"
    )]
    Threads {
        /// The case.
        case: String,
        /// Ranks of the host.
        ranks: usize,
        /// Threads of each.
        threads: usize,
        /// Processors.
        processors: usize,
        /// The host.
        host: String,
    },
    /// A data set of weak scaling.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A file could not be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ScalingError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            ScalingError::Run { exit_code, .. } => *exit_code,
            ScalingError::Data(error) => error.exit_code(),
            ScalingError::Start { .. } | ScalingError::File { .. } => 1,
            _ => 2,
        }
    }
}

/// A run that has finished.
#[derive(Debug, Clone)]
struct Done {
    case: Case,
    repeat: usize,
    folder: PathBuf,
    summary: Summary,
}

/// Runs a study: a folder and a row of `runs.csv` a run, then `scaling.csv` and `scaling.md`.
///
/// # Errors
/// Settings, a run, or a file; what has finished stays, and is not repeated the next time.
pub fn run(study: &ScalingStudy, screen: &mut dyn Write) -> Result<Vec<Point>, ScalingError> {
    let folder = study.base.output.clone().ok_or(ScalingError::NoFolder)?;
    let launcher = study.launcher.join(" ");
    if !launcher.contains(RANKS) {
        return Err(ScalingError::Launcher(launcher));
    }
    if let Some(method) = study.base.optimizer.filter(|&method| method != Method::Admm) {
        return Err(ScalingError::Optimizer(method.word()));
    }
    let cases = case::cases(study)?;
    // Wrong settings of any case show before the first run starts.
    let settings: Vec<RawSettings> =
        cases.iter().map(|case| checked(study, case, &folder)).collect::<Result<_, _>>()?;
    std::fs::create_dir_all(&folder).map_err(|source| file_error(&folder, source))?;
    make_data(study, &cases, &folder)?;
    let mut done: Vec<Done> = Vec::new();
    let mut is_warm = false;
    let (start_of_runs, mut started) = (Instant::now(), 0);
    let mut missing = 0;
    for repeat in 1..=study.repeats {
        for (case, settings) in cases.iter().zip(&settings) {
            let output = folder.join(case.name()).join(format!("repeat-{repeat}"));
            let settings = RawSettings { output: Some(output.clone()), ..settings.clone() };
            missing += usize::from(finished(&output, &settings).is_none());
        }
    }
    for repeat in 1..=study.repeats {
        for (case, settings) in cases.iter().zip(&settings) {
            let run = folder.join(case.name()).join(format!("repeat-{repeat}"));
            let settings = RawSettings { output: Some(run.clone()), ..settings.clone() };
            let summary = match finished(&run, &settings) {
                Some(summary) => summary,
                None => {
                    if !std::mem::replace(&mut is_warm, true) {
                        warm_up(study, case, &settings, &folder)?;
                    }
                    let left = seconds_left(start_of_runs.elapsed().as_secs_f64(), started, missing);
                    let _ = writeln!(
                        screen,
                        "run        {}, repeat {repeat} of {}, left {}",
                        case.name(),
                        study.repeats,
                        time(left)
                    );
                    started += 1;
                    start(study, case, &settings, &run)?
                }
            };
            done.push(Done { case: case.clone(), repeat, folder: run, summary });
            table::write_runs(&folder, &done)?;
        }
    }
    let points = points(&done_of(&done))?;
    let text = table::markdown(&points);
    table::write(&folder, &points, &text)?;
    let _ = writeln!(
        screen,
        "\n{text}\n{} and {}",
        folder.join("scaling.csv").display(),
        folder.join("runs.csv").display()
    );
    Ok(points)
}

fn done_of(done: &[Done]) -> Vec<(Case, &Summary)> {
    done.iter().map(|done| (done.case.clone(), &done.summary)).collect()
}

fn file_error(path: &Path, source: io::Error) -> ScalingError {
    ScalingError::File { path: path.to_owned(), source }
}

/// The settings of a case, but for its output folder.
fn checked(study: &ScalingStudy, case: &Case, folder: &Path) -> Result<RawSettings, ScalingError> {
    let raw = case.settings(study, folder);
    let fail = |source| ScalingError::Settings { case: case.name(), source: Box::new(source) };
    let _: Settings = raw.clone().check().map_err(fail)?;
    Ok(raw)
}

fn make_data(study: &ScalingStudy, cases: &[Case], folder: &Path) -> Result<(), ScalingError> {
    for case in cases.iter().filter(|case| case.mode == Mode::Weak) {
        let path = case.data(folder);
        if !path.exists() {
            let train = study.weak.nodes * case.ranks;
            let settings = GenerateSettings {
                train_nodes: Some(train),
                val_nodes: Some(100),
                test_nodes: Some(100),
                ..GenerateSettings::new(train + train / 8 + 400, study.weak.features, study.weak.classes)
            };
            generate(&settings)?.write(&path, false)?;
        }
    }
    Ok(())
}

/// The file beside a run's results that says with which settings it was started.
const WANTED: &str = "wanted.toml";
/// Far above what all settings take.
const LARGEST_WANTED: u64 = 1 << 20;

fn text_of(settings: &RawSettings, path: &Path) -> Result<String, ScalingError> {
    toml::to_string(settings).map_err(|error| file_error(path, io::Error::other(error)))
}

/// The summary of a run with these settings that has finished before.
fn finished(run: &Path, settings: &RawSettings) -> Option<Summary> {
    let wanted = read_small(&run.join(WANTED), LARGEST_WANTED).ok()?;
    let summary = read_summary(run).ok()?;
    let is_same = text_of(settings, run).ok()?.as_bytes() == wanted;
    (is_same && summary.status == "finished" && !summary.by_rank.is_empty()).then_some(summary)
}

fn read_summary(run: &Path) -> Result<Summary, ScalingError> {
    let path = run.join("summary.json");
    Summary::read(&path).map_err(|source| file_error(&path, source))
}

/// One run that is thrown away: files come into memory, processors leave their sleep.
fn warm_up(
    study: &ScalingStudy,
    case: &Case,
    settings: &RawSettings,
    folder: &Path,
) -> Result<(), ScalingError> {
    let run = folder.join("warm-up");
    start(study, case, &RawSettings { output: Some(run.clone()), ..settings.clone() }, &run)?;
    std::fs::remove_dir_all(&run).map_err(|source| file_error(&run, source))
}

/// Runs one case and reads what it has left.
fn start(
    study: &ScalingStudy,
    case: &Case,
    settings: &RawSettings,
    run: &Path,
) -> Result<Summary, ScalingError> {
    std::fs::create_dir_all(run).map_err(|source| file_error(run, source))?;
    let wanted = run.join(WANTED);
    std::fs::write(&wanted, text_of(settings, &wanted)?).map_err(|source| file_error(&wanted, source))?;
    let ranks = case.ranks.to_string();
    let mut words: Vec<String> = study.launcher.iter().map(|word| word.replace(RANKS, &ranks)).collect();
    words.push(study.program.display().to_string());
    words.extend(["train", "--quiet", "--overwrite", "--measure-ranks", "--config"].map(str::to_owned));
    words.push(wanted.display().to_string());
    if study.trust_files {
        words.push("--trust-files".to_owned());
    }
    let command = words.join(" ");
    let started = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).status();
    let status = started.map_err(|source| ScalingError::Start { command: command.clone(), source })?;
    if !status.success() {
        let exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        return Err(ScalingError::Run { case: case.name(), command, code: status.to_string(), exit_code });
    }
    read_summary(run)
}

//! `pdadmm-g train`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::error_chain;
use crate::inspection::{FileKind, Findings};
use crate::linalg::Real;
use crate::parallel::{Communicator, WaitPolicy, agree};
use crate::settings::{Precision, RawSettings, Settings, SettingsError};
use crate::train::{RunOptions, Screen, TrainError, train, train_several};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// The settings.
    #[command(flatten)]
    pub settings: RawSettings,
    /// TOML file with settings under the names of their flags; flags win
    #[arg(long, value_name = "FILE.toml", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Replace the results of an earlier run in the output folder
    #[arg(long, help_heading = "Run")]
    pub overwrite: bool,
    /// Print nothing but warnings and errors
    #[arg(long, help_heading = "Run", conflicts_with = "json")]
    pub quiet: bool,
    /// Print the summary as JSON, and nothing else
    #[arg(long, help_heading = "Run")]
    pub json: bool,
    /// Read files without inspecting them in a process of their own first
    #[arg(long, help_heading = "Run")]
    pub trust_files: bool,
}

/// Inspects the files that the run will read; before MPI starts. Wrong settings are for [`run`] to report.
pub fn inspect(arguments: &TrainArguments) -> Findings {
    match checked_settings(arguments) {
        Ok(settings) => Findings::before_start(arguments.trust_files, &[(FileKind::Dataset, &settings.data)]),
        Err(_) => Findings::Elsewhere,
    }
}

/// Trains; returns the exit code of a run that has results.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(
    arguments: &TrainArguments,
    findings: Findings,
    communicator: &dyn Communicator,
) -> Result<u8, Failure> {
    // A settings file that only some ranks can read must not leave the others waiting.
    let checked = agree(communicator, &WaitPolicy::new(), "settings", checked_settings(arguments), |error| {
        (2, error_chain(error))
    });
    let settings = checked.map_err(Failure::from)?;
    let inspected = findings.agree(communicator)?.into_iter().next();
    let screen = match communicator.rank() == 0 && !arguments.quiet && !arguments.json {
        true => Screen::to(Box::new(std::io::stdout())),
        false => Screen::silent(),
    };
    let options = RunOptions { overwrite: arguments.overwrite, screen, inspected };
    let trained = match settings.precision {
        Precision::F32 => train_as::<f32>(&settings, communicator, options),
        Precision::F64 => train_as::<f64>(&settings, communicator, options),
    };
    let (code, summary) = trained.map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: error.exit_code(),
        is_joint: error.is_joint(),
    })?;
    if arguments.json && communicator.rank() == 0 {
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), "{summary}");
    }
    Ok(code)
}

/// One run or several: the exit code, and the summary as JSON.
fn train_as<T: Real>(
    settings: &Settings,
    communicator: &dyn Communicator,
    options: RunOptions,
) -> Result<(u8, String), TrainError> {
    if settings.runs > 1 {
        let (code, summary) = train_several::<T>(settings, communicator, options)?;
        return Ok((code, serde_json::to_string_pretty(&summary).unwrap_or_default()));
    }
    let outcome = train::<T>(settings, communicator, options)?;
    Ok((outcome.status.exit_code(), serde_json::to_string_pretty(&outcome.summary).unwrap_or_default()))
}

/// The settings of flags and file, checked.
fn checked_settings(arguments: &TrainArguments) -> Result<Settings, SettingsError> {
    let flags = arguments.settings.clone();
    let raw = match &arguments.config {
        None => flags,
        Some(path) => flags.over(RawSettings::from_file(path)?),
    };
    raw.check()
}

//! `pdadmm-g train`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;

use super::Failure;
use super::signals::listen;
use crate::error_chain;
use crate::parallel::{Communicator, JointFailure, WaitPolicy, agree, broadcast};
use crate::settings::{Precision, RawSettings, Settings, SettingsError, resumed};
use crate::train::{Outcome, RunOptions, Screen, TrainError, train};

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// The settings.
    #[command(flatten)]
    pub settings: RawSettings,
    /// TOML file with settings under the names of their flags; flags win
    #[arg(long, value_name = "FILE.toml", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Go on with the run in this folder, from its newest checkpoint; settings that change the result stay its own
    #[arg(long, value_name = "DIR", help_heading = "Run", conflicts_with_all = ["config", "overwrite"])]
    pub resume: Option<PathBuf>,
    /// Replace the results of an earlier run in the output folder
    #[arg(long, help_heading = "Run")]
    pub overwrite: bool,
    /// Print nothing but warnings and errors
    #[arg(long, help_heading = "Run", conflicts_with = "json")]
    pub quiet: bool,
    /// Print the summary as JSON, and nothing else
    #[arg(long, help_heading = "Run")]
    pub json: bool,
}

/// Trains; returns the exit code of a run that has results.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(arguments: &TrainArguments, communicator: &dyn Communicator) -> Result<u8, Failure> {
    // A settings file that only some ranks can read must not leave the others waiting.
    let checked = agree(communicator, &WaitPolicy::new(), "settings", checked_settings(arguments), |error| {
        (2, error_chain(error))
    });
    let settings = checked.map_err(failure)?;
    let screen = match communicator.rank() == 0 && screen_is_on(arguments) {
        true => Screen::to(Box::new(std::io::stdout())),
        false => Screen::silent(),
    };
    if let Some(folder) = &arguments.resume
        && let Some(code) = already_ended(folder, communicator, screen_is_on(arguments))?
    {
        return Ok(code);
    }
    let flag = agree(communicator, &WaitPolicy::new(), "signals", listen(communicator.rank()), |error| {
        (1, format!("cannot listen to signals: {error}"))
    });
    let flag = flag.map_err(failure)?;
    let options = RunOptions {
        overwrite: arguments.overwrite,
        resume: arguments.resume.is_some(),
        screen,
        stop: Box::new(move |_| flag.load(Ordering::SeqCst)),
    };
    let outcome: Result<Outcome, TrainError> = match settings.precision {
        Precision::F32 => train::<f32>(&settings, communicator, options),
        Precision::F64 => train::<f64>(&settings, communicator, options),
    };
    let outcome = outcome.map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: error.exit_code(),
        is_joint: error.is_joint(),
    })?;
    if arguments.json && communicator.rank() == 0 {
        use std::io::Write;
        let text = serde_json::to_string_pretty(&outcome.summary).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    Ok(outcome.status.exit_code())
}

fn failure(failure: JointFailure) -> Failure {
    Failure {
        message: failure.to_string(),
        exit_code: failure.exit_code(),
        is_joint: matches!(failure, JointFailure::Failed { .. }),
    }
}

fn screen_is_on(arguments: &TrainArguments) -> bool {
    !arguments.quiet && !arguments.json
}

/// The exit code of a run that has ended and needs nothing more; rank 0 says so. `None` where there is more to do.
fn already_ended(
    folder: &Path,
    communicator: &dyn Communicator,
    speaks: bool,
) -> Result<Option<u8>, Failure> {
    let own = match communicator.rank() {
        0 => ended_with(&folder.join("summary.json")).map_or(Vec::new(), |(code, text)| {
            if speaks {
                use std::io::Write;
                let folder = folder.display();
                let _ = writeln!(std::io::stdout(), "nothing to go on with: the run in {folder} has {text}");
            }
            vec![code]
        }),
        _ => Vec::new(),
    };
    let code = broadcast(communicator, &WaitPolicy::new(), "how the run ended", 0, own);
    code.map(|code| code.first().copied()).map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: 1,
        is_joint: false,
    })
}

/// What a summary says of a run that ended by itself: exit code and words.
fn ended_with(summary: &Path) -> Option<(u8, String)> {
    let text = std::fs::read_to_string(summary).ok()?;
    let summary: serde_json::Value = serde_json::from_str(&text).ok()?;
    let status = summary.get("status")?.as_str()?;
    let code = match status {
        "finished" | "converged" => 0,
        "diverged" => 4,
        _ => return None,
    };
    Some((code, format!("{status}: {}", summary.get("message")?.as_str()?)))
}

/// The settings of flags and file, checked.
fn checked_settings(arguments: &TrainArguments) -> Result<Settings, SettingsError> {
    let flags = arguments.settings.clone();
    if let Some(folder) = &arguments.resume {
        return resumed(folder, flags);
    }
    let raw = match &arguments.config {
        None => flags,
        Some(path) => flags.over(RawSettings::from_file(path)?),
    };
    raw.check()
}

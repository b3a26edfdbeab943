//! `pdadmm-g train`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;

use super::Failure;
use super::progress::ProgressArguments;
use super::signals::listen;
use crate::error_chain;
use crate::inspection::{FileKind, Findings};
use crate::linalg::Real;
use crate::parallel::{Communicator, WaitPolicy, agree, broadcast, may_be_rank_zero};
use crate::settings::{Method, Precision, RawSettings, Settings, SettingsError, resumed};
use crate::train::{
    Ended, RunOptions, Screen, TrainError, checkpoint_files, same_command, train, train_several,
};

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
    /// Whether there is a bar.
    #[command(flatten)]
    pub progress: ProgressArguments,
    /// Print the summary as JSON, and nothing else
    #[arg(long, help_heading = "Run")]
    pub json: bool,
    /// Measure what an iteration costs each rank, in processor time: by_rank of summary.json, which plan --measured reads
    #[arg(long, help_heading = "Run")]
    pub measure_ranks: bool,
    /// Read files without inspecting them in a process of their own first
    #[arg(long, help_heading = "Run")]
    pub trust_files: bool,
}

/// Inspects the files that the run will read; before MPI starts. Wrong settings are for [`run`] to report.
pub fn inspect(arguments: &TrainArguments) -> Findings {
    match checked_settings(arguments) {
        Ok(settings) if ended(arguments, &settings).is_some() => Findings::Elsewhere,
        Ok(settings) => {
            let parts = match &arguments.resume {
                Some(_) if !arguments.trust_files && may_be_rank_zero() => {
                    checkpoint_files(&settings.output, settings.runs)
                }
                _ => Vec::new(),
            };
            let parts = parts.iter().map(|part| (FileKind::Checkpoint, part.as_path()));
            let files: Vec<_> =
                std::iter::once((FileKind::Dataset, settings.data.as_path())).chain(parts).collect();
            Findings::before_start(arguments.trust_files, &files)
        }
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
    let flags = [("resume", arguments.resume.is_some()), ("overwrite", arguments.overwrite)];
    same_command(&settings, flags, communicator, &WaitPolicy::new()).map_err(Failure::from)?;
    // Before the files: it does not matter whether those of a run that has finished are still there.
    if arguments.resume.is_some()
        && let Some(code) = already_ended(arguments, &settings, communicator)?
    {
        return Ok(code);
    }
    let inspected = findings.agree(communicator)?.into_iter().next();
    let screen = match communicator.rank() == 0 && screen_is_on(arguments) {
        true => screen(&arguments.progress),
        false => Screen::silent(),
    };
    let flag = listen(communicator.rank());
    let flag = agree(communicator, &WaitPolicy::new(), "signals", flag, |error| {
        (1, format!("cannot listen to signals: {error}"))
    });
    let flag = flag.map_err(Failure::from)?;
    let options = RunOptions {
        overwrite: arguments.overwrite,
        resume: arguments.resume.is_some(),
        screen,
        inspected,
        since: None,
        stop: Box::new(move |_| flag.load(Ordering::SeqCst)),
        measure_ranks: arguments.measure_ranks,
    };
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

fn screen(progress: &ProgressArguments) -> Screen {
    match progress.has_bar() {
        true => Screen::with_bar(),
        false => Screen::to(Box::new(std::io::stdout())),
    }
}

fn screen_is_on(arguments: &TrainArguments) -> bool {
    !arguments.quiet && !arguments.json
}

/// How the run that is to go on has ended, if it has.
fn ended(arguments: &TrainArguments, settings: &Settings) -> Option<Ended> {
    arguments.resume.as_ref().and_then(|folder| Ended::of(folder, settings.runs))
}

/// The exit code of a run that has ended and needs nothing more; rank 0 says so. `None` where there is more to do.
fn already_ended(
    arguments: &TrainArguments,
    settings: &Settings,
    communicator: &dyn Communicator,
) -> Result<Option<u8>, Failure> {
    let is_root = communicator.rank() == 0;
    let own = ended(arguments, settings).filter(|_| is_root).map_or(Vec::new(), |Ended { code, words }| {
        Ended::remove_checkpoints(&settings.output, settings.runs);
        use std::io::Write;
        let mut out = std::io::stdout();
        if screen_is_on(arguments) {
            let folder = settings.output.display();
            let _ = writeln!(out, "nothing to go on with: the run in {folder} has {words}");
        } else if arguments.json {
            let _ = out.write_all(&std::fs::read(settings.output.join("summary.json")).unwrap_or_default());
        }
        vec![code]
    });
    let code = broadcast(communicator, &WaitPolicy::new(), "how the run ended", 0, own);
    code.map(|code| code.first().copied()).map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: 1,
        is_joint: false,
    })
}

/// The settings of flags and file, checked.
fn checked_settings(arguments: &TrainArguments) -> Result<Settings, SettingsError> {
    let flags = arguments.settings.clone();
    let settings = match &arguments.resume {
        Some(folder) => resumed(folder, flags)?,
        None => flags.over_file(arguments.config.as_deref())?.check()?,
    };
    if arguments.measure_ranks && settings.method != Method::Admm {
        return Err(SettingsError::Contradiction(
            "--measure-ranks needs --optimizer admm: it measures what the layers of a rank cost".into(),
        ));
    }
    Ok(settings)
}

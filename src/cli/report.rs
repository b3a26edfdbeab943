//! `pdadmm-g report`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::error_chain;
use crate::report::{Report, ReportError};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Folders of runs, side by side in this order; a folder of train --runs stands for its runs, one of scaling for its
    /// study
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// The page; each plot is saved beside it as an SVG file with the same beginning
    #[arg(long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Replace an earlier report of this name
    #[arg(long)]
    pub overwrite: bool,
}

/// Reads the runs and writes the page and the plots.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(arguments: &ReportArguments) -> Result<(), Failure> {
    let made = || -> Result<Vec<PathBuf>, ReportError> {
        Report::of(&arguments.folders)?.write(&arguments.output, arguments.overwrite)
    };
    let files = made().map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: error.exit_code(),
        is_joint: true,
    })?;
    let plots = files.len().saturating_sub(1);
    let _ = writeln!(std::io::stdout(), "{} and {plots} plots beside it", arguments.output.display());
    Ok(())
}

//! What runs look like: plots, and a page that shows several runs side by side.
//!
//! Everything in a run's folder may come from strangers: files are read up to a size, text is escaped, and numbers that no
//! axis can show are left out.

pub mod bar_plot;
mod figures;
pub mod line_plot;
mod page;
mod run_folder;
pub mod scatter;
mod study;
mod theme;
mod trace;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::storage::{StorageError, folder_above, unwritten, write_whole_or};
use line_plot::Look;

/// A plot that could not be drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// There is nothing in it.
    #[error("nothing to plot: no point with finite coordinates")]
    Empty,
    /// The drawing library failed.
    #[error("the plot cannot be drawn: {0}")]
    Drawing(String),
}

/// A report that could not be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A folder without results.
    #[error(
        "{0} holds no run: expected history.csv or summary.json; give the --output folders of train or of scaling"
    )]
    NoRun(PathBuf),
    /// More runs than can be told apart.
    #[error(
        "{found} runs are more than the {} that can be told apart in a plot: give fewer folders",
        Look::COUNT
    )]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A file that could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that no run has written.
    #[error("{path}: {what}; was it written by train, and is it whole?")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        what: String,
    },
    /// A table that no study of scaling has written.
    #[error("{path}: {what}; was it written by scaling, and is it whole?")]
    NoStudy {
        /// The file.
        path: PathBuf,
        /// What was expected and found, and in which line.
        what: String,
    },
    /// The page exists.
    #[error("{0} exists: choose another --output, or --overwrite to replace it")]
    Occupied(PathBuf),
    /// Something else than a report is there.
    #[error(
        "{0} is no page or plot of an earlier report, so that --overwrite does not replace it: choose another --output"
    )]
    Foreign(PathBuf),
    /// A page that would have no name.
    #[error("--output {0}: expected the name of a file, such as report.html")]
    NoName(PathBuf),
    /// A file that could not be written, or has no place to be.
    #[error(transparent)]
    Output(#[from] StorageError),
    /// A plot could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

impl ReportError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            ReportError::NoRun(_) | ReportError::TooMany { .. } => 2,
            ReportError::Occupied(_) | ReportError::Foreign(_) | ReportError::NoName(_) => 2,
            ReportError::Read { .. } | ReportError::Malformed { .. } | ReportError::NoStudy { .. } => 3,
            ReportError::Output(error) => error.exit_code(),
            ReportError::Plot(_) => 1,
        }
    }
}

/// A report: the page, and each plot as a drawing of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The page, complete in itself.
    pub page: String,
    /// Word and SVG document of each plot.
    pub plots: Vec<(&'static str, String)>,
}

impl Report {
    /// Of the runs in these folders; a folder of `train --runs` stands for its runs, one of `scaling` for its study.
    ///
    /// # Errors
    /// A folder without a run, too many runs, or files that cannot be read.
    pub fn of(folders: &[PathBuf]) -> Result<Self, ReportError> {
        let (runs, studies) = run_folder::read_all(folders)?;
        let figures = figures::all(&runs, &studies)?;
        let plots = figures.iter().map(|figure| (figure.word, figure.alone.clone())).collect();
        Ok(Self { page: page::page(&runs, &studies, &figures), plots })
    }

    /// Writes the page to `output` and each plot beside it, as `STEM-WORD.svg`; returns the files.
    ///
    /// # Errors
    /// A file exists and may not be replaced, or cannot be written.
    pub fn write(&self, output: &Path, overwrite: bool) -> Result<Vec<PathBuf>, ReportError> {
        let stem = output.file_stem().ok_or_else(|| ReportError::NoName(output.to_owned()))?;
        let stem = stem.to_string_lossy();
        let plots = self
            .plots
            .iter()
            .map(|(word, svg)| (output.with_file_name(format!("{stem}-{word}.svg")), svg.as_str()));
        let files: Vec<(PathBuf, &str)> =
            std::iter::once((output.to_owned(), self.page.as_str())).chain(plots).collect();
        check_free(files.iter().map(|(path, _)| path.as_path()), overwrite)?;
        for (path, text) in &files {
            write_whole_or(path, overwrite, |temporary| {
                Ok::<(), ReportError>(
                    std::fs::write(temporary, text).map_err(unwritten(path, "write the file"))?,
                )
            })?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }
}

/// Refuses files that exist; with `overwrite` only those that no report has written.
fn check_free<'a>(files: impl Iterator<Item = &'a Path>, overwrite: bool) -> Result<(), ReportError> {
    for path in files {
        folder_above(path)?;
        if path.is_dir() {
            return Err(ReportError::NoName(path.to_owned()));
        }
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(ReportError::Occupied(path.to_owned()));
        }
        let is_ours = match path.metadata() {
            Ok(found) => found.is_file() && (found.len() == 0 || begins_as_a_report(path)),
            Err(_) => true,
        };
        if !is_ours {
            return Err(ReportError::Foreign(path.to_owned()));
        }
    }
    Ok(())
}

/// Whether a file begins as the pages and plots of reports do.
fn begins_as_a_report(path: &Path) -> bool {
    let mut start = Vec::new();
    let length = page::START.len().max(theme::START.len()) as u64;
    let read = std::fs::File::open(path).and_then(|file| file.take(length).read_to_end(&mut start));
    let begins = |with: &str| start.starts_with(with.as_bytes());
    read.is_ok() && (begins(page::START) || begins(theme::START))
}

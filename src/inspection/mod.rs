//! HDF5 files from strangers are first gone through by a child process.
//!
//! libhdf5 crashes and loops over damaged files, which no care on our side prevents. So before a process reads a file,
//! and before MPI starts (a process of a job may not fork safely), a child process of the same program goes through
//! everything in it, in the same order and by the same functions, under [`Limits`] of time and memory. If the child
//! dies, that is an error of the data and no more. If it lives, the file's checksum ties what is read afterwards to
//! what was inspected: [`DatasetFile::open_inspected`](crate::dataset::DatasetFile::open_inspected) and its like.
//!
//! In a job rank 0 inspects, while the others wait for it in the start of MPI; see [`Findings`].

mod child;
mod error;
mod limits;
mod parent;
mod ranks;

use std::path::Path;

pub use child::{CHILD_COMMAND, ChildArguments, run as run_child};
pub use error::InspectionError;
pub use limits::Limits;
pub use parent::{Inspected, inspect, inspect_with};
pub use ranks::Findings;

use crate::dataset::{DatasetFile, Summary};
use crate::error_chain;
use crate::model::{ModelError, ModelFile};
use crate::settings::Precision;
use crate::train::checkpoint;

/// The kinds of HDF5 files that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileKind {
    /// A graph with features and labels, docs/data-format.md.
    Dataset,
    /// A trained network, docs/model-format.md.
    Model,
    /// A rank's file of a checkpoint, docs/reliability.md.
    Checkpoint,
}

/// What a file was found to hold.
#[derive(Debug)]
pub struct Content {
    /// Checksum of the bytes that were read.
    pub checksum: String,
    /// What there is to say about it; empty but for data sets.
    pub report: String,
}

impl FileKind {
    /// Reads all that is ever read of a file of this kind, and forgets it. `in_full`: with a report.
    ///
    /// # Errors
    /// What is wrong with the file, in one line.
    pub fn go_through(self, path: &Path, in_full: bool) -> Result<Content, String> {
        match self {
            FileKind::Dataset => {
                let file = DatasetFile::open_inspected(path, None).map_err(|error| error_chain(&error))?;
                let report = match in_full {
                    true => file.read().map(|data| Summary::of(&data).to_string()),
                    false => file.go_through().map(|()| String::new()),
                };
                let report = report.map_err(|error| error_chain(&error))?;
                let checksum = file.checksum().map_err(|error| error_chain(&error))?;
                Ok(Content { checksum, report })
            }
            FileKind::Model => {
                let read = || -> Result<String, ModelError> {
                    let file = ModelFile::open_inspected(path, None)?;
                    match file.precision() {
                        Precision::F32 => file.read::<f32>().map(drop)?,
                        Precision::F64 => file.read::<f64>().map(drop)?,
                    }
                    file.checksum()
                };
                let checksum = read().map_err(|error| error_chain(&error))?;
                Ok(Content { checksum, report: String::new() })
            }
            FileKind::Checkpoint => {
                checkpoint::go_through(path).map_err(|error| error_chain(&error))?;
                let checksum = crate::storage::checksum(path).map_err(|error| error_chain(&error))?;
                Ok(Content { checksum, report: String::new() })
            }
        }
    }

    /// The kind on the child's command line.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            FileKind::Dataset => "dataset",
            FileKind::Model => "model",
            FileKind::Checkpoint => "checkpoint",
        }
    }

    /// The kind in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FileKind::Dataset => "data set",
            FileKind::Model => "model",
            FileKind::Checkpoint => "checkpoint",
        }
    }
}

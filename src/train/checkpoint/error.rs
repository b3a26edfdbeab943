//! What can go wrong with a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::storage::StorageError;

/// A checkpoint that could not be written or used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file or folder could not be written.
    #[error(
        "cannot write the checkpoint {path} (those before it are untouched, and train --resume goes on from them): {source}"
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The HDF5 library could not write a file.
    #[error(
        "cannot write the checkpoint {path} (those before it are untouched, and train --resume goes on from them): {source}"
    )]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// Why.
        source: hdf5::Error,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{path}: expected {expected}, found {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file breaks a rule of its format.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The checkpoint, or an earlier one of several runs, belongs to another data set.
    #[error("{path} was trained on {there}, but --data is {here}: give the data set that the run began with")]
    OtherData {
        /// The checkpoint or the folder of the run.
        path: PathBuf,
        /// Its data set.
        there: String,
        /// The data set given.
        here: String,
    },
    /// It takes at least a rank for each shard of nodes to go on.
    #[error(
        "{path} was written in {shards} shards of nodes, each of which needs a rank: start at least {shards} ranks, not {ranks}"
    )]
    TooFewRanks {
        /// The checkpoint.
        path: PathBuf,
        /// Its shards.
        shards: usize,
        /// Ranks started.
        ranks: usize,
    },
    /// The settings have changed since.
    #[error(
        "{path} was made with other settings: {changed}; restore config.toml, or start anew with --overwrite"
    )]
    OtherSettings {
        /// The checkpoint.
        path: PathBuf,
        /// Which.
        changed: String,
    },
    /// There are checkpoints, but none can be used.
    #[error(
        "no checkpoint in {folder} can be used ({count} tried, see the warnings): bring back undamaged copies, or \
         start anew with --overwrite"
    )]
    NoneWhole {
        /// The output folder.
        folder: PathBuf,
        /// How many there are.
        count: usize,
    },
}

impl CheckpointError {
    /// An error of the operating system while writing `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    /// An error of libhdf5 while writing `path`; where the operating system refused, that is what counts.
    pub(super) fn hdf5(path: &Path) -> impl FnOnce(hdf5::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| {
            let text = source.to_string();
            let number =
                text.split_once("errno = ").and_then(|(_, rest)| rest.split([',', ' ']).next()?.parse().ok());
            match number {
                Some(number) => Self::Write { path, source: io::Error::from_raw_os_error(number) },
                None => Self::Hdf5 { path, source },
            }
        }
    }

    /// An error of the operating system while reading `path`.
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(super) fn damaged(path: &Path, expected: impl ToString, found: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), expected: expected.to_string(), found: found.to_string() }
    }

    /// The exit code that it asks for.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } | Self::Hdf5 { .. } => 1,
            Self::OtherSettings { .. } | Self::TooFewRanks { .. } => 2,
            _ => 3,
        }
    }

    /// Whether an older checkpoint could do better.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Damaged { .. } | Self::Storage(_))
    }
}

//! Why an inspection did not pass a file.

use std::path::PathBuf;
use std::process::ExitStatus;

use crate::storage::StorageError;

/// A file that was not passed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectionError {
    /// The file cannot be looked at.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The content breaks a rule of its format; the message names file, place, what was expected and found.
    #[error("{message}")]
    Refused {
        /// The message.
        message: String,
    },
    /// The HDF5 library crashed.
    #[error(
        "{path}: the HDF5 library crashed (signal {signal}) while the file was inspected: it is damaged or hostile; \
         get it again from where it comes from"
    )]
    Crashed {
        /// The file.
        path: PathBuf,
        /// The signal that ended the child.
        signal: i32,
    },
    /// The inspection took too long.
    #[error(
        "{path}: the inspection of the file took more than {seconds} s of {clock}, far more than a file of its length \
         needs: it is damaged or hostile; get it again, or use --trust-files if you made it yourself"
    )]
    TooSlow {
        /// The file.
        path: PathBuf,
        /// The limit.
        seconds: u64,
        /// Which time.
        clock: &'static str,
    },
    /// The inspection took too much memory.
    #[error(
        "{path}: the inspection of the file took more than {mebibytes} MiB of memory, far more than a file of its \
         length needs: it is damaged or hostile; get it again, or use --trust-files if you made it yourself"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        mebibytes: u64,
    },
    /// The child ended in another way that it should not.
    #[error(
        "{path}: the inspection of the file broke off ({status}): {said}; the file is damaged, or memory ran out, or \
         the process was ended from outside; if the file is sound, please report this"
    )]
    BrokeOff {
        /// The file.
        path: PathBuf,
        /// How the child ended.
        status: ExitStatus,
        /// The last that it said.
        said: String,
    },
    /// No child could be started.
    #[error(
        "{path}: cannot start the process that inspects the file; --trust-files reads it without an inspection"
    )]
    Start {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rank 0 took itself for another rank and inspected nothing.
    #[error(
        "rank 0 could not tell its rank from the launcher's environment and inspected no file; please report the \
         launcher; --trust-files reads files without an inspection"
    )]
    NobodyInspected,
}

impl InspectionError {
    /// The code that the program ends with: 3 the file, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            InspectionError::Start { .. } | InspectionError::NobodyInspected => 1,
            _ => 3,
        }
    }
}

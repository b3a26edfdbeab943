//! What can be wrong with a data set, said so that the reader knows what to do about it.

use crate::storage::StorageError;

/// Why a data set could not be read, checked, imported, generated or written.
///
/// [`DatasetError::exit_code`] tells wrong commands and settings (2) from wrong data (3) and from an output that cannot
/// be written (1).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file could not be read or written, or breaks a rule of its format.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A setting is impossible.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The data set has no split of the wanted name, or none that stands out as the default.
    #[error("{wanted}; the data set has: {names}; choose one with --split")]
    NoSuchSplit {
        /// What was looked for.
        wanted: String,
        /// The names there are, separated by commas.
        names: String,
    },
}

impl DatasetError {
    /// Exit code and message with its causes, as other ranks learn them.
    pub fn describe(&self) -> (u8, String) {
        (self.exit_code(), crate::error_chain(self))
    }

    /// The exit code: 2 the command, 3 the data, 1 an output that cannot be written.
    pub fn exit_code(&self) -> u8 {
        match self {
            DatasetError::Storage(error) => error.exit_code(),
            DatasetError::Setting { .. } | DatasetError::NoSuchSplit { .. } => 2,
        }
    }
}

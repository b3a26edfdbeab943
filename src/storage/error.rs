//! What can be wrong with a file, said so that the reader knows what to do about it.

use std::path::{Path, PathBuf};

/// Why a file could not be read, checked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system could not open, read or write a file.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `open`, `read`, `write` and so on.
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The HDF5 library refused the file or a part of it.
    #[error("{path}: {place}: the HDF5 library reports an error")]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The object within the file, such as `/adjacency/indptr`.
        place: String,
        /// The library's reason.
        source: hdf5::Error,
    },
    /// The file is not the one that was inspected, or was written to meanwhile.
    #[error(
        "{path}: the bytes of this file (checksum {found}) are not those that were inspected (checksum {inspected}); \
         give all hosts the same file, and let nothing write to it while it is read"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Checksum of what was inspected.
        inspected: String,
        /// Checksum of what is there.
        found: String,
    },
    /// The content breaks a rule of its format.
    #[error("{path}: {fault}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which rule, where, and what to do.
        fault: Fault,
    },
    /// The output cannot be written: no right to, a read-only or full disk.
    #[error("{path}: cannot {action}")]
    Unwritten {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason of the operating system or of the HDF5 library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The output has a name that no file can get.
    #[error("{path}: {fault}")]
    NoOutput {
        /// The name.
        path: PathBuf,
        /// Why not, and what to do.
        fault: Box<Fault>,
    },
    /// The output exists already and nobody said that it may be replaced.
    #[error("{path}: the file exists already; give --overwrite to replace it, or another name")]
    OutputExists {
        /// The file.
        path: PathBuf,
    },
}

impl StorageError {
    /// The exit code: 2 for an output that another command would choose otherwise, 1 for one that cannot be written, 3 for
    /// a file that cannot be read.
    pub fn exit_code(&self) -> u8 {
        match self {
            StorageError::OutputExists { .. } | StorageError::NoOutput { .. } => 2,
            StorageError::Unwritten { .. } => 1,
            _ => 3,
        }
    }
}

/// A broken rule: where, what was expected, what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}; {advice}")]
pub struct Fault {
    /// The place within the file, such as `/adjacency/indices[17]`.
    pub place: String,
    /// The rule.
    pub expected: String,
    /// What is there instead.
    pub found: String,
    /// What the user can do.
    pub advice: String,
}

impl Fault {
    /// A fault with the advice that suits a file that was written wrongly.
    pub(crate) fn new(
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Fault {
            place: place.into(),
            expected: expected.into(),
            found: found.into(),
            advice: "correct the program that wrote the file, or write it again".into(),
        }
    }

    /// The same fault with another advice.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// The error that names the file as well.
    pub(crate) fn in_file(self, path: &Path) -> StorageError {
        StorageError::Invalid { path: path.to_path_buf(), fault: self }
    }
}

/// Makes an error of the operating system name its file and what was tried.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Io { path, action, source }
}

/// Makes an error of the operating system or of the HDF5 library name the output that could not be written.
pub(crate) fn unwritten<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(E) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Unwritten { path, action, source: Box::new(source) }
}

/// An empty vector with room for `length` elements, or a fault instead of an abort when the
/// memory is not there.
pub(crate) fn reserve<T>(place: &str, length: usize) -> Result<Vec<T>, Fault> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(length).map_err(|_| {
        Fault::new(
            place,
            "a size that fits into memory",
            format!("{length} elements of {} bytes", size_of::<T>()),
        )
        .advise("use a machine with more memory, or check that the file is what it should be")
    })?;
    Ok(vector)
}

/// `length` copies of `value`, or a fault instead of an abort when the memory is not there.
pub(crate) fn filled<T: Clone>(place: &str, length: usize, value: T) -> Result<Vec<T>, Fault> {
    let mut vector = reserve(place, length)?;
    vector.resize(length, value);
    Ok(vector)
}

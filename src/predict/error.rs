//! Why a prediction failed on the rank where it failed.

use std::error::Error;
use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::model::ModelError;
use crate::storage::StorageError;

/// Why a prediction failed. All ranks learn of it as a [`crate::parallel::JointFailure`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// The model cannot be read, or does not fit the data.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data set cannot be read, or has no such split.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(StorageError),
    /// The output would replace an input.
    #[error("{path}: the output would replace {what}; give it another name")]
    OutputIsInput {
        /// The output.
        path: PathBuf,
        /// The model or the data set.
        what: &'static str,
    },
    /// The operating system gave no threads.
    #[error("the threads could not be started; ask for fewer with --threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl PredictError {
    /// The code that the program ends with: 2 usage, 3 model or data, 4 numerical, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            PredictError::Model(ModelError::Overflow { .. }) => 4,
            PredictError::Model(_) => 3,
            PredictError::Data(error) => error.exit_code(),
            PredictError::Output(error) => error.exit_code(),
            PredictError::OutputIsInput { .. } => 2,
            PredictError::Threads(_) => 1,
        }
    }

    /// Exit code and message, with the reasons behind it, as the other ranks learn them.
    pub(super) fn describe(&self) -> (u8, String) {
        let mut message = self.to_string();
        let mut error: &dyn Error = self;
        while let Some(source) = error.source() {
            message.push_str(&format!(": {source}"));
            error = source;
        }
        (self.exit_code(), message)
    }
}

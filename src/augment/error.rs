//! Why augmented features could not be stored.

use crate::dataset::DatasetError;
use crate::parallel::JointFailure;
use crate::parallel::exchange::ExchangeError;
use crate::storage::StorageError;

/// Augmented features that could not be computed or stored.
#[derive(Debug, thiserror::Error)]
pub enum AugmentError {
    /// A rank could not go on; every rank has this same error.
    #[error(transparent)]
    Joint(#[from] JointFailure),
    /// The exchange with another rank failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The data cannot be read, or the result not written.
    #[error(transparent)]
    Data(#[from] DatasetError),
}

impl From<StorageError> for AugmentError {
    fn from(error: StorageError) -> Self {
        AugmentError::Data(error.into())
    }
}

impl AugmentError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            AugmentError::Joint(failure) => failure.exit_code(),
            AugmentError::Exchange(_) => 1,
            AugmentError::Data(error) => error.describe().0,
        }
    }

    /// Whether the other ranks know of it. If not they may wait for this rank for ever and must be ended.
    pub fn is_joint(&self) -> bool {
        matches!(self, AugmentError::Joint(JointFailure::Failed { .. }))
    }
}

//! What can be wrong with a model.

use crate::storage::{Fault, StorageError};

/// Why a model could not be made, read, written or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written, or breaks a rule of its format.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Parts that make no model; the place is where they would stand in a file.
    #[error("the model: {0}")]
    Invalid(#[from] Fault),
    /// The model was trained for data of other sizes.
    #[error(
        "the model does not fit the data: it was trained for {model} {what}, the data have {data}; predict with the \
         data set that it was trained on, or one with the same features and classes"
    )]
    DoesNotFit {
        /// Features or classes.
        what: &'static str,
        /// The model's number.
        model: usize,
        /// The data's number.
        data: usize,
    },
    /// The numbers left the range of their type on the way through the layers.
    #[error(
        "z of layer {layer} is not finite at node {node}: the weights or the node's features are too large for this \
         precision; scale the features, or train with --precision f64"
    )]
    Overflow {
        /// l.
        layer: usize,
        /// Number of the node.
        node: usize,
    },
}

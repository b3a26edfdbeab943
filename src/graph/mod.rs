//! From a graph to the input of the network: Ã, the operators Ψ and the augmented features X.

pub mod augment;
mod local_nodes;
pub mod normalise;
pub mod operators;
pub mod scale;
pub mod signs;

pub use augment::{Augmentation, FeatureBlock, column_block};
pub use local_nodes::LocalNodes;
pub use normalise::{RenormalisedAdjacency, inverse_root_degrees, renormalised_adjacency, renormalised_rows};
pub use operators::{FeatureNorm, Operator, OperatorError, Operators};
pub use scale::Scale;

//! From a graph to the input of the network: Ã, the operators Ψ and the augmented features X.

pub mod augment;
pub mod normalise;
pub mod operators;

pub use augment::{Augmentation, FeatureBlock};
pub use normalise::{RenormalisedAdjacency, renormalised_adjacency};
pub use operators::{FeatureNorm, Operator, OperatorError, Operators};

//! The methods that pdADMM-G is compared with: the same GA-MLP trained by backpropagation, full batch, with gradient
//! descent, Adagrad, Adadelta or Adam. Nothing here knows of MPI.
//!
//! One step: the gradient of the mean softmax cross-entropy over the training nodes, block of nodes by block of nodes
//! ([`network`]), with dropout ([`dropout`]); the blocks' gradients are added in the fixed tree of
//! [`crate::linalg::blocks`]; then one update of all parameters ([`optimizer`]).

pub mod dropout;
pub mod network;
pub mod optimizer;
pub mod parameters;

pub use dropout::Dropout;
pub use optimizer::{Optimizer, Rule};
pub use parameters::Layout;

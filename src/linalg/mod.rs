//! Dense linear algebra: the scalar type, the product, factorisations, node blocks and their sums.

pub mod blocks;
pub mod elements;
pub mod factor;
pub mod gram;
#[cfg(target_arch = "x86_64")]
mod kernel;
pub mod leading_eigen;
pub mod lists;
pub mod processor;
pub mod product;
pub mod scalar;
pub mod shards;
pub mod workers;

pub use blocks::{MatrixSum, NodeBlocks, ScalarSum};
pub use lists::Lists;
pub use scalar::Real;
pub use shards::{NodeShards, OneShard};
pub use workers::{SumStrips, Workers};

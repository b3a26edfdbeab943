//! One homogeneous graph: adjacency, features, labels and splits, and the HDF5 file that holds them.

use std::collections::BTreeMap;

use ndarray::Array2;

pub(crate) mod augmented;
pub mod check;
mod error;
mod file;
pub mod generate;
pub mod import;
mod rows;
pub mod split;
mod summary;
mod write;

pub use augmented::AugmentedHeader;
pub use error::DatasetError;
pub use file::{DatasetFile, Header, Outline, checksum};
pub use summary::Summary;

/// A sparse matrix in compressed rows: values f32, column indices u32, row pointers usize.
pub type SparseMatrix = sprs::CsMatI<f32, u32, usize>;

/// Node features H, N × d, a node a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// Every entry is stored.
    Dense(Array2<f32>),
    /// Only the non-zero entries are stored, in compressed rows.
    Sparse(SparseMatrix),
}

impl Features {
    /// Number of nodes N.
    pub fn nodes(&self) -> usize {
        match self {
            Features::Dense(h) => h.nrows(),
            Features::Sparse(h) => h.rows(),
        }
    }

    /// Number of entries that are stored.
    pub fn stored(&self) -> usize {
        match self {
            Features::Dense(h) => h.len(),
            Features::Sparse(h) => h.nnz(),
        }
    }

    /// Number of features d.
    pub fn dimension(&self) -> usize {
        match self {
            Features::Dense(h) => h.ncols(),
            Features::Sparse(h) => h.cols(),
        }
    }
}

/// Disjoint sets of node indices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Nodes whose labels are trained on.
    pub train: Vec<usize>,
    /// Nodes that choose the best iteration.
    pub val: Vec<usize>,
    /// Nodes that are only reported on.
    pub test: Vec<usize>,
    /// The seed the split was drawn from; `None` for a published split.
    pub seed: Option<u64>,
}

/// A graph with all that training needs; every invariant of the file format holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Short name, such as `cora`.
    pub name: String,
    /// Number of classes C; labels are `-1..C`, −1 where unknown.
    pub num_classes: usize,
    /// Raw edges A, N × N: sorted, no duplicates, no self loops, not normalised.
    pub adjacency: SparseMatrix,
    /// Node features H, N × d.
    pub features: Features,
    /// Class of each node, −1 where unknown.
    pub labels: Vec<i64>,
    /// Splits by name.
    pub splits: BTreeMap<String, Split>,
}

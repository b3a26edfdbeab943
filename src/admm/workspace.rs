//! Buffers that the updates borrow and give back, so that the iteration loop allocates nothing.

use std::collections::HashMap;

use ndarray::Array2;

use crate::linalg::gram::GramStrips;
use crate::linalg::{MatrixSum, Real};

/// Free matrices by shape, and the trees of sums over nodes by shape.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    free: HashMap<(usize, usize), Vec<Array2<T>>>,
    sums: HashMap<(usize, usize), Vec<MatrixSum<T>>>,
    grams: HashMap<usize, GramStrips<T>>,
    /// What comes from other shards before it is added.
    pub incoming: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// An empty workspace.
    pub fn new() -> Self {
        Self { free: HashMap::new(), sums: HashMap::new(), grams: HashMap::new(), incoming: Vec::new() }
    }

    /// A matrix of this shape; its content is arbitrary.
    pub fn take(&mut self, shape: (usize, usize)) -> Array2<T> {
        self.free.get_mut(&shape).and_then(Vec::pop).unwrap_or_else(|| Array2::zeros(shape))
    }

    /// Gives a matrix back for later use.
    pub fn give(&mut self, matrix: Array2<T>) {
        self.free.entry(matrix.dim()).or_default().push(matrix);
    }

    /// A matrix for each block, `cols` columns wide.
    pub fn take_blocks(&mut self, rows: impl Iterator<Item = usize>, cols: usize) -> Vec<Array2<T>> {
        rows.map(|rows| self.take((rows, cols))).collect()
    }

    /// Gives all matrices back.
    pub fn give_blocks(&mut self, blocks: Vec<Array2<T>>) {
        blocks.into_iter().for_each(|block| self.give(block));
    }

    /// The tree of sums for outputs of this shape.
    pub fn sum(&mut self, shape: (usize, usize)) -> &mut Vec<MatrixSum<T>> {
        self.sums.entry(shape).or_default()
    }

    /// The strips of Gram matrices of this size.
    pub fn gram(&mut self, n: usize) -> &mut GramStrips<T> {
        self.grams.entry(n).or_default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.free.iter().map(|((m, n), v)| m * n * v.len() * T::SIZE).sum()
    }
}

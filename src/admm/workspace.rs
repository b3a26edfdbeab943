//! Buffers that the updates borrow and give back, so that the iteration loop allocates nothing.

use std::collections::HashMap;

use ndarray::Array2;

use super::z_last::Newton;
use crate::linalg::{Real, SumStrips};

/// Sums over the nodes of a block, as many as an update may need at once.
pub type BlockSums = [f64; 5];

/// Free matrices by shape, free lists of them by block, and the trees of sums over nodes by shape.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    free: HashMap<(usize, usize), Vec<Array2<T>>>,
    blocks: Vec<Vec<Array2<T>>>,
    block_sums: Vec<Vec<BlockSums>>,
    sums: HashMap<(usize, usize), SumStrips<T>>,
    grams: HashMap<usize, SumStrips<T>>,
    newtons: Vec<Newton>,
    /// What comes from other shards before it is added.
    pub incoming: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// An empty workspace.
    pub fn new() -> Self {
        Self {
            free: HashMap::new(),
            blocks: Vec::new(),
            block_sums: Vec::new(),
            sums: HashMap::new(),
            grams: HashMap::new(),
            newtons: Vec::new(),
            incoming: Vec::new(),
        }
    }

    /// A matrix of this shape; its content is arbitrary.
    pub fn take(&mut self, shape: (usize, usize)) -> Array2<T> {
        self.free.get_mut(&shape).and_then(Vec::pop).unwrap_or_else(|| Array2::zeros(shape))
    }

    /// Gives a matrix back for later use.
    pub fn give(&mut self, matrix: Array2<T>) {
        self.free.entry(matrix.dim()).or_default().push(matrix);
    }

    /// A matrix for each block, `cols` columns wide; their contents are arbitrary.
    pub fn take_blocks(&mut self, rows: impl Iterator<Item = usize> + Clone, cols: usize) -> Vec<Array2<T>> {
        let fits =
            |list: &Vec<Array2<T>>| list.iter().map(Array2::dim).eq(rows.clone().map(|rows| (rows, cols)));
        match self.blocks.iter().position(fits) {
            Some(place) => self.blocks.swap_remove(place),
            None => rows.map(|rows| Array2::zeros((rows, cols))).collect(),
        }
    }

    /// Gives all matrices back.
    pub fn give_blocks(&mut self, blocks: Vec<Array2<T>>) {
        self.blocks.push(blocks);
    }

    /// Sums for so many blocks, all 0.
    pub fn take_sums(&mut self, blocks: usize) -> Vec<BlockSums> {
        let mut sums = self.block_sums.pop().unwrap_or_default();
        sums.clear();
        sums.resize(blocks, BlockSums::default());
        sums
    }

    /// Gives sums back.
    pub fn give_sums(&mut self, sums: Vec<BlockSums>) {
        self.block_sums.push(sums);
    }

    /// Vectors of the minimisation of z_L, for each block.
    pub fn take_newtons(&mut self, blocks: usize) -> Vec<Newton> {
        let mut newtons = std::mem::take(&mut self.newtons);
        newtons.resize_with(blocks, Newton::default);
        newtons
    }

    /// Gives these back.
    pub fn give_newtons(&mut self, newtons: Vec<Newton>) {
        self.newtons = newtons;
    }

    /// The trees of sums for outputs of this shape.
    pub fn sum(&mut self, shape: (usize, usize)) -> &mut SumStrips<T> {
        self.sums.entry(shape).or_default()
    }

    /// The strips of Gram matrices of this size.
    pub fn gram(&mut self, n: usize) -> &mut SumStrips<T> {
        self.grams.entry(n).or_default()
    }
}

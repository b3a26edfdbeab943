//! What the updates of a rank work with.

use super::Workspace;
use crate::linalg::{NodeShards, OneShard, Real, ScalarSum, Workers};

/// The threads of a rank, the ranks that share its layers, and buffers.
pub struct Team<'a, T> {
    /// Threads.
    pub workers: &'a Workers,
    /// The ranks that hold other nodes of the same layers.
    pub shards: &'a dyn NodeShards<T>,
    /// Buffers.
    pub workspace: &'a mut Workspace<T>,
}

impl<'a, T: Real> Team<'a, T> {
    /// A rank that holds all nodes of its layers.
    pub fn of_one_shard(workspace: &'a mut Workspace<T>, workers: &'a Workers) -> Self {
        Self { workers, shards: &OneShard, workspace }
    }

    /// Sums over all nodes of values that are given by block.
    pub fn sums<const K: usize>(&self, blocks: impl Iterator<Item = [f64; K]>) -> [f64; K] {
        let mut trees: [ScalarSum; K] = std::array::from_fn(|_| ScalarSum::new());
        for values in blocks {
            trees.iter_mut().zip(values).for_each(|(tree, value)| tree.push(value));
        }
        let mut sums = trees.map(|mut tree| tree.finish());
        self.shards.sum(&mut sums);
        sums
    }

    /// out ← Σ over the blocks of all shards of Aᵀ B; `blocks(i)` gives A (nodes × m) and B (nodes × n) of this shard's.
    pub fn sum_of_products<'b>(
        &mut self,
        count: usize,
        blocks: impl Fn(usize) -> (&'b ndarray::Array2<T>, &'b ndarray::Array2<T>) + Sync,
        out: &mut ndarray::Array2<T>,
    ) {
        let trees = self.workspace.sum(out.dim());
        self.workers.sum_of_products(count, blocks, trees, out);
        self.shards.sum_elements(crate::linalg::elements::flat_mut(out), &mut self.workspace.incoming);
    }
}

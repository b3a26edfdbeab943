//! What the updates of a rank work with.

use ndarray::{Array2, ArrayView2};

use super::Workspace;
use super::workspace::BlockSums;
use crate::linalg::elements::flat_mut;
use crate::linalg::workers::sum_of_products;
use crate::linalg::{Lists, NodeShards, OneShard, Real, ScalarSum, Workers};
use crate::timing::{Phase, PhaseClock, PhaseGuard};

/// The threads of a rank, the ranks that share its layers, and buffers.
pub struct Team<'a, T> {
    /// Threads.
    pub workers: &'a Workers,
    /// The ranks that hold other nodes of the same layers.
    pub shards: &'a dyn NodeShards<T>,
    /// Buffers.
    pub workspace: &'a mut Workspace<T>,
    /// The rank's clock, where there is one.
    pub clock: Option<&'a PhaseClock>,
    /// Lets messages move, where there are any: called between blocks where the rank has no threads beside its own.
    pub between_blocks: Option<&'a dyn Fn()>,
}

impl<'a, T: Real> Team<'a, T> {
    /// A rank that holds all nodes of its layers.
    pub fn of_one_shard(workspace: &'a mut Workspace<T>, workers: &'a Workers) -> Self {
        Self::of_shards(workspace, workers, &OneShard)
    }

    /// A rank that shares its layers with the others of `shards`.
    pub fn of_shards(
        workspace: &'a mut Workspace<T>,
        workers: &'a Workers,
        shards: &'a dyn NodeShards<T>,
    ) -> Self {
        Self { workers, shards, workspace, clock: None, between_blocks: None }
    }

    /// The same, with its time taken by `clock`.
    pub fn timed_by(self, clock: &'a PhaseClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Enters a phase until the guard is dropped.
    pub fn enter(&self, phase: Phase) -> PhaseGuard<'a> {
        PhaseGuard::of(self.clock, phase)
    }

    /// The same, with so many floating point operations that are made in it.
    pub fn enter_with(&self, phase: Phase, operations: f64) -> PhaseGuard<'a> {
        let guard = self.enter(phase);
        if let Some(clock) = self.clock {
            clock.count(operations);
        }
        guard
    }

    /// Runs `f(i, entry i of each list)` for every block; each must depend on its own block alone.
    pub fn each<L: Lists>(&self, lists: L, f: impl Fn(usize, L::Entry) + Sync) {
        match self.between_blocks {
            Some(between) if self.workers.threads() == 1 => {
                let (mut i, mut left) = (0, lists);
                while let Some((entry, others)) = left.first() {
                    f(i, entry);
                    between();
                    (i, left) = (i + 1, others);
                }
            }
            _ => self.workers.each(lists, f),
        }
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

    /// The same of sums that the blocks have gathered; the sums that are not asked for are left out.
    pub fn sums_of<const K: usize>(&mut self, blocks: Vec<BlockSums>) -> [f64; K] {
        let sums = self.sums(blocks.iter().map(|sums| std::array::from_fn(|k| sums[k])));
        self.workspace.give_sums(blocks);
        sums
    }

    /// out ← Σ over the blocks of all shards of Aᵀ B; `blocks(i)` gives A (nodes × m) and B (nodes × n) of this shard's.
    pub fn sum_of_products<'b>(
        &mut self,
        count: usize,
        blocks: impl Fn(usize) -> (ArrayView2<'b, T>, ArrayView2<'b, T>) + Sync,
        out: &mut Array2<T>,
    ) {
        let trees = self.workspace.sum(out.dim());
        match self.between_blocks {
            Some(between) if self.workers.threads() == 1 => {
                let blocks = |i| {
                    between();
                    blocks(i)
                };
                sum_of_products(count, blocks, trees, out);
            }
            _ => self.workers.sum_of_products(count, blocks, trees, out),
        }
        self.shards.sum_elements(flat_mut(out), &mut self.workspace.incoming);
    }

    /// out ← Σ over the blocks of all shards of Aᵀ A; `blocks(i)` gives A (nodes × n) of this shard's.
    pub fn gram<'b>(
        &mut self,
        count: usize,
        blocks: impl Fn(usize) -> ArrayView2<'b, T> + Sync,
        out: &mut Array2<T>,
    ) {
        self.workers.gram(count, blocks, self.workspace.gram(out.ncols()), out);
        self.shards.sum_elements(flat_mut(out), &mut self.workspace.incoming);
    }
}

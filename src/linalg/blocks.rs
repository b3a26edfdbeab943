//! Blocks of nodes and the fixed binary tree in which their partial sums are added.
//!
//! The blocks depend on the number of nodes alone, and partial sums are always added in the same tree, so any
//! number of ranks, threads or shards agrees to the last bit.

use std::ops::Range;

use ndarray::Array2;

use super::Real;

/// Below this many nodes a problem is one block: smaller ones would cost the product its speed.
const ONE_BLOCK: usize = 2048;
/// Blocks hold at most this many nodes.
const LARGEST_BLOCK: usize = 1536;
/// A problem of several blocks has at least this many, so that eight shards or threads have work.
const FEWEST_BLOCKS: usize = 8;

/// A partition of N nodes into contiguous blocks of nearly equal size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBlocks {
    starts: Vec<usize>,
}

impl NodeBlocks {
    /// The partition for `nodes` nodes: one block, or a power of two of blocks; or blocks of `block_nodes`.
    pub fn new(nodes: usize, block_nodes: Option<usize>) -> Self {
        let count = match block_nodes {
            Some(size) => nodes.div_ceil(size.max(1)).max(1),
            None if nodes < ONE_BLOCK => 1,
            None => nodes.div_ceil(LARGEST_BLOCK).next_power_of_two().max(FEWEST_BLOCKS),
        };
        Self { starts: (0..=count).map(|i| i * nodes / count).collect() }
    }

    /// These blocks, and after them those of `more`, whose nodes are numbered on.
    pub fn followed_by(mut self, more: &NodeBlocks) -> Self {
        let nodes = self.nodes();
        let ends = more.ranges().filter(|range| !range.is_empty()).map(|range| nodes + range.end);
        self.starts.extend(ends);
        self
    }

    /// These blocks alone, their nodes numbered from 0.
    pub fn run(&self, blocks: Range<usize>) -> Self {
        let starts = &self.starts[blocks.start..=blocks.end];
        let first = starts.first().copied().unwrap_or(0);
        Self { starts: starts.iter().map(|start| start - first).collect() }
    }

    /// Number of blocks; at least one but in a run of none.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of nodes in all blocks.
    pub fn nodes(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The nodes of block `i`.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i + 1]
    }

    /// The nodes of consecutive blocks.
    pub fn range_of(&self, blocks: Range<usize>) -> Range<usize> {
        self.starts[blocks.start]..self.starts[blocks.end]
    }

    /// Ranges of all blocks in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|w| w[0]..w[1])
    }
}

/// Adds block partials, pushed in block order, in a binary tree over the block numbers.
///
/// Works like a binary counter: two sums of 2^k blocks become one of 2^(k+1). A shard that owns an aligned run
/// of 2^k blocks therefore computes exactly one node of the tree.
#[derive(Debug, Clone)]
pub struct ScalarSum {
    /// Sums of 2^k blocks, for each bit k that is set in `count`.
    levels: [f64; usize::BITS as usize],
    count: usize,
}

impl Default for ScalarSum {
    fn default() -> Self {
        Self { levels: [0.0; usize::BITS as usize], count: 0 }
    }
}

impl ScalarSum {
    /// An empty sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the partial sum of the next block.
    pub fn push(&mut self, mut value: f64) {
        for (k, level) in self.levels.iter_mut().enumerate() {
            if self.count >> k & 1 == 0 {
                *level = value;
                break;
            }
            value += *level;
        }
        self.count += 1;
    }

    /// The sum of all blocks pushed; the sum is empty again afterwards.
    pub fn finish(&mut self) -> f64 {
        let count = std::mem::take(&mut self.count);
        let mut full = self.levels.iter().enumerate().filter(|(k, _)| count >> k & 1 == 1);
        let smallest = full.next().map_or(0.0, |(_, &sum)| sum);
        full.fold(smallest, |total, (_, sum)| total + sum)
    }

    /// The sum of all values in the tree.
    pub fn of(values: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = Self::new();
        for value in values {
            sum.push(value);
        }
        sum.finish()
    }
}

/// The same tree for matrices; its buffers are kept from one sum to the next.
#[derive(Debug)]
pub struct MatrixSum<T> {
    stack: Vec<(u32, Array2<T>)>,
    spare: Vec<Array2<T>>,
    shape: (usize, usize),
}

impl<T: Real> MatrixSum<T> {
    /// An empty sum of matrices of this shape.
    pub fn new(shape: (usize, usize)) -> Self {
        Self { stack: Vec::new(), spare: Vec::new(), shape }
    }

    /// Adds the next block's partial, which `fill` writes into a buffer (whose old content is arbitrary).
    pub fn push(&mut self, fill: impl FnOnce(&mut Array2<T>)) {
        let mut value = self.spare.pop().unwrap_or_else(|| Array2::zeros(self.shape));
        fill(&mut value);
        let mut level = 0;
        while self.stack.last().is_some_and(|(top, _)| *top == level) {
            let Some((_, mut below)) = self.stack.pop() else { break };
            below += &value;
            self.spare.push(value);
            value = below;
            level += 1;
        }
        self.stack.push((level, value));
    }

    /// Moves the sum of all blocks into `out`; the sum is empty again afterwards.
    pub fn finish(&mut self, out: &mut Array2<T>) {
        let Some((_, mut total)) = self.stack.pop() else {
            out.fill(T::zero());
            return;
        };
        while let Some((_, mut below)) = self.stack.pop() {
            below += &total;
            self.spare.push(total);
            total = below;
        }
        std::mem::swap(out, &mut total);
        self.spare.push(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_nodes_once_and_depend_on_the_problem_alone() {
        for nodes in [1, 7, 140, 2047, 2048, 10_000, 90_941] {
            let blocks = NodeBlocks::new(nodes, None);
            assert_eq!(blocks.nodes(), nodes);
            assert_eq!(blocks.ranges().map(|r| r.len()).sum::<usize>(), nodes);
            assert!(blocks.ranges().all(|r| !r.is_empty() && r.len() <= ONE_BLOCK));
        }
        assert_eq!(NodeBlocks::new(10_000, None).count(), 8);
        assert_eq!(NodeBlocks::new(10, Some(3)).count(), 4);
    }

    #[test]
    fn the_tree_of_a_shard_is_a_node_of_the_whole_tree() {
        let values: Vec<f64> = (0..16).map(|i| 1.0 / (1.0 + f64::from(i)).powi(7)).collect();
        let whole = ScalarSum::of(values.iter().copied());
        for shards in [1, 2, 4, 8] {
            let parts = values.chunks(16 / shards).map(|c| ScalarSum::of(c.iter().copied()));
            assert_eq!(whole.to_bits(), ScalarSum::of(parts).to_bits(), "{shards} shards");
        }
    }

    #[test]
    fn matrices_add_in_the_same_tree_as_scalars() {
        for blocks in 0..12 {
            let value = |i: i32| 1.0 / (1.0 + f64::from(i)).powi(5);
            let mut sum = MatrixSum::<f64>::new((1, 1));
            (0..blocks).for_each(|i| sum.push(|m| m[[0, 0]] = value(i)));
            let mut out = Array2::ones((1, 1));
            sum.finish(&mut out);
            assert_eq!(out[[0, 0]].to_bits(), ScalarSum::of((0..blocks).map(value)).to_bits());
        }
    }
}

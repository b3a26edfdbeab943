//! Sums over the ranks that share the nodes of a layer.
//!
//! A shard owns an aligned run of the blocks of [`super::NodeBlocks`], so its own sum is a node of the fixed tree. What
//! is above that node is added here, in the same tree, and every shard learns the whole sum to the same bits.

/// The ranks that hold the same layers, each with nodes of its own. All of them make the same calls in the same order.
///
/// An update cannot go on without a sum, and knows nothing of messages: where one fails, the implementation keeps the
/// error, leaves the values as they are, and fails the iteration at its end.
pub trait NodeShards<T> {
    /// Number of shards, a power of two.
    fn count(&self) -> usize;
    /// Each value becomes its sum over the shards.
    fn sum(&self, values: &mut [f64]);
    /// The same for the elements of a matrix or vector; `buffer` grows to as many elements.
    fn sum_elements(&self, values: &mut [T], buffer: &mut Vec<T>);
    /// The rows of all shards one below the other; `own` are this shard's, all of them fill `whole`.
    fn gather(&self, own: &[T], whole: &mut [T]);
}

/// All nodes are here.
#[derive(Debug, Clone, Copy)]
pub struct OneShard;

impl<T: Copy> NodeShards<T> for OneShard {
    fn count(&self) -> usize {
        1
    }
    fn sum(&self, _: &mut [f64]) {}
    fn sum_elements(&self, _: &mut [T], _: &mut Vec<T>) {}
    fn gather(&self, own: &[T], whole: &mut [T]) {
        whole.copy_from_slice(own);
    }
}

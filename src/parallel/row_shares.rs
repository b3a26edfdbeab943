//! Who holds which rows of the data set while features are augmented.

use std::ops::Range;

use super::node_blocks::BlockOwners;
use crate::graph::scale::row_blocks;
use crate::linalg::NodeBlocks;

/// All N nodes of a graph shared out over the ranks in runs, each of whole blocks of [`row_blocks`]. With more ranks
/// than blocks some have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowShares {
    blocks: NodeBlocks,
    owners: BlockOwners,
    /// First node of each rank, and N.
    starts: Vec<usize>,
}

impl RowShares {
    /// For `nodes` nodes and at least one rank.
    pub fn new(nodes: usize, ranks: usize) -> Self {
        let blocks = row_blocks(nodes);
        let owners = BlockOwners::new(blocks.count(), ranks);
        let start = |rank| blocks.range_of(owners.run(rank)).start;
        let starts = (0..ranks).map(start).chain([nodes]).collect();
        Self { blocks, owners, starts }
    }

    /// N.
    pub fn nodes(&self) -> usize {
        self.blocks.nodes()
    }

    /// The nodes of a rank.
    pub fn run(&self, rank: usize) -> Range<usize> {
        self.starts[rank]..self.starts[rank + 1]
    }

    /// The rank of a node.
    pub fn owner(&self, node: usize) -> usize {
        self.starts.partition_point(|&start| start <= node) - 1
    }

    /// The blocks in which sums over all nodes are formed.
    pub fn blocks(&self) -> &NodeBlocks {
        &self.blocks
    }

    /// Who holds which of them.
    pub fn owners(&self) -> BlockOwners {
        self.owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_one_owner() {
        for nodes in [1, 5, 1023, 1025, 5000] {
            for ranks in [1, 2, 3, 7, 12] {
                let shares = RowShares::new(nodes, ranks);
                let all: Vec<usize> = (0..ranks).flat_map(|rank| shares.run(rank)).collect();
                assert!(all.into_iter().eq(0..nodes));
                for rank in 0..ranks {
                    assert!(shares.run(rank).all(|node| shares.owner(node) == rank));
                    assert!(shares.run(rank).len() <= nodes.div_ceil(ranks) + 2 * nodes.div_ceil(1024));
                }
            }
        }
    }
}

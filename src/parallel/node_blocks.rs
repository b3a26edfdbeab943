//! Blocks of training nodes over the ranks: who owns which, their sum in the fixed tree of
//! [`crate::linalg::blocks`], and vectors that rank 0 gives to all.
//!
//! The tree over n blocks has the tree over the first p of them on its left and that over the rest on its right, p being
//! the largest power of two below n. A rank adds up whole subtrees alone; a node of the tree whose blocks are on several
//! ranks is the work of the rank of its first block. So the sum is the same for any number of ranks, to the last bit.

use std::ops::Range;

use ndarray::Array2;

use super::exchange::ExchangeError;
use super::matrix_messages::MatrixMessages;
use super::{Communicator, WaitPolicy};
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};
use crate::quantize::{Header, Kind};

/// `blocks` blocks shared out over `ranks` ranks in contiguous runs; with more ranks than blocks some ranks have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOwners {
    blocks: usize,
    ranks: usize,
}

impl BlockOwners {
    /// For at least one block and one rank.
    pub fn new(blocks: usize, ranks: usize) -> Self {
        Self { blocks: blocks.max(1), ranks: ranks.max(1) }
    }

    /// The rank of a block. Block 0 is on rank 0.
    pub fn owner(&self, block: usize) -> usize {
        block * self.ranks / self.blocks
    }

    /// The blocks of a rank.
    pub fn run(&self, rank: usize) -> Range<usize> {
        let first = |rank: usize| (rank * self.blocks).div_ceil(self.ranks);
        first(rank)..first(rank + 1)
    }

    /// The largest subtrees whose blocks are all on this rank, in order.
    pub fn subtrees(&self, rank: usize) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        self.collect(0..self.blocks, rank, &mut found);
        found
    }

    fn collect(&self, blocks: Range<usize>, rank: usize, found: &mut Vec<Range<usize>>) {
        let (first, last) = (self.owner(blocks.start), self.owner(blocks.end - 1));
        if first == last {
            if first == rank {
                found.push(blocks);
            }
        } else if first <= rank && rank <= last {
            let (left, right) = children(blocks);
            self.collect(left, rank, found);
            self.collect(right, rank, found);
        }
    }
}

/// Left and right part of the tree over two or more blocks.
fn children(blocks: Range<usize>) -> (Range<usize>, Range<usize>) {
    let half = blocks.len().next_power_of_two() / 2;
    let middle = blocks.start + half;
    (blocks.start..middle, middle..blocks.end)
}

/// Sums over blocks and broadcasts of vectors of one length.
pub struct BlockSum<'a> {
    messages: MatrixMessages<'a>,
    owners: BlockOwners,
}

impl<'a> BlockSum<'a> {
    /// Nothing sent yet.
    pub fn new(communicator: &'a dyn Communicator, policy: &'a WaitPolicy, owners: BlockOwners) -> Self {
        Self { messages: MatrixMessages::new(communicator, policy), owners }
    }

    /// Bytes that this rank has sent, headers included.
    pub fn bytes(&self) -> u64 {
        self.messages.bytes
    }

    /// Goes on counting from here, where a run goes on.
    pub fn count_from(&mut self, bytes: u64) {
        self.messages.bytes = bytes;
    }

    /// Adds up the subtrees of all ranks; rank 0 gets the sum. `parts` are this rank's (1 × length), in the order of
    /// [`BlockOwners::subtrees`]; those that were added up are left empty.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn to_root<T: Real>(
        &mut self,
        iteration: u64,
        length: usize,
        parts: &mut Vec<Array2<T>>,
    ) -> Result<Option<Array2<T>>, ExchangeError> {
        let mut parts = parts.drain(..);
        let blocks = 0..self.owners.blocks;
        let sum = self.node(blocks, iteration, length, &mut parts)?;
        drop(parts);
        self.messages.finish_sends()?;
        Ok(sum)
    }

    /// The sum over these blocks, on the rank of the first of them.
    ///
    /// All ranks go through the tree in the same order, so a rank only ever waits for one that is further along.
    fn node<T: Real>(
        &mut self,
        blocks: Range<usize>,
        iteration: u64,
        length: usize,
        parts: &mut impl Iterator<Item = Array2<T>>,
    ) -> Result<Option<Array2<T>>, ExchangeError> {
        let rank = self.messages.communicator().rank();
        let (first, last) = (self.owners.owner(blocks.start), self.owners.owner(blocks.end - 1));
        if rank < first || last < rank {
            return Ok(None);
        }
        if first == last {
            return Ok(parts.next());
        }
        let (left, right) = children(blocks);
        let (to, from) = (first, self.owners.owner(right.start));
        let header = header(Kind::State, right.start, iteration, length);
        let below = self.node(left, iteration, length, parts)?;
        let above = self.node(right, iteration, length, parts)?;
        match (below, above) {
            (Some(mut below), Some(above)) => {
                below += &above;
                Ok(Some(below))
            }
            (Some(mut below), None) => {
                let pending = self.messages.post_receive::<T>(from, &header, purpose(&header))?;
                let mut above = Array2::zeros((1, length));
                self.messages.receive(from, pending, &header, flat_mut(&mut above))?;
                below += &above;
                Ok(Some(below))
            }
            (None, Some(above)) => {
                self.messages.send(to, &header, purpose(&header), flat(&above))?;
                Ok(None)
            }
            (None, None) => Ok(None),
        }
    }

    /// Gives every rank the numbers of rank 0, by a binomial tree.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn from_root<T: Real>(&mut self, iteration: u64, values: &mut [T]) -> Result<(), ExchangeError> {
        let communicator = self.messages.communicator();
        let (rank, size) = (communicator.rank(), communicator.size());
        let header = header(Kind::Weights, 0, iteration, values.len());
        if rank > 0 {
            let parent = rank & (rank - 1);
            let pending = self.messages.post_receive::<T>(parent, &header, purpose(&header))?;
            self.messages.receive(parent, pending, &header, values)?;
        }
        let lowest = if rank == 0 { size.next_power_of_two() } else { 1 << rank.trailing_zeros() };
        let mut step = lowest / 2;
        while step > 0 {
            if rank + step < size {
                self.messages.send(rank + step, &header, purpose(&header), values)?;
            }
            step /= 2;
        }
        self.messages.finish_sends()
    }
}

fn header(kind: Kind, block: usize, iteration: u64, length: usize) -> Header {
    Header { kind, boundary: 0, block: block as u32, iteration, rows: 1, cols: length as u32 }
}

fn purpose(header: &Header) -> &'static str {
    match header.kind {
        Kind::Weights => "parameters of the network",
        _ => "sum of gradients",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linalg::MatrixSum;
    use crate::parallel::ThreadCommunicator;

    /// Sum over the blocks in the fixed tree.
    fn sum(blocks: impl Iterator<Item = usize>, length: usize) -> Array2<f32> {
        let mut sum = MatrixSum::new((1, length));
        for block in blocks {
            sum.push(|out| {
                out.indexed_iter_mut()
                    .for_each(|((_, j), x)| *x = 1.0 / (1.7 + (block * 31 + j % 1000) as f32));
            });
        }
        let mut out = Array2::zeros((1, length));
        sum.finish(&mut out);
        out
    }

    #[test]
    fn every_block_has_one_owner() {
        for blocks in 1..20 {
            for ranks in 1..24 {
                let owners = BlockOwners::new(blocks, ranks);
                let all: Vec<usize> = (0..ranks).flat_map(|rank| owners.run(rank)).collect();
                assert_eq!(all, (0..blocks).collect::<Vec<_>>());
                for rank in 0..ranks {
                    assert!(owners.run(rank).all(|block| owners.owner(block) == rank));
                    assert!(owners.subtrees(rank).into_iter().flatten().eq(owners.run(rank)));
                }
                assert_eq!(owners.owner(0), 0);
            }
        }
    }

    /// 20,000 numbers are above the length from which a send waits for its receive.
    #[test]
    fn sums_are_those_of_the_tree_on_any_ranks() {
        for (blocks, length) in [(1, 3), (5, 7), (8, 20_000), (13, 40)] {
            let expected = sum(0..blocks, length);
            for ranks in [1, 2, 3, 5, 7, 16] {
                let owners = BlockOwners::new(blocks, ranks);
                let all = ThreadCommunicator::run(ranks, |communicator| {
                    let policy = WaitPolicy::new();
                    let mut tree = BlockSum::new(communicator, &policy, owners);
                    let mut out = Vec::new();
                    for iteration in 1..=2 {
                        let subtrees = owners.subtrees(communicator.rank());
                        let mut parts = subtrees.into_iter().map(|blocks| sum(blocks, length)).collect();
                        let total = tree.to_root(iteration, length, &mut parts).unwrap();
                        assert_eq!(total.is_some(), communicator.rank() == 0);
                        out = total.map_or(vec![0.0; length], |total| flat(&total).to_vec());
                        tree.from_root(iteration, &mut out).unwrap();
                    }
                    assert_eq!(tree.bytes() > 0, ranks > 1 && (communicator.rank() == 0 || tree.bytes() > 0));
                    out
                });
                for out in all {
                    assert!(out == flat(&expected), "{blocks} blocks on {ranks} ranks");
                }
            }
        }
    }
}

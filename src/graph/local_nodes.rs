//! The nodes that a part of the graph deals with.

use std::ops::Range;

use crate::dataset::SparseMatrix;

/// A part's own run of nodes, and the nodes beyond that its rows read, numbered from 0: first its own, then the others
/// in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNodes {
    own: Range<usize>,
    beyond: Vec<u32>,
}

impl LocalNodes {
    /// All nodes of a graph as one part.
    pub fn all(nodes: usize) -> Self {
        Self { own: 0..nodes, beyond: Vec::new() }
    }

    /// Of the part whose own nodes are `own`, with the rows of A of these.
    pub fn of(rows: &SparseMatrix, own: Range<usize>) -> Self {
        let mut is_read = vec![false; rows.cols()];
        rows.indices().iter().for_each(|&node| is_read[node as usize] = true);
        let is_beyond = |&node: &usize| is_read[node] && !own.contains(&node);
        let beyond = (0..rows.cols()).filter(is_beyond).map(|node| node as u32).collect();
        Self { own, beyond }
    }

    /// The run of own nodes.
    pub fn own(&self) -> Range<usize> {
        self.own.clone()
    }

    /// The nodes of other parts, rising.
    pub fn beyond(&self) -> &[u32] {
        &self.beyond
    }

    /// How many nodes there are, own and beyond.
    pub fn reach(&self) -> usize {
        self.own.len() + self.beyond.len()
    }

    /// The number of a node that is one of them.
    pub fn number(&self, node: usize) -> usize {
        match self.own.contains(&node) {
            true => node - self.own.start,
            false => self.own.len() + self.beyond.partition_point(|&other| (other as usize) < node),
        }
    }

    /// Which of the nodes beyond lie in a run of nodes, by their place among those beyond.
    pub fn beyond_within(&self, run: &Range<usize>) -> Range<usize> {
        let place = |node: usize| self.beyond.partition_point(|&other| (other as usize) < node);
        place(run.start)..place(run.end)
    }
}

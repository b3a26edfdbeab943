//! Evaluation: a forward pass without quantization over training, validation and test nodes, block after block
//! through the ranks, so that a rank works on one block while the next rank works on the one before.

use std::ops::Range;

use ndarray::{Array1, Array2};

use super::f1::ClassCounts;
use super::input::{EvaluatedInput, WeightsView};
use crate::admm::iteration::RankState;
use crate::admm::z_last::cross_entropy;
use crate::admm::{Layer, Weights, Workspace};
use crate::linalg::elements::{flat, flat_mut, flat_vector, rows, rows_mut};
use crate::linalg::{NodeBlocks, NodeShards, Real, ScalarSum, product::product};
use crate::model::forward::argmax;
use crate::parallel::exchange::{Exchange, ExchangeError};

/// The number of the test set in [`EvaluatedNodes::sets`].
const TEST: usize = 2;
/// Nodes of a block of the forward pass.
const BLOCK: usize = 512;

/// The evaluated nodes: training, validation and test, in this order.
#[derive(Debug, Clone)]
pub struct EvaluatedNodes {
    /// Rows of each set.
    pub sets: [Range<usize>; 3],
    /// Classes of the nodes of each block; `None` where unknown.
    pub labels: Vec<Vec<Option<usize>>>,
    /// The blocks.
    pub blocks: NodeBlocks,
}

/// Correct predictions and risk of the three sets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Nodes of known class predicted right: training, validation, test.
    pub correct: [f64; 3],
    /// Softmax cross-entropy, summed over nodes of known class.
    pub loss: [f64; 3],
}

impl Scores {
    /// Number of values in [`Scores::to_array`].
    pub const COUNT: usize = 6;

    /// All values, to be reduced.
    pub fn to_array(self) -> [f64; Self::COUNT] {
        let ([a, b, c], [d, e, f]) = (self.correct, self.loss);
        [a, b, c, d, e, f]
    }

    /// The inverse of [`Scores::to_array`].
    pub fn from_array([a, b, c, d, e, f]: [f64; Self::COUNT]) -> Self {
        Self { correct: [a, b, c], loss: [d, e, f] }
    }
}

impl EvaluatedNodes {
    /// For nodes in the order training, validation, test, with their classes.
    pub fn new(sizes: [usize; 3], labels: &[Option<usize>]) -> Self {
        Self::in_blocks(sizes, labels, Self::blocks_of(labels.len()))
    }

    /// The blocks of so many evaluated nodes.
    pub fn blocks_of(nodes: usize) -> NodeBlocks {
        NodeBlocks::new(nodes, Some(BLOCK))
    }

    /// The same in given blocks of as many nodes as there are labels.
    pub fn in_blocks(sizes: [usize; 3], labels: &[Option<usize>], blocks: NodeBlocks) -> Self {
        let [train, val, test] = sizes;
        let sets = [0..train, train..train + val, train + val..train + val + test];
        let labels = blocks.ranges().map(|rows| labels[rows].to_vec()).collect();
        Self { sets, labels, blocks }
    }

    /// Nodes of known class in each set.
    pub fn known(&self) -> [usize; 3] {
        let mut known = [0; 3];
        for (block, rows) in self.blocks.ranges().enumerate() {
            for (label, row) in self.labels[block].iter().zip(rows) {
                if let (Some(_), Some(set)) = (label, self.set_of(row)) {
                    known[set] += 1;
                }
            }
        }
        known
    }

    fn set_of(&self, row: usize) -> Option<usize> {
        self.sets.iter().position(|set| set.contains(&row))
    }

    /// Scores of the logits of one block; the lowest class wins a tie.
    pub(super) fn score<T: Real>(&self, block: usize, logits: &Array2<T>) -> Scores {
        let mut scores = Scores::default();
        for ((z, label), row) in rows(logits).zip(&self.labels[block]).zip(self.blocks.range(block)) {
            if let (Some(label), Some(set)) = (*label, self.set_of(row)) {
                scores.correct[set] += f64::from(u8::from(argmax(z.iter().copied()) == label));
                scores.loss[set] += cross_entropy(z.iter().map(|z| z.f64()), label);
            }
        }
        scores
    }

    /// Adds the test nodes of one block to the counts.
    pub(super) fn count<T: Real>(&self, block: usize, logits: &Array2<T>, counts: &mut ClassCounts) {
        for ((z, label), row) in rows(logits).zip(&self.labels[block]).zip(self.blocks.range(block)) {
            if let (Some(label), Some(TEST)) = (*label, self.set_of(row)) {
                counts.add(label, argmax(z.iter().copied()));
            }
        }
    }
}

/// W and b of one layer as they were at an evaluation.
#[derive(Debug, Clone)]
pub struct Snapshot<T> {
    /// l.
    pub index: usize,
    /// W; of layer 1 in N dimensions D.
    matrix: Array2<T>,
    /// c of layer 1 in N dimensions.
    c: f64,
    /// b.
    b: Array1<T>,
}

impl<T: Real> Snapshot<T> {
    /// From what [`Snapshot::parts`] gives.
    pub fn from_parts(index: usize, matrix: Array2<T>, c: f64, b: Array1<T>) -> Self {
        Self { index, matrix, c, b }
    }

    /// W (of layer 1 in N dimensions D), c and b.
    pub fn parts(&self) -> (&Array2<T>, f64, &Array1<T>) {
        (&self.matrix, self.c, &self.b)
    }

    /// W (or D) and b.
    pub fn into_arrays(self) -> (Array2<T>, Array1<T>) {
        (self.matrix, self.b)
    }

    /// A copy of the layer's weights.
    pub fn of(layer: &Layer<T>) -> Self {
        let (matrix, c) = match &layer.weights {
            Weights::Hidden(w) => (w, 1.0),
            Weights::First(first) => (&first.w, 1.0),
            Weights::Dual(dual) => (&dual.d, dual.c),
        };
        Self { index: layer.index, matrix: matrix.clone(), c, b: layer.b.clone() }
    }

    /// Copies the layer's weights again, into the same memory.
    pub fn update(&mut self, layer: &Layer<T>) {
        match &layer.weights {
            Weights::Hidden(w) => self.matrix.assign(w),
            Weights::First(first) => self.matrix.assign(&first.w),
            Weights::Dual(dual) => {
                self.matrix.assign(&dual.d);
                self.c = dual.c;
            }
        }
        self.b.assign(&layer.b);
    }

    /// Writes the copy back into the layer.
    pub fn restore(&self, layer: &mut Layer<T>) {
        match &mut layer.weights {
            Weights::Hidden(w) => w.assign(&self.matrix),
            Weights::First(first) => first.w.assign(&self.matrix),
            Weights::Dual(dual) => {
                dual.d.assign(&self.matrix);
                dual.c = self.c;
            }
        }
        layer.b.assign(&self.b);
    }

    /// The dense W and b, for which layer 1 in N dimensions needs its fixed parts from `layer`, and all shards together.
    pub fn dense(&self, layer: &Layer<T>, shards: &dyn NodeShards<T>) -> (Array2<T>, Array1<T>) {
        let w = match &layer.weights {
            Weights::Dual(dual) => {
                let lengths: Vec<usize> = layer.blocks.iter().map(|block| block.m.nrows()).collect();
                let mut w = dual.part_of_dense(&self.matrix, &lengths);
                shards.sum_elements(flat_mut(&mut w), &mut Vec::new());
                w.scaled_add(T::of(self.c), &dual.w0);
                w
            }
            _ => self.matrix.clone(),
        };
        (w, self.b.clone())
    }
}

/// What a rank does its part of a forward pass with.
pub struct Pass<'a, 'b, T> {
    /// The features of its evaluated blocks, on the ranks of layer 1.
    pub input: Option<&'a EvaluatedInput<T>>,
    /// All evaluated nodes.
    pub nodes: &'a EvaluatedNodes,
    /// The blocks of this rank's shard.
    pub own: Range<usize>,
    /// The way to the ranks that hold the layers below and above.
    pub exchange: &'a mut Exchange<'b>,
    /// The ranks that hold other nodes of the same layers.
    pub shards: &'a dyn NodeShards<T>,
    /// Buffers.
    pub workspace: &'a mut Workspace<T>,
}

impl<T: Real> Pass<'_, '_, T> {
    /// Runs the forward pass of this rank's layers over the evaluated nodes of its shard; the ranks of layer L return the
    /// scores. Cost: 2 n_l n_{l−1} a node and layer.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn evaluate(self, state: &RankState<T>) -> Result<Option<Scores>, ExchangeError> {
        let nodes = self.nodes;
        let mut scores = Vec::with_capacity(self.own.len());
        self.forward(state, |block, logits| scores.push(nodes.score(block, logits)))?;
        if state.layers.is_empty() || state.has_rank_above() {
            return Ok(None);
        }
        let mut total = [0.0; Scores::COUNT];
        for (i, total) in total.iter_mut().enumerate() {
            *total = ScalarSum::of(scores.iter().map(|scores| scores.to_array()[i]));
        }
        Ok(Some(Scores::from_array(total)))
    }

    /// The forward pass of [`Pass::evaluate`]; the ranks of layer L hand the logits of each block to `take`.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn forward(
        self,
        state: &RankState<T>,
        mut take: impl FnMut(usize, &Array2<T>),
    ) -> Result<(), ExchangeError> {
        let Self { input, nodes, own, exchange, shards, workspace } = self;
        let Some(first) = state.layers.first() else { return Ok(()) };
        let mut all_d = None;
        let below_width = match &first.weights {
            Weights::Hidden(w) => w.ncols(),
            Weights::First(_) => 0,
            Weights::Dual(dual) => {
                let mut d = workspace.take((dual.gram.ncols(), dual.d.ncols()));
                shards.gather(flat(&dual.d), flat_mut(&mut d));
                all_d = Some(d);
                0
            }
        };
        let lengths = own.clone().map(|block| nodes.blocks.range(block).len());
        if state.has_rank_below() {
            exchange.expect_activations::<T>(lengths.clone().map(|rows| (rows, below_width)))?;
        }
        for (at, (block, count)) in own.zip(lengths).enumerate() {
            let mut activations: Option<Array2<T>> = None;
            if state.has_rank_below() {
                let mut received = workspace.take((count, below_width));
                exchange.receive_activations(first.index - 1, at, &mut received)?;
                activations = Some(received);
            }
            for layer in &state.layers {
                let mut z = workspace.take((count, layer.b.len()));
                match (&layer.weights, input, activations.take()) {
                    (Weights::Hidden(w), _, Some(p)) => {
                        product(T::one(), &p, &w.t(), T::zero(), &mut z);
                        workspace.give(p);
                    }
                    (Weights::First(first), Some(input), _) => {
                        input.times_weights(at, WeightsView::Plain(&first.w), &mut z);
                    }
                    (Weights::Dual(dual), Some(input), _) => {
                        let d = all_d.as_ref().unwrap_or(&dual.d);
                        input.times_weights(at, WeightsView::Dual { c: dual.c, d }, &mut z);
                    }
                    _ => unreachable!("layer 1 is held together with its input"),
                }
                let hidden = layer.index < state.depth;
                for row in rows_mut(&mut z) {
                    for (z, &b) in row.iter_mut().zip(flat_vector(&layer.b)) {
                        *z += b;
                        if hidden {
                            *z = z.max(T::zero());
                        }
                    }
                }
                activations = Some(z);
            }
            let Some(out) = activations else { continue };
            if state.has_rank_above() {
                let l = state.layers.last().map_or(0, |layer| layer.index);
                exchange.send_activations(l, at, &out)?;
            } else {
                take(block, &out);
            }
            workspace.give(out);
        }
        all_d.into_iter().for_each(|d| workspace.give(d));
        Ok(())
    }
}

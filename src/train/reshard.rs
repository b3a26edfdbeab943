//! Moves the rows of layer 1's input where a stage divides the nodes into other shards than the one before.

use ndarray::{Array2, concatenate};

use super::driver::Run;
use super::error::TrainError;
use super::input::{EvaluatedInput, is_dual};
use crate::admm::Weights;
use crate::admm::deepen::LayerWeights;
use crate::linalg::{NodeBlocks, Real};
use crate::parallel::plan::{StageShape, blocks_of};
use crate::parallel::redistribute::move_rows;

impl<T: Real> Run<'_, T> {
    /// Layer 1 and its input on the ranks of `new` shards, from those of `old`; every rank calls this. Where a rank no
    /// longer holds layer 1, it leaves `held`.
    ///
    /// # Errors
    /// The exchange failed.
    pub(super) fn reshard_first_layer(
        &mut self,
        held: &mut Vec<LayerWeights<T>>,
        [old, new]: [usize; 2],
        shape: &StageShape,
    ) -> Result<(), TrainError> {
        if old == new {
            return Ok(());
        }
        let rank = self.communicator.rank();
        let first = held.iter().position(|layer| layer.index == 1).map(|at| held.swap_remove(at));
        let (n0, n1, nodes) = (shape.inputs, shape.neurons, shape.nodes);
        let own = |shards| match rank < shards {
            true => blocks_of(rank, shards, self.blocks.count()),
            false => 0..0,
        };
        let evaluated = match self.input.take() {
            None => vec![Vec::new(); 2],
            Some(EvaluatedInput::Plain(x)) => vec![x],
            Some(EvaluatedInput::Dual(blocks)) => {
                let (gram, a0) = blocks.into_iter().unzip();
                vec![gram, a0]
            }
        };
        let dual = is_dual(nodes, n0);
        let (trained_widths, evaluated_widths) =
            if dual { (vec![n0, nodes, n1, n1], vec![nodes, n1]) } else { (vec![n0], vec![n0]) };
        let blocks = self.blocks.run(own(old));
        let cut = |whole: &Array2<T>| -> Vec<Array2<T>> {
            blocks.ranges().map(|rows| whole.slice(ndarray::s![rows, ..]).to_owned()).collect()
        };
        let (trained, first) = match first {
            None => (vec![Vec::new(); trained_widths.len()], None),
            Some(LayerWeights { weights: Weights::First(mut first), b, index }) => {
                let x = std::mem::take(&mut first.x);
                (vec![x], Some(LayerWeights { index, weights: Weights::First(first), b }))
            }
            Some(LayerWeights { weights: Weights::Dual(dual), b, index }) => {
                let rows = [&dual.x, &dual.gram, &dual.a0, &dual.d].map(cut).to_vec();
                (rows, Some(LayerWeights { index, weights: Weights::Dual(dual), b }))
            }
            Some(layer) => (Vec::new(), Some(layer)),
        };
        let (communicator, policy, shards) = (self.communicator, self.policy, [old, new]);
        let trained = move_rows(communicator, policy, &self.blocks, shards, &trained_widths, trained)?;
        let of_evaluated = &self.evaluated.blocks;
        let mut evaluated =
            move_rows(communicator, policy, of_evaluated, shards, &evaluated_widths, evaluated)?.into_iter();
        if rank >= new {
            return Ok(());
        }
        let (first_blocks, second_blocks) = (evaluated.next(), evaluated.next());
        self.input = match (first_blocks, second_blocks) {
            (Some(gram), Some(a0)) => Some(EvaluatedInput::Dual(gram.into_iter().zip(a0).collect())),
            (Some(x), None) => Some(EvaluatedInput::Plain(x)),
            _ => None,
        };
        let start = self.blocks.range(own(new).start).start;
        held.extend(first.map(|layer| with_rows(layer, trained, start)));
        Ok(())
    }
}

/// Layer 1 with these rows of its matrices, the first of which belongs to node `start`. What all shards work out together
/// is dropped on all of them.
fn with_rows<T: Real>(
    mut layer: LayerWeights<T>,
    rows: Vec<Vec<Array2<T>>>,
    start: usize,
) -> LayerWeights<T> {
    let join = |blocks: Vec<Array2<T>>| {
        let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        concatenate(ndarray::Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, 0)))
    };
    let mut rows = rows.into_iter();
    match &mut layer.weights {
        Weights::First(first) => {
            (first.x, first.gram, first.inverse) = (rows.next().unwrap_or_default(), None, None);
        }
        Weights::Dual(dual) => {
            let mut next = || join(rows.next().unwrap_or_default());
            (dual.x, dual.gram, dual.a0, dual.d) = (next(), next(), next(), next());
            (dual.first_node, dual.inverse) = (start, None);
        }
        Weights::Hidden(_) => {}
    }
    layer
}

/// This rank's part of a partition of nodes, numbered from 0.
impl NodeBlocks {
    pub(super) fn of_shard(&self, shard: usize, shards: usize) -> (std::ops::Range<usize>, NodeBlocks) {
        let own = blocks_of(shard, shards, self.count());
        let blocks = self.run(own.clone());
        (own, blocks)
    }
}

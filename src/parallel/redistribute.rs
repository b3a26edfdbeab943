//! Moves the weights of layers, and rows of layer 1's input, to the ranks that hold them next.

use ndarray::{Array1, Array2};

use super::exchange::ExchangeError;
use super::matrix_messages::MatrixMessages;
use super::plan::{Plan, StageShape, blocks_of};
use super::{Communicator, Pending, WaitPolicy};
use crate::admm::Weights;
use crate::admm::deepen::{LayerWeights, Origin, new_layer, origin};
use crate::linalg::elements::{flat, flat_mut, flat_vector};
use crate::linalg::{NodeBlocks, Real};
use crate::quantize::{Header, Kind};

/// W and b of one layer, dense.
pub type DenseLayer<T> = (Array2<T>, Array1<T>);

/// A plan with the network it is for.
#[derive(Debug, Clone, Copy)]
pub struct Holding<'a> {
    /// Who holds which layers.
    pub plan: &'a Plan,
    /// The shape of the stage.
    pub stage: &'a StageShape,
}

const PURPOSE: &str = "weights of a layer";

/// Brings every layer of the next stage to its new holders: trained layers from their old ones, new ones made in
/// place (identity, or random from the seed in the first stage).
///
/// `held` are this rank's layers of the stage `old`. Layer 1 stays on the ranks that go on holding it, with its input; they
/// are among those that held it before. Receives are posted before sends.
///
/// # Errors
/// The exchange failed.
pub fn redistribute<T: Real>(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    mut held: Vec<LayerWeights<T>>,
    old: Option<Holding<'_>>,
    new: Holding<'_>,
    seed: u64,
) -> Result<Vec<LayerWeights<T>>, ExchangeError> {
    let rank = communicator.rank();
    let layers = new.stage.layers;
    let mut messages = MatrixMessages::new(communicator, policy);
    // The old layer that layer l was, and the rank that gives it to the holder of this shard.
    let source = |l: usize, shard: usize| match (origin(l, layers, old.map(|old| old.stage.layers)), old) {
        (Origin::Trained(from), Some(old)) if l > 1 => {
            Some((from, old.plan.holder(from, shard % old.plan.shards())))
        }
        _ => None,
    };
    let mine: Vec<usize> = new.plan.layers_of(rank).into_iter().flatten().collect();
    let shard = new.plan.shard_of(rank);
    let mut receives: Vec<(usize, [Pending; 2])> = Vec::new();
    for &l in &mine {
        if let Some((_, from)) = source(l, shard)
            && from != rank
        {
            let [w, b] = headers(l, new.stage);
            let w = messages.post_receive::<T>(from, &w, PURPOSE)?;
            receives.push((l, [w, messages.post_receive::<T>(from, &b, PURPOSE)?]));
        }
    }
    for l in 2..=layers {
        for shard in 0..new.plan.shards() {
            let to = new.plan.holder(l, shard);
            if let Some((from, giver)) = source(l, shard)
                && giver == rank
                && to != rank
                && let Some(LayerWeights { weights: Weights::Hidden(w), b, .. }) =
                    held.iter().find(|layer| layer.index == from)
            {
                send_layer(&mut messages, to, l, new.stage, w, b)?;
            }
        }
    }
    let mut result = Vec::new();
    for l in mine {
        let kept = |held: &mut Vec<LayerWeights<T>>, from: usize| {
            let at = held.iter().position(|layer| layer.index == from)?;
            Some(LayerWeights { index: l, ..held.swap_remove(at) })
        };
        let layer = match (source(l, shard), receives.iter().position(|(of, _)| *of == l)) {
            (Some((_, giver)), Some(at)) => {
                let (_, pending) = receives.swap_remove(at);
                let (w, b) = receive_layer(&mut messages, giver, l, new.stage, pending)?;
                Some(LayerWeights { index: l, weights: Weights::Hidden(w), b })
            }
            (Some((from, _)), None) => kept(&mut held, from),
            // Layer 1 was built with its input.
            (None, _) if l == 1 => kept(&mut held, 1),
            (None, _) => {
                let origin = origin(l, layers, old.map(|old| old.stage.layers));
                Some(new_layer(origin, seed, l, new.stage.width(l), new.stage.width(l - 1)))
            }
        };
        result.extend(layer);
    }
    messages.finish_sends()?;
    Ok(result)
}

/// The headers of W_l and b_l.
fn headers(l: usize, stage: &StageShape) -> [Header; 2] {
    let (outputs, inputs) = (stage.width(l), stage.width(l - 1));
    [header(Kind::Weights, l, 0, outputs, inputs), header(Kind::Weights, l, 1, 1, outputs)]
}

fn header(kind: Kind, of: usize, block: usize, rows: usize, cols: usize) -> Header {
    Header {
        kind,
        boundary: of as u32,
        block: block as u32,
        iteration: 0,
        rows: rows as u32,
        cols: cols as u32,
    }
}

fn send_layer<T: Real>(
    messages: &mut MatrixMessages<'_>,
    to: usize,
    l: usize,
    stage: &StageShape,
    w: &Array2<T>,
    b: &Array1<T>,
) -> Result<(), ExchangeError> {
    let headers = headers(l, stage);
    messages.send(to, &headers[0], PURPOSE, flat(w))?;
    messages.send(to, &headers[1], PURPOSE, flat_vector(b))
}

fn receive_layer<T: Real>(
    messages: &mut MatrixMessages<'_>,
    from: usize,
    l: usize,
    stage: &StageShape,
    [w_pending, b_pending]: [Pending; 2],
) -> Result<DenseLayer<T>, ExchangeError> {
    let headers = headers(l, stage);
    let mut w = Array2::zeros((stage.width(l), stage.width(l - 1)));
    messages.receive(from, w_pending, &headers[0], flat_mut(&mut w))?;
    let mut b = Array2::zeros((1, stage.width(l)));
    messages.receive(from, b_pending, &headers[1], flat_mut(&mut b))?;
    Ok((w, Array1::from_iter(b)))
}

/// Gathers W and b of one layer on rank 0 from its owner; the others get `None`. `layer` is given on the owner.
///
/// # Errors
/// The exchange failed.
pub fn gather_layer<T: Real>(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    l: usize,
    holding: Holding<'_>,
    layer: Option<DenseLayer<T>>,
) -> Result<Option<DenseLayer<T>>, ExchangeError> {
    let (rank, owner) = (communicator.rank(), holding.plan.owner(l));
    let mut messages = MatrixMessages::new(communicator, policy);
    match (rank == 0, rank == owner, layer) {
        (true, true, layer) => Ok(layer),
        (true, false, _) => {
            let [w, b] = headers(l, holding.stage);
            let w = messages.post_receive::<T>(owner, &w, PURPOSE)?;
            let pending = [w, messages.post_receive::<T>(owner, &b, PURPOSE)?];
            receive_layer(&mut messages, owner, l, holding.stage, pending).map(Some)
        }
        (false, true, Some((w, b))) => {
            send_layer(&mut messages, 0, l, holding.stage, &w, &b)?;
            messages.finish_sends()?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Moves matrices of nodes × something, in blocks of nodes, from `old` to `new` shards, shard s being on rank s.
///
/// `rows` are this rank's blocks of each matrix; `columns` are their widths, which every rank knows.
///
/// # Errors
/// The exchange failed.
pub fn move_rows<T: Real>(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    blocks: &NodeBlocks,
    [old, new]: [usize; 2],
    columns: &[usize],
    rows: Vec<Vec<Array2<T>>>,
) -> Result<Vec<Vec<Array2<T>>>, ExchangeError> {
    const PURPOSE: &str = "rows of the input";
    let rank = communicator.rank();
    let of = |rank: usize, shards: usize| match rank < shards {
        true => blocks_of(rank, shards, blocks.count()),
        false => 0..0,
    };
    let holder = |block: usize, shards: usize| {
        (0..shards).find(|&shard| of(shard, shards).contains(&block)).unwrap_or(0)
    };
    let about = |matrix: usize, block: usize| {
        header(Kind::State, matrix, block, blocks.range(block).len(), columns[matrix])
    };
    let mut messages = MatrixMessages::new(communicator, policy);
    let (before, after) = (of(rank, old), of(rank, new));
    let mut pending = Vec::new();
    for matrix in 0..columns.len() {
        for block in after.clone().filter(|block| !before.contains(block)) {
            let from = holder(block, old);
            pending.push(messages.post_receive::<T>(from, &about(matrix, block), PURPOSE)?);
        }
    }
    let mut kept: Vec<Vec<Option<Array2<T>>>> = Vec::new();
    for (matrix, rows) in rows.into_iter().enumerate() {
        let mut row = Vec::new();
        for (block, values) in before.clone().zip(rows) {
            if after.contains(&block) {
                row.push(Some(values));
            } else {
                messages.send(holder(block, new), &about(matrix, block), PURPOSE, flat(&values))?;
                row.push(None);
            }
        }
        kept.push(row);
    }
    let mut pending = pending.into_iter();
    let mut moved = Vec::new();
    for (matrix, &width) in columns.iter().enumerate() {
        let mut result = Vec::new();
        for block in after.clone() {
            let own =
                block.checked_sub(before.start).and_then(|at| kept.get_mut(matrix)?.get_mut(at)?.take());
            let values = match (own, before.contains(&block)) {
                (Some(values), _) => values,
                (None, true) => continue,
                (None, false) => {
                    let mut values = Array2::zeros((blocks.range(block).len(), width));
                    if let Some(pending) = pending.next() {
                        let about = about(matrix, block);
                        messages.receive(holder(block, old), pending, &about, flat_mut(&mut values))?;
                    }
                    values
                }
            };
            result.push(values);
        }
        moved.push(result);
    }
    messages.finish_sends()?;
    Ok(moved)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::ThreadCommunicator;

    #[test]
    fn rows_get_to_the_shards_that_hold_their_blocks() {
        let blocks = NodeBlocks::new(29, Some(4));
        let matrix = |number: usize, block: usize, width: usize| {
            let start = blocks.range(block).start;
            Array2::from_shape_fn((blocks.range(block).len(), width), |(i, j)| {
                (1000 * number + 10 * (start + i) + j) as f32
            })
        };
        let columns = [3, 1];
        for (old, new) in [(1, 1), (1, 4), (4, 1), (8, 2), (2, 8), (4, 4)] {
            ThreadCommunicator::run(9, |communicator| {
                let policy = WaitPolicy::new();
                let rank = communicator.rank();
                let own = |shards: usize| {
                    let run = if rank < shards { blocks_of(rank, shards, blocks.count()) } else { 0..0 };
                    let rows = |(number, &width): (usize, &usize)| {
                        run.clone().map(|block| matrix(number, block, width)).collect::<Vec<_>>()
                    };
                    columns.iter().enumerate().map(rows).collect::<Vec<_>>()
                };
                let moved =
                    move_rows(communicator, &policy, &blocks, [old, new], &columns, own(old)).unwrap();
                assert_eq!(moved, own(new), "rank {rank} from {old} to {new} shards");
            });
        }
    }
}

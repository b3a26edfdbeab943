//! Blocks of nodes shared out over the ranks: block i belongs to rank i mod R. Rank 0 sends a block's z_1 and gets its
//! classes and probabilities back; two blocks are on their way to each rank, so that none waits for the network.

use std::collections::VecDeque;

use ndarray::{Array2, s};

use super::overflow;
use super::wire::{Outcome, Plan, decode_block, decode_outcome, encode_block, encode_outcome, outcome_len};
use crate::linalg::elements::flat;
use crate::linalg::{NodeBlocks, Real, Workers};
use crate::model::forward::{Prediction, hidden_layers, node_blocks};
use crate::model::{ModelError, ModelLayer};
use crate::parallel::{CommError, Communicator, Pending, WaitPolicy, broadcast, wait_bytes};

const INPUT: u16 = 1;
const OUTCOME: u16 = 2;
const PLAN: &str = "layers of the model";
/// Blocks on their way to each rank.
const WINDOW: usize = 2;

/// A block that another rank works on.
struct Outstanding {
    block: usize,
    input: Pending,
    outcome: Pending,
}

/// Rank 0: classes and probabilities of all nodes from z_1 (N × n_1), or the first block's overflow. `done` is told of
/// the nodes of each block that has them.
///
/// # Errors
/// [`CommError`] if the ranks lose each other.
pub(super) fn lead<T: Real>(
    hidden: &[ModelLayer<T>],
    num_classes: usize,
    z: &Array2<T>,
    communicator: &dyn Communicator,
    workers: &Workers,
    done: impl Fn(usize),
) -> Result<Result<Prediction<T>, ModelError>, CommError> {
    let policy = WaitPolicy::new();
    let (nodes, size) = (z.nrows(), communicator.size());
    broadcast(communicator, &policy, PLAN, 0, Plan::encode(nodes, z.ncols(), hidden))?;
    let blocks = node_blocks(nodes);
    let mut all = Prediction { classes: vec![0; nodes], probabilities: Array2::zeros((nodes, num_classes)) };
    let mut failure: Option<(usize, ModelError)> = None;
    let mut keep = |block: usize, outcome: Outcome<T>| {
        let range = blocks.range(block);
        done(range.len());
        match outcome {
            Ok(part) => {
                if let Some(place) = all.classes.get_mut(range.clone()) {
                    place.copy_from_slice(&part.classes);
                }
                all.probabilities.slice_mut(s![range, ..]).assign(&part.probabilities);
            }
            // Blocks come in any order; the first one speaks for all, whatever the number of ranks.
            Err(found) if failure.as_ref().is_none_or(|(first, _)| block < *first) => {
                failure = Some((block, overflow(found.layer, range.start + found.row)));
            }
            Err(_) => {}
        }
    };
    let rounds = blocks.count().div_ceil(size);
    let mut outstanding = VecDeque::new();
    for round in 0..rounds + WINDOW - 1 {
        if round < rounds {
            outstanding.push_back(hand_out(&blocks, round, z, num_classes, communicator)?);
        }
        // Own work and collection trail what is handed out.
        let Some(due) = (round + 1).checked_sub(WINDOW) else { continue };
        let own = due * size;
        let below = z.slice(s![blocks.range(own), ..]).to_owned();
        keep(own, outcome(hidden, below, workers));
        for Outstanding { block, input, outcome } in outstanding.pop_front().unwrap_or_default() {
            wait_bytes(communicator, input, &policy)?;
            let peer = block % size;
            let bytes = wait_bytes(communicator, outcome, &policy)?;
            let part = decode_outcome(&bytes, (blocks.range(block).len(), num_classes));
            keep(block, part.ok_or_else(|| unreadable(communicator, peer))?);
        }
    }
    Ok(match failure {
        Some((_, error)) => Err(error),
        None => Ok(all),
    })
}

/// Posts the blocks of one round to the other ranks.
fn hand_out<T: Real>(
    blocks: &NodeBlocks,
    round: usize,
    z: &Array2<T>,
    num_classes: usize,
    communicator: &dyn Communicator,
) -> Result<Vec<Outstanding>, CommError> {
    let size = communicator.size();
    let mut posted = Vec::new();
    for rank in 1..size {
        let block = round * size + rank;
        if block >= blocks.count() {
            break;
        }
        let range = blocks.range(block);
        let len = outcome_len::<T>(range.len(), num_classes);
        let outcome = communicator.post_receive(rank, OUTCOME, Vec::new(), len)?.named("predictions");
        let width = z.ncols();
        let rows = flat(z).get(range.start * width..range.end * width).unwrap_or_default();
        let input = communicator.post_send(rank, INPUT, encode_block(rows))?.named("z of layer 1");
        posted.push(Outstanding { block, input, outcome });
    }
    Ok(posted)
}

/// Any rank but 0: works on the blocks that it is sent.
///
/// # Errors
/// As [`lead`].
pub(super) fn work<T: Real>(communicator: &dyn Communicator, workers: &Workers) -> Result<(), CommError> {
    let policy = WaitPolicy::new();
    let bytes = broadcast(communicator, &policy, PLAN, 0, Vec::new())?;
    let Plan { nodes, width, hidden } =
        Plan::<T>::decode(&bytes).ok_or_else(|| unreadable(communicator, 0))?;
    let blocks = node_blocks(nodes);
    let shape = |block: usize| (blocks.range(block).len(), width);
    let mine: Vec<usize> =
        (communicator.rank()..blocks.count()).step_by(communicator.size().max(1)).collect();
    let mut ahead = mine.iter();
    let mut inputs: VecDeque<(usize, Pending)> = VecDeque::new();
    let mut post = |inputs: &mut VecDeque<(usize, Pending)>| -> Result<(), CommError> {
        if let Some(&block) = ahead.next() {
            let len = shape(block).0 * width * T::SIZE;
            let input = communicator.post_receive(0, INPUT, Vec::new(), len)?.named("z of layer 1");
            inputs.push_back((block, input));
        }
        Ok(())
    };
    for _ in 0..WINDOW {
        post(&mut inputs)?;
    }
    let mut sending: Option<Pending> = None;
    while let Some((block, input)) = inputs.pop_front() {
        let bytes = wait_bytes(communicator, input, &policy)?;
        post(&mut inputs)?;
        let z = decode_block(&bytes, shape(block)).ok_or_else(|| unreadable(communicator, 0))?;
        let bytes = encode_outcome(&outcome(&hidden, z, workers));
        if let Some(before) = sending.take() {
            wait_bytes(communicator, before, &policy)?;
        }
        sending = Some(communicator.post_send(0, OUTCOME, bytes)?.named("predictions"));
    }
    sending.map_or(Ok(()), |last| wait_bytes(communicator, last, &policy).map(drop))
}

/// The layers above z_1 for one block.
fn outcome<T: Real>(hidden: &[ModelLayer<T>], z: Array2<T>, workers: &Workers) -> Outcome<T> {
    hidden_layers(hidden, z, workers).map(|logits| Prediction::of(&logits))
}

fn unreadable(communicator: &dyn Communicator, peer: usize) -> CommError {
    CommError::Unreadable { rank: communicator.rank(), peer, during: "prediction".into() }
}

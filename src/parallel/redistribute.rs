//! Moves the weights of layers to the ranks that hold them next.

use ndarray::{Array1, Array2};

use super::exchange::ExchangeError;
use super::plan::{Plan, StageShape};
use super::{Communicator, Pending, WaitPolicy, wait_bytes};
use crate::admm::Weights;
use crate::admm::deepen::{LayerWeights, Origin, new_layer, origin};
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};
use crate::quantize::{Header, Kind, Wire, decode_raw, encode_raw, longest_message_len};

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

/// Brings every layer of the next stage to its new owner: trained layers from their old owners, new ones made in
/// place (identity, or random from the seed in the first stage).
///
/// `held` are this rank's layers of the stage `old`; layer 1 stays where it is, on rank 0, with its input.
/// Receives are posted before sends.
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
    let of = |l: usize| match origin(l, layers, old.map(|old| old.stage.layers)) {
        Origin::Trained(from) => (Origin::Trained(from), old.map_or(rank, |old| old.plan.owner(from))),
        other => (other, new.plan.owner(l)),
    };
    let mine = new.plan.layers_of(rank);
    let mut receives: Vec<(usize, [Pending; 2])> = Vec::new();
    for l in mine.iter().flat_map(|run| run.clone()) {
        if let (Origin::Trained(_), owner) = of(l)
            && owner != rank
        {
            let (outputs, inputs) = (new.stage.width(l), new.stage.width(l - 1));
            receives.push((
                l,
                [
                    post_receive::<T>(communicator, owner, outputs * inputs)?,
                    post_receive::<T>(communicator, owner, outputs)?,
                ],
            ));
        }
    }
    let mut sends = Vec::new();
    for l in 1..=layers {
        let to = new.plan.owner(l);
        if let (Origin::Trained(from), owner) = of(l)
            && owner == rank
            && to != rank
            && let Some(at) = held.iter().position(|layer| layer.index == from)
            && let LayerWeights { weights: Weights::Hidden(w), b, .. } = held.remove(at)
        {
            for (part, (rows, cols, values)) in
                [(w.nrows(), w.ncols(), flat(&w)), (1, b.len(), crate::linalg::elements::flat_vector(&b))]
                    .into_iter()
                    .enumerate()
            {
                let mut message = Vec::new();
                encode_raw(&header(l, part, rows, cols), Wire::native::<T>(), values, &mut message)
                    .map_err(|source| ExchangeError::Message { rank, peer: to, source: Box::new(source) })?;
                sends.push(
                    communicator.post_send(to, Kind::Weights as u16, message)?.named("weights of a layer"),
                );
            }
        }
    }
    let mut result = Vec::new();
    for l in mine.into_iter().flatten() {
        let layer = match of(l) {
            (Origin::Trained(from), owner) if owner == rank => {
                let at = held.iter().position(|layer| layer.index == from);
                at.map(|at| LayerWeights { index: l, ..held.remove(at) })
            }
            (Origin::Trained(_), owner) => match receives.iter().position(|(of, _)| *of == l) {
                None => None,
                Some(at) => {
                    let (_, [w, b]) = receives.remove(at);
                    let (outputs, inputs) = (new.stage.width(l), new.stage.width(l - 1));
                    let w = receive::<T>(communicator, policy, owner, w, header(l, 0, outputs, inputs))?;
                    let b = receive::<T>(communicator, policy, owner, b, header(l, 1, 1, outputs))?;
                    let b = Array1::from_iter(b);
                    Some(LayerWeights { index: l, weights: Weights::Hidden(w), b })
                }
            },
            // Layer 1 of the first stage was built with its input.
            (origin, _) => match held.iter().position(|layer| layer.index == l && l == 1) {
                Some(at) => Some(held.remove(at)),
                None => Some(new_layer(origin, seed, l, new.stage.width(l), new.stage.width(l - 1))),
            },
        };
        result.extend(layer);
    }
    for pending in sends {
        wait_bytes(communicator, pending, policy)?;
    }
    Ok(result)
}

fn header(l: usize, part: usize, rows: usize, cols: usize) -> Header {
    Header {
        kind: Kind::Weights,
        boundary: l as u32,
        block: part as u32,
        iteration: 0,
        rows: rows as u32,
        cols: cols as u32,
    }
}

fn post_receive<T: Real>(
    communicator: &dyn Communicator,
    from: usize,
    elements: usize,
) -> Result<Pending, ExchangeError> {
    let longest = longest_message_len::<T>(elements);
    Ok(communicator
        .post_receive(from, Kind::Weights as u16, Vec::new(), longest)?
        .named("weights of a layer"))
}

fn receive<T: Real>(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    from: usize,
    pending: Pending,
    expected: Header,
) -> Result<Array2<T>, ExchangeError> {
    let message = wait_bytes(communicator, pending, policy)?;
    let mut matrix = Array2::zeros((expected.rows as usize, expected.cols as usize));
    decode_raw(&message, &expected, Wire::native::<T>(), flat_mut(&mut matrix)).map_err(|source| {
        ExchangeError::Message { rank: communicator.rank(), peer: from, source: Box::new(source) }
    })?;
    Ok(matrix)
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
    let (outputs, inputs) = (holding.stage.width(l), holding.stage.width(l - 1));
    match (rank == 0, rank == owner, layer) {
        (true, true, layer) => Ok(layer),
        (true, false, _) => {
            let w = post_receive::<T>(communicator, owner, outputs * inputs)?;
            let b = post_receive::<T>(communicator, owner, outputs)?;
            let w = receive(communicator, policy, owner, w, header(l, 0, outputs, inputs))?;
            let b: Array2<T> = receive(communicator, policy, owner, b, header(l, 1, 1, outputs))?;
            Ok(Some((w, Array1::from_iter(b))))
        }
        (false, true, Some((w, b))) => {
            let parts =
                [(w.nrows(), w.ncols(), flat(&w)), (1, b.len(), crate::linalg::elements::flat_vector(&b))];
            for (part, (rows, cols, values)) in parts.into_iter().enumerate() {
                let mut message = Vec::new();
                encode_raw(&header(l, part, rows, cols), Wire::native::<T>(), values, &mut message)
                    .map_err(|source| ExchangeError::Message { rank, peer: 0, source: Box::new(source) })?;
                let pending = communicator.post_send(0, Kind::Weights as u16, message)?;
                wait_bytes(communicator, pending.named("weights of the model"), policy)?;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

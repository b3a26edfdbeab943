//! A stage: the state of its network at the start.

use crate::admm::deepen::{LabelStart, LayerWeights};
use crate::admm::iteration::{RankState, Targets};
use crate::admm::penalties::WeightPenalty;
use crate::admm::{Boundary, BoundaryBlock, Layer, LayerBlock, Team, Weights, w};
use crate::linalg::elements::{flat, larger, peak, rows, rows_mut};
use crate::linalg::{NodeBlocks, Real};
use crate::parallel::plan::StageShape;
use crate::quantize::LevelSet;
use ndarray::{Array2, Axis};

/// The state of a rank at the start of a stage: the weights of its run of layers, everything else zero.
pub fn empty_state<T: Real>(
    weights: Vec<LayerWeights<T>>,
    stage: &StageShape,
    blocks: &NodeBlocks,
    penalty: impl Fn(usize) -> WeightPenalty,
    targets: Option<Targets>,
) -> RankState<T> {
    let zeros = |l: usize| blocks.ranges().map(move |rows| Array2::zeros((rows.len(), stage.width(l))));
    let first = weights.first().map_or(1, |layer| layer.index);
    let last = weights.last().map_or(0, |layer| layer.index);
    let boundaries = (first.max(2) - 1..=last.min(stage.layers - 1)).map(|l| Boundary {
        index: l,
        blocks: zeros(l).map(|p| BoundaryBlock { q: p.clone(), u: p.clone(), p }).collect(),
    });
    let boundaries = boundaries.collect();
    let layers = weights.into_iter().map(|LayerWeights { index, weights, b }| Layer {
        index,
        weights,
        b,
        penalty: penalty(index),
        blocks: zeros(index).map(|m| LayerBlock { z: m.clone(), m }).collect(),
        spectral: None,
    });
    RankState {
        depth: stage.layers,
        layers: layers.collect(),
        boundaries,
        targets,
        nodes: stage.nodes,
        below_is_current: false,
    }
}

/// The classes of the nodes that a rank holds, block by block.
pub type BlockLabels = [Vec<usize>];

/// The forward pass that starts a stage: z_l = W_l p_l + b_l, p_{l+1} = q_l = f(z_l), u = 0, without rounding; with `start`
/// W_L and z_1 are those of the start from labels.
///
/// `receive` fills p of the boundary below with f(z) of the rank below; `send` hands f(z) to the rank above.
///
/// # Errors
/// Whatever `receive` or `send` returns.
pub fn forward<T: Real, E>(
    state: &mut RankState<T>,
    team: &mut Team<'_, T>,
    start: Option<(&LabelStart<T>, &BlockLabels)>,
    mut receive: impl FnMut(&mut Boundary<T>) -> Result<(), E>,
    mut send: impl FnMut(&Boundary<T>) -> Result<(), E>,
) -> Result<(), E> {
    if state.has_rank_below() {
        let boundary = &mut state.boundaries[0];
        receive(boundary)?;
        boundary.blocks.iter_mut().for_each(start_from_p);
    }
    let to_rank_above = state.has_rank_above();
    if let (false, Some((start, _)), Some(last)) = (to_rank_above, start, state.layers.last_mut()) {
        last.weights = Weights::Hidden(start.output_weights.clone());
    }
    for i in 0..state.layers.len() {
        let (below, above) = (state.below(i), state.above(i));
        let layer = &mut state.layers[i];
        w::refresh(layer, below.map(|below| &state.boundaries[below]), team);
        let b = &layer.b;
        team.workers.each(&mut layer.blocks[..], |_, block| {
            for (z, m) in rows_mut(&mut block.z).zip(rows(&block.m)) {
                z.iter_mut().zip(m).zip(b).for_each(|((z, &m), &b)| *z = m + b);
            }
        });
        if let (1, Some((start, labels))) = (layer.index, start) {
            for (block, labels) in layer.blocks.iter_mut().zip(labels) {
                block.z.assign(&start.z.select(Axis(0), labels));
            }
        }
        if let Some(above) = above {
            let (boundary, blocks) = (&mut state.boundaries[above], &layer.blocks);
            team.workers.each(&mut boundary.blocks[..], |k, edge| {
                for (p, z) in rows_mut(&mut edge.p).zip(rows(&blocks[k].z)) {
                    p.iter_mut().zip(z).for_each(|(p, &z)| *p = z.max(T::zero()));
                }
                start_from_p(edge);
            });
            if to_rank_above && i + 1 == state.layers.len() {
                send(boundary)?;
            }
        }
    }
    Ok(())
}

fn start_from_p<T: Real>(block: &mut BoundaryBlock<T>) {
    block.q.assign(&block.p);
    block.u.fill(T::zero());
}

/// max |f(z_l)| of a boundary, from which the range of its level set is taken.
pub fn boundary_peak<T: Real>(boundary: &Boundary<T>) -> f64 {
    boundary.blocks.iter().map(|block| peak(flat(&block.p))).fold(0.0, larger)
}

/// Rounds p and q to their level sets after [`forward`], and brings W p of the layers above in line.
pub fn round_start<T: Real>(
    state: &mut RankState<T>,
    p_levels: Option<&[LevelSet]>,
    q_levels: Option<&[LevelSet]>,
    team: &mut Team<'_, T>,
) {
    for boundary in &mut state.boundaries {
        let at = boundary.index - 1;
        let (p_levels, q_levels) = (p_levels.and_then(|s| s.get(at)), q_levels.and_then(|s| s.get(at)));
        team.workers.each(&mut boundary.blocks[..], |_, block| {
            if let Some(levels) = p_levels {
                rows_mut(&mut block.p).for_each(|row| levels.round(row));
            }
            if let Some(levels) = q_levels {
                rows_mut(&mut block.q).for_each(|row| levels.round(row));
            }
        });
    }
    if p_levels.is_some() {
        for i in 0..state.layers.len() {
            if let Some(below) = state.below(i) {
                w::refresh(&mut state.layers[i], Some(&state.boundaries[below]), team);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ndarray::{Array1, s};

    use super::*;
    use crate::admm::{Workspace, state::FirstLayer};
    use crate::linalg::Workers;

    #[test]
    fn from_labels_each_node_starts_with_the_activations_of_its_class() {
        let (layers, neurons, classes, inputs, nodes) = (4, 8, 3, 5, 10);
        let stage =
            StageShape { layers, neurons, classes, inputs, nodes, evaluated: nodes, evaluate_every: 1 };
        let blocks = NodeBlocks::new(nodes, Some(4));
        let classes_of = |rows: std::ops::Range<usize>| rows.map(|node| node * 2 % classes).collect();
        let labels: Vec<Vec<usize>> = blocks.ranges().map(classes_of).collect();
        let x = blocks.ranges().map(|rows| Array2::ones((rows.len(), inputs))).collect();
        let first = FirstLayer { w: Array2::ones((neurons, inputs)), x, gram: None, inverse: None };
        let identity = |l: usize| Weights::Hidden(Array2::eye(neurons).slice_move(s![..stage.width(l), ..]));
        let weights = std::iter::once(Weights::First(first)).chain((2..=layers).map(identity));
        let weights = (1..).zip(weights).map(|(index, weights)| LayerWeights {
            index,
            weights,
            b: Array1::zeros(stage.width(index)),
        });
        let start = LabelStart::<f64>::new(7, layers, classes, neurons);
        let (workers, mut workspace) = (Workers::one(), Workspace::new());
        let mut team = Team::of_one_shard(&mut workspace, &workers);
        let penalty = |_| WeightPenalty::default();
        let mut state = empty_state(weights.collect(), &stage, &blocks, penalty, None);
        let from = Some((&start, &labels[..]));
        let Ok(()) = forward(&mut state, &mut team, from, |_| Ok(()), |_| Ok::<(), Infallible>(()));

        let last = &state.layers[layers - 1];
        assert_eq!(last.weights.dense(), start.output_weights);
        for (k, rows) in blocks.ranges().enumerate() {
            for (i, node) in rows.enumerate() {
                let z = start.z.row(node * 2 % classes);
                let active = z.mapv(|z| z.max(0.0));
                assert_eq!(state.layers[0].blocks[k].z.row(i), z);
                for boundary in &state.boundaries {
                    let block = &boundary.blocks[k];
                    assert_eq!((block.p.row(i), block.q.row(i)), (active.view(), active.view()));
                    assert!(block.u.iter().all(|u| *u == 0.0));
                }
                let scores = start.output_weights.dot(&active);
                assert!((&last.blocks[k].z.row(i) - &scores).iter().all(|off| off.abs() < 1e-12));
            }
        }
    }
}

//! Dropout of the raw features in closed form: how much noise each augmented feature would carry, and the scaling of
//! layer 1's input that makes up for it.

use ndarray::s;

use super::error::TrainError;
use super::input::{InputNodes, sum_over_blocks};
use crate::linalg::{Real, Workers};
use crate::parallel::features::DistributedFeatures;
use crate::parallel::shard_group::ShardGroup;

/// Every augmented feature is taken to carry the noise of so many raw entries of usual size more than it does. One that
/// carries next to none, being all but absent from the training nodes' neighbourhoods, would otherwise be scaled up
/// without bound.
pub const PSEUDO_OCCURRENCES: f64 = 1.0;

/// The factors of the columns of X (n_0), 1 / sqrt(v_j + f), or nothing on a rank without layer 1.
///
/// Multiplicative noise of variance κ on each entry of H, averaged, adds ν κ/2 Σ_j v_j ‖W_:j‖² to the subproblem of W_1,
/// where v_j = Σ_i Σ_m ψ_im² H_mj², i over the training nodes: ‖x_j‖² for ψ = I, far less where ψ averages over many
/// nodes. (What the noises of two operators' features have in common is left out.) The factors turn that into plain
/// ridge, so that one inverse serves all rows of W_1. f is [`PSEUDO_OCCURRENCES`] times the mean square of the entries of H
/// that are not 0. A feature that no training node hears of becomes 0.
///
/// `signed` has random signs on H: v_j is estimated as its Σ_i x_ij², which is right in the mean, and exact for ψ = I. All
/// ranks call it together.
///
/// # Errors
/// The exchange between ranks failed.
pub(super) fn factors<T: Real>(
    signed: &DistributedFeatures<'_, T>,
    from: &InputNodes<'_>,
    group: &ShardGroup<'_>,
    [rank, ranks]: [usize; 2],
    workers: &Workers,
) -> Result<Option<Vec<f64>>, TrainError> {
    let floor = PSEUDO_OCCURRENCES * signed.mean_entry_square()?;
    let (d, holds_layer_1) = (signed.feature_count(), rank < from.shards);
    let blocks = if holds_layer_1 { from.blocks_of(rank) } else { Vec::new() };
    let mut factors = vec![0.0; if holds_layer_1 { signed.width() } else { 0 }];
    signed.for_each_block(&from.trained(ranks), signed.column_block(), workers, |block| {
        if !holds_layer_1 {
            return Ok(());
        }
        for (k, part) in block.parts.iter().enumerate() {
            let noise = sum_over_blocks(group, blocks.len(), part.ncols(), |i, squares| {
                for row in part.slice(s![blocks[i].clone(), ..]).rows() {
                    squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.f64() * x.f64());
                }
            })?;
            let columns = k * d + block.columns.start..k * d + block.columns.end;
            for (factor, v) in factors[columns].iter_mut().zip(noise) {
                *factor = if v > 0.0 { 1.0 / (v + floor).sqrt() } else { 0.0 };
            }
        }
        Ok::<(), TrainError>(())
    })?;
    Ok(holds_layer_1.then_some(factors))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataset::generate::{GenerateSettings, generate};
    use crate::dataset::{DatasetFile, Features};
    use crate::graph::FeatureNorm;
    use crate::linalg::NodeBlocks;
    use crate::parallel::features::OwnRows;
    use crate::parallel::{Communicator, ThreadCommunicator, WaitPolicy};

    /// Those of ψ = I by brute force; of an average over many nodes larger; of a feature that no one has 0. The same
    /// on any ranks and shards, to the last bit.
    #[test]
    fn factors_make_up_for_the_noise_of_raw_features() {
        let (nodes, d, trained) = (300, 9, 50);
        let mut dataset = generate(&GenerateSettings::new(nodes, d, 3)).unwrap();
        let Features::Dense(h) = &mut dataset.features else { unreachable!("generated features are dense") };
        h.column_mut(4).fill(0.0);
        let h = h.mapv(f64::from);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.h5");
        dataset.write(&path, false).unwrap();

        let operators = "0,3".parse().unwrap();
        let blocks = NodeBlocks::new(trained, Some(7));
        let on = |ranks: usize, shards: usize| {
            ThreadCommunicator::run(ranks, |communicator| {
                let (rank, policy) = (communicator.rank(), WaitPolicy::new());
                let rows = OwnRows::read(&DatasetFile::open(&path).unwrap(), rank, ranks).unwrap();
                let (from, norm) = ((0..trained).map(|i| 5 * i).collect(), FeatureNorm::None);
                let mut features =
                    DistributedFeatures::<f64>::new(communicator, &policy, rows, &operators, norm).unwrap();
                features.flip_signs(2);
                let from = InputNodes { nodes: from, blocks: &blocks, evaluated: &blocks, shards };
                let holders = if rank < shards { shards } else { 1 };
                let shares = (0..holders).map(|shard| blocks.of_shard(shard, holders).1.nodes()).collect();
                let group =
                    ShardGroup::new(communicator, &policy, if rank < shards { 0 } else { rank }, shares);
                factors(&features, &from, &group, [rank, ranks], &Workers::one()).unwrap()
            })
        };
        let alone = on(1, 1).remove(0).unwrap();
        let others = on(3, 2);
        assert_eq!(others, [Some(alone.clone()), Some(alone.clone()), None]);

        let entries: Vec<f64> = h.iter().filter(|x| **x != 0.0).map(|x| x * x).collect();
        let floor = entries.iter().sum::<f64>() / entries.len() as f64;
        for j in 0..d {
            let v: f64 = (0..trained).map(|i| h[[5 * i, j]].powi(2)).sum();
            let expected = if j == 4 { 0.0 } else { 1.0 / (v + floor).sqrt() };
            assert!((alone[j] - expected).abs() <= 1e-9 * expected, "{j}: {} {expected}", alone[j]);
            assert!(
                if j == 4 { alone[d + j] == 0.0 } else { alone[d + j] > 1.5 * alone[j] },
                "{j}: {alone:?}"
            );
        }
    }
}

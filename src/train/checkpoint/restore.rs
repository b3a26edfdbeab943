//! Going on from a checkpoint: the newest whole one, on any number of ranks.

use std::path::Path;

use super::CheckpointError;
use super::folder::CheckpointFolder;
use super::manifest::Manifest;
use super::part::weight_shape;
use super::part_read::{KeptBoundary, KeptLayer, PartFile};
use super::sealed::{self, PartEntry};
use crate::admm::deepen::LayerWeights;
use crate::admm::iteration::RankState;
use crate::admm::{Penalties, Weights};
use crate::linalg::Real;
use crate::parallel::exchange::ExchangeState;
use crate::parallel::plan::{Plan, StageShape};
use crate::parallel::{Awaited, Completed, JointFailure, Operation, Pending, agree, broadcast};
use crate::train::best::{BestTracker, Evaluation};
use crate::train::driver::Run;
use crate::train::error::{SetUpError, TrainError};
use crate::train::evaluate::Snapshot;
use crate::train::output::HistoryRow;
use crate::train::schedule::Schedule;
use crate::train::state::{PendingRow, RunState};

/// What a rank has read for itself.
struct Kept<T> {
    layers: Vec<KeptLayer<T>>,
    /// The boundaries that it touches, in order.
    boundaries: Vec<(usize, KeptBoundary<T>)>,
}

impl<T: Real> Run<'_, T> {
    /// Goes on from the newest checkpoint that is whole on every rank; `None` where there is none at all. `first` takes
    /// layer 1 as it is built for the shards of the checkpoint, and is empty again where there is one.
    ///
    /// # Errors
    /// There are checkpoints but none is whole, or they belong to another run.
    pub(in crate::train) fn restore(
        &mut self,
        first: &mut Option<LayerWeights<T>>,
    ) -> Result<Option<RunState<T>>, TrainError> {
        let output = self.settings.output.clone();
        let is_root = self.communicator.rank() == 0;
        let all = if is_root { CheckpointFolder::all(&output) } else { Ok(Vec::new()) };
        let all = self.joint("checkpoints", all)?;
        let iterations = all.iter().flat_map(|checkpoint| checkpoint.iteration().to_le_bytes()).collect();
        let iterations = broadcast(self.communicator, self.policy, "checkpoints there are", 0, iterations)?;
        let iterations = iterations.as_chunks::<8>().0;
        let mut built_for = None;
        for iteration in iterations {
            let place = CheckpointFolder::new(&output, u64::from_le_bytes(*iteration));
            let folder = place.path();
            // Rank 0 alone reads the manifest, so that all have the same.
            let manifest = if is_root { self.usable_manifest(&place) } else { Ok(Vec::new()) };
            let manifest = self.joint("manifest", manifest)?;
            let manifest = broadcast(self.communicator, self.policy, "manifest itself", 0, manifest)?;
            if manifest.is_empty() {
                continue;
            }
            let manifest = self.joint("manifest as read", Manifest::parse(&folder, &manifest))?;
            let shape = self.shape(self.settings.stages[manifest.stage - 1]);
            let (shards, ranks) = (manifest.shards, self.communicator.size());
            let enough = match ranks >= shards {
                true => Ok(()),
                false => Err(CheckpointError::TooFewRanks { path: folder.clone(), shards, ranks }),
            };
            self.joint("ranks for the shards", enough)?;
            // A stage ends in the shards that it has begun with, and none after it has more.
            for (number, of_stage) in self.shards.iter_mut().enumerate() {
                *of_stage = if number + 1 == manifest.stage { shards } else { (*of_stage).min(shards) };
            }
            let plan = self.plan(&shape, shards);
            self.join_group(&plan);
            if built_for != Some(shards) {
                *first = self.first_layer(shards)?;
                built_for = Some(shards);
            }
            let kept = self.read_parts(&folder, &manifest, &plan, &shape, first.as_ref());
            match agree(self.communicator, self.policy, "parts", kept, |e| (e.exit_code(), e.to_string())) {
                Ok(kept) => {
                    let state = self.assemble(kept, &manifest, &plan, &shape, first.take());
                    self.screen.resumed(&folder, &manifest.program);
                    return Ok(Some(state));
                }
                Err(JointFailure::Failed { rank, message, .. }) => {
                    if is_root {
                        log::warn!("rank {rank}: {message}; passing over {}", folder.display());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let count = iterations.len();
        let none =
            if count == 0 { Ok(None) } else { Err(CheckpointError::NoneWhole { folder: output, count }) };
        self.joint("whole checkpoints", none)
    }

    fn joint<A>(&self, name: &str, outcome: Result<A, CheckpointError>) -> Result<A, TrainError> {
        let outcome = outcome.map_err(SetUpError::from);
        Ok(agree(self.communicator, self.policy, name, outcome, SetUpError::describe)?)
    }

    /// The manifest's bytes; none where it is damaged.
    fn usable_manifest(&self, place: &CheckpointFolder) -> Result<Vec<u8>, CheckpointError> {
        let path = place.path();
        let read = || {
            let bytes = sealed::bytes(&path)?;
            let manifest = Manifest::parse(&path, &bytes)?;
            let origin = [&manifest.dataset, &manifest.dataset_checksum, &manifest.settings];
            sealed::belongs(&path, origin.map(String::as_str), self.problem, self.settings)?;
            manifest.check(&path, &self.settings.stages, self.settings.iterations, self.blocks.count())?;
            if manifest.iteration != place.iteration() {
                let expected = format!("iteration {}", place.iteration());
                return Err(CheckpointError::damaged(&path, expected, manifest.iteration));
            }
            Ok(bytes)
        };
        read().or_else(|error| match error.is_damage() {
            true => {
                log::warn!("{error}; passing over {}", path.display());
                Ok(Vec::new())
            }
            false => Err(error),
        })
    }

    /// Reads this rank's layers, and the boundaries that it touches from the layers below them.
    fn read_parts(
        &mut self,
        folder: &Path,
        manifest: &Manifest,
        plan: &Plan,
        shape: &StageShape,
        first: Option<&LayerWeights<T>>,
    ) -> Result<Kept<T>, CheckpointError> {
        let mut kept = Kept { layers: Vec::new(), boundaries: Vec::new() };
        let (below, above) = self.neighbours(plan, shape.layers);
        self.exchange.begin_stage(below, above, manifest.iteration);
        let Some(run) = plan.layers_of(self.communicator.rank()) else { return Ok(kept) };
        let first_shape = first.map_or((0, 0), |layer| weight_shape(&layer.weights));
        let lowest = (run.start() - 1).max(1);
        let sums: Vec<f64> = manifest.sums.iter().map(|sum| sum.0).collect();
        let is_evaluated = manifest.slots(shape.layers).take_apart(&sums).scores.is_some();
        let (shard, (_, blocks)) = (self.group.shard(), self.own_blocks(&self.blocks));
        let holds =
            |part: &&PartEntry| part.shard == shard && part.last >= lowest && part.first <= *run.end();
        for entry in manifest.parts.iter().filter(holds) {
            let path = CheckpointFolder::part(folder, entry.rank);
            let file = PartFile::open::<T>(&path, entry, shape, &blocks, first_shape)?;
            for l in entry.first.max(lowest)..=entry.last.min(*run.end()) {
                if run.contains(&l) {
                    kept.layers.push(file.layer(l)?);
                }
                if l < shape.layers {
                    kept.boundaries.push((l, file.boundary(l)?));
                }
            }
            let incomplete = |layer: &KeptLayer<T>| {
                manifest.best.is_some() && layer.best.is_none() || is_evaluated && layer.candidate.is_none()
            };
            if kept.layers.iter().any(incomplete) {
                return Err(CheckpointError::damaged(
                    &path,
                    "the weights of the best and last evaluation",
                    "none",
                ));
            }
        }
        let mut codec = ExchangeState::default();
        for (l, boundary) in &mut kept.boundaries {
            let (p, q) = (std::mem::take(&mut boundary.codec_p), std::mem::take(&mut boundary.codec_q));
            if *l < *run.start() {
                (codec.sent_p, codec.received_q) = (p, q);
            } else if l == run.end() {
                (codec.received_p, codec.sent_q) = (p, q);
            }
        }
        self.exchange
            .resume(codec)
            .map_err(|problem| CheckpointError::damaged(folder, "codec states that make sense", problem))?;
        Ok(kept)
    }

    /// The state of this rank from what it has read.
    fn assemble(
        &mut self,
        kept: Kept<T>,
        manifest: &Manifest,
        plan: &Plan,
        shape: &StageShape,
        mut first: Option<LayerWeights<T>>,
    ) -> RunState<T> {
        let sums: Vec<f64> = manifest.sums.iter().map(|sum| sum.0).collect();
        let reduced = manifest.slots(shape.layers).take_apart(&sums);
        let (mut best, mut candidate, mut held, mut variables) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for layer in kept.layers {
            let KeptLayer { weights, blocks, spectral, best: at_best, candidate: under_way } = layer;
            held.push(weights_of(weights, &mut first));
            best.extend(at_best);
            candidate.extend(under_way);
            variables.push((blocks, spectral));
        }
        let mut network: RankState<T> = self.empty_network(held, plan, shape);
        for (layer, (blocks, spectral)) in network.layers.iter_mut().zip(variables) {
            (layer.blocks, layer.spectral) = (blocks, spectral);
        }
        for (boundary, (l, kept)) in network.boundaries.iter_mut().zip(kept.boundaries) {
            debug_assert_eq!(boundary.index, l);
            boundary.blocks = kept.blocks;
        }
        network.below_is_current = true;

        if self.communicator.rank() == 0 {
            self.exchange.traffic = reduced.traffic;
            self.seconds_before = manifest.seconds.map(|seconds| seconds.0);
        } else {
            self.seconds_before[0] = manifest.seconds[0].0;
        }
        let penalties = Penalties { rho: manifest.penalties[0].0, nu: manifest.penalties[1].0 };
        let mut schedule = Schedule::new(self.settings, manifest.stage == 1);
        schedule.go_on_from(manifest.progress.into());
        let rank = self.communicator.rank();
        let awaited =
            Awaited { rank, operation: Operation::Sum, peer: None, tag: 0, purpose: "sums of a checkpoint" };
        let row = HistoryRow {
            stage: manifest.stage,
            layers: shape.layers,
            iteration: manifest.iteration,
            rho: penalties.rho,
            nu: penalties.nu,
            seconds: manifest.row_seconds.0,
            ..HistoryRow::default()
        };
        RunState {
            stage: manifest.stage,
            stage_iteration: manifest.stage_iteration,
            iteration: manifest.iteration,
            network,
            schedule,
            previous: Some(penalties),
            p_ranges: Manifest::ranges(&manifest.p_exponents),
            q_ranges: Manifest::ranges(&manifest.q_exponents),
            patience: manifest.patience,
            best_before: None,
            best: BestTracker::holding(manifest.best.map(|evaluation| (evaluation.into(), best)), candidate),
            pending: Some(PendingRow {
                sums: Pending::ready(awaited, Completed::Reduced(sums)),
                stage_iteration: manifest.stage_iteration,
                row,
                penalties,
            }),
            last: None,
            last_scores: manifest.last_scores.map(Evaluation::from),
        }
    }
}

/// The weights of a layer; of layer 1 those of `first`, which has the input, with what training has made of them.
fn weights_of<T: Real>(kept: Snapshot<T>, first: &mut Option<LayerWeights<T>>) -> LayerWeights<T> {
    let (index, c, (matrix, b)) = (kept.index, kept.parts().1, kept.into_arrays());
    let weights = match first.take_if(|first| first.index == index).map(|first| first.weights) {
        Some(Weights::First(mut first)) => {
            first.w = matrix;
            Weights::First(first)
        }
        Some(Weights::Dual(mut dual)) => {
            (dual.d, dual.c) = (matrix, c);
            Weights::Dual(dual)
        }
        _ => Weights::Hidden(matrix),
    };
    LayerWeights { index, weights, b }
}

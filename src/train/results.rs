//! What a run leaves: the models, gathered on rank 0, and the summary.

use ndarray::{Array1, Array2};

use super::best::Evaluation;
use super::driver::Run;
use super::error::{SetUpError, TrainError};
use super::evaluate::{Scores, Snapshot};
use super::output::{Accuracy, BestSummary, BytesSummary, HistoryRow, SecondsSummary, Summary, ratio};
use super::state::RunState;
use super::status::{Outcome, Status};
use crate::admm::Layer;
use crate::linalg::Real;
use crate::model::{Model, ModelError, ModelLayer, Provenance};
use crate::parallel::redistribute::{Holding, gather_layer};
use crate::parallel::{agree, gather_to_root};

impl<T: Real> Run<'_, T> {
    /// Writes the models and the summary.
    pub(super) fn finish(
        &mut self,
        status: Status,
        state: RunState<T>,
        holding: Holding<'_>,
    ) -> Result<Outcome, TrainError> {
        let seconds = self.seconds_so_far();
        if let Status::Interrupted(_) = status {
            return self.conclude(status, &state, state.best.best().map(|(best, _)| *best), seconds);
        }
        let restored =
            self.folder.as_ref().map_or(Ok(()), |folder| folder.restore()).map_err(SetUpError::from);
        agree(self.communicator, self.policy, "output folder at the end", restored, SetUpError::describe)?;
        let layers = &state.network.layers;
        let last: Vec<Snapshot<T>> = layers.iter().map(Snapshot::of).collect();
        let best = state.best.best();
        if let Some((evaluation, weights)) = best {
            self.write_model("model.h5", Some(evaluation), state.iteration, weights, layers, holding)?;
        }
        // What has diverged is no model.
        if !matches!(status, Status::Diverged { .. }) {
            let evaluation = state.last_scores.as_ref();
            self.write_model("model-last.h5", evaluation, state.iteration, &last, layers, holding)?;
        }
        let best = best.map(|(evaluation, _)| *evaluation);
        let outcome = self.conclude(status, &state, best, seconds)?;
        if let (Some(folder), Status::Finished | Status::Converged) = (&self.folder, status) {
            // The models are the better thing to have, and checkpoints are large.
            folder.remove_checkpoints();
        }
        Ok(outcome)
    }

    /// The summary, on disk and on the screen.
    fn conclude(
        &mut self,
        status: Status,
        state: &RunState<T>,
        best: Option<Evaluation>,
        seconds: [f64; 4],
    ) -> Result<Outcome, TrainError> {
        let summary = self.summary(status, state, best, seconds)?;
        let written = self.folder.as_ref().map_or(Ok(()), |folder| folder.write_summary(&summary));
        let written = written.map_err(SetUpError::from);
        agree(self.communicator, self.policy, "summary", written, SetUpError::describe)?;
        self.screen.footer(status, &summary, &self.settings.output);
        Ok(Outcome { status, summary })
    }

    /// Gathers a model on rank 0, layer by layer, and saves it there. `held` gives the fixed parts of layer 1.
    #[allow(clippy::too_many_arguments)]
    fn write_model(
        &mut self,
        name: &str,
        evaluation: Option<&Evaluation>,
        iteration: u64,
        weights: &[Snapshot<T>],
        held: &[Layer<T>],
        holding: Holding<'_>,
    ) -> Result<(), TrainError> {
        let mut layers: Vec<ModelLayer<T>> = Vec::new();
        for l in 1..=holding.stage.layers {
            let own = weights.iter().zip(held).find(|(snapshot, _)| snapshot.index == l);
            let own = own.map(|(snapshot, layer)| snapshot.dense(layer));
            let gathered: Option<(Array2<T>, Array1<T>)> =
                gather_layer(self.communicator, self.policy, l, holding, own)?;
            if let Some((mut w, b)) = gathered {
                if l == 1 {
                    // The model takes features as they are; training may have scaled them.
                    for (mut column, &scale) in w.columns_mut().into_iter().zip(&self.column_scale) {
                        column.mapv_inplace(|w| w * scale);
                    }
                }
                layers.push(ModelLayer { w, b });
            }
        }
        let saved = match &self.folder {
            None => Ok(()),
            Some(folder) => {
                let iteration = evaluation.map_or(iteration, |evaluation| evaluation.iteration);
                let scores = evaluation.map(|evaluation| evaluation.scores);
                self.model(layers, iteration, scores).and_then(|model| model.save(folder.file(name), true))
            }
        };
        let saved = saved.map_err(SetUpError::from);
        Ok(agree(self.communicator, self.policy, name, saved, SetUpError::describe)?)
    }

    fn model(
        &self,
        layers: Vec<ModelLayer<T>>,
        iteration: u64,
        scores: Option<Scores>,
    ) -> Result<Model<T>, ModelError> {
        let accuracy = self.accuracy(scores);
        Model::new(
            self.settings.operators.clone(),
            self.settings.feature_norm,
            self.problem.features,
            self.problem.classes,
            layers,
            Provenance {
                dataset: self.problem.name.clone(),
                checksum: self.problem.checksum.clone(),
                split: self.problem.split.clone(),
                seed: self.settings.seed,
                iteration,
                val_accuracy: accuracy.val,
                test_accuracy: accuracy.test,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        )
    }

    fn accuracy(&self, scores: Option<Scores>) -> Accuracy {
        let share = |set: usize| {
            scores.filter(|_| self.known[set] > 0).map(|scores| scores.correct[set] / self.known[set] as f64)
        };
        Accuracy { train: share(0), val: share(1), test: share(2) }
    }

    fn summary(
        &self,
        status: Status,
        state: &RunState<T>,
        best: Option<Evaluation>,
        [train, own @ ..]: [f64; 4],
    ) -> Result<Summary, TrainError> {
        let bytes = own.iter().flat_map(|seconds| seconds.to_le_bytes()).collect();
        let gathered = gather_to_root(self.communicator, self.policy, "seconds", bytes)?;
        let mut spent = [0.0; 3];
        for rank in gathered.into_iter().flatten() {
            for (sum, bytes) in spent.iter_mut().zip(rank.as_chunks::<8>().0) {
                *sum += f64::from_le_bytes(*bytes);
            }
        }
        let (row, traffic) = match &state.last {
            Some((row, reduced)) => (*row, reduced.traffic),
            None => (HistoryRow::default(), Default::default()),
        };
        let at_best = self.accuracy(best.map(|best| best.scores));
        Ok(Summary {
            status: status.word().to_owned(),
            message: status.message(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: self.problem.name.clone(),
            split: self.problem.split.clone(),
            iterations: state.iteration,
            ranks: self.communicator.size(),
            threads: self.settings.threads,
            layers: self.settings.layers,
            neurons: self.settings.neurons,
            seed: self.settings.seed,
            objective: row.objective,
            lagrangian: row.lagrangian,
            primal_residual: row.primal_residual,
            dual_residual: row.dual_residual,
            accuracy: self.accuracy(state.last_scores.map(|last| last.scores)),
            best: BestSummary {
                iteration: best.map_or(0, |best| best.iteration),
                val: at_best.val,
                test: at_best.test,
            },
            bytes: BytesSummary {
                p: traffic.p_bytes,
                q: traffic.q_bytes,
                baseline: traffic.baseline_bytes,
                messages: traffic.messages,
                ratio: ratio(traffic.baseline_bytes, traffic.p_bytes, traffic.q_bytes),
                other: traffic.other_bytes,
            },
            seconds: SecondsSummary {
                total: self.seconds_before[0] + self.start.elapsed().as_secs_f64(),
                train,
                encode: spent[0],
                decode: spent[1],
                wait: spent[2],
            },
        })
    }
}

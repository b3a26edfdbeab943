//! What a run leaves: the models, gathered on rank 0, and the summary.

use ndarray::{Array1, Array2};

use super::best::Evaluation;
use super::by_rank::{RankCost, gather_costs};
use super::driver::Run;
use super::error::{SetUpError, TrainError};
use super::evaluate::{Scores, Snapshot};
use super::f1::{ClassCounts, F1};
use super::operator_search::{OperatorSummary, Trial};
use super::output::{
    Accuracy, BestSummary, BytesSummary, F1Summary, HistoryRow, OutputError, OutputFolder, SecondsSummary,
    Summary, ratio,
};
use super::problem::Problem;
use super::run_row::run_row;
use super::state::RunState;
use super::status::{Outcome, Status};
use super::usage::{Usage, gather_usage};
use crate::admm::Layer;
use crate::admm::iteration::RankState;
use crate::linalg::Real;
use crate::model::{Model, ModelError, ModelLayer, Provenance};
use crate::parallel::redistribute::{Holding, gather_layer};
use crate::parallel::{agree, gather_to_root, wait_sum};
use crate::settings::Settings;
use crate::timing::Phase;

impl<T: Real> Run<'_, T> {
    /// Writes the models and the summary.
    pub(super) fn finish(
        &mut self,
        status: Status,
        mut state: RunState<T>,
        holding: Holding<'_>,
    ) -> Result<Outcome, TrainError> {
        let seconds = self.seconds_so_far();
        let _io = self.policy.clock().enter(Phase::Io);
        if let Status::Interrupted(_) = status {
            let best = state.best.best().map(|(best, _)| *best);
            return self.conclude(status, &state, best, F1Summary::default(), seconds);
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
        let f1 = self.f1(&mut state, matches!(status, Status::Diverged { .. }))?;
        let outcome = self.conclude(status, &state, best, f1, seconds)?;
        if let (Some(folder), Status::Finished | Status::Converged | Status::EarlyStopped { .. }) =
            (&self.folder, status)
        {
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
        f1: F1Summary,
        seconds: [f64; 4],
    ) -> Result<Outcome, TrainError> {
        let summary = self.summary(status, state, best, f1, seconds)?;
        let row = run_row(&summary, self.problem, &self.settings.spelled_out(&self.problem.split));
        let written = write_results(self.folder.as_ref(), self.output_failed.take(), &summary, &row);
        agree(self.communicator, self.policy, "summary", written, SetUpError::describe)?;
        self.screen.footer(status, &summary, &self.settings.output);
        Ok(Outcome { status, summary })
    }

    /// F1 of the best and of the last model. Counts by class are made here, in a forward pass of each, so that no
    /// evaluation pays for them; the network is left with the best weights.
    fn f1(&mut self, state: &mut RunState<T>, has_diverged: bool) -> Result<F1Summary, TrainError> {
        let RunState { network, best, last_scores, .. } = state;
        let mut f1 = F1Summary::default();
        if !has_diverged {
            f1.last = self.f1_of(network)?;
        }
        if let Some((evaluation, weights)) = best.best() {
            if !has_diverged && last_scores.is_some_and(|last| last.iteration == evaluation.iteration) {
                f1.best = f1.last;
            } else {
                weights.iter().zip(&mut network.layers).for_each(|(kept, layer)| kept.restore(layer));
                f1.best = self.f1_of(network)?;
            }
        }
        Ok(f1)
    }

    fn f1_of(&mut self, network: &RankState<T>) -> Result<F1, TrainError> {
        let _evaluate = self.policy.clock().enter(Phase::Evaluate);
        let mut counts = ClassCounts::new(self.problem.classes);
        let pass = self.pass();
        let nodes = pass.nodes;
        pass.forward(network, |block, logits| nodes.count(block, logits, &mut counts))?;
        self.group.outcome()?;
        self.exchange.finish_sends()?;
        let pending = self.communicator.post_sum(counts.to_values())?.named("counts by class");
        Ok(ClassCounts::from_values(&wait_sum(self.communicator, pending, self.policy)?).f1())
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
            let own = own.map(|(snapshot, layer)| snapshot.dense(layer, &self.group));
            self.group.outcome()?;
            let gathered: Option<(Array2<T>, Array1<T>)> =
                gather_layer(self.communicator, self.policy, l, holding, own)?;
            if let Some((mut w, b)) = gathered {
                // The model takes features as they are.
                if let (1, Some(scaling)) = (l, &self.scaling) {
                    scaling.fold(&mut w);
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
        trained_model(self.settings, self.problem, layers, iteration, Accuracy::of(scores, self.known))
    }

    fn summary(
        &self,
        status: Status,
        state: &RunState<T>,
        best: Option<Evaluation>,
        f1: F1Summary,
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
        let Usage { hosts, phases, memory } = gather_usage(self.communicator, self.policy)?;
        let clock = self.policy.clock();
        let own = clock
            .measures_iterations()
            .then(|| RankCost::of(self.communicator, &clock.iterations(), &state.network));
        let by_rank = gather_costs(self.communicator, self.policy, own)?;
        let (row, traffic) = match &state.last {
            Some((row, reduced)) => (*row, reduced.traffic),
            None => (HistoryRow::default(), Default::default()),
        };
        Ok(Summary {
            objective: row.objective,
            lagrangian: row.lagrangian,
            primal_residual: row.primal_residual,
            dual_residual: row.dual_residual,
            f1,
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
            hosts,
            memory,
            phases,
            by_rank,
            ..Summary::of_run(
                status,
                self.settings,
                self.problem,
                self.communicator.size(),
                state.iteration,
                Accuracy::of(state.last_scores.map(|last| last.scores), self.known),
                BestSummary::of(best, self.known),
                self.tried,
            )
        })
    }
}

/// Writes the summary and the row of the run, which say that everything else is there: not where a row of the history is
/// missing, the last one included, of which no iteration after it could tell.
pub(super) fn write_results(
    folder: Option<&OutputFolder>,
    output_failed: Option<OutputError>,
    summary: &Summary,
    row: &[(String, String)],
) -> Result<(), SetUpError> {
    let Some(folder) = folder else { return Ok(()) };
    output_failed.map_or(Ok(()), Err)?;
    folder.sync_history()?;
    folder.write_run_row(row)?;
    Ok(folder.write_summary(summary)?)
}

/// A model with where it comes from.
pub(super) fn trained_model<T: Real>(
    settings: &Settings,
    problem: &Problem,
    layers: Vec<ModelLayer<T>>,
    iteration: u64,
    accuracy: Accuracy,
) -> Result<Model<T>, ModelError> {
    Model::new(
        settings.operators.clone(),
        settings.feature_norm,
        problem.features,
        problem.classes,
        layers,
        Provenance {
            dataset: problem.name.clone(),
            checksum: problem.checksum.clone(),
            split: problem.split.clone(),
            seed: settings.seed,
            iteration,
            val_accuracy: accuracy.val,
            test_accuracy: accuracy.test,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    )
}

impl Accuracy {
    /// Of scores, given the number of nodes of known class in each set.
    pub(super) fn of(scores: Option<Scores>, known: [usize; 3]) -> Self {
        let share = |set: usize| {
            scores.filter(|_| known[set] > 0).map(|scores| scores.correct[set] / known[set] as f64)
        };
        Accuracy { train: share(0), val: share(1), test: share(2) }
    }
}

impl BestSummary {
    /// Of the best evaluation, where there was one.
    pub(super) fn of(best: Option<Evaluation>, known: [usize; 3]) -> Self {
        let Accuracy { val, test, .. } = Accuracy::of(best.map(|best| best.scores), known);
        BestSummary { iteration: best.map_or(0, |best| best.iteration), val, test }
    }
}

impl Summary {
    /// What the summary of every run has, whatever trained the network; the rest is 0.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn of_run(
        status: Status,
        settings: &Settings,
        problem: &Problem,
        ranks: usize,
        iterations: u64,
        accuracy: Accuracy,
        best: BestSummary,
        tried: &[Trial],
    ) -> Self {
        Summary {
            status: status.word().to_owned(),
            message: status.message(),
            optimizer: settings.method.word().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: problem.name.clone(),
            dataset_checksum: problem.checksum.clone(),
            split: problem.split.clone(),
            iterations,
            ranks,
            threads: settings.threads,
            layers: settings.layers,
            neurons: settings.neurons,
            seed: settings.seed,
            operators: OperatorSummary::of(settings, tried.to_vec()),
            accuracy,
            best,
            ..Summary::default()
        }
    }
}

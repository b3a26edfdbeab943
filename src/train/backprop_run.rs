//! Training by backpropagation, full batch, over all ranks: each holds blocks of nodes and all parameters.
//!
//! An iteration: every rank adds up the gradients of its blocks; the sum over all blocks reaches rank 0 through the fixed
//! tree; rank 0 takes one step and gives the parameters to all; every rank evaluates its blocks; one sum over ranks,
//! with slots for each block, tells all of them what came of it.

use std::time::Instant;

use super::backprop_input::{Input, NodeShares};
use super::best::Evaluation;
use super::driver::{Job, RunOptions};
use super::error::{SetUpError, TrainError};
use super::evaluate::Scores;
use super::f1::{ClassCounts, F1};
use super::output::{
    Accuracy, BestSummary, BytesSummary, F1Summary, HistoryRow, OutputError, OutputFolder, SecondsSummary,
    Summary,
};
use super::patience::Patience;
use super::results::trained_model;
use super::screen::Screen;
use super::status::{Outcome, Status};
use crate::admm::Workspace;
use crate::backprop::network::{TrainingBlock, gradient};
use crate::backprop::{Dropout, Layout, Optimizer, Rule};
use crate::linalg::elements::{flat, sum_squares};
use crate::linalg::{MatrixSum, Real, ScalarSum};
use crate::model::ModelLayer;
use crate::parallel::node_blocks::BlockSum;
use crate::parallel::{agree, gather_to_root, wait_sum};

/// What several runs on the same data share: who holds which nodes, and this rank's features.
#[derive(Debug)]
pub(super) struct Nodes<T> {
    shares: NodeShares,
    input: Input<T>,
}

/// The parameters of an evaluation, kept on rank 0 alone, and its result, known to all.
struct Best<T> {
    evaluation: Evaluation,
    parameters: Vec<T>,
}

/// Slots of a sum after those of the blocks.
#[derive(Clone, Copy)]
enum Slot {
    Decay,
    NotFinite,
    OutputFailed,
    Bytes,
}
const SHARED_SLOTS: usize = 4;

/// Everything a rank carries through a run.
pub(super) struct BackpropRun<'a, T> {
    job: Job<'a>,
    nodes: &'a Nodes<T>,
    layout: Layout,
    parameters: Vec<T>,
    tree: BlockSum<'a>,
    sums: Vec<MatrixSum<T>>,
    workspace: Workspace<T>,
    folder: Option<OutputFolder>,
    output_failed: Option<OutputError>,
    screen: Screen,
    known: [usize; 3],
    slots: Vec<f64>,
    training: Instant,
}

/// Reads this rank's nodes; every rank learns whether they can be used.
pub(super) fn read_nodes<T: Real>(job: &Job<'_>) -> Result<Nodes<T>, TrainError> {
    let Job { settings, communicator, policy, problem, workers, .. } = *job;
    let shares = NodeShares::new(problem, settings.block_nodes, communicator.size());
    let input = Input::read(settings, problem, &shares, communicator.rank(), workers);
    let input = agree(communicator, policy, "features", input, SetUpError::describe)?;
    Ok(Nodes { shares, input })
}

/// Trains with `rule` and writes the results.
pub(super) fn train_by_backprop<T: Real>(
    job: Job<'_>,
    rule: Rule,
    nodes: &Nodes<T>,
    options: RunOptions,
) -> Result<Outcome, TrainError> {
    let Job { settings, communicator, policy, problem, .. } = job;
    let inputs = settings.operators.count() * problem.features;
    let layout = Layout::new(inputs, settings.neurons, problem.classes, settings.layers);
    let subtrees = nodes.shares.owners.subtrees(communicator.rank()).len();
    let length = layout.len();
    let mut run = BackpropRun {
        nodes,
        parameters: layout.random(settings.seed),
        layout,
        tree: BlockSum::new(communicator, policy, nodes.shares.owners),
        sums: (0..subtrees).map(|_| MatrixSum::new((1, length))).collect(),
        workspace: Workspace::new(),
        folder: job.open_folder(options.overwrite)?,
        output_failed: None,
        screen: options.screen,
        known: nodes.shares.evaluated.known(),
        slots: Vec::new(),
        training: Instant::now(),
        job,
    };
    // Hosts with other libraries of mathematics might draw other numbers.
    run.tree.from_root(0, &mut run.parameters)?;
    run.iterations(rule)
}

impl<T: Real> BackpropRun<'_, T> {
    fn iterations(&mut self, rule: Rule) -> Result<Outcome, TrainError> {
        let settings = self.job.settings;
        let is_root = self.job.communicator.rank() == 0;
        let mut optimizer = is_root
            .then(|| Optimizer::new(rule, settings.learning_rate, settings.weight_decay, self.layout.len()));
        let mut best: Option<Best<T>> = None;
        let mut last: Option<(HistoryRow, Option<Scores>, u64)> = None;
        let mut patience = Patience::default();
        let mut status = None;
        let mut iteration = 0;
        self.screen.steps();
        while status.is_none() && iteration < settings.iterations as u64 {
            iteration += 1;
            let row = self.step(iteration, optimizer.as_mut())?;
            let is_last = iteration == settings.iterations as u64;
            let due = is_last || iteration.is_multiple_of(settings.evaluate_every as u64);
            if due {
                self.evaluate();
            }
            let (row, scores, not_finite, bytes) = self.settle(row, due)?;
            self.screen.step_row(&row, settings.iterations, is_last);
            if let Some(layer) = not_finite {
                status = Some(Status::StepDiverged { layer, iteration });
            } else if let Some(scores) = scores {
                let evaluation = Evaluation { iteration, scores };
                let is_usable = scores.loss.iter().all(|loss| loss.is_finite());
                if is_usable && best.as_ref().is_none_or(|best| evaluation.beats(&best.evaluation)) {
                    let kept = best.take().map_or(Vec::new(), |best| best.parameters);
                    best = Some(Best { evaluation, parameters: self.copy_on_root(kept) });
                }
                if patience.observe(scores.correct[1], settings.patience) {
                    let evaluations = settings.patience.unwrap_or_default();
                    status = Some(Status::EarlyStopped { evaluations });
                }
            }
            let scores = scores.or(last.and_then(|(_, scores, _)| scores));
            last = Some((row, scores, bytes));
        }
        let (row, scores, bytes) = last.unwrap_or_default();
        self.finish(status.unwrap_or(Status::Finished), row, scores, best, bytes)
    }

    fn copy_on_root(&self, mut kept: Vec<T>) -> Vec<T> {
        if self.job.communicator.rank() == 0 {
            kept.clone_from(&self.parameters);
        }
        kept
    }

    /// Blocks, and places of their slots: a risk for each training block, three losses and three counts for each.
    fn slot(&self, slot: Slot) -> usize {
        self.nodes.shares.training.count()
            + Scores::COUNT * self.nodes.shares.evaluated.blocks.count()
            + slot as usize
    }

    /// One step of all parameters.
    fn step(
        &mut self,
        iteration: u64,
        optimizer: Option<&mut Optimizer<T>>,
    ) -> Result<HistoryRow, TrainError> {
        let Job { settings, communicator, problem, workers, .. } = self.job;
        let shares = &self.nodes.shares;
        self.slots.clear();
        self.slots.resize(self.slot(Slot::Decay) + SHARED_SLOTS, 0.0);
        if communicator.rank() == 0 {
            let at = self.slot(Slot::Decay);
            self.slots[at] = settings.weight_decay / 2.0 * sum_squares(&self.parameters);
        }
        let nodes = shares.training.nodes();
        let dropout = Dropout { rate: settings.dropout, seed: settings.seed, iteration, nodes };
        let mut own = self.nodes.input.training.iter();
        let mut parts = Vec::with_capacity(self.sums.len());
        for (sum, blocks) in self.sums.iter_mut().zip(shares.owners.subtrees(communicator.rank())) {
            // The range comes first: zip would take one too many of the other.
            for (_, (block, x)) in blocks.zip(own.by_ref()) {
                let rows = shares.training.range(*block);
                let block_of_nodes = TrainingBlock {
                    x,
                    labels: &problem.train_labels[rows.clone()],
                    first_node: rows.start,
                    nodes,
                };
                sum.push(|out| {
                    let out = out.as_slice_mut().unwrap_or_default();
                    let (layout, parameters) = (&self.layout, &self.parameters);
                    self.slots[*block] = gradient(
                        layout,
                        parameters,
                        block_of_nodes,
                        &dropout,
                        out,
                        &mut self.workspace,
                        workers,
                    );
                });
            }
            let mut part = self.workspace.take((1, self.layout.len()));
            sum.finish(&mut part);
            parts.push(part);
        }
        let total = self.tree.to_root(iteration, self.layout.len(), &mut parts)?;
        if let (Some(optimizer), Some(total)) = (optimizer, total) {
            optimizer.step(&mut self.parameters, flat(&total), workers);
            self.workspace.give(total);
            let at = self.slot(Slot::NotFinite);
            self.slots[at] = self.layout.first_not_finite(&self.parameters).unwrap_or(0) as f64;
        }
        self.tree.from_root(iteration, &mut self.parameters)?;
        Ok(HistoryRow { stage: 1, layers: settings.layers, iteration, ..HistoryRow::default() })
    }

    /// Scores of this rank's blocks, into their slots.
    fn evaluate(&mut self) {
        let Job { settings, workers, .. } = self.job;
        let NodeShares { training, evaluated, .. } = &self.nodes.shares;
        let network = (&self.layout, self.parameters.as_slice());
        let slots = &mut self.slots;
        self.nodes.input.for_each_logits(settings, network, &mut self.workspace, workers, |block, z| {
            let at = training.count() + Scores::COUNT * block;
            slots[at..at + Scores::COUNT].copy_from_slice(&evaluated.score(block, z).to_array());
        });
    }

    /// Sums the slots over all ranks, completes the row and writes it; with scores where there are any, the layer in
    /// which a parameter is not finite, and the bytes sent by all ranks.
    #[allow(clippy::type_complexity)]
    fn settle(
        &mut self,
        mut row: HistoryRow,
        due: bool,
    ) -> Result<(HistoryRow, Option<Scores>, Option<usize>, u64), TrainError> {
        let Job { communicator, policy, .. } = self.job;
        let (failed, bytes) = (self.slot(Slot::OutputFailed), self.slot(Slot::Bytes));
        self.slots[failed] = f64::from(u8::from(self.output_failed.is_some()));
        self.slots[bytes] = self.tree.bytes() as f64;
        let pending = communicator.post_sum(std::mem::take(&mut self.slots))?.named("scores of an iteration");
        let sums = wait_sum(communicator, pending, policy)?;
        let (training, all) =
            (self.nodes.shares.training.count(), self.nodes.shares.evaluated.blocks.count());
        let nodes = self.nodes.shares.training.nodes() as f64;
        let risk = ScalarSum::of(sums[..training].iter().copied());
        row.risk = risk / nodes;
        row.objective = risk + nodes * sums[self.slot(Slot::Decay)];
        row.seconds = self.training.elapsed().as_secs_f64();
        let scores = due.then(|| {
            let total = std::array::from_fn(|i| {
                ScalarSum::of((0..all).map(|block| sums[training + Scores::COUNT * block + i]))
            });
            Scores::from_array(total)
        });
        if let Some(scores) = &scores {
            row.set_scores(scores, self.known);
        }
        if let Some(folder) = &mut self.folder
            && let Err(error) = folder.add_row(&row)
        {
            self.output_failed.get_or_insert(error);
        }
        if sums[failed] > 0.0 {
            let failed = self.output_failed.take().map_or(Ok(()), |error| Err(SetUpError::Output(error)));
            agree(communicator, policy, "output", failed, SetUpError::describe)?;
        }
        let layer = sums[self.slot(Slot::NotFinite)] as usize;
        let (bytes, not_finite) = (sums[bytes] as u64, (layer > 0).then_some(layer));
        self.slots = sums;
        Ok((row, scores, not_finite, bytes))
    }

    /// Writes the models and the summary.
    fn finish(
        &mut self,
        status: Status,
        row: HistoryRow,
        scores: Option<Scores>,
        best: Option<Best<T>>,
        bytes: u64,
    ) -> Result<Outcome, TrainError> {
        let Job { settings, communicator, policy, problem, .. } = self.job;
        let train_seconds = self.training.elapsed().as_secs_f64();
        let restored = self.folder.as_ref().map_or(Ok(()), OutputFolder::restore).map_err(SetUpError::from);
        agree(communicator, policy, "output folder at the end", restored, SetUpError::describe)?;
        let has_diverged = matches!(status, Status::StepDiverged { .. });
        let mut f1 = F1Summary::default();
        if !has_diverged {
            self.write_model("model-last.h5", row.iteration, scores)?;
            f1.last = self.f1()?;
        }
        let best = match best {
            None => None,
            Some(Best { evaluation, mut parameters }) => {
                parameters.resize(self.layout.len(), T::zero());
                self.tree.from_root(row.iteration, &mut parameters)?;
                self.parameters = parameters;
                self.write_model("model.h5", evaluation.iteration, Some(evaluation.scores))?;
                f1.best = self.f1()?;
                Some(evaluation)
            }
        };
        let waited = policy.seconds_waited().to_le_bytes().to_vec();
        let waited = gather_to_root(communicator, policy, "seconds", waited)?.into_iter().flatten();
        let wait = waited.map(|bytes| bytes.try_into().map_or(0.0, f64::from_le_bytes)).sum();
        let summary = Summary {
            objective: row.objective,
            f1,
            bytes: BytesSummary { other: bytes, ..BytesSummary::default() },
            seconds: SecondsSummary {
                total: self.job.start.elapsed().as_secs_f64(),
                train: train_seconds,
                wait,
                ..SecondsSummary::default()
            },
            ..Summary::of_run(
                status,
                settings,
                problem,
                communicator.size(),
                row.iteration,
                Accuracy::of(scores, self.known),
                BestSummary::of(best, self.known),
                self.job.tried,
            )
        };
        let written = self.folder.as_ref().map_or(Ok(()), |folder| folder.write_summary(&summary));
        agree(communicator, policy, "summary", written.map_err(SetUpError::from), SetUpError::describe)?;
        self.screen.footer(status, &summary, &settings.output);
        Ok(Outcome { status, summary })
    }

    /// Saves the parameters as a model, on rank 0.
    fn write_model(&self, name: &str, iteration: u64, scores: Option<Scores>) -> Result<(), TrainError> {
        let Job { settings, communicator, policy, problem, .. } = self.job;
        let saved = match &self.folder {
            None => Ok(()),
            Some(folder) => {
                let layer = |l| {
                    let (w, b) = self.layout.layer(&self.parameters, l);
                    ModelLayer { w: w.to_owned(), b: b.to_vec().into() }
                };
                let layers = (1..=self.layout.layers()).map(layer).collect();
                trained_model(settings, problem, layers, iteration, Accuracy::of(scores, self.known))
                    .and_then(|model| model.save(folder.file(name), true))
            }
        };
        Ok(agree(communicator, policy, name, saved.map_err(SetUpError::from), SetUpError::describe)?)
    }

    /// F1 of the test nodes with the parameters as they are.
    fn f1(&mut self) -> Result<F1, TrainError> {
        let Job { settings, communicator, policy, problem, workers, .. } = self.job;
        let mut counts = ClassCounts::new(problem.classes);
        let network = (&self.layout, self.parameters.as_slice());
        self.nodes.input.for_each_logits(settings, network, &mut self.workspace, workers, |block, z| {
            self.nodes.shares.evaluated.count(block, z, &mut counts);
        });
        let pending = communicator.post_sum(counts.to_values())?.named("counts by class");
        Ok(ClassCounts::from_values(&wait_sum(communicator, pending, policy)?).f1())
    }
}

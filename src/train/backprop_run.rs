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
use super::reduction::Requests;
use super::results::{trained_model, write_results};
use super::run_row::run_row;
use super::screen::Screen;
use super::several::Shared;
use super::status::{Outcome, Status};
use super::stopping::{Clock, StopSignal};
use super::usage::{Usage, gather_usage};
use crate::admm::Workspace;
use crate::backprop::network::{TrainingBlock, gradient};
use crate::backprop::{Dropout, Layout, Optimizer, Rule};
use crate::linalg::elements::{flat, sum_squares};
use crate::linalg::{MatrixSum, Real, ScalarSum};
use crate::model::ModelLayer;
use crate::parallel::node_blocks::BlockSum;
use crate::parallel::{agree, gather_to_root, wait_sum};
use crate::timing::Phase;

/// What several runs on the same data share: who holds which nodes, and this rank's features.
#[derive(Debug)]
pub(super) struct Nodes<T> {
    shares: NodeShares,
    input: Input<T>,
}

/// The parameters of an evaluation, kept on rank 0 alone, and its result, known to all.
pub(super) struct Best<T> {
    pub evaluation: Evaluation,
    pub parameters: Vec<T>,
}

/// What changes from iteration to iteration, beside the parameters.
pub(super) struct Steps<T> {
    /// Iterations done.
    pub iteration: u64,
    /// The update rule, on rank 0.
    pub optimizer: Option<Optimizer<T>>,
    pub best: Option<Best<T>>,
    pub patience: Patience,
    pub last_scores: Option<Evaluation>,
    /// The row of the last iteration.
    pub row: HistoryRow,
    /// Bytes that all ranks have sent, up to that.
    pub bytes: u64,
}

/// What the sum of an iteration tells all ranks.
struct Settled {
    row: HistoryRow,
    scores: Option<Scores>,
    /// The layer in which a parameter is not finite.
    not_finite: Option<usize>,
    /// Bytes sent by all ranks.
    bytes: u64,
    requests: Requests,
}

/// Slots of a sum after those of the blocks.
#[derive(Clone, Copy)]
enum Slot {
    Decay,
    NotFinite,
    OutputFailed,
    Bytes,
    Stops,
    TimeIsUp,
    CheckpointIsDue,
}
const SHARED_SLOTS: usize = 7;

/// Everything a rank carries through a run.
pub(super) struct BackpropRun<'a, T> {
    pub job: Job<'a>,
    nodes: &'a Nodes<T>,
    pub layout: Layout,
    pub parameters: Vec<T>,
    pub tree: BlockSum<'a>,
    sums: Vec<MatrixSum<T>>,
    class_weights: Vec<f64>,
    workspace: Workspace<T>,
    pub folder: Option<OutputFolder>,
    pub output_failed: Option<OutputError>,
    pub screen: Screen,
    known: [usize; 3],
    slots: Vec<f64>,
    stop: StopSignal,
    pub clock: Clock,
    /// Seconds that the run took before this process: training, and, on rank 0 for all ranks, waiting.
    pub seconds_before: [f64; 2],
    training: Instant,
}

/// Reads this rank's nodes; every rank learns whether they can be used.
pub(super) fn read_nodes<T: Real>(job: &Job<'_>) -> Result<Nodes<T>, TrainError> {
    let Job { settings, communicator, policy, problem, workers, .. } = *job;
    let _augment = policy.clock().enter(Phase::Augment);
    let shares = NodeShares::new(problem, settings.block_nodes, communicator.size());
    let input = Input::read(settings, problem, &shares, communicator.rank(), workers);
    let input = agree(communicator, policy, "features", input, SetUpError::describe)?;
    Ok(Nodes { shares, input })
}

/// Trains with `rule` and writes the results.
pub(super) fn train_by_backprop<T: Real>(
    job: Job<'_>,
    rule: Rule,
    options: RunOptions,
    shared: &mut Shared<T>,
) -> Result<Outcome, TrainError> {
    if shared.nodes.is_none() {
        shared.nodes = Some(read_nodes(&job)?);
    }
    let Job { settings, communicator, policy, problem, .. } = job;
    // Locked first: another process may still be at it.
    let lock = match options.resume {
        true => job.lock_folder()?,
        false => None,
    };
    let nodes = match shared.nodes.take() {
        Some(nodes) => nodes,
        None => read_nodes(&job)?,
    };
    let inputs = settings.operators.count() * problem.features;
    let layout = Layout::new(inputs, settings.neurons, problem.classes, settings.layers);
    let subtrees = nodes.shares.owners.subtrees(communicator.rank()).len();
    let length = layout.len();
    let mut run = BackpropRun {
        nodes: &nodes,
        parameters: layout.random(settings.seed),
        layout,
        tree: BlockSum::new(communicator, policy, nodes.shares.owners),
        sums: (0..subtrees).map(|_| MatrixSum::new((1, length))).collect(),
        class_weights: problem.class_weights(settings.class_weights),
        workspace: Workspace::new(),
        folder: None,
        output_failed: None,
        screen: options.screen,
        known: nodes.shares.evaluated.known(),
        slots: Vec::new(),
        stop: options.stop,
        clock: Clock::new(settings, options.since.unwrap_or(job.start), communicator.rank()),
        seconds_before: [0.0; 2],
        training: Instant::now(),
        job,
    };
    let steps = match options.resume {
        true => run.resume(rule, lock, shared)?,
        false => {
            run.folder = job.create_folder(shared, options.overwrite)?;
            run.first_step(rule)?
        }
    };
    let outcome = run.iterations(steps);
    shared.nodes = Some(nodes);
    outcome
}

impl<T: Real> BackpropRun<'_, T> {
    /// The state before the first step.
    pub fn first_step(&mut self, rule: Rule) -> Result<Steps<T>, TrainError> {
        // Hosts with other libraries of mathematics might draw other numbers.
        self.tree.from_root(0, &mut self.parameters)?;
        let Job { settings, communicator, .. } = self.job;
        let is_root = communicator.rank() == 0;
        let optimizer = is_root
            .then(|| Optimizer::new(rule, settings.learning_rate, settings.weight_decay, self.layout.len()));
        Ok(Steps {
            iteration: 0,
            optimizer,
            best: None,
            patience: Patience::default(),
            last_scores: None,
            row: HistoryRow::default(),
            bytes: 0,
        })
    }

    fn iterations(&mut self, mut steps: Steps<T>) -> Result<Outcome, TrainError> {
        let settings = self.job.settings;
        let mut status = None;
        self.training = Instant::now();
        self.screen.steps();
        while status.is_none() && steps.iteration < settings.iterations as u64 {
            steps.iteration += 1;
            let iteration = steps.iteration;
            let row = self.step(iteration, steps.optimizer.as_mut())?;
            let is_last = iteration == settings.iterations as u64;
            let due = is_last || iteration.is_multiple_of(settings.evaluate_every as u64);
            if due {
                self.evaluate();
            }
            let Settled { row, scores, not_finite, bytes, requests } = self.settle(row, due)?;
            self.screen.step_row(&row, settings.iterations, is_last);
            (steps.row, steps.bytes) = (row, bytes);
            if let Some(layer) = not_finite {
                status = Some(Status::StepDiverged { layer, iteration });
            } else if let Some(scores) = scores {
                let evaluation = Evaluation { iteration, scores };
                let is_usable = scores.loss.iter().all(|loss| loss.is_finite());
                if is_usable && steps.best.as_ref().is_none_or(|best| evaluation.beats(&best.evaluation)) {
                    let kept = steps.best.take().map_or(Vec::new(), |best| best.parameters);
                    steps.best = Some(Best { evaluation, parameters: self.copy_on_root(kept) });
                }
                if steps.patience.observe(scores.correct[1], settings.patience) {
                    let evaluations = settings.patience.unwrap_or_default();
                    status = Some(Status::EarlyStopped { evaluations });
                }
            }
            steps.last_scores = scores.map(|scores| Evaluation { iteration, scores }).or(steps.last_scores);
            // The end of a run is near enough: it leaves the models themselves.
            let stop = requests.stop();
            let is_due = requests.checkpoint_is_due || self.clock.is_due_at(iteration);
            if status.is_none() && !is_last && (stop.is_some() || is_due) {
                self.checkpoint(&steps)?;
                status = stop.map(Status::Interrupted);
            }
        }
        self.finish(status.unwrap_or(Status::Finished), steps)
    }

    fn copy_on_root(&self, mut kept: Vec<T>) -> Vec<T> {
        if self.job.communicator.rank() == 0 {
            kept.clone_from(&self.parameters);
        }
        kept
    }

    /// Seconds of training so far.
    pub fn seconds_so_far(&self) -> f64 {
        self.seconds_before[0] + self.training.elapsed().as_secs_f64()
    }

    /// Seconds of waiting so far, over all ranks; right on rank 0.
    pub fn seconds_waited(&self) -> Result<f64, TrainError> {
        let Job { communicator, policy, .. } = self.job;
        let waited = policy.seconds_waited().to_le_bytes().to_vec();
        let waited = gather_to_root(communicator, policy, "seconds", waited)?.into_iter().flatten();
        let waited: f64 = waited.map(|bytes| bytes.try_into().map_or(0.0, f64::from_le_bytes)).sum();
        Ok(self.seconds_before[1] + waited)
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
        let Job { settings, communicator, policy, problem, workers, .. } = self.job;
        let _gradient = policy.clock().enter(Phase::Gradient);
        let shares = &self.nodes.shares;
        self.slots.clear();
        self.slots.resize(self.slot(Slot::Decay) + SHARED_SLOTS, 0.0);
        if communicator.rank() == 0 {
            let at = self.slot(Slot::Decay);
            self.slots[at] = settings.weight_decay / 2.0 * sum_squares(&self.parameters);
        }
        let nodes = shares.training.nodes();
        let own_nodes: usize = self.nodes.input.training.iter().map(|(_, x)| x.nrows()).sum();
        policy.clock().count(self.layout.gradient_operations(own_nodes));
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
                    class_weights: &self.class_weights,
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
        let Job { settings, policy, workers, .. } = self.job;
        let _evaluate = policy.clock().enter(Phase::Evaluate);
        let NodeShares { training, evaluated, .. } = &self.nodes.shares;
        let network = (&self.layout, self.parameters.as_slice());
        let slots = &mut self.slots;
        self.nodes.input.for_each_logits(settings, network, &mut self.workspace, workers, |block, z| {
            let at = training.count() + Scores::COUNT * block;
            slots[at..at + Scores::COUNT].copy_from_slice(&evaluated.score(block, z).to_array());
        });
    }

    /// Sums the slots over all ranks, completes the row and writes it.
    fn settle(&mut self, mut row: HistoryRow, due: bool) -> Result<Settled, TrainError> {
        let Job { communicator, policy, .. } = self.job;
        let _reduce = policy.clock().enter(Phase::Reduce);
        let Requests { time_is_up, checkpoint_is_due, .. } = self.clock.requests();
        let flag = |is: bool| f64::from(u8::from(is));
        for (slot, value) in [
            (Slot::OutputFailed, flag(self.output_failed.is_some())),
            (Slot::Bytes, self.tree.bytes() as f64),
            (Slot::Stops, flag((self.stop)(row.iteration))),
            (Slot::TimeIsUp, flag(time_is_up)),
            (Slot::CheckpointIsDue, flag(checkpoint_is_due)),
        ] {
            let at = self.slot(slot);
            self.slots[at] = value;
        }
        let pending = communicator.post_sum(std::mem::take(&mut self.slots))?.named("scores of an iteration");
        let sums = wait_sum(communicator, pending, policy)?;
        let (training, all) =
            (self.nodes.shares.training.count(), self.nodes.shares.evaluated.blocks.count());
        let nodes = self.nodes.shares.training.nodes() as f64;
        let risk = ScalarSum::of(sums[..training].iter().copied());
        row.risk = risk / nodes;
        row.objective = risk + nodes * sums[self.slot(Slot::Decay)];
        row.seconds = self.seconds_so_far();
        let scores = due.then(|| {
            let total = std::array::from_fn(|i| {
                ScalarSum::of((0..all).map(|block| sums[training + Scores::COUNT * block + i]))
            });
            Scores::from_array(total)
        });
        if let Some(scores) = &scores {
            row.set_scores(scores, self.known);
        }
        let writing = policy.clock().enter(Phase::Io);
        if let Some(folder) = &mut self.folder
            && let Err(error) = folder.add_row(&row)
        {
            self.output_failed.get_or_insert(error);
        }
        drop(writing);
        if sums[self.slot(Slot::OutputFailed)] > 0.0 {
            let failed = self.output_failed.take().map_or(Ok(()), |error| Err(SetUpError::Output(error)));
            agree(communicator, policy, "output", failed, SetUpError::describe)?;
        }
        let layer = sums[self.slot(Slot::NotFinite)] as usize;
        let settled = Settled {
            row,
            scores,
            not_finite: (layer > 0).then_some(layer),
            bytes: sums[self.slot(Slot::Bytes)] as u64,
            requests: Requests {
                stops: sums[self.slot(Slot::Stops)] as usize,
                time_is_up: sums[self.slot(Slot::TimeIsUp)] > 0.0,
                checkpoint_is_due: sums[self.slot(Slot::CheckpointIsDue)] > 0.0,
            },
        };
        self.slots = sums;
        Ok(settled)
    }

    /// Writes the models, unless the run was interrupted, and the summary.
    fn finish(&mut self, status: Status, steps: Steps<T>) -> Result<Outcome, TrainError> {
        let Job { settings, communicator, policy, problem, .. } = self.job;
        let Steps { iteration, best, last_scores, row, bytes, .. } = steps;
        let train_seconds = self.seconds_so_far();
        let evaluation = best.as_ref().map(|best| best.evaluation);
        let scores = last_scores.map(|last| last.scores);
        let _io = policy.clock().enter(Phase::Io);
        let mut f1 = F1Summary::default();
        if !matches!(status, Status::Interrupted(_)) {
            let restored =
                self.folder.as_ref().map_or(Ok(()), OutputFolder::restore).map_err(SetUpError::from);
            agree(communicator, policy, "output folder at the end", restored, SetUpError::describe)?;
            if !matches!(status, Status::StepDiverged { .. }) {
                self.write_model("model-last.h5", iteration, scores)?;
                f1.last = self.f1()?;
            }
            if let Some(Best { evaluation, mut parameters }) = best {
                parameters.resize(self.layout.len(), T::zero());
                self.tree.from_root(iteration, &mut parameters)?;
                self.parameters = parameters;
                self.write_model("model.h5", evaluation.iteration, Some(evaluation.scores))?;
                f1.best = self.f1()?;
            }
        }
        let Usage { hosts, phases, memory } = gather_usage(communicator, policy)?;
        let over_ranks = |phase| phases.get(&phase).map_or(0.0, |of| of.avg * communicator.size() as f64);
        let summary = Summary {
            objective: row.objective,
            f1,
            bytes: BytesSummary { other: bytes, ..BytesSummary::default() },
            seconds: SecondsSummary {
                total: self.seconds_before[0] + self.job.start.elapsed().as_secs_f64(),
                train: train_seconds,
                encode: over_ranks(Phase::Encode),
                decode: over_ranks(Phase::Decode),
                wait: self.seconds_before[1] + over_ranks(Phase::Wait),
            },
            hosts,
            memory,
            phases,
            ..Summary::of_run(
                status,
                settings,
                problem,
                communicator.size(),
                iteration,
                Accuracy::of(scores, self.known),
                BestSummary::of(evaluation, self.known),
                self.job.tried,
            )
        };
        let row = run_row(&summary, problem, &settings.spelled_out(&problem.split));
        let written = write_results(self.folder.as_ref(), self.output_failed.take(), &summary, &row);
        agree(communicator, policy, "summary", written, SetUpError::describe)?;
        if let (Some(folder), Some(0)) = (&self.folder, Status::code_of_ended(status.word())) {
            // The models are the better thing to have, and checkpoints are large.
            folder.remove_checkpoints();
        }
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

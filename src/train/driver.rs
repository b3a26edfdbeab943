//! The SPMD driver: every rank runs this, each with its own layers.

use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use thiserror::Error;

use super::best::{BestTracker, Evaluation};
use super::evaluate::{EvaluatedNodes, Scores, Snapshot, evaluate};
use super::input::{self, EvaluatedInput};
use super::output::{
    Accuracy, BestSummary, BytesSummary, HistoryRow, OutputError, OutputFolder, SecondsSummary, Summary,
};
use super::problem::Problem;
use super::reduction::{Contribution, Reduced, contribute, take_apart};
use super::schedule::Schedule;
use super::screen::Screen;
use super::stage::{self, LayerWeights};
use crate::admm::iteration::{self, LayerReport, RankState, Rules, Variable, iterate};
use crate::admm::p::SpectralNorm;
use crate::admm::penalties::WeightPenalty;
use crate::admm::residuals::Totals;
use crate::admm::{Penalties, Workspace};
use crate::dataset::{DatasetError, DatasetFile};
use crate::graph::{Augmentation, renormalised_adjacency};
use crate::linalg::{NodeBlocks, Real, Workers};
use crate::model::{Model, ModelError, ModelLayer, Provenance};
use crate::parallel::exchange::{Exchange, ExchangeError};
use crate::parallel::plan::{Plan, PlanError, StageShape, check_ranks, plan};
use crate::parallel::redistribute::{Holding, gather_layer, redistribute};
use crate::parallel::{
    CommError, Communicator, JointFailure, Pending, WaitPolicy, agree, gather_to_root, hosts, wait_sum,
};
use crate::quantize::{LevelError, LevelSet, PowerRange};
use crate::settings::Settings;

/// A run that gave no result.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A rank could not go on; every rank has this same error.
    #[error(transparent)]
    Joint(#[from] JointFailure),
    /// The exchange with another rank failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The communication failed.
    #[error(transparent)]
    Communication(#[from] CommError),
    /// The results could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// No level set fits.
    #[error(transparent)]
    Levels(#[from] LevelError),
}

/// A problem of one rank's own, to be agreed on by all.
#[derive(Debug, Error)]
enum SetUpError {
    #[error("{}", chain(.0))]
    Data(#[from] DatasetError),
    #[error(transparent)]
    Ranks(#[from] PlanError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot start {threads} threads: {source}")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },
    #[error("{}", chain(.0))]
    Model(#[from] ModelError),
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl SetUpError {
    fn describe(&self) -> (u8, String) {
        let code = match self {
            SetUpError::Data(error) => {
                if error.is_usage() {
                    2
                } else {
                    3
                }
            }
            SetUpError::Ranks(_) | SetUpError::Output(OutputError::Occupied { .. }) => 2,
            SetUpError::Output(_) | SetUpError::Threads { .. } | SetUpError::Model(_) => 1,
        };
        (code, self.to_string())
    }
}

impl TrainError {
    /// The exit code of every rank.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainError::Joint(failure) => failure.exit_code(),
            _ => 1,
        }
    }

    /// Whether the other ranks know of it. If not they may wait for this rank for ever and must be ended.
    pub fn is_joint(&self) -> bool {
        matches!(self, TrainError::Joint(JointFailure::Failed { .. }))
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every stage ran its iterations.
    Finished,
    /// The last stage met its tolerances.
    Converged,
    /// A value was not finite.
    Diverged {
        /// l.
        layer: usize,
        /// The variable it was found in.
        variable: Variable,
        /// The iteration, over all stages.
        iteration: u64,
    },
}

impl Status {
    /// The word in summary.json.
    pub fn word(self) -> &'static str {
        match self {
            Status::Finished => "finished",
            Status::Converged => "converged",
            Status::Diverged { .. } => "diverged",
        }
    }

    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Finished | Status::Converged => 0,
            Status::Diverged { .. } => 4,
        }
    }

    fn message(self) -> String {
        match self {
            Status::Finished => "all iterations done".to_owned(),
            Status::Converged => "both residuals met their tolerances".to_owned(),
            Status::Diverged { layer, variable, iteration } => format!(
                "{} of layer {layer} is not finite in iteration {iteration}; try a smaller --nu-max, a larger --mu, \
                 or --precision f64",
                variable.symbol()
            ),
        }
    }
}

/// What a run came to; the same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The content of summary.json; seconds and bytes are rank 0's view elsewhere zero.
    pub summary: Summary,
}

/// How a run writes and what it may replace.
pub struct RunOptions {
    /// Replace an earlier run in the folder.
    pub overwrite: bool,
    /// Where lines go on rank 0.
    pub screen: Screen,
}

/// Trains a network as `settings` say and writes the results to their folder; every rank calls this.
///
/// # Errors
/// Any [`TrainError`]; see [`TrainError::is_joint`] for what the caller owes the other ranks.
pub fn train<T: Real>(
    settings: &Settings,
    communicator: &dyn Communicator,
    options: RunOptions,
) -> Result<Outcome, TrainError> {
    let start = Instant::now();
    let policy = WaitPolicy::new().with_deadline(Duration::from_secs(settings.comm_timeout));
    crate::linalg::factor::use_one_lapack_thread();
    let set_up = set_up(settings, communicator, options.overwrite);
    let (problem, workers) = agree(communicator, &policy, "set-up", set_up, SetUpError::describe)?;
    let folder = match communicator.rank() {
        0 => OutputFolder::create(&settings.output, options.overwrite, &settings.spelled_out(&problem.split))
            .map(Some)
            .map_err(SetUpError::from),
        _ => Ok(None),
    };
    let folder = agree(communicator, &policy, "output folder", folder, SetUpError::describe)?;
    let mut screen = options.screen;
    let hosts = hosts(communicator, &policy)?;
    screen.banner(communicator, &hosts, &problem, settings);
    let mut run = Run::<T>::new(settings, communicator, &policy, &problem, workers, folder, screen, start);
    run.all_stages()
}

/// What can fail before training on each rank alone.
fn set_up(
    settings: &Settings,
    communicator: &dyn Communicator,
    overwrite: bool,
) -> Result<(Problem, Workers), SetUpError> {
    check_ranks(settings.layers, communicator.size())?;
    if communicator.rank() == 0 {
        OutputFolder::check(&settings.output, overwrite)?;
    }
    let problem = Problem::read(&settings.data, settings.split.as_deref())?;
    let threads = settings.threads;
    let workers = Workers::new(threads).map_err(|source| SetUpError::Threads { threads, source })?;
    Ok((problem, workers))
}

/// A row of the history whose sums are still under way.
struct PendingRow {
    sums: Pending,
    stage_iteration: usize,
    row: HistoryRow,
    penalties: Penalties,
}

/// Who held which layers in a stage.
struct Held {
    plan: Plan,
    shape: StageShape,
}

/// Everything a rank carries through a run.
struct Run<'a, T> {
    settings: &'a Settings,
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    problem: &'a Problem,
    workers: Workers,
    workspace: Workspace<T>,
    folder: Option<OutputFolder>,
    screen: Screen,
    exchange: Exchange<'a>,
    blocks: NodeBlocks,
    evaluated: EvaluatedNodes,
    known: [usize; 3],
    input: Option<EvaluatedInput<T>>,
    column_scale: Vec<T>,
    iteration: u64,
    p_ranges: Vec<PowerRange>,
    q_ranges: Vec<PowerRange>,
    last: Option<(HistoryRow, Reduced)>,
    last_scores: Option<Evaluation>,
    slots: Vec<f64>,
    output_failed: Option<OutputError>,
    start: Instant,
    training: Instant,
}

/// How a stage ended, and what it leaves to the next or to the model files.
struct StageEnd<T> {
    status: Status,
    state: RankState<T>,
    best: BestTracker<T>,
}

impl<'a, T: Real> Run<'a, T> {
    #[allow(clippy::too_many_arguments)]
    fn new(
        settings: &'a Settings,
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
        problem: &'a Problem,
        workers: Workers,
        folder: Option<OutputFolder>,
        screen: Screen,
        start: Instant,
    ) -> Self {
        let evaluated = EvaluatedNodes::new(problem.sizes(), &problem.labels);
        Self {
            settings,
            communicator,
            policy,
            problem,
            workers,
            workspace: Workspace::new(),
            folder,
            screen,
            exchange: Exchange::new(communicator, policy),
            blocks: NodeBlocks::new(problem.train_labels.len(), settings.block_nodes),
            known: evaluated.known(),
            evaluated,
            input: None,
            column_scale: Vec::new(),
            iteration: 0,
            p_ranges: Vec::new(),
            q_ranges: Vec::new(),
            last: None,
            last_scores: None,
            slots: Vec::new(),
            output_failed: None,
            start,
            training: start,
        }
    }

    fn shape(&self, layers: usize) -> StageShape {
        StageShape {
            layers,
            neurons: self.settings.neurons,
            classes: self.problem.classes,
            inputs: self.settings.operators.count() * self.problem.features,
            nodes: self.blocks.nodes(),
            evaluated: self.evaluated.blocks.nodes(),
            evaluate_every: self.settings.evaluate_every,
        }
    }

    fn all_stages(&mut self) -> Result<Outcome, TrainError> {
        let built = if self.communicator.rank() == 0 { self.build_input().map(Some) } else { Ok(None) };
        let first = agree(self.communicator, self.policy, "features", built, SetUpError::describe)?;
        let mut held: Vec<LayerWeights<T>> = first.into_iter().collect();
        self.training = Instant::now();
        let mut before: Option<Held> = None;
        let stages = self.settings.stages.clone();
        for (number, &layers) in stages.iter().enumerate() {
            let shape = self.shape(layers);
            let plan = plan(&shape, self.communicator.size());
            let old = before.as_ref().map(|held| Holding { plan: &held.plan, stage: &held.shape });
            let new = Holding { plan: &plan, stage: &shape };
            held = redistribute(self.communicator, self.policy, held, old, new, self.settings.seed)?;
            self.screen.stage(number + 1, stages.len(), &plan);
            let end = self.stage(number + 1, held, &plan, &shape)?;
            let diverged = matches!(end.status, Status::Diverged { .. });
            if diverged || number + 1 == stages.len() {
                return self.finish(end, new);
            }
            held = end
                .state
                .layers
                .into_iter()
                .map(|layer| LayerWeights { index: layer.index, weights: layer.weights, b: layer.b })
                .collect();
            before = Some(Held { plan, shape });
        }
        unreachable!("settings hold at least one stage")
    }

    /// Layer 1 with its features, on rank 0.
    fn build_input(&mut self) -> Result<LayerWeights<T>, SetUpError> {
        let settings = self.settings;
        let file = DatasetFile::open(&settings.data)?;
        let adjacency = renormalised_adjacency::<T>(&file.adjacency()?);
        let features = file.features()?;
        let nodes = self.problem.evaluated_nodes();
        let mean_square = (settings.dropout > 0.0).then(|| {
            let trained = &nodes[..self.blocks.nodes()];
            let trained =
                Augmentation::new(&adjacency, &features, &settings.operators, settings.feature_norm, trained);
            input::mean_column_square(&trained, &self.workers)
        });
        let augmentation =
            Augmentation::new(&adjacency, &features, &settings.operators, settings.feature_norm, &nodes);
        let w0 = stage::random_first_weights(settings.seed, settings.neurons, augmentation.width());
        let built = input::build(
            &augmentation,
            self.blocks.nodes(),
            &self.blocks,
            &self.evaluated.blocks,
            w0,
            mean_square,
            &self.workers,
        );
        self.input = Some(built.evaluated);
        self.column_scale = built.column_scale;
        Ok(LayerWeights { index: 1, weights: built.weights, b: Array1::zeros(settings.neurons) })
    }

    /// Regularisers of W_l: decay (and dropout) on the first and the last layer, decay or a proximal term on hidden ones.
    ///
    /// Decay on every layer collapses deep stacks; hidden layers that start at the identity keep what they have
    /// learnt under a proximal term.
    fn weight_penalty(&self, l: usize, layers: usize) -> WeightPenalty {
        let Settings { mu, mu_hidden, proximal, dropout, .. } = *self.settings;
        let mu = if l == 1 || l == layers { mu } else { mu_hidden };
        let kappa = if l == 1 { dropout / (1.0 - dropout) } else { 0.0 };
        let is_determined = mu > 0.0 || kappa > 0.0;
        WeightPenalty { mu, theta_prox: if is_determined { 0.0 } else { proximal }, kappa }
    }

    /// One stage from its forward pass to its last row of history.
    fn stage(
        &mut self,
        number: usize,
        held: Vec<LayerWeights<T>>,
        plan: &Plan,
        shape: &StageShape,
    ) -> Result<StageEnd<T>, TrainError> {
        let rank = self.communicator.rank();
        let run = plan.layers_of(rank);
        let below = run.as_ref().and_then(|run| (*run.start() > 1).then(|| plan.owner(run.start() - 1)));
        let above =
            run.as_ref().and_then(|run| (*run.end() < shape.layers).then(|| plan.owner(run.end() + 1)));
        let holds_last = run.as_ref().is_some_and(|run| *run.end() == shape.layers);
        let labels = holds_last
            .then(|| self.blocks.ranges().map(|rows| self.problem.train_labels[rows].to_vec()).collect());
        let penalty = |l| self.weight_penalty(l, shape.layers);
        let mut state = stage::empty_state(held, shape, &self.blocks, penalty, labels);
        self.exchange.begin_stage(below, above, self.iteration);
        self.start_forward(&mut state, shape)?;

        let idle = WaitPolicy::new().with_deadline(Duration::from_secs(self.settings.comm_timeout)).patient();
        let mut schedule = Schedule::new(self.settings, number == 1);
        let mut best = BestTracker::new();
        let mut pending: Option<PendingRow> = None;
        let mut previous = None;
        let mut reports = Vec::new();
        let mut status = Status::Finished;
        for k in 1..=self.settings.iterations {
            self.iteration += 1;
            let rules = self.rules(schedule.penalties(), previous)?;
            reports.clear();
            if !state.layers.is_empty() {
                self.run_iteration(&mut state, &rules, &mut reports)?;
            }
            previous = Some(rules.penalties);

            let mut stop = false;
            if let Some(row) = pending.take() {
                let policy = if state.layers.is_empty() { &idle } else { self.policy };
                let ended = self.settle(row, shape, &mut schedule, &mut best, policy)?;
                if let Some(ended) = ended {
                    status = ended;
                    stop = true;
                }
            }
            let last = stop || k == self.settings.iterations;
            let due = last || k.is_multiple_of(self.settings.evaluate_every);
            pending = Some(self.post_row(number, k, due, &state, &rules, &reports, shape, &mut best)?);
            if stop {
                break;
            }
        }
        if let Some(row) = pending {
            let policy = if state.layers.is_empty() { &idle } else { self.policy };
            match self.settle(row, shape, &mut schedule, &mut best, policy)? {
                Some(ended) if status == Status::Finished => status = ended,
                _ => {}
            }
        }
        self.end_stage(&mut state, previous)?;
        Ok(StageEnd { status, state, best })
    }

    /// The forward pass, the first level sets, and p and q rounded to them.
    fn start_forward(&mut self, state: &mut RankState<T>, shape: &StageShape) -> Result<(), TrainError> {
        let exchange = std::cell::RefCell::new(&mut self.exchange);
        exchange.borrow_mut().expect_activations::<T>(
            state.boundaries.first().iter().flat_map(|b| b.blocks.iter().map(|block| block.p.dim())),
        )?;
        stage::forward(
            state,
            &self.workers,
            |below| {
                let l = below.index;
                below
                    .blocks
                    .iter_mut()
                    .enumerate()
                    .try_for_each(|(k, block)| exchange.borrow_mut().receive_activations(l, k, &mut block.p))
            },
            |above| {
                above.blocks.iter().enumerate().try_for_each(|(k, block)| {
                    exchange.borrow_mut().send_activations(above.index, k, &block.p)
                })
            },
        )?;
        // Every rank learns the largest activation of every boundary, from its lower side.
        let mut peaks = vec![0.0; shape.layers - 1];
        for i in 0..state.layers.len() {
            if let Some(above) = state.above(i) {
                let boundary = &state.boundaries[above];
                peaks[boundary.index - 1] = stage::boundary_peak(boundary);
            }
        }
        let pending = self.communicator.post_sum(peaks)?.named("largest activations of a stage's start");
        let peaks = wait_sum(self.communicator, pending, self.policy)?;
        self.p_ranges = peaks.iter().map(|&peak| PowerRange::holding(peak)).collect();
        self.q_ranges = self.p_ranges.clone();
        let (p_levels, q_levels) = self.level_sets()?;
        stage::round_start(state, p_levels.as_deref(), q_levels.as_deref(), &self.workers);
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn level_sets(&self) -> Result<(Option<Vec<LevelSet>>, Option<Vec<LevelSet>>), LevelError> {
        let sets = |wanted: bool, ranges: &[PowerRange]| match (wanted, &self.settings.levels) {
            (false, _) => Ok(None),
            (true, Some(levels)) => Ok(Some(vec![levels.clone(); ranges.len()])),
            (true, None) => ranges
                .iter()
                .map(|range| range.levels(self.settings.bits))
                .collect::<Result<_, _>>()
                .map(Some),
        };
        let quantize = self.settings.quantize;
        Ok((sets(quantize.p(), &self.p_ranges)?, sets(quantize.q(), &self.q_ranges)?))
    }

    fn rules(&self, penalties: Penalties, previous: Option<Penalties>) -> Result<Rules, LevelError> {
        let (p_levels, q_levels) = self.level_sets()?;
        Ok(Rules {
            iteration: self.iteration,
            penalties,
            previous,
            subproblem: self.settings.subproblem,
            p_levels,
            q_levels,
            spectral_norm: SpectralNorm::Power,
            z_tolerance: if T::SIZE == 4 { 1e-7 } else { 1e-12 },
        })
    }

    fn run_iteration(
        &mut self,
        state: &mut RankState<T>,
        rules: &Rules,
        reports: &mut Vec<LayerReport>,
    ) -> Result<(), TrainError> {
        let below = state.has_rank_below().then(|| &state.boundaries[0]);
        let above = if state.has_rank_above() { state.boundaries.last() } else { None };
        self.exchange.begin_iteration(
            rules.iteration,
            rules.p_levels.as_deref(),
            rules.q_levels.as_deref(),
            below,
            above,
        )?;
        iterate(state, rules, &mut self.exchange, &mut self.workspace, &self.workers, reports)?;
        Ok(())
    }

    /// Evaluates where that is due, and sends what this rank has to say of the iteration on its way.
    #[allow(clippy::too_many_arguments)]
    fn post_row(
        &mut self,
        stage: usize,
        stage_iteration: usize,
        due: bool,
        state: &RankState<T>,
        rules: &Rules,
        reports: &[LayerReport],
        shape: &StageShape,
        best: &mut BestTracker<T>,
    ) -> Result<PendingRow, TrainError> {
        let mut scores = None;
        if due {
            best.propose(state);
            let Self { input, evaluated, exchange, workspace, .. } = self;
            scores = evaluate(state, input.as_ref(), evaluated, exchange, workspace)?;
        }
        let own = Contribution {
            scores,
            traffic: self.exchange.traffic,
            stop_requested: false,
            output_failed: self.output_failed.is_some(),
        };
        let slots = contribute(shape.layers, reports, &own, std::mem::take(&mut self.slots));
        let sums = self.communicator.post_sum(slots)?.named("residuals of an iteration");
        let row = HistoryRow {
            stage,
            layers: shape.layers,
            iteration: self.iteration,
            rho: rules.penalties.rho,
            nu: rules.penalties.nu,
            seconds: self.training.elapsed().as_secs_f64(),
            ..HistoryRow::default()
        };
        Ok(PendingRow { sums, stage_iteration, row, penalties: rules.penalties })
    }

    /// Takes in the sums of an iteration: history, penalties, level sets, the best model, and whether to stop.
    fn settle(
        &mut self,
        pending: PendingRow,
        shape: &StageShape,
        schedule: &mut Schedule,
        best: &mut BestTracker<T>,
        policy: &WaitPolicy,
    ) -> Result<Option<Status>, TrainError> {
        let PendingRow { sums, stage_iteration, mut row, penalties } = pending;
        let sums = wait_sum(self.communicator, sums, policy)?;
        let reduced = take_apart(shape.layers, &sums);
        self.slots = sums;
        let totals = Totals::of(&reduced.terms, &penalties);
        let nodes = self.blocks.nodes().max(1) as f64;
        row.objective = totals.objective;
        row.lagrangian = totals.lagrangian;
        row.primal_residual = totals.primal_residual;
        row.dual_residual = totals.dual_residual;
        row.risk = totals.risk / nodes;
        row.bytes_p = reduced.traffic.p_bytes;
        row.bytes_q = reduced.traffic.q_bytes;
        if let Some(scores) = reduced.scores {
            let evaluation = Evaluation { iteration: row.iteration, scores };
            let share = |set: usize, x: f64| (self.known[set] > 0).then(|| x / self.known[set] as f64);
            row.train_loss = share(0, scores.loss[0]);
            row.val_loss = share(1, scores.loss[1]);
            row.train_accuracy = share(0, scores.correct[0]);
            row.val_accuracy = share(1, scores.correct[1]);
            row.test_accuracy = share(2, scores.correct[2]);
            best.settle(evaluation);
            self.last_scores = Some(evaluation);
        }
        for (l, (p, q)) in self.p_ranges.iter_mut().zip(&mut self.q_ranges).enumerate() {
            // p of boundary l belongs to layer l + 1, q to layer l (here from 0).
            *p = p.follow(reduced.p_peaks[l + 1]);
            *q = q.follow(reduced.q_peaks[l]);
        }
        let elements = (shape.layers - 1) as f64 * shape.neurons as f64 * nodes;
        let converged = schedule.observe(&totals, totals.local_loss, elements.sqrt());
        if let Some(folder) = &mut self.folder
            && let Err(error) = folder.add_row(&row)
        {
            self.output_failed.get_or_insert(error);
        }
        let last = stage_iteration == self.settings.iterations;
        self.screen.row(&row, stage_iteration, self.settings.iterations, last);
        let status = match reduced.not_finite {
            Some((layer, variable)) => Some(Status::Diverged { layer, variable, iteration: row.iteration }),
            None => converged.then_some(Status::Converged),
        };
        let output_failed = reduced.output_failed;
        self.last = Some((row, reduced));
        if output_failed {
            let failed = match self.output_failed.take() {
                Some(error) => Err(SetUpError::Output(error)),
                None => Ok(()),
            };
            agree(self.communicator, self.policy, "output", failed, SetUpError::describe)?;
        }
        Ok(status)
    }

    /// Receives the last q, so that both sides of a boundary are at the same iteration, and lets all sends leave.
    fn end_stage(&mut self, state: &mut RankState<T>, previous: Option<Penalties>) -> Result<(), TrainError> {
        if state.has_rank_below()
            && let Some(penalties) = previous
        {
            let mut rules = self.rules(penalties, previous)?;
            rules.iteration += 1;
            iteration::receive_q(&mut state.boundaries[0], &rules, &mut self.exchange, &self.workers, 1.0)?;
        }
        Ok(self.exchange.finish_sends()?)
    }

    /// Writes the models and the summary.
    fn finish(&mut self, end: StageEnd<T>, holding: Holding<'_>) -> Result<Outcome, TrainError> {
        let train_seconds = self.training.elapsed().as_secs_f64();
        let last: Vec<Snapshot<T>> = end.state.layers.iter().map(Snapshot::of).collect();
        let best = end.best.best();
        // A run that diverges before its first evaluation has no best model; one that diverges has no last one.
        let is_finite = !matches!(end.status, Status::Diverged { .. });
        let at = best.map(|(evaluation, _)| *evaluation);
        if let Some((evaluation, weights)) = best {
            self.write_model("model.h5", Some(evaluation), weights, &end.state, holding)?;
        }
        if is_finite {
            let evaluation = self.last_scores;
            self.write_model("model-last.h5", evaluation.as_ref(), &last, &end.state, holding)?;
        }
        let summary = self.summary(&end.status, at, train_seconds)?;
        let written = self.folder.as_ref().map_or(Ok(()), |folder| folder.write_summary(&summary));
        let written = written.map_err(SetUpError::from);
        agree(self.communicator, self.policy, "summary", written, SetUpError::describe)?;
        self.screen.footer(&summary, &self.settings.output);
        Ok(Outcome { status: end.status, summary })
    }

    /// Gathers a model on rank 0, layer by layer, and saves it there.
    fn write_model(
        &mut self,
        name: &str,
        evaluation: Option<&Evaluation>,
        weights: &[Snapshot<T>],
        state: &RankState<T>,
        holding: Holding<'_>,
    ) -> Result<(), TrainError> {
        let mut layers: Vec<ModelLayer<T>> = Vec::new();
        for l in 1..=holding.stage.layers {
            let own = weights.iter().zip(&state.layers).find(|(snapshot, _)| snapshot.index == l);
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
                self.model(layers, evaluation).and_then(|model| model.save(&folder.file(name), true))
            }
        };
        let saved = saved.map_err(SetUpError::from);
        Ok(agree(self.communicator, self.policy, name, saved, SetUpError::describe)?)
    }

    fn model(
        &self,
        layers: Vec<ModelLayer<T>>,
        evaluation: Option<&Evaluation>,
    ) -> Result<Model<T>, ModelError> {
        let accuracy = self.accuracy(evaluation.map(|evaluation| evaluation.scores));
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
                iteration: evaluation.map_or(self.iteration, |evaluation| evaluation.iteration),
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
        status: &Status,
        best: Option<Evaluation>,
        train_seconds: f64,
    ) -> Result<Summary, TrainError> {
        let own = [self.exchange.seconds.encode, self.exchange.seconds.decode, self.policy.seconds_waited()];
        let bytes = own.iter().flat_map(|seconds| seconds.to_le_bytes()).collect();
        let gathered = gather_to_root(self.communicator, self.policy, "seconds", bytes)?;
        let mut spent = [0.0; 3];
        for rank in gathered.into_iter().flatten() {
            for (sum, bytes) in spent.iter_mut().zip(rank.as_chunks::<8>().0) {
                *sum += f64::from_le_bytes(*bytes);
            }
        }
        let (row, traffic) = match &self.last {
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
            iterations: self.iteration,
            ranks: self.communicator.size(),
            threads: self.settings.threads,
            layers: self.settings.layers,
            neurons: self.settings.neurons,
            seed: self.settings.seed,
            objective: row.objective,
            lagrangian: row.lagrangian,
            primal_residual: row.primal_residual,
            dual_residual: row.dual_residual,
            accuracy: self.accuracy(self.last_scores.map(|last| last.scores)),
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
                other: traffic.other_bytes,
            },
            seconds: SecondsSummary {
                total: self.start.elapsed().as_secs_f64(),
                train: train_seconds,
                encode: spent[0],
                decode: spent[1],
                wait: spent[2],
            },
        })
    }
}

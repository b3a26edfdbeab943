//! The SPMD driver: every rank runs this, each with its own layers.

use std::ops::Range;
use std::time::{Duration, Instant};

use ndarray::Array1;

use super::admission::{admit, backprop_peaks};
use super::backprop_run::train_by_backprop;
use super::error::{SetUpError, TrainError};
use super::evaluate::EvaluatedNodes;
use super::feature_metric::{self, FeatureMetric};
use super::feature_noise;
use super::feature_source::FeatureSource;
use super::handshake::{same_command, same_data};
use super::input::{self, EvaluatedInput, InputNodes};
use super::input_scaling::InputScaling;
use super::memory::{RunShape, stage_shape};
use super::operator_search::{Search, Trial};
use super::output::{OutputError, OutputFolder};
use super::problem::Problem;
use super::reduction::Slots;
use super::screen::Screen;
use super::several::Shared;
use super::state::RunState;
use super::status::{Outcome, Status};
use super::stopping::{Clock, StopSignal};
use crate::admm::Workspace;
use crate::admm::deepen::{LayerWeights, random_first_weights};
use crate::admm::penalties::WeightPenalty;
use crate::linalg::{NodeBlocks, Real, Workers};
use crate::parallel::exchange::Exchange;
use crate::parallel::memory::peak_bytes;
use crate::parallel::plan::{Plan, StageShape, plan, shards_of_stages};
use crate::parallel::redistribute::{Holding, redistribute};
use crate::parallel::shard_group::ShardGroup;
use crate::parallel::{Communicator, Host, WaitPolicy, agree, gather_to_root, hosts};
use crate::settings::{RawSettings, Settings};
use crate::timing::Phase;

/// How a run writes, what it may replace, and what may stop it.
pub struct RunOptions {
    /// Replace an earlier run in the folder.
    pub overwrite: bool,
    /// Go on with the run in the folder, from its newest checkpoint.
    pub resume: bool,
    /// Where lines go on rank 0.
    pub screen: Screen,
    /// Checksum of the data set file as it was inspected ([`crate::inspection`]); other bytes are refused.
    pub inspected: Option<String>,
    /// Since when the time of `--max-time` counts; from the start of the run where it is `None`.
    pub since: Option<Instant>,
    /// Whether this rank has been told to stop.
    pub stop: StopSignal,
    /// Measure what an iteration costs each rank, for `by_rank` of the summary; the same on every rank.
    pub measure_ranks: bool,
}

impl Default for RunOptions {
    /// A new run that replaces none, prints nothing, trusts the data set file and is not stopped.
    fn default() -> Self {
        Self {
            overwrite: false,
            resume: false,
            screen: Screen::silent(),
            inspected: None,
            since: None,
            stop: Box::new(|_| false),
            measure_ranks: false,
        }
    }
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
    train_one::<T>(settings, communicator, options, &mut Shared::nothing())
}

/// As [`train`]; `shared` is what the runs of one command share.
pub(super) fn train_one<T: Real>(
    settings: &Settings,
    communicator: &dyn Communicator,
    options: RunOptions,
    shared: &mut Shared<T>,
) -> Result<Outcome, TrainError> {
    let start = Instant::now();
    let policy = WaitPolicy::new().with_deadline(Duration::from_secs(settings.comm_timeout));
    let flags = [("resume", options.resume), ("overwrite", options.overwrite)];
    same_command(settings, flags, communicator, &policy)?;
    crate::linalg::factor::use_one_lapack_thread();
    let reading = policy.clock().enter(Phase::Read);
    let set_up = set_up(settings, communicator, &options);
    drop(reading);
    let (problem, workers) = agree(communicator, &policy, "set-up", set_up, SetUpError::describe)?;
    same_data(&problem, communicator, &policy)?;
    let same = shared.same_data_as_before(&problem).map_err(SetUpError::from);
    agree(communicator, &policy, "data of earlier runs", same, SetUpError::describe)?;
    let mut screen = options.screen;
    let hosts = hosts(communicator, &policy)?;
    let printing = policy.clock().enter(Phase::Io);
    screen.banner(communicator, &hosts, &problem, settings);
    drop(printing);
    let searched;
    let (settings, tried): (&Settings, &[Trial]) = if settings.auto_operators {
        let since = options.since.unwrap_or(start);
        let search =
            Search { settings, communicator, policy: &policy, problem: &problem, stop: &options.stop, since };
        // What no candidate can do is refused before the short runs.
        fit(&search.narrowest()?, communicator, &policy, &hosts, &problem)?;
        searched = search.choose::<T>(&mut screen)?;
        (&searched.0, &searched.1)
    } else {
        (settings, &[])
    };
    let shards = fit(settings, communicator, &policy, &hosts, &problem)?;
    if let Some(rule) = settings.method.rule() {
        let job = Job {
            settings,
            communicator,
            policy: &policy,
            problem: &problem,
            workers: &workers,
            start,
            tried,
        };
        return train_by_backprop(job, rule, RunOptions { screen, ..options }, shared);
    }
    let mut run = Run::<T>::new(settings, communicator, &policy, &problem, workers, screen, start);
    run.tried = tried;
    run.stop = options.stop;
    if options.measure_ranks {
        policy.clock().measure_iterations();
    }
    if let Some(since) = options.since {
        run.clock = Clock::new(settings, since, communicator.rank());
    }
    run.shards = shards;
    if options.resume {
        return run.resume(shared);
    }
    let first = run.first_layer(run.shards[0])?;
    run.folder = run.job().create_folder(shared, options.overwrite)?;
    run.all_stages(first, None)
}

/// Shards of each stage of the ADMM; ranks that are too many for them, or too large for their hosts, are refused. All
/// ranks call this together.
fn fit(
    settings: &Settings,
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    hosts: &[Host],
    problem: &Problem,
) -> Result<Vec<usize>, TrainError> {
    let ranks = communicator.size();
    let mut sizes = RunShape::of_problem(problem, settings, ranks);
    let peaks = match settings.method.rule() {
        Some(_) => backprop_peaks(settings, problem, ranks),
        None => {
            let shapes: Vec<StageShape> =
                settings.stages.iter().map(|&layers| sizes.stage(settings, layers)).collect();
            let shards = shards_of_stages(&shapes, ranks, settings.shards, sizes.blocks.count());
            let shards = shards.map_err(SetUpError::from);
            sizes.shards = agree(communicator, policy, "shards", shards, SetUpError::describe)?;
            sizes.peaks(settings)
        }
    };
    agree(communicator, policy, "memory", admit(communicator, hosts, &peaks), SetUpError::describe)?;
    Ok(sizes.shards)
}

/// What can fail before training on each rank alone.
fn set_up(
    settings: &Settings,
    communicator: &dyn Communicator,
    options: &RunOptions,
) -> Result<(Problem, Workers), SetUpError> {
    if communicator.rank() == 0 {
        OutputFolder::check(&settings.output, options.overwrite || options.resume)?;
        if settings.auto_operators {
            // The folder is made after the short runs.
            OutputFolder::try_out(&settings.output)?;
        }
    }
    let problem = Problem::read(&settings.data, settings.split.as_deref(), options.inspected.as_deref())?;
    let [_, val, _] = EvaluatedNodes::new(problem.sizes(), &problem.labels).known();
    if settings.patience.is_some() && val == 0 {
        return Err(SetUpError::NothingToStopBy { split: problem.split });
    }
    let threads = settings.threads;
    let workers = Workers::new(threads).map_err(|source| SetUpError::Threads { threads, source })?;
    Ok((problem, workers))
}

/// What every rank knows of a run when it starts.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub settings: &'a Settings,
    pub communicator: &'a dyn Communicator,
    pub policy: &'a WaitPolicy,
    pub problem: &'a Problem,
    pub workers: &'a Workers,
    pub start: Instant,
    /// What `--operators auto` tried.
    pub tried: &'a [Trial],
}

impl Job<'_> {
    /// The output folder of a new run.
    pub fn create_folder<T>(
        &self,
        shared: &mut Shared<T>,
        overwrite: bool,
    ) -> Result<Option<OutputFolder>, TrainError> {
        self.open_folder(|used| {
            shared.open_above(&self.problem.split)?;
            OutputFolder::create(&self.settings.output, overwrite, used)
        })
    }

    /// That of a run to be gone on with, taken before it is read: another process may still be at it.
    pub fn lock_folder(&self) -> Result<Option<OutputFolder>, TrainError> {
        self.open_folder(|_| OutputFolder::lock(&self.settings.output))
    }

    /// The same once it is known where to go on: before iteration `before`, or from the start.
    pub fn go_on_in<T>(
        &self,
        lock: Option<OutputFolder>,
        shared: &mut Shared<T>,
        before: Option<u64>,
    ) -> Result<Option<OutputFolder>, TrainError> {
        self.open_folder(|used| {
            shared.open_above(&self.problem.split)?;
            match lock {
                Some(lock) => lock.go_on(before, used),
                None => OutputFolder::lock(&self.settings.output),
            }
        })
    }

    /// Opens the output folder on rank 0, with the settings as used; all data have been read by then, so that wrong data
    /// replace no earlier run.
    fn open_folder(
        &self,
        open: impl FnOnce(&RawSettings) -> Result<OutputFolder, OutputError>,
    ) -> Result<Option<OutputFolder>, TrainError> {
        let Job { settings, communicator, policy, problem, .. } = *self;
        let _io = policy.clock().enter(Phase::Io);
        let folder = match communicator.rank() {
            0 => open(&settings.spelled_out(&problem.split)).map(Some).map_err(SetUpError::from),
            _ => Ok(None),
        };
        Ok(agree(communicator, policy, "output folder", folder, SetUpError::describe)?)
    }
}

/// Everything a rank carries through a run.
pub(super) struct Run<'a, T> {
    pub settings: &'a Settings,
    pub communicator: &'a dyn Communicator,
    pub policy: &'a WaitPolicy,
    pub problem: &'a Problem,
    pub workers: Workers,
    pub workspace: Workspace<T>,
    pub folder: Option<OutputFolder>,
    pub screen: Screen,
    pub exchange: Exchange<'a>,
    /// Shards of each stage.
    pub shards: Vec<usize>,
    /// Shards of this stage.
    pub stage_shards: usize,
    /// The ranks that hold the same layers as this one in this stage.
    pub group: ShardGroup<'a>,
    /// All training nodes.
    pub blocks: NodeBlocks,
    pub evaluated: EvaluatedNodes,
    pub known: [usize; 3],
    pub input: Option<EvaluatedInput<T>>,
    /// How features became the input of layer 1, on rank 0.
    pub scaling: Option<InputScaling<T>>,
    pub slots: Vec<f64>,
    pub output_failed: Option<OutputError>,
    pub stop: StopSignal,
    pub clock: Clock,
    /// Seconds that the run took before this process: training, encoding, decoding, waiting. The last three only on
    /// rank 0, for all ranks.
    pub seconds_before: [f64; 4],
    pub start: Instant,
    pub training: Instant,
    /// What `--operators auto` tried.
    pub tried: &'a [Trial],
}
impl<'a, T: Real> Run<'a, T> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        settings: &'a Settings,
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
        problem: &'a Problem,
        workers: Workers,
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
            folder: None,
            screen,
            exchange: Exchange::new(communicator, policy)
                .with_wire(settings.wire)
                .with_coding(settings.coding),
            shards: Vec::new(),
            stage_shards: 1,
            group: ShardGroup::alone(communicator, policy),
            blocks: NodeBlocks::new(problem.train_labels.len(), settings.block_nodes),
            known: evaluated.known(),
            evaluated,
            input: None,
            scaling: None,
            slots: Vec::new(),
            output_failed: None,
            stop: Box::new(|_| false),
            clock: Clock::new(settings, start, communicator.rank()),
            seconds_before: [0.0; 4],
            start,
            training: start,
            tried: &[],
        }
    }

    /// Seconds of the whole run so far: training, and this rank's encoding, decoding and waiting.
    pub(super) fn seconds_so_far(&self) -> [f64; 4] {
        let mut seconds = self.seconds_before;
        seconds[0] += self.training.elapsed().as_secs_f64();
        for (seconds, phase) in seconds[1..].iter_mut().zip([Phase::Encode, Phase::Decode, Phase::Wait]) {
            *seconds += self.policy.clock().seconds(phase);
        }
        seconds
    }

    pub(super) fn shape(&self, layers: usize) -> StageShape {
        let nodes = [self.blocks.nodes(), self.evaluated.blocks.nodes()];
        stage_shape(self.settings, layers, [self.problem.features, self.problem.classes], nodes)
    }

    /// The plan of a stage.
    pub(super) fn plan(&self, shape: &StageShape, shards: usize) -> Plan {
        plan(shape, self.communicator.size(), shards)
    }

    /// Joins the ranks that hold the same layers in a stage.
    pub(super) fn join_group(&mut self, plan: &Plan) {
        let rank = self.communicator.rank();
        self.stage_shards = plan.shards();
        // A rank that waits out the stage is alone.
        let shards = if plan.layers_of(rank).is_some() { plan.shards() } else { 1 };
        let nodes = (0..shards).map(|shard| self.blocks.of_shard(shard, shards).1.nodes()).collect();
        let first = if shards > 1 { plan.first_of_group(rank) } else { rank };
        self.group = self.group.succeed(first, nodes);
    }

    /// This rank's blocks of all of these, and their nodes numbered from 0.
    pub(super) fn own_blocks(&self, of: &NodeBlocks) -> (Range<usize>, NodeBlocks) {
        of.of_shard(self.group.shard(), self.group.shards())
    }

    /// The vector that an iteration of this stage is judged by.
    pub(super) fn slots_of(&self, layers: usize) -> Slots {
        Slots { layers, shards: self.stage_shards }
    }

    /// Layer 1 on the ranks of its shards, with the features of each one's nodes, which all ranks compute together.
    pub(super) fn first_layer(&mut self, shards: usize) -> Result<Option<LayerWeights<T>>, TrainError> {
        let Self { settings, communicator, policy, .. } = *self;
        let (rank, ranks) = (communicator.rank(), communicator.size());
        let reading = policy.clock().enter(Phase::Read);
        let mut features = FeatureSource::<T>::open(settings, self.problem, communicator, policy)?;
        drop(reading);
        let _augment = policy.clock().enter(Phase::Augment);
        let from = InputNodes {
            nodes: self.problem.evaluated_nodes(),
            blocks: &self.blocks,
            evaluated: &self.evaluated.blocks,
            shards,
        };
        let holders = if rank < shards { shards } else { 1 };
        let nodes = (0..holders).map(|shard| self.blocks.of_shard(shard, holders).1.nodes()).collect();
        let group = ShardGroup::new(communicator, policy, if rank < shards { 0 } else { rank }, nodes);
        let w0 =
            (rank < shards).then(|| random_first_weights(settings.seed, settings.neurons, features.width()));
        let places = [rank, ranks];
        let factors = match settings.dropout > 0.0 {
            true => features.with_random_signs(settings, communicator, policy, |signed| {
                feature_noise::factors(signed, &from, &group, places, &self.workers)
            })?,
            false => None,
        };
        let operators = settings.operators.count();
        let mut scaling =
            InputScaling::new(factors, features.feature_count(), operators, settings.tie_operators);
        if settings.follow_covariance > 0.0 {
            let metric = self.metric(&features, &scaling, shards)?;
            scaling = scaling.with_metric(metric);
        }
        let built = input::build(&features, &from, &group, places, w0, &scaling, &self.workers)?;
        if let Some(bytes) = peak_bytes() {
            log::info!("rank {rank}: at most {} MiB of memory so far, with its features", bytes >> 20);
        }
        let Some(built) = built else { return Ok(None) };
        self.input = Some(built.evaluated);
        // Rank 0 alone writes models.
        self.scaling = (rank == 0).then_some(scaling);
        let b = Array1::zeros(settings.neurons);
        Ok(Some(LayerWeights { index: 1, weights: built.weights, b }))
    }

    /// The metric of layer 1's features on the ranks of its shards. All ranks call it together.
    fn metric(
        &self,
        features: &FeatureSource<'_, T>,
        scaling: &InputScaling<T>,
        shards: usize,
    ) -> Result<Option<FeatureMetric<T>>, TrainError> {
        let Self { settings, communicator, policy, problem, .. } = *self;
        let nodes = feature_metric::sample(problem.graph_nodes, settings.seed);
        let places = [communicator.rank(), communicator.size(), shards];
        let sampled = feature_metric::sampled_features(features, scaling, nodes, places, &self.workers)?;
        let metric = FeatureMetric::of_sample(&sampled, settings.follow_covariance);
        let metric = metric.map_err(SetUpError::Covariance);
        Ok(agree(communicator, policy, "covariance of features", metric, SetUpError::describe)?)
    }

    fn job(&self) -> Job<'_> {
        let Run { settings, communicator, policy, problem, ref workers, start, tried, .. } = *self;
        Job { settings, communicator, policy, problem, workers, start, tried }
    }

    /// Goes on from the newest checkpoint, or from the start where the run came to none.
    fn resume(&mut self, shared: &mut Shared<T>) -> Result<Outcome, TrainError> {
        // Locked first: another process may still be at it.
        self.folder = self.job().lock_folder()?;
        let mut first = None;
        let restoring = self.policy.clock().enter(Phase::Checkpoint);
        let restored = self.restore(&mut first)?;
        drop(restoring);
        let lock = self.folder.take();
        let before = restored.as_ref().map(|state| state.iteration);
        self.folder = self.job().go_on_in(lock, shared, before)?;
        if before.is_none() {
            self.screen.from_the_start();
            first = self.first_layer(self.shards[0])?;
        }
        self.all_stages(first, restored)
    }

    /// All stages, or those from the one that `restored` is in.
    fn all_stages(
        &mut self,
        first: Option<LayerWeights<T>>,
        mut restored: Option<RunState<T>>,
    ) -> Result<Outcome, TrainError> {
        let (rank, host) = (self.communicator.rank(), self.communicator.host_name());
        let own = format!("rank {rank}: process {} on {host}\n", std::process::id());
        let processes = gather_to_root(self.communicator, self.policy, "processes", own.into_bytes())?;
        if let (Some(folder), Some(processes)) = (&mut self.folder, processes) {
            let text = |line: Vec<u8>| String::from_utf8_lossy(&line).into_owned();
            folder.name_processes(&processes.into_iter().map(text).collect::<Vec<_>>());
        }
        let mut held: Vec<LayerWeights<T>> = first.into_iter().collect();
        self.training = Instant::now();
        let mut before: Option<(Plan, StageShape, RunState<T>)> = None;
        let stages = self.settings.stages.clone();
        let done = restored.as_ref().map_or(0, |state| state.stage - 1);
        for (number, &layers) in stages.iter().enumerate().skip(done) {
            let shape = self.shape(layers);
            let plan = self.plan(&shape, self.shards[number]);
            let new = Holding { plan: &plan, stage: &shape };
            self.screen.stage(number + 1, stages.len(), &plan);
            let (status, mut state) = match restored.take() {
                Some(state) => self.iterations(state, &shape)?,
                None => {
                    let old = before.as_ref().map(|(plan, stage, _)| Holding { plan, stage });
                    let _stage = self.policy.clock().enter(Phase::Stage);
                    let shards = [old.map_or(plan.shards(), |old| old.plan.shards()), plan.shards()];
                    self.reshard_first_layer(&mut held, shards, &shape)?;
                    held = redistribute(self.communicator, self.policy, held, old, new, self.settings.seed)?;
                    self.stage(number + 1, held, &plan, &shape, before.as_ref().map(|before| &before.2))?
                }
            };
            let ends_here = matches!(status, Status::Diverged { .. } | Status::Interrupted(_));
            if ends_here || number + 1 == stages.len() {
                return self.finish(status, state, new);
            }
            // What was trained after the best iteration is not built upon.
            state.best.restore(&mut state.network);
            held = std::mem::take(&mut state.network.layers)
                .into_iter()
                .map(|layer| LayerWeights { index: layer.index, weights: layer.weights, b: layer.b })
                .collect();
            state.release();
            before = Some((plan, shape, state));
        }
        unreachable!("settings hold at least one stage")
    }

    /// Regularisers of W_l: decay (and dropout) on the first and the last layer, decay or a proximal term on hidden ones.
    ///
    /// Decay on every layer collapses deep stacks; hidden layers that start at the identity keep what they have
    /// learnt under a proximal term.
    pub(super) fn weight_penalty(&self, l: usize, layers: usize) -> WeightPenalty {
        let Settings { mu, mu_hidden, proximal, dropout, .. } = *self.settings;
        let mu = if l == 1 || l == layers { mu } else { mu_hidden };
        let kappa = if l == 1 { dropout / (1.0 - dropout) } else { 0.0 };
        let is_determined = mu > 0.0 || kappa > 0.0;
        WeightPenalty { mu, theta_prox: if is_determined { 0.0 } else { proximal }, kappa }
    }
}

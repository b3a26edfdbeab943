//! The iterations of a stage, from its forward pass to its last row of history.

use std::time::Duration;

use super::best::Evaluation;
use super::driver::Run;
use super::error::{SetUpError, TrainError};
use super::evaluate::Pass;
use super::output::HistoryRow;
use super::reduction::{Contribution, Requests};
use super::schedule::Schedule;
use super::stage;
use super::state::{PendingRow, RunState};
use super::status::Status;
use crate::admm::cost::LayerShape;
use crate::admm::deepen::{LabelStart, LayerWeights};
use crate::admm::iteration::{self, LayerReport, RankState, Rules, Targets, iterate};
use crate::admm::p_quantized::QuantizedP;
use crate::admm::residuals::Totals;
use crate::admm::{Penalties, Team};
use crate::linalg::Real;
use crate::linalg::elements::larger;
use crate::parallel::exchange::Traffic;
use crate::parallel::plan::{Plan, StageShape};
use crate::parallel::{WaitPolicy, agree, wait_sum};
use crate::quantize::{LevelError, LevelSet, PowerRange};
use crate::settings::Start;
use crate::timing::Phase;

/// Iterations of a stage that measurements of what an iteration costs leave out: they touch memory for the first time.
const WARM_UP: usize = 2;

/// What an iteration that was settled means for the run.
#[derive(Default)]
struct Settled {
    /// How it ends the stage, if it does.
    status: Option<Status>,
    /// What ranks asked for in it.
    requests: Requests,
}

impl<'a, T: Real> Run<'a, T> {
    /// One stage from its forward pass to its last row of history.
    pub(super) fn stage(
        &mut self,
        number: usize,
        held: Vec<LayerWeights<T>>,
        plan: &Plan,
        shape: &StageShape,
        before: Option<&RunState<T>>,
    ) -> Result<(Status, RunState<T>), TrainError> {
        let starting = self.policy.clock().enter(Phase::Stage);
        self.join_group(plan);
        let network = self.empty_network(held, plan, shape);
        let schedule = Schedule::new(self.settings, number == 1);
        let mut state = RunState::at_start(number, network, schedule, before);
        let (below, above) = self.neighbours(plan, shape.layers);
        self.exchange.begin_stage(below, above, state.iteration);
        self.start_forward(&mut state, shape)?;
        drop(starting);
        self.iterations(state, shape)
    }

    /// The ranks that hold the layers below and above this rank's, for the same nodes.
    pub(super) fn neighbours(&self, plan: &Plan, layers: usize) -> (Option<usize>, Option<usize>) {
        let rank = self.communicator.rank();
        let (run, shard) = (plan.layers_of(rank), plan.shard_of(rank));
        let below =
            run.as_ref().and_then(|run| (*run.start() > 1).then(|| plan.holder(run.start() - 1, shard)));
        let above =
            run.as_ref().and_then(|run| (*run.end() < layers).then(|| plan.holder(run.end() + 1, shard)));
        (below, above)
    }

    /// This rank's part of a stage's network with these weights, everything else zero.
    pub(super) fn empty_network(
        &self,
        held: Vec<LayerWeights<T>>,
        plan: &Plan,
        shape: &StageShape,
    ) -> RankState<T> {
        let run = plan.layers_of(self.communicator.rank());
        let holds_last = run.as_ref().is_some_and(|run| *run.end() == shape.layers);
        let (_, blocks) = self.own_blocks(&self.blocks);
        let targets = holds_last.then(|| Targets {
            labels: self.own_labels(),
            class_weights: self.problem.class_weights(self.settings.class_weights),
        });
        let penalty = |l| self.weight_penalty(l, shape.layers);
        stage::empty_state(held, shape, &blocks, penalty, targets)
    }

    /// The classes of the training nodes of this rank's blocks.
    fn own_labels(&self) -> Vec<Vec<usize>> {
        let (own, _) = self.own_blocks(&self.blocks);
        own.map(|block| self.problem.train_labels[self.blocks.range(block)].to_vec()).collect()
    }

    /// The iterations of a stage from where its state is.
    pub(super) fn iterations(
        &mut self,
        mut state: RunState<T>,
        shape: &StageShape,
    ) -> Result<(Status, RunState<T>), TrainError> {
        // A rank without layers waits out the stage, and leaves the processor to the others.
        let idle = WaitPolicy::new().with_deadline(Duration::from_secs(self.settings.comm_timeout)).patient();
        let idle = idle.with_clock_of(self.policy);
        let policy = if state.network.layers.is_empty() { &idle } else { self.policy };
        let mut reports = Vec::new();
        let mut status = None;
        self.policy.clock().begin_stage();
        while status.is_none() && state.stage_iteration < self.settings.iterations {
            state.stage_iteration += 1;
            state.iteration += 1;
            self.policy.clock().begin_iteration();
            let sent = self.exchange.traffic;
            let rules = self.rules(&state, state.schedule.penalties())?;
            reports.clear();
            if !state.network.layers.is_empty() {
                self.run_iteration(&mut state.network, &rules, &mut reports)?;
            }
            state.previous = Some(rules.penalties);
            // The iteration before is settled only now: its sums travelled while this one ran.
            let settled = self.settle(&mut state, shape, policy)?;
            let requests = self.clock.granted(settled.requests);
            status = settled.status;
            let is_last = status.is_some() || state.stage_iteration == self.settings.iterations;
            let due = is_last || state.stage_iteration.is_multiple_of(self.settings.evaluate_every);
            state.pending = Some(self.post_row(&mut state, &rules, due, &reports, shape)?);
            // What is measured of an iteration leaves out evaluations, and the first touch of memory.
            let Traffic { p_bytes, q_bytes, .. } = self.exchange.traffic;
            let keep = !due && state.stage_iteration > WARM_UP;
            self.policy.clock().end_iteration(keep, [p_bytes - sent.p_bytes, q_bytes - sent.q_bytes]);
            // The end of a run is near enough: it leaves the models themselves.
            let is_end = is_last && state.stage == self.settings.stages.len();
            let stop = requests.stop().filter(|_| !is_end);
            let due = requests.checkpoint_is_due || self.clock.is_due_at(state.iteration);
            if status.is_none() && (stop.is_some() || due && !is_end) {
                self.checkpoint(&mut state, shape.layers)?;
                status = stop.map(Status::Interrupted);
            }
        }
        let Settled { status: at_end, requests } = self.settle(&mut state, shape, policy)?;
        self.clock.stage_ended(requests);
        self.end_stage(&mut state)?;
        // Residuals that met their tolerances do not excuse an iteration after them that is not finite.
        let status = match (status, at_end) {
            (_, Some(diverged @ Status::Diverged { .. })) => diverged,
            (status, at_end) => status.or(at_end).unwrap_or(Status::Finished),
        };
        Ok((status, state))
    }

    /// What this rank does its part of a forward pass with.
    pub(super) fn pass(&mut self) -> Pass<'_, 'a, T> {
        let (own, _) = self.own_blocks(&self.evaluated.blocks);
        Pass {
            input: self.input.as_ref(),
            nodes: &self.evaluated,
            own,
            exchange: &mut self.exchange,
            shards: &self.group,
            workspace: &mut self.workspace,
        }
    }

    /// The forward pass, the first level sets, and p and q rounded to them.
    fn start_forward(&mut self, run: &mut RunState<T>, shape: &StageShape) -> Result<(), TrainError> {
        let start = (run.stage == 1 && self.settings.start == Start::Labels).then(|| {
            let start = LabelStart::new(self.settings.seed, shape.layers, shape.classes, shape.neurons);
            (start, self.own_labels())
        });
        let state = &mut run.network;
        let exchange = std::cell::RefCell::new(&mut self.exchange);
        exchange.borrow_mut().expect_activations::<T>(
            state.boundaries.first().iter().flat_map(|b| b.blocks.iter().map(|block| block.p.dim())),
        )?;
        let mut team = Team::of_shards(&mut self.workspace, &self.workers, &self.group);
        stage::forward(
            state,
            &mut team,
            start.as_ref().map(|(start, labels)| (start, &labels[..])),
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
        self.group.outcome()?;
        // Every rank learns the largest activation of every boundary, from its lower side.
        let (boundaries, shards) = (shape.layers - 1, self.stage_shards);
        let mut peaks = vec![0.0; boundaries * shards];
        for i in 0..state.layers.len() {
            if let Some(above) = state.above(i) {
                let boundary = &state.boundaries[above];
                peaks[(boundary.index - 1) * shards + self.group.shard()] = stage::boundary_peak(boundary);
            }
        }
        let pending = self.communicator.post_sum(peaks)?.named("largest activations of a stage's start");
        let peaks = wait_sum(self.communicator, pending, self.policy)?;
        let largest = |of: &[f64]| of.iter().fold(0.0, |top, &peak| larger(top, peak));
        run.p_ranges = peaks.chunks(shards).map(|of| PowerRange::holding(largest(of))).collect();
        run.q_ranges = run.p_ranges.clone();
        let (p_levels, q_levels) = self.level_sets(run)?;
        let mut team = Team::of_shards(&mut self.workspace, &self.workers, &self.group);
        stage::round_start(&mut run.network, p_levels.as_deref(), q_levels.as_deref(), &mut team);
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn level_sets(
        &self,
        state: &RunState<T>,
    ) -> Result<(Option<Vec<LevelSet>>, Option<Vec<LevelSet>>), LevelError> {
        let sets = |wanted: bool, ranges: &[PowerRange]| match (wanted, &self.settings.levels) {
            (false, _) => Ok(None),
            (true, Some(levels)) => Ok(Some(vec![*levels; ranges.len()])),
            (true, None) => ranges
                .iter()
                .map(|range| range.levels(self.settings.bits, self.settings.spacing))
                .collect::<Result<_, _>>()
                .map(Some),
        };
        let quantize = self.settings.quantize;
        Ok((sets(quantize.p(), &state.p_ranges)?, sets(quantize.q(), &state.q_ranges)?))
    }

    fn rules(&self, state: &RunState<T>, penalties: Penalties) -> Result<Rules, LevelError> {
        let (p_levels, q_levels) = self.level_sets(state)?;
        Ok(Rules {
            iteration: state.iteration,
            penalties,
            previous: state.previous,
            subproblem: self.settings.subproblem,
            p_levels,
            q_levels,
            wire: self.settings.rounding_wire::<T>(),
            quantized_p: QuantizedP::BestLevels,
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
        let communicator = self.communicator;
        // What went wrong is met again where a message is waited for.
        let between_blocks = || drop(communicator.progress());
        let mut team = Team {
            between_blocks: (communicator.size() > 1).then_some(&between_blocks as &dyn Fn()),
            ..Team::of_shards(&mut self.workspace, &self.workers, &self.group).timed_by(self.policy.clock())
        };
        iterate(state, rules, &mut self.exchange, &mut team, reports)?;
        Ok(self.group.outcome()?)
    }

    /// Evaluates where that is due, and sends what this rank has to say of the iteration on its way.
    fn post_row(
        &mut self,
        state: &mut RunState<T>,
        rules: &Rules,
        due: bool,
        reports: &[LayerReport],
        shape: &StageShape,
    ) -> Result<PendingRow, TrainError> {
        let mut scores = None;
        if due {
            let clock = self.policy.clock();
            let _evaluate = clock.enter(Phase::Evaluate);
            let nodes = self.blocks.nodes();
            let evaluated = self.own_blocks(&self.evaluated.blocks).1.nodes();
            let layers = state.network.layers.iter();
            clock.count(layers.map(|layer| LayerShape::of(layer, nodes).forward(evaluated)).sum());
            state.best.propose(&state.network);
            scores = self.pass().evaluate(&state.network)?;
            self.group.outcome()?;
        }
        let _reduce = self.policy.clock().enter(Phase::Reduce);
        let stops = usize::from((self.stop)(state.iteration));
        let mut traffic = self.exchange.traffic;
        traffic.other_bytes += self.group.bytes();
        let own = Contribution {
            scores,
            traffic,
            requests: Requests { stops, ..self.clock.requests() },
            output_failed: self.output_failed.is_some(),
        };
        let memory = std::mem::take(&mut self.slots);
        let slots = self.slots_of(shape.layers).contribute(self.group.shard(), reports, &own, memory);
        let sums = self.communicator.post_sum(slots)?.named("residuals of an iteration");
        let row = HistoryRow {
            stage: state.stage,
            layers: shape.layers,
            iteration: state.iteration,
            rho: rules.penalties.rho,
            nu: rules.penalties.nu,
            seconds: self.seconds_so_far()[0],
            ..HistoryRow::default()
        };
        Ok(PendingRow { sums, stage_iteration: state.stage_iteration, row, penalties: rules.penalties })
    }

    /// Takes in the sums of the iteration that is under way, if there is one: history, penalties, level sets, the
    /// best model, and whether to stop.
    fn settle(
        &mut self,
        state: &mut RunState<T>,
        shape: &StageShape,
        policy: &WaitPolicy,
    ) -> Result<Settled, TrainError> {
        let Some(PendingRow { sums, stage_iteration, mut row, penalties }) = state.pending.take() else {
            return Ok(Settled::default());
        };
        let _reduce = self.policy.clock().enter(Phase::Reduce);
        let sums = wait_sum(self.communicator, sums, policy)?;
        let reduced = self.slots_of(shape.layers).take_apart(&sums);
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
        row.bytes_baseline = reduced.traffic.baseline_bytes;
        row.messages = reduced.traffic.messages;
        let mut out_of_patience = false;
        if let Some(scores) = reduced.scores {
            out_of_patience = state.patience.observe(scores.correct[1], self.settings.patience);
            let evaluation = Evaluation { iteration: row.iteration, scores };
            row.set_scores(&scores, self.known);
            // Weights that are not finite are no model, however they score.
            if reduced.not_finite.is_none() && scores.loss.iter().all(|loss| loss.is_finite()) {
                state.best.settle(evaluation);
            }
            state.last_scores = Some(evaluation);
        }
        for (l, (p, q)) in state.p_ranges.iter_mut().zip(&mut state.q_ranges).enumerate() {
            // p of boundary l belongs to layer l + 1, q to layer l (here from 0).
            *p = p.follow(reduced.p_peaks[l + 1]);
            *q = q.follow(reduced.q_peaks[l]);
        }
        let elements = (shape.layers - 1) as f64 * shape.neurons as f64 * nodes;
        let converged = state.schedule.observe(&totals, totals.local_loss, elements.sqrt(), penalties.rho);
        let writing = self.policy.clock().enter(Phase::Io);
        if let Some(folder) = &mut self.folder
            && let Err(error) = folder.add_row(&row)
        {
            self.output_failed.get_or_insert(error);
        }
        let last = stage_iteration == self.settings.iterations;
        self.screen.row(&row, stage_iteration, self.settings.iterations, last);
        drop(writing);
        let status = match reduced.not_finite {
            Some((layer, variable)) => Some(Status::Diverged { layer, variable, iteration: row.iteration }),
            None if converged => Some(Status::Converged),
            None => match (out_of_patience, self.settings.patience) {
                (true, Some(evaluations)) => Some(Status::EarlyStopped { evaluations }),
                _ => None,
            },
        };
        let (output_failed, requests) = (reduced.output_failed, reduced.requests);
        state.last = Some((row, reduced));
        if output_failed {
            let failed = match self.output_failed.take() {
                Some(error) => Err(SetUpError::Output(error)),
                None => Ok(()),
            };
            agree(self.communicator, self.policy, "output", failed, SetUpError::describe)?;
        }
        Ok(Settled { status, requests })
    }

    /// Receives the last q, and lets all sends leave.
    fn end_stage(&mut self, state: &mut RunState<T>) -> Result<(), TrainError> {
        self.receive_last_q(state)?;
        Ok(self.exchange.finish_sends()?)
    }

    /// Receives the last q, so that both sides of a boundary are at the same iteration.
    pub(super) fn receive_last_q(&mut self, state: &mut RunState<T>) -> Result<(), TrainError> {
        if state.network.has_rank_below()
            && !state.network.below_is_current
            && let Some(penalties) = state.previous
        {
            let mut rules = self.rules(state, penalties)?;
            rules.iteration += 1;
            let below = &mut state.network.boundaries[0];
            let team = Team::of_one_shard(&mut self.workspace, &self.workers).timed_by(self.policy.clock());
            iteration::receive_q(below, &rules, &mut self.exchange, &team, 1.0)?;
            state.network.below_is_current = true;
        }
        Ok(())
    }
}

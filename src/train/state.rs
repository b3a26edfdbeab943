//! The state of a run: everything that it takes to go on from an iteration, and nothing else.

use super::best::{BestTracker, Evaluation};
use super::output::HistoryRow;
use super::patience::Patience;
use super::reduction::Reduced;
use super::schedule::Schedule;
use crate::admm::Penalties;
use crate::admm::iteration::RankState;
use crate::linalg::Real;
use crate::parallel::Pending;
use crate::quantize::PowerRange;

/// Version of what a run's state holds; it changes whenever a field does. Ranks compare it when they start.
pub const RUN_STATE_VERSION: u32 = 4;

/// One rank's state between two iterations. Random streams are those of (seed, layer) and used up when layers
/// are made; what the codec keeps is the exchange's to give (`Exchange::state`).
pub(super) struct RunState<T> {
    /// Stage, from 1.
    pub stage: usize,
    /// Iterations done in this stage.
    pub stage_iteration: usize,
    /// Iterations done over all stages.
    pub iteration: u64,
    /// The variables of the layers held.
    pub network: RankState<T>,
    /// Penalties and the counts that move them.
    pub schedule: Schedule,
    /// ρ and ν of the iteration before, in this stage.
    pub previous: Option<Penalties>,
    /// Ranges of the level sets of p, by boundary.
    pub p_ranges: Vec<PowerRange>,
    /// Ranges of the level sets of q, by boundary.
    pub q_ranges: Vec<PowerRange>,
    /// The best evaluation of this stage, and the candidate that waits for its result.
    pub best: BestTracker<T>,
    /// The best evaluation of a stage that has ended: the next one starts from its weights.
    pub best_before: Option<Evaluation>,
    /// Evaluations of this stage without a better validation accuracy.
    pub patience: Patience,
    /// The iteration whose sums are still under way.
    pub pending: Option<PendingRow>,
    /// What the last settled iteration came to.
    pub last: Option<(HistoryRow, Reduced)>,
    /// The last evaluation.
    pub last_scores: Option<Evaluation>,
}

/// A row of the history whose sums are still under way.
pub(super) struct PendingRow {
    /// The sums.
    pub sums: Pending,
    /// Iteration within the stage, from 1.
    pub stage_iteration: usize,
    /// What is known of it already.
    pub row: HistoryRow,
    /// ρ and ν it was made with.
    pub penalties: Penalties,
}

impl<T: Real> RunState<T> {
    /// Lets go of what the next stage does not ask for: variables and weights of the evaluations are most of a rank's
    /// memory.
    pub fn release(&mut self) {
        self.network.layers = Vec::new();
        self.network.boundaries = Vec::new();
        self.best_before = self.best.release();
    }

    /// The start of a stage after `iteration` iterations; `before` is the stage that it follows.
    pub fn at_start(stage: usize, network: RankState<T>, schedule: Schedule, before: Option<&Self>) -> Self {
        Self {
            stage,
            stage_iteration: 0,
            iteration: before.map_or(0, |before| before.iteration),
            schedule,
            previous: None,
            p_ranges: Vec::new(),
            q_ranges: Vec::new(),
            best: BestTracker::going_on(before.and_then(|before| before.best_before), &network),
            best_before: None,
            patience: Patience::default(),
            network,
            pending: None,
            last: before.and_then(|before| before.last.clone()),
            last_scores: before.and_then(|before| before.last_scores),
        }
    }
}

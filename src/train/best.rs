//! The best evaluation of a stage: which it is, and the weights it was made with.

use super::evaluate::{Scores, Snapshot};
use crate::admm::iteration::RankState;
use crate::linalg::Real;

/// Scores of an evaluation and its iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The iteration, over all stages.
    pub iteration: u64,
    /// Its scores.
    pub scores: Scores,
}

impl Evaluation {
    /// Highest validation accuracy, ties by lowest validation loss, then earliest. Where no validation node has a
    /// known class, all accuracies and losses are 0 there, and the lowest training loss decides.
    pub fn beats(&self, other: &Evaluation) -> bool {
        let (ours, theirs) = (&self.scores, &other.scores);
        if ours.loss[1] == 0.0 && theirs.loss[1] == 0.0 && ours.correct[1] == theirs.correct[1] {
            return ours.loss[0] < theirs.loss[0];
        }
        if ours.correct[1] != theirs.correct[1] {
            return ours.correct[1] > theirs.correct[1];
        }
        ours.loss[1] < theirs.loss[1]
    }
}

/// Follows the evaluations of a stage. Whether one is the best is only known an iteration later, from the
/// reduction, so its weights are kept as a candidate until then.
#[derive(Debug)]
pub struct BestTracker<T> {
    best: Option<(Evaluation, Vec<Snapshot<T>>)>,
    candidate: Vec<Snapshot<T>>,
}

impl<T: Real> BestTracker<T> {
    /// Nothing evaluated yet.
    pub fn new() -> Self {
        Self { best: None, candidate: Vec::new() }
    }

    /// Of a stage that starts from the best network of the one before: deepening has not changed what it computes.
    pub fn going_on(from: Option<Evaluation>, start: &RankState<T>) -> Self {
        let best = from.map(|evaluation| (evaluation, start.layers.iter().map(Snapshot::of).collect()));
        Self::holding(best, Vec::new())
    }

    /// Puts the weights of the best evaluation back in place.
    pub fn restore(&self, state: &mut RankState<T>) {
        if let Some((_, weights)) = &self.best {
            weights.iter().zip(&mut state.layers).for_each(|(kept, layer)| kept.restore(layer));
        }
    }

    /// The best evaluation without its weights.
    pub fn release(&mut self) -> Option<Evaluation> {
        self.candidate = Vec::new();
        self.best.take().map(|(evaluation, _)| evaluation)
    }

    /// Keeps the weights that the coming evaluation is made with.
    pub fn propose(&mut self, state: &RankState<T>) {
        if self.candidate.len() == state.layers.len() {
            self.candidate.iter_mut().zip(&state.layers).for_each(|(kept, layer)| kept.update(layer));
        } else {
            self.candidate = state.layers.iter().map(Snapshot::of).collect();
        }
    }

    /// The result of the evaluation of the proposed weights.
    pub fn settle(&mut self, evaluation: Evaluation) {
        match &mut self.best {
            Some((best, weights)) if evaluation.beats(best) => {
                *best = evaluation;
                std::mem::swap(weights, &mut self.candidate);
            }
            Some(_) => {}
            None => self.best = Some((evaluation, std::mem::take(&mut self.candidate))),
        }
    }

    /// The tracker with these weights of the best evaluation, and those of the one whose result is under way.
    pub fn holding(best: Option<(Evaluation, Vec<Snapshot<T>>)>, candidate: Vec<Snapshot<T>>) -> Self {
        Self { best, candidate }
    }

    /// This rank's weights in the evaluation whose result is under way; stale where there is none.
    pub fn candidate(&self) -> &[Snapshot<T>] {
        &self.candidate
    }

    /// The best evaluation and this rank's weights in it.
    pub fn best(&self) -> Option<(&Evaluation, &[Snapshot<T>])> {
        self.best.as_ref().map(|(evaluation, weights)| (evaluation, weights.as_slice()))
    }
}

impl<T: Real> Default for BestTracker<T> {
    fn default() -> Self {
        Self::new()
    }
}

//! `--operators auto`: a short run of a shallow network for each candidate, and the best by validation accuracy.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::best::Evaluation;
use super::driver::Run;
use super::error::{SetUpError, TrainError};
use super::evaluate::EvaluatedNodes;
use super::problem::Problem;
use super::reduction::Requests;
use super::screen::Screen;
use super::stopping::{Clock, StopSignal};
use crate::graph::{FeatureNorm, Operators};
use crate::linalg::{Real, Workers};
use crate::parallel::redistribute::{Holding, redistribute};
use crate::parallel::{Communicator, WaitPolicy, agree};
use crate::settings::{Method, RawSettings, Settings};

/// Operators that `auto` may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Ψ.
    pub operators: &'static str,
    /// Scaling of the raw features.
    pub feature_norm: FeatureNorm,
    /// Whether it is taken only where it is ahead of the others by more than the standard error of their accuracy.
    pub fallback: bool,
}

/// What is tried, in this order. Few, for with more of them near each other the choice among some hundred validation nodes
/// is the worse: averages over growing neighbourhoods, which citation graphs want; a sum over two hops in which the node's
/// own features weigh less than they do in I + Ã + Ã², for graphs of many neighbours; and plain hops, for graphs where
/// neighbours say little.
pub const CANDIDATES: [Candidate; 4] = [
    Candidate { operators: "ppr:0.1:10", feature_norm: FeatureNorm::Row, fallback: false },
    Candidate { operators: "ppr:0.1:10", feature_norm: FeatureNorm::None, fallback: false },
    Candidate { operators: "sum:1:3:3", feature_norm: FeatureNorm::None, fallback: false },
    Candidate { operators: "0,1,2,3", feature_norm: FeatureNorm::None, fallback: true },
];
/// Layers of the network that tries a candidate.
const LAYERS: usize = 2;
/// Iterations that it is trained for.
const ITERATIONS: usize = 60;

/// What a run says of its operators, in `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorSummary {
    /// Ψ.
    pub used: String,
    /// Scaling of the raw features.
    pub feature_norm: FeatureNorm,
    /// What was tried before with `--operators auto`, in order; empty where the operators were given.
    pub tried: Vec<Trial>,
}

/// What the short run of a candidate came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Ψ.
    pub operators: String,
    /// Scaling of the raw features.
    pub feature_norm: FeatureNorm,
    /// Best validation accuracy; `None` where no iteration gave finite numbers.
    pub val: Option<f64>,
    /// Validation loss a node at that iteration.
    pub val_loss: Option<f64>,
}

impl OperatorSummary {
    /// Of a run with these settings, and what was tried before.
    pub(super) fn of(settings: &Settings, tried: Vec<Trial>) -> Self {
        Self { used: settings.operators.to_string(), feature_norm: settings.feature_norm, tried }
    }
}

/// A run whose operators are still to be chosen.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub settings: &'a Settings,
    pub communicator: &'a dyn Communicator,
    pub policy: &'a WaitPolicy,
    pub problem: &'a Problem,
    pub stop: &'a StopSignal,
    /// Since when the time of `--max-time` counts.
    pub since: Instant,
}

impl Search<'_> {
    /// The settings with the candidate of the fewest operators, which needs the least of everything: where it does not
    /// fit, none does.
    ///
    /// # Errors
    /// As [`Search::choose`].
    pub fn narrowest(self) -> Result<Settings, TrainError> {
        let parsed: Result<Vec<Operators>, _> =
            CANDIDATES.iter().map(|candidate| candidate.operators.parse()).collect();
        let least = parsed.map(|all| all.into_iter().min_by_key(Operators::count));
        let operators = self.agree(least.map_err(SetUpError::from))?;
        let operators = operators.unwrap_or_else(|| self.settings.operators.clone());
        Ok(Settings { operators, ..self.settings.clone() })
    }

    /// The settings with the best of [`CANDIDATES`], and what all of them came to; every rank calls this and gets the same.
    ///
    /// Each trains two layers for 60 iterations from the seed 0, without quantization, by the ADMM whatever trains the
    /// network in the end. [`best_of`] says which wins.
    /// Test nodes are evaluated with the others, as in every run, but nothing looks at them.
    ///
    /// # Errors
    /// No validation node of known class, features that cannot be used, a lost rank; a signal, or `--max-time`, looked at
    /// before each candidate.
    pub fn choose<T: Real>(self, screen: &mut Screen) -> Result<(Settings, Vec<Trial>), TrainError> {
        let Search { settings, problem, .. } = self;
        let [_, val, _] = EvaluatedNodes::new(problem.sizes(), &problem.labels).known();
        self.agree(match val {
            0 => Err(SetUpError::NothingToChooseBy { split: problem.split.clone() }),
            _ => Ok(()),
        })?;
        screen.search(CANDIDATES.len());
        let mut tried = Vec::new();
        let mut clock = Clock::new(settings, self.since, self.communicator.rank());
        for candidate in CANDIDATES {
            // The short runs belong to no folder yet, so that there is nothing to go on with.
            let own = Requests { stops: usize::from((self.stop)(0)), ..clock.requests() };
            self.agree(own.stop().map_or(Ok(()), |cause| Err(SetUpError::StoppedWhileChoosing(cause))))?;
            let evaluation = self.train_shallow::<T>(&self.with(candidate)?)?;
            let share = |of: fn(&Evaluation) -> f64| evaluation.as_ref().map(|best| of(best) / val as f64);
            let trial = Trial {
                operators: candidate.operators.to_owned(),
                feature_norm: candidate.feature_norm,
                val: share(|best| best.scores.correct[1]),
                val_loss: share(|best| best.scores.loss[1]),
            };
            screen.trial(&trial);
            tried.push(trial);
        }
        let best = self.agree(best_of(&CANDIDATES, &tried, val).ok_or(SetUpError::NoCandidate))?;
        screen.chosen(best, reason(best, &tried));
        Ok((self.with(best)?, tried))
    }

    /// The settings with a candidate.
    fn with(self, candidate: Candidate) -> Result<Settings, TrainError> {
        let operators = self.agree(candidate.operators.parse::<Operators>().map_err(SetUpError::from))?;
        let feature_norm = candidate.feature_norm;
        Ok(Settings { auto_operators: false, operators, feature_norm, ..self.settings.clone() })
    }

    fn agree<A>(self, own: Result<A, SetUpError>) -> Result<A, TrainError> {
        Ok(agree(self.communicator, self.policy, "choice of operators", own, SetUpError::describe)?)
    }

    /// The best evaluation of a short run with these operators; it leaves no files.
    fn train_shallow<T: Real>(self, with: &Settings) -> Result<Option<Evaluation>, TrainError> {
        let Search { communicator, policy, problem, .. } = self;
        let settings = self.agree(shallow(with))?;
        let workers = Workers::new(settings.threads)
            .map_err(|source| SetUpError::Threads { threads: settings.threads, source });
        let workers = self.agree(workers)?;
        let (screen, start) = (Screen::silent(), Instant::now());
        let mut run = Run::<T>::new(&settings, communicator, policy, problem, workers, screen, start);
        let shape = run.shape(LAYERS);
        // Two layers for a moment: up to two ranks work, whatever the run itself will share.
        let shards = 1;
        run.shards = vec![shards];
        let held = run.first_layer(shards)?.into_iter().collect();
        let plan = run.plan(&shape, shards);
        let new = Holding { plan: &plan, stage: &shape };
        let held = redistribute(communicator, policy, held, None, new, settings.seed)?;
        let (_, state) = run.stage(1, held, &plan, &shape, None)?;
        Ok(state.best.best().map(|(evaluation, _)| *evaluation))
    }
}

/// The candidate to keep of those tried with `val` validation nodes: the highest validation accuracy, ties by the lowest
/// validation loss, then the first; a fallback only where it is ahead of the best of the others, of accuracy a, by more
/// than the standard error √(a(1 − a)/n) of n nodes. Nothing where no candidate gave finite numbers.
fn best_of(candidates: &[Candidate], tried: &[Trial], val: usize) -> Option<Candidate> {
    let mut best: Option<(Candidate, f64, f64)> = None;
    for fallback in [false, true] {
        for (&candidate, trial) in candidates.iter().zip(tried).filter(|(c, _)| c.fallback == fallback) {
            let (Some(accuracy), Some(loss)) = (trial.val, trial.val_loss) else { continue };
            let ahead = best.is_none_or(|(other, a, least)| match candidate.fallback && !other.fallback {
                true => accuracy > a + (a * (1.0 - a) / val as f64).sqrt(),
                false => accuracy > a || (accuracy == a && loss < least),
            });
            if ahead {
                best = Some((candidate, accuracy, loss));
            }
        }
    }
    best.map(|(candidate, ..)| candidate)
}

/// Why [`best_of`] has kept this candidate.
fn reason(kept: Candidate, tried: &[Trial]) -> &'static str {
    let is_kept =
        |trial: &Trial| trial.operators == kept.operators && trial.feature_norm == kept.feature_norm;
    let accuracy = tried.iter().find(|trial| is_kept(trial)).and_then(|trial| trial.val);
    let others = || tried.iter().filter(|trial| !is_kept(trial)).filter_map(|trial| trial.val);
    match kept.fallback {
        true if others().next().is_none() => "the only one with finite numbers",
        true => "the best of these, by more than the standard error",
        // Only a fallback can be ahead of what is kept.
        false if others().any(|other| accuracy.is_some_and(|accuracy| other > accuracy)) => {
            "the best of these but for the last, which is ahead by no more than the standard error"
        }
        false => "the best of these",
    }
}

/// Settings of a short run. The start is that of the run, and with the ADMM the user's own regularisation counts;
/// stopping, checkpoints, quantization and wire are those of no run.
fn shallow(with: &Settings) -> Result<Settings, SetUpError> {
    let defaults = RawSettings {
        data: Some(with.data.clone()),
        output: Some(with.output.clone()),
        layers: Some(LAYERS),
        iterations: Some(ITERATIONS),
        neurons: Some(with.neurons),
        start: Some(with.start),
        threads: Some(with.threads),
        block_nodes: with.block_nodes,
        comm_timeout: Some(with.comm_timeout),
        precision: Some(with.precision),
        ..RawSettings::default()
    };
    let defaults =
        Settings { operators: with.operators.clone(), feature_norm: with.feature_norm, ..defaults.check()? };
    Ok(match with.method {
        Method::Admm => Settings {
            mu: with.mu,
            mu_hidden: with.mu_hidden,
            proximal: with.proximal,
            dropout: with.dropout,
            tie_operators: with.tie_operators,
            follow_covariance: with.follow_covariance,
            class_weights: with.class_weights,
            subproblem: with.subproblem,
            ..defaults
        },
        _ => defaults,
    })
}

impl Screen {
    fn search(&mut self, candidates: usize) {
        self.line(format_args!(
            "  operators auto: {candidates} candidates, {LAYERS} layers and {ITERATIONS} iterations each, by validation \
             accuracy"
        ));
    }

    fn trial(&mut self, trial: &Trial) {
        let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
        self.line(format_args!(
            "            {:<12} features {:<6} validation {}, loss {}",
            trial.operators,
            trial.feature_norm.name(),
            number(trial.val),
            number(trial.val_loss)
        ));
    }

    fn chosen(&mut self, candidate: Candidate, reason: &str) {
        self.line(format_args!(
            "  chosen    operators {}, features {}: {reason}",
            candidate.operators,
            candidate.feature_norm.name(),
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_candidate_can_be_used() {
        for candidate in CANDIDATES {
            assert_eq!(candidate.operators.parse::<Operators>().unwrap().to_string(), candidate.operators);
        }
    }

    #[test]
    fn why_a_candidate_is_kept_is_told_as_it_was() {
        let said = |kept: usize, scores: [Option<f64>; 4]| {
            let tried: Vec<Trial> = CANDIDATES
                .iter()
                .zip(scores)
                .map(|(candidate, val)| Trial {
                    operators: candidate.operators.to_owned(),
                    feature_norm: candidate.feature_norm,
                    val,
                    val_loss: val,
                })
                .collect();
            reason(CANDIDATES[kept], &tried)
        };
        let of = |scores: [f64; 4]| scores.map(Some);
        assert_eq!(said(1, of([0.7, 0.8, 0.6, 0.8])), "the best of these");
        assert!(said(1, of([0.7, 0.8, 0.6, 0.81])).contains("but for the last"));
        assert!(said(3, of([0.7, 0.8, 0.6, 0.9])).contains("by more than"));
        assert!(said(3, [None, None, None, Some(0.9)]).contains("the only one"));
    }

    #[test]
    fn the_best_is_kept_and_a_fallback_only_where_it_is_clearly_ahead() {
        let candidate =
            |operators, fallback| Candidate { operators, feature_norm: FeatureNorm::None, fallback };
        let all = [candidate("0", true), candidate("1", false), candidate("2", false)];
        // Of 100 nodes at 0.8 the standard error is 0.04.
        let kept = |scores: [(f64, f64); 3]| {
            let trial = |(val, loss): (f64, f64)| Trial {
                operators: String::new(),
                feature_norm: FeatureNorm::None,
                val: val.is_finite().then_some(val),
                val_loss: val.is_finite().then_some(loss),
            };
            best_of(&all, &scores.map(trial), 100).map(|candidate| candidate.operators)
        };
        let none = (f64::NAN, f64::NAN);
        assert_eq!(kept([(0.83, 0.1), (0.79, 0.2), (0.8, 0.3)]), Some("2"));
        assert_eq!(kept([(0.85, 0.1), (0.79, 0.2), (0.8, 0.3)]), Some("0"));
        assert_eq!(kept([(0.7, 0.1), (0.8, 0.3), (0.8, 0.2)]), Some("2"));
        assert_eq!(kept([(0.7, 0.1), (0.8, 0.2), (0.8, 0.2)]), Some("1"));
        assert_eq!(kept([none, none, (0.3, 2.0)]), Some("2"));
        assert_eq!(kept([(0.3, 2.0), none, none]), Some("0"));
        assert_eq!(kept([none; 3]), None);
    }
}

//! How a run ended.

use super::output::Summary;
use super::stopping::StopCause;
use crate::admm::iteration::Variable;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every stage ran its iterations.
    Finished,
    /// The last stage met its tolerances.
    Converged,
    /// Validation accuracy had not risen for as many evaluations as `--patience` allows, in the last stage.
    EarlyStopped {
        /// That many.
        evaluations: usize,
    },
    /// A value was not finite.
    Diverged {
        /// l.
        layer: usize,
        /// The variable it was found in.
        variable: Variable,
        /// The iteration, over all stages.
        iteration: u64,
    },
    /// A parameter was not finite after a step of backpropagation.
    StepDiverged {
        /// l.
        layer: usize,
        /// The iteration.
        iteration: u64,
    },
    /// The run was stopped between two iterations, with a checkpoint to go on from.
    Interrupted(StopCause),
}

impl Status {
    /// The word in summary.json.
    pub fn word(self) -> &'static str {
        match self {
            Status::Finished => "finished",
            Status::Converged => "converged",
            Status::EarlyStopped { .. } => "early-stopped",
            Status::Diverged { .. } | Status::StepDiverged { .. } => "diverged",
            Status::Interrupted(_) => "interrupted",
        }
    }

    /// The exit code of a run that ended by itself, from the word in its summary; `None` for any other.
    pub fn code_of_ended(word: &str) -> Option<u8> {
        match word {
            "finished" | "converged" | "early-stopped" => Some(0),
            "diverged" => Some(4),
            _ => None,
        }
    }

    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Finished | Status::Converged | Status::EarlyStopped { .. } => 0,
            Status::Diverged { .. } | Status::StepDiverged { .. } => 4,
            Status::Interrupted(_) => 75,
        }
    }

    /// Why, in words.
    pub fn message(self) -> String {
        match self {
            Status::Finished => "all iterations done".to_owned(),
            Status::Converged => "both residuals met their tolerances".to_owned(),
            Status::Interrupted(StopCause::Signal) => {
                "told to stop by a signal; train --resume goes on from the checkpoint".to_owned()
            }
            Status::Interrupted(StopCause::Time) => {
                "--max-time is over; train --resume goes on from the checkpoint".to_owned()
            }
            Status::Diverged { layer, variable, iteration } => format!(
                "{} of layer {layer} is not finite in iteration {iteration}; try a smaller --nu-max, a larger --mu, \
                 or --precision f64",
                variable.symbol()
            ),
            Status::EarlyStopped { evaluations } => {
                format!("no better validation accuracy in {evaluations} evaluations")
            }
            Status::StepDiverged { layer, iteration } => format!(
                "W or b of layer {layer} is not finite in iteration {iteration}; try a smaller --learning-rate, or \
                 --precision f64"
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

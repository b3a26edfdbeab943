//! What can end a run without a result.

use thiserror::Error;

use super::checkpoint::CheckpointError;
use super::output::OutputError;
use super::stopping::StopCause;
use crate::dataset::DatasetError;
use crate::error_chain;
use crate::graph::OperatorError;
use crate::linalg::factor::FactorError;
use crate::model::ModelError;
use crate::parallel::exchange::ExchangeError;
use crate::parallel::memory::in_words;
use crate::parallel::plan::PlanError;
use crate::parallel::{CommError, JointFailure};
use crate::quantize::LevelError;
use crate::settings::SettingsError;

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
    /// The data set file can no longer be read.
    #[error("{}", error_chain(.0))]
    Data(#[from] DatasetError),
    /// No level set fits.
    #[error(transparent)]
    Levels(#[from] LevelError),
}

/// A problem of one rank's own, to be agreed on by all.
#[derive(Debug, Error)]
pub(super) enum SetUpError {
    #[error("{}", error_chain(.0))]
    Data(#[from] DatasetError),
    #[error(transparent)]
    Ranks(#[from] PlanError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("its {what} differs from that of rank 0: here {here}; there {there}; {remedy}")]
    Disagreement { what: &'static str, here: String, there: String, remedy: &'static str },
    #[error(
        "its settings differ from those of rank 0: {changed}; start all ranks with the same flags and the same --config"
    )]
    OtherSettings { changed: String },
    #[error(
        "--patience needs validation nodes of known class, and split {split} has none: leave it out or choose another \
         --split"
    )]
    NothingToStopBy { split: String },
    #[error(
        "--operators auto needs validation nodes of known class, and split {split} has none: name the operators, such as \
         0,1,2,3, or choose another --split"
    )]
    NothingToChooseBy { split: String },
    #[error("the covariance of the features cannot be used: {0}; --follow-covariance 0 does without")]
    Covariance(FactorError),
    #[error(transparent)]
    Operators(#[from] OperatorError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "--operators auto: none of its candidates gave finite numbers; look at the features with 'pdadmm-g dataset check', \
         or name the operators"
    )]
    NoCandidate,
    #[error("{}", match .0 {
        StopCause::Signal => "told to stop by a signal while --operators auto was choosing: nothing has been trained that \
                              --resume could go on with; start the command again",
        StopCause::Time => "--max-time is over while --operators auto was choosing, before training began: give more time, or \
                            name the operators",
    })]
    StoppedWhileChoosing(StopCause),
    #[error("cannot start {threads} threads: {source}")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },
    #[error(
        "{ranks} rank{} on {host} would need about {} of memory, and {} are available: use fewer --neurons or --layers, or \
         spread the run over more hosts, with --shards where there are fewer layers than ranks; `pdadmm-g plan` says what \
         each rank needs", if *.ranks == 1 { "" } else { "s" }, in_words(*.needed), in_words(*.available)
    )]
    Memory { host: String, ranks: usize, needed: u64, available: u64 },
    #[error("{}", error_chain(.0))]
    Model(#[from] ModelError),
    #[error("{}", error_chain(.0))]
    Checkpoint(#[from] CheckpointError),
    #[error("what a rank says of its part of the checkpoint cannot be read: {0}")]
    Report(serde_json::Error),
}

impl SetUpError {
    /// The exit code and the message, for the other ranks.
    pub(super) fn describe(&self) -> (u8, String) {
        let code = match self {
            SetUpError::Data(error) => error.describe().0,
            SetUpError::Output(OutputError::Place(error)) => error.exit_code(),
            SetUpError::NoCandidate | SetUpError::Covariance(_) => 4,
            // Not that of an interrupted run, which promises that --resume goes on.
            SetUpError::StoppedWhileChoosing(StopCause::Signal) => 1,
            SetUpError::StoppedWhileChoosing(StopCause::Time) => 2,
            SetUpError::Checkpoint(error) => error.exit_code(),
            SetUpError::Ranks(_)
            | SetUpError::Output(
                OutputError::Occupied { .. } | OutputError::NotAFolder { .. } | OutputError::InUse { .. },
            )
            | SetUpError::NothingToStopBy { .. }
            | SetUpError::Memory { .. }
            | SetUpError::NothingToChooseBy { .. }
            | SetUpError::Operators(_)
            | SetUpError::Settings(_)
            | SetUpError::Disagreement { .. }
            | SetUpError::OtherSettings { .. } => 2,
            SetUpError::Output(_)
            | SetUpError::Threads { .. }
            | SetUpError::Model(_)
            | SetUpError::Report(_) => 1,
        };
        (code, self.to_string())
    }
}

impl TrainError {
    /// The exit code of every rank.
    pub fn exit_code(&self) -> u8 {
        match self {
            TrainError::Joint(failure) => failure.exit_code(),
            TrainError::Data(error) => error.describe().0,
            _ => 1,
        }
    }

    /// Whether the other ranks know of it. If not they may wait for this rank for ever and must be ended.
    pub fn is_joint(&self) -> bool {
        matches!(self, TrainError::Joint(JointFailure::Failed { .. }))
    }
}

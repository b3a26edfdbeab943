//! The settings of a training run: raw ones from flags and a TOML file, then checked ones.

mod check;
mod choices;
mod method;
mod operator_choice;
mod raw;
mod resumed;
mod times;

use std::path::PathBuf;

use thiserror::Error;

use crate::admm::Subproblem;
use crate::graph::{FeatureNorm, Operators};
use crate::parallel::plan::Shards;
use crate::quantize::{Coding, Element, LevelSet, Spacing, Wire};

pub use choices::{PenaltyRule, Precision, Quantize, Start};
pub use method::Method;
pub use operator_choice::OperatorChoice;
pub use raw::RawSettings;
pub use resumed::{differences, resumed, with_later_settings};
pub use times::{CheckpointEvery, MaxTime, TimeError};

/// Settings that a run can start with; every value has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Data set file.
    pub data: PathBuf,
    /// Folder for the results.
    pub output: PathBuf,
    /// Split by name; `None`: the default one.
    pub split: Option<String>,
    /// Whether Ψ and the scaling of the raw features are still to be chosen; the two below then stand for nothing.
    pub auto_operators: bool,
    /// Ψ.
    pub operators: Operators,
    /// Scaling of the raw features.
    pub feature_norm: FeatureNorm,
    /// L.
    pub layers: usize,
    /// Width of the hidden layers.
    pub neurons: usize,
    /// Layers of each stage, rising, the last L.
    pub stages: Vec<usize>,
    /// Floating point type.
    pub precision: Precision,
    /// Seed.
    pub seed: u64,
    /// What trains the network.
    pub method: Method,
    /// Iterations of each stage.
    pub iterations: usize,
    /// What the first stage starts from.
    pub start: Start,
    /// ρ at the start of the first stage; later ones start in proportion to ν.
    pub rho: f64,
    /// ν at the start of the first stage.
    pub nu: f64,
    /// How ρ and ν change.
    pub penalties: PenaltyRule,
    /// Factor of growth.
    pub penalty_growth: f64,
    /// Largest ν.
    pub nu_max: f64,
    /// ν at the start of later stages.
    pub nu_restart: f64,
    /// μ of the first and the last layer.
    pub mu: f64,
    /// μ of the layers between.
    pub mu_hidden: f64,
    /// ϑ.
    pub proximal: f64,
    /// Dropout rate: on the raw features, in closed form; with backpropagation on the inputs of all layers.
    pub dropout: f64,
    /// ζ: how far weights of a feature are held together over the operators.
    pub tie_operators: f64,
    /// ξ: how far layer 1's weights follow the covariance of the features of all nodes.
    pub follow_covariance: f64,
    /// γ, the exponent of the weights of classes in the risk.
    pub class_weights: f64,
    /// η of backpropagation.
    pub learning_rate: f64,
    /// Weight decay of backpropagation.
    pub weight_decay: f64,
    /// Evaluations without a better validation accuracy that end a stage.
    pub patience: Option<usize>,
    /// How p and W are solved.
    pub subproblem: Subproblem,
    /// Tolerances of the primal and dual residual, relative.
    pub tolerance: Option<(f64, f64)>,
    /// What is rounded.
    pub quantize: Quantize,
    /// Bits of a level where the range is taken from the data.
    pub bits: u32,
    /// How its levels lie.
    pub spacing: Spacing,
    /// A fixed level set.
    pub levels: Option<LevelSet>,
    /// How level indices travel.
    pub coding: Coding,
    /// How p and q that are on no level set travel.
    pub wire: Wire,
    /// Number of runs.
    pub runs: usize,
    /// Iterations between evaluations.
    pub evaluate_every: usize,
    /// Threads of each rank.
    pub threads: usize,
    /// Ranks that share the nodes of each layer.
    pub shards: Shards,
    /// Nodes of a block.
    pub block_nodes: Option<usize>,
    /// Seconds of silence after which a rank gives up; 0 = never.
    pub comm_timeout: u64,
    /// When checkpoints are written besides the one of a stop.
    pub checkpoint_every: CheckpointEvery,
    /// After how long the run stops by itself.
    pub max_time: MaxTime,
}

impl Settings {
    /// What p and q that are on no level set are rounded to, in a run of this type; `None` where that changes nothing.
    pub fn rounding_wire<T: Element>(&self) -> Option<Wire> {
        (self.wire != Wire::native::<T>()).then_some(self.wire)
    }
}

/// Settings that no run can start with.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A required setting is absent.
    #[error("--{0} is required (or the key '{0}' in the file given by --config)")]
    Missing(&'static str),
    /// A value outside its range.
    #[error("--{flag} {found}: {expected}")]
    Range {
        /// The setting.
        flag: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// Two settings that contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// There is nothing to go on with.
    #[error("{folder} holds no run to go on with: there is no config.toml; start one with train --output")]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// Flags that would change the result of a run that goes on.
    #[error(
        "the run in {folder} has other settings: {changed}; leave these flags out, or start anew in another folder"
    )]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// The flags with both values.
        changed: String,
    },
    /// The file cannot be read.
    #[error("cannot read the settings in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("the settings in {path} are not usable: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

//! The settings of a training run: raw ones from flags and a TOML file, then checked ones.

mod method;
mod operator_choice;
mod resumed;
mod times;

use std::path::{Path, PathBuf};

pub use method::Method;
pub use operator_choice::OperatorChoice;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::admm::Subproblem;
use crate::graph::{FeatureNorm, Operators};
use crate::parallel::plan::Shards;
use crate::quantize::{Coding, Element, LevelSet, Spacing, Wire};
use crate::storage::read_small;

pub use resumed::{differences, resumed};
pub use times::{CheckpointEvery, MaxTime, TimeError};

/// What is rounded to a level set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Quantize {
    /// Nothing: p and q travel as they are.
    #[default]
    None,
    /// p.
    P,
    /// q.
    Q,
    /// Both p and q.
    Pq,
}

impl Quantize {
    /// Whether p is on a level set.
    pub fn p(self) -> bool {
        matches!(self, Quantize::P | Quantize::Pq)
    }

    /// Whether q is on a level set.
    pub fn q(self) -> bool {
        matches!(self, Quantize::Q | Quantize::Pq)
    }
}

/// The floating point type of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Double precision.
    F64,
}

impl Precision {
    /// How its numbers travel unrounded.
    pub fn wire(self) -> Wire {
        match self {
            Precision::F32 => Wire::F32,
            Precision::F64 => Wire::F64,
        }
    }
}

/// How ρ and ν change during a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PenaltyRule {
    /// They keep the values they start with.
    Fixed,
    /// They grow when the loss stalls, up to a largest ν.
    #[default]
    Adaptive,
}

/// Settings as a user gives them: by flag, or by the same name in a TOML file. What is absent has a default.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawSettings {
    /// Data set file, HDF5 (required)
    #[arg(long, value_name = "FILE.h5", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Folder for the results; made if absent (required)
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub output: Option<PathBuf>,
    /// Split of the nodes [default: public, else random_0, else random, else the only one]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub split: Option<String>,
    /// Operators Ψ: hops (0,1,2,3), mean:K, ppr:ALPHA:TERMS, heat:T:TERMS; or auto, to have them and the scaling of
    /// features chosen by validation accuracy in short runs [default: 0,1,2,3]
    #[arg(long, value_name = "LIST|auto", help_heading = "Data")]
    pub operators: Option<OperatorChoice>,
    /// Scaling of the raw features [default: none]
    #[arg(long, value_enum, help_heading = "Data")]
    pub feature_norm: Option<FeatureNorm>,

    /// Layers of the last stage [default: 10]
    #[arg(long, value_name = "L", help_heading = "Network")]
    pub layers: Option<usize>,
    /// Neurons of each hidden layer [default: 100]
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub neurons: Option<usize>,
    /// Layers of each stage, rising; the last is --layers [default: 2,5 below L, then L]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Network")]
    pub stages: Option<Vec<usize>>,
    /// Floating point type [default: f32]
    #[arg(long, value_enum, help_heading = "Network")]
    pub precision: Option<Precision>,
    /// Seed of all random numbers [default: 0]
    #[arg(long, help_heading = "Network")]
    pub seed: Option<u64>,

    /// What trains the network: pdADMM-G, or backpropagation, full batch [default: admm]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub optimizer: Option<Method>,
    /// Iterations of each stage [default: 200; 600 with an optimizer other than admm]
    #[arg(long, value_name = "K", help_heading = "Algorithm")]
    pub iterations: Option<usize>,
    /// ρ at the start of a stage [default: --nu]
    #[arg(long, help_heading = "Algorithm")]
    pub rho: Option<f64>,
    /// ν at the start of a stage [default: 0.0001]
    #[arg(long, help_heading = "Algorithm")]
    pub nu: Option<f64>,
    /// Whether ρ and ν grow when the loss stalls [default: adaptive]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub penalties: Option<PenaltyRule>,
    /// Factor by which ρ and ν grow [default: 10]
    #[arg(long, value_name = "FACTOR", help_heading = "Algorithm")]
    pub penalty_growth: Option<f64>,
    /// ν stops growing here [default: 1]
    #[arg(long, value_name = "NU", help_heading = "Algorithm")]
    pub nu_max: Option<f64>,
    /// ν at the start of the second and later stages [default: 0.1, or --nu-max if that is smaller]
    #[arg(long, value_name = "NU", help_heading = "Algorithm")]
    pub nu_restart: Option<f64>,
    /// Weight decay μ of the first and the last layer [default: 0.01]
    #[arg(long, help_heading = "Algorithm")]
    pub mu: Option<f64>,
    /// Weight decay μ of the layers between [default: 0]
    #[arg(long, value_name = "MU", help_heading = "Algorithm")]
    pub mu_hidden: Option<f64>,
    /// Proximal term of the exact W of layers without decay, as a share of the mean eigenvalue of ν p pᵀ [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Algorithm")]
    pub proximal: Option<f64>,
    /// Dropout rate: on the inputs of layer 1, in closed form; with an optimizer other than admm on the inputs of all
    /// layers, at random [default: 0.2; with an optimizer other than admm 0.5 up to 3 layers, else 0]
    #[arg(long, value_name = "RATE", help_heading = "Algorithm")]
    pub dropout: Option<f64>,
    /// How p and W are solved [default: auto]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub subproblem: Option<Subproblem>,
    /// Stop a stage when both residuals stay at or below these: PRIMAL,DUAL, relative [default: off]
    #[arg(long, value_name = "PRIMAL,DUAL", value_delimiter = ',', help_heading = "Algorithm")]
    pub tolerance: Option<Vec<f64>>,

    /// Learning rate of an optimizer other than admm [default: adam 0.003, adagrad 0.01, gd 0.1, adadelta 1]
    #[arg(long, value_name = "RATE", help_heading = "Algorithm")]
    pub learning_rate: Option<f64>,
    /// Weight decay of an optimizer other than admm, as an L2 term on all parameters [default: 0.0005]
    #[arg(long, value_name = "DECAY", help_heading = "Algorithm")]
    pub weight_decay: Option<f64>,
    /// End a stage after this many evaluations without a better validation accuracy [default: off]
    #[arg(long, value_name = "K", help_heading = "Algorithm")]
    pub patience: Option<usize>,

    /// What is rounded to a level set [default: none]
    #[arg(long, value_enum, help_heading = "Quantization")]
    pub quantize: Option<Quantize>,
    /// Bits of a level, over a range taken from the data, 1 to 16 [default: 8]
    #[arg(long, value_name = "B", help_heading = "Quantization")]
    pub bits: Option<u32>,
    /// How the levels of --bits lie [default: squares]
    #[arg(long, value_enum, help_heading = "Quantization")]
    pub spacing: Option<Spacing>,
    /// A fixed level set instead, such as the paper's -1:20:1
    #[arg(long, value_name = "LO:HI:STEP", allow_hyphen_values = true, help_heading = "Quantization")]
    pub levels: Option<String>,
    /// How level indices travel; changes no result [default: smallest]
    #[arg(long, value_enum, help_heading = "Quantization")]
    pub coding: Option<Coding>,
    /// How p and q that are not quantized travel, and are rounded everywhere [default: as --precision]
    #[arg(long, value_enum, help_heading = "Quantization")]
    pub wire: Option<Wire>,

    /// Runs with the seeds --seed, --seed + 1, …, each in a folder of its own, with their mean and deviation [default: 1]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub runs: Option<usize>,
    /// Iterations between evaluations [default: 1]
    #[arg(long, value_name = "K", help_heading = "Run")]
    pub evaluate_every: Option<usize>,
    /// Threads of each rank [default: 1]
    #[arg(long, value_name = "T", help_heading = "Run")]
    pub threads: Option<usize>,
    /// Ranks that share the nodes of each layer: a power of two, or auto, by shapes; changes no result [default: 1]
    #[arg(long, value_name = "S|auto", help_heading = "Run")]
    pub shards: Option<Shards>,
    /// Nodes of a block; changes rounding [default: from the number of nodes]
    #[arg(long, value_name = "NODES", help_heading = "Run")]
    pub block_nodes: Option<usize>,
    /// Give up when a neighbour is silent for this many seconds, 0 = never [default: 3600]
    #[arg(long, value_name = "SECONDS", help_heading = "Run")]
    pub comm_timeout: Option<u64>,
    /// Time or iterations between checkpoints, such as 10m or 200it [default: off, only at a stop]
    #[arg(long, value_name = "TIME|Nit", help_heading = "Run")]
    pub checkpoint_every: Option<CheckpointEvery>,
    /// Stop after this time, such as 23h50m, with a checkpoint [default: off]
    #[arg(long, value_name = "TIME", help_heading = "Run")]
    pub max_time: Option<MaxTime>,
}

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
    /// ρ at the start of a stage.
    pub rho: f64,
    /// ν at the start of a stage.
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
    /// Dropout rate: on the inputs of layer 1, with backpropagation on those of all layers.
    pub dropout: f64,
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

/// The largest numbers that settings may ask for: far above any use, far below what would overflow.
const MOST_LAYERS: usize = 1000;
const MOST_NEURONS: usize = 1 << 20;
const MOST_ITERATIONS: usize = 10_000_000;
const MOST_RUNS: usize = 1000;
const LARGEST_FILE: u64 = 1 << 20;

impl RawSettings {
    /// The settings of a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, is above 1 MiB, or has an unknown key or a value of the wrong type.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let fail = |source| SettingsError::Read { path: path.to_owned(), source };
        let text = read_small(path, LARGEST_FILE).map_err(fail)?;
        let text = String::from_utf8(text).map_err(|error| fail(std::io::Error::other(error)))?;
        Self::from_text(&text, path)
    }

    /// The settings in a text, which came from `path`.
    ///
    /// # Errors
    /// Not TOML, an unknown key or a value of the wrong type.
    pub fn from_text(text: &str, path: &Path) -> Result<Self, SettingsError> {
        toml::from_str(text)
            .map_err(|source| SettingsError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// These settings where they are given, those of `file` elsewhere.
    pub fn over(self, file: Self) -> Self {
        macro_rules! first { ($($field:ident),* $(,)?) => { Self { $($field: self.$field.or(file.$field)),* } } }
        first!(
            data,
            output,
            split,
            operators,
            feature_norm,
            layers,
            neurons,
            stages,
            precision,
            seed,
            optimizer,
            iterations,
            rho,
            nu,
            penalties,
            penalty_growth,
            nu_max,
            nu_restart,
            mu,
            mu_hidden,
            proximal,
            dropout,
            subproblem,
            tolerance,
            learning_rate,
            weight_decay,
            patience,
            quantize,
            bits,
            spacing,
            levels,
            coding,
            wire,
            runs,
            evaluate_every,
            threads,
            shards,
            block_nodes,
            comm_timeout,
            checkpoint_every,
            max_time,
        )
    }

    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    /// A value out of range, a required one that is absent, or two that contradict each other.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let method = self.optimizer.unwrap_or_default();
        method::check_belongs(&self, method)?;
        let layers = self.layers.or_else(|| self.stages.as_ref()?.last().copied()).unwrap_or(10);
        whole("layers", layers, 2, MOST_LAYERS)?;
        let stages = match self.stages {
            None if method != Method::Admm => vec![layers],
            None => [2, 5].into_iter().filter(|&l| l < layers).chain([layers]).collect(),
            Some(stages) => {
                let text = join(&stages);
                if stages.first().is_none_or(|&l| l < 2) || stages.windows(2).any(|w| w[0] >= w[1]) {
                    let expected = "stages rise from at least 2 layers, such as 2,5,10".to_owned();
                    return Err(SettingsError::Range { flag: "stages", found: text, expected });
                }
                if stages.last() != Some(&layers) {
                    return Err(SettingsError::Contradiction(format!(
                        "--stages {text} ends with another number of layers than --layers {layers}: make them equal \
                         or leave one out"
                    )));
                }
                stages
            }
        };
        let quantize = self.quantize.unwrap_or_default();
        let level_flags = [
            ("--bits", self.bits.is_some()),
            ("--spacing", self.spacing.is_some()),
            ("--levels", self.levels.is_some()),
            ("--coding", self.coding.is_some()),
        ];
        for (flag, given) in level_flags {
            if given && quantize == Quantize::None {
                return Err(SettingsError::Contradiction(format!("{flag} needs --quantize p, q or pq")));
            }
            if given && self.levels.is_some() && matches!(flag, "--bits" | "--spacing") {
                let message = format!("{flag} and --levels contradict each other: give one of them");
                return Err(SettingsError::Contradiction(message));
            }
        }
        let levels = match &self.levels {
            None => None,
            Some(text) => Some(text.parse::<LevelSet>().map_err(|error| SettingsError::Range {
                flag: "levels",
                found: text.clone(),
                expected: error.to_string(),
            })?),
        };
        let tolerance = match self.tolerance.as_deref() {
            None => None,
            Some([both]) => Some((*both, *both)),
            Some([primal, dual]) => Some((*primal, *dual)),
            Some(list) => {
                let expected = "two numbers are needed: PRIMAL,DUAL".to_owned();
                return Err(SettingsError::Range { flag: "tolerance", found: join(list), expected });
            }
        };
        if let Some((primal, dual)) = tolerance {
            number("tolerance", primal, 0.0, 1.0)?;
            number("tolerance", dual, 0.0, 1.0)?;
        }
        let nu = number("nu", self.nu.unwrap_or(1e-4), 1e-12, 1e12)?;
        let penalties = self.penalties.unwrap_or_default();
        if penalties == PenaltyRule::Fixed && (self.penalty_growth.is_some() || self.nu_max.is_some()) {
            return Err(SettingsError::Contradiction(
                "--penalty-growth and --nu-max need --penalties adaptive".into(),
            ));
        }
        let nu_max = self.nu_max.unwrap_or(1.0);
        if penalties == PenaltyRule::Adaptive && nu > nu_max {
            return Err(SettingsError::Contradiction(format!(
                "--nu {nu} is above --nu-max {nu_max}: raise --nu-max or use --penalties fixed"
            )));
        }
        let nu_restart = match penalties {
            // Fixed penalties are fixed over all stages.
            PenaltyRule::Fixed => self.nu_restart.unwrap_or(nu),
            PenaltyRule::Adaptive => self.nu_restart.unwrap_or(nu_max.min(0.1)),
        };
        if penalties == PenaltyRule::Adaptive && nu_restart > nu_max {
            return Err(SettingsError::Contradiction(format!(
                "--nu-restart {nu_restart} is above --nu-max {nu_max}: raise --nu-max or use --penalties fixed"
            )));
        }
        let precision = self.precision.unwrap_or_default();
        let native = precision.wire();
        let wire = self.wire.unwrap_or(native);
        if wire == Wire::F64 && precision == Precision::F32 {
            return Err(SettingsError::Contradiction(
                "--wire f64 needs --precision f64: f32 numbers are no more precise for it".into(),
            ));
        }
        if quantize == Quantize::Pq && wire != native {
            return Err(SettingsError::Contradiction(format!(
                "--wire {wire} has nothing to act on with --quantize pq: both p and q travel as level indices"
            )));
        }
        let (auto_operators, operators) = match self.operators {
            Some(OperatorChoice::Auto) => (true, Operators::default()),
            Some(OperatorChoice::Given(operators)) => (false, operators),
            None => (false, Operators::default()),
        };
        if auto_operators && self.feature_norm.is_some() {
            return Err(SettingsError::Contradiction(
                "--operators auto chooses the scaling of features too: leave --feature-norm out, or name the operators"
                    .into(),
            ));
        }
        let settings = Settings {
            data: self.data.ok_or(SettingsError::Missing("data"))?,
            output: self
                .output
                .filter(|path| !path.as_os_str().is_empty())
                .ok_or(SettingsError::Missing("output"))?,
            split: self.split,
            auto_operators,
            operators,
            feature_norm: self.feature_norm.unwrap_or(FeatureNorm::None),
            layers,
            neurons: whole("neurons", self.neurons.unwrap_or(100), 1, MOST_NEURONS)?,
            stages,
            precision,
            seed: self.seed.unwrap_or(0),
            method,
            iterations: whole(
                "iterations",
                self.iterations.unwrap_or(method.iterations()),
                1,
                MOST_ITERATIONS,
            )?,
            rho: number("rho", self.rho.unwrap_or(nu), 1e-12, 1e12)?,
            nu,
            penalties,
            penalty_growth: number("penalty-growth", self.penalty_growth.unwrap_or(10.0), 1.0, 1e6)?,
            nu_max: number("nu-max", nu_max, 1e-12, 1e12)?,
            nu_restart: number("nu-restart", nu_restart, 1e-12, 1e12)?,
            mu: number("mu", self.mu.unwrap_or(0.01), 0.0, 1e12)?,
            mu_hidden: number("mu-hidden", self.mu_hidden.unwrap_or(0.0), 0.0, 1e12)?,
            proximal: number("proximal", self.proximal.unwrap_or(0.1), 0.0, 1e6)?,
            dropout: number("dropout", self.dropout.unwrap_or(method.dropout(layers)), 0.0, 0.99)?,
            learning_rate: match self.learning_rate {
                None => method.learning_rate(),
                Some(rate) => number("learning-rate", rate, 1e-12, 1e6)?,
            },
            weight_decay: number(
                "weight-decay",
                self.weight_decay.unwrap_or(method.weight_decay()),
                0.0,
                1e6,
            )?,
            patience: match self.patience {
                None => None,
                Some(evaluations) => Some(whole("patience", evaluations, 1, MOST_ITERATIONS)?),
            },
            subproblem: self.subproblem.unwrap_or(Subproblem::Auto),
            tolerance,
            quantize,
            bits: whole("bits", self.bits.unwrap_or(8) as usize, 1, 16)? as u32,
            spacing: self.spacing.unwrap_or_default(),
            coding: self.coding.unwrap_or_default(),
            levels,
            wire,
            runs: whole("runs", self.runs.unwrap_or(1), 1, MOST_RUNS)?,
            evaluate_every: whole("evaluate-every", self.evaluate_every.unwrap_or(1), 1, MOST_ITERATIONS)?,
            threads: whole("threads", self.threads.unwrap_or(1), 1, 1024)?,
            shards: self.shards.unwrap_or_default(),
            block_nodes: match self.block_nodes {
                None => None,
                Some(nodes) => Some(whole("block-nodes", nodes, 1, 1 << 40)?),
            },
            comm_timeout: self.comm_timeout.unwrap_or(3600),
            checkpoint_every: self.checkpoint_every.unwrap_or_default(),
            max_time: self.max_time.unwrap_or_default(),
        };
        let hidden_is_free = settings.mu_hidden == 0.0 && settings.layers > 2;
        // TOML has no larger numbers.
        if settings.seed.checked_add(settings.runs as u64 - 1).is_none_or(|last| last > i64::MAX as u64) {
            let expected =
                format!("the seeds of {} runs would pass the largest, {}", settings.runs, i64::MAX);
            return Err(SettingsError::Range { flag: "seed", found: settings.seed.to_string(), expected });
        }
        if (settings.mu == 0.0 || hidden_is_free)
            && settings.proximal == 0.0
            && settings.subproblem != Subproblem::Gradient
        {
            return Err(SettingsError::Contradiction(
                "--proximal 0 leaves the exact W of layers without decay undetermined: raise it, give all layers \
                 decay (--mu, --mu-hidden), or use --subproblem gradient"
                    .into(),
            ));
        }
        Ok(settings)
    }
}

impl Settings {
    /// What p and q that are on no level set are rounded to, in a run of this type; `None` where that changes nothing.
    pub fn rounding_wire<T: Element>(&self) -> Option<Wire> {
        (self.wire != Wire::native::<T>()).then_some(self.wire)
    }

    /// The settings as raw ones with every value spelled out, for `config.toml`; checking them gives these again.
    pub fn spelled_out(&self, split: &str) -> RawSettings {
        let is_admm = self.method == Method::Admm;
        let adaptive = is_admm && self.penalties == PenaltyRule::Adaptive;
        let rounded = self.quantize != Quantize::None;
        RawSettings {
            data: Some(self.data.clone()),
            output: Some(self.output.clone()),
            split: Some(split.to_owned()),
            operators: Some(match self.auto_operators {
                true => OperatorChoice::Auto,
                false => OperatorChoice::Given(self.operators.clone()),
            }),
            feature_norm: (!self.auto_operators).then_some(self.feature_norm),
            layers: Some(self.layers),
            neurons: Some(self.neurons),
            stages: is_admm.then(|| self.stages.clone()),
            precision: Some(self.precision),
            seed: Some(self.seed),
            optimizer: Some(self.method),
            iterations: Some(self.iterations),
            rho: is_admm.then_some(self.rho),
            nu: is_admm.then_some(self.nu),
            penalties: is_admm.then_some(self.penalties),
            penalty_growth: adaptive.then_some(self.penalty_growth),
            nu_max: adaptive.then_some(self.nu_max),
            nu_restart: is_admm.then_some(self.nu_restart),
            mu: is_admm.then_some(self.mu),
            mu_hidden: is_admm.then_some(self.mu_hidden),
            proximal: is_admm.then_some(self.proximal),
            dropout: Some(self.dropout),
            subproblem: is_admm.then_some(self.subproblem),
            tolerance: self.tolerance.map(|(primal, dual)| vec![primal, dual]),
            learning_rate: (!is_admm).then_some(self.learning_rate),
            weight_decay: (!is_admm).then_some(self.weight_decay),
            patience: self.patience,
            quantize: is_admm.then_some(self.quantize),
            bits: (rounded && self.levels.is_none()).then_some(self.bits),
            spacing: (rounded && self.levels.is_none()).then_some(self.spacing),
            coding: rounded.then_some(self.coding),
            levels: self.levels.as_ref().map(ToString::to_string),
            wire: is_admm.then_some(self.wire),
            runs: Some(self.runs),
            evaluate_every: Some(self.evaluate_every),
            threads: Some(self.threads),
            shards: is_admm.then_some(self.shards),
            block_nodes: self.block_nodes,
            comm_timeout: Some(self.comm_timeout),
            checkpoint_every: Some(self.checkpoint_every),
            max_time: Some(self.max_time),
        }
    }
}

fn join<A: ToString>(list: &[A]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn whole(flag: &'static str, found: usize, low: usize, high: usize) -> Result<usize, SettingsError> {
    if (low..=high).contains(&found) {
        return Ok(found);
    }
    let expected = format!("a whole number from {low} to {high} is needed");
    Err(SettingsError::Range { flag, found: found.to_string(), expected })
}

fn number(flag: &'static str, found: f64, low: f64, high: f64) -> Result<f64, SettingsError> {
    if found >= low && found <= high {
        return Ok(found);
    }
    let plain = |x: f64| if x == 0.0 || (1e-3..1e6).contains(&x) { x.to_string() } else { format!("{x:e}") };
    let expected = format!("a number from {} to {} is needed", plain(low), plain(high));
    Err(SettingsError::Range { flag, found: plain(found), expected })
}

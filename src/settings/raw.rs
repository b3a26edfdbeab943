//! The settings as they are given: by flags, which clap reads, over a TOML file, which serde reads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    CheckpointEvery, MaxTime, Method, OperatorChoice, PenaltyRule, Precision, Quantize, SettingsError, Start,
    times,
};
use crate::admm::Subproblem;
use crate::graph::FeatureNorm;
use crate::parallel::plan::Shards;
use crate::quantize::{Coding, Spacing, Wire};
use crate::storage::read_small;

/// Far above what all settings take.
const LARGEST_FILE: u64 = 1 << 20;

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
    /// Operators Ψ: hops (0,1,2,3), mean:K, ppr:ALPHA:TERMS, heat:T:TERMS, sum:C0:C1:…; or auto, to have them and the
    /// scaling of features chosen by validation accuracy in short runs [default: 0,1,2,3]
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
    /// What the first stage starts from [default: random; labels where the first of --stages has more than 2 layers,
    /// and with --operators auto]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub start: Option<Start>,
    /// ρ at the start of the first stage [default: --nu]
    #[arg(long, help_heading = "Algorithm")]
    pub rho: Option<f64>,
    /// ν at the start of the first stage [default: 0.0001, or 0.01 with --start labels]
    #[arg(long, help_heading = "Algorithm")]
    pub nu: Option<f64>,
    /// Whether ρ and ν grow when the loss stalls [default: adaptive]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub penalties: Option<PenaltyRule>,
    /// Factor by which ρ and ν grow [default: 3]
    #[arg(long, value_name = "FACTOR", help_heading = "Algorithm")]
    pub penalty_growth: Option<f64>,
    /// ν stops growing here [default: 1]
    #[arg(long, value_name = "NU", help_heading = "Algorithm")]
    pub nu_max: Option<f64>,
    /// ν at the start of the second and later stages [default: 0.1, or --nu-max if that is smaller; --nu with
    /// fixed penalties]
    #[arg(long, value_name = "NU", help_heading = "Algorithm")]
    pub nu_restart: Option<f64>,
    /// Weight decay μ of the first and the last layer [default: 0.05]
    #[arg(long, help_heading = "Algorithm")]
    pub mu: Option<f64>,
    /// Weight decay μ of the layers between [default: 0]
    #[arg(long, value_name = "MU", help_heading = "Algorithm")]
    pub mu_hidden: Option<f64>,
    /// Proximal term of the exact W of layers without decay, as a share of the mean eigenvalue of ν p pᵀ
    /// [default: 0.1, or 20 where the first of --stages has more than 2 layers]
    #[arg(long, value_name = "SHARE", help_heading = "Algorithm")]
    pub proximal: Option<f64>,
    /// Dropout rate: on the raw features, in closed form; with an optimizer other than admm on the inputs of all
    /// layers, at random [default: 0.3; with an optimizer other than admm 0.5 up to 3 layers, else 0]
    #[arg(long, value_name = "RATE", help_heading = "Algorithm")]
    pub dropout: Option<f64>,
    /// ζ: how far layer 1's weights of one feature are held together over the operators; 0: not at all; 1: all the same,
    /// up to their scale; with one operator it does nothing [default: 0.3]
    #[arg(long, value_name = "ZETA", help_heading = "Algorithm")]
    pub tie_operators: Option<f64>,
    /// ξ: how far layer 1's weights follow the covariance of the features over the whole graph, so that directions in which
    /// features vary count for more than others; 0: not at all [default: 10]
    #[arg(long, value_name = "XI", help_heading = "Algorithm")]
    pub follow_covariance: Option<f64>,
    /// Exponent γ: a training node counts (s/t)^γ in the loss, scaled to a mean of 1. t is the share of its class among the
    /// training nodes, s that among the validation nodes, whose classes are looked at, moved towards t as far as chance
    /// could explain the difference; 0: all alike [default: 1; 0 with an optimizer other than admm]
    #[arg(long, value_name = "GAMMA", help_heading = "Algorithm")]
    pub class_weights: Option<f64>,
    /// How p and W are solved [default: auto]
    #[arg(long, value_enum, help_heading = "Algorithm")]
    pub subproblem: Option<Subproblem>,
    /// Stop a stage when both residuals stay at or below these: PRIMAL,DUAL, relative [default: off]
    #[serde(deserialize_with = "one_or_more")]
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "PRIMAL,DUAL",
        value_delimiter = ',',
        help_heading = "Algorithm"
    )]
    pub tolerance: Option<Vec<f64>>,

    /// Learning rate of an optimizer other than admm [default: up to 3 layers adam 0.003, adagrad 0.01, gd 0.1, adadelta 1; deeper adam 0.001, gd 0.03, and adagrad and adadelta times 100/neurons where that is below 1]
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
    /// Give up when a neighbour is silent for so long, such as 10m or 600 (seconds); off or 0: never [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = times::parse_seconds, allow_hyphen_values = true, help_heading = "Run")]
    #[serde(deserialize_with = "times::read_seconds")]
    pub comm_timeout: Option<u64>,
    /// Time or iterations between checkpoints, such as 10m or 200it [default: off, only at a stop]
    #[arg(long, value_name = "TIME|Nit", allow_hyphen_values = true, help_heading = "Run")]
    pub checkpoint_every: Option<CheckpointEvery>,
    /// Stop after this time, such as 23h50m, with a checkpoint [default: off]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Run")]
    pub max_time: Option<MaxTime>,
}

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

    /// These settings where they are given, those of the TOML file elsewhere, if there is one.
    ///
    /// # Errors
    /// As [`RawSettings::from_file`].
    pub fn over_file(self, path: Option<&Path>) -> Result<Self, SettingsError> {
        match path {
            None => Ok(self),
            Some(path) => Ok(self.over(Self::from_file(path)?)),
        }
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
            start,
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
            tie_operators,
            follow_covariance,
            class_weights,
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
}

/// A number, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number, or a list of two such as [1e-4, 1e-3]")]
    enum Numbers {
        One(f64),
        More(Vec<f64>),
    }
    Ok(Some(match Numbers::deserialize(from)? {
        Numbers::One(number) => vec![number],
        Numbers::More(numbers) => numbers,
    }))
}

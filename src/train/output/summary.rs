//! What summary.json holds.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::storage::read_small;
use crate::timing::Phase;
use crate::train::by_rank::RankCost;
use crate::train::f1::F1;
use crate::train::operator_search::OperatorSummary;
use crate::train::usage::{MemorySummary, PhaseSummary};

/// Far above what the summaries of a thousand runs take.
const LARGEST_SUMMARY: u64 = 64 << 20;

/// Accuracies of the three sets, as shares of the nodes of known class; `None` where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Training.
    pub train: Option<f64>,
    /// Validation.
    pub val: Option<f64>,
    /// Test.
    pub test: Option<f64>,
}

/// The best evaluation; of an earlier stage where no later one was better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BestSummary {
    /// Its iteration, over all stages.
    pub iteration: u64,
    /// Validation accuracy.
    pub val: Option<f64>,
    /// Test accuracy.
    pub test: Option<f64>,
}

/// F1 of the test nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct F1Summary {
    /// Of the model of the best evaluation.
    pub best: F1,
    /// Of the model of the last iteration.
    pub last: F1,
}

/// Bytes put on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesSummary {
    /// Messages of p, headers and checksums included.
    pub p: u64,
    /// Messages of q.
    pub q: u64,
    /// 12 bytes an element, iteration and boundary between ranks.
    pub baseline: u64,
    /// Messages of p and q.
    pub messages: u64,
    /// The base line over p and q; `None` where there is nothing to compare, as with one rank.
    pub ratio: Option<f64>,
    /// Everything else between ranks: evaluation and stage starts.
    pub other: u64,
}

/// Wall time on rank 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondsSummary {
    /// From the start of the program's work to its end, reading and writing included.
    pub total: f64,
    /// Iterations and evaluations.
    pub train: f64,
    /// Writing messages, summed over ranks.
    pub encode: f64,
    /// Reading messages, summed over ranks.
    pub decode: f64,
    /// Waiting for other ranks, summed over ranks.
    pub wait: f64,
}

/// `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `finished`, `converged`, `early-stopped` or `diverged`.
    pub status: String,
    /// Why, in words.
    pub message: String,
    /// What trained the network, by the word of `--optimizer`.
    pub optimizer: String,
    /// Version of the program.
    pub version: String,
    /// Name of the data set.
    pub dataset: String,
    /// Checksum of its file; empty where an older version of the program wrote none.
    #[serde(default)]
    pub dataset_checksum: String,
    /// Split in use.
    pub split: String,
    /// Iterations over all stages.
    pub iterations: u64,
    /// Number of ranks.
    pub ranks: usize,
    /// Threads of each rank.
    pub threads: usize,
    /// L.
    pub layers: usize,
    /// Width of the hidden layers.
    pub neurons: usize,
    /// The seed.
    pub seed: u64,
    /// Ψ, the scaling of features, and how they were chosen.
    #[serde(default)]
    pub operators: OperatorSummary,
    /// Objective of the last iteration.
    #[serde(deserialize_with = "null_is_nan")]
    pub objective: f64,
    /// Augmented Lagrangian of the last iteration.
    #[serde(deserialize_with = "null_is_nan")]
    pub lagrangian: f64,
    /// Primal residual of the last iteration.
    #[serde(deserialize_with = "null_is_nan")]
    pub primal_residual: f64,
    /// Dual residual of the last iteration.
    #[serde(deserialize_with = "null_is_nan")]
    pub dual_residual: f64,
    /// Accuracies of the last iteration.
    pub accuracy: Accuracy,
    /// The best evaluation; of an earlier stage where no later one was better.
    pub best: BestSummary,
    /// F1 of the test nodes.
    pub f1: F1Summary,
    /// Bytes between ranks.
    pub bytes: BytesSummary,
    /// Wall time.
    pub seconds: SecondsSummary,
    /// Machines.
    #[serde(default)]
    pub hosts: usize,
    /// Peak memory of this part of the run.
    #[serde(default)]
    pub memory: MemorySummary,
    /// Time by phase, of this part of the run.
    #[serde(default)]
    pub phases: BTreeMap<Phase, PhaseSummary>,
    /// What an iteration cost each rank, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_rank: Vec<RankCost>,
}

impl Summary {
    /// Reads a `summary.json`.
    ///
    /// # Errors
    /// The file cannot be read, is above 64 MiB, or is no summary.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&Self::read_text(path)?)?)
    }

    /// The text of a `summary.json`, whatever it says.
    pub(in crate::train) fn read_text(path: &Path) -> io::Result<Vec<u8>> {
        read_small(path, LARGEST_SUMMARY)
    }
}

/// JSON has no NaN and no infinity: they are written as null.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// How many times fewer bytes than the base line p and q took; `None` where nothing was sent.
pub fn ratio(baseline: u64, p: u64, q: u64) -> Option<f64> {
    (p + q > 0).then(|| baseline as f64 / (p + q) as f64)
}

//! The manifest of a checkpoint of the ADMM: what all ranks share, and which files hold the rest.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sealed::{self, Exact, PartEntry};
use super::{CheckpointError, CheckpointFolder};
use crate::admm::Penalties;
use crate::quantize::PowerRange;
use crate::train::best::Evaluation;
use crate::train::evaluate::Scores;
use crate::train::patience::Patience;
use crate::train::reduction::Slots;
use crate::train::schedule::Progress;
use crate::train::state::RUN_STATE_VERSION;

const FORMAT: &str = "gamlp-checkpoint";

/// [`Evaluation`] in plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptEvaluation {
    iteration: u64,
    scores: [Exact; Scores::COUNT],
}

impl From<Evaluation> for KeptEvaluation {
    fn from(evaluation: Evaluation) -> Self {
        Self { iteration: evaluation.iteration, scores: evaluation.scores.to_array().map(Exact) }
    }
}

impl From<KeptEvaluation> for Evaluation {
    fn from(kept: KeptEvaluation) -> Self {
        Self { iteration: kept.iteration, scores: Scores::from_array(kept.scores.map(|score| score.0)) }
    }
}

/// [`Progress`] in plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptProgress {
    rho: Exact,
    nu: Exact,
    last_loss: Exact,
    stalls: usize,
    since_change: usize,
    met: usize,
}

impl From<Progress> for KeptProgress {
    fn from(progress: Progress) -> Self {
        let Progress { penalties: Penalties { rho, nu }, last_loss, stalls, since_change, met } = progress;
        let (rho, nu, last_loss) = (Exact(rho), Exact(nu), Exact(last_loss));
        Self { rho, nu, last_loss, stalls, since_change, met }
    }
}

impl From<KeptProgress> for Progress {
    fn from(kept: KeptProgress) -> Self {
        let KeptProgress { rho, nu, last_loss, stalls, since_change, met } = kept;
        let penalties = Penalties { rho: rho.0, nu: nu.0 };
        Self { penalties, last_loss: last_loss.0, stalls, since_change, met }
    }
}

/// Everything of a checkpoint that is the same on all ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// The settings that decide the result, as TOML.
    pub settings: String,
    /// Name of the data set.
    pub dataset: String,
    /// Checksum of its file.
    pub dataset_checksum: String,
    /// Stage, from 1.
    pub stage: usize,
    /// Iterations done in it.
    pub stage_iteration: usize,
    /// Shards of nodes in it.
    pub shards: usize,
    /// Iterations done over all stages.
    pub iteration: u64,
    /// ρ and ν of the last iteration.
    pub penalties: [Exact; 2],
    /// What the penalty rule has counted.
    pub progress: KeptProgress,
    /// What `--patience` has counted.
    pub patience: Patience,
    /// Exponents of the ranges of p, by boundary.
    pub p_exponents: Vec<i32>,
    /// Exponents of the ranges of q, by boundary.
    pub q_exponents: Vec<i32>,
    /// The best evaluation of the stage so far.
    pub best: Option<KeptEvaluation>,
    /// The last evaluation that was settled.
    pub last_scores: Option<KeptEvaluation>,
    /// The sums of the last iteration, which the next one will settle.
    pub sums: Vec<Exact>,
    /// Seconds of training at the last iteration.
    pub row_seconds: Exact,
    /// Seconds spent so far: training, encoding, decoding, waiting.
    pub seconds: [Exact; 4],
    /// The files, by layer.
    pub parts: Vec<PartEntry>,
}

impl Manifest {
    /// The fields in one place, for who writes a checkpoint.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        settings: String,
        dataset: (String, String),
        [stage, stage_iteration]: [usize; 2],
        shards: usize,
        iteration: u64,
        penalties: Penalties,
        progress: Progress,
        patience: Patience,
        [p_ranges, q_ranges]: [&[PowerRange]; 2],
        best: Option<Evaluation>,
        last_scores: Option<Evaluation>,
        sums: Vec<f64>,
        row_seconds: f64,
        seconds: [f64; 4],
        parts: Vec<PartEntry>,
    ) -> Self {
        let exponents = |ranges: &[PowerRange]| ranges.iter().map(|range| range.exponent()).collect();
        Self {
            format: FORMAT.to_owned(),
            version: RUN_STATE_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            settings,
            dataset: dataset.0,
            dataset_checksum: dataset.1,
            stage,
            stage_iteration,
            shards,
            iteration,
            penalties: [Exact(penalties.rho), Exact(penalties.nu)],
            progress: progress.into(),
            patience,
            p_exponents: exponents(p_ranges),
            q_exponents: exponents(q_ranges),
            best: best.map(KeptEvaluation::from),
            last_scores: last_scores.map(KeptEvaluation::from),
            sums: sums.into_iter().map(Exact).collect(),
            row_seconds: Exact(row_seconds),
            seconds: seconds.map(Exact),
            parts,
        }
    }

    /// From its bytes, which are those of a file in `folder`.
    ///
    /// # Errors
    /// Not the manifest of a checkpoint of the ADMM.
    pub fn parse(folder: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        sealed::parse(folder, bytes, FORMAT)
    }

    /// Holds its numbers to each other and to the stages of the run: layers of each, iterations, and blocks of training
    /// nodes.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(
        &self,
        folder: &Path,
        stages: &[usize],
        iterations: usize,
        blocks: usize,
    ) -> Result<(), CheckpointError> {
        let path = CheckpointFolder::manifest(folder);
        let hold = |what: &str, is: bool, found: String| match is {
            true => Ok(()),
            false => Err(CheckpointError::damaged(&path, what, found)),
        };
        let layers = self.stage.checked_sub(1).and_then(|at| stages.get(at)).copied();
        hold("a stage of the run", layers.is_some(), self.stage.to_string())?;
        let layers = layers.unwrap_or(0);
        let counts = [self.stage_iteration as u64, self.iteration];
        let before = (self.stage as u64 - 1).saturating_mul(iterations as u64);
        hold(
            "iterations of the run",
            (1..=iterations as u64).contains(&counts[0])
                && (counts[0]..=before.saturating_add(counts[0])).contains(&counts[1]),
            format!("{} of the stage, {} in all", counts[0], counts[1]),
        )?;
        let positive = |x: &Exact| x.0 > 0.0 && x.0.is_finite();
        let Progress { penalties: Penalties { rho, nu }, .. } = self.progress.into();
        let all = [self.penalties[0], self.penalties[1], Exact(rho), Exact(nu)];
        hold("penalties above 0", all.iter().all(positive), format!("{:?}", all.map(|x| x.0)))?;
        for exponents in [&self.p_exponents, &self.q_exponents] {
            let fit = exponents.len() == layers - 1
                && exponents.iter().all(|&exponent| PowerRange::of_exponent(exponent).is_some());
            hold("a range for each boundary", fit, format!("{} of them", exponents.len()))?;
        }
        let shards = self.shards;
        let sound = shards.is_power_of_two() && shards <= blocks && self.parts.len() >= shards;
        hold("a number of shards", sound, shards.to_string())?;
        let (expected, found) = (self.slots(layers).count(), self.sums.len());
        hold("the sums of all layers", found == expected, format!("{found} numbers, not {expected}"))?;
        for shard in 0..shards {
            let mut next = (0, 1);
            for part in self.parts.iter().filter(|part| part.shard == shard) {
                let follows = part.rank >= next.0
                    && part.rank < layers * shards
                    && part.first == next.1
                    && part.last >= part.first;
                hold("files that follow on each other", follows && part.last <= layers, format!("{part:?}"))?;
                next = (part.rank + 1, part.last + 1);
            }
            hold("files for all layers", next.1 == layers + 1, format!("layers up to {}", next.1 - 1))?;
        }
        let stray = self.parts.iter().find(|part| part.shard >= shards);
        hold("files of these shards", stray.is_none(), format!("{stray:?}"))
    }

    /// Where everything is in the sums.
    pub fn slots(&self, layers: usize) -> Slots {
        Slots { layers, shards: self.shards }
    }

    /// Ranges of p or q, by boundary.
    pub fn ranges(exponents: &[i32]) -> Vec<PowerRange> {
        exponents.iter().filter_map(|&exponent| PowerRange::of_exponent(exponent)).collect()
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

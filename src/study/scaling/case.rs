//! The runs of a study of scaling.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{ScalingError, ScalingStudy};
use crate::parallel::plan::Shards;
use crate::settings::RawSettings;

/// Kinds of scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One network on more and more ranks (the paper's Figure 4)
    Strong,
    /// Deeper and deeper networks, on one rank and on a rank a layer (Figure 3)
    Layers,
    /// More and more nodes, on a rank for each share of them
    Weak,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Strong => "strong",
            Mode::Layers => "layers",
            Mode::Weak => "weak",
        }
    }
}

/// The data sets of weak scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeakSizes {
    /// Training nodes a rank.
    pub nodes: usize,
    /// Features.
    pub features: usize,
    /// Classes.
    pub classes: usize,
}

/// One network on one number of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it belongs to.
    pub mode: Mode,
    /// L.
    pub layers: usize,
    /// Ranks.
    pub ranks: usize,
}

/// L where nothing is said.
const LAYERS: usize = 10;
/// Iterations where nothing is said: enough for a mean over the nine that are measured.
const ITERATIONS: usize = 12;

impl Case {
    /// Its word in folders and tables.
    pub fn name(&self) -> String {
        format!("{}-{}-layers-{}-ranks", self.mode.word(), self.layers, self.ranks)
    }

    /// Where weak scaling keeps its data set.
    pub fn data(&self, folder: &Path) -> PathBuf {
        folder.join(format!("weak-{}.h5", self.ranks))
    }

    /// The settings, with a placeholder for the output folder.
    pub fn settings(&self, study: &ScalingStudy, folder: &Path) -> RawSettings {
        let iterations = study.base.iterations.unwrap_or(ITERATIONS);
        let mut raw = RawSettings {
            layers: Some(self.layers),
            stages: Some(vec![self.layers]),
            iterations: Some(iterations),
            // The last iteration is evaluated in any case.
            evaluate_every: Some(study.base.evaluate_every.unwrap_or(iterations)),
            output: Some(folder.join(self.name())),
            ..study.base.clone()
        };
        if self.mode == Mode::Weak {
            raw.data = Some(self.data(folder));
            raw.split = None;
            raw.shards = Some(Shards::Of(self.ranks));
            // The same blocks a rank, however many ranks.
            raw.block_nodes = Some(raw.block_nodes.unwrap_or(study.weak.nodes));
        }
        raw
    }
}

/// All cases, in the order in which they run.
///
/// # Errors
/// Ranks that weak scaling cannot use.
pub(super) fn cases(study: &ScalingStudy) -> Result<Vec<Case>, ScalingError> {
    let layers = study.base.layers.unwrap_or(LAYERS);
    let mut cases: Vec<Case> = Vec::new();
    for &mode in &study.modes {
        match mode {
            Mode::Strong => cases.extend(study.ranks.iter().map(|&ranks| Case { mode, layers, ranks })),
            Mode::Layers => cases.extend(
                study.depths.iter().flat_map(|&layers| [1, layers].map(|ranks| Case { mode, layers, ranks })),
            ),
            Mode::Weak => {
                for &ranks in &study.ranks {
                    if !ranks.is_power_of_two() {
                        return Err(ScalingError::Ranks(ranks));
                    }
                    cases.push(Case { mode, layers, ranks });
                }
            }
        }
    }
    let mut unique: Vec<Case> = Vec::new();
    for case in cases {
        if !unique.contains(&case) {
            unique.push(case);
        }
    }
    Ok(unique)
}

//! Settings that are one of a few words.

use serde::{Deserialize, Serialize};

use crate::quantize::Wire;

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

/// What the first stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Random weights of the first and the last layer.
    Random,
    /// Activations made from the classes of the training nodes.
    Labels,
}

impl Start {
    /// The default of `--start`: signals take many iterations through layers that have learnt nothing, so that a deep
    /// first stage wants activations that make sense at once.
    pub(super) fn of_stages(stages: &[usize]) -> Self {
        if stages.first().is_some_and(|&layers| layers > 2) { Start::Labels } else { Start::Random }
    }

    /// The default of `--nu` where ν may grow to `largest`: with labels there is something to hold on to.
    pub(super) fn nu(self, largest: f64) -> f64 {
        match self {
            Start::Random => 1e-4,
            Start::Labels => largest.min(0.01),
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

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

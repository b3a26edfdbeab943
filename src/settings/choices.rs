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
    /// first stage wants activations that make sense at once; and with operators that are chosen by short runs two layers
    /// learn more from labels (docs/accuracy.md, "Operators chosen").
    pub(super) fn default_of(stages: &[usize], auto_operators: bool) -> Self {
        let is_deep = stages.first().is_some_and(|&layers| layers > 2);
        if is_deep || auto_operators { Start::Labels } else { Start::Random }
    }

    /// The default of `--nu` under this `--nu-max`: with labels there is something to hold on to.
    pub(super) fn default_nu(self, nu_max: f64) -> f64 {
        match self {
            Start::Random => nu_max.min(1e-4),
            Start::Labels => nu_max.min(0.01),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RawSettings;
    use super::*;

    #[test]
    fn deep_first_stages_start_from_labels() {
        let of = |text: &str| {
            let raw: RawSettings = toml::from_str(&format!("data = 'x'\noutput = 'y'\n{text}")).unwrap();
            let settings = raw.check().unwrap();
            (settings.start, settings.nu)
        };
        assert_eq!(of(""), (Start::Random, 1e-4));
        assert_eq!(of("operators = 'auto'"), (Start::Labels, 0.01));
        assert_eq!(of("operators = 'auto'\nstart = 'random'"), (Start::Random, 1e-4));
        assert_eq!(of("stages = [10]"), (Start::Labels, 0.01));
        assert_eq!(of("stages = [10]\nnu = 0.5"), (Start::Labels, 0.5));
        assert_eq!(of("stages = [10]\nstart = 'random'"), (Start::Random, 1e-4));
        assert_eq!(of("stages = [2, 10]\nstart = 'labels'"), (Start::Labels, 0.01));
        assert_eq!(of("stages = [10]\nnu-max = 1e-3"), (Start::Labels, 1e-3));
        assert_eq!(of("nu-max = 1e-5"), (Start::Random, 1e-5));
        let raw: RawSettings =
            toml::from_str("data = 'x'\noutput = 'y'\noptimizer = 'adam'\nstart = 'labels'").unwrap();
        assert!(raw.check().unwrap_err().to_string().contains("--start has no meaning for --optimizer adam"));
    }
}

//! The choice between pdADMM-G and the methods it is compared with: defaults, and which settings belong to which.

use serde::{Deserialize, Serialize};

use super::{RawSettings, SettingsError};
use crate::backprop::Rule;

/// Most layers of a network that takes the settings of shallow ones by backpropagation.
const SHALLOW: usize = 3;

/// Ends an error about a setting that the user may not have typed.
pub(super) const MAY_COME_FROM_A_FILE: &str =
    " (a setting may also come from the file of --config, or from the run that goes on)";

/// What trains the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// pdADMM-G or pdADMM-G-Q.
    #[default]
    Admm,
    /// Full-batch gradient descent by backpropagation.
    Gd,
    /// Adadelta, full batch.
    Adadelta,
    /// Adagrad, full batch.
    Adagrad,
    /// Adam, full batch.
    Adam,
}

impl Method {
    /// The update rule; none for the ADMM.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Method::Admm => None,
            Method::Gd => Some(Rule::Gd),
            Method::Adadelta => Some(Rule::Adadelta),
            Method::Adagrad => Some(Rule::Adagrad),
            Method::Adam => Some(Rule::Adam),
        }
    }

    /// The word that `--optimizer` takes.
    pub fn word(self) -> &'static str {
        match self {
            Method::Admm => "admm",
            Method::Gd => "gd",
            Method::Adadelta => "adadelta",
            Method::Adagrad => "adagrad",
            Method::Adam => "adam",
        }
    }

    /// The default of `--learning-rate`, by validation accuracy on Cora, PubMed and Amazon Computers, whose features are
    /// large (docs/accuracy.md, learning rates). Above 3 layers adam and gd take smaller steps; there adagrad and adadelta
    /// do above 100 neurons, where their rates of narrower networks learnt worst.
    pub(super) fn learning_rate(self, layers: usize, neurons: usize) -> f64 {
        let is_shallow = layers <= SHALLOW;
        let by_width = if is_shallow { 1.0 } else { (100.0 / neurons as f64).min(1.0) };
        match self {
            Method::Admm => 0.0,
            Method::Gd if is_shallow => 0.1,
            Method::Gd => 0.03,
            Method::Adadelta => by_width,
            Method::Adagrad => 0.01 * by_width,
            Method::Adam if is_shallow => 0.003,
            Method::Adam => 0.001,
        }
    }

    /// The default of `--weight-decay`.
    pub(super) fn weight_decay(self) -> f64 {
        if self == Method::Admm { 0.0 } else { 5e-4 }
    }

    /// The default of `--class-weights`.
    pub(super) fn class_weights(self) -> f64 {
        if self == Method::Admm { 1.0 } else { 0.0 }
    }

    /// The default of `--dropout`. Random masks on every layer help shallow networks most, and stop deep ones from
    /// learning: 10 layers come to the accuracy of chance with 0.5.
    pub(super) fn dropout(self, layers: usize) -> f64 {
        match self {
            Method::Admm => 0.3,
            _ if layers <= SHALLOW => 0.5,
            _ => 0.0,
        }
    }

    /// The default of `--iterations`: as many as the three default stages of the ADMM take together.
    pub(super) fn iterations(self) -> usize {
        if self == Method::Admm { 200 } else { 600 }
    }
}

/// Refuses settings that belong to the other kind of method.
pub(super) fn check_belongs(raw: &RawSettings, method: Method) -> Result<(), SettingsError> {
    let of_the_admm = [
        ("stages", raw.stages.is_some()),
        ("start", raw.start.is_some()),
        ("rho", raw.rho.is_some()),
        ("nu", raw.nu.is_some()),
        ("penalties", raw.penalties.is_some()),
        ("penalty-growth", raw.penalty_growth.is_some()),
        ("nu-max", raw.nu_max.is_some()),
        ("nu-restart", raw.nu_restart.is_some()),
        ("mu", raw.mu.is_some()),
        ("mu-hidden", raw.mu_hidden.is_some()),
        ("proximal", raw.proximal.is_some()),
        ("tie-operators", raw.tie_operators.is_some()),
        ("follow-covariance", raw.follow_covariance.is_some()),
        ("subproblem", raw.subproblem.is_some()),
        ("tolerance", raw.tolerance.is_some()),
        ("quantize", raw.quantize.is_some()),
        ("bits", raw.bits.is_some()),
        ("spacing", raw.spacing.is_some()),
        ("levels", raw.levels.is_some()),
        ("coding", raw.coding.is_some()),
        ("wire", raw.wire.is_some()),
        ("shards", raw.shards.is_some()),
    ];
    let of_backpropagation =
        [("learning-rate", raw.learning_rate.is_some()), ("weight-decay", raw.weight_decay.is_some())];
    let word = method.word();
    let given =
        |list: &[(&'static str, bool)]| list.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
    match method {
        Method::Admm => given(&of_backpropagation).map_or(Ok(()), |flag| {
            Err(SettingsError::Contradiction(format!(
                "--{flag} has no meaning for --optimizer admm: leave it out, or choose gd, adadelta, adagrad or adam{MAY_COME_FROM_A_FILE}"
            )))
        }),
        _ => given(&of_the_admm).map_or(Ok(()), |flag| {
            Err(SettingsError::Contradiction(format!(
                "--{flag} has no meaning for --optimizer {word}: it belongs to the ADMM; leave it out{MAY_COME_FROM_A_FILE}"
            )))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rates_fall_with_depth_and_width() {
        for method in [Method::Gd, Method::Adadelta, Method::Adagrad, Method::Adam] {
            let rate = |layers, neurons| method.learning_rate(layers, neurons);
            assert!((2..=SHALLOW).all(|layers| rate(layers, 1) == rate(2, 5000)), "{method:?}");
            assert!(rate(SHALLOW + 1, 1) == rate(1000, 100), "{method:?}: deep networks are alike");
            assert!(rate(10, 100) <= rate(2, 100) && rate(10, 500) <= rate(10, 100), "{method:?}");
        }
        assert_eq!(Method::Adagrad.learning_rate(10, 500), 0.002);
        assert_eq!(Method::Adadelta.learning_rate(10, 500), 0.2);
        assert_eq!(Method::Adam.learning_rate(10, 500), 0.001);
    }
}

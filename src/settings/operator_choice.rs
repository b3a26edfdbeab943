//! `--operators`: a list, or `auto`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::graph::{OperatorError, Operators};

/// The word that leaves the choice of Ψ and of the features' scaling to validation accuracy.
const AUTO: &str = "auto";

/// What `--operators` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OperatorChoice {
    /// Short runs on the data choose before training.
    Auto,
    /// These.
    Given(Operators),
}

impl FromStr for OperatorChoice {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Self, OperatorError> {
        match text.trim() {
            AUTO => Ok(Self::Auto),
            list => list.parse().map(Self::Given),
        }
    }
}

impl TryFrom<String> for OperatorChoice {
    type Error = OperatorError;

    fn try_from(text: String) -> Result<Self, OperatorError> {
        text.parse()
    }
}

impl From<OperatorChoice> for String {
    fn from(choice: OperatorChoice) -> String {
        choice.to_string()
    }
}

impl fmt::Display for OperatorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Given(operators) => operators.fmt(f),
        }
    }
}

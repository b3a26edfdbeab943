//! The operators Ψ: each is a polynomial in Ã.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The highest power of Ã that an operator may use.
pub const HIGHEST_POWER: usize = 64;

/// The largest weight of a power in `sum:…`, far above any use.
const LARGEST_WEIGHT: f64 = 1e6;

/// ψ = Σ_j c_j Ã^j.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    name: String,
    coefficients: Vec<f64>,
}

/// Ψ, in the order in which the augmented features are stacked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operators(Vec<Operator>);

/// How the raw features H are scaled before the operators are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FeatureNorm {
    /// As they are in the file.
    #[default]
    None,
    /// Each node's features divided by the sum of their absolute values.
    Row,
    /// Each feature divided by its root mean square over all nodes.
    Column,
}

impl FeatureNorm {
    /// The name it is written by.
    pub fn name(self) -> &'static str {
        match self {
            FeatureNorm::None => "none",
            FeatureNorm::Row => "row",
            FeatureNorm::Column => "column",
        }
    }
}

/// Operators that cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "operator '{found}' is not usable: {why}; write a comma-separated list of hops (0,1,2,3), mean:K, ppr:ALPHA:TERMS, heat:T:TERMS or sum:C0:C1:…; train also knows auto, alone"
)]
pub struct OperatorError {
    found: String,
    why: String,
}

impl Operator {
    /// ψ = Σ_j c_j Ã^j under a name.
    ///
    /// # Errors
    /// No coefficient, too many, or one that is not finite.
    pub fn new(name: &str, coefficients: Vec<f64>) -> Result<Self, OperatorError> {
        let fail = |why: String| OperatorError { found: name.to_owned(), why };
        if coefficients.is_empty() || coefficients.len() > HIGHEST_POWER + 1 {
            return Err(fail(format!("it needs 1 to {} coefficients", HIGHEST_POWER + 1)));
        }
        if !coefficients.iter().all(|c| c.is_finite()) {
            return Err(fail("a coefficient is not finite".into()));
        }
        Ok(Self { name: name.to_owned(), coefficients })
    }

    /// The name it is written by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// c_0, c_1, …: the weight of each power of Ã.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }
}

impl FromStr for Operator {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Self, OperatorError> {
        let text = text.trim();
        let fail = |why: &str| OperatorError { found: text.to_owned(), why: why.to_owned() };
        let parts: Vec<&str> = text.split(':').collect();
        let terms = |part: &str| match part.parse::<usize>() {
            Ok(k) if k <= HIGHEST_POWER => Ok(k),
            _ => Err(fail(&format!("powers of the adjacency are whole numbers from 0 to {HIGHEST_POWER}"))),
        };
        let number = |part: &str, low: f64, high: f64, what: &str| match part.parse::<f64>() {
            Ok(x) if x > low && x <= high => Ok(x),
            _ => Err(fail(&format!("{what} lies above {low} and at most at {high}"))),
        };
        let coefficients = match parts.as_slice() {
            ["I"] => vec![1.0],
            ["ppr", alpha, k] => {
                let (alpha, k) = (number(alpha, 0.0, 1.0, "ALPHA")?, terms(k)?);
                let mut c: Vec<f64> = (0..=k).map(|j| alpha * (1.0 - alpha).powi(j as i32)).collect();
                // The last term takes the rest of the series, so that the weights add up to 1.
                c[k] /= alpha;
                c
            }
            ["heat", t, k] => {
                let (t, k) = (number(t, 0.0, 20.0, "T")?, terms(k)?);
                let mut c = vec![(-t).exp()];
                (1..=k).for_each(|j| c.push(c[j - 1] * t / j as f64));
                c
            }
            ["mean", k] => {
                let k = terms(k)?;
                vec![1.0 / (k + 1) as f64; k + 1]
            }
            ["sum", weights @ ..] => {
                let weight = |part: &&str| number(part, -LARGEST_WEIGHT, LARGEST_WEIGHT, "a weight");
                let c = weights.iter().map(weight).collect::<Result<Vec<f64>, _>>()?;
                match c.iter().any(|c| *c != 0.0) {
                    true => c,
                    false => return Err(fail("it needs a weight that is not 0")),
                }
            }
            ["ppr" | "heat", ..] => {
                return Err(fail("it needs two numbers, such as ppr:0.1:10 or heat:2:10"));
            }
            [word] if word.parse::<f64>().is_err() => {
                return Err(fail("it is neither a power of the adjacency nor a known name"));
            }
            [hop] | ["hop", hop] => {
                let k = terms(hop)?;
                let mut c = vec![0.0; k + 1];
                c[k] = 1.0;
                c
            }
            _ => return Err(fail("it is not known")),
        };
        Operator::new(text, coefficients)
    }
}

impl Operators {
    /// A list of operators.
    ///
    /// # Errors
    /// The list is empty or longer than 64.
    pub fn new(list: Vec<Operator>) -> Result<Self, OperatorError> {
        if list.is_empty() || list.len() > 64 {
            return Err(OperatorError {
                found: format!("{} operators", list.len()),
                why: "1 to 64 are needed".into(),
            });
        }
        Ok(Self(list))
    }

    /// The operators in order.
    pub fn list(&self) -> &[Operator] {
        &self.0
    }

    /// K.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The highest power of Ã in use.
    pub fn degree(&self) -> usize {
        self.0.iter().map(|psi| psi.coefficients.len() - 1).max().unwrap_or(0)
    }
}

impl Default for Operators {
    /// Ψ = {I, Ã, Ã², Ã³}, the paper's default.
    fn default() -> Self {
        let hop = |k: usize| {
            let mut coefficients = vec![0.0; k + 1];
            coefficients[k] = 1.0;
            Operator { name: k.to_string(), coefficients }
        };
        Self((0..4).map(hop).collect())
    }
}

impl FromStr for Operators {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Self, OperatorError> {
        Self::new(text.split(',').map(Operator::from_str).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<String> for Operators {
    type Error = OperatorError;

    fn try_from(text: String) -> Result<Self, OperatorError> {
        text.parse()
    }
}

impl From<Operators> for String {
    fn from(operators: Operators) -> String {
        operators.to_string()
    }
}

impl fmt::Display for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(Operator::name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0,1,2,3", "I,ppr:0.1:10,heat:2:8,mean:3,sum:1:3:-0.5"] {
            let operators: Operators = text.parse().unwrap();
            assert_eq!(operators.to_string(), text);
        }
        assert_eq!("0,1,2,3".parse::<Operators>().unwrap(), Operators::default());
    }

    #[test]
    fn weights_of_averages_add_up_to_one() {
        for text in ["ppr:0.1:10", "mean:3"] {
            let psi: Operator = text.parse().unwrap();
            assert!((psi.coefficients().iter().sum::<f64>() - 1.0).abs() < 1e-12, "{text}");
        }
    }

    #[test]
    fn a_sum_has_the_weights_that_are_written() {
        assert_eq!("sum:1:3:-0.5".parse::<Operator>().unwrap().coefficients(), [1.0, 3.0, -0.5]);
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_that_exist() {
        for text in [
            "",
            "x",
            "-1",
            "65",
            "ppr:0:3",
            "ppr:0.1",
            "heat:1:999",
            "1,,2",
            "mean:a",
            "sum",
            "sum:0:0",
            "sum:1:nan",
            "sum:1:",
            "sum:1:1e9",
        ] {
            let error = text.parse::<Operators>().unwrap_err().to_string();
            assert!(error.contains("ppr:ALPHA:TERMS"), "{text}: {error}");
        }
    }
}

//! From raw settings to checked ones, and back to raw ones with every value spelled out.

use super::method::{self, Method};
use super::{OperatorChoice, PenaltyRule, Precision, Quantize, RawSettings, Settings, SettingsError, Start};
use crate::admm::Subproblem;
use crate::graph::Operators;
use crate::quantize::{LevelSet, Wire};

/// The largest numbers that settings may ask for: far above any use, far below what would overflow.
const MOST_LAYERS: usize = 1000;
const MOST_NEURONS: usize = 1 << 20;
const MOST_ITERATIONS: usize = 10_000_000;
const MOST_RUNS: usize = 1000;

impl RawSettings {
    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    /// A value out of range, a required one that is absent, or two that contradict each other.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let method = self.optimizer.unwrap_or_default();
        method::check_belongs(&self, method)?;
        let layers = self.layers.or_else(|| self.stages.as_ref()?.last().copied()).unwrap_or(10);
        whole("layers", layers, 2, MOST_LAYERS)?;
        let stages = match self.stages {
            None if method != Method::Admm => vec![layers],
            None => [2, 5].into_iter().filter(|&l| l < layers).chain([layers]).collect(),
            Some(stages) => {
                let text = join(&stages);
                if stages.first().is_none_or(|&l| l < 2) || stages.windows(2).any(|w| w[0] >= w[1]) {
                    let expected = "stages rise from at least 2 layers, such as 2,5,10".to_owned();
                    return Err(SettingsError::Range { flag: "stages", found: text, expected });
                }
                if stages.last() != Some(&layers) {
                    return Err(SettingsError::Contradiction(format!(
                        "--stages {text} ends with another number of layers than --layers {layers}: make them equal \
                         or leave one out{}",
                        method::MAY_COME_FROM_A_FILE
                    )));
                }
                stages
            }
        };
        let quantize = self.quantize.unwrap_or_default();
        let level_flags = [
            ("--bits", self.bits.is_some()),
            ("--spacing", self.spacing.is_some()),
            ("--levels", self.levels.is_some()),
            ("--coding", self.coding.is_some()),
        ];
        for (flag, given) in level_flags {
            if given && quantize == Quantize::None {
                return Err(SettingsError::Contradiction(format!("{flag} needs --quantize p, q or pq")));
            }
            if given && self.levels.is_some() && matches!(flag, "--bits" | "--spacing") {
                let message = format!("{flag} and --levels contradict each other: give one of them");
                return Err(SettingsError::Contradiction(message));
            }
        }
        let levels = match &self.levels {
            None => None,
            Some(text) => Some(text.parse::<LevelSet>().map_err(|error| SettingsError::Range {
                flag: "levels",
                found: text.clone(),
                expected: error.to_string(),
            })?),
        };
        let tolerance = match self.tolerance.as_deref() {
            None => None,
            Some([both]) => Some((*both, *both)),
            Some([primal, dual]) => Some((*primal, *dual)),
            Some(list) => {
                let expected = "one number for both, or PRIMAL,DUAL".to_owned();
                return Err(SettingsError::Range { flag: "tolerance", found: join(list), expected });
            }
        };
        if let Some((primal, dual)) = tolerance {
            number("tolerance", primal, 0.0, 1.0)?;
            number("tolerance", dual, 0.0, 1.0)?;
        }
        let auto_operators = matches!(self.operators, Some(OperatorChoice::Auto));
        let start = self.start.unwrap_or(Start::default_of(&stages, auto_operators));
        let nu_max = number("nu-max", self.nu_max.unwrap_or(1.0), 1e-12, 1e12)?;
        let nu = number("nu", self.nu.unwrap_or(start.default_nu(nu_max)), 1e-12, 1e12)?;
        let penalties = self.penalties.unwrap_or_default();
        if penalties == PenaltyRule::Fixed && (self.penalty_growth.is_some() || self.nu_max.is_some()) {
            return Err(SettingsError::Contradiction(
                "--penalty-growth and --nu-max need --penalties adaptive".into(),
            ));
        }
        if penalties == PenaltyRule::Adaptive && nu > nu_max {
            return Err(SettingsError::Contradiction(format!(
                "--nu {nu} is above --nu-max {nu_max}: raise --nu-max or use --penalties fixed"
            )));
        }
        let nu_restart = match penalties {
            // Fixed penalties are fixed over all stages.
            PenaltyRule::Fixed => self.nu_restart.unwrap_or(nu),
            PenaltyRule::Adaptive => self.nu_restart.unwrap_or(nu_max.min(0.1)),
        };
        if penalties == PenaltyRule::Adaptive && nu_restart > nu_max {
            return Err(SettingsError::Contradiction(format!(
                "--nu-restart {nu_restart} is above --nu-max {nu_max}: raise --nu-max or use --penalties fixed"
            )));
        }
        let precision = self.precision.unwrap_or_default();
        let native = precision.wire();
        let wire = self.wire.unwrap_or(native);
        if wire == Wire::F64 && precision == Precision::F32 {
            return Err(SettingsError::Contradiction(
                "--wire f64 needs --precision f64: f32 numbers are no more precise for it".into(),
            ));
        }
        if quantize == Quantize::Pq && wire != native {
            return Err(SettingsError::Contradiction(format!(
                "--wire {wire} has nothing to act on with --quantize pq: both p and q travel as level indices"
            )));
        }
        let operators = match self.operators {
            Some(OperatorChoice::Given(operators)) => operators,
            Some(OperatorChoice::Auto) | None => Operators::default(),
        };
        if auto_operators && self.feature_norm.is_some() {
            return Err(SettingsError::Contradiction(
                "--operators auto chooses the scaling of features too: leave --feature-norm out, or name the operators"
                    .into(),
            ));
        }
        let neurons = whole("neurons", self.neurons.unwrap_or(100), 1, MOST_NEURONS)?;
        let settings = Settings {
            data: self.data.ok_or(SettingsError::Missing("data"))?,
            output: self
                .output
                .filter(|path| !path.as_os_str().is_empty())
                .ok_or(SettingsError::Missing("output"))?,
            split: self.split,
            auto_operators,
            operators,
            feature_norm: self.feature_norm.unwrap_or_default(),
            layers,
            neurons,
            proximal: number("proximal", self.proximal.unwrap_or(default_proximal(&stages)), 0.0, 1e6)?,
            stages,
            precision,
            seed: self.seed.unwrap_or(0),
            method,
            iterations: whole(
                "iterations",
                self.iterations.unwrap_or(method.iterations()),
                1,
                MOST_ITERATIONS,
            )?,
            start,
            rho: number("rho", self.rho.unwrap_or(nu), 1e-12, 1e12)?,
            nu,
            penalties,
            penalty_growth: number("penalty-growth", self.penalty_growth.unwrap_or(3.0), 1.0, 1e6)?,
            nu_max,
            nu_restart: number("nu-restart", nu_restart, 1e-12, 1e12)?,
            mu: number("mu", self.mu.unwrap_or(0.05), 0.0, 1e12)?,
            mu_hidden: number("mu-hidden", self.mu_hidden.unwrap_or(0.0), 0.0, 1e12)?,
            dropout: number("dropout", self.dropout.unwrap_or(method.dropout(layers)), 0.0, 0.99)?,
            tie_operators: number("tie-operators", self.tie_operators.unwrap_or(0.3), 0.0, 1.0)?,
            follow_covariance: number("follow-covariance", self.follow_covariance.unwrap_or(10.0), 0.0, 1e6)?,
            class_weights: number(
                "class-weights",
                self.class_weights.unwrap_or(method.class_weights()),
                0.0,
                2.0,
            )?,
            learning_rate: match self.learning_rate {
                None => method.learning_rate(layers, neurons),
                Some(rate) => number("learning-rate", rate, 1e-12, 1e6)?,
            },
            weight_decay: number(
                "weight-decay",
                self.weight_decay.unwrap_or(method.weight_decay()),
                0.0,
                1e6,
            )?,
            patience: match self.patience {
                None => None,
                Some(evaluations) => Some(whole("patience", evaluations, 1, MOST_ITERATIONS)?),
            },
            subproblem: self.subproblem.unwrap_or(Subproblem::Auto),
            tolerance,
            quantize,
            bits: whole("bits", self.bits.unwrap_or(8) as usize, 1, 16)? as u32,
            spacing: self.spacing.unwrap_or_default(),
            coding: self.coding.unwrap_or_default(),
            levels,
            wire,
            runs: whole("runs", self.runs.unwrap_or(1), 1, MOST_RUNS)?,
            evaluate_every: whole("evaluate-every", self.evaluate_every.unwrap_or(1), 1, MOST_ITERATIONS)?,
            threads: whole("threads", self.threads.unwrap_or(1), 1, 1024)?,
            shards: self.shards.unwrap_or_default(),
            block_nodes: match self.block_nodes {
                None => None,
                Some(nodes) => Some(whole("block-nodes", nodes, 1, 1 << 40)?),
            },
            comm_timeout: self.comm_timeout.unwrap_or(3600),
            checkpoint_every: self.checkpoint_every.unwrap_or_default(),
            max_time: self.max_time.unwrap_or_default(),
        };
        let hidden_is_free = settings.mu_hidden == 0.0 && settings.layers > 2;
        // TOML has no larger numbers.
        if settings.seed.checked_add(settings.runs as u64 - 1).is_none_or(|last| last > i64::MAX as u64) {
            let expected =
                format!("the seeds of {} runs would pass the largest, {}", settings.runs, i64::MAX);
            return Err(SettingsError::Range { flag: "seed", found: settings.seed.to_string(), expected });
        }
        if (settings.mu == 0.0 || hidden_is_free)
            && settings.proximal == 0.0
            && settings.subproblem != Subproblem::Gradient
        {
            return Err(SettingsError::Contradiction(
                "--proximal 0 leaves the exact W of layers without decay undetermined: raise it, give all layers \
                 decay (--mu, --mu-hidden), or use --subproblem gradient"
                    .into(),
            ));
        }
        Ok(settings)
    }
}

impl Settings {
    /// The settings as raw ones with every value spelled out, for `config.toml`; checking them gives these again.
    pub fn spelled_out(&self, split: &str) -> RawSettings {
        let is_admm = self.method == Method::Admm;
        let adaptive = is_admm && self.penalties == PenaltyRule::Adaptive;
        let rounded = self.quantize != Quantize::None;
        RawSettings {
            data: Some(self.data.clone()),
            output: Some(self.output.clone()),
            split: Some(split.to_owned()),
            operators: Some(match self.auto_operators {
                true => OperatorChoice::Auto,
                false => OperatorChoice::Given(self.operators.clone()),
            }),
            feature_norm: (!self.auto_operators).then_some(self.feature_norm),
            layers: Some(self.layers),
            neurons: Some(self.neurons),
            stages: is_admm.then(|| self.stages.clone()),
            precision: Some(self.precision),
            seed: Some(self.seed),
            optimizer: Some(self.method),
            iterations: Some(self.iterations),
            start: is_admm.then_some(self.start),
            rho: is_admm.then_some(self.rho),
            nu: is_admm.then_some(self.nu),
            penalties: is_admm.then_some(self.penalties),
            penalty_growth: adaptive.then_some(self.penalty_growth),
            nu_max: adaptive.then_some(self.nu_max),
            nu_restart: is_admm.then_some(self.nu_restart),
            mu: is_admm.then_some(self.mu),
            mu_hidden: is_admm.then_some(self.mu_hidden),
            proximal: is_admm.then_some(self.proximal),
            dropout: Some(self.dropout),
            tie_operators: is_admm.then_some(self.tie_operators),
            follow_covariance: is_admm.then_some(self.follow_covariance),
            class_weights: Some(self.class_weights),
            subproblem: is_admm.then_some(self.subproblem),
            tolerance: self.tolerance.map(|(primal, dual)| vec![primal, dual]),
            learning_rate: (!is_admm).then_some(self.learning_rate),
            weight_decay: (!is_admm).then_some(self.weight_decay),
            patience: self.patience,
            quantize: is_admm.then_some(self.quantize),
            bits: (rounded && self.levels.is_none()).then_some(self.bits),
            spacing: (rounded && self.levels.is_none()).then_some(self.spacing),
            coding: rounded.then_some(self.coding),
            levels: self.levels.as_ref().map(ToString::to_string),
            wire: is_admm.then_some(self.wire),
            runs: Some(self.runs),
            evaluate_every: Some(self.evaluate_every),
            threads: Some(self.threads),
            shards: is_admm.then_some(self.shards),
            block_nodes: self.block_nodes,
            comm_timeout: Some(self.comm_timeout),
            checkpoint_every: Some(self.checkpoint_every),
            max_time: Some(self.max_time),
        }
    }
}

fn join<A: ToString>(list: &[A]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn whole(flag: &'static str, found: usize, low: usize, high: usize) -> Result<usize, SettingsError> {
    if (low..=high).contains(&found) {
        return Ok(found);
    }
    let expected = format!("a whole number from {low} to {high} is needed");
    Err(SettingsError::Range { flag, found: found.to_string(), expected })
}

fn number(flag: &'static str, found: f64, low: f64, high: f64) -> Result<f64, SettingsError> {
    if found >= low && found <= high {
        return Ok(found);
    }
    let plain =
        |x: f64| if x == 0.0 || (1e-3..1e6).contains(&x.abs()) { x.to_string() } else { format!("{x:e}") };
    let expected = format!("a number from {} to {} is needed", plain(low), plain(high));
    Err(SettingsError::Range { flag, found: plain(found), expected })
}

/// Layers between the first and the last that have learnt nothing yet want to be held to the identity they start at; those
/// inserted into a network that has been trained have little to learn.
fn default_proximal(stages: &[usize]) -> f64 {
    if stages.first().is_some_and(|&layers| layers > 2) { 20.0 } else { 0.1 }
}

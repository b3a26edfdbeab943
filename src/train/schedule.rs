//! When ρ and ν grow, and when a stage stops: decided by every rank alike from reduced scalars.

use crate::admm::Penalties;
use crate::admm::residuals::Totals;
use crate::settings::{PenaltyRule, Settings};

/// A loss stalls in an iteration when it falls by less than this share.
const STALL: f64 = 1e-2;
/// ρ and ν grow after this many stalls since they last changed.
const STALLS: usize = 2;
/// Iterations after a change in which stalls do not count.
const SETTLE: usize = 2;
/// Residuals must meet their tolerances in this many iterations in a row.
const IN_A_ROW: usize = 5;

/// What a [`Schedule`] has counted so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// ρ and ν of the next iteration.
    pub penalties: Penalties,
    /// Loss of the last iteration taken in; infinite before the first.
    pub last_loss: f64,
    /// Stalls since ρ and ν last changed.
    pub stalls: usize,
    /// Iterations since then.
    pub since_change: usize,
    /// Iterations in a row that met the tolerances.
    pub met: usize,
}

/// ρ and ν over the iterations of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    rule: PenaltyRule,
    growth: f64,
    nu_max: f64,
    tolerance: Option<(f64, f64)>,
    penalties: Penalties,
    last_loss: f64,
    stalls: usize,
    since_change: usize,
    met: usize,
}

impl Schedule {
    /// The start of a stage; a later one starts at `nu_restart`, with ρ in the same proportion.
    ///
    /// A deepened network is as good as the one before. From ν = 1e-4 it would be undone in an iteration and
    /// learnt anew; from the last ν it could hardly move.
    pub fn new(settings: &Settings, is_first: bool) -> Self {
        let factor = if is_first { 1.0 } else { settings.nu_restart / settings.nu };
        let penalties = Penalties { rho: settings.rho * factor, nu: settings.nu * factor };
        Self {
            rule: settings.penalties,
            growth: settings.penalty_growth,
            nu_max: settings.nu_max,
            tolerance: settings.tolerance,
            penalties,
            last_loss: f64::INFINITY,
            stalls: 0,
            since_change: 0,
            met: 0,
        }
    }

    /// What has been counted so far.
    pub fn progress(&self) -> Progress {
        let Self { penalties, last_loss, stalls, since_change, met, .. } = *self;
        Progress { penalties, last_loss, stalls, since_change, met }
    }

    /// Goes on from [`Schedule::progress`].
    pub fn go_on_from(&mut self, progress: Progress) {
        let Progress { penalties, last_loss, stalls, since_change, met } = progress;
        *self = Self { penalties, last_loss, stalls, since_change, met, ..self.clone() };
    }

    /// ρ and ν of the next iteration.
    pub fn penalties(&self) -> Penalties {
        self.penalties
    }

    /// Takes in an iteration's totals and training loss; `scale` is what residuals are relative to: the root of
    /// the number of elements of all p; `rho` is that of the iteration. Returns whether the stage has converged.
    ///
    /// The loss stalls where it does not fall by 1 % from one iteration to the next; after two stalls ρ and ν
    /// grow, the two iterations after a change not being counted. Both residuals, relative, must meet their
    /// tolerances in five iterations in a row: with p and q rounded the primal one is exactly 0 early on.
    pub fn observe(&mut self, totals: &Totals, loss: f64, scale: f64, rho: f64) -> bool {
        // Counts from a checkpoint may be any.
        self.since_change = self.since_change.saturating_add(1);
        if self.rule == PenaltyRule::Adaptive && self.since_change > SETTLE {
            let fell = loss < self.last_loss * (1.0 - STALL);
            self.stalls = self.stalls.saturating_add(usize::from(!fell));
            if self.stalls >= STALLS && self.penalties.nu < self.nu_max {
                let factor = self.growth.min(self.nu_max / self.penalties.nu);
                self.penalties.nu *= factor;
                self.penalties.rho *= factor;
                (self.stalls, self.since_change) = (0, 0);
            }
        }
        self.last_loss = loss;
        let met = self.tolerance.is_some_and(|(primal, dual)| {
            totals.primal_residual <= primal * scale && totals.dual_residual <= dual * scale * rho
        });
        self.met = if met { self.met.saturating_add(1) } else { 0 };
        self.met >= IN_A_ROW
    }
}

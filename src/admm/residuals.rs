//! What an iteration is judged by: the terms of the objective and of the augmented Lagrangian, and residuals.
//!
//! Each term is a sum over blocks in the fixed tree, and one entry a layer, so that adding the layers in order
//! gives the same bits for every number of ranks.

use super::workspace::BlockSums;
use super::{Layer, Penalties, Weights};
use crate::linalg::{Real, ScalarSum};

/// Terms of layer l alone and of the boundary above it, over the nodes of one shard; all but the decay are sums over nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerTerms {
    /// ‖z_l − W_l p_l − b_l‖².
    pub fit: f64,
    /// (μ + ν κ)/2 ‖W_l‖²; of layer 1 in N dimensions what is no sum over nodes.
    pub decay: f64,
    /// The rest of it.
    pub decay_of_nodes: f64,
    /// ‖q_l − f(z_l)‖²; 0 for l = L.
    pub coupling: f64,
    /// ⟨u_l, p_{l+1} − q_l⟩; 0 for l = L.
    pub inner: f64,
    /// ‖p_{l+1} − q_l‖²; 0 for l = L.
    pub primal: f64,
    /// ‖q_l − q_l(previous)‖²; 0 for l = L.
    pub dual: f64,
    /// R(z_L; y); 0 for l < L.
    pub risk: f64,
    /// R(W_L p_L + b_L; y), the loss that the output layer would make of its inputs; 0 for l < L.
    pub local_loss: f64,
}

impl LayerTerms {
    /// Number of values in [`LayerTerms::to_array`].
    pub const COUNT: usize = 9;
    /// The place of the decay among them, the one that is no sum over nodes: every shard has all of it.
    pub const DECAY: usize = 1;

    /// All values, to be reduced.
    pub fn to_array(self) -> [f64; Self::COUNT] {
        let Self { fit, decay, decay_of_nodes, coupling, inner, primal, dual, risk, local_loss } = self;
        [fit, decay, decay_of_nodes, coupling, inner, primal, dual, risk, local_loss]
    }

    /// The inverse of [`LayerTerms::to_array`].
    pub fn from_array(values: [f64; Self::COUNT]) -> Self {
        let [fit, decay, decay_of_nodes, coupling, inner, primal, dual, risk, local_loss] = values;
        Self { fit, decay, decay_of_nodes, coupling, inner, primal, dual, risk, local_loss }
    }
}

/// The sums over layers that a run reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// R + ν/2 Σ‖z − W p − b‖² + ν/2 Σ‖q − f(z)‖² + weight decay: Problem 2.
    pub objective: f64,
    /// The objective + Σ⟨u, p − q⟩ + ρ/2 Σ‖p − q‖².
    pub lagrangian: f64,
    /// sqrt(Σ‖p_{l+1} − q_l‖²).
    pub primal_residual: f64,
    /// ρ sqrt(Σ‖q_l − q_l(previous)‖²).
    pub dual_residual: f64,
    /// R(z_L; y).
    pub risk: f64,
    /// R(W_L p_L + b_L; y).
    pub local_loss: f64,
}

impl Totals {
    /// Adds the layers in order.
    pub fn of(layers: &[LayerTerms], penalties: &Penalties) -> Self {
        let sum = |f: fn(&LayerTerms) -> f64| layers.iter().map(f).sum::<f64>();
        let (rho, nu) = (penalties.rho, penalties.nu);
        let (risk, primal) = (sum(|t| t.risk), sum(|t| t.primal));
        let objective = risk
            + 0.5 * nu * (sum(|t| t.fit) + sum(|t| t.coupling))
            + sum(|t| (t.decay + t.decay_of_nodes).max(0.0));
        Self {
            objective,
            lagrangian: objective + sum(|t| t.inner) + 0.5 * rho * primal,
            primal_residual: primal.sqrt(),
            dual_residual: rho * sum(|t| t.dual).sqrt(),
            risk,
            local_loss: sum(|t| t.local_loss),
        }
    }
}

impl LayerTerms {
    /// The weight decay of layer l, which is told in two parts. Cost: 2 n_l n_{l−1} where there is any.
    pub(super) fn set_decay<T: Real>(&mut self, layer: &Layer<T>, penalties: &Penalties) {
        let half = 0.5 * layer.penalty.decay(penalties.nu);
        [self.decay, self.decay_of_nodes] = match &layer.weights {
            // Most layers have none.
            _ if half == 0.0 => [0.0; 2],
            Weights::Dual(dual) => dual.norm2_with(half, &layer.blocks),
            weights => [half * weights.norm2(), 0.0],
        };
    }

    /// What the update of q has added up, by block.
    pub(super) fn set_boundary(&mut self, steps: &[BlockSums]) {
        let sum = |k: usize| ScalarSum::of(steps.iter().map(|sums| sums[k]));
        [self.dual, _, self.coupling, self.inner, self.primal] = [0, 1, 2, 3, 4].map(sum);
    }

    /// What the update of z_L has added up, by block.
    pub(super) fn set_last(&mut self, steps: &[BlockSums]) {
        let sum = |k: usize| ScalarSum::of(steps.iter().map(|sums| sums[k]));
        [self.fit, self.risk, self.local_loss] = [0, 1, 2].map(sum);
    }
}

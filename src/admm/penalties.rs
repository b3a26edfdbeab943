//! The penalties of Problem 2 and its augmented Lagrangian.

/// ρ, ν and the weights of the regularisers at one iteration; the same on every rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// ρ: weight of the constraint p_{l+1} = q_l.
    pub rho: f64,
    /// ν: weight of z = W p + b and q = f(z).
    pub nu: f64,
}

/// Regularisers of one layer's W.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WeightPenalty {
    /// μ: weight decay μ/2 ‖W‖².
    pub mu: f64,
    /// ϑ: proximal term (ϑ s/2)‖W − W_old‖² of the exact W, s being the mean eigenvalue of ν p pᵀ.
    pub theta_prox: f64,
    /// κ = δ/(1−δ): dropout of rate δ on the raw features in closed form; the inputs of layer 1 are scaled by the
    /// noise they would carry, which turns the penalty into ν κ/2 ‖W‖².
    pub kappa: f64,
}

impl WeightPenalty {
    /// λ without the proximal term: μ + ν κ.
    pub fn decay(&self, nu: f64) -> f64 {
        self.mu + nu * self.kappa
    }
}

//! Layer 1 in N dimensions, for N < n_0: W_1 = c W_1⁰ + D Xᵀ (node-major: W = c W⁰ + Dᵀ X, D: N × n_1).
//!
//! p_1 = X never changes, and every step of W_1 lies in the span of Xᵀ, so W_1 itself is only formed when asked
//! for. K = X Xᵀ (N × N), A⁰ = X W⁰ᵀ (N × n_1), f⁰ = ‖W⁰‖².

use ndarray::{Array1, Array2, s};

use super::p::{residual, target};
use super::penalties::WeightPenalty;
use super::{LayerBlock, Penalties, Workspace};
use crate::linalg::elements::{frobenius2, inner};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, ScalarSum, Workers, product::product};

/// W_1 = c W⁰ + Dᵀ X.
#[derive(Debug, Clone)]
pub struct DualWeights<T> {
    /// X, N × n_0; needed only to form W.
    pub x: Array2<T>,
    /// W⁰, n_1 × n_0.
    pub w0: Array2<T>,
    /// K = X Xᵀ, N × N.
    pub gram: Array2<T>,
    /// A⁰ = X W⁰ᵀ, N × n_1.
    pub a0: Array2<T>,
    /// f⁰ = ‖W⁰‖².
    pub f0: f64,
    /// c.
    pub c: f64,
    /// D, N × n_1.
    pub d: Array2<T>,
    /// (ν, λ) and (ν K + λ I)^-1 of the last exact solve.
    pub inverse: Option<((f64, f64), Array2<T>)>,
}

impl<T: Real> DualWeights<T> {
    /// Starts at W = W⁰.
    pub fn new(x: Array2<T>, w0: Array2<T>, workers: &Workers) -> Self {
        let nodes = x.nrows();
        let mut gram = Array2::zeros((nodes, nodes));
        workers.product(T::one(), &x, &x.t().to_owned(), T::zero(), &mut gram);
        let mut a0 = Array2::zeros((nodes, w0.nrows()));
        product(T::one(), &x, &w0.t(), T::zero(), &mut a0);
        Self::with_products(x, w0, gram, a0)
    }

    /// Starts at W = W⁰, given K = X Xᵀ and A⁰ = X W⁰ᵀ.
    pub fn with_products(x: Array2<T>, w0: Array2<T>, gram: Array2<T>, a0: Array2<T>) -> Self {
        let (f0, d) = (frobenius2(&w0), Array2::zeros(a0.dim()));
        Self { x, w0, gram, a0, f0, c: 1.0, d, inverse: None }
    }

    /// W_1, n_1 × n_0. Cost: 2 N n_1 n_0.
    pub fn dense(&self) -> Array2<T> {
        let mut w = self.w0.mapv(|w| w * T::of(self.c));
        product(T::one(), &self.d.t(), &self.x, T::one(), &mut w);
        w
    }

    /// ‖W‖² = c² f⁰ + 2 c ⟨A⁰, D⟩ + ⟨D, K D⟩. Cost: 2 N² n_1.
    pub fn norm2(&self) -> f64 {
        let mut kd = Array2::zeros(self.d.dim());
        product(T::one(), &self.gram, &self.d, T::zero(), &mut kd);
        (self.c * self.c * self.f0 + 2.0 * self.c * inner(&self.a0, &self.d) + inner(&self.d, &kd)).max(0.0)
    }

    /// ‖W‖² from W p, which is X Wᵀ = c A⁰ + K D: c² f⁰ + c ⟨A⁰, D⟩ + ⟨D, W p⟩, without a product.
    pub fn norm2_with(&self, blocks: &[LayerBlock<T>]) -> f64 {
        let mut start = 0;
        let along = ScalarSum::of(blocks.iter().map(|block| {
            let rows = start..start + block.m.nrows();
            start = rows.end;
            let d = self.d.slice(s![rows, ..]);
            d.iter().zip(&block.m).map(|(d, m)| d.f64() * m.f64()).sum::<f64>()
        }));
        (self.c * self.c * self.f0 + self.c * inner(&self.a0, &self.d) + along).max(0.0)
    }

    /// One majorised gradient step in (c, D): α = μ c, E = μ D − ν r, ‖g‖² = α² f⁰ + 2 α ⟨A⁰, E⟩ + ⟨E, K E⟩,
    /// g X = α A⁰ + K E, θ = (ν‖g X‖² + μ‖g‖²)/‖g‖². Returns θ, 0 where skipped. Cost: 2 N² n_1.
    pub(super) fn gradient(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        b: &Array1<T>,
        penalty: &WeightPenalty,
        penalties: &Penalties,
        workspace: &mut Workspace<T>,
        workers: &Workers,
    ) -> f64 {
        let nu = penalties.nu;
        let mu = penalty.decay(nu);
        let alpha = mu * self.c;
        let mut e = workspace.take(self.d.dim());
        gather(blocks, b, &mut e, residual);
        ndarray::Zip::from(&mut e).and(&self.d).for_each(|e, &d| *e = T::of(mu) * d - T::of(nu) * *e);
        let mut gx = workspace.take(self.d.dim());
        workers.product(T::one(), &self.gram, &e, T::zero(), &mut gx);
        let g2 = alpha * alpha * self.f0 + 2.0 * alpha * inner(&self.a0, &e) + inner(&e, &gx);
        gx.scaled_add(T::of(alpha), &self.a0);
        let mut theta = 0.0;
        if g2.is_normal() && g2 > 0.0 {
            theta = (nu * frobenius2(&gx) + mu * g2) / g2;
            let scale = T::of(-1.0 / theta);
            self.c -= alpha / theta;
            self.d.scaled_add(scale, &e);
            scatter(blocks, |rows, m| m.scaled_add(scale, &gx.slice(s![rows, ..])));
        }
        workspace.give(e);
        workspace.give(gx);
        theta
    }

    /// The exact minimiser with proximal ε, λ = μ + ε: c' = ε c/λ and
    /// D' = (ν K + λ I)^-1 [ν (z − b) + ε D − (ε c ν/λ) A⁰]. Cost: 4 N² n_1; the inverse is formed anew only
    /// when ν or λ changes.
    pub(super) fn exact(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        b: &Array1<T>,
        penalty: &WeightPenalty,
        penalties: &Penalties,
        workspace: &mut Workspace<T>,
        workers: &Workers,
    ) -> Result<(), FactorError> {
        let nu = penalties.nu;
        let trace: f64 = self.gram.diag().iter().map(|x| x.f64()).sum();
        let epsilon = penalty.theta_prox * nu * trace / self.x.ncols().max(1) as f64;
        let lambda = penalty.decay(nu) + epsilon;
        let key = (nu, lambda);
        if self.inverse.as_ref().is_none_or(|(of, _)| *of != key) {
            // Formed rarely, so in double precision whatever the run's: K of raw counts is badly conditioned.
            let mut a = self.gram.mapv(|k| k.f64() * nu);
            a.diag_mut().mapv_inplace(|x| x + lambda);
            self.inverse = Some((key, f64::spd_inverse(a)?.mapv(T::of)));
        }
        let Some((_, inverse)) = &self.inverse else { return Ok(()) };
        let mut right = workspace.take(self.d.dim());
        gather(blocks, b, &mut right, target);
        let pull = if epsilon > 0.0 { epsilon * self.c * nu / lambda } else { 0.0 };
        ndarray::Zip::from(&mut right).and(&self.d).and(&self.a0).for_each(|right, &d, &a0| {
            *right = T::of(nu) * *right + T::of(epsilon) * d - T::of(pull) * a0;
        });
        workers.product(T::one(), inverse, &right, T::zero(), &mut self.d);
        self.c = if epsilon > 0.0 { epsilon * self.c / lambda } else { 0.0 };
        workspace.give(right);
        self.refresh(blocks, workers);
        Ok(())
    }

    /// W p = c A⁰ + K D of every block formed anew. Cost: 2 N² n_1.
    pub(super) fn refresh(&self, blocks: &mut [LayerBlock<T>], workers: &Workers) {
        let starts: Vec<usize> = blocks
            .iter()
            .scan(0, |next, block| {
                let start = *next;
                *next += block.m.nrows();
                Some(start)
            })
            .collect();
        let c = T::of(self.c);
        workers.each(blocks, |i, block| {
            let rows = starts[i]..starts[i] + block.m.nrows();
            block.m.assign(&self.a0.slice(s![rows.clone(), ..]));
            product(T::one(), &self.gram.slice(s![rows, ..]), &self.d, c, &mut block.m);
        });
    }
}

/// Collects what `fill` writes for each block into the rows of `whole`.
fn gather<T: Real>(
    blocks: &[LayerBlock<T>],
    b: &Array1<T>,
    whole: &mut Array2<T>,
    fill: impl Fn(&LayerBlock<T>, &Array1<T>, &mut Array2<T>),
) {
    if let [block] = blocks {
        return fill(block, b, whole);
    }
    let mut start = 0;
    for block in blocks {
        let rows = start..start + block.m.nrows();
        start = rows.end;
        let mut part = Array2::zeros(block.m.dim());
        fill(block, b, &mut part);
        whole.slice_mut(s![rows, ..]).assign(&part);
    }
}

/// Runs `change(rows, W p)` for each block.
fn scatter<T: Real>(
    blocks: &mut [LayerBlock<T>],
    mut change: impl FnMut(std::ops::Range<usize>, &mut Array2<T>),
) {
    let mut start = 0;
    for block in blocks {
        let rows = start..start + block.m.nrows();
        start = rows.end;
        change(rows, &mut block.m);
    }
}

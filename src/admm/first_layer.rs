//! Layer 1 in N dimensions, for N < n_0: W_1 = c W_1⁰ + D Xᵀ (node-major: W = c W⁰ + Dᵀ X, D: N × n_1).
//!
//! p_1 = X never changes, and every step of W_1 lies in the span of Xᵀ, so W_1 itself is only formed when asked
//! for. K = X Xᵀ (N × N), A⁰ = X W⁰ᵀ (N × n_1), f⁰ = ‖W⁰‖².
//!
//! A shard holds its own nodes' rows of X, K, A⁰ and D; what K is multiplied with is gathered from all shards.

use ndarray::{Array2, s};

use super::penalties::WeightPenalty;
use super::w::WStep;
use super::{LayerBlock, Penalties, Team, b};
use crate::linalg::elements::{flat, flat_mut, frobenius2, rows, step_along, sum_squares, sum2, vectorised};
use crate::linalg::factor::FactorError;
use crate::linalg::{MatrixSum, NodeShards, Real, ScalarSum, Workers, product::product};

/// W_1 = c W⁰ + Dᵀ X.
#[derive(Debug, Clone)]
pub struct DualWeights<T> {
    /// X of this shard's nodes, nodes × n_0; needed only to form W.
    pub x: Array2<T>,
    /// W⁰, n_1 × n_0.
    pub w0: Array2<T>,
    /// This shard's rows of K = X Xᵀ, nodes × N.
    pub gram: Array2<T>,
    /// The node that the first of these rows belongs to.
    pub first_node: usize,
    /// A⁰ = X W⁰ᵀ, nodes × n_1.
    pub a0: Array2<T>,
    /// f⁰ = ‖W⁰‖².
    pub f0: f64,
    /// c.
    pub c: f64,
    /// D, nodes × n_1.
    pub d: Array2<T>,
    /// (ν, λ) and this shard's rows of (ν K + λ I)^-1 of the last exact solve.
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
        Self::with_products(x, w0, gram, a0, 0)
    }

    /// Starts at W = W⁰, given the rows of K = X Xᵀ and A⁰ = X W⁰ᵀ from `first_node` on.
    pub fn with_products(
        x: Array2<T>,
        w0: Array2<T>,
        gram: Array2<T>,
        a0: Array2<T>,
        first_node: usize,
    ) -> Self {
        let (f0, d) = (frobenius2(&w0), Array2::zeros(a0.dim()));
        Self { x, w0, gram, first_node, a0, f0, c: 1.0, d, inverse: None }
    }

    /// This shard's part of W_1, n_1 × n_0: D Xᵀ of its nodes, added over blocks of these lengths in the fixed tree.
    /// Cost: 2 N n_1 n_0.
    pub fn part_of_dense(&self, d: &Array2<T>, block_lengths: &[usize]) -> Array2<T> {
        let mut sum = MatrixSum::new(self.w0.dim());
        let mut start = 0;
        for length in block_lengths {
            let rows = s![start..start + length, ..];
            start += length;
            sum.push(|part| {
                product(T::one(), &d.slice(rows).t(), &self.x.slice(rows), T::zero(), part);
            });
        }
        let mut part = Array2::zeros(self.w0.dim());
        sum.finish(&mut part);
        part
    }

    /// W_1 = c W⁰ + D Xᵀ where this shard is the only one.
    pub fn dense(&self) -> Array2<T> {
        let mut w = self.part_of_dense(&self.d, &[self.d.nrows()]);
        w.scaled_add(T::of(self.c), &self.w0);
        w
    }

    /// `factor` times ‖W‖² = c² f⁰ + [c ⟨A⁰, D⟩ + ⟨D, W p⟩], since W p is X Wᵀ = c A⁰ + K D: that of c² f⁰, and this shard's
    /// part of the rest. The factor multiplies before sums are formed, so that shards add up to what one would have.
    pub fn norm2_with(&self, factor: f64, blocks: &[LayerBlock<T>]) -> [f64; 2] {
        let along = ScalarSum::of(starts(blocks).map(|(start, block)| {
            let rows = start..start + block.m.len();
            let (d, a0) = (&flat(&self.d)[rows.clone()], &flat(&self.a0)[rows]);
            let times_d = |x: &[T]| {
                vectorised(
                    #[inline(always)]
                    || sum2(d, x, |d, x| d * x),
                )
            };
            factor * (self.c * times_d(a0) + times_d(flat(&block.m)))
        }));
        [factor * self.c * self.c * self.f0, along]
    }

    /// ‖W‖² where this shard is the only one. Cost: 2 N² n_1.
    pub fn norm2(&self) -> f64 {
        let mut m = self.a0.mapv(|a| a * T::of(self.c));
        product(T::one(), &self.gram, &self.d, T::one(), &mut m);
        let [start, along] = self.norm2_with(1.0, &[LayerBlock { z: Array2::zeros((0, 0)), m }]);
        (start + along).max(0.0)
    }

    /// One majorised gradient step in (c, D): α = μ c, E = μ D − ν r, ‖g‖² = α² f⁰ + 2 α ⟨A⁰, E⟩ + ⟨E, K E⟩,
    /// g X = α A⁰ + K E, θ = (ν‖g X‖² + μ‖g‖²)/‖g‖². Cost: 2 N² n_1.
    /// `r` is z − W p − b by block.
    pub(super) fn gradient(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        r: Vec<Array2<T>>,
        penalty: &WeightPenalty,
        penalties: &Penalties,
        team: &mut Team<'_, T>,
    ) -> WStep<T> {
        let nu = penalties.nu;
        let mu = penalty.decay(nu);
        let alpha = mu * self.c;
        let mut e = team.workspace.take(self.d.dim());
        for ((start, _), r) in starts(blocks).zip(&r) {
            let rows = start..start + r.len();
            let (e, d) = (&mut flat_mut(&mut e)[rows.clone()], &flat(&self.d)[rows]);
            let [mu, nu] = [mu, nu].map(T::of);
            vectorised(
                #[inline(always)]
                || {
                    for ((e, &d), &r) in e.iter_mut().zip(d).zip(flat(r)) {
                        *e = mu * d - nu * r;
                    }
                },
            );
        }
        team.workspace.give_blocks(r);
        let mut gx = team.workspace.take(self.d.dim());
        self.times(&self.gram, &e, &mut gx, team);
        let mut norms = team.workspace.take_sums(blocks.len());
        for ((start, block), norms) in starts(blocks).zip(&mut norms) {
            let rows = start..start + block.m.len();
            let gx = &mut flat_mut(&mut gx)[rows.clone()];
            let (e, a0) = (&flat(&e)[rows.clone()], &flat(&self.a0)[rows]);
            let [a0_e, e_gx, gx2, ..] = norms;
            let alpha = T::of(alpha);
            vectorised(
                #[inline(always)]
                || {
                    *a0_e = sum2(a0, e, |a0, e| a0 * e);
                    *e_gx = sum2(e, gx, |e, gx| e * gx);
                    gx.iter_mut().zip(a0).for_each(|(gx, &a0)| *gx += alpha * a0);
                    *gx2 = sum_squares(gx);
                },
            );
        }
        let [a0_e, e_gx, gx2] = team.sums_of(norms);
        let g2 = alpha * alpha * self.f0 + 2.0 * alpha * a0_e + e_gx;
        let mut step = WStep::SKIPPED;
        if g2.is_normal() && g2 > 0.0 {
            step.theta = (nu * gx2 + mu * g2) / g2;
            let scale = T::of(-1.0 / step.theta);
            self.c -= alpha / step.theta;
            step_along(&mut self.d, &e, scale);
            let n = self.d.ncols();
            let mut sums = b::take_sums(blocks, n, team);
            let mut rows = rows(&gx);
            for (block, sum) in blocks.iter_mut().zip(&mut sums) {
                b::step_with_sums(block, rows.by_ref().take(block.z.nrows()), scale, sum);
            }
            step.sums = Some(sums);
        }
        [e, gx].into_iter().for_each(|matrix| team.workspace.give(matrix));
        step
    }

    /// The exact minimiser with proximal ε, λ = μ + ε: c' = ε c/λ and
    /// D' = (ν K + λ I)^-1 [ν (z − b) + ε D − (ε c ν/λ) A⁰]. Cost: 4 N² n_1; the inverse is formed anew only
    /// when ν or λ changes, by every shard from all of K.
    pub(super) fn exact(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        penalty: &WeightPenalty,
        penalties: &Penalties,
        team: &mut Team<'_, T>,
    ) -> Result<(), FactorError> {
        let nu = penalties.nu;
        let key = |lambda| (nu, lambda);
        let epsilon = match penalty.theta_prox {
            0.0 => 0.0,
            theta_prox => {
                let [trace] = team.sums(self.diagonal(blocks));
                theta_prox * nu * trace / self.x.ncols().max(1) as f64
            }
        };
        let lambda = penalty.decay(nu) + epsilon;
        if self.inverse.as_ref().is_none_or(|(of, _)| *of != key(lambda)) {
            // The old one goes first: both together would be a large part of the rank's memory.
            self.inverse = None;
            self.inverse = Some((key(lambda), self.ridge_inverse(nu, lambda, team.shards)?));
        }
        let mut d = std::mem::replace(&mut self.d, Array2::zeros((0, 0)));
        let mut right = team.workspace.take(d.dim());
        let pull = if epsilon > 0.0 { epsilon * self.c * nu / lambda } else { 0.0 };
        let [nu, epsilon_of, pull] = [nu, epsilon, pull].map(T::of);
        for (start, block) in starts(blocks) {
            let rows = start..start + block.m.len();
            let right = &mut flat_mut(&mut right)[rows.clone()];
            let (d, a0) = (&flat(&d)[rows.clone()], &flat(&self.a0)[rows]);
            vectorised(
                #[inline(always)]
                || {
                    for (((right, &t), &d), &a0) in right.iter_mut().zip(flat(&block.m)).zip(d).zip(a0) {
                        *right = nu * t + epsilon_of * d - pull * a0;
                    }
                },
            );
        }
        if let Some((_, inverse)) = &self.inverse {
            self.times(inverse, &right, &mut d, team);
        }
        self.d = d;
        self.c = if epsilon > 0.0 { epsilon * self.c / lambda } else { 0.0 };
        team.workspace.give(right);
        self.refresh(blocks, team);
        Ok(())
    }

    /// W p = c A⁰ + K D of every block formed anew. Cost: 2 N² n_1.
    pub(super) fn refresh(&self, blocks: &mut [LayerBlock<T>], team: &mut Team<'_, T>) {
        let mut m = team.workspace.take(self.d.dim());
        self.times(&self.gram, &self.d, &mut m, team);
        let (c, mut start) = (T::of(self.c), 0);
        for block in blocks {
            let rows = start..start + block.m.len();
            start = rows.end;
            let (kd, a0) = (&flat(&m)[rows.clone()], &flat(&self.a0)[rows]);
            vectorised(
                #[inline(always)]
                || {
                    for ((m, &kd), &a0) in flat_mut(&mut block.m).iter_mut().zip(kd).zip(a0) {
                        *m = kd + c * a0;
                    }
                },
            );
        }
        team.workspace.give(m);
    }

    /// out ← M B for M of this shard's rows, nodes × N, and B of all nodes, of which `b` holds this shard's.
    ///
    /// Threads split the rows as they like, an element of a product does not depend on the rows beside it.
    fn times(&self, m: &Array2<T>, b: &Array2<T>, out: &mut Array2<T>, team: &mut Team<'_, T>) {
        if team.shards.count() == 1 {
            return team.workers.product(T::one(), m, b, T::zero(), out);
        }
        let mut all = team.workspace.take((self.gram.ncols(), b.ncols()));
        team.shards.gather(flat(b), flat_mut(&mut all));
        team.workers.product(T::one(), m, &all, T::zero(), out);
        team.workspace.give(all);
    }

    /// This shard's rows of (ν K + λ I)^-1.
    fn ridge_inverse(
        &self,
        nu: f64,
        lambda: f64,
        shards: &dyn NodeShards<T>,
    ) -> Result<Array2<T>, FactorError> {
        let nodes = self.gram.ncols();
        // Formed rarely, so in double precision whatever the run's: K of raw counts is badly conditioned.
        let scaled = |k: &Array2<T>| k.mapv(|k| k.f64() * nu);
        let mut a = match shards.count() {
            1 => scaled(&self.gram),
            _ => {
                let mut all = Array2::zeros((nodes, nodes));
                shards.gather(flat(&self.gram), flat_mut(&mut all));
                scaled(&all)
            }
        };
        a.diag_mut().mapv_inplace(|x| x + lambda);
        let inverse = f64::spd_inverse(a)?;
        let first = self.first_node;
        Ok(inverse.slice(s![first..first + self.gram.nrows(), ..]).mapv(T::of))
    }

    /// The trace of this shard's part of K by block.
    fn diagonal(&self, blocks: &[LayerBlock<T>]) -> impl Iterator<Item = [f64; 1]> {
        blocks.iter().scan(0, |next, block| {
            let rows = *next..*next + block.m.nrows();
            *next = rows.end;
            Some([rows.map(|i| self.gram[[i, self.first_node + i]].f64()).sum()])
        })
    }
}

/// The blocks, each with the place of its first element in matrices of all of this shard's nodes.
fn starts<T: Real>(blocks: &[LayerBlock<T>]) -> impl Iterator<Item = (usize, &LayerBlock<T>)> {
    blocks.iter().scan(0, |next, block| {
        let start = *next;
        *next += block.m.len();
        Some((start, block))
    })
}

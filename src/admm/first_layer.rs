//! Layer 1 in N dimensions, for N < n_0: W_1 = c W_1⁰ + D Xᵀ (node-major: W = c W⁰ + Dᵀ X, D: N × n_1).
//!
//! p_1 = X never changes, and every step of W_1 lies in the span of Xᵀ, so W_1 itself is only formed when asked
//! for. K = X Xᵀ (N × N), A⁰ = X W⁰ᵀ (N × n_1), f⁰ = ‖W⁰‖².
//!
//! A shard holds its own nodes' rows of X, K, A⁰ and D; what K is multiplied with is gathered from all shards.

use ndarray::{Array1, Array2, s};

use super::p::{residual, target};
use super::penalties::WeightPenalty;
use super::{LayerBlock, Penalties, Team};
use crate::linalg::elements::{flat, flat_mut, frobenius2};
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

    /// ‖W‖² = c² f⁰ + [c ⟨A⁰, D⟩ + ⟨D, W p⟩], since W p is X Wᵀ = c A⁰ + K D: c² f⁰, and this shard's part of the rest.
    pub fn norm2_with(&self, blocks: &[LayerBlock<T>]) -> [f64; 2] {
        let mut start = 0;
        let along = ScalarSum::of(blocks.iter().map(|block| {
            let rows = s![start..start + block.m.nrows(), ..];
            start += block.m.nrows();
            let (d, a0) = (self.d.slice(rows), self.a0.slice(rows));
            let terms = d.iter().zip(&a0).zip(&block.m);
            terms.map(|((d, a0), m)| d.f64() * (self.c * a0.f64() + m.f64())).sum::<f64>()
        }));
        [self.c * self.c * self.f0, along]
    }

    /// ‖W‖² where this shard is the only one. Cost: 2 N² n_1.
    pub fn norm2(&self) -> f64 {
        let mut m = self.a0.mapv(|a| a * T::of(self.c));
        product(T::one(), &self.gram, &self.d, T::one(), &mut m);
        let [start, along] = self.norm2_with(&[LayerBlock { z: Array2::zeros((0, 0)), m }]);
        (start + along).max(0.0)
    }

    /// One majorised gradient step in (c, D): α = μ c, E = μ D − ν r, ‖g‖² = α² f⁰ + 2 α ⟨A⁰, E⟩ + ⟨E, K E⟩,
    /// g X = α A⁰ + K E, θ = (ν‖g X‖² + μ‖g‖²)/‖g‖². Returns θ, 0 where skipped. Cost: 2 N² n_1.
    pub(super) fn gradient(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        b: &Array1<T>,
        penalty: &WeightPenalty,
        penalties: &Penalties,
        team: &mut Team<'_, T>,
    ) -> f64 {
        let nu = penalties.nu;
        let mu = penalty.decay(nu);
        let alpha = mu * self.c;
        let mut e = team.workspace.take(self.d.dim());
        gather_blocks(blocks, b, &mut e, residual);
        ndarray::Zip::from(&mut e).and(&self.d).for_each(|e, &d| *e = T::of(mu) * d - T::of(nu) * *e);
        let all_e = self.of_all_shards(&e, team);
        let mut gx = team.workspace.take(self.d.dim());
        self.times_gram(&self.gram, &all_e, T::zero(), blocks, &mut gx, team.workers);
        let mut start = 0;
        let [a0_e, e_gx, gx2] = team.sums(blocks.iter().map(|block| {
            let rows = s![start..start + block.m.nrows(), ..];
            start += block.m.nrows();
            let (mut gx, e, a0) = (gx.slice_mut(rows), e.slice(rows), self.a0.slice(rows));
            let mut sums = [0.0; 3];
            ndarray::Zip::from(&mut gx).and(&e).and(&a0).for_each(|gx, &e, &a0| {
                sums[0] += a0.f64() * e.f64();
                sums[1] += e.f64() * gx.f64();
                *gx += T::of(alpha) * a0;
                sums[2] += gx.f64() * gx.f64();
            });
            sums
        }));
        let g2 = alpha * alpha * self.f0 + 2.0 * alpha * a0_e + e_gx;
        let mut theta = 0.0;
        if g2.is_normal() && g2 > 0.0 {
            theta = (nu * gx2 + mu * g2) / g2;
            let scale = T::of(-1.0 / theta);
            self.c -= alpha / theta;
            self.d.scaled_add(scale, &e);
            let mut start = 0;
            for block in blocks {
                let rows = s![start..start + block.m.nrows(), ..];
                start += block.m.nrows();
                block.m.scaled_add(scale, &gx.slice(rows));
            }
        }
        [e, all_e, gx].into_iter().for_each(|matrix| team.workspace.give(matrix));
        theta
    }

    /// The exact minimiser with proximal ε, λ = μ + ε: c' = ε c/λ and
    /// D' = (ν K + λ I)^-1 [ν (z − b) + ε D − (ε c ν/λ) A⁰]. Cost: 4 N² n_1; the inverse is formed anew only
    /// when ν or λ changes, by every shard from all of K.
    pub(super) fn exact(
        &mut self,
        blocks: &mut [LayerBlock<T>],
        b: &Array1<T>,
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
        let Some((_, inverse)) = &self.inverse else { return Ok(()) };
        let mut right = team.workspace.take(self.d.dim());
        gather_blocks(blocks, b, &mut right, target);
        let pull = if epsilon > 0.0 { epsilon * self.c * nu / lambda } else { 0.0 };
        ndarray::Zip::from(&mut right).and(&self.d).and(&self.a0).for_each(|right, &d, &a0| {
            *right = T::of(nu) * *right + T::of(epsilon) * d - T::of(pull) * a0;
        });
        let all_right = self.of_all_shards(&right, team);
        let mut d = std::mem::replace(&mut self.d, Array2::zeros((0, 0)));
        self.times_gram(inverse, &all_right, T::zero(), blocks, &mut d, team.workers);
        self.d = d;
        self.c = if epsilon > 0.0 { epsilon * self.c / lambda } else { 0.0 };
        team.workspace.give(right);
        team.workspace.give(all_right);
        self.refresh(blocks, team);
        Ok(())
    }

    /// W p = c A⁰ + K D of every block formed anew. Cost: 2 N² n_1.
    pub(super) fn refresh(&self, blocks: &mut [LayerBlock<T>], team: &mut Team<'_, T>) {
        let all_d = self.of_all_shards(&self.d, team);
        let c = T::of(self.c);
        let starts = starts(blocks);
        team.workers.each(blocks, |i, block| {
            let rows = s![starts[i]..starts[i] + block.m.nrows(), ..];
            block.m.assign(&self.a0.slice(rows));
            product(T::one(), &self.gram.slice(rows), &all_d, c, &mut block.m);
        });
        team.workspace.give(all_d);
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
        let lengths: Vec<usize> = blocks.iter().map(|block| block.m.nrows()).collect();
        let mut start = 0;
        lengths.into_iter().map(move |length| {
            let rows = start..start + length;
            start = rows.end;
            [rows.map(|i| self.gram[[i, self.first_node + i]].f64()).sum()]
        })
    }

    /// The rows of all shards of a matrix of which this shard has `own`.
    fn of_all_shards(&self, own: &Array2<T>, team: &mut Team<'_, T>) -> Array2<T> {
        let mut all = team.workspace.take((self.gram.ncols(), own.ncols()));
        team.shards.gather(flat(own), flat_mut(&mut all));
        all
    }

    /// out ← M B + β out for M of this shard's rows, a block of nodes after another, so that shapes depend on blocks alone.
    fn times_gram(
        &self,
        m: &Array2<T>,
        b: &Array2<T>,
        beta: T,
        blocks: &[LayerBlock<T>],
        out: &mut Array2<T>,
        workers: &Workers,
    ) {
        let mut start = 0;
        let mut parts = Vec::with_capacity(blocks.len());
        let mut rest = out.view_mut();
        for block in blocks {
            let length = block.m.nrows();
            let (part, others) = rest.split_at(ndarray::Axis(0), length);
            parts.push((start, part));
            rest = others;
            start += length;
        }
        workers.each(&mut parts, |_, (start, part)| {
            let rows = s![*start..*start + part.nrows(), ..];
            product(T::one(), &m.slice(rows), b, beta, part);
        });
    }
}

/// The first row of each block in matrices of all of this shard's nodes.
fn starts<T: Real>(blocks: &[LayerBlock<T>]) -> Vec<usize> {
    let start = |next: &mut usize, block: &LayerBlock<T>| {
        let start = *next;
        *next += block.m.nrows();
        Some(start)
    };
    blocks.iter().scan(0, start).collect()
}

/// Collects what `fill` writes for each block into the rows of `whole`.
fn gather_blocks<T: Real>(
    blocks: &[LayerBlock<T>],
    b: &Array1<T>,
    whole: &mut Array2<T>,
    fill: impl Fn(&LayerBlock<T>, &Array1<T>, &mut Array2<T>),
) {
    if let [block] = blocks {
        return fill(block, b, whole);
    }
    for (block, start) in blocks.iter().zip(starts(blocks)) {
        let mut part = Array2::zeros(block.m.dim());
        fill(block, b, &mut part);
        whole.slice_mut(s![start..start + part.nrows(), ..]).assign(&part);
    }
}

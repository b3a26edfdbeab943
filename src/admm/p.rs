//! Line 1 of Algorithm 1: p_l, l ≥ 2 (Eq. 3). On a level set (Eq. 10): [`super::p_quantized`].
//!
//! Each way has two halves, so that the product with W runs while q_{l−1} of the layer below is still on its way.

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array1, Array2};

use super::{Boundary, BoundaryBlock, Layer, LayerBlock, Penalties, Team, Weights};
use crate::linalg::elements::{
    STRETCH, flat, flat_mut, flat_vector, frobenius2, has_not_finite, rows, rows_mut, settle_all, step_along,
    sum_squares, vectorised,
};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, product::product};

/// What an update of p leaves to be known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PStep {
    /// τ of the gradient step; 0 where the step was skipped or the solve was exact.
    pub tau: f64,
    /// Largest |p| before rounding to levels.
    pub peak: f64,
    /// Whether some element of p is NaN or infinite.
    pub not_finite: bool,
}

/// First half of the gradient step: H = R W with R = z − W p − b, per block, nodes × n_{l−1}.
///
/// Cost: 2 N n_l n_{l−1}.
pub fn gradient_begin<T: Real>(layer: &Layer<T>, team: &mut Team<'_, T>) -> Vec<Array2<T>> {
    let Weights::Hidden(w) = &layer.weights else { return Vec::new() };
    let mut r = team.workspace.take_blocks(layer.block_nodes(), w.nrows());
    let mut h = team.workspace.take_blocks(layer.block_nodes(), w.ncols());
    team.each((&mut r[..], &mut h[..]), |i, (r, h)| {
        residual(&layer.blocks[i], &layer.b, r);
        product(T::one(), &*r, w, T::zero(), h);
    });
    team.workspace.give_blocks(r);
    h
}

/// First half of the exact solve: H = (z − b) W, per block, nodes × n_{l−1}. W p makes room for z − b.
///
/// Cost: 2 N n_l n_{l−1}.
pub fn exact_begin<T: Real>(layer: &mut Layer<T>, team: &mut Team<'_, T>) -> Vec<Array2<T>> {
    let Weights::Hidden(w) = &layer.weights else { return Vec::new() };
    let mut h = team.workspace.take_blocks(layer.block_nodes(), w.ncols());
    let b = &layer.b;
    team.each((&mut layer.blocks[..], &mut h[..]), |_, (block, h)| {
        target(block, b);
        product(T::one(), &block.m, w, T::zero(), h);
    });
    h
}

/// p_l ← p_l − g/τ, g = −ν Wᵀr + u_{l−1} + ρ (p_l − q_{l−1}), and W p with it, without a product formed twice.
///
/// Along −g the subproblem is exactly quadratic, so the smallest valid τ is (ν‖W g‖² + ρ‖g‖²)/‖g‖². Where ‖g‖²
/// is zero or subnormal the step is skipped. `h` is what [`gradient_begin`] returned. Returns z − W p − b of the new
/// point too, by block, where a step was made. Cost: 2 N n_l n_{l−1}.
pub fn gradient_finish<T: Real>(
    layer: &mut Layer<T>,
    below: &mut Boundary<T>,
    mut h: Vec<Array2<T>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> (PStep, Option<Vec<Array2<T>>>) {
    let Weights::Hidden(w) = &layer.weights else { return (PStep::default(), None) };
    let mut wg = team.workspace.take_blocks(layer.block_nodes(), w.nrows());
    let mut norms = team.workspace.take_sums(h.len());
    let boundary = &below.blocks;
    team.each((&mut h[..], &mut wg[..], &mut norms[..]), |i, (g, wg, norms)| {
        norms[0] = gradient(g, &boundary[i], penalties);
        product(T::one(), &*g, &w.t(), T::zero(), wg);
        norms[1] = frobenius2(wg);
    });
    let [g2, wg2] = team.sums_of(norms);
    let mut step = PStep::default();
    let residuals = if g2.is_normal() {
        step.tau = (penalties.nu * wg2 + penalties.rho * g2) / g2;
        let scale = T::of(-1.0 / step.tau);
        let (g, b, not_finite) = (&h, &layer.b, AtomicBool::new(false));
        team.each(&mut below.blocks[..], |i, boundary| {
            not_finite.fetch_or(step_along(&mut boundary.p, &g[i], scale), Ordering::Relaxed);
        });
        team.workers
            .each((&mut layer.blocks[..], &mut wg[..]), |_, (block, wg)| step_w_p(block, b, scale, wg));
        step.not_finite = not_finite.into_inner();
        Some(wg)
    } else {
        step.not_finite = below.blocks.iter().any(|block| has_not_finite(flat(&block.p)));
        team.workspace.give_blocks(wg);
        None
    };
    team.workspace.give_blocks(h);
    (step, residuals)
}

/// W p ← W p + `scale` W g of a block; `wg` becomes z − W p − b.
fn step_w_p<T: Real>(block: &mut LayerBlock<T>, b: &Array1<T>, scale: T, wg: &mut Array2<T>) {
    let (LayerBlock { m, z }, b) = (block, flat_vector(b));
    vectorised(
        #[inline(always)]
        || {
            for ((m, wg), z) in rows_mut(m).zip(rows_mut(wg)).zip(rows(z)) {
                for (((m, wg), &z), &b) in m.iter_mut().zip(wg).zip(z).zip(b) {
                    *m += scale * *wg;
                    *wg = z - *m - b;
                }
            }
        },
    );
}

/// p_l ← (ν (z − b) W + ρ q_{l−1} − u_{l−1}) (ν WᵀW + ρ I)^-1: the exact minimiser.
///
/// The n × n inverse is formed once and multiplied: solving N right-hand sides one by one takes 25 times longer.
/// z − b stays in the place of W p: the exact W that follows forms it anew. Cost: 2 n_l n_{l−1}² + O(n_{l−1}³) +
/// 2 N n_{l−1}².
///
/// # Errors
/// LAPACK found ν WᵀW + ρ I not positive definite in this precision.
pub fn exact_finish<T: Real>(
    layer: &Layer<T>,
    below: &mut Boundary<T>,
    mut h: Vec<Array2<T>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> Result<PStep, FactorError> {
    let Weights::Hidden(w) = &layer.weights else { return Ok(PStep::default()) };
    let inverse = T::spd_inverse(curvature(w, penalties, team))?;
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let not_finite = AtomicBool::new(false);
    team.each((&mut h[..], &mut below.blocks[..]), |_, (h, block)| {
        let BoundaryBlock { p, q, u } = block;
        vectorised(
            #[inline(always)]
            || {
                for ((h, &q), &u) in flat_mut(h).iter_mut().zip(flat(q)).zip(flat(u)) {
                    *h = nu * *h + rho * q - u;
                }
            },
        );
        product(T::one(), &*h, &inverse, T::zero(), p);
        not_finite.fetch_or(settle_all(p), Ordering::Relaxed);
    });
    team.workspace.give_blocks(h);
    team.workspace.give(inverse);
    Ok(PStep { not_finite: not_finite.into_inner(), ..PStep::default() })
}

/// A = ν WᵀW + ρ I, the curvature of the subproblem, n_{l−1} × n_{l−1}.
pub(super) fn curvature<T: Real>(w: &Array2<T>, penalties: &Penalties, team: &mut Team<'_, T>) -> Array2<T> {
    let n = w.ncols();
    let mut a = team.workspace.take((n, n));
    team.workers.gram(1, |_| w.view(), team.workspace.gram(n), &mut a);
    a *= T::of(penalties.nu);
    a.diag_mut().mapv_inplace(|x| x + T::of(penalties.rho));
    a
}

/// r ← z − W p − b of a block, nodes × n_l.
pub(super) fn residual<T: Real>(block: &LayerBlock<T>, b: &Array1<T>, r: &mut Array2<T>) {
    let b = flat_vector(b);
    vectorised(
        #[inline(always)]
        || {
            for ((r, z), m) in rows_mut(r).zip(rows(&block.z)).zip(rows(&block.m)) {
                for (((r, &z), &m), &b) in r.iter_mut().zip(z).zip(m).zip(b) {
                    *r = z - m - b;
                }
            }
        },
    );
}

/// W p ← z − b of a block, nodes × n_l: its place is free until an exact W forms it anew.
pub(super) fn target<T: Real>(block: &mut LayerBlock<T>, b: &Array1<T>) {
    let (LayerBlock { m, z }, b) = (block, flat_vector(b));
    vectorised(
        #[inline(always)]
        || {
            for (t, z) in rows_mut(m).zip(rows(z)) {
                for ((t, &z), &b) in t.iter_mut().zip(z).zip(b) {
                    *t = z - b;
                }
            }
        },
    );
}

/// g ← −ν g + u + ρ (p − q), where g holds R W; returns ‖g‖².
pub(super) fn gradient<T: Real>(
    g: &mut Array2<T>,
    boundary: &BoundaryBlock<T>,
    penalties: &Penalties,
) -> f64 {
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let BoundaryBlock { p, q, u } = boundary;
    vectorised(
        #[inline(always)]
        || {
            let mut norm2 = 0.0;
            let stretches = flat(p).chunks(STRETCH).zip(flat(q).chunks(STRETCH)).zip(flat(u).chunks(STRETCH));
            for (g, ((p, q), u)) in flat_mut(g).chunks_mut(STRETCH).zip(stretches) {
                for (((g, &p), &q), &u) in g.iter_mut().zip(p).zip(q).zip(u) {
                    *g = u + rho * (p - q) - nu * *g;
                }
                norm2 += sum_squares(g);
            }
            norm2
        },
    )
}

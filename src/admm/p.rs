//! Line 1 of Algorithm 1: p_l, l ≥ 2 (Eq. 3). On a level set (Eq. 10): [`super::p_quantized`].
//!
//! Each way has two halves, so that the product with W runs while q_{l−1} of the layer below is still on its way.

use ndarray::{Array1, Array2};

use super::{Boundary, BoundaryBlock, Layer, LayerBlock, Penalties, Team, Weights};
use crate::linalg::elements::{
    flat, flat_mut, flat_vector, frobenius2, rows, rows_mut, settle, settle_all, sum_squares,
};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, product::product};

/// What an update of p leaves to be known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PStep {
    /// τ of the gradient step; 0 where the step was skipped or the solve was exact.
    pub tau: f64,
    /// Largest |p| before rounding.
    pub peak: f64,
}

/// First half of the gradient step: H = R W with R = z − W p − b, per block, nodes × n_{l−1}.
///
/// Cost: 2 N n_l n_{l−1}.
pub fn gradient_begin<T: Real>(layer: &Layer<T>, team: &mut Team<'_, T>) -> Vec<Array2<T>> {
    times_w(layer, team, |block, b, r| residual(block, b, r))
}

/// First half of the exact solve: H = (z − b) W, per block, nodes × n_{l−1}.
///
/// Cost: 2 N n_l n_{l−1}.
pub fn exact_begin<T: Real>(layer: &Layer<T>, team: &mut Team<'_, T>) -> Vec<Array2<T>> {
    times_w(layer, team, |block, b, r| target(block, b, r))
}

/// p_l ← p_l − g/τ, g = −ν Wᵀr + u_{l−1} + ρ (p_l − q_{l−1}), and W p with it, without a product formed twice.
///
/// Along −g the subproblem is exactly quadratic, so the smallest valid τ is (ν‖W g‖² + ρ‖g‖²)/‖g‖². Where ‖g‖²
/// is zero or subnormal the step is skipped. `h` is what [`gradient_begin`] returned. Cost: 2 N n_l n_{l−1}.
pub fn gradient_finish<T: Real>(
    layer: &mut Layer<T>,
    below: &mut Boundary<T>,
    h: Vec<Array2<T>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> PStep {
    let Weights::Hidden(w) = &layer.weights else { return PStep::default() };
    let mut wg = team.workspace.take_blocks(layer.blocks.iter().map(|block| block.m.nrows()), w.nrows());
    let mut work: Vec<_> = h.into_iter().zip(&mut wg).map(|(g, wg)| (g, wg, 0.0, 0.0)).collect();
    let boundary = &below.blocks;
    team.workers.each(&mut work, |i, (g, wg, g2, wg2)| {
        *g2 = gradient(g, &boundary[i], penalties);
        product(T::one(), &*g, &w.t(), T::zero(), *wg);
        *wg2 = frobenius2(wg);
    });
    let [g2, wg2] = team.sums(work.iter().map(|work| [work.2, work.3]));
    let h: Vec<_> = work.into_iter().map(|work| work.0).collect();
    let mut step = PStep::default();
    if g2.is_normal() {
        step.tau = (penalties.nu * wg2 + penalties.rho * g2) / g2;
        let scale = T::of(-1.0 / step.tau);
        let mut pairs: Vec<_> = layer.blocks.iter_mut().zip(&mut below.blocks).collect();
        let (h, wg) = (&h, &wg);
        team.workers.each(&mut pairs, |i, (block, boundary)| {
            for (p, &g) in flat_mut(&mut boundary.p).iter_mut().zip(flat(&h[i])) {
                *p = settle(*p + scale * g);
            }
            block.m.scaled_add(scale, &wg[i]);
        });
    }
    team.workspace.give_blocks(h);
    team.workspace.give_blocks(wg);
    step
}

/// p_l ← (ν (z − b) W + ρ q_{l−1} − u_{l−1}) (ν WᵀW + ρ I)^-1: the exact minimiser.
///
/// The n × n inverse is formed once and multiplied: solving N right-hand sides one by one takes 25 times longer.
/// W p is left stale: the exact W that follows forms it. Cost: 2 n_l n_{l−1}² + O(n_{l−1}³) + 2 N n_{l−1}².
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
    let n = w.ncols();
    let mut a = Array2::zeros((n, n));
    team.workers.gram(1, |_| w, team.workspace.gram(n), &mut a);
    a *= T::of(penalties.nu);
    a.diag_mut().mapv_inplace(|x| x + T::of(penalties.rho));
    let inverse = T::spd_inverse(a)?;
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let mut work: Vec<_> = h.iter_mut().zip(&mut below.blocks).collect();
    team.workers.each(&mut work, |_, (h, BoundaryBlock { p, q, u })| {
        for ((h, q), u) in rows_mut(h).zip(rows(q)).zip(rows(u)) {
            for ((h, &q), &u) in h.iter_mut().zip(q).zip(u) {
                *h = nu * *h + rho * q - u;
            }
        }
        product(T::one(), &**h, &inverse, T::zero(), p);
        settle_all(p);
    });
    team.workspace.give_blocks(h);
    Ok(PStep::default())
}

/// H ← (what `rows` writes) W for every block.
fn times_w<T: Real>(
    layer: &Layer<T>,
    team: &mut Team<'_, T>,
    rows: impl Fn(&LayerBlock<T>, &Array1<T>, &mut Array2<T>) + Sync,
) -> Vec<Array2<T>> {
    let Weights::Hidden(w) = &layer.weights else { return Vec::new() };
    let nodes = || layer.blocks.iter().map(|block| block.m.nrows());
    let mut r = team.workspace.take_blocks(nodes(), w.nrows());
    let mut h = team.workspace.take_blocks(nodes(), w.ncols());
    let mut work: Vec<_> = r.iter_mut().zip(&mut h).collect();
    team.workers.each(&mut work, |i, (r, h)| {
        rows(&layer.blocks[i], &layer.b, r);
        product(T::one(), &**r, w, T::zero(), *h);
    });
    team.workspace.give_blocks(r);
    h
}

/// r ← z − W p − b of a block, nodes × n_l.
pub(super) fn residual<T: Real>(block: &LayerBlock<T>, b: &Array1<T>, r: &mut Array2<T>) {
    let b = flat_vector(b);
    for ((r, z), m) in rows_mut(r).zip(rows(&block.z)).zip(rows(&block.m)) {
        for (((r, &z), &m), &b) in r.iter_mut().zip(z).zip(m).zip(b) {
            *r = z - m - b;
        }
    }
}

/// t ← z − b of a block, nodes × n_l.
pub(super) fn target<T: Real>(block: &LayerBlock<T>, b: &Array1<T>, t: &mut Array2<T>) {
    let b = flat_vector(b);
    for (t, z) in rows_mut(t).zip(rows(&block.z)) {
        for ((t, &z), &b) in t.iter_mut().zip(z).zip(b) {
            *t = z - b;
        }
    }
}

/// g ← −ν g + u + ρ (p − q), where g holds R W; returns ‖g‖².
pub(super) fn gradient<T: Real>(
    g: &mut Array2<T>,
    boundary: &BoundaryBlock<T>,
    penalties: &Penalties,
) -> f64 {
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let BoundaryBlock { p, q, u } = boundary;
    let mut norm2 = 0.0;
    for (((g, p), q), u) in rows_mut(g).zip(rows(p)).zip(rows(q)).zip(rows(u)) {
        for (((g, &p), &q), &u) in g.iter_mut().zip(p).zip(q).zip(u) {
            *g = u + rho * (p - q) - nu * *g;
        }
        norm2 += sum_squares(g);
    }
    norm2
}

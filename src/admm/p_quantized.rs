//! Line 1 of Algorithm 1 where p_l is confined to a level set (Eq. 10): two ways to lower φ over the levels.

use ndarray::{Array2, s};

use super::p::{PStep, curvature, gradient};
use super::{Boundary, BoundaryBlock, Layer, Penalties, Team, Weights, spectral};
use crate::linalg::elements::{flat, flat_mut, larger, peak, rows, rows_mut, sum2, vectorised};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, product::product};
use crate::quantize::LevelSet;

/// Where rounding makes the model fail to majorise, τ grows by at least this factor.
const TAU_GROWTH: f64 = 1.5;
/// Power iteration approaches ‖W‖₂ from below; its estimate is raised by this factor.
const SPECTRAL_MARGIN: f64 = 1.02;

/// Entries whose changes are gathered before they reach the gradient of the others.
const STRIP: usize = 64;

/// How p is brought to its levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantizedP {
    /// Where a layer's subproblems are solved exactly, its entries go to their best levels one after another; elsewhere as
    /// the gradient step with a power iteration.
    BestLevels,
    /// The nearest level of a gradient step.
    GradientStep(SpectralNorm),
}

/// How ‖W‖₂² is found for a gradient step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpectralNorm {
    /// Warm power iteration, checked against the model afterwards.
    #[default]
    Power,
    /// Eigenvalues, unchecked: for comparison with an independent exact solution.
    Exact,
}

/// p_l ← nearest level of p_l − g/τ with τ = ν‖W‖₂² + ρ, and W p formed anew.
///
/// The estimate of ‖W‖₂ may be low, so the step is held to the model it was taken from,
/// ν‖W d‖² + ρ‖d‖² ≤ τ‖d‖² for the rounded step d, and τ is raised until it is. Cost: 2 N n_l n_{l−1} a try.
///
/// # Errors
/// LAPACK failed in the exact spectral norm.
pub fn gradient_step<T: Real>(
    layer: &mut Layer<T>,
    below: &mut Boundary<T>,
    mut h: Vec<Array2<T>>,
    levels: &LevelSet,
    penalties: &Penalties,
    norm: SpectralNorm,
    team: &mut Team<'_, T>,
) -> Result<PStep, FactorError> {
    let Weights::Hidden(w) = &layer.weights else { return Ok(PStep::default()) };
    let Penalties { rho, nu } = *penalties;
    let spectral = match norm {
        SpectralNorm::Exact => spectral::exact(w)?,
        SpectralNorm::Power => {
            SPECTRAL_MARGIN * spectral::power_iteration(w, &mut layer.spectral, team.workspace)
        }
    };
    let mut step = PStep { tau: nu * spectral + rho, ..PStep::default() };
    let mut new_p = team.workspace.take_blocks(layer.block_nodes(), w.ncols());
    let mut new_m = team.workspace.take_blocks(layer.block_nodes(), w.nrows());
    let (boundary, blocks) = (&below.blocks, &layer.blocks);
    team.each(&mut h[..], |i, g| {
        gradient(g, &boundary[i], penalties);
    });
    loop {
        let (scale, g) = (T::of(1.0 / step.tau), &h);
        let mut sums = team.workspace.take_sums(h.len());
        team.each((&mut new_p[..], &mut new_m[..], &mut sums[..]), |i, (p, m, sums)| {
            let [d2, wd2, top, ..] = sums;
            [*d2, *top] = round(p, &boundary[i].p, &g[i], scale, levels);
            product(T::one(), &*p, &w.t(), T::zero(), m);
            *wd2 = rows(m).zip(rows(&blocks[i].m)).map(|(x, y)| sum2(x, y, |x, y| (x - y) * (x - y))).sum();
        });
        step.peak = sums.iter().fold(0.0, |top, sums| larger(top, sums[2]));
        let [d2, wd2] = team.sums_of(sums);
        let needed = nu * wd2 + rho * d2;
        // The margin covers rounding of the two norms.
        // A step of nothing is always right; W p formed anew may still differ from the one carried along.
        let holds = d2 == 0.0 || needed <= step.tau * d2 * (1.0 + 1e-6);
        if norm == SpectralNorm::Exact || holds || !needed.is_finite() {
            break;
        }
        step.tau = (needed / d2).max(step.tau) * TAU_GROWTH;
    }
    step.not_finite = !step.peak.is_finite();
    let moved = new_p.iter_mut().zip(&mut new_m).zip(layer.blocks.iter_mut().zip(&mut below.blocks));
    for ((p, m), (block, boundary)) in moved {
        std::mem::swap(p, &mut boundary.p);
        std::mem::swap(m, &mut block.m);
    }
    [h, new_p, new_m].into_iter().for_each(|blocks| team.workspace.give_blocks(blocks));
    Ok(step)
}

/// p_l ← the best levels of φ, one entry of a node after another, j = 1…n_{l−1}: given the others, the best level of
/// entry j is the one nearest to p_j − g_j/A_jj, with A = ν WᵀW + ρ I and g the gradient at this point.
///
/// No entry's own curvature A_jj exceeds τ of the gradient step, which is that of the strongest direction and soon shorter
/// than half a level: entries that the gradient step leaves where they are still find better levels here. φ never rises.
/// `h` is what [`super::p::exact_begin`] returned. W p is left stale: the exact W that follows forms it.
/// What changes in a strip of entries reaches the gradient of those after it by one product, left out where nothing did.
/// Cost: 2 n_l n_{l−1}² + 2 N n_{l−1}², and up to N n_{l−1}² for changes.
pub fn best_levels<T: Real>(
    layer: &Layer<T>,
    below: &mut Boundary<T>,
    mut h: Vec<Array2<T>>,
    levels: &LevelSet,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> PStep {
    let Weights::Hidden(w) = &layer.weights else { return PStep::default() };
    let n = w.ncols();
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let a = curvature(w, penalties, team);
    let mut tops = team.workspace.take_sums(h.len());
    let mut changes = team.workspace.take_blocks(layer.block_nodes(), STRIP.min(n));
    let lists = (&mut h[..], &mut below.blocks[..], &mut tops[..], &mut changes[..]);
    team.each(lists, |_, (g, block, [top, ..], change)| {
        let BoundaryBlock { p, q, u } = block;
        vectorised(
            #[inline(always)]
            || {
                for ((g, &q), &u) in flat_mut(g).iter_mut().zip(flat(q)).zip(flat(u)) {
                    *g = u - nu * *g - rho * q;
                }
            },
        );
        product(T::one(), &*p, &a, T::one(), g);
        for start in (0..n).step_by(STRIP) {
            let end = (start + STRIP).min(n);
            change.fill(T::zero());
            let mut any = false;
            for ((p, g), change) in rows_mut(p).zip(rows_mut(g)).zip(rows_mut(change)) {
                for (j, a) in (start..end).zip(rows(&a).skip(start)) {
                    let target = (p[j] - g[j] / a[j]).f64();
                    *top = larger(*top, target.abs());
                    let best = T::of(levels.value(levels.nearest(target)));
                    let step = best - p[j];
                    if step != T::zero() {
                        any = true;
                        (p[j], change[j - start]) = (best, step);
                        g[start..end].iter_mut().zip(&a[start..end]).for_each(|(g, &a)| *g += step * a);
                    }
                }
            }
            if any && end < n {
                let (rest, change) = (s![start..end, end..], change.slice(s![.., ..end - start]));
                product(T::one(), &change, &a.slice(rest), T::one(), &mut g.slice_mut(s![.., end..]));
            }
        }
    });
    let peak = tops.iter().fold(0.0, |top, [block, ..]| larger(top, *block));
    team.workspace.give_sums(tops);
    [h, changes].into_iter().for_each(|blocks| team.workspace.give_blocks(blocks));
    team.workspace.give(a);
    PStep { peak, not_finite: !peak.is_finite(), ..PStep::default() }
}

/// p ← nearest level of old − scale g; returns the square of the step and the largest |p| before rounding.
fn round<T: Real>(
    p: &mut Array2<T>,
    old: &Array2<T>,
    g: &Array2<T>,
    scale: T,
    levels: &LevelSet,
) -> [f64; 2] {
    let (mut d2, mut top) = (0.0, 0.0);
    for ((p, g), old) in rows_mut(p).zip(rows(g)).zip(rows(old)) {
        for ((p, &g), &old) in p.iter_mut().zip(g).zip(old) {
            *p = old - scale * g;
        }
        top = larger(top, peak(p));
        levels.round(p);
        d2 += sum2(p, old, |p, old| (p - old) * (p - old));
    }
    [d2, top]
}

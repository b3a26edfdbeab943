//! Line 2 of Algorithm 1: W_l (Eq. 4). Layer 1 in N dimensions is in [`super::first_layer`].

use ndarray::Array2;

use super::p::{residual, target};
use super::penalties::WeightPenalty;
use super::state::FirstLayer;
use super::{Boundary, Layer, LayerBlock, Penalties, Team, Weights, b};
use crate::linalg::elements::{
    STRETCH, flat, flat_mut, frobenius2, rows, settle_all, step_along, sum_squares, vectorised,
};
use crate::linalg::factor::FactorError;
use crate::linalg::gram::gram_operations;
use crate::linalg::{Real, product::product};

/// What an update of W leaves to be known.
#[derive(Debug)]
pub struct WStep<T> {
    /// θ of the gradient step; 0 where the step was skipped.
    pub theta: f64,
    /// Σ over the nodes of each block of z − W p at the new point, 1 × n_l, for b; where a step was made.
    pub sums: Option<Vec<Array2<T>>>,
}

impl<T> WStep<T> {
    /// A step that was skipped.
    pub(super) const SKIPPED: Self = Self { theta: 0.0, sums: None };
}

/// The inputs p_l of block `i`: of layer 1 its X, of the others p of the boundary below.
fn input_of<'a, T>(x: Option<&'a [Array2<T>]>, below: Option<&'a Boundary<T>>, i: usize) -> &'a Array2<T> {
    match (x, below) {
        (Some(x), _) => &x[i],
        (None, Some(below)) => &below.blocks[i].p,
        (None, None) => unreachable!("a layer above the first has a boundary below it"),
    }
}

/// W_l ← W_l − g/θ, g = −ν r p_lᵀ + μ W_l, and W p with it.
///
/// Along −g the subproblem is exactly quadratic, so the smallest valid θ is (ν‖g p‖² + μ‖g‖²)/‖g‖²; where ‖g‖²
/// is zero or subnormal the step is skipped. `residuals` are r = z − W p − b by block, where the update of p has left
/// them. Cost: 4 N n_l n_{l−1}, or less with few nodes (`residuals_by_nodes`).
pub fn gradient<T: Real>(
    layer: &mut Layer<T>,
    below: Option<&Boundary<T>>,
    residuals: Option<Vec<Array2<T>>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> WStep<T> {
    let mut r = residuals.unwrap_or_default();
    if r.is_empty() {
        r = team.workspace.take_blocks(layer.block_nodes(), layer.b.len());
        team.each(&mut r[..], |i, r| residual(&layer.blocks[i], &layer.b, r));
    }
    let Layer { weights, blocks, b: bias, penalty, .. } = layer;
    let (w, x) = match weights {
        Weights::Hidden(w) => (w, None),
        Weights::First(FirstLayer { w, x, .. }) => (w, Some(x.as_slice())),
        Weights::Dual(dual) => return dual.gradient(blocks, r, penalty, penalties, team),
    };
    let input = |i: usize| input_of(x, below, i);
    let nu = penalties.nu;
    let mu = penalty.decay(nu);
    let mut g = team.workspace.take(w.dim());
    team.sum_of_products(blocks.len(), |i| (r[i].view(), input(i).view()), &mut g);
    let g2 = direction(&mut g, w, T::of(mu), T::of(nu));

    let mut norms = team.workspace.take_sums(blocks.len());
    let by_nodes = x.is_none() && team.shards.count() == 1 && blocks.len() == 1;
    let gp = if by_nodes && residuals_by_nodes(blocks[0].m.nrows(), w.dim()) {
        let gp = times_input_by_nodes(r, input(0), &blocks[0].m, [T::of(mu), T::of(nu)], team);
        norms[0][0] = frobenius2(&gp[0]);
        gp
    } else {
        // r makes room for g p.
        team.each((&mut r[..], &mut norms[..]), |i, (gp, norms)| {
            product(T::one(), input(i), &g.t(), T::zero(), gp);
            norms[0] = frobenius2(gp);
        });
        r
    };
    let [gp2] = team.sums_of(norms);
    let mut step = WStep::SKIPPED;
    if g2.is_normal() {
        step.theta = (nu * gp2 + mu * g2) / g2;
        let scale = T::of(-1.0 / step.theta);
        step_along(w, &g, scale);
        let mut sums = b::take_sums(blocks, bias.len(), team);
        team.each((&mut blocks[..], &mut sums[..]), |i, (block, sum)| {
            b::step_with_sums(block, rows(&gp[i]), scale, sum);
        });
        step.sums = Some(sums);
    }
    team.workspace.give(g);
    team.workspace.give_blocks(gp);
    step
}

/// Whether g p = μ W p − ν r (pᵀp) takes fewer operations with pᵀp, N × N (node-major P Pᵀ), than as a product of g and p.
pub(super) fn residuals_by_nodes(nodes: usize, (outputs, inputs): (usize, usize)) -> bool {
    let by_nodes = gram_operations(nodes, inputs) + 2.0 * (nodes * nodes * outputs) as f64;
    by_nodes < 2.0 * (nodes * outputs * inputs) as f64
}

/// g p = μ W p − ν r (pᵀp) of the only block.
fn times_input_by_nodes<T: Real>(
    r: Vec<Array2<T>>,
    p: &Array2<T>,
    m: &Array2<T>,
    [mu, nu]: [T; 2],
    team: &mut Team<'_, T>,
) -> Vec<Array2<T>> {
    let nodes = p.nrows();
    let mut gram = team.workspace.take((nodes, nodes));
    team.workers.gram(1, |_| p.t(), team.workspace.gram(nodes), &mut gram);
    let mut gp = team.workspace.take_blocks(std::iter::once(nodes), m.ncols());
    team.workers.product(-nu, &gram, &r[0], T::zero(), &mut gp[0]);
    step_along(&mut gp[0], m, mu);
    team.workspace.give(gram);
    team.workspace.give_blocks(r);
    gp
}

/// g ← μ W − ν g, where g holds r pᵀ; returns ‖g‖².
fn direction<T: Real>(g: &mut Array2<T>, w: &Array2<T>, mu: T, nu: T) -> f64 {
    vectorised(
        #[inline(always)]
        || {
            let mut norm2 = 0.0;
            for (g, w) in flat_mut(g).chunks_mut(STRETCH).zip(flat(w).chunks(STRETCH)) {
                for (g, &w) in g.iter_mut().zip(w) {
                    *g = mu * w - nu * *g;
                }
                norm2 += sum_squares(g);
            }
            norm2
        },
    )
}

/// W_l ← argmin ν/2 ‖z − b − W p‖² + μ/2 ‖W‖² + ε/2 ‖W − W_old‖², and W p with it.
///
/// With N ≥ n_{l−1}: W = (ν (z−b) pᵀ + ε W_old)(ν p pᵀ + λ I)^-1, λ = μ + ε. With fewer nodes, in one block,
/// the N × N form W = W_s + ν (z − b − W_s p)(ν pᵀp + λ I)^-1 pᵀ, W_s = (ε/λ) W_old. ε is
/// [`WeightPenalty::theta_prox`] times the mean eigenvalue of ν p pᵀ. z − b takes the place of W p until that is formed
/// anew; `targets_are_there` where an exact p has put it there. Cost: 4 N n_l n_{l−1} + 2 N n_{l−1}²
/// + O(n_{l−1}³), or with N instead of n_{l−1} where that is smaller.
///
/// # Errors
/// LAPACK found the matrix not positive definite in this precision.
pub fn exact<T: Real>(
    layer: &mut Layer<T>,
    below: Option<&Boundary<T>>,
    targets_are_there: bool,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> Result<(), FactorError> {
    if !targets_are_there {
        let b = &layer.b;
        team.each(&mut layer.blocks[..], |_, block| target(block, b));
    }
    let Layer { weights, blocks, penalty, .. } = layer;
    let (w, x, cache) = match weights {
        Weights::Hidden(w) => (w, None, None),
        Weights::First(FirstLayer { w, x, gram, inverse }) => (w, Some(x.as_slice()), Some((gram, inverse))),
        Weights::Dual(dual) => return dual.exact(blocks, penalty, penalties, team),
    };
    let input = |i: usize| input_of(x, below, i);
    let (rows, n) = w.dim();

    let single = team.shards.count() == 1 && blocks.len() == 1 && blocks[0].m.nrows() < n && cache.is_none();
    if single {
        exact_by_nodes(w, input(0), &mut blocks[0].m, penalty, penalties.nu, team)?;
    } else {
        let mut c = team.workspace.take((rows, n));
        team.sum_of_products(blocks.len(), |i| (blocks[i].m.view(), input(i).view()), &mut c);
        match cache {
            Some((gram, inverse)) => {
                let gram = gram.get_or_insert_with(|| {
                    let mut gram = Array2::zeros((n, n));
                    team.gram(blocks.len(), |i| input(i).view(), &mut gram);
                    gram
                });
                let (epsilon, lambda) = regulariser(gram, n, penalty, penalties.nu);
                let key = (penalties.nu, lambda);
                if inverse.as_ref().is_none_or(|(of, _)| *of != key) {
                    // The old one goes first: it is as large as the Gram matrix.
                    *inverse = None;
                    *inverse = Some((key, ridge_inverse(gram.clone(), penalties.nu, lambda)?));
                }
                if let Some((_, inverse)) = inverse {
                    apply(w, c, inverse, penalties.nu, epsilon, team);
                }
            }
            None => {
                let mut gram = team.workspace.take((n, n));
                team.gram(blocks.len(), |i| input(i).view(), &mut gram);
                let (epsilon, lambda) = regulariser(&gram, n, penalty, penalties.nu);
                let inverse = ridge_inverse(gram, penalties.nu, lambda)?;
                apply(w, c, &inverse, penalties.nu, epsilon, team);
                team.workspace.give(inverse);
            }
        }
    }
    settle_all(w);
    let w = &*w;
    team.each(&mut blocks[..], |i, block| {
        product(T::one(), input(i), &w.t(), T::zero(), &mut block.m);
    });
    Ok(())
}

/// ε and λ = μ + ε for n inputs with this Gram matrix (p pᵀ or pᵀp: the same trace).
fn regulariser<T: Real>(gram: &Array2<T>, inputs: usize, penalty: &WeightPenalty, nu: f64) -> (f64, f64) {
    let trace: f64 = gram.diag().iter().map(|x| x.f64()).sum();
    let decay = penalty.decay(nu);
    let epsilon = penalty.theta_prox * nu * trace / inputs.max(1) as f64;
    match penalty.theta_prox > 0.0 && decay == 0.0 && !T::of(epsilon).is_normal() {
        // With inputs that are all 0, as where every neuron below is dead, any W is a minimiser: the old one stays.
        true => (1.0, 1.0),
        false => (epsilon, decay + epsilon),
    }
}

/// (ν G + λ I)^-1.
fn ridge_inverse<T: Real>(mut gram: Array2<T>, nu: f64, lambda: f64) -> Result<Array2<T>, FactorError> {
    gram.mapv_inplace(|x| x * T::of(nu));
    gram.diag_mut().mapv_inplace(|x| x + T::of(lambda));
    T::spd_inverse(gram)
}

/// W ← (ν C + ε W) A^-1.
fn apply<T: Real>(
    w: &mut Array2<T>,
    mut c: Array2<T>,
    inverse: &Array2<T>,
    nu: f64,
    epsilon: f64,
    team: &mut Team<'_, T>,
) {
    ndarray::Zip::from(&mut c).and(&*w).for_each(|c, &w| *c = T::of(nu) * *c + T::of(epsilon) * w);
    team.workers.product(T::one(), &c, inverse, T::zero(), w);
    team.workspace.give(c);
}

/// The N × N form for one block of few nodes; `t` holds z − b and is overwritten.
fn exact_by_nodes<T: Real>(
    w: &mut Array2<T>,
    p: &Array2<T>,
    t: &mut Array2<T>,
    penalty: &WeightPenalty,
    nu: f64,
    team: &mut Team<'_, T>,
) -> Result<(), FactorError> {
    let nodes = p.nrows();
    let mut gram = team.workspace.take((nodes, nodes));
    team.workers.gram(1, |_| p.t(), team.workspace.gram(nodes), &mut gram);
    let (epsilon, lambda) = regulariser(&gram, p.ncols(), penalty, nu);
    let inverse = ridge_inverse(gram, nu, lambda)?;
    let keep = if lambda > 0.0 { T::of(epsilon / lambda) } else { T::zero() };
    w.mapv_inplace(|w| w * keep);
    if epsilon > 0.0 {
        product(-T::one(), p, &w.t(), T::one(), t);
    }
    let mut solved = team.workspace.take(t.dim());
    team.workers.product(T::one(), &inverse, t, T::zero(), &mut solved);
    product(T::of(nu), &solved.t(), p, T::one(), w);
    team.workspace.give(solved);
    team.workspace.give(inverse);
    Ok(())
}

/// W p of every block formed anew from W.
pub fn refresh<T: Real>(layer: &mut Layer<T>, below: Option<&Boundary<T>>, team: &mut Team<'_, T>) {
    let Layer { weights, blocks, .. } = layer;
    let (w, x): (&Array2<T>, _) = match weights {
        Weights::Hidden(w) => (w, None),
        Weights::First(FirstLayer { w, x, .. }) => (w, Some(x.as_slice())),
        Weights::Dual(dual) => return dual.refresh(blocks, team),
    };
    let form = |i: usize, block: &mut LayerBlock<T>| {
        product(T::one(), input_of(x, below, i), &w.t(), T::zero(), &mut block.m);
    };
    team.each(&mut blocks[..], form);
}

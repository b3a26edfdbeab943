//! Line 2 of Algorithm 1: W_l (Eq. 4). Layer 1 in N dimensions is in [`super::first_layer`].

use ndarray::Array2;

use super::p::{residual, target};
use super::penalties::WeightPenalty;
use super::state::FirstLayer;
use super::{Boundary, Layer, LayerBlock, Penalties, Team, Weights};
use crate::linalg::elements::{frobenius2, settle_all};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, Workers, product::product};

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
/// is zero or subnormal the step is skipped. Returns θ, 0 where skipped. Cost: 4 N n_l n_{l−1}.
pub fn gradient<T: Real>(
    layer: &mut Layer<T>,
    below: Option<&Boundary<T>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> f64 {
    let Layer { weights, blocks, b, penalty, .. } = layer;
    let (w, x) = match weights {
        Weights::Hidden(w) => (w, None),
        Weights::First(FirstLayer { w, x, .. }) => (w, Some(x.as_slice())),
        Weights::Dual(dual) => return dual.gradient(blocks, b, penalty, penalties, team),
    };
    let input = |i: usize| input_of(x, below, i);
    let nu = penalties.nu;
    let mu = penalty.decay(nu);
    let shape = w.dim();
    let nodes = || blocks.iter().map(|block| block.m.nrows());
    let mut r = team.workspace.take_blocks(nodes(), shape.0);
    team.workers.each(&mut r, |i, r| residual(&blocks[i], b, r));
    let mut g = team.workspace.take(shape);
    team.sum_of_products(blocks.len(), |i| (&r[i], input(i)), &mut g);
    ndarray::Zip::from(&mut g).and(&*w).for_each(|g, &w| *g = T::of(mu) * w - T::of(nu) * *g);
    let g2 = frobenius2(&g);

    let mut gp = r;
    let mut work: Vec<_> = gp.iter_mut().map(|gp| (gp, 0.0)).collect();
    team.workers.each(&mut work, |i, (gp, gp2)| {
        product(T::one(), input(i), &g.t(), T::zero(), *gp);
        *gp2 = frobenius2(gp);
    });
    let [gp2] = team.sums(work.iter().map(|work| [work.1]));
    let mut theta = 0.0;
    if g2.is_normal() {
        theta = (nu * gp2 + mu * g2) / g2;
        let scale = T::of(-1.0 / theta);
        w.scaled_add(scale, &g);
        settle_all(w);
        team.workers.each(blocks, |i, block| block.m.scaled_add(scale, &gp[i]));
    }
    team.workspace.give(g);
    team.workspace.give_blocks(gp);
    theta
}

/// W_l ← argmin ν/2 ‖z − b − W p‖² + μ/2 ‖W‖² + ε/2 ‖W − W_old‖², and W p with it.
///
/// With N ≥ n_{l−1}: W = (ν (z−b) pᵀ + ε W_old)(ν p pᵀ + λ I)^-1, λ = μ + ε. With fewer nodes, in one block,
/// the N × N form W = W_s + ν (z − b − W_s p)(ν pᵀp + λ I)^-1 pᵀ, W_s = (ε/λ) W_old. ε is
/// [`WeightPenalty::theta_prox`] times the mean eigenvalue of ν p pᵀ. Cost: 4 N n_l n_{l−1} + 2 N n_{l−1}²
/// + O(n_{l−1}³), or with N instead of n_{l−1} where that is smaller.
///
/// # Errors
/// LAPACK found the matrix not positive definite in this precision.
pub fn exact<T: Real>(
    layer: &mut Layer<T>,
    below: Option<&Boundary<T>>,
    penalties: &Penalties,
    team: &mut Team<'_, T>,
) -> Result<(), FactorError> {
    let Layer { weights, blocks, b, penalty, .. } = layer;
    let (w, x, cache) = match weights {
        Weights::Hidden(w) => (w, None, None),
        Weights::First(FirstLayer { w, x, gram, inverse }) => (w, Some(x.as_slice()), Some((gram, inverse))),
        Weights::Dual(dual) => return dual.exact(blocks, b, penalty, penalties, team),
    };
    let input = |i: usize| input_of(x, below, i);
    let (rows, n) = w.dim();
    let mut t = team.workspace.take_blocks(blocks.iter().map(|block| block.m.nrows()), rows);
    team.workers.each(&mut t, |i, t| target(&blocks[i], b, t));

    let single = team.shards.count() == 1 && blocks.len() == 1 && blocks[0].m.nrows() < n && cache.is_none();
    if single {
        exact_by_nodes(w, input(0), &mut t[0], penalty, penalties.nu, team.workers)?;
    } else {
        let mut c = team.workspace.take((rows, n));
        team.sum_of_products(blocks.len(), |i| (&t[i], input(i)), &mut c);
        let mut gram_of = |out: &mut Array2<T>| {
            team.gram(blocks.len(), input, out);
        };
        match cache {
            Some((gram, inverse)) => {
                let gram = gram.get_or_insert_with(|| {
                    let mut gram = Array2::zeros((n, n));
                    gram_of(&mut gram);
                    gram
                });
                let (epsilon, lambda) = regulariser(gram, penalty, penalties.nu);
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
                let mut gram = Array2::zeros((n, n));
                gram_of(&mut gram);
                let (epsilon, lambda) = regulariser(&gram, penalty, penalties.nu);
                let inverse = ridge_inverse(gram, penalties.nu, lambda)?;
                apply(w, c, &inverse, penalties.nu, epsilon, team);
            }
        }
    }
    team.workspace.give_blocks(t);
    settle_all(w);
    let w = &*w;
    team.workers.each(blocks, |i, block| product(T::one(), input(i), &w.t(), T::zero(), &mut block.m));
    Ok(())
}

/// ε and λ = μ + ε for inputs with this Gram matrix (p pᵀ or pᵀp: the same trace).
fn regulariser<T: Real>(gram: &Array2<T>, penalty: &WeightPenalty, nu: f64) -> (f64, f64) {
    let trace: f64 = gram.diag().iter().map(|x| x.f64()).sum();
    let epsilon = penalty.theta_prox * nu * trace / gram.nrows().max(1) as f64;
    (epsilon, penalty.decay(nu) + epsilon)
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
    workers: &Workers,
) -> Result<(), FactorError> {
    let nodes = p.nrows();
    let mut gram = Array2::zeros((nodes, nodes));
    workers.product(T::one(), p, &p.t().to_owned(), T::zero(), &mut gram);
    let trace: f64 = gram.diag().iter().map(|x| x.f64()).sum();
    let epsilon = penalty.theta_prox * nu * trace / p.ncols().max(1) as f64;
    let lambda = penalty.decay(nu) + epsilon;
    let inverse = ridge_inverse(gram, nu, lambda)?;
    let keep = if lambda > 0.0 { T::of(epsilon / lambda) } else { T::zero() };
    w.mapv_inplace(|w| w * keep);
    if epsilon > 0.0 {
        product(-T::one(), p, &w.t(), T::one(), t);
    }
    let solved = inverse.dot(t);
    product(T::of(nu), &solved.t(), p, T::one(), w);
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
    team.workers.each(blocks, form);
}

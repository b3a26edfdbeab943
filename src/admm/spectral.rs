//! ‖W‖₂², which bounds the curvature of the p subproblem where p is quantized.

use ndarray::linalg::general_mat_vec_mul;
use ndarray::{Array1, Array2};

use super::Workspace;
use crate::linalg::elements::{flat, flat_vector, sum_squares};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, product::product};

/// Steps of the first power iteration of a layer, and of each later one (W changes little between iterations).
const COLD_STEPS: usize = 30;
const WARM_STEPS: usize = 3;

/// An estimate of ‖W‖₂² from below by power iteration, which starts from and updates `vector`.
///
/// Cost: 4 n_l n_{l-1} floating point operations a step.
pub fn power_iteration<T: Real>(
    w: &Array2<T>,
    vector: &mut Option<Array1<T>>,
    workspace: &mut Workspace<T>,
) -> f64 {
    let steps = if vector.is_some() { WARM_STEPS } else { COLD_STEPS };
    let n = w.ncols();
    // A fixed start with no structure that weights could be orthogonal to.
    let mut v = vector
        .take()
        .filter(|v| v.len() == n)
        .unwrap_or_else(|| Array1::from_shape_fn(n, |i| T::of(1.0 + ((i * 7919 + 13) % 101) as f64 / 101.0)));
    let mut wv = workspace.take((1, w.nrows()));
    let mut estimate = 0.0;
    for _ in 0..steps {
        let norm = sum_squares(flat_vector(&v)).sqrt();
        if !(norm > 0.0 && norm.is_finite()) {
            break;
        }
        v.mapv_inplace(|x| x / T::of(norm));
        general_mat_vec_mul(T::one(), w, &v, T::zero(), &mut wv.row_mut(0));
        estimate = sum_squares(flat(&wv));
        general_mat_vec_mul(T::one(), &w.t(), &wv.row(0), T::zero(), &mut v);
    }
    workspace.give(wv);
    *vector = Some(v);
    estimate
}

/// ‖W‖₂² from the eigenvalues of WᵀW; for tests that compare with an exact solution.
///
/// # Errors
/// LAPACK did not converge.
pub fn exact<T: Real>(w: &Array2<T>) -> Result<f64, FactorError> {
    let mut gram = Array2::zeros((w.ncols(), w.ncols()));
    product(T::one(), &w.t(), w, T::zero(), &mut gram);
    let (values, _) = T::symmetric_eigen(gram)?;
    Ok(values.iter().fold(0.0, |top: f64, v| top.max(v.f64())))
}

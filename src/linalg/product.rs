//! The matrix product: the one place where the backend is chosen.
//!
//! ndarray's own product (matrixmultiply) reaches about 147 GFLOP/s in f32 on an AVX-512 core; its result
//! for an element depends on the operands' shared dimension alone, not on how rows are split.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayBase, Data, DataMut, Ix2};

use super::Real;

/// C ← α A B + β C, for A m × k, B k × n: 2 m n k floating point operations.
///
/// Transposed operands are views (`a.t()`); β = 0 does not read C.
#[inline]
pub fn product<T, S1, S2, S3>(
    alpha: T,
    a: &ArrayBase<S1, Ix2>,
    b: &ArrayBase<S2, Ix2>,
    beta: T,
    c: &mut ArrayBase<S3, Ix2>,
) where
    T: Real,
    S1: Data<Elem = T>,
    S2: Data<Elem = T>,
    S3: DataMut<Elem = T>,
{
    #[cfg(test)]
    OPERATIONS.set(OPERATIONS.get() + 2.0 * (a.nrows() * b.ncols() * a.ncols()) as f64);
    general_mat_mul(alpha, a, b, beta, c);
}

#[cfg(test)]
thread_local! {
    /// Operations of all products of this thread, to hold formulas of costs to.
    pub(crate) static OPERATIONS: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

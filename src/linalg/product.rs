//! The matrix product: the one place where the backend is chosen.
//!
//! On x86 processors with fused multiply-add it is the assembly that faer multiplies with (`linalg/kernel.rs`); on other
//! processors it is ndarray's own (matrixmultiply). The choice depends on the processor's instructions, never on time.
//!
//! An element of A B is a sum over the inner dimension that both backends take in order, in pieces of a fixed length, with
//! one running sum, whatever the other two dimensions are. So a row of the output has the same bits in whichever strip of
//! rows it is computed, and threads and ranks may split rows and columns as they like; only the inner dimension must not be
//! split differently. The instructions of 256 and of 512 bits give the same bits too: hosts with either may share a run.
//! The tests below hold the backends to this.
//!
//! Measured by `cargo bench --bench product`.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayBase, Data, DataMut, Ix2};

use super::Real;
#[cfg(target_arch = "x86_64")]
use super::kernel;

/// C ← α A B + β C, for A m × k, B k × n: 2 m n k floating point operations.
///
/// Transposed operands are views (`a.t()`); β = 0 does not read C.
///
/// # Panics
/// The shapes do not fit together.
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
    #[cfg(target_arch = "x86_64")]
    // With nothing to add up the kernels leave C as it is.
    if let (Some(instructions), true) = (kernel::instructions(), a.ncols() > 0) {
        let add = beta != T::zero();
        if add && beta != T::one() {
            c.mapv_inplace(|c| beta * c);
        }
        if kernel::multiply(instructions, alpha, &a.view(), &b.view(), add, &mut c.view_mut()) {
            return;
        }
    }
    general_mat_mul(alpha, a, b, beta, c);
}

/// What ranks must agree on for an element of a product to have the same bits on all of them.
pub fn arithmetic() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if kernel::instructions().is_some() {
        return "fused products";
    }
    "products of matrixmultiply"
}

#[cfg(test)]
thread_local! {
    /// Operations of all products of this thread, to hold formulas of costs to.
    pub(crate) static OPERATIONS: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, s};

    /// Numbers whose sums round differently in another order.
    fn matrix<T: Real>(rows: usize, cols: usize, seed: u64) -> Array2<T> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        Array2::from_shape_simple_fn((rows, cols), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::of((state >> 40) as f64 / f64::from(1 << 24) - 0.5)
        })
    }

    /// The same elements with the other order in memory.
    fn columns_first<T: Real>(a: &Array2<T>) -> Array2<T> {
        let mut other = Array2::zeros(a.t().dim());
        other.assign(&a.t());
        other.reversed_axes()
    }

    fn by_definition<T: Real>(
        alpha: f64,
        a: &Array2<T>,
        b: &Array2<T>,
        beta: f64,
        c: &Array2<T>,
    ) -> Array2<f64> {
        Array2::from_shape_fn(c.dim(), |(i, j)| {
            let sum: f64 = a.row(i).iter().zip(b.column(j)).map(|(a, b)| a.f64() * b.f64()).sum();
            alpha * sum + if beta == 0.0 { 0.0 } else { beta * c[[i, j]].f64() }
        })
    }

    const SIZES: [usize; 7] = [0, 1, 2, 17, 49, 130, 515];

    fn equals_the_definition<T: Real>(tolerance: f64) {
        for (case, &m) in SIZES.iter().enumerate() {
            for &n in &SIZES {
                for &k in &SIZES {
                    let (a, b) = (matrix::<T>(m, k, case as u64), matrix::<T>(k, n, 50 + case as u64));
                    let (alpha, beta) = [(1.0, 0.0), (1.0, 1.0), (-0.5, 0.0), (2.0, -0.25)][(m + n + k) % 4];
                    let start = match beta {
                        0.0 => Array2::from_elem((m, n), T::of(f64::NAN)),
                        _ => matrix(m, n, 99),
                    };
                    let expected = by_definition(alpha, &a, &b, beta, &start);
                    let (at, bt) = (columns_first(&a), columns_first(&b));
                    for (a, b) in [(&a, &b), (&at, &b), (&a, &bt), (&at, &bt)] {
                        let mut c = start.clone();
                        product(T::of(alpha), a, b, T::of(beta), &mut c);
                        let mut wide = Array2::from_elem((m + 2, n + 3), T::of(7.0));
                        let mut inner = wide.slice_mut(s![1..m + 1, 2..n + 2]);
                        inner.assign(&start);
                        product(T::of(alpha), a, b, T::of(beta), &mut inner);
                        assert_eq!(inner, c, "{m} x {k} x {n}: strides change the result");
                        let outside = wide.iter().filter(|&&x| x == T::of(7.0)).count();
                        assert!(outside >= wide.len() - m * n, "{m} x {k} x {n}: wrote outside of C");
                        for (c, e) in c.iter().zip(&expected) {
                            let bound = tolerance * (1.0 + k as f64);
                            assert!((c.f64() - e).abs() <= bound, "{m} x {k} x {n}: {c} is not {e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_shape_and_layout_equals_the_definition() {
        equals_the_definition::<f32>(1e-6);
        equals_the_definition::<f64>(1e-15);
    }

    fn parts_equal_the_whole<T: Real>() {
        for (m, n, k) in [(300, 200, 700), (1300, 40, 513), (40, 1300, 1100), (140, 100, 100), (90, 70, 10)] {
            for transposed in [false, true] {
                let (mut a, b) = (matrix::<T>(m, k, 1), matrix::<T>(k, n, 2));
                if transposed {
                    a = columns_first(&a);
                }
                let mut whole = Array2::zeros((m, n));
                product(T::one(), &a, &b, T::zero(), &mut whole);
                for (rows, cols) in [
                    (0..1, 0..n),
                    (m - 1..m, 0..1),
                    (3..m / 2, 0..n),
                    (m / 3..m, 5..n / 2),
                    (0..m, 1..2),
                    (7..9, 0..n - 1),
                ] {
                    let (a, b) = (a.slice(s![rows.clone(), ..]), b.slice(s![.., cols.clone()]));
                    let mut part = Array2::zeros((a.nrows(), b.ncols()));
                    product(T::one(), &a, &b, T::zero(), &mut part);
                    assert_eq!(
                        part,
                        whole.slice(s![rows.clone(), cols.clone()]),
                        "{rows:?} {cols:?} of {m} x {k} x {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_element_does_not_depend_on_the_rows_and_columns_beside_it() {
        parts_equal_the_whole::<f32>();
        parts_equal_the_whole::<f64>();
    }

    #[cfg(target_arch = "x86_64")]
    fn instruction_sets_agree<T: Real>() {
        use private_gemm_x86::InstrSet::{Avx256, Avx512};
        if kernel::instructions() != Some(Avx512) {
            return;
        }
        for (m, n, k) in [(300, 200, 700), (1250, 10, 1000), (10, 1000, 1250), (140, 100, 100), (33, 1, 20)] {
            let (a, b) = (matrix::<T>(m, k, 3), matrix::<T>(n, k, 4));
            let [narrow, wide] = [Avx256, Avx512].map(|instructions| {
                let mut c = Array2::zeros((m, n));
                assert!(kernel::multiply(
                    instructions,
                    T::one(),
                    &a.view(),
                    &b.t(),
                    false,
                    &mut c.view_mut()
                ));
                c
            });
            assert_eq!(narrow, wide, "{m} x {k} x {n}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn instructions_of_256_and_512_bits_give_the_same_bits() {
        instruction_sets_agree::<f32>();
        instruction_sets_agree::<f64>();
    }
}

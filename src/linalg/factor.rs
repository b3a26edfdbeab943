//! Factorisations by LAPACK (ndarray-linalg). They run on one thread, so that results repeat.

use ndarray::{Array1, Array2};
use ndarray_linalg::{Eigh, FactorizeCInto, InverseCInto, Lapack, UPLO};
use thiserror::Error;

/// A factorisation that failed.
#[derive(Debug, Error)]
#[error(
    "the {what} of a {n} x {n} matrix failed ({source}); the penalties may be too small for this precision: try --precision f64"
)]
pub struct FactorError {
    what: &'static str,
    n: usize,
    source: ndarray_linalg::error::LinalgError,
}

impl FactorError {
    /// What failed for a matrix of `n` rows.
    pub(super) fn of(what: &'static str, n: usize, source: ndarray_linalg::error::LinalgError) -> Self {
        Self { what, n, source }
    }
}

/// Inverse of a symmetric positive definite matrix.
pub(super) fn spd_inverse<T>(a: Array2<T>) -> Result<Array2<T>, FactorError>
where
    T: Lapack,
{
    let n = a.nrows();
    let fail = |source| FactorError::of("Cholesky factorisation", n, source);
    if n == 0 {
        return Ok(a);
    }
    // A matrix of one element may have strides of 0, which LAPACK's wrapper does not know.
    let a = if n == 1 { Array2::from_elem((1, 1), a[[0, 0]]) } else { a };
    a.factorizec_into(UPLO::Lower).map_err(fail)?.invc_into().map_err(fail)
}

/// Eigenvalues (ascending) and eigenvectors (columns) of a symmetric matrix.
pub(super) fn symmetric_eigen<T>(a: Array2<T>) -> Result<(Array1<T>, Array2<T>), FactorError>
where
    T: Lapack<Real = T>,
{
    let n = a.nrows();
    let (values, vectors) =
        a.eigh(UPLO::Lower).map_err(|source| FactorError::of("eigendecomposition", n, source))?;
    Ok((values, vectors))
}

/// Holds LAPACK to one thread: a threaded one would share the cores with other ranks and need not repeat.
#[allow(unsafe_code)]
pub fn use_one_lapack_thread() {
    unsafe extern "C" {
        fn openblas_set_num_threads(threads: std::os::raw::c_int);
    }
    // SAFETY: OpenBLAS is linked in by ndarray-linalg; the call takes a plain int and may be made at any time.
    unsafe { openblas_set_num_threads(1) }
}

/// The processor that OpenBLAS takes this one for, in its own words: `SkylakeX`, `Haswell`, `Prescott`, …
#[allow(unsafe_code)]
pub fn lapack_core() -> String {
    unsafe extern "C" {
        fn openblas_get_corename() -> *const std::os::raw::c_char;
    }
    // SAFETY: OpenBLAS is linked in by ndarray-linalg; it returns a constant text that ends with 0, or null.
    let name = unsafe {
        let name = openblas_get_corename();
        if name.is_null() { None } else { Some(std::ffi::CStr::from_ptr(name)) }
    };
    name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

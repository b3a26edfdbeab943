//! The element type of a run: f32 or f64.

use std::fmt::{Debug, Display};
use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

use ndarray::{Array1, Array2, LinalgScalar, ScalarOperand};

use super::factor::{self, FactorError};
use crate::quantize::Element;

/// A floating point type that a model can be trained in.
pub trait Real:
    Element
    + LinalgScalar
    + ScalarOperand
    + num_traits::Float
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Debug
    + Display
    + Send
    + Sync
    + hdf5::H5Type
{
    /// Magnitudes below this become 0 in state variables: the product of two of them would be subnormal, and
    /// subnormal operands slow a product down up to a hundredfold.
    const NEGLIGIBLE: Self;

    /// The nearest value of this type.
    fn of(x: f64) -> Self;
    /// The same value in double precision.
    fn f64(self) -> f64;
    /// Inverse of a symmetric positive definite matrix by Cholesky factorisation, O(n³).
    ///
    /// # Errors
    /// [`FactorError`] where LAPACK finds the matrix not positive definite or not finite.
    fn spd_inverse(a: Array2<Self>) -> Result<Array2<Self>, FactorError>;
    /// Eigenvalues in ascending order and eigenvectors (in columns) of a symmetric matrix, O(n³).
    ///
    /// # Errors
    /// [`FactorError`] where LAPACK does not converge.
    fn symmetric_eigen(a: Array2<Self>) -> Result<(Array1<Self>, Array2<Self>), FactorError>;
}

macro_rules! real {
    ($t:ty, $negligible:literal) => {
        impl Real for $t {
            const NEGLIGIBLE: Self = $negligible;

            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            fn spd_inverse(a: Array2<Self>) -> Result<Array2<Self>, FactorError> {
                factor::spd_inverse(a)
            }
            fn symmetric_eigen(a: Array2<Self>) -> Result<(Array1<Self>, Array2<Self>), FactorError> {
                factor::symmetric_eigen(a)
            }
        }
    };
}

real!(f32, 1e-19);
real!(f64, 1e-150);

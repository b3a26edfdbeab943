//! The largest eigenvalues of a symmetric matrix, by subspace iteration (Halko, Martinsson and Tropp 2011, arXiv:0909.4061).

use ndarray::{Array1, Array2, Axis, s};
use ndarray_linalg::QR;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::factor::{FactorError, symmetric_eigen};
use super::product::product;

/// Columns that are iterated beyond those wanted, which hastens those.
const BEYOND: usize = 16;
/// Multiplications by the matrix, each followed by orthonormalisation.
const ITERATIONS: usize = 12;

/// The `count` largest eigenvalues of `a`, symmetric without negative eigenvalues, in falling order, at least 0, and their
/// orthonormal eigenvectors as columns; all of them where `a` is smaller.
///
/// Where eigenvalues at the end of those wanted lie near each other and near the next, the vectors are some basis that has
/// nearly as much of `a` in it. The same `a` gives the same bits.
///
/// # Errors
/// LAPACK fails: `a` holds numbers that are not finite.
pub fn leading_eigen(a: &Array2<f64>, count: usize) -> Result<(Array1<f64>, Array2<f64>), FactorError> {
    let n = a.nrows();
    let (count, width) = (count.min(n), (count + BEYOND).min(n));
    let basis = if width == n { None } else { Some(dominant_subspace(a, width)?) };
    let (values, vectors) = match &basis {
        None => symmetric_eigen(a.clone())?,
        Some(basis) => {
            let [mut image, mut projected] = [Array2::zeros((n, width)), Array2::zeros((width, width))];
            product(1.0, a, basis, 0.0, &mut image);
            product(1.0, &basis.t(), &image, 0.0, &mut projected);
            symmetric_eigen(projected)?
        }
    };
    let mut values = values.slice(s![values.len() - count..; -1]).mapv(|value| value.max(0.0));
    let mut vectors = vectors.slice(s![.., vectors.ncols() - count..; -1]).to_owned();
    if let Some(basis) = basis {
        let mut whole = Array2::zeros((n, count));
        product(1.0, &basis, &vectors, 0.0, &mut whole);
        vectors = whole;
    }
    // Of a matrix of rank below `count` nothing but rounding is left in the last ones.
    let floor = values.first().map_or(0.0, |largest| largest * n as f64 * f64::EPSILON);
    for (value, mut vector) in values.iter_mut().zip(vectors.axis_iter_mut(Axis(1))) {
        if *value <= floor {
            *value = 0.0;
        }
        // The sign that LAPACK gives a vector means nothing.
        if vector.sum() < 0.0 {
            vector.mapv_inplace(|x| -x);
        }
    }
    Ok((values, vectors))
}

/// An orthonormal basis (n × `width`) of a space in which the eigenvectors of the largest eigenvalues nearly lie.
fn dominant_subspace(a: &Array2<f64>, width: usize) -> Result<Array2<f64>, FactorError> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut image = Array2::from_shape_simple_fn((a.nrows(), width), || StandardNormal.sample(&mut rng));
    let mut basis = orthonormal(&image)?;
    for _ in 0..ITERATIONS {
        product(1.0, a, &basis, 0.0, &mut image);
        basis = orthonormal(&image)?;
    }
    Ok(basis)
}

/// Orthonormal columns that span those of `a`, and more where those depend on each other.
fn orthonormal(a: &Array2<f64>) -> Result<Array2<f64>, FactorError> {
    let (basis, _) = a.qr().map_err(|source| FactorError::of("QR factorisation", a.nrows(), source))?;
    Ok(basis)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// V diag(values) Vᵀ with V orthonormal.
    fn with_eigenvalues(values: &[f64]) -> Array2<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let n = values.len();
        let v =
            orthonormal(&Array2::from_shape_simple_fn((n, n), || StandardNormal.sample(&mut rng))).unwrap();
        (&v * &Array1::from(values.to_vec())).dot(&v.t())
    }

    #[test]
    fn values_and_vectors_are_those_of_the_whole_decomposition() {
        for n in [5, 90] {
            let values: Vec<f64> = (0..n).map(|i| 10.0 * 0.8f64.powi(i)).collect();
            let a = with_eigenvalues(&values);
            let (found, vectors) = leading_eigen(&a, 8).unwrap();
            assert_eq!(found.len(), 8.min(n as usize));
            for (i, value) in found.iter().enumerate() {
                assert!((value - values[i]).abs() < 1e-9, "{n}: {i} {value} {}", values[i]);
                let v = vectors.column(i);
                let rest = &a.dot(&v) - &(&v * *value);
                assert!(rest.iter().all(|x| x.abs() < 1e-6), "{n}: {i}");
            }
            let gram = vectors.t().dot(&vectors);
            assert!((&gram - &Array2::<f64>::eye(gram.nrows())).iter().all(|x| x.abs() < 1e-12));
        }
    }

    #[test]
    fn a_matrix_of_low_rank_has_values_0() {
        let mut values = vec![0.0; 60];
        values[..3].copy_from_slice(&[4.0, 4.0, 1.0]);
        let (found, vectors) = leading_eigen(&with_eigenvalues(&values), 8).unwrap();
        for (found, expected) in found.iter().zip(&values) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert!(found.iter().skip(3).all(|value| *value == 0.0));
        assert!(vectors.iter().all(|x| x.is_finite()));
        let (found, _) = leading_eigen(&Array2::zeros((60, 60)), 8).unwrap();
        assert!(found.iter().all(|value| *value == 0.0));
    }
}

//! Line 4 of Algorithm 1 for the hidden layers: z_l, l < L (Eq. 6).

use ndarray::{Array1, Array2};

use super::LayerBlock;
use crate::linalg::Real;
use crate::linalg::elements::{LaneSum, flat_vector, rows, rows_mut, vectorised};

/// z_l ← argmin (z − a)² + (q − f(z))² + (z − z°)², element by element, with a = W_l p_l + b_l, z° the old value
/// and f = ReLU.
///
/// On each side of 0 the function is a parabola; its minimiser there is min(0, (a + z°)/2) or
/// max(0, (a + z° + q)/3), and the lower of the two values wins, the negative candidate on a tie.
/// z, W p, q: nodes × n_l. Returns ‖z − W p − b‖². Cost: about 20 nodes n_l.
pub fn update<T: Real>(block: &mut LayerBlock<T>, b: &Array1<T>, q: &Array2<T>) -> f64 {
    let LayerBlock { m, z } = block;
    let b = flat_vector(b);
    vectorised(
        #[inline(always)]
        || {
            let mut fit = LaneSum::new();
            for ((z, m), q) in rows_mut(z).zip(rows(m)).zip(rows(q)) {
                for (((z, &m), &q), &b) in z.iter_mut().zip(m).zip(q).zip(b) {
                    *z = minimiser(m + b, q, *z);
                }
                fit.add([z, m, b], |z, m, b| (z - m - b) * (z - m - b));
            }
            fit.finish()
        },
    )
}

/// The minimiser for one element.
#[inline(always)]
fn minimiser<T: Real>(a: T, q: T, old: T) -> T {
    let zero = T::zero();
    let (half, third) = (T::of(0.5), T::of(1.0 / 3.0));
    let negative = ((a + old) * half).min(zero);
    let positive = ((a + old + q) * third).max(zero);
    let square = |x: T| x * x;
    let value_negative = square(negative - a) + square(q) + square(negative - old);
    let value_positive = square(positive - a) + square(q - positive) + square(positive - old);
    if value_positive < value_negative { positive } else { negative }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_point_of_a_grid_is_lower(a in -3.0..3.0f64, q in -3.0..3.0f64, old in -3.0..3.0f64) {
            let value = |z: f64| (z - a).powi(2) + (q - z.max(0.0)).powi(2) + (z - old).powi(2);
            let best = value(minimiser(a, q, old));
            for i in -4000..=4000 {
                prop_assert!(best <= value(f64::from(i) * 1e-3) + 1e-12);
            }
        }
    }

    #[test]
    fn the_negative_candidate_wins_a_tie() {
        // a = z° = -1, q = 2 + sqrt(6) makes both parabolas touch the same value.
        let (a, old) = (-1.0, -1.0);
        let value = |z: f64, q: f64| (z - a).powi(2) + (q - z.max(0.0)).powi(2) + (z - old).powi(2);
        assert_eq!(minimiser(a, 0.0, old), -1.0);
        assert_eq!(minimiser(0.0f64, 0.0, 0.0), 0.0);
        assert!(minimiser(a, 5.0, old) > 0.0 && value(1.0, 5.0) < value(-1.0, 5.0));
    }
}

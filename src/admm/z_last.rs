//! Line 4 of Algorithm 1 for the output layer: z_L (Eq. 7), and the risk.

use ndarray::Array1;

use super::LayerBlock;
use crate::linalg::Real;
use crate::linalg::elements::{flat_vector, rows, rows_mut};

/// Newton steps allowed for a node; from a warm start about five are taken.
const MOST_STEPS: usize = 100;

/// z_L ← argmin R(z; y) + ν/2 ‖z − a‖² with a = W_L p_L + b_L and R the softmax cross-entropy, node by node.
///
/// Damped Newton in double precision from the old z_L, until the gradient's largest entry is at most
/// `tolerance` or no step lowers the value in double precision. The Hessian diag(s) − s sᵀ + ν I (s = softmax z)
/// is inverted by Sherman–Morrison, so a step costs O(C). z, W p: nodes × C; `labels`: a class a node.
pub fn update<T: Real>(block: &mut LayerBlock<T>, b: &Array1<T>, labels: &[usize], nu: f64, tolerance: f64) {
    let LayerBlock { m, z } = block;
    let b = flat_vector(b);
    let mut newton = Newton::new(b.len());
    for ((z, m), &label) in rows_mut(z).zip(rows(m)).zip(labels) {
        for (((a, z64), &m), (&z, &b)) in
            newton.a.iter_mut().zip(newton.z.iter_mut()).zip(m).zip(z.iter().zip(b))
        {
            *a = (m + b).f64();
            *z64 = z.f64();
        }
        newton.minimise(label, nu, tolerance);
        for (z, &z64) in z.iter_mut().zip(&newton.z) {
            *z = T::of(z64);
        }
    }
}

/// Softmax cross-entropy of one node: log Σ exp z − z_y, never below 0.
pub fn cross_entropy(z: impl Iterator<Item = f64> + Clone, label: usize) -> f64 {
    let top = z.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.clone().map(|z| (z - top).exp()).sum();
    let at_label = z.clone().nth(label).unwrap_or(f64::NAN);
    (sum.ln() + (top - at_label)).max(0.0)
}

/// R(z_L; y) of a block, summed over its nodes.
pub fn risk<T: Real>(z: &ndarray::Array2<T>, labels: &[usize]) -> f64 {
    rows(z).zip(labels).map(|(z, &label)| cross_entropy(z.iter().map(|z| z.f64()), label)).sum()
}

/// The minimisation for one node; vectors of C entries.
struct Newton {
    a: Vec<f64>,
    z: Vec<f64>,
    trial: Vec<f64>,
    softmax: Vec<f64>,
    gradient: Vec<f64>,
    step: Vec<f64>,
}

impl Newton {
    fn new(classes: usize) -> Self {
        let zeros = || vec![0.0; classes];
        Self { a: zeros(), z: zeros(), trial: zeros(), softmax: zeros(), gradient: zeros(), step: zeros() }
    }

    fn value(a: &[f64], z: &[f64], label: usize, nu: f64) -> f64 {
        let distance: f64 = z.iter().zip(a).map(|(z, a)| (z - a) * (z - a)).sum();
        cross_entropy(z.iter().copied(), label) + 0.5 * nu * distance
    }

    fn minimise(&mut self, label: usize, nu: f64, tolerance: f64) {
        let mut value = Self::value(&self.a, &self.z, label, nu);
        for _ in 0..MOST_STEPS {
            let largest = self.differentiate(label, nu);
            if largest <= tolerance || !largest.is_finite() {
                return;
            }
            // H = diag(s + ν) − s sᵀ; 1 − sᵀ diag(s + ν)^-1 s = Σ s ν/(s + ν) > 0.
            let (mut numerator, mut denominator) = (0.0, 0.0);
            for (s, g) in self.softmax.iter().zip(&self.gradient) {
                numerator += s * g / (s + nu);
                denominator += s * nu / (s + nu);
            }
            let shift = numerator / denominator;
            let mut slope = 0.0;
            for ((d, s), g) in self.step.iter_mut().zip(&self.softmax).zip(&self.gradient) {
                *d = -(g + s * shift) / (s + nu);
                slope += *d * g;
            }
            let mut length = 1.0;
            loop {
                for ((t, z), d) in self.trial.iter_mut().zip(&self.z).zip(&self.step) {
                    *t = z + length * d;
                }
                let trial = Self::value(&self.a, &self.trial, label, nu);
                // Near the end the decrease drowns in rounding: there the full step is right.
                if trial <= value + 1e-4 * length * slope || -slope <= 1e-11 * (1.0 + value.abs()) {
                    value = trial;
                    std::mem::swap(&mut self.z, &mut self.trial);
                    break;
                }
                length *= 0.5;
                if length < 1e-12 {
                    return;
                }
            }
        }
    }

    /// Softmax and gradient at z; returns the gradient's largest entry.
    fn differentiate(&mut self, label: usize, nu: f64) -> f64 {
        let top = self.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (s, z) in self.softmax.iter_mut().zip(&self.z) {
            *s = (z - top).exp();
            sum += *s;
        }
        let mut largest: f64 = 0.0;
        for (i, s) in self.softmax.iter_mut().enumerate() {
            *s /= sum;
            let target = if i == label { 1.0 } else { 0.0 };
            let g = *s - target + nu * (self.z[i] - self.a[i]);
            self.gradient[i] = g;
            largest = if g.is_nan() { f64::NAN } else { largest.max(g.abs()) };
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_gradient_vanishes(
            a in proptest::collection::vec(-20.0..20.0f64, 2..12),
            start in -30.0..30.0f64,
            label in 0usize..12,
            log_nu in -5.0..1.0f64,
        ) {
            let (label, nu) = (label % a.len(), 10f64.powf(log_nu));
            let mut newton = Newton::new(a.len());
            newton.z = a.iter().enumerate().map(|(i, _)| start * (i as f64 * 1.7).sin()).collect();
            newton.a = a;
            newton.minimise(label, nu, 1e-12);
            prop_assert!(newton.differentiate(label, nu) <= 1e-10);
        }
    }

    #[test]
    fn cross_entropy_neither_overflows_nor_turns_negative() {
        assert_eq!(cross_entropy([1e4, 0.0].into_iter(), 0), 0.0);
        assert!((cross_entropy([1e4, 0.0].into_iter(), 1) - 1e4).abs() < 1e-9);
    }
}

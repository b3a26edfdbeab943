//! Line 4 of Algorithm 1 for the output layer: z_L (Eq. 7), and the risk.

use ndarray::Array1;

use super::LayerBlock;
use super::workspace::BlockSums;
use crate::linalg::Real;
use crate::linalg::elements::{flat_vector, larger, rows, rows_mut};

/// Newton steps allowed for a node; from a warm start about five are taken.
const MOST_STEPS: usize = 100;

/// What an update of z_L leaves to be known, summed over the nodes of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LastStep {
    /// ‖z_L − W_L p_L − b_L‖².
    pub fit: f64,
    /// R(z_L; y).
    pub risk: f64,
    /// R(W_L p_L + b_L; y), the loss that the output layer would make of its inputs.
    pub local_loss: f64,
}

impl LastStep {
    pub(super) fn to_sums(self) -> BlockSums {
        [self.fit, self.risk, self.local_loss, 0.0, 0.0]
    }
}

/// z_L ← argmin R(z; y) + ν/2 ‖z − a‖² with a = W_L p_L + b_L and R the softmax cross-entropy times the weight ω of the
/// node's class, node by node: that of ω = 1 with ν/ω.
///
/// Damped Newton in double precision from the old z_L, until the largest entry of the gradient, divided by ω, is at most
/// `tolerance` or no step lowers the value or moves z in double precision. The Hessian diag(s) − s sᵀ + ν I (s = softmax z)
/// is inverted by Sherman–Morrison, so a step costs O(C). z, W p: nodes × C; `labels`: a class a node; `weights`: ω of
/// each class, all above 0, or nothing where all are 1. `newton` keeps vectors from one call to the next.
pub fn update<T: Real>(
    block: &mut LayerBlock<T>,
    b: &Array1<T>,
    labels: &[usize],
    weights: &[f64],
    nu: f64,
    tolerance: f64,
    newton: &mut Newton,
) -> LastStep {
    let LayerBlock { m, z } = block;
    let b = flat_vector(b);
    newton.resize(b.len());
    let mut step = LastStep::default();
    for ((z, m), &label) in rows_mut(z).zip(rows(m)).zip(labels) {
        for (((a, z64), &m), (&z, &b)) in
            newton.a.iter_mut().zip(newton.z.iter_mut()).zip(m).zip(z.iter().zip(b))
        {
            *a = (m + b).f64();
            *z64 = z.f64();
        }
        let weight = class_weight(weights, label);
        step.local_loss += weight * cross_entropy(newton.a.iter().copied(), label);
        step.risk += weight * newton.minimise(label, nu / weight, tolerance);
        for ((z, &z64), &a) in z.iter_mut().zip(&newton.z).zip(&newton.a) {
            *z = T::of(z64);
            step.fit += (z.f64() - a) * (z.f64() - a);
        }
    }
    step
}

/// ω of a class; 1 where there are no weights.
pub fn class_weight(weights: &[f64], class: usize) -> f64 {
    weights.get(class).copied().unwrap_or(1.0)
}

/// Softmax cross-entropy of one node: log Σ exp z − z_y, never below 0.
pub fn cross_entropy(z: impl Iterator<Item = f64> + Clone, label: usize) -> f64 {
    let top = largest(z.clone());
    let sum: f64 = z.clone().map(|z| (z - top).exp()).sum();
    cross_entropy_of(sum, top, z.clone().nth(label))
}

/// The same from Σ exp (z − max z), max z and z_y.
fn cross_entropy_of(sum: f64, top: f64, at_label: Option<f64>) -> f64 {
    (sum.ln() + (top - at_label.unwrap_or(f64::NAN))).max(0.0)
}

fn largest(z: impl Iterator<Item = f64>) -> f64 {
    z.fold(f64::NEG_INFINITY, f64::max)
}

/// The minimisation for one node; vectors of C entries.
#[derive(Debug, Default)]
pub struct Newton {
    a: Vec<f64>,
    z: Vec<f64>,
    /// exp (z − max z), then the softmax.
    exp: Vec<f64>,
    trial: Vec<f64>,
    trial_exp: Vec<f64>,
    gradient: Vec<f64>,
    step: Vec<f64>,
}

/// A value of the function that is minimised.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// The cross-entropy.
    risk: f64,
    /// The cross-entropy + ν/2 ‖z − a‖², with ν/ω for ν where the node weighs ω.
    all: f64,
    /// Σ exp (z − max z).
    sum: f64,
}

impl Newton {
    /// Makes room for so many classes.
    fn resize(&mut self, classes: usize) {
        let Self { a, z, exp, trial, trial_exp, gradient, step } = self;
        [a, z, exp, trial, trial_exp, gradient, step].into_iter().for_each(|v| v.resize(classes, 0.0));
    }

    /// The value at z, and exp (z − max z) for the softmax there.
    fn value(a: &[f64], z: &[f64], exp: &mut [f64], label: usize, nu: f64) -> Value {
        let top = largest(z.iter().copied());
        let (mut sum, mut distance) = (0.0, 0.0);
        for ((e, z), a) in exp.iter_mut().zip(z).zip(a) {
            *e = (z - top).exp();
            sum += *e;
            distance += (z - a) * (z - a);
        }
        let risk = cross_entropy_of(sum, top, z.get(label).copied());
        Value { risk, all: risk + 0.5 * nu * distance, sum }
    }

    /// Moves z to the minimiser; returns the cross-entropy there. For a node of weight ω `nu` is ν/ω.
    fn minimise(&mut self, label: usize, nu: f64, tolerance: f64) -> f64 {
        let mut value = Self::value(&self.a, &self.z, &mut self.exp, label, nu);
        for _ in 0..MOST_STEPS {
            let largest = self.differentiate(value.sum, label, nu);
            if largest <= tolerance || !largest.is_finite() {
                break;
            }
            // H = diag(s + ν) − s sᵀ; 1 − sᵀ diag(s + ν)^-1 s = Σ s ν/(s + ν) > 0. exp holds s by now.
            let (mut numerator, mut denominator) = (0.0, 0.0);
            for (s, g) in self.exp.iter().zip(&self.gradient) {
                let weight = s / (s + nu);
                numerator += weight * g;
                denominator += weight * nu;
            }
            let shift = numerator / denominator;
            let mut slope = 0.0;
            for ((d, s), g) in self.step.iter_mut().zip(&self.exp).zip(&self.gradient) {
                *d = -(g + s * shift) / (s + nu);
                slope += *d * g;
            }
            let mut length = 1.0;
            loop {
                for ((t, z), d) in self.trial.iter_mut().zip(&self.z).zip(&self.step) {
                    *t = z + length * d;
                }
                let trial = Self::value(&self.a, &self.trial, &mut self.trial_exp, label, nu);
                // Near the end the decrease drowns in rounding: there the full step is right.
                if trial.all <= value.all + 1e-4 * length * slope || -slope <= 1e-11 * (1.0 + value.all.abs())
                {
                    value = trial;
                    if self.z == self.trial {
                        return value.risk;
                    }
                    std::mem::swap(&mut self.z, &mut self.trial);
                    std::mem::swap(&mut self.exp, &mut self.trial_exp);
                    break;
                }
                length *= 0.5;
                if length < 1e-12 {
                    return value.risk;
                }
            }
        }
        value.risk
    }

    /// Turns exp, of this sum, into the softmax at z and makes the gradient; returns its largest entry.
    fn differentiate(&mut self, sum: f64, label: usize, nu: f64) -> f64 {
        let (mut largest, scale): (f64, f64) = (0.0, 1.0 / sum);
        for (i, s) in self.exp.iter_mut().enumerate() {
            *s *= scale;
            let target = if i == label { 1.0 } else { 0.0 };
            let g = *s - target + nu * (self.z[i] - self.a[i]);
            self.gradient[i] = g;
            largest = larger(largest, g.abs());
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
            log_nu in -8.0..4.0f64,
        ) {
            let (label, nu) = (label % a.len(), 10f64.powf(log_nu));
            let mut newton = Newton::default();
            newton.resize(a.len());
            newton.z = a.iter().enumerate().map(|(i, _)| start * (i as f64 * 1.7).sin()).collect();
            newton.a = a;
            let risk = newton.minimise(label, nu, 1e-12);
            prop_assert!((risk - cross_entropy(newton.z.iter().copied(), label)).abs() <= 1e-12 * (1.0 + risk));
            let sum = Newton::value(&newton.a, &newton.z, &mut newton.exp, label, nu).sum;
            prop_assert!(newton.differentiate(sum, label, nu) <= 1e-10);
        }
    }

    #[test]
    fn cross_entropy_neither_overflows_nor_turns_negative() {
        assert_eq!(cross_entropy([1e4, 0.0].into_iter(), 0), 0.0);
        assert!((cross_entropy([1e4, 0.0].into_iter(), 1) - 1e4).abs() < 1e-9);
    }
}

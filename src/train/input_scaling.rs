//! What is done to augmented features before they are the input of layer 1, and undone in the weights of a saved model.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayViewMut2, Axis, Zip, s};

use super::feature_metric::FeatureMetric;
use crate::linalg::Real;
use crate::linalg::elements::rows_mut;

/// x ↦ x' = M y with y_jk = √(1 − ζ) f_jk x_jk + (1 − √(1 − ζ)) mean_k' f_jk' x_jk', for feature j of operator k; M is the
/// [`FeatureMetric`], the same for the d features of each operator.
///
/// So without M the ridge on W_1 for x' is, in the weights w = W_1/f for f x, Σ_jk w_jk² + ζ/(1 − ζ) Σ_jk (w_jk − mean_k' w_jk')²: weights of
/// one feature are held together over the operators. With ζ = 1 they are all equal.
#[derive(Debug, Clone)]
pub struct InputScaling<T> {
    /// f, the factor of each augmented feature, n_0 entries operator by operator; nothing where all are 1.
    factors: Option<Vec<T>>,
    /// d, the number of raw features.
    features: usize,
    operators: usize,
    /// √(1 − ζ); 1 with one operator.
    spread: f64,
    /// M; the identity where there is none.
    metric: Option<FeatureMetric<T>>,
}

impl<T: Real> InputScaling<T> {
    /// Of d `features` and so many operators, with ζ, the `tie`, from 0 to 1.
    pub fn new(factors: Option<Vec<f64>>, features: usize, operators: usize, tie: f64) -> Self {
        let factors = factors.map(|factors| factors.into_iter().map(T::of).collect());
        let spread = if operators > 1 { (1.0 - tie).sqrt() } else { 1.0 };
        Self { factors, features, operators, spread, metric: None }
    }

    /// The same with M.
    pub fn with_metric(self, metric: Option<FeatureMetric<T>>) -> Self {
        Self { metric, ..self }
    }

    /// The mean over the operators of f x, which is that of y, for these columns of H.
    pub fn mean(&self, parts: &[Array2<T>], columns: &Range<usize>) -> Array2<T> {
        let mut mean = Array2::zeros(parts.first().map_or((0, 0), Array2::dim));
        let share = T::of(1.0 / self.operators as f64);
        self.all_scaled(parts, columns).for_each(|part| mean.scaled_add(share, &*part));
        mean
    }

    /// M, where there is one.
    pub fn metric(&self) -> Option<&FeatureMetric<T>> {
        self.metric.as_ref()
    }

    /// K.
    pub fn operators(&self) -> usize {
        self.operators
    }

    /// The augmented features of operator `k` in these columns of H.
    pub fn of_operator(&self, k: usize, columns: &Range<usize>) -> Range<usize> {
        k * self.features + columns.start..k * self.features + columns.end
    }

    /// `part`, rows × these augmented features, times the factors.
    fn scaled<'a>(&self, part: &'a Array2<T>, columns: Range<usize>) -> Cow<'a, Array2<T>> {
        let Some(factors) = &self.factors else { return Cow::Borrowed(part) };
        let mut scaled = part.clone();
        for row in rows_mut(&mut scaled) {
            row.iter_mut().zip(&factors[columns.clone()]).for_each(|(x, &factor)| *x *= factor);
        }
        Cow::Owned(scaled)
    }

    /// Gives k and y of operator k to `take`, operator by operator, for these columns of H; `parts`: nodes × columns for
    /// each operator.
    pub fn each(&self, parts: &[Array2<T>], columns: &Range<usize>, mut take: impl FnMut(usize, &Array2<T>)) {
        let mut scaled: Vec<_> = self.all_scaled(parts, columns).collect();
        if self.spread < 1.0 {
            self.tie(&mut scaled.iter_mut().map(|part| part.to_mut().view_mut()).collect::<Vec<_>>());
        }
        scaled.iter().enumerate().for_each(|(k, part)| take(k, part));
    }

    /// `parts` times the factors, operator by operator.
    fn all_scaled<'a>(
        &self,
        parts: &'a [Array2<T>],
        columns: &Range<usize>,
    ) -> impl Iterator<Item = Cow<'a, Array2<T>>> {
        parts.iter().enumerate().map(|(k, part)| self.scaled(part, self.of_operator(k, columns)))
    }

    /// Turns f x of each operator into y, the same columns of all of them.
    fn tie(&self, parts: &mut [ArrayViewMut2<'_, T>]) {
        let share = T::of((1.0 - self.spread) / self.operators as f64);
        let mut common = Array2::zeros(parts.first().map_or((0, 0), |part| part.dim()));
        parts.iter().for_each(|part| common.scaled_add(share, part));
        let spread = T::of(self.spread);
        for part in parts {
            Zip::from(part).and(&common).for_each(|x, &common| *x = *x * spread + common);
        }
    }

    /// Turns y into x' = M y; `rows`: nodes × n_0.
    pub fn apply_metric(&self, rows: &mut ArrayViewMut2<'_, T>) {
        let Some(metric) = &self.metric else { return };
        for k in 0..self.operators {
            metric.apply(&mut rows.slice_mut(s![.., self.of_operator(k, &(0..self.features))]));
        }
    }

    /// Turns W_1 for x' (n_1 × n_0) into W_1 for x.
    pub fn fold(&self, w: &mut Array2<T>) {
        // x' = M B f x with symmetric M and B, the mixing of operators, which commute, M being the same for each operator. So
        // W' x' = (W' M B) f x: W' is mapped and mixed as f x is, and then scaled.
        self.apply_metric(&mut w.view_mut());
        if self.spread < 1.0 {
            self.tie(&mut w.axis_chunks_iter_mut(Axis(1), self.features).collect::<Vec<_>>());
        }
        if let Some(factors) = &self.factors {
            for row in rows_mut(w) {
                row.iter_mut().zip(factors).for_each(|(w, &factor)| *w *= factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn some(rows: usize, columns: usize, seed: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17 + seed) % 23) as f64 / 23.0 - 0.4)
    }

    /// x' of `parts`, nodes × n_0, by blocks of two columns.
    fn whole(scaling: &InputScaling<f64>, parts: &[Array2<f64>]) -> Array2<f64> {
        let (nodes, d) = parts[0].dim();
        let mut x = Array2::from_elem((nodes, d * parts.len()), f64::NAN);
        for start in (0..d).step_by(2) {
            let columns = start..(start + 2).min(d);
            let block: Vec<_> =
                parts.iter().map(|part| part.slice(s![.., columns.clone()]).to_owned()).collect();
            scaling.each(&block, &columns, |k, part| {
                x.slice_mut(s![.., scaling.of_operator(k, &columns)]).assign(part);
            });
        }
        scaling.apply_metric(&mut x.view_mut());
        x
    }

    #[test]
    fn a_folded_model_computes_the_same_of_features_as_they_are() {
        let parts: Vec<_> = (0..3).map(|k| some(4, 5, k)).collect();
        let x = ndarray::concatenate![ndarray::Axis(1), parts[0], parts[1], parts[2]];
        for factors in [None, Some((0..15).map(|i| if i == 4 { 0.0 } else { 0.1 * i as f64 }).collect())] {
            for (tie, strength) in [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.0, 3.0), (0.3, 0.5)] {
                let metric = FeatureMetric::of_sample(&some(9, 5, 3), strength);
                let metric = metric.unwrap().filter(|_| strength > 0.0);
                let scaling = InputScaling::new(factors.clone(), 5, 3, tie).with_metric(metric);
                let mut w = some(2, 15, 7);
                let expected = whole(&scaling, &parts).dot(&w.t());
                scaling.fold(&mut w);
                let found = x.dot(&w.t());
                assert!((&found - &expected).iter().all(|e| e.abs() < 1e-14), "{factors:?} {tie} {strength}");
            }
        }
    }

    /// From the definition; and the ridge of the documentation, by the norm of W_1 for x'.
    #[test]
    fn weights_are_held_together_over_operators() {
        let (parts, factors) = ([some(3, 2, 1), some(3, 2, 5)], vec![0.5, 2.0, 1.5, 0.25]);
        let tie = 0.6;
        let scaling = InputScaling::new(Some(factors.clone()), 2, 2, tie);
        let (x, spread) = (whole(&scaling, &parts), (1.0 - tie).sqrt());
        for (i, j, k) in [(0, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 1)] {
            let f = |k: usize| factors[2 * k + j] * parts[k][[i, j]];
            let expected = spread * f(k) + (1.0 - spread) * (f(0) + f(1)) / 2.0;
            assert!((x[[i, 2 * k + j]] - expected).abs() < 1e-15);
        }
        let own = some(1, 4, 3);
        let mut w = own.clone();
        scaling.fold(&mut w);
        let w: Vec<f64> = w.iter().zip(&factors).map(|(w, f)| w / f).collect();
        let apart = |j: usize| (w[j] - w[2 + j]).powi(2) / 2.0;
        let ridge = w.iter().map(|w| w * w).sum::<f64>() + tie / (1.0 - tie) * (apart(0) + apart(1));
        assert!((ridge - own.iter().map(|w| w * w).sum::<f64>()).abs() < 1e-14);
    }

    #[test]
    fn features_of_one_operator_or_untied_are_only_scaled() {
        let part = some(3, 2, 1);
        assert_eq!(whole(&InputScaling::new(None, 2, 1, 0.9), std::slice::from_ref(&part)), part);
        let scaling = InputScaling::new(Some(vec![2.0, 3.0, 4.0, 5.0]), 2, 2, 0.0);
        let x = whole(&scaling, &[part.clone(), part.clone()]);
        assert_eq!(x.slice(s![.., 3]), part.column(1).mapv(|x| 5.0 * x));
    }
}

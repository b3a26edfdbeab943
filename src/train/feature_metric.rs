//! The metric that layer 1 sees features in: directions in which those of the whole graph vary count for more.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::error::TrainError;
use super::feature_source::FeatureSource;
use super::input_scaling::InputScaling;
use crate::linalg::elements::rows_mut;
use crate::linalg::factor::FactorError;
use crate::linalg::leading_eigen::leading_eigen;
use crate::linalg::product::product;
use crate::linalg::{Real, Workers};

/// Nodes that the covariance is taken of, at most.
const SAMPLE: usize = 1024;
/// Principal directions that are told apart.
const DIRECTIONS: usize = 256;
/// The least mean variance that directions beyond the principal ones are taken to have, as a share of the mean of all.
const LEAST_VARIANCE: f64 = 1e-3;
/// This stream lies far from those of initial weights, of dropout masks and of random signs.
const STREAM: u64 = (1 << 33) + 1;

/// The mean over the operators of the features, times their factors, of sampled nodes, m × d; the same on all ranks that
/// hold layer 1, which are those below `holders`, and without rows on the others. All ranks call it together.
///
/// # Errors
/// The exchange between ranks failed.
pub(super) fn sampled_features<T: Real>(
    features: &FeatureSource<'_, T>,
    scaling: &InputScaling<T>,
    nodes: Vec<usize>,
    [rank, ranks, holders]: [usize; 3],
    workers: &Workers,
) -> Result<Array2<T>, TrainError> {
    let wanted: Vec<Vec<usize>> =
        (0..ranks).map(|rank| if rank < holders { nodes.clone() } else { Vec::new() }).collect();
    let rows = if rank < holders { nodes.len() } else { 0 };
    let mut sampled = Array2::zeros((rows, features.feature_count()));
    features.for_each_block(&wanted, workers, |block| {
        if rows > 0 {
            let columns = block.columns.clone();
            sampled.slice_mut(s![.., columns]).assign(&scaling.mean(block.parts, &block.columns));
        }
        Ok(())
    })?;
    Ok(sampled)
}

/// The nodes of a graph of `nodes` whose features tell the covariance, in rising order; drawn by `seed` alone.
pub fn sample(nodes: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    let mut sample = rand::seq::index::sample(&mut rng, nodes, sample_size(nodes)).into_vec();
    sample.sort_unstable();
    sample
}

/// How many nodes of a graph of `nodes` are drawn.
pub fn sample_size(nodes: usize) -> usize {
    SAMPLE.min(nodes)
}

/// How many directions a metric tells apart at most, for d features of m sampled nodes.
pub fn direction_count(m: usize, d: usize) -> usize {
    DIRECTIONS.min(d.saturating_sub(1)).min(m.saturating_sub(1))
}

/// Bytes that it takes at most to find the metric of d features in a graph of `nodes` nodes, with numbers of `size` bytes:
/// the sample, a copy of it in double precision, their products, and the directions in both precisions.
pub fn bytes(nodes: usize, d: usize, size: f64) -> f64 {
    let m = sample_size(nodes);
    let r = direction_count(m, d) as f64;
    let (order, m, d) = (m.min(d) as f64, m as f64, d as f64);
    m * d * (size + 8.0) + r * d * (size + 8.0) + 8.0 * order * (order + 6.0 * r)
}

/// The symmetric map x ↦ M x of d features, M² = c (a I + V diag(g − a) Vᵀ).
///
/// C is the covariance of features over a sample of nodes, each node's scaled to length 1 before, so that those of many
/// neighbours or many words count no more than others. V holds its leading eigenvectors, σ their eigenvalues; the others are
/// taken to be equal to their mean σ_0, as in probabilistic principal component analysis (Tipping and Bishop 1999). With σ̄
/// the mean of all, a = σ_0/(σ_0 + ξ σ̄), σ_0 being at least σ̄/1000, and g the same of σ, at least a: the weights of a Wiener
/// filter where noise has the variance ξ σ̄. c leaves the trace of C as it is.
///
/// So the ridge ‖W‖² on weights for M x is tr(W M^-2 Wᵀ) in those for x: weights are normal a priori with the covariance M².
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMetric<T> {
    /// V, d × r.
    directions: Array2<T>,
    /// What M has along each of them beyond `base`.
    beyond: Vec<T>,
    /// M in all other directions.
    base: T,
}

impl<T: Real> FeatureMetric<T> {
    /// Of features of sampled nodes, m × d, with ξ, the `strength`, above 0. `None` where these do not vary
    /// or are not finite.
    ///
    /// # Errors
    /// LAPACK fails.
    pub fn of_sample(sample: &Array2<T>, strength: f64) -> Result<Option<Self>, FactorError> {
        let mut units = sample.mapv(Real::f64);
        for mut row in units.rows_mut() {
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                row.mapv_inplace(|x| x / length);
            }
        }
        let trace = centre(&mut units);
        let (m, d) = units.dim();
        let count = direction_count(m, d);
        // Below this there is nothing but the rounding of features that are proportional, and of their mean. What is not
        // finite shows in training, as it does without a metric.
        let rounding = (64.0 * T::epsilon().f64()).max(1e-10).powi(2);
        if !(trace > rounding && trace.is_finite()) || count == 0 {
            return Ok(None);
        }
        let (values, v) = principal_directions(&units, count)?;
        let mean = trace / d as f64;
        let beyond = (trace - values.iter().sum::<f64>()).max(0.0);
        let gain = |value: f64| value / (value + strength * mean);
        // Directions in which the sample does not vary are not shut out.
        let least = gain((beyond / (d - count) as f64).max(LEAST_VARIANCE * mean));
        let gains: Vec<f64> = values.iter().map(|&value| gain(value).max(least)).collect();
        let mapped =
            least * beyond + values.iter().zip(&gains).map(|(value, gain)| value * gain).sum::<f64>();
        let scale = trace / mapped;
        let base = (least * scale).sqrt();
        Ok(Some(Self {
            directions: v.mapv(T::of),
            beyond: gains.iter().map(|gain| T::of((gain * scale).sqrt() - base)).collect(),
            base: T::of(base),
        }))
    }

    /// r.
    pub fn directions(&self) -> usize {
        self.beyond.len()
    }

    /// Adds Vᵀ x of these `columns` of x to `along` (nodes × r); `part`: nodes × columns.
    pub fn add_along(
        &self,
        part: &ArrayView2<'_, T>,
        columns: Range<usize>,
        along: &mut ArrayViewMut2<'_, T>,
    ) {
        product(T::one(), part, &self.directions.slice(s![columns, ..]), T::one(), along);
    }

    /// Turns x into M x; `rows`: nodes × d.
    pub fn apply(&self, rows: &mut ArrayViewMut2<'_, T>) {
        let mut along = Array2::zeros((rows.nrows(), self.directions()));
        self.add_along(&rows.view(), 0..self.directions.nrows(), &mut along.view_mut());
        scale_columns(&mut along, &self.beyond);
        product(T::one(), &along, &self.directions.t(), self.base, rows);
    }

    /// What a product xᵀ y counts in (M x)ᵀ (M y) beside [`FeatureMetric::add_products`].
    pub fn share_of_products(&self) -> T {
        self.base * self.base
    }

    /// Adds to `products` what (M x)ᵀ (M y) has beyond its share of xᵀ y, for nodes x in rows and y in columns: `x` and `y` are
    /// Vᵀ of them, nodes × r.
    pub fn add_products(
        &self,
        x: &ArrayView2<'_, T>,
        y: &ArrayView2<'_, T>,
        products: &mut ArrayViewMut2<'_, T>,
    ) {
        let weights: Vec<T> =
            self.beyond.iter().map(|&beyond| beyond * (beyond + self.base + self.base)).collect();
        let mut weighted = x.to_owned();
        scale_columns(&mut weighted, &weights);
        product(T::one(), &weighted, &y.t(), T::one(), products);
    }
}

/// Multiplies each column by its factor.
fn scale_columns<T: Real>(matrix: &mut Array2<T>, factors: &[T]) {
    for row in rows_mut(matrix) {
        row.iter_mut().zip(factors).for_each(|(x, &factor)| *x *= factor);
    }
}

/// Takes the mean row off, and gives the mean square length that is left.
fn centre(rows: &mut Array2<f64>) -> f64 {
    let Some(mean) = rows.mean_axis(Axis(0)) else { return 0.0 };
    let mut square = 0.0;
    for mut row in rows.rows_mut() {
        row -= &mean;
        square += row.iter().map(|x| x * x).sum::<f64>();
    }
    square / rows.nrows() as f64
}

/// The largest eigenvalues of the covariance of centred rows, and its eigenvectors, d × `count`.
fn principal_directions(rows: &Array2<f64>, count: usize) -> Result<(Vec<f64>, Array2<f64>), FactorError> {
    let (m, d) = rows.dim();
    let share = 1.0 / m as f64;
    let mut gram = Array2::zeros((m.min(d), m.min(d)));
    if d <= m {
        product(share, &rows.t(), rows, 0.0, &mut gram);
        let (values, v) = leading_eigen(&gram, count)?;
        return Ok((values.to_vec(), v));
    }
    product(share, rows, &rows.t(), 0.0, &mut gram);
    let (values, u) = leading_eigen(&gram, count)?;
    let mut v = Array2::zeros((d, count));
    product(1.0, &rows.t(), &u, 0.0, &mut v);
    for (mut direction, &value) in v.axis_iter_mut(Axis(1)).zip(&values) {
        // Of length 1; where nothing varies, no direction.
        let length = (value * m as f64).sqrt();
        direction.mapv_inplace(|x| if length > 0.0 { x / length } else { 0.0 });
    }
    Ok((values.to_vec(), v))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::Array1;
    use ndarray_linalg::{Eigh, UPLO};

    fn some(rows: usize, columns: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            (((i * 37 + j * 101) % 53) as f64 / 53.0 - 0.3) * 0.6f64.powi((j % 9) as i32)
        })
    }

    /// M, d × d, by what it makes of the unit vectors.
    fn matrix(metric: &FeatureMetric<f64>, d: usize) -> Array2<f64> {
        let mut m = Array2::eye(d);
        metric.apply(&mut m.view_mut());
        m
    }

    /// M² from the definition, by the whole eigendecomposition of the covariance.
    fn definition(sample: &Array2<f64>, strength: f64) -> Array2<f64> {
        let (m, d) = sample.dim();
        let centred = |rows: &Array2<f64>| rows - &rows.mean_axis(Axis(0)).unwrap();
        let mut units = sample.clone();
        for mut row in units.rows_mut() {
            let length = row.dot(&row).sqrt();
            row /= length;
        }
        let units = centred(&units);
        let (sigma, v) = (units.t().dot(&units) / m as f64).eigh(UPLO::Lower).unwrap();
        let mean = sigma.sum() / d as f64;
        let gains: Array1<f64> = sigma.mapv(|s| s.max(1e-3 * mean)).mapv(|s| s / (s + strength * mean));
        (&v * &gains).dot(&v.t()) * (sigma.sum() / sigma.dot(&gains))
    }

    #[test]
    fn the_map_is_that_of_the_definition() {
        // More nodes than features, and fewer.
        for (rows, d) in [(40, 9), (6, 9)] {
            for strength in [0.1, 3.0, 100.0] {
                let sample = some(rows, d);
                let metric = FeatureMetric::of_sample(&sample, strength).unwrap().unwrap();
                let m = matrix(&metric, d);
                let difference = m.dot(&m) - definition(&sample, strength);
                assert!(difference.iter().all(|x| x.abs() < 1e-9), "{rows} {strength}: {difference}");
                assert!((&m - &m.t()).iter().all(|x| x.abs() < 1e-12));
            }
        }
    }

    /// With more directions than are told apart, the others count alike.
    #[test]
    fn directions_beyond_the_principal_ones_count_alike() {
        let d = DIRECTIONS + 30;
        let metric = FeatureMetric::of_sample(&some(3 * d, d), 3.0).unwrap().unwrap();
        assert_eq!(metric.directions(), DIRECTIONS);
        let mut x = Array2::from_shape_fn((1, d), |(_, j)| (j as f64).sin());
        let v = &metric.directions;
        x = &x - &x.dot(v).dot(&v.t());
        let mut mapped = x.clone();
        metric.apply(&mut mapped.view_mut());
        assert!((&mapped - &(&x * metric.base)).iter().all(|e| e.abs() < 1e-9));
        assert!(metric.beyond.windows(2).all(|pair| pair[0] >= pair[1]) && metric.beyond[0] > metric.base);
    }

    #[test]
    fn products_of_mapped_features_are_had_without_them() {
        let (d, [a, b]) = (9, [some(5, 9), some(4, 9).mapv(|x| x * x)]);
        let metric = FeatureMetric::of_sample(&some(7, d), 3.0).unwrap().unwrap();
        let mut products = metric.share_of_products() * a.dot(&b.t());
        let along = [&a, &b].map(|x| {
            let mut along = Array2::zeros((x.nrows(), metric.directions()));
            for columns in [0..4, 4..d] {
                metric.add_along(&x.slice(s![.., columns.clone()]), columns, &mut along.view_mut());
            }
            along
        });
        metric.add_products(&along[0].view(), &along[1].view(), &mut products.view_mut());
        let mapped = [a, b].map(|mut x| {
            metric.apply(&mut x.view_mut());
            x
        });
        assert!((&products - &mapped[0].dot(&mapped[1].t())).iter().all(|e| e.abs() < 1e-12));
    }

    /// Nodes that are many times others are no more of them.
    #[test]
    fn the_length_of_a_nodes_features_does_not_count() {
        let sample = some(12, 9);
        let mut longer = sample.clone();
        longer.row_mut(3).mapv_inplace(|x| 50.0 * x);
        let directions = |sample| FeatureMetric::of_sample(sample, 3.0).unwrap().unwrap().directions;
        assert!((directions(&sample) - directions(&longer)).iter().all(|e| e.abs() < 1e-9));
    }

    #[test]
    fn features_that_do_not_vary_or_are_not_finite_have_no_metric() {
        let none = |sample: Array2<f64>| FeatureMetric::of_sample(&sample, 3.0).unwrap().is_none();
        for rows in [7, 8, 1000] {
            assert!(none(Array2::from_elem((rows, 5), 0.7)));
            assert!(none(Array2::from_shape_fn((rows, 5), |(i, j)| (i + 1) as f64 * (0.3 + j as f64))));
            let single = Array2::from_shape_fn((rows, 5), |(i, j)| (i + 1) as f32 * (0.3 + j as f32));
            assert!(FeatureMetric::of_sample(&single, 3.0).unwrap().is_none(), "{rows}");
        }
        assert!(none(Array2::zeros((8, 5))));
        assert!(none(some(1, 5)) && none(some(8, 1)) && none(some(0, 5)));
        assert!(none(some(8, 5).mapv(|x| x * 1e300)));
        let mut holes = some(8, 5);
        holes[[2, 2]] = f64::NAN;
        assert!(none(holes));
    }

    #[test]
    fn nodes_are_drawn_by_the_seed() {
        assert_eq!(sample(20, 0), (0..20).collect::<Vec<_>>());
        let [a, b, c] = [sample(5000, 1), sample(5000, 1), sample(5000, 2)];
        assert_eq!((a.len(), &a), (SAMPLE, &b));
        assert_ne!(a, c);
        assert!(a.windows(2).all(|pair| pair[0] < pair[1]) && a[SAMPLE - 1] < 5000);
    }
}

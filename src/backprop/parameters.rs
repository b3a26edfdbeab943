//! All weights and intercepts of a network in one vector, so that an update, a sum or a message is one pass over it.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::admm::deepen::random_weights;
use crate::linalg::Real;

/// Where W_l and b_l lie in the vector of parameters: W_1 row by row, b_1, W_2, b_2, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    widths: Vec<usize>,
    starts: Vec<usize>,
}

impl Layout {
    /// For a network of `layers` layers: n_0 = `inputs`, hidden layers of `neurons`, n_L = `classes`.
    pub fn new(inputs: usize, neurons: usize, classes: usize, layers: usize) -> Self {
        let hidden = std::iter::repeat_n(neurons, layers.saturating_sub(1));
        let widths: Vec<usize> = [inputs].into_iter().chain(hidden).chain([classes]).collect();
        let sizes = widths.windows(2).map(|n| n[0] * n[1] + n[1]);
        let starts = std::iter::once(0).chain(sizes.scan(0, |end, size| {
            *end += size;
            Some(*end)
        }));
        Self { starts: starts.collect(), widths }
    }

    /// L.
    pub fn layers(&self) -> usize {
        self.widths.len() - 1
    }

    /// n_l, for l from 0 to L.
    pub fn width(&self, l: usize) -> usize {
        self.widths[l]
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.starts[self.layers()]
    }

    /// Floating point operations of the products of a gradient over so many nodes: forward, and backward to W and, above
    /// layer 1, to the inputs.
    pub fn gradient_operations(&self, nodes: usize) -> f64 {
        let of = |l: usize| {
            let products = if l == 1 { 2 } else { 3 };
            (products * self.widths[l] * self.widths[l - 1]) as f64
        };
        2.0 * nodes as f64 * (1..=self.layers()).map(of).sum::<f64>()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places of W_l and b_l, l from 1.
    fn places(&self, l: usize) -> (Range<usize>, Range<usize>) {
        let (start, end) = (self.starts[l - 1], self.starts[l]);
        let middle = end - self.widths[l];
        (start..middle, middle..end)
    }

    /// W_l, n_l × n_{l−1}, and b_l, n_l entries.
    pub fn layer<'a, T: Real>(&self, values: &'a [T], l: usize) -> (ArrayView2<'a, T>, &'a [T]) {
        let (w, b) = self.places(l);
        (matrix(&values[w], (self.widths[l], self.widths[l - 1])), &values[b])
    }

    /// W_l and b_l, to write.
    pub fn layer_mut<'a, T: Real>(
        &self,
        values: &'a mut [T],
        l: usize,
    ) -> (ArrayViewMut2<'a, T>, &'a mut [T]) {
        let (w, b) = self.places(l);
        let (w, b) = values[w.start..b.end].split_at_mut(w.len());
        (matrix_mut(w, (self.widths[l], self.widths[l - 1])), b)
    }

    /// Parameters at the start: He's initialisation (He et al. 2015: normal, variance 2/n_{l−1}), each layer from its
    /// random stream of (seed, l), which is that of the ADMM too; b = 0.
    pub fn random<T: Real>(&self, seed: u64) -> Vec<T> {
        let mut values = vec![T::zero(); self.len()];
        for l in 1..=self.layers() {
            let w = random_weights::<T>(seed, l, self.widths[l], self.widths[l - 1]);
            self.layer_mut(&mut values, l).0.assign(&w);
        }
        values
    }

    /// The first layer in which a parameter is not finite.
    pub fn first_not_finite<T: Real>(&self, values: &[T]) -> Option<usize> {
        let at = values.iter().position(|x| !x.is_finite())?;
        (1..=self.layers()).find(|&l| at < self.starts[l])
    }
}

#[allow(clippy::expect_used)]
fn matrix<T>(values: &[T], shape: (usize, usize)) -> ArrayView2<'_, T> {
    ArrayView2::from_shape(shape, values).expect("a layer's place has its size")
}

#[allow(clippy::expect_used)]
fn matrix_mut<T>(values: &mut [T], shape: (usize, usize)) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape(shape, values).expect("a layer's place has its size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_the_vector_out() {
        let layout = Layout::new(5, 4, 3, 3);
        assert_eq!(layout.len(), 5 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3);
        let mut values: Vec<f64> = vec![0.0; layout.len()];
        for l in 1..=3 {
            let (mut w, b) = layout.layer_mut(&mut values, l);
            w.fill(l as f64);
            b.fill(-(l as f64));
        }
        assert!(values.iter().all(|x| *x != 0.0));
        for l in 1..=3 {
            let (w, b) = layout.layer(&values, l);
            assert_eq!(w.dim(), (layout.width(l), layout.width(l - 1)));
            assert!(w.iter().all(|x| *x == l as f64) && b.iter().all(|x| *x == -(l as f64)));
        }
        values[5 * 4 + 4] = f64::NAN;
        assert_eq!(layout.first_not_finite(&values), Some(2));
    }
}

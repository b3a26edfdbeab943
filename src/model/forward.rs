//! The forward pass over all nodes of a graph: z_1 from the graph, the rest node by node.

use ndarray::{Array2, Axis, s};

use super::{Model, ModelError, ModelLayer};
use crate::dataset::Features;
use crate::graph::{Augmentation, RenormalisedAdjacency};
use crate::linalg::elements::{flat_vector, rows, rows_mut};
use crate::linalg::{NodeBlocks, Real, Workers};

/// Nodes of a block; blocks depend on N alone, so that results do not depend on who computes them.
const BLOCK: usize = 1024;

/// The blocks of nodes in which layers 2 to L are applied.
pub fn node_blocks(nodes: usize) -> NodeBlocks {
    NodeBlocks::new(nodes, Some(BLOCK))
}

impl<T: Real> Model<T> {
    /// z_1 = Σ_k ψ_k(Ã) H W_1kᵀ + b_1 of all nodes, N × n_1.
    ///
    /// Cost: 2 n_1 (K nnz(H) + degree nnz(Ã)); `start` is told of the multiplications for one neuron before they begin,
    /// and `done` of each part of them.
    ///
    /// # Errors
    /// [`ModelError::DoesNotFit`] where H has another number of features.
    pub fn first_layer(
        &self,
        adjacency: &RenormalisedAdjacency<T>,
        features: &Features,
        workers: &Workers,
        start: impl FnOnce(usize),
        done: impl FnMut(usize),
    ) -> Result<Array2<T>, ModelError> {
        self.check_fits(features.dimension(), self.num_classes)?;
        let (first, _) = self.first_and_hidden();
        let nodes: Vec<usize> = (0..features.nodes()).collect();
        let augmentation = Augmentation::new(adjacency, features, &self.operators, self.feature_norm, &nodes);
        start(augmentation.project_cost());
        let mut z = augmentation.project(first.w.view(), workers, done);
        add_to_rows(&mut z, flat_vector(&first.b));
        Ok(z)
    }

    /// The logits z_L of all nodes, N × C.
    ///
    /// # Errors
    /// As [`Model::first_layer`]; [`ModelError::Overflow`].
    pub fn logits(
        &self,
        adjacency: &RenormalisedAdjacency<T>,
        features: &Features,
        workers: &Workers,
    ) -> Result<Array2<T>, ModelError> {
        let z = self.first_layer(adjacency, features, workers, |_| (), |_| ())?;
        let mut logits = Array2::zeros((z.nrows(), self.num_classes));
        for block in node_blocks(z.nrows()).ranges() {
            let below = z.slice(s![block.clone(), ..]).to_owned();
            let out = hidden_layers(self.hidden(), below, workers)
                .map_err(|Overflow { layer, row }| ModelError::Overflow { layer, node: block.start + row })?;
            logits.slice_mut(s![block, ..]).assign(&out);
        }
        Ok(logits)
    }
}

/// A number of z that became infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// l.
    pub layer: usize,
    /// Row of the block of nodes.
    pub row: usize,
}

/// z_L of a block of nodes from its z_1 (nodes × n_1): z_l = W_l f(z_{l−1}) + b_l for the layers 2 to L given.
///
/// Cost: 2 Σ_l n_l n_{l−1} a node.
///
/// # Errors
/// The first layer, z_1 included, in which a number is not finite: ReLU could hide it from the layers above.
pub fn hidden_layers<T: Real>(
    hidden: &[ModelLayer<T>],
    z: Array2<T>,
    workers: &Workers,
) -> Result<Array2<T>, Overflow> {
    let mut z = z;
    check_finite(1, &z)?;
    for (l, layer) in (2..).zip(hidden) {
        z.mapv_inplace(|z| z.max(T::zero()));
        let mut next = Array2::zeros((z.nrows(), layer.b.len()));
        workers.product(T::one(), &z, &layer.w.t().to_owned(), T::zero(), &mut next);
        add_to_rows(&mut next, flat_vector(&layer.b));
        check_finite(l, &next)?;
        z = next;
    }
    Ok(z)
}

fn check_finite<T: Real>(layer: usize, z: &Array2<T>) -> Result<(), Overflow> {
    match rows(z).position(|row| row.iter().any(|z| !z.is_finite())) {
        Some(row) => Err(Overflow { layer, row }),
        None => Ok(()),
    }
}

fn add_to_rows<T: Real>(z: &mut Array2<T>, b: &[T]) {
    for row in rows_mut(z) {
        row.iter_mut().zip(b).for_each(|(z, &b)| *z += b);
    }
}

/// What the logits say.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction<T> {
    /// The class with the largest logit, the lowest of several (N).
    pub classes: Vec<usize>,
    /// The softmax of the logits, N × C.
    pub probabilities: Array2<T>,
}

impl<T: Real> Prediction<T> {
    /// Classes and probabilities of logits (N × C). Exponentials are summed in double precision.
    pub fn of(logits: &Array2<T>) -> Self {
        let classes = logits.axis_iter(Axis(0)).map(|z| argmax(z.iter().copied())).collect();
        let mut probabilities = logits.clone();
        for row in rows_mut(&mut probabilities) {
            softmax(row);
        }
        Self { classes, probabilities }
    }
}

/// The number of the largest value, the lowest of several; 0 of none.
pub fn argmax<T: Real>(values: impl IntoIterator<Item = T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (class, value) in values.into_iter().enumerate() {
        if best.is_none_or(|(_, top)| value > top) {
            best = Some((class, value));
        }
    }
    best.map_or(0, |(class, _)| class)
}

/// exp(z − max z) / Σ exp(z − max z), in place.
fn softmax<T: Real>(z: &mut [T]) {
    let top = z.iter().map(|z| z.f64()).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = z.iter().map(|z| (z.f64() - top).exp()).sum();
    for z in z {
        *z = T::of((z.f64() - top).exp() / total);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataset::SparseMatrix;
    use crate::graph::{FeatureNorm, renormalised_adjacency};
    use crate::model::Provenance;
    use ndarray::{Array1, array, concatenate};
    use proptest::prelude::*;

    /// A ring of `n` nodes with a chord, edges of weight 1.
    fn ring(n: usize) -> SparseMatrix {
        let mut edges = sprs::TriMatI::<f32, u32>::new((n, n));
        let mut join = |i: usize, j: usize| {
            edges.add_triplet(i, j, 1.0);
            edges.add_triplet(j, i, 1.0);
        };
        (0..n).for_each(|i| join(i, (i + 1) % n));
        join(0, n / 2);
        let csr: sprs::CsMatI<f32, u32> = edges.to_csr();
        let starts = csr.indptr().raw_storage().iter().map(|&start| start as usize).collect();
        SparseMatrix::new((n, n), starts, csr.indices().to_vec(), csr.data().to_vec())
    }

    fn weights(shape: (usize, usize), salt: usize) -> Array2<f64> {
        Array2::from_shape_fn(shape, |(i, j)| ((i * 31 + j * 17 + salt * 7) % 23) as f64 / 11.0 - 1.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn logits_are_those_of_the_dense_definition(n in 4usize..1500, depth in 1usize..5, salt in 0usize..99) {
            let (d, classes) = (3, 4);
            let a = ring(n);
            let h = weights((n, d), salt).mapv(|h| h as f32);
            let mut below = 2 * d;
            let mut layers = Vec::new();
            for l in 1..=depth {
                let rows = if l == depth { classes } else { 5 + l };
                let b = Array1::from_iter(weights((1, rows), salt + l + 50));
                layers.push(ModelLayer { w: weights((rows, below), salt + l), b });
                below = rows;
            }
            let norm = FeatureNorm::None;
            let operators = "0,2".parse().unwrap();
            let model =
                Model::new(operators, norm, d, classes, layers, Provenance::default()).unwrap();
            let features = Features::Dense(h.clone());
            let tilde = renormalised_adjacency::<f64>(&a);
            let found = model.logits(&tilde, &features, &Workers::one()).unwrap();
            let threads = model.logits(&tilde, &features, &Workers::new(3).unwrap()).unwrap();
            prop_assert_eq!(&found, &threads);

            // (D + I)^-1/2 (A + I) (D + I)^-1/2 times a matrix, by neighbours.
            let degree: Vec<f64> = a.outer_iterator().map(|row| 1.0 + row.nnz() as f64).collect();
            let propagate = |x: &Array2<f64>| {
                let mut y = Array2::zeros(x.dim());
                for i in 0..n {
                    let own = [i];
                    let neighbours = a.outer_view(i).unwrap();
                    for &j in neighbours.indices().iter().map(|j| *j as usize).collect::<Vec<_>>().iter().chain(&own) {
                        let scale = 1.0 / (degree[i] * degree[j]).sqrt();
                        y.row_mut(i).scaled_add(scale, &x.row(j));
                    }
                }
                y
            };
            let h = h.mapv(f64::from);
            let mut p = concatenate(Axis(1), &[h.view(), propagate(&propagate(&h)).view()]).unwrap();
            for (l, layer) in model.layers().iter().enumerate() {
                let z = p.dot(&layer.w.t()) + &layer.b;
                p = if l + 1 < depth { z.mapv(|z| z.max(0.0)) } else { z };
            }
            prop_assert!((&found - &p).iter().zip(&p).all(|(e, p)| e.abs() < 1e-10 * (1.0 + p.abs())));
        }
    }

    #[test]
    fn probabilities_add_up_and_the_lowest_class_wins_a_tie() {
        let prediction = Prediction::of(&array![[1.0f64, 3.0, 3.0], [-1e300, 1e300, 0.0], [0.0, 0.0, 0.0]]);
        assert_eq!(prediction.classes, [1, 1, 0]);
        for row in prediction.probabilities.rows() {
            assert!((row.sum() - 1.0).abs() < 1e-15);
        }
        assert_eq!(prediction.probabilities.row(1).to_vec(), [0.0, 1.0, 0.0]);
        let e2 = 2f64.exp();
        assert!((prediction.probabilities[[0, 2]] - e2 / (1.0 + 2.0 * e2)).abs() < 1e-15);
    }

    #[test]
    fn a_number_out_of_range_is_found_where_relu_would_hide_it() {
        let layer = |w: f32| ModelLayer { w: array![[w]], b: array![0.0] };
        let out = |z: f32| hidden_layers(&[layer(1e30), layer(-1.0)], array![[1.0], [z]], &Workers::one());
        assert_eq!(out(2.0).unwrap().column(0).to_vec(), [-1e30, -2e30]);
        assert_eq!(out(1e20), Err(Overflow { layer: 2, row: 1 }));
        assert_eq!(out(f32::NAN), Err(Overflow { layer: 1, row: 1 }));
    }
}

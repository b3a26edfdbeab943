//! The input of layer 1: augmented features of the training nodes, and what evaluation needs of the others.

use std::convert::Infallible;
use std::ops::Range;

use ndarray::{Array2, s};

use crate::admm::Weights;
use crate::admm::first_layer::DualWeights;
use crate::admm::state::FirstLayer;
use crate::graph::Augmentation;
use crate::linalg::{NodeBlocks, Real, Workers, product::product};

/// With dropout, the share of the mean ‖x_j‖² that is added to every ‖x_j‖²: a feature that is all but absent from
/// the training nodes would otherwise be scaled up without bound.
pub const NORM_FLOOR: f64 = 2.0;

/// Layer 1's weights with their input, and the features of the evaluated nodes in the form that suits them.
#[derive(Debug)]
pub struct Input<T> {
    /// W_1 at its start, with X.
    pub weights: Weights<T>,
    /// The evaluated nodes (training, validation, test).
    pub evaluated: EvaluatedInput<T>,
    /// The factor each augmented feature was multiplied by, n_0 entries; 1 without dropout.
    pub column_scale: Vec<T>,
}

/// Features of the evaluated nodes, by block.
#[derive(Debug)]
pub enum EvaluatedInput<T> {
    /// X of these nodes, nodes × n_0.
    Plain(Vec<Array2<T>>),
    /// X Xᵀ_train (nodes × N) and X W⁰ᵀ (nodes × n_1), for layer 1 in N dimensions.
    Dual(Vec<(Array2<T>, Array2<T>)>),
}

impl<T: Real> EvaluatedInput<T> {
    /// X W_1ᵀ of block `i`, nodes × n_1.
    pub fn times_weights(&self, i: usize, weights: WeightsView<'_, T>, out: &mut Array2<T>) {
        match (self, weights) {
            (EvaluatedInput::Plain(x), WeightsView::Plain(w)) => {
                product(T::one(), &x[i], &w.t(), T::zero(), out)
            }
            (EvaluatedInput::Dual(blocks), WeightsView::Dual { c, d }) => {
                let (gram, a0) = &blocks[i];
                out.assign(a0);
                product(T::one(), gram, d, T::of(c), out);
            }
            _ => unreachable!("the form of layer 1 is settled once a run"),
        }
    }
}

/// W in the form it is held in.
#[derive(Debug, Clone, Copy)]
pub enum WeightsView<'a, T> {
    /// W.
    Plain(&'a Array2<T>),
    /// c and D of W = c W⁰ + Dᵀ X.
    Dual {
        /// c.
        c: f64,
        /// D, N × n_1.
        d: &'a Array2<T>,
    },
}

/// Builds layer 1's input in one pass over blocks of feature columns.
///
/// `augmentation` is for the rows training ++ validation ++ test, of which the first `nodes` are trained on.
/// `w0` is the start of W_1 (n_1 × n_0) for unscaled unit-variance inputs; it is multiplied by the inverse of the
/// root mean square norm of a node's features. With dropout, `mean_square` is what [`mean_column_square`] gives, and
/// feature j is divided by sqrt(‖x_j‖² + [`NORM_FLOOR`] · mean_square): dropout in closed form adds
/// ν κ/2 Σ_j ‖x_j‖² ‖W_:j‖², which this scaling turns into plain ridge, so that one inverse serves all layers' rows.
/// A feature that no training node has becomes 0.
pub fn build<T: Real>(
    augmentation: &Augmentation<'_, T>,
    nodes: usize,
    blocks: &NodeBlocks,
    evaluated: &NodeBlocks,
    mut w0: Array2<T>,
    mean_square: Option<f64>,
    workers: &Workers,
) -> Input<T> {
    let (n0, n1, d) = (augmentation.width(), w0.nrows(), augmentation.feature_count());
    let dual = is_dual(nodes, n0);
    let mut x = Array2::<T>::zeros((if dual { nodes } else { evaluated.nodes() }, n0));
    let mut gram = Array2::<T>::zeros(if dual { (evaluated.nodes(), nodes) } else { (0, 0) });
    let mut a0 = Array2::<T>::zeros(if dual { (evaluated.nodes(), n1) } else { (0, 0) });
    let mut column_scale = vec![T::one(); n0];
    let done: Result<(), Infallible> = augmentation.for_each_block(workers, |block| {
        for (k, part) in block.parts.iter().enumerate() {
            let columns = k * d + block.columns.start..k * d + block.columns.end;
            let mut part = part.clone();
            if let Some(mean_square) = mean_square {
                let squares = column_squares(&part, nodes);
                for ((scale, square), mut column) in
                    column_scale[columns.clone()].iter_mut().zip(squares).zip(part.columns_mut())
                {
                    *scale = T::of(if square > 0.0 {
                        1.0 / (square + NORM_FLOOR * mean_square).sqrt()
                    } else {
                        0.0
                    });
                    column.mapv_inplace(|x| x * *scale);
                }
            }
            let trained = part.slice(s![..nodes, ..]);
            if dual {
                product(T::one(), &part, &trained.t(), T::one(), &mut gram);
                product(T::one(), &part, &w0.slice(s![.., columns.clone()]).t(), T::one(), &mut a0);
                x.slice_mut(s![.., columns]).assign(&trained);
            } else {
                x.slice_mut(s![.., columns]).assign(&part);
            }
        }
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
    // Activations of layer 1 start with unit variance whatever the scale of the features.
    let norm2: f64 = x.slice(s![..nodes, ..]).iter().map(|x| x.f64() * x.f64()).sum();
    let scale = T::of(if norm2 > 0.0 { (nodes as f64 / norm2).sqrt() } else { 1.0 });
    w0.mapv_inplace(|w| w * scale);
    a0.mapv_inplace(|a| a * scale);
    let cut = |whole: &Array2<T>, blocks: &NodeBlocks| -> Vec<Array2<T>> {
        blocks.ranges().map(|rows| whole.slice(s![rows, ..]).to_owned()).collect()
    };
    if dual {
        let parts = cut(&gram, evaluated).into_iter().zip(cut(&a0, evaluated)).collect();
        let own = |a: &Array2<T>| a.slice(s![..nodes, ..]).to_owned();
        let weights = DualWeights::with_products(x, w0, own(&gram), own(&a0), 0);
        Input {
            weights: Weights::Dual(Box::new(weights)),
            evaluated: EvaluatedInput::Dual(parts),
            column_scale,
        }
    } else {
        let trained = cut(&x.slice(s![..nodes, ..]).to_owned(), blocks);
        let weights = FirstLayer { w: w0, x: trained, gram: None, inverse: None };
        Input {
            weights: Weights::First(weights),
            evaluated: EvaluatedInput::Plain(cut(&x, evaluated)),
            column_scale,
        }
    }
}

/// Whether layer 1 lives in N dimensions.
pub fn is_dual(nodes: usize, inputs: usize) -> bool {
    nodes < inputs
}

impl<T: Real> Input<T> {
    /// The part of a shard: its blocks of training nodes, of `blocks`, and of evaluated nodes.
    pub fn of_shard(self, blocks: &NodeBlocks, own: Range<usize>, evaluated: Range<usize>) -> Self {
        let rows = blocks.range(own.start).start..blocks.range(own.end - 1).end;
        let cut = |whole: &Array2<T>| whole.slice(s![rows.clone(), ..]).to_owned();
        let weights = match self.weights {
            Weights::First(mut first) => {
                first.x = first.x.drain(own).collect();
                Weights::First(first)
            }
            Weights::Dual(dual) => {
                let DualWeights { x, w0, gram, a0, .. } = *dual;
                let (x, gram, a0) = (cut(&x), cut(&gram), cut(&a0));
                Weights::Dual(Box::new(DualWeights::with_products(x, w0, gram, a0, rows.start)))
            }
            hidden => hidden,
        };
        let evaluated = match self.evaluated {
            EvaluatedInput::Plain(mut x) => EvaluatedInput::Plain(x.drain(evaluated).collect()),
            EvaluatedInput::Dual(mut blocks) => EvaluatedInput::Dual(blocks.drain(evaluated).collect()),
        };
        Self { weights, evaluated, ..self }
    }
}

/// ‖x_j‖² over the first `nodes` rows.
fn column_squares<T: Real>(part: &Array2<T>, nodes: usize) -> Vec<f64> {
    let mut squares = vec![0.0; part.ncols()];
    for row in part.slice(s![..nodes, ..]).rows() {
        squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.f64() * x.f64());
    }
    squares
}

/// Mean of ‖x_j‖² over the features that some training node has; `augmentation` is for the training nodes alone.
pub fn mean_column_square<T: Real>(augmentation: &Augmentation<'_, T>, workers: &Workers) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    let done: Result<(), Infallible> = augmentation.for_each_block(workers, |block| {
        for part in block.parts {
            for square in column_squares(part, part.nrows()) {
                sum += square;
                count += usize::from(square > 0.0);
            }
        }
        Ok(())
    });
    match done {
        Ok(()) => sum / count.max(1) as f64,
        Err(never) => match never {},
    }
}

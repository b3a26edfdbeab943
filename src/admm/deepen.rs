//! Layers at the start of training, and deepening without a change of function.

use ndarray::{Array1, Array2, Axis, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::Weights;
use crate::linalg::Real;

/// W and b of one layer, between stages.
#[derive(Debug, Clone)]
pub struct LayerWeights<T> {
    /// l in the stage they were last used in.
    pub index: usize,
    /// W_l.
    pub weights: Weights<T>,
    /// b_l.
    pub b: Array1<T>,
}

/// Random numbers of layer l: a stream of its own, so that no other layer's use of its stream matters.
pub fn layer_stream(seed: u64, l: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(l as u64);
    rng
}

/// He initialisation of W_l, n_l × n_{l−1}: normal with variance 2/n_{l−1}, from the stream of (seed, l).
pub fn random_weights<T: Real>(seed: u64, l: usize, outputs: usize, inputs: usize) -> Array2<T> {
    let mut rng = layer_stream(seed, l);
    let scale = (2.0 / inputs.max(1) as f64).sqrt();
    Array2::from_shape_simple_fn((outputs, inputs), || {
        let x: f64 = StandardNormal.sample(&mut rng);
        T::of(x * scale)
    })
}

/// W⁰ of layer 1: independent normal entries of variance 2, to be scaled by the norm of its inputs.
pub fn random_first_weights<T: Real>(seed: u64, outputs: usize, inputs: usize) -> Array2<T> {
    let mut rng = layer_stream(seed, 1);
    Array2::from_shape_simple_fn((outputs, inputs), || {
        let x: f64 = StandardNormal.sample(&mut rng);
        T::of(x * 2f64.sqrt())
    })
}

/// Where a network starts whose activations are made from labels: random weights would have to find out, over all layers
/// between, what layer 1 should learn.
///
/// With z_L = 0 all classes are equally likely, and −∂R/∂p_L = W_Lᵀ (e_y − 1/C) of a node of class y. Along this z_1 starts,
/// with variance 1 − 1/C, and the layers between, at the identity, hand f(z_1) on to W_L as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelStart<T> {
    /// W_L, C × n: [`random_weights`] in the first n/2 columns, the same with the other sign in the next n/2, since
    /// f(x) and f(−x) together keep all of x.
    pub output_weights: Array2<T>,
    /// z_1 of a node of each class, C × n.
    pub z: Array2<T>,
}

impl<T: Real> LabelStart<T> {
    /// Of L layers, `classes` classes C and `neurons` n, from the stream of (seed, L).
    pub fn new(seed: u64, layers: usize, classes: usize, neurons: usize) -> Self {
        let mut w = random_weights::<T>(seed, layers, classes, neurons);
        let (first, mut second) = w.view_mut().split_at(Axis(1), neurons / 2);
        second.slice_mut(s![.., ..neurons / 2]).assign(&first.mapv(|w| -w));
        let mean = w.sum_axis(Axis(0)) / T::of(classes.max(1) as f64);
        // The entries of W_L have the variance 2/n.
        let z = (&w - &mean) * T::of((neurons as f64 / 2.0).sqrt());
        Self { output_weights: w, z }
    }
}

/// Where layer l of the network after deepening comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Layer `0` of the stage before.
    Trained(usize),
    /// W = I, b = 0: after a ReLU it changes nothing.
    Identity,
    /// Random: the output layer of the first stage.
    Random,
}

/// Where layer l ≥ 2 of a stage comes from: new layers are inserted below the trained output layer. In the first stage too
/// they start at the identity: from random weights, deep stacks learn next to nothing.
pub fn origin(l: usize, layers: usize, before: Option<usize>) -> Origin {
    match before {
        None if l == layers => Origin::Random,
        None => Origin::Identity,
        Some(before) if l == layers => Origin::Trained(before),
        Some(before) if l < before => Origin::Trained(l),
        Some(_) => Origin::Identity,
    }
}

/// Weights of a layer l ≥ 2 that is new in this stage, n_l × n_{l−1}.
pub fn new_layer<T: Real>(
    origin: Origin,
    seed: u64,
    l: usize,
    outputs: usize,
    inputs: usize,
) -> LayerWeights<T> {
    let weights = match origin {
        Origin::Identity => Array2::eye(outputs),
        _ => random_weights(seed, l, outputs, inputs),
    };
    LayerWeights { index: l, weights: Weights::Hidden(weights), b: Array1::zeros(outputs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_layers_go_below_the_trained_output_layer() {
        let origins: Vec<Origin> = (1..=5).map(|l| origin(l, 5, Some(2))).collect();
        let (first, last) = (Origin::Trained(1), Origin::Trained(2));
        assert_eq!(origins, [first, Origin::Identity, Origin::Identity, Origin::Identity, last]);
        assert_eq!([3, 5].map(|l| origin(l, 5, None)), [Origin::Identity, Origin::Random]);
    }

    #[test]
    fn a_start_from_labels_tells_the_classes_apart() {
        for (classes, neurons) in [(2, 2), (3, 16), (7, 100), (7, 101), (40, 60)] {
            let LabelStart { output_weights: w, z } = LabelStart::<f64>::new(5, 10, classes, neurons);
            let paired = |i: usize| w.column(i).iter().zip(w.column(neurons / 2 + i)).all(|(a, b)| *a == -b);
            assert!((0..neurons / 2).all(paired), "{classes} classes, {neurons} neurons");
            assert!(z.sum_axis(Axis(0)).iter().all(|sum| sum.abs() < 1e-10));
            // The layers between are the identity after a ReLU.
            let scores = z.mapv(|z| z.max(0.0)).dot(&w.t());
            for (class, scores) in scores.outer_iter().enumerate() {
                let others = scores.iter().enumerate().filter(|(other, _)| *other != class);
                assert!(others.map(|(_, score)| *score).fold(f64::MIN, f64::max) < scores[class], "{scores}");
            }
        }
        let variance = LabelStart::<f64>::new(5, 10, 40, 1000).z.mapv(|z| z * z).mean();
        assert!((variance.unwrap_or(0.0) - 39.0 / 40.0).abs() < 0.03, "{variance:?}");
    }

    #[test]
    fn a_layers_random_numbers_are_its_own() {
        let of = |seed, l| random_weights::<f64>(seed, l, 3, 4);
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }
}

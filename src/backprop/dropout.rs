//! Dropout (Srivastava et al. 2014) with masks that depend on seed, layer, iteration and node alone.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::linalg::elements::flat_mut;
use crate::linalg::{Real, Workers};

/// Streams of masks lie far from those of the layers' initial weights.
const FIRST_STREAM: u64 = 1 << 32;
/// The generator makes this many numbers of 32 bits at a time; a node's start at a multiple.
const AT_A_TIME: usize = 64;

/// Inverted dropout of one iteration: entries are 0 with probability `rate`, and divided by 1 − rate otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// From 0 to below 1.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// The iteration, from 1.
    pub iteration: u64,
    /// N, the number of training nodes.
    pub nodes: usize,
}

impl Dropout {
    /// Applies the mask of the inputs of layer l to the rows `first_node`, `first_node` + 1, … of the training nodes.
    ///
    /// The random numbers of (iteration k, node i) are those of the stream of (seed, l) from position
    /// (k N + i) · width on, width being rounded up to a multiple of 64.
    pub fn apply<T: Real>(&self, l: usize, first_node: usize, a: &mut Array2<T>, workers: &Workers) {
        let width = a.ncols();
        if self.rate <= 0.0 || width == 0 {
            return;
        }
        let threshold = (self.rate * 2f64.powi(32)) as u32;
        let scale = T::of(1.0 / (1.0 - self.rate));
        let rows = a.nrows().div_ceil(workers.threads()).max(1);
        let mut strips: Vec<_> = flat_mut(a).chunks_mut(rows * width).collect();
        workers.each(&mut strips[..], |s, strip| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(FIRST_STREAM + l as u64);
            for (i, row) in strip.chunks_exact_mut(width).enumerate() {
                let node = first_node + s * rows + i;
                let number = u128::from(self.iteration) * self.nodes as u128 + node as u128;
                rng.set_word_pos(number * width.next_multiple_of(AT_A_TIME) as u128);
                for x in row {
                    *x = if rng.next_u32() < threshold { T::zero() } else { *x * scale };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::s;

    #[test]
    fn masks_depend_on_neither_blocks_nor_threads() {
        let dropout = Dropout { rate: 0.3, seed: 5, iteration: 7, nodes: 40 };
        let mut whole = Array2::<f64>::ones((40, 150));
        dropout.apply(2, 0, &mut whole, &Workers::one());
        let share = whole.iter().filter(|x| **x == 0.0).count() as f64 / 6000.0;
        assert!((share - 0.3).abs() < 0.03, "{share}");
        assert!(whole.iter().all(|x| *x == 0.0 || *x == 1.0 / 0.7));
        let mut part = Array2::<f64>::ones((17, 150));
        dropout.apply(2, 11, &mut part, &Workers::new(3).unwrap());
        assert_eq!(part, whole.slice(s![11..28, ..]));
        let of = |l, iteration, seed| {
            let mut a = Array2::<f64>::ones((40, 150));
            Dropout { iteration, seed, ..dropout }.apply(l, 0, &mut a, &Workers::one());
            a
        };
        for (l, iteration, seed) in [(3, 7, 5), (2, 8, 5), (2, 7, 6)] {
            assert_ne!(of(l, iteration, seed), whole);
        }
    }
}

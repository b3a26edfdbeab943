//! Random signs of raw features: what noise on them comes to in the augmented ones.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::Features;

/// This stream lies far from those of initial weights and of dropout masks.
const STREAM: u64 = 1 << 33;
/// The generator makes this many numbers of 32 bits at a time.
const AT_A_TIME: usize = 64;
/// Signs that these are enough for.
const SIGNS: usize = 32 * AT_A_TIME;

/// Multiplies every entry of these rows of H by +1 or −1 at random; a second time restores it.
///
/// With S the signs, E (ψ(H∘S))_ij² = Σ_m ψ_im² H_mj²: the variance in X = ψ(H) of independent multiplicative noise of
/// variance 1 on the entries of H. The sign of entry (i, j) depends on `seed`, i and j alone: it is bit j of the
/// random numbers of node i, `first_node` being the first row's.
pub fn flip_signs(features: &mut Features, first_node: usize, seed: u64) {
    let d = features.dimension();
    let mut signs = Signs::new(seed, d);
    match features {
        Features::Dense(h) => {
            for (node, mut row) in (first_node..).zip(h.rows_mut()) {
                row.iter_mut().enumerate().for_each(|(j, x)| *x *= signs.at(node, j));
            }
        }
        Features::Sparse(h) => {
            for (node, mut row) in (first_node..).zip(h.outer_iterator_mut()) {
                row.iter_mut().for_each(|(j, x)| *x *= signs.at(node, j));
            }
        }
    }
}

/// The signs, of which those last asked for are at hand.
struct Signs {
    rng: ChaCha8Rng,
    /// Runs of [`SIGNS`] features in a node's.
    runs: usize,
    at_hand: Option<usize>,
    bits: [u32; AT_A_TIME],
}

impl Signs {
    fn new(seed: u64, d: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        Self { rng, runs: d.div_ceil(SIGNS), at_hand: None, bits: [0; AT_A_TIME] }
    }

    fn at(&mut self, node: usize, j: usize) -> f32 {
        let run = node * self.runs + j / SIGNS;
        if self.at_hand != Some(run) {
            self.rng.set_word_pos(run as u128 * AT_A_TIME as u128);
            self.bits.iter_mut().for_each(|bits| *bits = self.rng.next_u32());
            self.at_hand = Some(run);
        }
        let j = j % SIGNS;
        if self.bits[j / 32] >> (j % 32) & 1 == 1 { -1.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;
    use crate::dataset::SparseMatrix;

    #[test]
    fn signs_depend_on_node_and_feature_alone_and_undo_themselves() {
        let (nodes, d) = (20, 2 * SIGNS + 5);
        let all = |first: usize, rows: usize, seed: u64| {
            let mut features = Features::Dense(Array2::ones((rows, d)));
            flip_signs(&mut features, first, seed);
            match features {
                Features::Dense(h) => h,
                Features::Sparse(_) => unreachable!("it was dense"),
            }
        };
        let whole = all(0, nodes, 3);
        assert!(whole.iter().all(|x| x.abs() == 1.0));
        let mean = whole.sum() / whole.len() as f32;
        // Four standard deviations.
        assert!(mean.abs() < 4.0 / (whole.len() as f32).sqrt(), "{mean}");
        assert_eq!(all(7, 5, 3), whole.slice(s![7..12, ..]));
        assert_ne!(all(0, nodes, 4), whole);

        let kept: Vec<u32> = (0..d as u32).filter(|j| j % 37 == 1).collect();
        let mut starts = vec![0];
        starts.extend((1..=nodes).map(|i| i * kept.len()));
        let (indices, data) = (kept.repeat(nodes), vec![2.0f32; nodes * kept.len()]);
        let before = SparseMatrix::new((nodes, d), starts, indices, data);
        let mut features = Features::Sparse(before.clone());
        flip_signs(&mut features, 0, 3);
        let Features::Sparse(h) = &features else { unreachable!("it was sparse") };
        for (&x, (i, j)) in h.iter() {
            assert_eq!(x, 2.0 * whole[[i as usize, j as usize]]);
        }
        flip_signs(&mut features, 0, 3);
        assert!(matches!(features, Features::Sparse(h) if h == before));
    }
}

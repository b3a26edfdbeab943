//! Line 3 of Algorithm 1: b_l (Eq. 5).

use ndarray::Array1;

use super::{Layer, Team};
use crate::linalg::Real;
use crate::linalg::elements::{flat_mut, rows};

/// b_l ← mean over nodes of (z_l − W_l p_l): the exact minimiser of ν/2 ‖z_l − W_l p_l − b_l‖².
///
/// Eq. 5 as printed divides by ν alone and overshoots N-fold; the mean is what the published code takes.
/// z, W p: nodes × n_l. Cost: 2 N n_l.
pub fn update<T: Real>(layer: &mut Layer<T>, nodes: usize, team: &mut Team<'_, T>) {
    let Team { workspace, workers, shards, .. } = team;
    let n = layer.b.len();
    let mut sums = workspace.take_blocks(layer.blocks.iter().map(|_| 1), n);
    let blocks = &layer.blocks;
    workers.each(&mut sums, |i, sum| {
        sum.fill(T::zero());
        let mut row = sum.row_mut(0);
        for (z, m) in rows(&blocks[i].z).zip(rows(&blocks[i].m)) {
            for ((s, &z), &m) in row.iter_mut().zip(z).zip(m) {
                *s += z - m;
            }
        }
    });
    let mut total = workspace.take((1, n));
    let tree = workspace.sum((1, n));
    if tree.is_empty() {
        tree.push(crate::linalg::MatrixSum::new((1, n)));
    }
    for sum in &sums {
        tree[0].push(|partial| partial.assign(sum));
    }
    tree[0].finish(&mut total);
    shards.sum_elements(flat_mut(&mut total), &mut workspace.incoming);
    let scale = T::of(1.0 / nodes as f64);
    layer.b = Array1::from_iter(total.iter().map(|&s| s * scale));
    workspace.give(total);
    workspace.give_blocks(sums);
}

//! Line 3 of Algorithm 1: b_l (Eq. 5).

use ndarray::Array2;

use super::{Layer, LayerBlock, Team};
use crate::linalg::Real;
use crate::linalg::elements::{flat_mut, rows, rows_mut, vectorised};
use crate::linalg::workers::fit_strips;

/// b_l ← mean over nodes of (z_l − W_l p_l): the exact minimiser of ν/2 ‖z_l − W_l p_l − b_l‖².
///
/// Eq. 5 as printed divides by ν alone and overshoots N-fold; the mean is what the published code takes.
/// z, W p: nodes × n_l. `sums` are those of z − W p over the nodes of each block, where the update of W has
/// made them. Cost: 2 N n_l.
pub fn update<T: Real>(
    layer: &mut Layer<T>,
    nodes: usize,
    sums: Option<Vec<Array2<T>>>,
    team: &mut Team<'_, T>,
) {
    let n = layer.b.len();
    let sums = sums.unwrap_or_else(|| {
        let mut sums = take_sums(&layer.blocks, n, team);
        team.each(&mut sums[..], |i, sum| column_sums(&layer.blocks[i], sum));
        sums
    });
    let mut total = team.workspace.take((1, n));
    let trees = team.workspace.sum((1, n));
    fit_strips(trees, std::iter::once((1, n)));
    for (tree, _) in trees {
        for sum in &sums {
            tree.push(|partial| partial.assign(sum));
        }
        tree.finish(&mut total);
    }
    team.shards.sum_elements(flat_mut(&mut total), &mut team.workspace.incoming);
    let scale = T::of(1.0 / nodes as f64);
    layer.b.zip_mut_with(&total.row(0), |b, &sum| *b = sum * scale);
    team.workspace.give(total);
    team.workspace.give_blocks(sums);
}

/// A row of n_l sums for each block.
pub(super) fn take_sums<T: Real>(
    blocks: &[LayerBlock<T>],
    n: usize,
    team: &mut Team<'_, T>,
) -> Vec<Array2<T>> {
    team.workspace.take_blocks(blocks.iter().map(|_| 1), n)
}

/// `sum` ← Σ over the nodes of a block of z − W p, 1 × n_l.
fn column_sums<T: Real>(block: &LayerBlock<T>, sum: &mut Array2<T>) {
    let sum = flat_mut(sum);
    sum.fill(T::zero());
    vectorised(
        #[inline(always)]
        || {
            for (z, m) in rows(&block.z).zip(rows(&block.m)) {
                for ((s, &z), &m) in sum.iter_mut().zip(z).zip(m) {
                    *s += z - m;
                }
            }
        },
    );
}

/// W p ← W p + `scale` D of a block, and `sum` ← Σ over its nodes of z − W p, in one pass. `direction` gives
/// D's rows.
pub(super) fn step_with_sums<'a, T: Real>(
    block: &mut LayerBlock<T>,
    direction: impl Iterator<Item = &'a [T]>,
    scale: T,
    sum: &mut Array2<T>,
) {
    let (LayerBlock { m, z }, sum) = (block, flat_mut(sum));
    sum.fill(T::zero());
    vectorised(
        #[inline(always)]
        || {
            for ((m, d), z) in rows_mut(m).zip(direction).zip(rows(z)) {
                for (((m, &d), &z), s) in m.iter_mut().zip(d).zip(z).zip(sum.iter_mut()) {
                    *m += scale * d;
                    *s += z - *m;
                }
            }
        },
    );
}

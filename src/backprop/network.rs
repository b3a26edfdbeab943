//! Forward and backward pass of the GA-MLP over one block of nodes.

use ndarray::{Array2, ArrayView2, Axis};

use super::{Dropout, Layout};
use crate::admm::Workspace;
use crate::admm::z_last::class_weight;
use crate::linalg::elements::{flat, flat_mut, rows, rows_mut};
use crate::linalg::{Real, Workers};

/// Logits z_L of a block, nodes × C, without dropout. `x` are its augmented features, nodes × n_0.
///
/// Cost: 2 Σ_l n_l n_{l−1} a node.
pub fn logits<T: Real>(
    layout: &Layout,
    values: &[T],
    x: &Array2<T>,
    workspace: &mut Workspace<T>,
    workers: &Workers,
) -> Array2<T> {
    let mut z = workspace.take((x.nrows(), layout.width(1)));
    let (w, _) = layout.layer(values, 1);
    workers.product(T::one(), x, &w.t(), T::zero(), &mut z);
    logits_from_first(layout, values, z, workspace, workers)
}

/// The same from W_1 X without b_1 (nodes × n_1), which may come from elsewhere.
pub fn logits_from_first<T: Real>(
    layout: &Layout,
    values: &[T],
    first: Array2<T>,
    workspace: &mut Workspace<T>,
    workers: &Workers,
) -> Array2<T> {
    let mut z = first;
    add_to_rows(&mut z, layout.layer(values, 1).1);
    for l in 2..=layout.layers() {
        flat_mut(&mut z).iter_mut().for_each(|z| *z = z.max(T::zero()));
        let (w, b) = layout.layer(values, l);
        let mut next = workspace.take((z.nrows(), layout.width(l)));
        workers.product(T::one(), &z, &w.t(), T::zero(), &mut next);
        add_to_rows(&mut next, b);
        workspace.give(z);
        z = next;
    }
    z
}

/// A block of training nodes.
#[derive(Debug, Clone, Copy)]
pub struct TrainingBlock<'a, T> {
    /// Augmented features, nodes × n_0.
    pub x: &'a Array2<T>,
    /// Classes of its nodes.
    pub labels: &'a [usize],
    /// ω, the weight of each class in the risk; empty where all are 1.
    pub class_weights: &'a [f64],
    /// Place of its first node among all training nodes.
    pub first_node: usize,
    /// N, the number of all training nodes.
    pub nodes: usize,
}

/// The block's part of the gradient of (1/N) Σ_i ω_i cross-entropy of node i, ω_i the weight of its class, written over
/// `gradient`; returns the block's Σ_i ω_i cross-entropy. With dropout, on the inputs of every layer.
///
/// a_1 = d(x), z_l = W_l a_l + b_l, a_{l+1} = d(f(z_l)); G_L = ω (softmax z_L − y)/N, ∂W_l = G_lᵀ a_l, ∂b_l = Σ G_l,
/// G_{l−1} = d(G_l W_l ∘ [z_{l−1} > 0]). Cost: 6 Σ_l n_l n_{l−1} a node, 4 for l = 1.
pub fn gradient<T: Real>(
    layout: &Layout,
    values: &[T],
    block: TrainingBlock<'_, T>,
    dropout: &Dropout,
    gradient: &mut [T],
    workspace: &mut Workspace<T>,
    workers: &Workers,
) -> f64 {
    let (layers, count) = (layout.layers(), block.x.nrows());
    let is_dropped = dropout.rate > 0.0;
    // a_1 is X itself without dropout; inputs[l − 1] holds a_l otherwise.
    let mut inputs: Vec<Option<Array2<T>>> = Vec::with_capacity(layers);
    inputs.push(is_dropped.then(|| {
        let mut a = workspace.take(block.x.dim());
        a.assign(block.x);
        dropout.apply(1, block.first_node, &mut a, workers);
        a
    }));
    let mut g = workspace.take((count, layout.width(layers)));
    for l in 1..=layers {
        let (w, b) = layout.layer(values, l);
        let input = inputs.last().and_then(Option::as_ref).unwrap_or(block.x);
        if l == layers {
            workers.product(T::one(), input, &w.t(), T::zero(), &mut g);
            add_to_rows(&mut g, b);
            break;
        }
        let mut a = workspace.take((count, layout.width(l)));
        workers.product(T::one(), input, &w.t(), T::zero(), &mut a);
        add_to_rows(&mut a, b);
        flat_mut(&mut a).iter_mut().for_each(|a| *a = a.max(T::zero()));
        dropout.apply(l + 1, block.first_node, &mut a, workers);
        inputs.push(Some(a));
    }
    let risk = differentiate_risk(&mut g, &block);
    // What survives dropout was scaled up, and so is what flows back through it.
    let scale = T::of(1.0 / (1.0 - dropout.rate));
    for l in (1..=layers).rev() {
        let input = inputs.pop().flatten();
        let (mut dw, db) = layout.layer_mut(gradient, l);
        let transposed: ArrayView2<'_, T> = g.t();
        workers.product(T::one(), &transposed, input.as_ref().unwrap_or(block.x), T::zero(), &mut dw);
        db.fill(T::zero());
        for row in rows(&g) {
            db.iter_mut().zip(row).for_each(|(db, &g)| *db += g);
        }
        if let (Some(input), true) = (&input, l > 1) {
            let mut below = workspace.take(input.dim());
            workers.product(T::one(), &g, &layout.layer(values, l).0, T::zero(), &mut below);
            // a_l > 0 exactly where z_{l−1} > 0 and dropout kept it.
            for (g, &a) in flat_mut(&mut below).iter_mut().zip(flat(input)) {
                *g = if a > T::zero() { *g * scale } else { T::zero() };
            }
            workspace.give(std::mem::replace(&mut g, below));
        }
        input.into_iter().for_each(|input| workspace.give(input));
    }
    workspace.give(g);
    risk
}

/// z ← ω (softmax z − y)/N row by row; returns the sum of the rows' cross-entropies times ω. In double precision.
fn differentiate_risk<T: Real>(z: &mut Array2<T>, block: &TrainingBlock<'_, T>) -> f64 {
    let mut risk = 0.0;
    for (row, &label) in rows_mut(z).zip(block.labels) {
        let weight = class_weight(block.class_weights, label);
        let share = weight / block.nodes.max(1) as f64;
        let top = row.iter().map(|z| z.f64()).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|z| (z.f64() - top).exp()).sum();
        for (c, z) in row.iter_mut().enumerate() {
            let shifted = z.f64() - top;
            let target = if c == label { 1.0 } else { 0.0 };
            if c == label {
                risk += weight * (sum.ln() - shifted);
            }
            *z = T::of((shifted.exp() / sum - target) * share);
        }
    }
    risk
}

fn add_to_rows<T: Real>(z: &mut Array2<T>, b: &[T]) {
    for mut row in z.axis_iter_mut(Axis(0)) {
        row.iter_mut().zip(b).for_each(|(z, &b)| *z += b);
    }
}

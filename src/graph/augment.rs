//! The augmented features X = [H ψ_1(A), …, H ψ_K(A)] of chosen nodes, in blocks of feature columns.
//!
//! A dense N × N matrix is never formed, nor all of X: a block of columns of H is propagated through Ã once, and
//! power j is computed only for nodes that the chosen ones can still reach.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::{FeatureNorm, Operators, RenormalisedAdjacency, Scale};
use crate::dataset::Features;
use crate::linalg::elements::{axpy, combine_rows, flat, rows, rows_mut};
use crate::linalg::{Real, Workers};

/// Bytes that one block of columns of all N nodes may take.
const BLOCK_BYTES: usize = 64 << 20;
/// The narrowest block: in graphs of some two million nodes and more, blocks are larger than [`BLOCK_BYTES`].
const NARROWEST: usize = 8;
/// The widest block: wider ones no longer help the cache.
const WIDEST: usize = 256;

/// A plan to compute the augmented features of chosen nodes: of a whole graph, or of a part of it.
#[derive(Debug)]
pub struct Augmentation<'a, T> {
    adjacency: &'a RenormalisedAdjacency<T>,
    features: &'a Features,
    operators: &'a Operators,
    scale: Cow<'a, Scale>,
    nodes: Vec<usize>,
    /// `needed[j][i]`: whether row i of Ã^j H is needed.
    needed: Vec<Vec<bool>>,
    /// Columns of H in a block.
    block: usize,
}

/// A block of feature columns of X for the chosen nodes.
#[derive(Debug)]
pub struct FeatureBlock<'a, T> {
    /// The columns of H.
    pub columns: Range<usize>,
    /// For each operator its chosen rows × columns.
    pub parts: &'a [Array2<T>],
}

/// Columns of H that a block has in a graph of `nodes` nodes with `d` features, however the graph is divided.
pub fn column_block<T: Real>(nodes: usize, d: usize) -> usize {
    (BLOCK_BYTES / (T::SIZE * nodes.max(1))).clamp(NARROWEST, WIDEST).min(d.max(1))
}

impl<'a, T: Real> Augmentation<'a, T> {
    /// For the rows `nodes` of X, in that order.
    pub fn new(
        adjacency: &'a RenormalisedAdjacency<T>,
        features: &'a Features,
        operators: &'a Operators,
        norm: FeatureNorm,
        nodes: &[usize],
    ) -> Self {
        let mut wanted = vec![false; features.nodes()];
        nodes.iter().for_each(|&i| wanted[i] = true);
        let mut needed = vec![wanted];
        for j in 0..operators.degree() {
            needed.push(adjacency.read_by(&needed[j]));
        }
        needed.reverse();
        let block = column_block::<T>(features.nodes(), features.dimension());
        let scale = Cow::Owned(Scale::of(features, norm));
        Self { adjacency, features, operators, scale, nodes: nodes.to_vec(), needed, block }
    }

    /// For own nodes of a part of a graph, by local number: `needed[j]` tells of each own node whether its row of Ã^j H
    /// is needed, here or in another part; `block` columns of H come at a time.
    pub fn of_part(
        adjacency: &'a RenormalisedAdjacency<T>,
        features: &'a Features,
        operators: &'a Operators,
        scale: &'a Scale,
        nodes: Vec<usize>,
        needed: Vec<Vec<bool>>,
        block: usize,
    ) -> Self {
        Self { adjacency, features, operators, scale: Cow::Borrowed(scale), nodes, needed, block }
    }

    /// n_0 = K d.
    pub fn width(&self) -> usize {
        self.operators.count() * self.features.dimension()
    }

    /// d.
    pub fn feature_count(&self) -> usize {
        self.features.dimension()
    }

    /// Multiplications of [`Augmentation::project`] for one neuron.
    pub fn project_cost(&self) -> usize {
        self.operators.count() * self.features.stored() + self.operators.degree() * self.adjacency.stored()
    }

    /// Hands every block of columns to `take`, in order of columns.
    pub fn for_each_block<E>(
        &self,
        workers: &Workers,
        take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each_block_of_part(workers, |_, _| Ok(()), take)
    }

    /// As [`Augmentation::for_each_block`]; `bring(j, x)` fills in the rows beyond the own ones of x (reach × columns),
    /// a block of Ã^j H, before power j + 1 is formed.
    ///
    /// Memory: a block of columns for all nodes within reach, one for the own nodes, and K for the chosen ones.
    ///
    /// # Errors
    /// What `bring` and `take` say.
    pub fn for_each_block_of_part<E>(
        &self,
        workers: &Workers,
        mut bring: impl FnMut(usize, &mut Array2<T>) -> Result<(), E>,
        mut take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (own, reach, d) = (self.features.nodes(), self.adjacency.reach(), self.features.dimension());
        let mut cursors = vec![0; own];
        let (mut power, mut next) = (Array2::zeros((0, 0)), Array2::zeros((0, 0)));
        let mut parts = vec![Array2::zeros((0, 0)); self.operators.count()];
        let mut start = 0;
        while start < d {
            let columns = start..(start + self.block).min(d);
            start = columns.end;
            clear(&mut power, (reach, columns.len()));
            clear(&mut next, (own, columns.len()));
            parts.iter_mut().for_each(|part| clear(part, (self.nodes.len(), columns.len())));
            self.read_columns(&columns, &mut cursors, &mut power);
            for j in 0..=self.operators.degree() {
                if j > 0 {
                    bring(j - 1, &mut power)?;
                    self.adjacency.apply(&power, &self.needed[j], &mut next, workers);
                    match reach == own {
                        true => std::mem::swap(&mut power, &mut next),
                        false => power.slice_mut(s![..own, ..]).assign(&next),
                    }
                }
                for (psi, part) in self.operators.list().iter().zip(&mut parts) {
                    let c = psi.coefficients().get(j).copied().unwrap_or(0.0);
                    if c != 0.0 {
                        for (out, &i) in rows_mut(part).zip(&self.nodes) {
                            axpy(T::of(c), power.row(i).to_slice().unwrap_or(&[]), out);
                        }
                    }
                }
            }
            take(FeatureBlock { columns, parts: &parts })?;
        }
        Ok(())
    }

    /// Y = Σ_k ψ_k(Ã) H W_kᵀ, N × n_1, without forming X: first projected, then propagated, by Horner's rule. The rows of
    /// the chosen nodes are right, the others are left over from what those needed. `w` is n_1 × K d. Cost, with all nodes
    /// chosen: 2 n_1 (K nnz(H) + degree nnz(Ã)); `done` is told of each part of the multiplications for one neuron,
    /// [`Augmentation::project_cost`] in all.
    pub fn project(&self, w: ArrayView2<'_, T>, workers: &Workers, mut done: impl FnMut(usize)) -> Array2<T> {
        let (d, degree) = (self.features.dimension(), self.operators.degree());
        let shape = (self.features.nodes(), w.nrows());
        // What is still to be propagated j times is needed where power degree − j is.
        let needed = |j: usize| &self.needed[degree - j];
        let parts = self.operators.list().iter().enumerate();
        let projected: Vec<Array2<T>> = parts
            .map(|(k, psi)| {
                let reach = psi.coefficients().len().saturating_sub(1);
                let projected = self.times(w.slice(s![.., k * d..(k + 1) * d]), needed(reach), workers);
                done(self.features.stored());
                projected
            })
            .collect();
        let mut y = Array2::zeros(shape);
        let mut next = Array2::zeros(shape);
        for j in (0..=degree).rev() {
            if j < degree {
                self.adjacency.apply(&y, needed(j), &mut next, workers);
                std::mem::swap(&mut y, &mut next);
                done(self.adjacency.stored());
            }
            for (psi, hw) in self.operators.list().iter().zip(&projected) {
                let c = psi.coefficients().get(j).copied().unwrap_or(0.0);
                if c != 0.0 {
                    y.scaled_add(T::of(c), hw);
                }
            }
        }
        y
    }

    /// Rows `wanted` of H Wᵀ for W n × d; the others are 0. Threads take rows.
    fn times(&self, w: ArrayView2<'_, T>, wanted: &[bool], workers: &Workers) -> Array2<T> {
        let wt = w.t().as_standard_layout().into_owned();
        let mut out = Array2::zeros((self.features.nodes(), w.nrows()));
        let mut each: Vec<&mut [T]> = rows_mut(&mut out).collect();
        workers.each(&mut each[..], |i, out| {
            if !wanted[i] {
                return;
            }
            let scaled = |j: usize, h: f32| (j, T::of(f64::from(h) * self.scale.factor(i, j)));
            match self.features {
                Features::Dense(h) => {
                    let entries = h.row(i).into_iter().enumerate();
                    combine_rows(flat(&wt), entries.map(|(j, &h)| scaled(j, h)), out);
                }
                Features::Sparse(h) => {
                    let range: Range<usize> = h.indptr().outer_inds_sz(i);
                    let entries = h.indices()[range.clone()].iter().zip(&h.data()[range]);
                    combine_rows(flat(&wt), entries.map(|(&j, &h)| scaled(j as usize, h)), out);
                }
            }
        });
        out
    }

    /// Columns of H, scaled, into the rows of the own nodes; the rest of `out` is 0 already. `cursors` hold each sparse
    /// row's next entry.
    fn read_columns(&self, columns: &Range<usize>, cursors: &mut [usize], out: &mut Array2<T>) {
        match self.features {
            Features::Dense(h) => {
                for (i, (out, h)) in rows_mut(out).zip(rows(h)).enumerate() {
                    for (out, j) in out.iter_mut().zip(columns.clone()) {
                        *out = T::of(f64::from(h[j]) * self.scale.factor(i, j));
                    }
                }
            }
            Features::Sparse(h) => {
                for (i, (out, cursor)) in rows_mut(out).zip(cursors).enumerate() {
                    let range: Range<usize> = h.indptr().outer_inds_sz(i);
                    let (indices, data) = (&h.indices()[range.clone()], &h.data()[range]);
                    while let Some(&j) = indices.get(*cursor).filter(|&&j| (j as usize) < columns.end) {
                        let j = j as usize;
                        out[j - columns.start] = T::of(f64::from(data[*cursor]) * self.scale.factor(i, j));
                        *cursor += 1;
                    }
                }
            }
        }
    }
}

/// Makes a matrix one of zeros of this shape.
pub(crate) fn clear<T: Real>(matrix: &mut Array2<T>, shape: (usize, usize)) {
    match matrix.dim() == shape {
        true => matrix.fill(T::zero()),
        false => {
            // The old one goes first: both together may be too much.
            *matrix = Array2::zeros((0, 0));
            *matrix = Array2::zeros(shape);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataset::SparseMatrix;
    use crate::graph::renormalised_adjacency;
    use proptest::prelude::*;

    /// A random undirected graph with random sparse features.
    fn problem(seed: u64) -> (SparseMatrix, Features, Features) {
        let (nodes, d) = (13usize, 300usize);
        let hash = |a: usize, b: usize| (a * 7919 + b * 104_729 + seed as usize * 31) % 97;
        let mut edges = sprs::TriMatI::<f32, u32>::new((nodes, nodes));
        for i in 0..nodes {
            for j in 0..i {
                if hash(i, j) < 20 {
                    edges.add_triplet(i, j, 1.0);
                    edges.add_triplet(j, i, 1.0);
                }
            }
        }
        let dense = Array2::from_shape_fn((nodes, d), |(i, j)| {
            if hash(j + 5, i) < 30 { hash(i, j) as f32 / 10.0 } else { 0.0 }
        });
        let mut sparse = sprs::TriMatI::<f32, u32>::new((nodes, d));
        dense.indexed_iter().filter(|(_, h)| **h != 0.0).for_each(|((i, j), &h)| sparse.add_triplet(i, j, h));
        let csr = |m: sprs::TriMatI<f32, u32>| {
            let m: sprs::CsMatI<f32, u32> = m.to_csr();
            let (starts, indices, data) =
                (m.indptr().raw_storage().to_vec(), m.indices().to_vec(), m.data().to_vec());
            SparseMatrix::new(
                (m.rows(), m.cols()),
                starts.into_iter().map(|s| s as usize).collect(),
                indices,
                data,
            )
        };
        (csr(edges), Features::Dense(dense), Features::Sparse(csr(sparse)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn blocks_agree_with_dense_powers(seed in 0u64..1000, norm in 0usize..3) {
            let norm = [FeatureNorm::None, FeatureNorm::Row, FeatureNorm::Column][norm];
            let (a, dense, sparse) = problem(seed);
            let tilde = renormalised_adjacency::<f64>(&a);
            let operators: Operators = "0,2,ppr:0.2:4,3".parse().unwrap();
            let chosen = [3usize, 0, 11];
            let (n, d, k) = (13, 300, operators.count());
            // Everything dense, by the definition.
            let everything = vec![true; n];
            let scale = Scale::of(&dense, norm);
            let Features::Dense(h) = &dense else { unreachable!() };
            let h = Array2::from_shape_fn((n, d), |(i, j)| f64::from(h[[i, j]]) * scale.factor(i, j));
            let mut expected = Array2::<f64>::zeros((n, k * d));
            let mut power = h.clone();
            for j in 0..=operators.degree() {
                if j > 0 {
                    let mut next = Array2::zeros(power.dim());
                    tilde.apply(&power, &everything, &mut next, &Workers::one());
                    power = next;
                }
                for (k, psi) in operators.list().iter().enumerate() {
                    let c = psi.coefficients().get(j).copied().unwrap_or(0.0);
                    expected.slice_mut(s![.., k * d..(k + 1) * d]).scaled_add(c, &power);
                }
            }
            for features in [&dense, &sparse] {
                let plan = Augmentation::new(&tilde, features, &operators, norm, &chosen);
                let mut x = Array2::<f64>::zeros((3, plan.width()));
                plan.for_each_block(&Workers::one(), |block| {
                    for (k, part) in block.parts.iter().enumerate() {
                        x.slice_mut(s![.., k * d + block.columns.start..k * d + block.columns.end]).assign(part);
                    }
                    Ok::<(), ()>(())
                }).unwrap();
                for (row, &i) in x.rows().into_iter().zip(&chosen) {
                    prop_assert!((&row - &expected.row(i)).iter().all(|e| e.abs() < 1e-12));
                }
                let w = Array2::from_shape_fn((4, k * d), |(i, j)| ((i * 13 + j * 7) % 11) as f64 - 5.0);
                let direct = expected.dot(&w.t());
                let everybody: Vec<usize> = (0..n).collect();
                for chosen in [&chosen[..], &everybody, &[]] {
                    let plan = Augmentation::new(&tilde, features, &operators, norm, chosen);
                    let y = plan.project(w.view(), &Workers::one(), |_| ());
                    for &i in chosen {
                        let close = |(y, d): (&f64, &f64)| (y - d).abs() < 1e-9 * (1.0 + d.abs());
                        prop_assert!(y.row(i).iter().zip(direct.row(i)).all(close), "{chosen:?}, row {i}");
                    }
                }
            }
        }
    }
}

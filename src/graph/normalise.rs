//! The renormalised adjacency Ã = (D + I)^-1/2 (A + I) (D + I)^-1/2.

use ndarray::Array2;

use super::LocalNodes;
use crate::dataset::SparseMatrix;
use crate::linalg::elements::{combine_rows, flat, flat_mut};
use crate::linalg::{Real, Workers};

/// Rows of Ã in the precision of the run, in compressed rows: of the whole graph, or of a part of it with columns in
/// the numbers of [`LocalNodes`]. Elements of a row stand in the order of their nodes in the graph, so that sums over
/// them are the same in every partition.
#[derive(Debug, Clone)]
pub struct RenormalisedAdjacency<T> {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<T>,
    /// Own nodes and those beyond.
    reach: usize,
}

/// Ã of raw edges A (no self loops): D_ii = Σ_j A_ij over the weights of row i.
///
/// An isolated node keeps its own features (Ã_ii = 1). In a directed graph row i holds the edges that leave i:
/// a node then hears those it points to. A node whose weights sum to −1 or less has no square root and is
/// treated as isolated.
pub fn renormalised_adjacency<T: Real>(adjacency: &SparseMatrix) -> RenormalisedAdjacency<T> {
    let everything = LocalNodes::all(adjacency.rows());
    renormalised_rows(adjacency, &everything, &inverse_root_degrees(adjacency))
}

/// (D_ii + 1)^-1/2 of these rows of A, 0 where it does not exist.
pub fn inverse_root_degrees(rows: &SparseMatrix) -> Vec<f64> {
    let of_row = |row: sprs::CsVecViewI<'_, f32, u32>| {
        let degree = 1.0 + row.data().iter().map(|&a| f64::from(a)).sum::<f64>();
        if degree > 0.0 { 1.0 / degree.sqrt() } else { 0.0 }
    };
    rows.outer_iterator().map(of_row).collect()
}

/// As [`renormalised_adjacency`], of the rows of A of a part's own nodes, given [`inverse_root_degrees`] of its own
/// nodes and those beyond, in their local order.
pub fn renormalised_rows<T: Real>(
    rows: &SparseMatrix,
    nodes: &LocalNodes,
    scale: &[f64],
) -> RenormalisedAdjacency<T> {
    let stored = rows.nnz() + rows.rows();
    let mut tilde = RenormalisedAdjacency {
        starts: Vec::with_capacity(rows.rows() + 1),
        columns: Vec::with_capacity(stored),
        values: Vec::with_capacity(stored),
        reach: nodes.reach(),
    };
    tilde.starts.push(0);
    for (i, row) in rows.outer_iterator().enumerate() {
        let own = if scale[i] > 0.0 { scale[i] * scale[i] } else { 1.0 };
        let mut own_is_due = true;
        for (j, &a) in row.iter() {
            if own_is_due && j > nodes.own().start + i {
                tilde.push(i, own);
                own_is_due = false;
            }
            let j = nodes.number(j);
            tilde.push(j, scale[i] * f64::from(a) * scale[j]);
        }
        if own_is_due {
            tilde.push(i, own);
        }
        tilde.starts.push(tilde.columns.len());
    }
    tilde
}

impl<T: Real> RenormalisedAdjacency<T> {
    fn push(&mut self, column: usize, value: f64) {
        self.columns.push(column as u32);
        self.values.push(T::of(value));
    }

    /// Number of rows: N, or the number of own nodes.
    pub fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of nodes that its rows can read: N, or own nodes and those beyond.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Number of stored elements, those on the diagonal included.
    pub fn stored(&self) -> usize {
        self.columns.len()
    }

    /// The nodes that row i of Ã reads, i among them.
    pub fn neighbours(&self, i: usize) -> &[u32] {
        &self.columns[self.starts[i]..self.starts[i + 1]]
    }

    /// Which nodes the rows `wanted` read, by local number (of all within reach).
    pub fn read_by(&self, wanted: &[bool]) -> Vec<bool> {
        let mut read = wanted.to_vec();
        read.resize(self.reach, false);
        for (i, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
            self.neighbours(i).iter().for_each(|&k| read[k as usize] = true);
        }
        read
    }

    /// Rows `wanted` of Y ← Ã X, for dense X (reach × columns) and Y (nodes × columns); other rows of Y are left as they
    /// are.
    ///
    /// Cost: 2 columns for each stored element of the rows wanted. Rows are split between threads.
    pub fn apply(&self, x: &Array2<T>, wanted: &[bool], y: &mut Array2<T>, workers: &Workers) {
        let columns = x.ncols().max(1);
        let x = flat(x);
        let strip = wanted.len().div_ceil(workers.threads() * 4).max(1);
        let mut strips: Vec<_> = flat_mut(y).chunks_mut(strip * columns).collect();
        workers.each(&mut strips[..], |s, strip_rows| {
            for (k, out) in strip_rows.chunks_exact_mut(columns).enumerate() {
                let i = s * strip + k;
                if !wanted[i] {
                    continue;
                }
                let range = self.starts[i]..self.starts[i + 1];
                let entries = self.columns[range.clone()].iter().zip(&self.values[range]);
                combine_rows(x, entries.map(|(&j, &a)| (j as usize, a)), out);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_three_nodes_and_an_isolated_one() {
        let a = SparseMatrix::new((4, 4), vec![0, 1, 3, 4, 4], vec![1, 0, 2, 1], vec![1.0f32; 4]);
        let tilde = renormalised_adjacency::<f64>(&a);
        let mut y = Array2::zeros((4, 4));
        tilde.apply(&Array2::eye(4), &[true; 4], &mut y, &Workers::one());
        let s6 = 1.0 / 6f64.sqrt();
        let expected = ndarray::array![
            [0.5, s6, 0.0, 0.0],
            [s6, 1.0 / 3.0, s6, 0.0],
            [0.0, s6, 0.5, 0.0],
            [0.0, 0.0, 0.0, 1.0]
        ];
        assert!((&y - &expected).iter().all(|d: &f64| d.abs() < 1e-15), "{y}");
        assert_eq!(tilde.neighbours(1), [0, 1, 2]);
    }

    fn dense(a: &SparseMatrix) -> Array2<f64> {
        let n = a.rows();
        let mut y = Array2::zeros((n, n));
        renormalised_adjacency::<f64>(a).apply(&Array2::eye(n), &vec![true; n], &mut y, &Workers::one());
        y
    }

    #[test]
    fn directed_and_weighted_edges() {
        // 0 → 1 of weight 3, 1 → 2 of weight 8; node 2 points to none: degrees with the own loop 4, 9, 1.
        let a = SparseMatrix::new((3, 3), vec![0, 1, 2, 2], vec![1, 2], vec![3.0f32, 8.0]);
        let expected =
            ndarray::array![[1.0 / 4.0, 3.0 / 6.0, 0.0], [0.0, 1.0 / 9.0, 8.0 / 3.0], [0.0, 0.0, 1.0]];
        let y = dense(&a);
        assert!((&y - &expected).iter().all(|d: &f64| d.abs() < 1e-15), "{y}");
    }

    #[test]
    fn a_node_whose_weights_outweigh_its_own_loop_is_isolated() {
        // Degrees with the own loop: −1, −1, 1: nobody hears nodes 0 and 1, and they hear only themselves.
        let a = SparseMatrix::new((3, 3), vec![0, 1, 2, 2], vec![1, 0], vec![-2.0f32, -2.0]);
        assert_eq!(dense(&a), Array2::<f64>::eye(3));
        // A weight of 0 is no edge, and keeps a node's own features.
        let a = SparseMatrix::new((2, 2), vec![0, 1, 2], vec![1, 0], vec![0.0f32; 2]);
        assert_eq!(dense(&a), Array2::<f64>::eye(2));
    }
}

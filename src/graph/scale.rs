//! The factors that raw features are multiplied by before the operators are applied.

use std::ops::Range;

use ndarray::Array2;

use super::FeatureNorm;
use crate::dataset::Features;
use crate::linalg::elements::flat_mut;
use crate::linalg::{MatrixSum, NodeBlocks};

/// In how many blocks of rows sums over all nodes are formed, at most.
const BLOCKS: usize = 1024;

/// The factors of a [`FeatureNorm`].
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// None.
    One,
    /// One for each node.
    Rows(Vec<f64>),
    /// One for each feature.
    Columns(Vec<f64>),
}

/// The blocks of consecutive nodes in which sums over all N nodes are formed; a part's own nodes are whole blocks.
pub fn row_blocks(nodes: usize) -> NodeBlocks {
    NodeBlocks::new(nodes, Some(nodes.div_ceil(BLOCKS)))
}

impl Scale {
    /// Of all nodes of a graph.
    pub fn of(features: &Features, norm: FeatureNorm) -> Self {
        match norm {
            FeatureNorm::None => Scale::One,
            FeatureNorm::Row => Scale::of_rows(features),
            FeatureNorm::Column => {
                let mut sum = MatrixSum::new((1, features.dimension()));
                for rows in row_blocks(features.nodes()).ranges() {
                    sum.push(|squares| column_squares(features, rows, squares));
                }
                let mut squares = Array2::zeros((0, 0));
                sum.finish(&mut squares);
                Scale::of_columns(squares.into_iter().collect(), features.nodes())
            }
        }
    }

    /// Divides each node's features by the sum of their absolute values.
    pub fn of_rows(features: &Features) -> Self {
        let inverse_sum = |sum: f64| inverse(sum);
        Scale::Rows(match features {
            Features::Dense(h) => h
                .rows()
                .into_iter()
                .map(|row| inverse_sum(row.iter().map(|&h| f64::from(h).abs()).sum()))
                .collect(),
            Features::Sparse(h) => h
                .outer_iterator()
                .map(|row| inverse_sum(row.data().iter().map(|&h| f64::from(h).abs()).sum()))
                .collect(),
        })
    }

    /// Divides each feature by its root mean square over all N nodes, given its sum of squares.
    pub fn of_columns(squares: Vec<f64>, nodes: usize) -> Self {
        let mean = 1.0 / nodes.max(1) as f64;
        Scale::Columns(squares.into_iter().map(|sum| inverse((sum * mean).sqrt())).collect())
    }

    /// Sum of squares and number of the scaled entries of these rows that are not 0, into `out` (1 × 2).
    pub fn entry_squares(&self, features: &Features, rows: Range<usize>, out: &mut Array2<f64>) {
        let mut sums = [0.0; 2];
        let mut add = |i: usize, j: usize, h: f32| {
            if h != 0.0 {
                let h = f64::from(h) * self.factor(i, j);
                sums[0] += h * h;
                sums[1] += 1.0;
            }
        };
        for i in rows {
            match features {
                Features::Dense(h) => h.row(i).iter().enumerate().for_each(|(j, &h)| add(i, j, h)),
                Features::Sparse(h) => {
                    let range: Range<usize> = h.indptr().outer_inds_sz(i);
                    let entries = h.indices()[range.clone()].iter().zip(&h.data()[range]);
                    entries.for_each(|(&j, &h)| add(i, j as usize, h));
                }
            }
        }
        flat_mut(out).copy_from_slice(&sums);
    }

    #[inline]
    pub(super) fn factor(&self, i: usize, j: usize) -> f64 {
        match self {
            Scale::One => 1.0,
            Scale::Rows(rows) => rows[i],
            Scale::Columns(columns) => columns[j],
        }
    }
}

fn inverse(x: f64) -> f64 {
    if x > 0.0 && x.is_finite() { 1.0 / x } else { 1.0 }
}

/// Sum of squares of each feature over these rows, into `out` (1 × d).
pub fn column_squares(features: &Features, rows: Range<usize>, out: &mut Array2<f64>) {
    let out = flat_mut(out);
    out.fill(0.0);
    for i in rows {
        match features {
            Features::Dense(h) => {
                out.iter_mut().zip(h.row(i)).for_each(|(sum, &h)| *sum += f64::from(h) * f64::from(h));
            }
            Features::Sparse(h) => {
                let range: Range<usize> = h.indptr().outer_inds_sz(i);
                let entries = h.indices()[range.clone()].iter().zip(&h.data()[range]);
                entries.for_each(|(&j, &h)| out[j as usize] += f64::from(h) * f64::from(h));
            }
        }
    }
}

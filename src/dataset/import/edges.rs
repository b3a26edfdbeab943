//! From lists of edges and loose rows to tidy compressed rows.

use crate::dataset::SparseMatrix;
use crate::storage::{Fault, filled, reserve};

/// The adjacency of an unweighted undirected graph: both directions of every pair, no duplicates,
/// no self loops, weight 1.
///
/// # Errors
/// An end that is not below `nodes`, or too little memory.
pub(crate) fn undirected(place: &str, nodes: usize, pairs: Vec<(u32, u32)>) -> Result<SparseMatrix, Fault> {
    weighted(place, nodes, pairs.iter().map(|&(u, v)| (u, v, 1.0)), false)
}

/// The adjacency of a weighted graph. Unless `directed`, both directions are stored. Of edges that
/// come several times the largest weight counts, as in the reference GCN code.
///
/// # Errors
/// An end that is not below `nodes`, or too little memory.
pub(crate) fn weighted(
    place: &str,
    nodes: usize,
    edges: impl Iterator<Item = (u32, u32, f32)> + Clone,
    directed: bool,
) -> Result<SparseMatrix, Fault> {
    let mut starts: Vec<usize> = filled(place, nodes + 1, 0)?;
    let mut count = 0usize;
    for (i, (u, v, _)) in edges.clone().enumerate() {
        for end in [u, v] {
            if end as usize >= nodes {
                return Err(Fault::new(
                    format!("{place}, edge {i}"),
                    format!("node numbers in 0..{nodes}"),
                    format!("{end}"),
                ));
            }
        }
        if u == v {
            continue;
        }
        let ends = if directed { [Some(u), None] } else { [Some(u), Some(v)] };
        for end in ends.into_iter().flatten() {
            if let Some(slot) = starts.get_mut(end as usize + 1) {
                *slot += 1;
                count += 1;
            }
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut next: Vec<usize> = reserve(place, starts.len())?;
    next.extend_from_slice(&starts);
    let mut entries: Vec<(u32, f32)> = filled(place, count, (0, 0.0))?;
    let mut put = |row: u32, column: u32, weight: f32| {
        if let Some(slot) = next.get_mut(row as usize) {
            if let Some(entry) = entries.get_mut(*slot) {
                *entry = (column, weight);
            }
            *slot += 1;
        }
    };
    for (u, v, weight) in edges {
        if u != v {
            put(u, v, weight);
            if !directed {
                put(v, u, weight);
            }
        }
    }
    tidy(place, (nodes, nodes), &starts, entries, f32::max)
}

/// Sorts each row and merges entries of the same column.
///
/// # Errors
/// Too little memory.
pub(crate) fn tidy(
    place: &str,
    shape: (usize, usize),
    starts: &[usize],
    mut entries: Vec<(u32, f32)>,
    merge: fn(f32, f32) -> f32,
) -> Result<SparseMatrix, Fault> {
    let mut indptr: Vec<usize> = reserve(place, starts.len())?;
    let mut indices: Vec<u32> = reserve(place, entries.len())?;
    let mut data: Vec<f32> = reserve(place, entries.len())?;
    indptr.push(0);
    for pair in starts.windows(2) {
        let &[start, end] = pair else { continue };
        let row = entries.get_mut(start..end).unwrap_or_default();
        row.sort_by_key(|&(column, _)| column);
        let first = indices.len();
        for &mut (column, value) in row {
            match (indices.get(first..).and_then(|row| row.last()), data.last_mut()) {
                (Some(&last), Some(kept)) if last == column => *kept = merge(*kept, value),
                _ => {
                    indices.push(column);
                    data.push(value);
                }
            }
        }
        indptr.push(indices.len());
    }
    SparseMatrix::try_new(shape, indptr, indices, data)
        .map_err(|(_, _, _, error)| Fault::new(place, "compressed rows", format!("{error}")))
}

/// A matrix in compressed rows as foreign files hold it: rows perhaps unsorted, with duplicates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LooseRows {
    pub(crate) shape: (usize, usize),
    pub(crate) indptr: Vec<i64>,
    pub(crate) indices: Vec<i64>,
    pub(crate) data: Vec<f32>,
}

impl LooseRows {
    /// Checks shape, row starts and column numbers; afterwards [`LooseRows::row`] finds every row.
    pub(crate) fn check(self, place: &str) -> Result<Self, Fault> {
        let (rows, columns) = self.shape;
        let entries = self.indices.len();
        let lengths_agree = Some(self.indptr.len()) == rows.checked_add(1) && self.data.len() == entries;
        if !lengths_agree {
            return Err(Fault::new(
                place,
                format!("{rows} + 1 row starts and as many values as indices"),
                format!("{} row starts, {entries} indices, {} values", self.indptr.len(), self.data.len()),
            ));
        }
        let ends_fit = self.indptr.first() == Some(&0)
            && self.indptr.last().and_then(|&end| usize::try_from(end).ok()) == Some(entries);
        if !ends_fit || !self.indptr.is_sorted() {
            return Err(Fault::new(
                format!("{place} (indptr)"),
                format!("row starts that rise from 0 to {entries}, the number of indices"),
                "others",
            ));
        }
        let outside = |&index: &i64| usize::try_from(index).map_or(true, |index| index >= columns);
        if let Some(i) = self.indices.iter().position(outside) {
            return Err(Fault::new(
                format!("{place} (indices[{i}])"),
                format!("column numbers in 0..{columns}"),
                format!("{:?}", self.indices.get(i)),
            ));
        }
        if let Some(i) = self.data.iter().position(|value| !value.is_finite()) {
            return Err(Fault::new(format!("{place} (data[{i}])"), "finite numbers", "NaN or infinity"));
        }
        Ok(self)
    }

    /// Columns and values of a row; empty for a row that is not there.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let bound = |i: usize| self.indptr.get(i).and_then(|&start| usize::try_from(start).ok());
        let range = match (bound(row), bound(row + 1)) {
            (Some(start), Some(end)) => start..end,
            _ => 0..0,
        };
        let columns = self.indices.get(range.clone()).unwrap_or_default();
        let values = self.data.get(range).unwrap_or_default();
        columns.iter().zip(values).map(|(&column, &value)| (column as u32, value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directions_duplicates_and_loops_are_put_in_order() {
        let edges = [(2, 0, 1.0), (0, 2, 3.0), (1, 1, 1.0), (2, 1, 2.0), (2, 0, 0.5)];
        let both = weighted("test", 3, edges.into_iter(), false).unwrap();
        let dense = both.to_dense();
        assert_eq!(dense, ndarray::array![[0., 0., 3.], [0., 0., 2.], [3., 2., 0.]]);
        let one = weighted("test", 3, edges.into_iter(), true).unwrap();
        assert_eq!(one.to_dense(), ndarray::array![[0., 0., 3.], [0., 0., 0.], [1., 2., 0.]]);
        assert!(weighted("test", 2, edges.into_iter(), false).unwrap_err().found.contains('2'));
    }
}

//! The rules that training relies on, each in one place: reading, writing and `dataset check` all
//! come here.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::Array2;

use super::{Dataset, Features, SparseMatrix, Split};
use crate::storage::{Fault, reserve};

/// Most nodes: indices are kept in 32 bits.
pub const MAX_NODES: usize = u32::MAX as usize - 1;
/// Most features a node; the largest published sets have some ten thousand.
pub const MAX_FEATURES: usize = 1 << 24;
/// Most classes.
pub const MAX_CLASSES: usize = 1 << 20;
/// Longest name of a data set or a split, in bytes.
pub const MAX_NAME: usize = 256;

/// The starts of rows `rows` of `all` compressed rows with `entries` entries, and the end of the last: they never
/// fall, from 0 at row 0 to the number of entries at the end.
pub(crate) fn row_starts(
    place: &str,
    rows: &Range<usize>,
    all: usize,
    entries: usize,
    indptr: &[i64],
) -> Result<Vec<usize>, Fault> {
    let mut starts: Vec<usize> = reserve(place, indptr.len())?;
    let mut last = 0;
    for (row, &start) in (rows.start..).zip(indptr) {
        let found = usize::try_from(start).ok();
        let wrong =
            |expected: String| Fault::new(format!("{place}/indptr[{row}]"), expected, format!("{start}"));
        let found = match found {
            Some(0) => 0,
            Some(_) if row == 0 => return Err(wrong("0".into())),
            Some(found) => found,
            None => return Err(wrong("an integer of at least 0".into())),
        };
        if found < last {
            return Err(wrong(format!("at least {last}, the entry before")));
        }
        if found > entries {
            return Err(wrong(format!("at most {entries}, the number of indices")));
        }
        starts.push(found);
        last = found;
    }
    if rows.end == all && last != entries {
        return Err(Fault::new(
            format!("{place}/indptr[{all}]"),
            format!("{entries}, the number of indices"),
            format!("{last}"),
        ));
    }
    Ok(starts)
}

/// Indices rise strictly within each row and lie in `0..columns`. The first row is `first` of the matrix, and the
/// first index is entry `starts[0]`.
pub(crate) fn sorted_rows<I>(
    place: &str,
    first: usize,
    starts: &[usize],
    indices: &[I],
    columns: usize,
) -> Result<(), Fault>
where
    I: Copy + Into<i64>,
{
    let columns = i64::try_from(columns).unwrap_or(i64::MAX);
    let before = starts.first().copied().unwrap_or(0);
    for (row, pair) in (first..).zip(starts.windows(2)) {
        let (start, end) = match *pair {
            [start, end] => (start, end),
            _ => continue,
        };
        let mut previous = -1;
        let entries = indices.get(start - before..end - before).unwrap_or_default();
        for (offset, &index) in entries.iter().enumerate() {
            let index: i64 = index.into();
            let wrong = |expected: String| {
                Err(Fault::new(
                    format!("{place}/indices[{}] (row {row})", start + offset),
                    expected,
                    format!("{index}"),
                ))
            };
            if index < 0 || index >= columns {
                return wrong(format!("an index in 0..{columns}"));
            }
            if index == previous {
                return wrong(format!("no duplicates, but {index} comes twice"));
            }
            if index < previous {
                return wrong(format!("sorted indices, above {previous}"));
            }
            previous = index;
        }
    }
    Ok(())
}

/// All of these are finite; the first is entry `first`.
pub(crate) fn finite(place: &str, first: usize, values: &[f32]) -> Result<(), Fault> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Fault::new(
            format!("{place}[{}]", first + i),
            "a finite number",
            format!("{}", values.get(i).copied().unwrap_or(f32::NAN)),
        )
        .advise("replace missing values, for example by 0, and write the file again")),
    }
}

/// Sizes that later allocations depend on are sane before anything is allocated.
pub(crate) fn sizes(nodes: usize, features: usize, classes: i64) -> Result<usize, Fault> {
    let within = |place: &str, found: i64, limit: usize| {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if (1..=limit).contains(&found) {
            return Ok(());
        }
        Err(Fault::new(place, format!("1 to {limit}"), format!("{found}")))
    };
    let signed = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    within("number of nodes (shape of /adjacency)", signed(nodes), MAX_NODES)?;
    within("number of features (shape of /features)", signed(features), MAX_FEATURES)?;
    within("attribute num_classes of /", classes, MAX_CLASSES)?;
    Ok(usize::try_from(classes).unwrap_or(0))
}

/// A name that every tool can print and HDF5 can store.
pub(crate) fn name(place: &str, name: &str) -> Result<(), Fault> {
    let good = !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && !name.chars().any(|c| c.is_control() || c == '/');
    if good {
        return Ok(());
    }
    Err(Fault::new(
        place,
        format!("a name of 1 to {MAX_NAME} bytes without slashes and control characters"),
        format!("{:?}", name.chars().take(MAX_NAME).collect::<String>()),
    )
    .advise("choose another name"))
}

/// The adjacency is square, of `nodes` rows, and has no self loops.
pub(crate) fn adjacency(matrix: &SparseMatrix, nodes: usize) -> Result<(), Fault> {
    if matrix.shape() != (nodes, nodes) {
        return Err(Fault::new(
            "/adjacency",
            format!("{nodes} × {nodes}, a row and a column each node"),
            format!("{} × {}", matrix.rows(), matrix.cols()),
        ));
    }
    no_self_loops(matrix, 0)
}

/// None of these rows, from row `first` on, has an entry on the diagonal.
pub(crate) fn no_self_loops(rows: &SparseMatrix, first: usize) -> Result<(), Fault> {
    for (row, neighbours) in (first..).zip(rows.outer_iterator()) {
        if neighbours.indices().iter().any(|&node| node as usize == row) {
            return Err(Fault::new(
                format!("/adjacency (row {row})"),
                "no self loops (training adds its own)",
                format!("an edge from node {row} to itself"),
            )
            .advise("remove the diagonal and write the file again"));
        }
    }
    Ok(())
}

/// One label in `-1..classes` for each node.
pub(crate) fn labels(labels: &[i64], nodes: usize, classes: usize) -> Result<(), Fault> {
    if labels.len() != nodes {
        return Err(Fault::new(
            "/labels",
            format!("{nodes} entries, one for each node"),
            format!("{}", labels.len()),
        ));
    }
    let limit = i64::try_from(classes).unwrap_or(i64::MAX);
    for (node, &label) in labels.iter().enumerate() {
        if label < -1 || label >= limit {
            return Err(Fault::new(
                format!("/labels[{node}]"),
                format!("a class in 0..{classes}, or -1 for unknown"),
                format!("{label}"),
            )
            .advise("correct the labels or the attribute num_classes"));
        }
    }
    Ok(())
}

/// Converts node indices of one part of a split.
pub(crate) fn split_part(place: &str, indices: &[i64], nodes: usize) -> Result<Vec<usize>, Fault> {
    let mut part = reserve(place, indices.len())?;
    for (i, &index) in indices.iter().enumerate() {
        match usize::try_from(index) {
            Ok(node) if node < nodes => part.push(node),
            _ => {
                return Err(Fault::new(
                    format!("{place}[{i}]"),
                    format!("a node index in 0..{nodes}"),
                    format!("{index}"),
                ));
            }
        }
    }
    Ok(part)
}

/// At least one split; in each: no empty part, no node twice, all in range, and every training
/// node has a label.
pub(crate) fn splits(splits: &BTreeMap<String, Split>, labels: &[i64]) -> Result<(), Fault> {
    if splits.is_empty() {
        return Err(Fault::new("/splits", "at least one split", "none")
            .advise("add a group /splits/<name> with data sets train, val and test"));
    }
    let mut seen: Vec<u8> = crate::storage::filled("/splits", labels.len(), 0)?;
    const PARTS: [&str; 3] = ["train", "val", "test"];
    for (name, split) in splits {
        self::name(&format!("/splits/{name}"), name)?;
        seen.fill(0);
        let parts = [&split.train, &split.val, &split.test];
        for (mark, (part, nodes)) in (1u8..).zip(PARTS.iter().zip(parts)) {
            let place = format!("/splits/{name}/{part}");
            if nodes.is_empty() {
                return Err(Fault::new(place, "at least one node", "none")
                    .advise("give this part some nodes, or remove the split"));
            }
            for (i, &node) in nodes.iter().enumerate() {
                let Some(first) = seen.get_mut(node) else {
                    return Err(Fault::new(
                        format!("{place}[{i}]"),
                        format!("a node index in 0..{}", labels.len()),
                        format!("{node}"),
                    ));
                };
                if *first != 0 {
                    let other = PARTS.get(usize::from(*first) - 1).unwrap_or(part);
                    return Err(Fault::new(
                        format!("{place}[{i}]"),
                        "disjoint parts without repetition",
                        format!("node {node}, which is in {other} already"),
                    )
                    .advise("take the node out of one of the parts"));
                }
                *first = mark;
            }
        }
        for (i, &node) in split.train.iter().enumerate() {
            if labels.get(node) == Some(&-1) {
                return Err(Fault::new(
                    format!("/splits/{name}/train[{i}]"),
                    "training nodes with a known label",
                    format!("node {node} with label -1"),
                )
                .advise("take the node out of train, or give it a label"));
            }
        }
    }
    Ok(())
}

/// `nodes` rows, all entries finite.
pub(crate) fn features(features: &Features, nodes: usize) -> Result<(), Fault> {
    if features.nodes() != nodes {
        return Err(Fault::new(
            "/features",
            format!("{nodes} rows, one for each node"),
            format!("{}", features.nodes()),
        ));
    }
    match features {
        Features::Sparse(matrix) => finite("/features/data", 0, matrix.data()),
        Features::Dense(matrix) => finite_rows("/features", 0, matrix),
    }
}

/// All entries of these rows, from row `first` on, are finite.
pub(crate) fn finite_rows(place: &str, first: usize, rows: &Array2<f32>) -> Result<(), Fault> {
    match rows.indexed_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some(((row, column), value)) => Err(Fault::new(
            format!("{place}[{}, {column}]", first + row),
            "a finite number",
            format!("{value}"),
        )
        .advise("replace missing values, for example by 0, and write the file again")),
    }
}

/// Classes that none of these nodes is of: of training nodes, those that the model cannot learn; of validation nodes, those
/// that nothing is known of.
pub fn absent_classes(labels: &[i64], classes: usize, nodes: &[usize]) -> Vec<usize> {
    let mut seen = vec![false; classes];
    for &node in nodes {
        let class = labels.get(node).and_then(|&label| usize::try_from(label).ok());
        if let Some(flag) = class.and_then(|class| seen.get_mut(class)) {
            *flag = true;
        }
    }
    (0..classes).filter(|&class| seen.get(class) == Some(&false)).collect()
}

impl Dataset {
    /// Checks every rule of the file format on a data set in memory. [`Dataset::read`] and
    /// [`Dataset::write`] do so by themselves.
    ///
    /// # Errors
    /// The first broken rule, with the place where it would stand in the file.
    pub fn check(&self) -> Result<(), Fault> {
        let nodes = self.adjacency.rows();
        name("attribute name of /", &self.name)?;
        let classes = i64::try_from(self.num_classes).unwrap_or(i64::MAX);
        sizes(nodes, self.features.dimension(), classes)?;
        rows_in_memory("/adjacency", &self.adjacency)?;
        adjacency(&self.adjacency, nodes)?;
        finite("/adjacency/data", 0, self.adjacency.data())?;
        if let Features::Sparse(matrix) = &self.features {
            rows_in_memory("/features", matrix)?;
        }
        features(&self.features, nodes)?;
        labels(&self.labels, nodes, self.num_classes)?;
        splits(&self.splits, &self.labels)
    }
}

fn rows_in_memory(place: &str, matrix: &SparseMatrix) -> Result<(), Fault> {
    if !matrix.is_csr() || !matrix.indptr().is_proper() {
        return Err(Fault::new(place, "compressed rows", "compressed columns or a slice"));
    }
    match matrix.indptr().as_slice() {
        Some(starts) => sorted_rows(place, 0, starts, matrix.indices(), matrix.cols()),
        None => Ok(()),
    }
}

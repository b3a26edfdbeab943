//! The `.npz` files of the gnn-benchmark family (Shchur et al. 2018): adjacency and attributes in
//! compressed rows, and labels.

use std::io::{Read, Seek};
use std::path::Path;

use super::begin_reading;
use super::edges::{LooseRows, tidy, undirected};
use super::npy::NpzArchive;
use crate::dataset::error::DatasetError;
use crate::dataset::split::standard_splits;
use crate::dataset::{Dataset, Features, SparseMatrix, check};
use crate::progress::Steps;
use crate::storage::{Fault, reserve};

/// Imports a file: attributes become 1 where they are above 0, edges are symmetrised without
/// weights, and ten standard splits are drawn. Members other than `adj_*`, `attr_*` and `labels`
/// are ignored.
///
/// # Errors
/// A file that cannot be read or lacks a member, or content that makes no data set.
pub fn import(path: &Path, name: &str, steps: &Steps) -> Result<Dataset, DatasetError> {
    begin_reading(steps, [path.to_path_buf()]);
    let mut archive = NpzArchive::open(path, steps)?;
    Ok(read(&mut archive, name).map_err(|fault| fault.in_file(path))?)
}

/// Imports an archive in memory.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: &[u8], name: &str) -> Result<Dataset, Fault> {
    read(&mut NpzArchive::from_bytes(bytes)?, name)
}

fn read<R: Read + Seek>(archive: &mut NpzArchive<R>, name: &str) -> Result<Dataset, Fault> {
    if !archive.contains("attr_data") && archive.contains("attr_matrix") {
        return Err(Fault::new(
            "member attr_matrix.npy",
            "attributes in compressed rows (attr_data, attr_indices, attr_indptr, attr_shape)",
            "a dense matrix",
        )
        .advise("convert it with scipy.sparse.csr_matrix"));
    }
    let labels = archive.integers("labels")?;
    let classes = labels.iter().copied().max().unwrap_or(-1).saturating_add(1);
    let adjacency = loose_rows(archive, "adj_")?;
    let nodes = adjacency.shape.0;
    if adjacency.shape.1 != nodes {
        return Err(Fault::new("member adj_shape.npy", "a square matrix", format!("{:?}", adjacency.shape)));
    }
    let attributes = loose_rows(archive, "attr_")?;
    let classes = check::sizes(nodes, attributes.shape.1, classes)?;
    check::labels(&labels, nodes, classes)?;
    let data = Dataset {
        name: name.to_string(),
        num_classes: classes,
        adjacency: symmetrised(&adjacency)?,
        features: Features::Sparse(presence(&attributes)?),
        splits: standard_splits(&labels, classes),
        labels,
    };
    data.check()?;
    Ok(data)
}

/// Reads the four members of a matrix in compressed rows.
pub(crate) fn loose_rows<R: Read + Seek>(
    archive: &mut NpzArchive<R>,
    prefix: &str,
) -> Result<LooseRows, Fault> {
    let member = |part: &str| format!("{prefix}{part}");
    let shape = archive.integers(&member("shape"))?;
    let shape = match shape.as_slice() {
        [rows, columns] => usize::try_from(*rows).ok().zip(usize::try_from(*columns).ok()),
        _ => None,
    };
    let place = format!("members {prefix}*");
    let Some(shape) = shape.filter(|&(r, c)| r <= check::MAX_NODES && c <= check::MAX_NODES) else {
        return Err(Fault::new(
            format!("member {prefix}shape.npy"),
            "two sizes below 2^32",
            "something else",
        ));
    };
    LooseRows {
        shape,
        indptr: archive.integers(&member("indptr"))?,
        indices: archive.integers(&member("indices"))?,
        data: archive.floats(&member("data"))?,
    }
    .check(&place)
}

/// Both directions of every stored edge, weight 1.
pub(crate) fn symmetrised(rows: &LooseRows) -> Result<SparseMatrix, Fault> {
    let mut pairs = reserve("edges", rows.indices.len())?;
    for row in 0..rows.shape.0 {
        pairs.extend(rows.row(row).map(|(column, _)| (row as u32, column)));
    }
    undirected("edges", rows.shape.0, pairs)
}

/// 1 where the entry is above 0, nothing elsewhere.
fn presence(rows: &LooseRows) -> Result<SparseMatrix, Fault> {
    let mut starts = reserve("attributes", rows.shape.0 + 1)?;
    let mut entries = reserve("attributes", rows.indices.len())?;
    starts.push(0);
    for row in 0..rows.shape.0 {
        entries.extend(rows.row(row).filter(|&(_, value)| value > 0.0).map(|(column, _)| (column, 1.0)));
        starts.push(entries.len());
    }
    tidy("attributes", rows.shape, &starts, entries, f32::max)
}

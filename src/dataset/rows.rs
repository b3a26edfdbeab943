//! Reading some rows of the two matrices of a data set file, and going through all of them without holding them.

use std::ops::Range;

use ndarray::Array2;

use super::error::DatasetError;
use super::file::DatasetFile;
use super::{Features, SparseMatrix, check};
use crate::storage::hdf5_source::Kind;
use crate::storage::{CheckedDataSet, Fault, reserve};

/// Elements that are read from the file at once.
const PIECE: usize = 1 << 18;
/// Elements of the rows that are held at once where all rows are gone through.
pub(super) const HELD: usize = 1 << 20;

impl DatasetFile {
    /// Rows of the raw edges A, rows × N; columns are nodes of the whole graph.
    ///
    /// # Errors
    /// Missing, wrongly typed, or not in sorted compressed rows without duplicates and self loops. Of the other rows
    /// nothing is known.
    pub fn adjacency_rows(&self, rows: Range<usize>) -> Result<SparseMatrix, DatasetError> {
        let first = rows.start;
        let matrix = self.compressed_rows("adjacency", rows, self.header.nodes)?;
        check::no_self_loops(&matrix, first).map_err(|fault| self.source.fault(fault))?;
        Ok(matrix)
    }

    /// Rows of the node features H, rows × d, as they are stored: dense or in compressed rows.
    ///
    /// # Errors
    /// Missing, wrongly typed, of another shape, or not finite.
    pub fn feature_rows(&self, rows: Range<usize>) -> Result<Features, DatasetError> {
        let (source, columns) = (&self.source, self.header.features);
        if let Some(Kind::Group) = source.kind(source.root(), "", "features")? {
            return Ok(Features::Sparse(self.compressed_rows("features", rows, columns)?));
        }
        let data = source.data_set(source.root(), "", "features", 2)?;
        let (first, shape) = (rows.start, (rows.len(), columns));
        let elements = rows.len().saturating_mul(columns);
        let mut values = reserve("/features", elements).map_err(|fault| source.fault(fault))?;
        for piece in pieces(rows, data.rows_at_once(PIECE)) {
            values.extend(data.float_block(piece, 0..columns)?);
        }
        let values = Array2::from_shape_vec(shape, values).map_err(|error| {
            source.fault(Fault::new("/features", format!("shape {shape:?}"), format!("{error}")))
        })?;
        check::finite_rows("/features", first, &values).map_err(|fault| source.fault(fault))?;
        Ok(Features::Dense(values))
    }

    fn compressed_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        columns: usize,
    ) -> Result<SparseMatrix, DatasetError> {
        let (source, all) = (&self.source, self.header.nodes);
        let place = format!("/{name}");
        let [indptr, indices, data] = self.compressed_parts(name)?;
        let fault = |fault| source.fault(fault);
        let pointers = indptr.integers_in(rows.start..rows.end + 1)?;
        let starts = check::row_starts(&place, &rows, all, indices.len(), &pointers).map_err(fault)?;
        drop(pointers);
        let (first, last) = match (starts.first(), starts.last()) {
            (Some(&first), Some(&last)) => (first, last),
            _ => (0, 0),
        };
        let mut narrow: Vec<u32> = reserve(&place, last - first).map_err(fault)?;
        let at_once = indices.rows_at_once(PIECE);
        let mut row = 0;
        while row < rows.len() {
            // Whole rows, one at least.
            let within = starts.partition_point(|&start| start <= starts[row] + at_once) - 1;
            let end = within.clamp(row + 1, rows.len());
            let piece = indices.integers_in(starts[row]..starts[end])?;
            check::sorted_rows(&place, rows.start + row, &starts[row..=end], &piece, columns)
                .map_err(fault)?;
            // In range: checked against `columns`, which 32 bits hold.
            narrow.extend(piece.into_iter().map(|index| u32::try_from(index).unwrap_or(u32::MAX)));
            row = end;
        }
        let mut values: Vec<f32> = reserve(&place, last - first).map_err(fault)?;
        for piece in pieces(first..last, data.rows_at_once(PIECE)) {
            let start = piece.start;
            let piece = data.floats_in(piece)?;
            check::finite(&format!("{place}/data"), start, &piece).map_err(fault)?;
            values.extend(piece);
        }
        let starts = starts.into_iter().map(|start| start - first).collect();
        Ok(SparseMatrix::try_new((rows.len(), columns), starts, narrow, values).map_err(
            |(_, _, _, error)| fault(Fault::new(place, "a matrix in compressed rows", format!("{error}"))),
        )?)
    }

    /// `indptr`, `indices` and `data`. Lengths are compared before anything is read: the smallest error for the
    /// largest lie.
    fn compressed_parts(&self, name: &str) -> Result<[CheckedDataSet<'_>; 3], DatasetError> {
        let (source, rows) = (&self.source, self.header.nodes);
        let place = format!("/{name}");
        let group = source.group(source.root(), "", name)?;
        let part = |part: &str| source.data_set(&group, &place, part, 1);
        let (indptr, indices, data) = (part("indptr")?, part("indices")?, part("data")?);
        let disagree = |part: &str, expected: String, found: &CheckedDataSet<'_>| {
            let found = format!("{} entries", found.len());
            Err(source.fault(Fault::new(format!("{place}/{part}"), expected, found)).into())
        };
        if Some(indptr.len()) != rows.checked_add(1) {
            return disagree("indptr", format!("{rows} + 1 entries, one more than nodes"), &indptr);
        }
        if data.len() != indices.len() {
            return disagree("data", format!("{} entries, as many as indices", indices.len()), &data);
        }
        Ok([indptr, indices, data])
    }

    /// Rows of a matrix of compressed rows that are worth holding at once.
    fn compressed_rows_at_once(&self, name: &str) -> Result<usize, DatasetError> {
        let [_, indices, _] = self.compressed_parts(name)?;
        let a_row = indices.len().div_ceil(self.header.nodes.max(1)).max(1);
        Ok(indices.rows_at_once(HELD).div_ceil(a_row))
    }

    /// Hands all rows of A to `edges`, then all of H to `features`, in order, some at a time with the number of the
    /// first of them.
    ///
    /// # Errors
    /// As [`DatasetFile::adjacency`] and [`DatasetFile::features`].
    pub fn for_each_row_block(
        &self,
        mut edges: impl FnMut(usize, &SparseMatrix),
        mut features: impl FnMut(usize, &Features),
    ) -> Result<(), DatasetError> {
        let nodes = 0..self.header.nodes;
        for rows in pieces(nodes.clone(), self.compressed_rows_at_once("adjacency")?) {
            edges(rows.start, &self.adjacency_rows(rows)?);
        }
        let source = &self.source;
        let at_once = match source.kind(source.root(), "", "features")? {
            Some(Kind::Group) => self.compressed_rows_at_once("features")?,
            _ => source.data_set(source.root(), "", "features", 2)?.rows_at_once(HELD),
        };
        for rows in pieces(nodes, at_once) {
            features(rows.start, &self.feature_rows(rows)?);
        }
        Ok(())
    }

    /// Reads everything in the file, as [`DatasetFile::read`] does, and forgets it: holds no more than some rows at a
    /// time.
    ///
    /// # Errors
    /// Whatever the parts say.
    pub fn go_through(&self) -> Result<(), DatasetError> {
        self.outline()?;
        self.for_each_row_block(|_, _| (), |_, _| ())?;
        self.go_through_augmented()
    }

    /// CRC-32 of edges and features, whatever the file's layout: row by row the number of entries (u64), their
    /// columns (u32) and values (f32), first of A, then of H, of which dense rows have values only; little-endian.
    ///
    /// # Errors
    /// As [`DatasetFile::for_each_row_block`].
    pub fn content_checksum(&self) -> Result<u32, DatasetError> {
        let hasher = std::cell::RefCell::new(crc32fast::Hasher::new());
        self.for_each_row_block(
            |_, rows| hash_compressed(rows, &mut hasher.borrow_mut()),
            |_, rows| match rows {
                Features::Sparse(rows) => hash_compressed(rows, &mut hasher.borrow_mut()),
                Features::Dense(rows) => {
                    let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
                    hasher.borrow_mut().update(&bytes);
                }
            },
        )?;
        Ok(hasher.into_inner().finalize())
    }
}

fn hash_compressed(rows: &SparseMatrix, hasher: &mut crc32fast::Hasher) {
    let mut bytes = Vec::new();
    for row in rows.outer_iterator() {
        bytes.clear();
        bytes.extend_from_slice(&(row.nnz() as u64).to_le_bytes());
        row.indices().iter().for_each(|index| bytes.extend_from_slice(&index.to_le_bytes()));
        row.data().iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        hasher.update(&bytes);
    }
}

/// A range in pieces of at most `length`.
pub(super) fn pieces(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(length.max(1)).map(move |start| start..start.saturating_add(length.max(1)).min(end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dataset::generate::{GenerateSettings, generate};

    #[test]
    fn rows_are_those_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = generate(&GenerateSettings::new(700, 9, 3)).unwrap();
        for sparse in [false, true] {
            if sparse {
                data.features = Features::Sparse(data.adjacency.clone());
            }
            let path = folder.path().join(format!("{sparse}.h5"));
            data.write(&path, false).unwrap();
            let file = DatasetFile::open(&path).unwrap();
            assert_eq!(file.read().unwrap(), data);
            for rows in [0..0, 0..700, 3..4, 690..700, 700..700] {
                let part = file.adjacency_rows(rows.clone()).unwrap();
                // Rows of a view keep the places of their entries in the whole, so that only their numbers can be compared.
                assert_eq!(part.to_dense(), data.adjacency.slice_outer(rows.clone()).to_dense());
                match (file.feature_rows(rows.clone()).unwrap(), &data.features) {
                    (Features::Dense(part), Features::Dense(all)) => {
                        assert_eq!(part, all.slice(ndarray::s![rows, ..]));
                    }
                    (Features::Sparse(part), Features::Sparse(all)) => {
                        assert_eq!(part.to_dense(), all.slice_outer(rows).to_dense());
                    }
                    _ => panic!("another form"),
                }
            }
        }
        let checksum = |name: &str| DatasetFile::open(folder.path().join(name)).unwrap().content_checksum();
        let before = checksum("true.h5").unwrap();
        assert_ne!(before, checksum("false.h5").unwrap());
        data.labels[0] = -1;
        data.splits.values_mut().for_each(|split| split.train.retain(|&node| node != 0));
        data.write(folder.path().join("labels.h5"), false).unwrap();
        assert_eq!(checksum("labels.h5").unwrap(), before);
    }
}

//! Writing the HDF5 data set file, version 1 (docs/data-format.md): never half a file.

use std::path::Path;

use hdf5::{Group, H5Type};
use ndarray::{Axis, s};

use super::error::DatasetError;
use super::file::{CSR_ENCODING, CSR_VERSION, FORMAT, FORMAT_VERSION};
use super::{Dataset, Features, SparseMatrix};
use crate::progress::Steps;
use crate::storage::{write_text, write_whole};

/// Data sets from this size on are compressed; below, chunks cost more than they save.
const COMPRESS_FROM_BYTES: usize = 64 << 10;
/// Uncompressed size of a chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// A good trade between time and size for indices.
const GZIP_LEVEL: u8 = 4;

impl Dataset {
    /// Checks the data set and writes it to `path`: first to a temporary file in the same folder,
    /// which takes the name when it is complete and on disk.
    ///
    /// # Errors
    /// A broken rule of the format, an existing file unless `overwrite`, or a failing disk; an
    /// existing file is then as it was.
    pub fn write(&self, path: impl AsRef<Path>, overwrite: bool) -> Result<(), DatasetError> {
        self.write_in_steps(path, overwrite, &Steps::silent())
    }

    /// As [`Dataset::write`]; `steps` tells how far it is.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    pub fn write_in_steps(
        &self,
        path: impl AsRef<Path>,
        overwrite: bool,
        steps: &Steps,
    ) -> Result<(), DatasetError> {
        let path = path.as_ref();
        self.check().map_err(|fault| fault.in_file(path))?;
        let edges = self.adjacency.nnz();
        steps.begin(edges + self.features.stored());
        steps.doing("writing");
        Ok(write_whole(path, overwrite, |temporary| self.write_hdf5(temporary, steps))?)
    }

    fn write_hdf5(&self, path: &Path, steps: &Steps) -> hdf5::Result<()> {
        let file = hdf5::File::create(path)?;
        write_text(&file, "format", FORMAT)?;
        file.new_attr::<i64>().create("format_version")?.write_scalar(&FORMAT_VERSION)?;
        write_text(&file, "name", &self.name)?;
        file.new_attr::<i64>()
            .create("num_classes")?
            .write_scalar(&i64::try_from(self.num_classes).unwrap_or(i64::MAX))?;
        write_compressed_rows(&file, "adjacency", &self.adjacency)?;
        steps.advance(self.adjacency.nnz());
        match &self.features {
            Features::Sparse(matrix) => write_compressed_rows(&file, "features", matrix)?,
            Features::Dense(matrix) => {
                // Not compressed: gzip gains little on measured numbers and slows reading down.
                let all = file.new_dataset::<f32>().shape(matrix.dim()).create("features")?;
                let rows = (CHUNK_BYTES / size_of::<f32>() / matrix.ncols().max(1)).max(1);
                let mut first = 0;
                for block in matrix.axis_chunks_iter(Axis(0), rows) {
                    all.write_slice(&block.as_standard_layout(), s![first..first + block.nrows(), ..])?;
                    first += block.nrows();
                    steps.advance(block.len());
                }
            }
        }
        write_list(&file, "labels", &self.labels)?;
        let splits = file.create_group("splits")?;
        for (name, split) in &self.splits {
            let group = splits.create_group(name)?;
            if let Some(seed) = split.seed {
                match i64::try_from(seed) {
                    Ok(seed) => group.new_attr::<i64>().create("seed")?.write_scalar(&seed)?,
                    Err(_) => group.new_attr::<u64>().create("seed")?.write_scalar(&seed)?,
                }
            }
            for (part, nodes) in [("train", &split.train), ("val", &split.val), ("test", &split.test)] {
                write_list(&group, part, &signed(nodes.iter().map(|&node| node as u64)))?;
            }
        }
        file.flush()?;
        file.close()
    }
}

fn signed(numbers: impl Iterator<Item = u64>) -> Vec<i64> {
    numbers.map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect()
}

fn write_list<T: H5Type>(group: &Group, name: &str, values: &[T]) -> hdf5::Result<()> {
    let builder = group.new_dataset_builder();
    let compress = size_of_val(values) >= COMPRESS_FROM_BYTES && hdf5::filters::deflate_available();
    if compress {
        let chunk = (CHUNK_BYTES / size_of::<T>().max(1)).min(values.len());
        builder.chunk(chunk).shuffle().deflate(GZIP_LEVEL).with_data(values).create(name)?;
    } else {
        builder.with_data(values).create(name)?;
    }
    Ok(())
}

fn write_compressed_rows(file: &Group, name: &str, matrix: &SparseMatrix) -> hdf5::Result<()> {
    let group = file.create_group(name)?;
    write_text(&group, "encoding-type", CSR_ENCODING)?;
    write_text(&group, "encoding-version", CSR_VERSION)?;
    let shape = signed([matrix.rows() as u64, matrix.cols() as u64].into_iter());
    group.new_attr::<i64>().shape(2).create("shape")?.write_raw(&shape)?;
    let starts = matrix.indptr();
    write_list(&group, "indptr", &signed(starts.raw_storage().iter().map(|&n| n as u64)))?;
    write_list(&group, "indices", &signed(matrix.indices().iter().map(|&n| u64::from(n))))?;
    write_list(&group, "data", matrix.data())
}

//! Reading a rank's file of a checkpoint, which nobody vouches for: length and checksum first, and every shape is held
//! to that of the run before anything of it is read.

use std::path::Path;

use hdf5::{Group, H5Type};
use ndarray::{Array1, Array2};
use num_traits::Zero;

use super::CheckpointError;
use super::part::{FORMAT, FORMAT_VERSION, checksum};
use super::sealed::PartEntry;
use crate::admm::{BoundaryBlock, LayerBlock};
use crate::linalg::{NodeBlocks, Real};
use crate::parallel::plan::StageShape;
use crate::quantize::{CodecState, Spacing};
use crate::storage::hdf5_source::{Hdf5Source, Kind};
use crate::storage::{Fault, StorageError};
use crate::train::evaluate::Snapshot;

const ADVICE: &str = "the run goes on from an older checkpoint where there is one";

/// A layer as it is in a checkpoint.
pub struct KeptLayer<T> {
    /// W, c and b, as [`Snapshot::of`] has them.
    pub weights: Snapshot<T>,
    /// z and W p.
    pub blocks: Vec<LayerBlock<T>>,
    /// Start of the next power iteration.
    pub spectral: Option<Array1<T>>,
    /// Weights of the best evaluation.
    pub best: Option<Snapshot<T>>,
    /// Weights of the evaluation under way.
    pub candidate: Option<Snapshot<T>>,
}

/// The boundary above a layer as it is in a checkpoint.
pub struct KeptBoundary<T> {
    /// p, q, u.
    pub blocks: Vec<BoundaryBlock<T>>,
    /// What messages of p are coded against; empty where none have been sent.
    pub codec_p: Vec<CodecState>,
    /// The same of q.
    pub codec_q: Vec<CodecState>,
}

/// An open file of a checkpoint.
pub struct PartFile<'a> {
    source: Hdf5Source,
    layers: Group,
    shape: &'a StageShape,
    blocks: &'a NodeBlocks,
    /// Rows and columns of layer 1's weights in the form that this run has them in.
    first: (usize, usize),
}

/// Opens a file after holding it to its length and checksum, and to the precision of the run.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn open_file<T: Real>(path: &Path, entry: &PartEntry) -> Result<Hdf5Source, CheckpointError> {
    let (bytes, crc32) = checksum(path).map_err(CheckpointError::read(path))?;
    if (bytes, crc32) != (entry.bytes, entry.crc32) {
        let text = |bytes: u64, crc32: u32| format!("{bytes} bytes with checksum {crc32:08x}");
        return Err(CheckpointError::damaged(path, text(entry.bytes, entry.crc32), text(bytes, crc32)));
    }
    let source = Hdf5Source::open(path, ADVICE)?.without_variable_length();
    source.check_format(FORMAT, FORMAT_VERSION, ADVICE)?;
    let precision = source.text(source.root(), "/", "precision")?;
    if precision != T::NAME {
        return Err(CheckpointError::damaged(path, format!("precision {}", T::NAME), precision));
    }
    Ok(source)
}

impl<'a> PartFile<'a> {
    /// Opens a file after holding it to its length and checksum.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open<T: Real>(
        path: &Path,
        entry: &PartEntry,
        shape: &'a StageShape,
        blocks: &'a NodeBlocks,
        first: (usize, usize),
    ) -> Result<Self, CheckpointError> {
        let source = open_file::<T>(path, entry)?;
        let layers = source.group(source.root(), "", "layers")?;
        Ok(Self { source, layers, shape, blocks, first })
    }

    /// Layer l.
    ///
    /// # Errors
    /// It is not there, or not of the run's shape.
    pub fn layer<T: Real>(&self, l: usize) -> Result<KeptLayer<T>, CheckpointError> {
        let (group, place) = self.group(l)?;
        let (z, m) = (self.block_rows(&group, &place, "z", l)?, self.block_rows(&group, &place, "m", l)?);
        let inputs = self.shape.width(l - 1);
        let spectral = match self.source.kind(&group, &place, "spectral")? {
            None => None,
            Some(_) => Some(Array1::from(self.values(&group, &place, "spectral", &[inputs])?)),
        };
        let kept = |name: &str| match self.source.kind(&group, &place, name)? {
            Some(Kind::Group) => {
                let inner = self.source.group(&group, &place, name)?;
                self.snapshot(&inner, &format!("{place}/{name}"), l).map(Some)
            }
            _ => Ok::<_, CheckpointError>(None),
        };
        Ok(KeptLayer {
            weights: self.snapshot(&group, &place, l)?,
            blocks: z.into_iter().zip(m).map(|(z, m)| LayerBlock { m, z }).collect(),
            spectral,
            best: kept("best")?,
            candidate: kept("candidate")?,
        })
    }

    /// The boundary above layer l.
    ///
    /// # Errors
    /// It is not there, or not of the run's shape.
    pub fn boundary<T: Real>(&self, l: usize) -> Result<KeptBoundary<T>, CheckpointError> {
        let (group, place) = self.group(l)?;
        let rows = |name| self.block_rows(&group, &place, name, l);
        let blocks = rows("p")?.into_iter().zip(rows("q")?).zip(rows("u")?);
        Ok(KeptBoundary {
            blocks: blocks.map(|((p, q), u)| BoundaryBlock { p, q, u }).collect(),
            codec_p: self.codec(&group, &place, "codec_p", l)?,
            codec_q: self.codec(&group, &place, "codec_q", l)?,
        })
    }

    fn group(&self, l: usize) -> Result<(Group, String), StorageError> {
        Ok((self.source.group(&self.layers, "/layers", &l.to_string())?, format!("/layers/{l}")))
    }

    fn snapshot<T: Real>(
        &self,
        group: &Group,
        place: &str,
        l: usize,
    ) -> Result<Snapshot<T>, CheckpointError> {
        let outputs = self.shape.width(l);
        let (rows, columns) = if l == 1 { self.first } else { (outputs, self.shape.width(l - 1)) };
        let w = self.values(group, place, "W", &[rows, columns])?;
        let w = Array2::from_shape_vec((rows, columns), w).map_err(|error| self.misfit(place, "W", error))?;
        let b = Array1::from(self.values(group, place, "b", &[outputs])?);
        let c = self.source.optional_float(group, place, "c")?.ok_or_else(|| {
            let place = format!("attribute c of {place}");
            self.source.fault(Fault::new(place, "a number", "nothing of that name").advise(ADVICE))
        })?;
        Ok(Snapshot::from_parts(l, w, c, b))
    }

    /// A data set of exactly this shape and type.
    fn values<N: H5Type + Copy + Zero>(
        &self,
        group: &Group,
        place: &str,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<N>, CheckpointError> {
        let data = self.source.data_set(group, place, name, shape.len())?;
        if data.shape != shape {
            let (expected, found) = (format!("shape {shape:?}"), format!("{:?}", data.shape));
            let fault = Fault::new(format!("{place}/{name}"), expected, found).advise(ADVICE);
            return Err(self.source.fault(fault).into());
        }
        Ok(data.exact()?)
    }

    fn misfit(&self, place: &str, name: &str, error: impl ToString) -> CheckpointError {
        let place = format!("{place}/{name}");
        self.source.fault(Fault::new(place, "an array of its shape", error.to_string()).advise(ADVICE)).into()
    }

    /// An array of nodes × n_l, in the blocks of the run.
    fn block_rows<T: Real>(
        &self,
        group: &Group,
        place: &str,
        name: &str,
        l: usize,
    ) -> Result<Vec<Array2<T>>, CheckpointError> {
        let width = self.shape.width(l);
        let whole: Vec<T> = self.values(group, place, name, &[self.blocks.nodes(), width])?;
        let block = |rows: std::ops::Range<usize>| {
            let values = whole[rows.start * width..rows.end * width].to_vec();
            Array2::from_shape_vec((rows.len(), width), values)
                .map_err(|error| self.misfit(place, name, error))
        };
        self.blocks.ranges().map(block).collect()
    }

    fn codec(
        &self,
        group: &Group,
        place: &str,
        name: &str,
        l: usize,
    ) -> Result<Vec<CodecState>, CheckpointError> {
        if self.source.kind(group, place, name)?.is_none() {
            return Ok(Vec::new());
        }
        let group = self.source.group(group, place, name)?;
        let place = format!("{place}/{name}");
        let (count, width) = (self.blocks.count(), self.shape.width(l));
        let indices: Vec<u16> = self.values(&group, &place, "indices", &[self.blocks.nodes(), width])?;
        let levels: Vec<f64> = self.values(&group, &place, "levels", &[4 * count])?;
        let digests: Vec<u16> = self.values(&group, &place, "digest", &[count])?;
        let words = CodecState::model_len();
        let models: Vec<u16> = self.values(&group, &place, "model", &[words * count])?;
        let spacing = |at_squares| if at_squares == 0.0 { Spacing::Even } else { Spacing::Squares };
        let states =
            self.blocks.ranges().zip(levels.as_chunks::<4>().0).zip(digests).zip(models.chunks(words));
        Ok(states
            .map(|(((rows, &[at_squares, lo, step, levels]), digest), model)| CodecState {
                levels: (levels > 0.0).then_some((spacing(at_squares), lo, step, levels as u32)),
                indices: indices[rows.start * width..rows.end * width].to_vec(),
                digest,
                model: model.to_vec(),
            })
            .collect())
    }
}

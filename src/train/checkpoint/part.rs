//! One rank's file of a checkpoint: its layers, each with the boundary above it, for the nodes of its shard.
//!
//! | path | content |
//! |---|---|
//! | attributes of `/` | `format`, `format_version`, `precision` |
//! | `/layers/L/W`, `b` | W_l (of layer 1 in N dimensions D, with attribute `c`), b_l |
//! | `/layers/L/z`, `m` | z_l and W_l p_l, nodes × n_l |
//! | `/layers/L/spectral` | start of the next power iteration, where p is quantized |
//! | `/layers/L/best`, `candidate` | `W`, `b`, `c` of the best evaluation and of the last, whose result is under way |
//! | `/layers/L/p`, `q`, `u` | p_{l+1}, q_l, u_l, nodes × n_l, where there is a layer above |
//! | `/layers/L/codec_p`, `codec_q` | what the messages of the boundary are coded against, where it is one between ranks: `indices` (nodes × n_l), `levels`, `digest` and `model`, a row a block |

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hdf5::{Group, H5Type};
use ndarray::{Array1, Array2, s};

use super::CheckpointError;
use super::sealed::PartEntry;
use crate::admm::iteration::RankState;
use crate::admm::{Layer, Weights};
use crate::linalg::Real;
use crate::parallel::exchange::ExchangeState;
use crate::quantize::{CodecState, Spacing};
use crate::storage::{open_regular, write_fixed_text};
use crate::train::evaluate::Snapshot;

/// Value of the root attribute `format`.
pub const FORMAT: &str = "gamlp-checkpoint-part";
/// Value of the root attribute `format_version`.
pub const FORMAT_VERSION: i64 = 1;

/// What a rank puts into its file; the layers are at least one.
pub struct Part<'a, T> {
    /// The layers and boundaries held.
    pub network: &'a RankState<T>,
    /// Weights of the best evaluation, by layer; empty where there is none.
    pub best: &'a [Snapshot<T>],
    /// Weights of the evaluation under way, by layer; empty where there is none.
    pub candidate: &'a [Snapshot<T>],
    /// What the messages so far have left.
    pub exchange: &'a ExchangeState,
}

impl<T: Real> Part<'_, T> {
    /// Writes the file of this rank and shard and puts it on disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, path: &Path, [rank, shard]: [usize; 2]) -> Result<PartEntry, CheckpointError> {
        let (bytes, crc32) = write_file::<T>(path, |file| self.write_hdf5(file))?;
        let index = |layer: Option<&Layer<T>>| layer.map_or(0, |layer| layer.index);
        let layers = &self.network.layers;
        Ok(PartEntry { rank, shard, first: index(layers.first()), last: index(layers.last()), bytes, crc32 })
    }

    fn write_hdf5(&self, file: &hdf5::File) -> hdf5::Result<()> {
        let layers = file.create_group("layers")?;
        for (i, layer) in self.network.layers.iter().enumerate() {
            let group = layers.create_group(&layer.index.to_string())?;
            Snapshot::of(layer).write(&group)?;
            blocks(&group, "z", layer.blocks.iter().map(|block| &block.z))?;
            blocks(&group, "m", layer.blocks.iter().map(|block| &block.m))?;
            if let Some(vector) = &layer.spectral {
                group.new_dataset_builder().with_data(vector).create("spectral")?;
            }
            for (name, snapshots) in [("best", self.best), ("candidate", self.candidate)] {
                if let Some(snapshot) = snapshots.iter().find(|snapshot| snapshot.index == layer.index) {
                    snapshot.write(&group.create_group(name)?)?;
                }
            }
            let Some(above) = self.network.above(i) else { continue };
            let edges = &self.network.boundaries[above].blocks;
            blocks(&group, "p", edges.iter().map(|block| &block.p))?;
            blocks(&group, "q", edges.iter().map(|block| &block.q))?;
            blocks(&group, "u", edges.iter().map(|block| &block.u))?;
            if i + 1 == self.network.layers.len() {
                let width = layer.b.len();
                write_codec(&group, "codec_p", &self.exchange.received_p, width)?;
                write_codec(&group, "codec_q", &self.exchange.sent_q, width)?;
            }
        }
        Ok(())
    }
}

/// Makes a file of a checkpoint with what `fill` puts into it, and puts it on disk; its length and CRC-32.
///
/// # Errors
/// The disk refuses.
pub fn write_file<T: Real>(
    path: &Path,
    fill: impl FnOnce(&hdf5::File) -> hdf5::Result<()>,
) -> Result<(u64, u32), CheckpointError> {
    // Where the file cannot be made, the operating system says why better than libhdf5.
    let made = File::create(path).map_err(CheckpointError::write(path))?;
    let write = || {
        let file = hdf5::File::create(path)?;
        write_fixed_text(&file, "format", FORMAT)?;
        write_number(&file, "format_version", FORMAT_VERSION)?;
        write_fixed_text(&file, "precision", T::NAME)?;
        fill(&file)?;
        file.flush()?;
        file.close()
    };
    write().map_err(CheckpointError::hdf5(path))?;
    made.sync_all().map_err(CheckpointError::write(path))?;
    checksum(path).map_err(CheckpointError::write(path))
}

impl<T: Real> Snapshot<T> {
    fn write(&self, group: &Group) -> hdf5::Result<()> {
        let (matrix, c, b) = self.parts();
        group.new_dataset_builder().with_data(matrix).create("W")?;
        group.new_dataset_builder().with_data(b).create("b")?;
        write_number(group, "c", c)
    }
}

fn write_number<N: H5Type>(location: &hdf5::Location, name: &str, number: N) -> hdf5::Result<()> {
    location.new_attr::<N>().create(name)?.write_scalar(&number)
}

/// Blocks of rows as one data set.
fn blocks<'a, T: Real>(
    group: &Group,
    name: &str,
    blocks: impl Iterator<Item = &'a Array2<T>> + Clone,
) -> hdf5::Result<()> {
    let rows = blocks.clone().map(Array2::nrows).sum::<usize>();
    let columns = blocks.clone().next().map_or(0, Array2::ncols);
    let whole = group.new_dataset::<T>().shape((rows, columns)).create(name)?;
    let mut start = 0;
    for block in blocks {
        let end = start + block.nrows();
        whole.write_slice(block, s![start..end, ..])?;
        start = end;
    }
    Ok(())
}

/// What the messages of one variable over one boundary are coded against, a row a block; nothing where there is nothing.
fn write_codec(group: &Group, name: &str, states: &[CodecState], width: usize) -> hdf5::Result<()> {
    let Some(first) = states.first() else { return Ok(()) };
    let group = group.create_group(name)?;
    let indices: Vec<u16> = states.iter().flat_map(|state| state.indices.iter().copied()).collect();
    let indices = Array2::from_shape_vec((indices.len() / width.max(1), width), indices)
        .map_err(|error| hdf5::Error::from(format!("{name}: {error}")))?;
    group.new_dataset_builder().with_data(&indices).create("indices")?;
    let levels = states.iter().flat_map(|state| {
        let (spacing, lo, step, count) = state.levels.unwrap_or_default();
        let at_squares = f64::from(u8::from(spacing == Spacing::Squares));
        [at_squares, lo, step, f64::from(count)]
    });
    let levels = Array1::from_iter(levels);
    group.new_dataset_builder().with_data(&levels).create("levels")?;
    let digests: Array1<u16> = states.iter().map(|state| state.digest).collect();
    group.new_dataset_builder().with_data(&digests).create("digest")?;
    let model: Array1<u16> = states.iter().flat_map(|state| state.model.iter().copied()).collect();
    debug_assert_eq!(model.len(), states.len() * first.model.len());
    group.new_dataset_builder().with_data(&model).create("model")?;
    Ok(())
}

/// Length and CRC-32 of a file.
pub fn checksum(path: &Path) -> std::io::Result<(u64, u32)> {
    let mut file = open_regular(path)?;
    let (mut hasher, mut buffer, mut bytes) = (crc32fast::Hasher::new(), vec![0u8; 1 << 20], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hasher.finalize())),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The form of layer 1 is settled by the data; a hidden layer's is W.
pub fn weight_shape<T>(weights: &Weights<T>) -> (usize, usize) {
    match weights {
        Weights::Hidden(w) => w.dim(),
        Weights::First(first) => first.w.dim(),
        Weights::Dual(dual) => dual.d.dim(),
    }
}

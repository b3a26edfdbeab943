//! `dataset augment`: all ranks compute the augmented features X, each of its own rows, and rank 0 puts them into a
//! copy of the data set file (docs/data-format.md), where training finds them.

mod error;

use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, s};

use crate::dataset::augmented::{CONTENT, FEATURE_NORM, GROUP, OPERATORS, VALUES, content_text};
use crate::dataset::{AugmentedHeader, DatasetError, DatasetFile};
use crate::graph::{FeatureBlock, FeatureNorm, Operators};
use crate::linalg::Workers;
use crate::linalg::elements::flat;
use crate::parallel::features::{DistributedFeatures, OwnRows};
use crate::parallel::memory::peaks_of_ranks;
use crate::parallel::row_messages::Label;
use crate::parallel::{Communicator, WaitPolicy, agree};
use crate::progress::Steps;
use crate::storage::{
    StorageError, checksum, io_error, refuse_existing, unwritten, write_text, write_whole_or,
};

pub use error::AugmentError;

/// Bytes of a chunk, which libhdf5 keeps in its cache while it is written in parts.
const CHUNK_BYTES: usize = 1 << 20;

/// What to compute from what, and where it goes.
#[derive(Debug, Clone)]
pub struct AugmentSettings {
    /// Data set file.
    pub data: PathBuf,
    /// File to write; it may be the same with `overwrite`.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: bool,
    /// Ψ.
    pub operators: Operators,
    /// The scaling of the raw features.
    pub feature_norm: FeatureNorm,
    /// Threads of each rank.
    pub threads: usize,
    /// Checksum of the data set as it was inspected ([`crate::inspection`]); other bytes are refused.
    pub inspected: Option<String>,
}

/// What was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AugmentReport {
    /// Name of the data set.
    pub dataset: String,
    /// N.
    pub nodes: usize,
    /// n_0 = K d.
    pub width: usize,
    /// Checksum of the new file.
    pub checksum: String,
    /// The most memory that each rank had in use, in bytes; 0 where it is not known.
    pub peak_bytes: Vec<u64>,
}

/// What a rank has read.
struct Prepared {
    rows: OwnRows,
    workers: Workers,
    name: String,
    /// On rank 0: what is stored already, and the checksum of edges and features.
    stored: Vec<AugmentedHeader>,
    content: String,
}

/// Computes and stores the augmented features of all nodes in single precision; rank 0 gets the report. The values
/// are the same, bit by bit, for every number of ranks and threads. All ranks call it together; on rank 0 `steps` tells
/// how many are written.
///
/// # Errors
/// See [`AugmentError`].
pub fn augment(
    settings: &AugmentSettings,
    communicator: &dyn Communicator,
    steps: &Steps,
) -> Result<Option<AugmentReport>, AugmentError> {
    let policy = WaitPolicy::new();
    let prepared = prepare(settings, communicator);
    let prepared = agree(communicator, &policy, "reading the data", prepared, DatasetError::describe)?;
    let Prepared { rows, workers, name, stored, content } = prepared;
    let features = DistributedFeatures::<f32>::new(
        communicator,
        &policy,
        rows,
        &settings.operators,
        settings.feature_norm,
    )?;
    let job = Job { settings, communicator, features: &features, workers: &workers, steps };
    steps.begin(features.shares().nodes().saturating_mul(features.width()));
    steps.doing("augmenting");
    let meet = |opened| agree(communicator, &policy, "output", opened, DatasetError::describe);
    let written = if communicator.rank() == 0 {
        let mut have_met = false;
        let written = write_whole_or(&settings.output, settings.overwrite, |temporary| {
            let opened = job.open(temporary, &stored, &content);
            have_met = true;
            let output = meet(opened.map(Some))?;
            job.compute(output.as_ref())?;
            let closed =
                output.map_or(Ok(()), |output| output.file.flush().and_then(|()| output.file.close()));
            Ok(closed.map_err(|error| job.failed(error))?)
        });
        match written {
            Ok(()) => checksum(&settings.output).map_err(DatasetError::from),
            Err(AugmentError::Data(error)) if have_met => Err(error),
            // There is no place for the output.
            Err(AugmentError::Data(error)) => return Ok(meet(Err(error)).map(|_| None)?),
            Err(other) => return Err(other),
        }
    } else {
        meet(Ok(None))?;
        job.compute(None)?;
        Ok(String::new())
    };
    let checksum = agree(communicator, &policy, "writing", written, DatasetError::describe)?;
    let peaks = peaks_of_ranks(communicator, &policy).map_err(crate::parallel::JointFailure::from)?;
    Ok(peaks.map(|peak_bytes| AugmentReport {
        dataset: name,
        nodes: features.shares().nodes(),
        width: features.width(),
        checksum,
        peak_bytes,
    }))
}

fn prepare(settings: &AugmentSettings, communicator: &dyn Communicator) -> Result<Prepared, DatasetError> {
    let threads = settings.threads;
    let workers = Workers::new(threads).map_err(|error| DatasetError::Setting {
        setting: "--threads",
        expected: "fewer threads".into(),
        found: format!("{threads}: {error}"),
    })?;
    let (rank, ranks) = (communicator.rank(), communicator.size());
    let file = DatasetFile::open_inspected(&settings.data, settings.inspected.as_deref())?;
    let (mut stored, mut content) = (Vec::new(), String::new());
    if rank == 0 {
        refuse_existing(&settings.output, settings.overwrite)?;
        (stored, content) = (file.augmented()?, content_text(file.content_checksum()?));
    }
    let rows = OwnRows::read(&file, rank, ranks)?;
    Ok(Prepared { rows, workers, name: file.header().name.clone(), stored, content })
}

/// The new file on rank 0.
struct Output {
    file: hdf5::File,
    values: hdf5::Dataset,
}

struct Job<'a> {
    settings: &'a AugmentSettings,
    communicator: &'a dyn Communicator,
    features: &'a DistributedFeatures<'a, f32>,
    workers: &'a Workers,
    steps: &'a Steps,
}

impl Job<'_> {
    /// Columns of H in a block: as few as memory asks for, of one size where d allows, so that chunks are written
    /// once.
    fn column_block(&self) -> usize {
        let d = self.features.feature_count().max(1);
        d.div_ceil(d.div_ceil(self.features.column_block()))
    }

    /// A copy of the data set at `path` with room for the augmented features; equal ones that are stored go.
    fn open(&self, path: &Path, stored: &[AugmentedHeader], content: &str) -> Result<Output, DatasetError> {
        let settings = self.settings;
        let from = &settings.data;
        let mut source = std::fs::File::open(from).map_err(io_error(from, "open the file"))?;
        let mut copy = std::fs::File::create(path).map_err(unwritten(path, "write the file"))?;
        std::io::copy(&mut source, &mut copy).map_err(unwritten(&settings.output, "write the file"))?;
        drop(copy);
        if let Some(inspected) = &settings.inspected {
            let found = checksum(path)?;
            if found != *inspected {
                let (path, inspected) = (from.clone(), inspected.clone());
                return Err(StorageError::Changed { path, inspected, found }.into());
            }
        }
        let file = hdf5::File::open_rw(path).map_err(|error| self.failed(error))?;
        let values = self.make_group(&file, stored, content).map_err(|error| self.failed(error))?;
        Ok(Output { file, values })
    }

    /// An error of the library, with the name of the output.
    fn failed(&self, source: hdf5::Error) -> StorageError {
        unwritten(&self.settings.output, "write the file")(source)
    }

    fn make_group(
        &self,
        file: &hdf5::File,
        stored: &[AugmentedHeader],
        content: &str,
    ) -> hdf5::Result<hdf5::Dataset> {
        let (operators, norm) = (self.settings.operators.to_string(), self.settings.feature_norm.name());
        let all = match file.link_exists(GROUP) {
            true => file.group(GROUP)?,
            false => file.create_group(GROUP)?,
        };
        for same in stored.iter().filter(|old| old.operators == operators && old.feature_norm == norm) {
            all.unlink(&same.name)?;
        }
        let mut names = (1..).map(|number: usize| number.to_string());
        let name = names.find(|name| !all.link_exists(name)).unwrap_or_default();
        let group = all.create_group(&name)?;
        write_text(&group, OPERATORS, &operators)?;
        write_text(&group, FEATURE_NORM, norm)?;
        write_text(&group, CONTENT, content)?;
        let (nodes, columns) = (self.features.shares().nodes(), self.column_block());
        let rows = (CHUNK_BYTES / (columns * size_of::<f32>())).clamp(1, nodes);
        group.new_dataset::<f32>().chunk((rows, columns)).shape((nodes, self.features.width())).create(VALUES)
    }

    /// Computes all blocks; rank 0 writes them. After a failure to write the others are still received, so that all
    /// ranks learn of it together.
    fn compute(&self, output: Option<&Output>) -> Result<(), AugmentError> {
        let (shares, messages) = (self.features.shares(), self.features.messages());
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        let mut failed = None;
        let take = |block: FeatureBlock<'_, f32>| -> Result<(), AugmentError> {
            let (columns, d) = (block.columns.len(), self.features.feature_count());
            for (part, values) in block.parts.iter().enumerate() {
                let label = Label { purpose: "rows to write", part, column: block.columns.start };
                let Some(output) = output else {
                    messages.send(0, label, columns, flat(values))?;
                    continue;
                };
                let first = part * d + block.columns.start;
                let mut write = |row: usize, values: &[f32]| {
                    let rows = values.len() / columns;
                    let written = ArrayView2::from_shape((rows, columns), values)
                        .map_err(|error| hdf5::Error::from(error.to_string()))
                        .and_then(|values| {
                            output.values.write_slice(values, s![row..row + rows, first..first + columns])
                        });
                    failed = failed.take().or(written.err());
                    self.steps.advance(values.len());
                };
                write(shares.run(rank).start, flat(values));
                for from in 1..ranks {
                    let run = shares.run(from);
                    messages.receive(from, label, columns, run.len(), |row, values| {
                        write(run.start + row, values);
                        Ok::<(), AugmentError>(())
                    })?;
                }
            }
            Ok(())
        };
        self.features.for_each_own_block(self.column_block(), self.workers, take)?;
        failed.map_or(Ok(()), |error| Err(self.failed(error).into()))
    }
}

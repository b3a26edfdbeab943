//! The checkpoint of a run by backpropagation, whose state is rank 0's: the parameters, what the optimizer remembers, and
//! the parameters of the best evaluation, each a vector in one file; and a manifest with what all ranks know.
//!
//! | path | content |
//! |---|---|
//! | attributes of `/` | `format`, `format_version`, `precision`, as in the files of the ADMM |
//! | `/optimizer/parameters` | W_1 row by row, b_1, W_2, b_2, … |
//! | `/optimizer/first`, `second` | what the update rule remembers of each, where it remembers anything |
//! | `/optimizer/best_parameters` | as `parameters`, where there was an evaluation |

use std::path::Path;

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use super::manifest::KeptEvaluation;
use super::part::write_file;
use super::part_read::open_file;
use super::sealed::{self, Exact, PartEntry};
use super::{CheckpointError, CheckpointFolder};
use crate::linalg::Real;
use crate::settings::Settings;
use crate::storage::Fault;
use crate::train::patience::Patience;
use crate::train::problem::Problem;
use crate::train::state::RUN_STATE_VERSION;

const FORMAT: &str = "gamlp-optimizer-checkpoint";
/// The group of the file.
pub const GROUP: &str = "optimizer";
/// What can be in it.
pub const VECTORS: [&str; 4] = ["parameters", "first", "second", "best_parameters"];
const ADVICE: &str = "the run goes on from an older checkpoint where there is one";

/// The vectors, in the order of [`VECTORS`]; empty where there is none.
pub type Vectors<T> = [Vec<T>; 4];

/// What all ranks know of a run by backpropagation between two iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepManifest {
    format: String,
    version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    settings: String,
    dataset: String,
    dataset_checksum: String,
    /// Iterations done.
    pub iteration: u64,
    /// What `--patience` has counted.
    pub patience: Patience,
    /// The best evaluation so far.
    pub best: Option<KeptEvaluation>,
    /// The last evaluation.
    pub last_scores: Option<KeptEvaluation>,
    /// Bytes of gradients and parameters so far, over all ranks.
    pub bytes: u64,
    /// Seconds so far: of training, and of waiting over all ranks.
    pub seconds: [Exact; 2],
    parts: Vec<PartEntry>,
}

impl StepManifest {
    /// At the start of a run, of which nothing is known yet.
    pub fn new(settings: &Settings, problem: &Problem) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: RUN_STATE_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            settings: settings.deciding(&problem.split),
            dataset: problem.name.clone(),
            dataset_checksum: problem.checksum.clone(),
            iteration: 0,
            patience: Patience::default(),
            best: None,
            last_scores: None,
            bytes: 0,
            seconds: [Exact(0.0); 2],
            parts: Vec::new(),
        }
    }

    /// Writes the checkpoint of a network of `layers` layers into the output folder `output`, whole or not at all.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save<T: Real>(
        mut self,
        output: &Path,
        layers: usize,
        vectors: [&[T]; 4],
    ) -> Result<(), CheckpointError> {
        let place = CheckpointFolder::new(output, self.iteration);
        let folder = place.partial();
        let mut write = || {
            place.begin()?;
            let (bytes, crc32) = write_file::<T>(&CheckpointFolder::part(&folder, 0), |file| {
                let group = file.create_group(GROUP)?;
                for (name, vector) in
                    VECTORS.into_iter().zip(vectors).filter(|(_, vector)| !vector.is_empty())
                {
                    group.new_dataset_builder().with_data(ArrayView1::from(vector)).create(name)?;
                }
                Ok(())
            })?;
            self.parts = vec![PartEntry { rank: 0, shard: 0, first: 1, last: layers, bytes, crc32 }];
            sealed::write(&folder, &self)?;
            place.commit()
        };
        let written = write();
        if written.is_err() {
            place.abandon();
        }
        written
    }

    /// The newest whole checkpoint in `output`: its folder, the bytes of its manifest, and its vectors, with
    /// `parameters` entries each; `memories` of them are the optimizer's. `None` where there is no checkpoint at all.
    ///
    /// # Errors
    /// There are checkpoints but none is whole, or they belong to another run.
    #[allow(clippy::type_complexity)]
    pub fn newest<T: Real>(
        output: &Path,
        settings: &Settings,
        problem: &Problem,
        parameters: usize,
        memories: usize,
    ) -> Result<Option<(std::path::PathBuf, Vec<u8>, Vectors<T>)>, CheckpointError> {
        let all = CheckpointFolder::all(output)?;
        for place in &all {
            let folder = place.path();
            let read = || {
                let bytes = sealed::bytes(&folder)?;
                let manifest = Self::parse(&folder, &bytes)?;
                let origin = [&manifest.dataset, &manifest.dataset_checksum, &manifest.settings];
                sealed::belongs(&folder, origin.map(String::as_str), problem, settings)?;
                let entry = manifest.check(place, settings)?;
                let lengths = [
                    parameters,
                    if memories > 0 { parameters } else { 0 },
                    if memories > 1 { parameters } else { 0 },
                    if manifest.best.is_some() { parameters } else { 0 },
                ];
                Ok((
                    folder.clone(),
                    bytes,
                    read_vectors(&CheckpointFolder::part(&folder, 0), entry, lengths)?,
                ))
            };
            match read() {
                Ok(found) => return Ok(Some(found)),
                Err(error) if CheckpointError::is_damage(&error) => {
                    log::warn!("{error}; passing over {}", folder.display());
                }
                Err(error) => return Err(error),
            }
        }
        match all.len() {
            0 => Ok(None),
            count => Err(CheckpointError::NoneWhole { folder: output.to_owned(), count }),
        }
    }

    /// From its bytes, which are those of a file in `folder`.
    ///
    /// # Errors
    /// Not the manifest of such a checkpoint.
    pub fn parse(folder: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        sealed::parse(folder, bytes, FORMAT)
    }

    /// Holds its numbers to the run; its one file.
    fn check(&self, place: &CheckpointFolder, settings: &Settings) -> Result<&PartEntry, CheckpointError> {
        let path = CheckpointFolder::manifest(&place.path());
        let wrong = |expected: String, found: String| Err(CheckpointError::damaged(&path, expected, found));
        if self.iteration != place.iteration() || !(1..settings.iterations as u64).contains(&self.iteration) {
            let expected = format!("iteration {} of {}", place.iteration(), settings.iterations);
            return wrong(expected, self.iteration.to_string());
        }
        match self.parts.as_slice() {
            [part] if (part.rank, part.shard, part.first, part.last) == (0, 0, 1, settings.layers) => {
                Ok(part)
            }
            parts => wrong(format!("one file with {} layers", settings.layers), format!("{parts:?}")),
        }
    }
}

/// The vectors of a file, of these lengths; where the length is 0 nothing is read.
fn read_vectors<T: Real>(
    path: &Path,
    entry: &PartEntry,
    lengths: [usize; 4],
) -> Result<Vectors<T>, CheckpointError> {
    let source = open_file::<T>(path, entry)?;
    let group = source.group(source.root(), "", GROUP)?;
    let place = format!("/{GROUP}");
    let mut vectors = Vectors::default();
    for ((vector, name), length) in vectors.iter_mut().zip(VECTORS).zip(lengths) {
        if length > 0 {
            let data = source.data_set(&group, &place, name, 1)?;
            if data.shape != [length] {
                let (expected, found) = (format!("shape [{length}]"), format!("{:?}", data.shape));
                let fault = Fault::new(format!("{place}/{name}"), expected, found).advise(ADVICE);
                return Err(source.fault(fault).into());
            }
            *vector = data.exact()?;
        }
    }
    Ok(vectors)
}

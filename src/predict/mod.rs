//! Class and probabilities of every node by a trained model. Rank 0 reads, computes layer 1, which needs the graph,
//! and writes; blocks of nodes are shared out over the ranks for the layers above.

mod accuracy;
mod error;
mod file;
mod share;
mod wire;

use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::dataset::{DatasetFile, Split, split};
use crate::graph::renormalised_adjacency;
use crate::linalg::{Real, Workers};
use crate::model::{Model, ModelError, ModelFile, Provenance};
use crate::parallel::{Communicator, JointFailure, WaitPolicy, agree, broadcast};
use crate::progress::Steps;
use crate::settings::Precision;
use crate::storage::refuse_existing;

pub use accuracy::{Accuracies, Share};
pub use error::PredictError;

/// Multiplications of a dense product in the time of one of a sparse product, about.
const SCATTERED: usize = 8;

/// What to predict with what, and where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictSettings {
    /// Model file.
    pub model: PathBuf,
    /// Data set file.
    pub data: PathBuf,
    /// File to write.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: bool,
    /// Threads of each rank.
    pub threads: usize,
    /// The split to give accuracies for; else the one that the model was trained with if the data have it, else the
    /// data's default, else none.
    pub split: Option<String>,
    /// Checksum of the model as it was inspected ([`crate::inspection`]); other bytes are refused.
    pub inspected_model: Option<String>,
    /// The same of the data set.
    pub inspected_data: Option<String>,
}

/// What was predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the data set.
    pub dataset: String,
    /// Checksum of its file.
    pub checksum: String,
    /// N.
    pub nodes: usize,
    /// C.
    pub num_classes: usize,
    /// L.
    pub layers: usize,
    /// The type of weights and probabilities.
    pub precision: Precision,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// The split of the accuracies.
    pub split: Option<String>,
    /// Accuracies where labels are known.
    pub accuracies: Accuracies,
}

/// What rank 0 holds when it has read everything and computed layer 1.
struct Task<T> {
    model: Model<T>,
    /// z_1 of all nodes, N × n_1.
    z: Array2<T>,
    labels: Vec<i64>,
    split: Option<Split>,
    report: Report,
}

/// The same in either precision.
enum AnyTask {
    F32(Task<f32>),
    F64(Task<f64>),
}

/// Predicts on all ranks together and writes the output; rank 0 gets the report. The output is the same, bit by bit,
/// for every number of ranks and threads. On rank 0 `steps` tells how far it is.
///
/// # Errors
/// The same on all ranks; see [`PredictError`] for the reasons.
pub fn predict(
    settings: &PredictSettings,
    communicator: &dyn Communicator,
    steps: &Steps,
) -> Result<Option<Report>, JointFailure> {
    let patient = WaitPolicy::new().patient();
    let prepared = Workers::new(settings.threads).map_err(PredictError::from).and_then(|workers| {
        let task = if communicator.rank() == 0 {
            Some(prepare(settings, communicator.size(), &workers, steps)?)
        } else {
            None
        };
        Ok((workers, task))
    });
    let (workers, task) =
        agree(communicator, &patient, "reading the model and the data", prepared, PredictError::describe)?;
    let (single, double) = match task {
        Some(AnyTask::F32(task)) => (Some(task), None),
        Some(AnyTask::F64(task)) => (None, Some(task)),
        None => (None, None),
    };
    let is_double = vec![u8::from(double.is_some())];
    match broadcast(communicator, &patient, "precision", 0, is_double)?.as_slice() {
        [0] => finish(settings, single, communicator, &workers, steps),
        _ => finish(settings, double, communicator, &workers, steps),
    }
}

/// Layers 2 to L on all ranks, then the output on rank 0.
fn finish<T: Real>(
    settings: &PredictSettings,
    task: Option<Task<T>>,
    communicator: &dyn Communicator,
    workers: &Workers,
    steps: &Steps,
) -> Result<Option<Report>, JointFailure> {
    let Some(task) = task else {
        share::work::<T>(communicator, workers)?;
        let done = Ok::<(), PredictError>(());
        let patient = WaitPolicy::new().patient();
        agree(communicator, &patient, "writing the predictions", done, PredictError::describe)?;
        return Ok(None);
    };
    let Task { model, z, labels, split, mut report } = task;
    steps.doing("predicting: layers above the first");
    let cost = hidden_cost(&model, communicator.size());
    let done = |nodes: usize| steps.advance(nodes.saturating_mul(cost));
    let written = share::lead(model.hidden(), model.num_classes(), &z, communicator, workers, done)?
        .map_err(PredictError::from)
        .and_then(|prediction| {
            report.accuracies = Accuracies::of(&prediction.classes, &labels, split.as_ref());
            file::write(&settings.output, settings.overwrite, &prediction, &report)
                .map_err(PredictError::Output)
        });
    agree(communicator, &WaitPolicy::new(), "writing the predictions", written, PredictError::describe)?;
    Ok(Some(report))
}

/// What a node costs in the layers above the first, which the ranks share, in multiplications of the first, which are
/// scattered over memory and take longer.
fn hidden_cost<T: Real>(model: &Model<T>, ranks: usize) -> usize {
    let all: usize = model.hidden().iter().map(|layer| layer.w.len()).sum();
    (all / SCATTERED / ranks).max(1)
}

/// Rank 0: everything that can be refused is refused before the long work.
fn prepare(
    settings: &PredictSettings,
    ranks: usize,
    workers: &Workers,
    steps: &Steps,
) -> Result<AnyTask, PredictError> {
    check_output(settings)?;
    let file = ModelFile::open_inspected(&settings.model, settings.inspected_model.as_deref())?;
    Ok(match file.precision() {
        Precision::F32 => {
            AnyTask::F32(prepare_as(file.read()?, Precision::F32, settings, ranks, workers, steps)?)
        }
        Precision::F64 => {
            AnyTask::F64(prepare_as(file.read()?, Precision::F64, settings, ranks, workers, steps)?)
        }
    })
}

fn prepare_as<T: Real>(
    model: Model<T>,
    precision: Precision,
    settings: &PredictSettings,
    ranks: usize,
    workers: &Workers,
    steps: &Steps,
) -> Result<Task<T>, PredictError> {
    let file = DatasetFile::open_inspected(&settings.data, settings.inspected_data.as_deref())?;
    model.check_fits(file.header().features, file.header().num_classes)?;
    let outline = file.outline()?;
    let trained_with = Some(&model.provenance().split).filter(|name| outline.splits.contains_key(*name));
    let chosen = match &settings.split {
        Some(name) => Some(split::choose(&outline.splits, Some(name))?),
        None => split::choose(&outline.splits, trained_with.map(String::as_str)).ok(),
    };
    let (name, split) = chosen.map(|(name, split)| (name.to_string(), split.clone())).unzip();
    let adjacency = renormalised_adjacency(&file.adjacency()?);
    let (neurons, nodes) = (model.layers().first().map_or(1, |first| first.w.nrows()), outline.header.nodes);
    let start = |cost: usize| {
        let above = nodes.saturating_mul(hidden_cost(&model, ranks));
        steps.begin(cost.saturating_mul(neurons).saturating_add(above));
        steps.doing("predicting: layer 1");
    };
    let done = |cost: usize| steps.advance(cost.saturating_mul(neurons));
    let z = model.first_layer(&adjacency, &file.features()?, workers, start, done)?;
    let report = Report {
        dataset: outline.header.name,
        checksum: file.checksum()?,
        nodes: outline.header.nodes,
        num_classes: model.num_classes(),
        layers: model.layers().len(),
        precision,
        provenance: model.provenance().clone(),
        split: name,
        accuracies: Accuracies::default(),
    };
    Ok(Task { model, z, labels: outline.labels, split, report })
}

fn check_output(settings: &PredictSettings) -> Result<(), PredictError> {
    let output = &settings.output;
    for (input, what) in [(&settings.model, "the model"), (&settings.data, "the data set")] {
        if same_file(output, input) {
            return Err(PredictError::OutputIsInput { path: output.clone(), what });
        }
    }
    refuse_existing(output, settings.overwrite).map_err(PredictError::Output)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A block of nodes whose numbers left their range.
fn overflow(layer: usize, node: usize) -> ModelError {
    ModelError::Overflow { layer, node }
}

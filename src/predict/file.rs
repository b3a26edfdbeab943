//! The output file, version 1 (docs/model-format.md).

use std::path::Path;

use super::{Accuracies, Report};
use crate::linalg::Real;
use crate::model::file::{write_number, write_provenance};
use crate::model::forward::Prediction;
use crate::storage::{StorageError, write_fixed_text, write_whole};

const FORMAT: &str = "gamlp-prediction";
const FORMAT_VERSION: i64 = 1;

/// Writes classes and probabilities, complete or not at all.
pub(super) fn write<T: Real>(
    path: &Path,
    overwrite: bool,
    prediction: &Prediction<T>,
    report: &Report,
) -> Result<(), StorageError> {
    write_whole(path, overwrite, |temporary| write_hdf5(temporary, prediction, report))
}

fn write_hdf5<T: Real>(path: &Path, prediction: &Prediction<T>, report: &Report) -> hdf5::Result<()> {
    let file = hdf5::File::create(path)?;
    write_fixed_text(&file, "format", FORMAT)?;
    write_number(&file, "format_version", &FORMAT_VERSION)?;
    write_fixed_text(&file, "precision", T::NAME)?;
    write_provenance(&file, &report.provenance)?;
    write_fixed_text(&file, "data", &report.dataset)?;
    write_fixed_text(&file, "data_checksum", &report.checksum)?;
    if let Some(split) = &report.split {
        write_fixed_text(&file, "data_split", split)?;
    }
    if let Some(share) = report.accuracies.all.value() {
        write_number(&file, "accuracy", &share)?;
    }
    for (name, share) in Accuracies::PARTS.iter().zip(report.accuracies.parts.iter().flatten()) {
        if let Some(share) = share.value() {
            write_number(&file, &format!("accuracy_{name}"), &share)?;
        }
    }
    // Classes are below 2^20.
    let classes: Vec<i64> = prediction.classes.iter().map(|&class| class as i64).collect();
    file.new_dataset_builder().with_data(&classes).create("class")?;
    file.new_dataset_builder().with_data(&prediction.probabilities).create("probabilities")?;
    file.flush()?;
    file.close()
}

//! `pdadmm-g predict`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::progress::ProgressArguments;
use crate::inspection::{FileKind, Findings};
use crate::parallel::Communicator;
use crate::predict::{Accuracies, PredictSettings, Report, Share, predict};

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// Model file, such as the model.h5 of a training run
    #[arg(long, value_name = "MODEL.h5")]
    pub model: PathBuf,
    /// Data set file, with the features and classes that the model was trained for
    #[arg(long, value_name = "FILE.h5")]
    pub data: PathBuf,
    /// File to write: class and probabilities of every node
    #[arg(long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Threads of each rank
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Split to print accuracies for [default: that of the training, else the data's default]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Read files without inspecting them in a process of their own first
    #[arg(long)]
    pub trust_files: bool,
    /// How far the work is.
    #[command(flatten)]
    pub progress: ProgressArguments,
}

/// Inspects the files to be read; before MPI starts.
pub fn inspect(arguments: &PredictArguments) -> Findings {
    let PredictArguments { model, data, trust_files, .. } = arguments;
    Findings::before_start(*trust_files, &[(FileKind::Model, model), (FileKind::Dataset, data)])
}

/// Predicts with all ranks together; rank 0 prints the accuracies to standard output.
///
/// # Errors
/// [`Failure`], the same on all ranks unless they lost each other.
pub fn run(
    arguments: &PredictArguments,
    findings: Findings,
    communicator: &dyn Communicator,
) -> Result<u8, Failure> {
    let PredictArguments { model, data, output, overwrite, threads, split, .. } = arguments;
    let mut inspected = findings.agree(communicator)?.into_iter();
    let settings = PredictSettings {
        model: model.clone(),
        data: data.clone(),
        output: output.clone(),
        overwrite: *overwrite,
        threads: usize::from(*threads),
        split: split.clone(),
        inspected_model: inspected.next(),
        inspected_data: inspected.next(),
    };
    let steps = arguments.progress.steps(communicator);
    let report = predict(&settings, communicator, &steps);
    drop(steps);
    let report = report?;
    if let Some(report) = report {
        // Nobody is there to be told when standard output is closed.
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "{}", summary(&report));
        let _ = writeln!(out, "{:<10} {}", "file", output.display());
    }
    Ok(0)
}

/// A line for each thing that a user wants to know.
fn summary(report: &Report) -> String {
    let from = &report.provenance;
    let mut text = format!(
        "{:<10} {} ({} nodes, {} classes)\n{:<10} {} layers, trained on {} (split {}, seed {}, iteration {})\n",
        "data",
        report.dataset,
        report.nodes,
        report.num_classes,
        "model",
        report.layers,
        from.dataset,
        from.split,
        from.seed,
        from.iteration
    );
    if from.checksum != report.checksum {
        text.push_str(&format!("{:<10} this is not the file that the model was trained on\n", "note"));
    }
    let mut row = |name: &str, share: Share| {
        let value = share.value().map_or("unknown".into(), |value| format!("{value:.4}"));
        text.push_str(&format!("{name:<10} {value} ({} of {})\n", share.correct, share.known));
    };
    row("accuracy", report.accuracies.all);
    for (name, share) in Accuracies::PARTS.iter().zip(report.accuracies.parts.iter().flatten()) {
        row(&format!("  {name}"), *share);
    }
    if let Some(split) = &report.split {
        text.push_str(&format!("{:<10} {split}\n", "split"));
    }
    text
}

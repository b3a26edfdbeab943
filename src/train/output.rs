//! The folder of a run: history.csv, config.toml, summary.json and the models. Written by rank 0 alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::evaluate::Scores;
use super::f1::F1;
use crate::settings::RawSettings;

/// The files of a run that an earlier one may have left.
pub(super) const FILES: [&str; 5] =
    ["model.h5", "model-last.h5", "history.csv", "config.toml", "summary.json"];

/// A result that could not be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The folder holds a run already.
    #[error("{folder} already holds a run ({file}): choose another --output, or --overwrite to replace it")]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// A file in it.
        file: &'static str,
    },
    /// The path is that of a file.
    #[error("{path} is a file, not a folder: choose another --output")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Accuracies of the three sets, as shares of the nodes of known class; `None` where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// Training.
    pub train: Option<f64>,
    /// Validation.
    pub val: Option<f64>,
    /// Test.
    pub test: Option<f64>,
}

/// The best evaluation of the last stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct BestSummary {
    /// Its iteration, over all stages.
    pub iteration: u64,
    /// Validation accuracy.
    pub val: Option<f64>,
    /// Test accuracy.
    pub test: Option<f64>,
}

/// F1 of the test nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct F1Summary {
    /// Of the model of the best evaluation.
    pub best: F1,
    /// Of the model of the last iteration.
    pub last: F1,
}

/// Bytes put on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct BytesSummary {
    /// Messages of p, headers and checksums included.
    pub p: u64,
    /// Messages of q.
    pub q: u64,
    /// 12 bytes an element, iteration and boundary between ranks.
    pub baseline: u64,
    /// Messages of p and q.
    pub messages: u64,
    /// The base line over p and q; `None` where there is nothing to compare, as with one rank.
    pub ratio: Option<f64>,
    /// Everything else between ranks: evaluation and stage starts.
    pub other: u64,
}

/// Wall time on rank 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SecondsSummary {
    /// From the start of the program's work to its end, reading and writing included.
    pub total: f64,
    /// Iterations and evaluations.
    pub train: f64,
    /// Writing messages of p and q, summed over ranks.
    pub encode: f64,
    /// Reading messages of p and q, summed over ranks.
    pub decode: f64,
    /// Waiting for other ranks, summed over ranks.
    pub wait: f64,
}

/// `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// `finished`, `converged`, `early-stopped` or `diverged`.
    pub status: String,
    /// Why, in words.
    pub message: String,
    /// What trained the network, by the word of `--optimizer`.
    pub optimizer: String,
    /// Version of the program.
    pub version: String,
    /// Name of the data set.
    pub dataset: String,
    /// Split in use.
    pub split: String,
    /// Iterations over all stages.
    pub iterations: u64,
    /// Number of ranks.
    pub ranks: usize,
    /// Threads of each rank.
    pub threads: usize,
    /// L.
    pub layers: usize,
    /// Width of the hidden layers.
    pub neurons: usize,
    /// The seed.
    pub seed: u64,
    /// Objective of the last iteration.
    pub objective: f64,
    /// Augmented Lagrangian of the last iteration.
    pub lagrangian: f64,
    /// Primal residual of the last iteration.
    pub primal_residual: f64,
    /// Dual residual of the last iteration.
    pub dual_residual: f64,
    /// Accuracies of the last iteration.
    pub accuracy: Accuracy,
    /// The best evaluation of the last stage.
    pub best: BestSummary,
    /// F1 of the test nodes.
    pub f1: F1Summary,
    /// Bytes between ranks.
    pub bytes: BytesSummary,
    /// Wall time.
    pub seconds: SecondsSummary,
}

/// One row of `history.csv`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HistoryRow {
    /// Stage, from 1.
    pub stage: usize,
    /// Layers of the stage.
    pub layers: usize,
    /// Iteration over all stages, from 1.
    pub iteration: u64,
    /// Problem 2.
    pub objective: f64,
    /// Augmented Lagrangian.
    pub lagrangian: f64,
    /// sqrt(Σ‖p − q‖²).
    pub primal_residual: f64,
    /// ρ sqrt(Σ‖q − q_old‖²).
    pub dual_residual: f64,
    /// ρ.
    pub rho: f64,
    /// ν.
    pub nu: f64,
    /// R(z_L; y), a node.
    pub risk: f64,
    /// Cross-entropy of the forward pass over the training nodes, a node.
    pub train_loss: Option<f64>,
    /// The same over the validation nodes.
    pub val_loss: Option<f64>,
    /// Accuracy over the training nodes.
    pub train_accuracy: Option<f64>,
    /// Accuracy over the validation nodes.
    pub val_accuracy: Option<f64>,
    /// Accuracy over the test nodes.
    pub test_accuracy: Option<f64>,
    /// Bytes of p since the start, over all ranks.
    pub bytes_p: u64,
    /// Bytes of q since the start.
    pub bytes_q: u64,
    /// 12 bytes an element of every boundary between ranks, since the start.
    pub bytes_baseline: u64,
    /// Messages of p and q since the start.
    pub messages: u64,
    /// Seconds since training started, on rank 0.
    pub seconds: f64,
}

impl HistoryRow {
    /// Fills in the columns of an evaluation, given the number of nodes of known class in each set.
    pub fn set_scores(&mut self, scores: &Scores, known: [usize; 3]) {
        let share = |set: usize, x: f64| (known[set] > 0).then(|| x / known[set] as f64);
        self.train_loss = share(0, scores.loss[0]);
        self.val_loss = share(1, scores.loss[1]);
        self.train_accuracy = share(0, scores.correct[0]);
        self.val_accuracy = share(1, scores.correct[1]);
        self.test_accuracy = share(2, scores.correct[2]);
    }
}

/// How many times fewer bytes than the base line p and q took; `None` where nothing was sent.
pub fn ratio(baseline: u64, p: u64, q: u64) -> Option<f64> {
    (p + q > 0).then(|| baseline as f64 / (p + q) as f64)
}

/// The folder of a run, made and ready.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    history: Option<csv::Writer<File>>,
}

impl OutputFolder {
    /// Looks whether a run may be written here, without touching anything.
    ///
    /// # Errors
    /// [`OutputError::Occupied`] where a run is there and `overwrite` is not set.
    pub fn check(path: &Path, overwrite: bool) -> Result<(), OutputError> {
        if path.exists() && !path.is_dir() {
            return Err(OutputError::NotAFolder { path: path.to_owned() });
        }
        match FILES.into_iter().find(|file| path.join(file).symlink_metadata().is_ok()) {
            Some(file) if !overwrite => Err(OutputError::Occupied { folder: path.to_owned(), file }),
            _ => Ok(()),
        }
    }

    /// Makes the folder, removes an earlier run's files where that is allowed, and writes config.toml.
    ///
    /// # Errors
    /// As [`OutputFolder::check`], or the folder cannot be written.
    pub fn create(path: &Path, overwrite: bool, settings: &RawSettings) -> Result<Self, OutputError> {
        let mut folder = Self::create_without_history(path, overwrite, settings)?;
        let path = path.join("history.csv");
        let history = File::create(&path).map_err(|source| OutputError::Write { path, source })?;
        folder.history = Some(csv::Writer::from_writer(history));
        Ok(folder)
    }

    /// The same for results without a history of their own.
    ///
    /// # Errors
    /// As [`OutputFolder::create`].
    pub fn create_without_history(
        path: &Path,
        overwrite: bool,
        settings: &RawSettings,
    ) -> Result<Self, OutputError> {
        Self::check(path, overwrite)?;
        let fail = |path: &Path, source| OutputError::Write { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|source| fail(path, source))?;
        let old: Vec<PathBuf> =
            FILES.iter().map(|file| path.join(file)).filter(|file| file.symlink_metadata().is_ok()).collect();
        // All or none: a folder among them must not cost the files beside it.
        if let Some(folder) = old.iter().find(|file| file.is_dir()) {
            return Err(fail(folder, io::Error::other("a folder of this name is in the way")));
        }
        for file in &old {
            fs::remove_file(file).map_err(|source| fail(file, source))?;
        }
        let folder = Self { path: path.to_owned(), history: None };
        let config =
            toml::to_string(settings).map_err(|e| fail(&path.join("config.toml"), io::Error::other(e)))?;
        let config = format!("# All settings of this run as used; usable with train --config.\n{config}");
        folder.write_whole("config.toml", config.as_bytes())?;
        Ok(folder)
    }

    /// Makes the folder anew where somebody has removed it during the run: the models are still worth keeping.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn restore(&self) -> Result<(), OutputError> {
        fs::create_dir_all(&self.path)
            .map_err(|source| OutputError::Write { path: self.path.clone(), source })
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Adds a row to history.csv and flushes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_row(&mut self, row: &HistoryRow) -> Result<(), OutputError> {
        let path = self.path.join("history.csv");
        let Some(history) = &mut self.history else { return Ok(()) };
        let written = history.serialize(row).map_err(io::Error::other).and_then(|()| history.flush());
        written.map_err(|source| OutputError::Write { path, source })
    }

    /// Writes summary.json.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_summary(&self, summary: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(summary).map_err(|e| OutputError::Write {
            path: self.file("summary.json"),
            source: io::Error::other(e),
        })?;
        self.write_whole("summary.json", format!("{text}\n").as_bytes())
    }

    /// Writes a file under a temporary name, syncs it and renames it, so that it is never seen half written.
    fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.file(name);
        let write = || -> io::Result<()> {
            let mut builder = tempfile::Builder::new();
            // Temporary files are private by default; a result has the rights of any other file.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.tempfile_in(&self.path)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| OutputError::Write { path: path.clone(), source })
    }
}

//! `pdadmm-g dataset import | generate | augment | check`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use super::progress::ProgressArguments;
use crate::augment::{AugmentReport, AugmentSettings, augment};
use crate::dataset::generate::{DEGREE, GenerateSettings, generate_in_steps};
use crate::dataset::import::{edge_list, graphsaint, npz, ogb, planetoid};
use crate::dataset::{Dataset, DatasetError, Summary, checksum};
use crate::error_chain;
use crate::graph::{FeatureNorm, Operators};
use crate::inspection::{FileKind, Findings, inspect};
use crate::parallel::{Communicator, SingleProcess};
use crate::storage::refuse_existing;

/// Make and check data set files.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Turn a published data set, or a folder of CSV files, into a data set file
    Import(ImportArguments),
    /// Make a random graph with communities, of any size and without a network
    Generate(GenerateArguments),
    /// Compute the augmented features once and store them; mpirun -n R shares work and memory out over R ranks
    Augment(AugmentArguments),
    /// Verify everything that training relies on and print a summary
    Check(CheckArguments),
}

/// The format of the files to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Folder with ind.NAME.{x,y,tx,ty,allx,ally,graph,test.index} (Cora, CiteSeer, PubMed)
    Planetoid,
    /// One file of the gnn-benchmark family (Amazon, Coauthor)
    Npz,
    /// Folder of an OGB node-property data set (raw/*.csv.gz, split/*)
    Ogb,
    /// Folder with adj_full.npz, feats.npy, class_map.json and role.json (Flickr, Reddit)
    Graphsaint,
    /// Folder with edges.csv, features.csv, labels.csv and perhaps splits.csv
    EdgeList,
}

/// Arguments of `dataset import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// Format of the input
    #[arg(long, value_enum)]
    pub format: Format,
    /// Short name of the data set [default: the input's name]
    #[arg(long, required_if_eq("format", "planetoid"))]
    pub name: Option<String>,
    /// Folder or file to read
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Data set file to write
    #[arg(long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// Keep the directions of the edges (edge-list only)
    #[arg(long)]
    pub directed: bool,
    /// Replace the output if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// How far the work is.
    #[command(flatten)]
    pub progress: ProgressArguments,
}

/// Arguments of `dataset generate`.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// Number of nodes
    #[arg(long, value_name = "N")]
    pub nodes: usize,
    /// Number of features a node
    #[arg(long, value_name = "D")]
    pub features: usize,
    /// Number of classes, of equal size
    #[arg(long, value_name = "C")]
    pub classes: usize,
    /// Mean number of neighbours
    #[arg(long, default_value_t = DEGREE)]
    pub degree: f64,
    /// Share of edges within a class
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub homophily: f64,
    /// Length of the class means, in standard deviations of the noise
    #[arg(long, default_value_t = 1.0)]
    pub signal: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Training nodes [default: 20 a class]
    #[arg(long, value_name = "COUNT")]
    pub train_nodes: Option<usize>,
    /// Validation nodes [default: 500, fewer in small graphs]
    #[arg(long, value_name = "COUNT")]
    pub val_nodes: Option<usize>,
    /// Test nodes [default: 1000, fewer in small graphs]
    #[arg(long, value_name = "COUNT")]
    pub test_nodes: Option<usize>,
    /// Short name of the data set
    #[arg(long, default_value = "generated")]
    pub name: String,
    /// Data set file to write
    #[arg(long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// How far the work is.
    #[command(flatten)]
    pub progress: ProgressArguments,
}

/// Arguments of `dataset augment`.
#[derive(Debug, Args)]
pub struct AugmentArguments {
    /// Data set file
    #[arg(long, value_name = "FILE.h5")]
    pub data: PathBuf,
    /// File to write: a copy of the data set with the augmented features in it
    #[arg(long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// Operators, as for `train`
    #[arg(long, value_name = "LIST", default_value_t)]
    pub operators: Operators,
    /// Scaling of the raw features, as for `train`
    #[arg(long, value_enum, value_name = "NORM", default_value_t = FeatureNorm::None)]
    pub feature_norm: FeatureNorm,
    /// Threads of each rank
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Replace the output if it exists; it may be the data set itself
    #[arg(long)]
    pub overwrite: bool,
    /// Read the file without inspecting it in a process of its own first
    #[arg(long)]
    pub trust_files: bool,
    /// How far the work is.
    #[command(flatten)]
    pub progress: ProgressArguments,
}

/// Arguments of `dataset check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Data set file
    #[arg(value_name = "FILE.h5")]
    pub file: PathBuf,
    /// Read the file in this process rather than in one of its own
    #[arg(long)]
    pub trust_files: bool,
}

/// Runs a subcommand and prints its result to standard output.
///
/// # Errors
/// The exit code and the message.
pub fn run(command: &DatasetCommand) -> Result<(), (u8, String)> {
    let explain = |error: DatasetError| error.describe();
    match command {
        DatasetCommand::Import(arguments) => run_import(arguments).map_err(explain),
        DatasetCommand::Generate(arguments) => run_generate(arguments).map_err(explain),
        DatasetCommand::Augment(arguments) => {
            run_augment(arguments, inspect_augment(arguments), &SingleProcess)
                .map(drop)
                .map_err(|Failure { exit_code, message, .. }| (exit_code, message))
        }
        DatasetCommand::Check(CheckArguments { file, trust_files: true }) => {
            Dataset::read(file).and_then(|data| report(&data, file)).map_err(explain)
        }
        DatasetCommand::Check(CheckArguments { file, .. }) => {
            let inspected = inspect(FileKind::Dataset, file, true)
                .map_err(|error| (error.exit_code(), error_chain(&error)))?;
            show(&inspected.report, file, &inspected.checksum);
            Ok(())
        }
    }
}

fn run_import(arguments: &ImportArguments) -> Result<(), DatasetError> {
    let ImportArguments { input, output, .. } = arguments;
    if arguments.directed && arguments.format != Format::EdgeList {
        return Err(DatasetError::Setting {
            setting: "--directed",
            expected: "the format edge-list with it".into(),
            found: "another format, whose edges are symmetrised as is usual for it".into(),
        });
    }
    refuse_existing(output, arguments.overwrite)?;
    let name = arguments.name.clone().unwrap_or_else(|| {
        let stem = if input.is_dir() { input.file_name() } else { input.file_stem() };
        stem.map_or("imported".into(), |stem| stem.to_string_lossy().into_owned())
    });
    let steps = arguments.progress.steps(&SingleProcess);
    let data = match arguments.format {
        Format::Planetoid => planetoid::import(input, &name, &steps),
        Format::Npz => npz::import(input, &name, &steps),
        Format::Ogb => ogb::import(input, &name, &steps),
        Format::Graphsaint => graphsaint::import(input, &name, &steps),
        Format::EdgeList => edge_list::import(input, &name, arguments.directed, &steps),
    }?;
    data.write_in_steps(output, arguments.overwrite, &steps)?;
    drop(steps);
    report(&data, output)
}

fn run_generate(arguments: &GenerateArguments) -> Result<(), DatasetError> {
    refuse_existing(&arguments.output, arguments.overwrite)?;
    let steps = arguments.progress.steps(&SingleProcess);
    let settings = GenerateSettings {
        name: arguments.name.clone(),
        nodes: arguments.nodes,
        features: arguments.features,
        classes: arguments.classes,
        degree: arguments.degree,
        homophily: arguments.homophily,
        signal: arguments.signal,
        seed: arguments.seed,
        train_nodes: arguments.train_nodes,
        val_nodes: arguments.val_nodes,
        test_nodes: arguments.test_nodes,
    };
    let data = generate_in_steps(&settings, &steps)?;
    data.write_in_steps(&arguments.output, arguments.overwrite, &steps)?;
    drop(steps);
    report(&data, &arguments.output)
}

/// Inspects the file that is to be augmented; before MPI starts.
pub fn inspect_augment(arguments: &AugmentArguments) -> Findings {
    Findings::before_start(arguments.trust_files, &[(FileKind::Dataset, &arguments.data)])
}

/// Augments with all ranks together; rank 0 prints the result to standard output.
///
/// # Errors
/// [`Failure`], the same on all ranks unless they lost each other.
pub fn run_augment(
    arguments: &AugmentArguments,
    findings: Findings,
    communicator: &dyn Communicator,
) -> Result<u8, Failure> {
    let AugmentArguments { data, output, operators, feature_norm, threads, overwrite, .. } = arguments;
    let settings = AugmentSettings {
        data: data.clone(),
        output: output.clone(),
        overwrite: *overwrite,
        operators: operators.clone(),
        feature_norm: *feature_norm,
        threads: usize::from(*threads),
        inspected: findings.agree(communicator)?.into_iter().next(),
    };
    let steps = arguments.progress.steps(communicator);
    let augmented = augment(&settings, communicator, &steps);
    drop(steps);
    let report = augmented.map_err(|error| Failure {
        message: error_chain(&error),
        exit_code: error.exit_code(),
        is_joint: error.is_joint(),
    })?;
    if let Some(AugmentReport { dataset, nodes, width, checksum, peak_bytes }) = report {
        let mebibytes: Vec<String> = peak_bytes.iter().map(|bytes| (bytes >> 20).to_string()).collect();
        // Nobody is there to be told when standard output is closed.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{:<18} {dataset}", "name");
        let _ = writeln!(out, "{:<18} {operators}, feature norm {}", "operators", feature_norm.name());
        let _ = writeln!(out, "{:<18} {nodes} nodes, {width} features", "augmented");
        let _ = writeln!(out, "{:<18} {} MiB at most, by rank", "memory", mebibytes.join(" "));
        let _ = writeln!(out, "{:<18} {} ({checksum})", "file", output.display());
    }
    Ok(0)
}

fn report(data: &Dataset, path: &Path) -> Result<(), DatasetError> {
    show(&Summary::of(data).to_string(), path, &checksum(path)?);
    Ok(())
}

fn show(summary: &str, path: &Path, checksum: &str) {
    // Nobody is there to be told when standard output is closed.
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{summary}");
    let _ = writeln!(out, "{:<18} {} ({checksum})", "file", path.display());
}

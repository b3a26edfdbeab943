//! `pdadmm-g traffic`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::error_chain;
use crate::inspection::{FileKind, inspect};
use crate::settings::RawSettings;
use crate::study::traffic::{TrafficStudy, Way, run as run_study};

/// Arguments of `traffic`.
#[derive(Debug, Args)]
pub struct TrafficArguments {
    /// Data set file, HDF5
    #[arg(long, value_name = "FILE.h5")]
    pub data: PathBuf,
    /// Folder for traffic.csv and traffic.svg; made if absent
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Replace an earlier study in the folder
    #[arg(long)]
    pub overwrite: bool,
    /// Runs of each way, with seeds from --seed on
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub runs: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Splits, used in turn with the seeds [default: the one that train would take]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub splits: Vec<String>,
    /// Ways to send: none, f16, bf16, or p, q, pq with bits, such as pq8 [default: none, f16, and p, q, pq with 16, 8,
    /// 4 and 2 bits]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub ways: Vec<Way>,
    /// Layers, one a rank at full depth [default: 10]
    #[arg(long, value_name = "L")]
    pub layers: Option<usize>,
    /// Neurons of each hidden layer [default: 100]
    #[arg(long, value_name = "N")]
    pub neurons: Option<usize>,
    /// Iterations of each stage [default: 200]
    #[arg(long, value_name = "K")]
    pub iterations: Option<usize>,
    /// Iterations between evaluations
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub evaluate_every: usize,
    /// Read the data set without its inspection by a child process
    #[arg(long)]
    pub trust_files: bool,
    /// TOML file with other settings of train
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

/// Runs the study in this process, a thread a rank.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(arguments: &TrafficArguments) -> Result<(), Failure> {
    let fail = |exit_code, message| Failure { message, exit_code, is_joint: true };
    let flags = RawSettings {
        data: Some(arguments.data.clone()),
        output: Some(arguments.output.clone()),
        seed: Some(arguments.seed),
        layers: arguments.layers,
        neurons: arguments.neurons,
        iterations: arguments.iterations,
        evaluate_every: Some(arguments.evaluate_every),
        ..RawSettings::default()
    };
    let base = flags.over_file(arguments.config.as_deref()).map_err(|error| fail(2, error_chain(&error)))?;
    let study = TrafficStudy {
        base,
        splits: arguments.splits.clone(),
        runs: arguments.runs,
        ways: if arguments.ways.is_empty() { Way::of_the_figure() } else { arguments.ways.clone() },
        inspect: (!arguments.trust_files)
            .then_some(|data| inspect(FileKind::Dataset, data, false).map(|inspected| inspected.checksum)),
        overwrite: arguments.overwrite,
    };
    match run_study(&study, &mut std::io::stdout()) {
        Ok(_) => Ok(()),
        Err(error) => Err(fail(error.exit_code(), error_chain(&error))),
    }
}

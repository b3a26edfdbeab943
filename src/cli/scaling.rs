//! `pdadmm-g scaling`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::error_chain;
use crate::settings::RawSettings;
use crate::study::scaling::{Mode, ScalingError, ScalingStudy, WeakSizes, run as run_study};

/// Arguments of `scaling`.
#[derive(Debug, Args)]
pub struct ScalingArguments {
    /// Settings of every run, as of train; --output is the folder of the study, --iterations are 12 by itself
    #[command(flatten)]
    pub settings: RawSettings,
    /// TOML file with settings under the names of their flags; flags win
    #[arg(long, value_name = "FILE.toml", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Kinds of scaling: strong, layers, weak
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "strong",
        help_heading = "Study"
    )]
    pub mode: Vec<Mode>,
    /// Numbers of ranks, for strong and weak scaling
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8", help_heading = "Study",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub ranks: Vec<u32>,
    /// Numbers of layers, for scaling in layers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "8,9,10,11,12,13,14,15,16,17",
        help_heading = "Study", value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub depths: Vec<u32>,
    /// Runs of each case
    #[arg(long, value_name = "K", default_value_t = 3, help_heading = "Study",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: u32,
    /// What starts the ranks, with {ranks} for their number; words are separated by spaces
    #[arg(long, value_name = "WORDS", default_value = "mpirun -n {ranks}", help_heading = "Study")]
    pub launcher: String,
    /// Training nodes a rank in weak scaling, which generates its data sets
    #[arg(long, value_name = "N", default_value_t = 2048, help_heading = "Study",
        value_parser = clap::value_parser!(u32).range(16..=10_000_000))]
    pub weak_nodes: u32,
    /// Features in weak scaling
    #[arg(long, value_name = "D", default_value_t = 64, help_heading = "Study",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub weak_features: u32,
    /// Classes in weak scaling
    #[arg(long, value_name = "C", default_value_t = 10, help_heading = "Study",
        value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub weak_classes: u32,
    /// Read data sets without inspecting them in a process of their own first
    #[arg(long, help_heading = "Run")]
    pub trust_files: bool,
}

/// Variables of launchers that would confuse the ranks which this process starts.
const LAUNCHED: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// Starts the runs one after another and prints the table.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(arguments: &ScalingArguments) -> Result<(), Failure> {
    let fail = |exit_code, message| Failure { message, exit_code, is_joint: true };
    let flags = arguments.settings.clone();
    let base = flags.over_file(arguments.config.as_deref()).map_err(|error| fail(2, error_chain(&error)))?;
    let outcome = study(arguments, base).and_then(|study| run_study(&study, &mut std::io::stdout()));
    outcome.map(|_| ()).map_err(|error| fail(error.exit_code(), error_chain(&error)))
}

fn study(arguments: &ScalingArguments, base: RawSettings) -> Result<ScalingStudy, ScalingError> {
    if let Some(name) = LAUNCHED.into_iter().find(|name| std::env::var_os(name).is_some()) {
        return Err(ScalingError::Launched(name));
    }
    let numbers = |list: &[u32]| list.iter().map(|&number| number as usize).collect();
    let program = std::env::current_exe()
        .map_err(|source| ScalingError::File { path: "the program itself".into(), source })?;
    Ok(ScalingStudy {
        base,
        modes: arguments.mode.clone(),
        ranks: numbers(&arguments.ranks),
        depths: numbers(&arguments.depths),
        repeats: arguments.repeats as usize,
        launcher: arguments.launcher.split_whitespace().map(str::to_owned).collect(),
        program,
        weak: WeakSizes {
            nodes: arguments.weak_nodes as usize,
            features: arguments.weak_features as usize,
            classes: arguments.weak_classes as usize,
        },
        trust_files: arguments.trust_files,
    })
}

//! The command line: one file a subcommand.

pub mod dataset;
pub mod definitions;
pub mod plan;
pub mod predict;
pub mod progress;
pub mod report;
pub mod scaling;
mod signals;
pub mod traffic;
pub mod train;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::inspection::{CHILD_COMMAND, ChildArguments};
use crate::parallel::JointFailure;

/// Train deep graph-augmented MLPs without backpropagation: pdADMM-G and pdADMM-G-Q over MPI.
///
/// Exit codes: 0 finished, 2 usage or settings, 3 data, 4 numerical, 75 interrupted and resumable, 1 anything else.
#[derive(Debug, Parser)]
#[command(name = "pdadmm-g", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// It cannot be understood, or asks for help or the version.
    pub fn read() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&with_numbers_below_0(Self::command()).try_get_matches()?)
    }
}

/// The command with `--flag -1` taken as a value, also of the commands below it, so that whoever checks the number can name
/// the flag and its range. clap by itself takes -1 for a flag that it does not know.
fn with_numbers_below_0(command: clap::Command) -> clap::Command {
    let takes_value = |arg: &clap::Arg| arg.get_action().takes_values() && !arg.is_allow_hyphen_values_set();
    command
        .mut_args(|arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg })
        .mut_subcommands(with_numbers_below_0)
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and check data set files
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Train a network; start it with mpirun -n R to spread its layers over R ranks
    Train(Box<train::TrainArguments>),
    /// Tell which rank of a run would hold which layers, memory, products and bytes, without starting it
    Plan(Box<plan::PlanArguments>),
    /// Predict the class of every node with a trained model; mpirun -n R shares the nodes out over R ranks
    Predict(predict::PredictArguments),
    /// Measure test accuracy against bytes for every way to send p and q (the paper's Figure 5); ranks are threads
    Traffic(traffic::TrafficArguments),
    /// Measure seconds an iteration over ranks, layers and nodes (the paper's Figures 3 and 4); starts mpirun or srun itself
    Scaling(Box<scaling::ScalingArguments>),
    /// Draw runs side by side: one page that needs nothing else, and each plot as SVG
    Report(report::ReportArguments),
    /// Print the manual page of the program or of a command (pdadmm-g man train | man -l -), or write all of them
    Man(definitions::ManArguments),
    /// Print the script that completes commands and flags in a shell
    Completions(definitions::CompletionsArguments),
    /// Go through a file as the child of an inspection (see `inspection`)
    #[command(name = CHILD_COMMAND, hide = true)]
    InspectFile(ChildArguments),
}

/// A command that failed: what to print on rank 0 and the code to exit with, the same on every rank.
#[derive(Debug)]
pub struct Failure {
    /// The message, with its causes.
    pub message: String,
    /// The exit code.
    pub exit_code: u8,
    /// Whether every rank has this failure; if not, the others must be ended.
    pub is_joint: bool,
}

impl From<JointFailure> for Failure {
    fn from(failure: JointFailure) -> Self {
        Failure {
            message: failure.to_string(),
            exit_code: failure.exit_code(),
            is_joint: matches!(failure, JointFailure::Failed { .. }),
        }
    }
}

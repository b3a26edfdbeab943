//! `--progress`, the same flag for every command that may last.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use crate::parallel::Communicator;
use crate::progress::Steps;

/// How a command shows how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowProgress {
    /// A bar below the lines, wherever standard output leads
    Bar,
    /// Lines alone
    Lines,
}

/// The flag.
#[derive(Debug, Clone, Default, Args)]
pub struct ProgressArguments {
    /// Show how far the work is by a bar, or by lines alone; by itself a bar where standard output and standard error are a
    /// terminal, which ranks under mpirun often are not told
    #[arg(long, help_heading = "Run", value_enum, env = "PDADMM_PROGRESS", hide_env_values = true)]
    pub progress: Option<ShowProgress>,
}

impl ProgressArguments {
    /// Whether there is to be a bar.
    pub fn has_bar(&self) -> bool {
        match self.progress {
            Some(progress) => progress == ShowProgress::Bar,
            // Open MPI gives its ranks a terminal as standard output even where that ends in a file.
            None => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
        }
    }

    /// How a command shows its steps; of ranks, the first alone shows any.
    pub fn steps(&self, communicator: &dyn Communicator) -> Steps {
        match (communicator.rank(), self.has_bar()) {
            (0, true) => Steps::with_bar(),
            (0, false) => Steps::with_lines(),
            _ => Steps::silent(),
        }
    }
}

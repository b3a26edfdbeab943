//! `pdadmm-g man` and `pdadmm-g completions`: what the definitions of the command line give besides `--help`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failure};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Command to print the page of, such as train or dataset import [default: the program]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write the pages of the program and of all its commands into this folder instead; made if absent
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub output: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    pub shell: Shell,
}

/// Prints a manual page, or writes all of them.
///
/// # Errors
/// No such command, or a folder that cannot be written.
pub fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let mut program = Cli::command();
    if let Some(folder) = &arguments.output {
        let written =
            std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(program, folder));
        return written.map_err(|error| failure(1, format!("cannot write {}: {error}", folder.display())));
    }
    program.build();
    let mut command: &Command = &program;
    for word in &arguments.command {
        command = command
            .get_subcommands()
            .find(|known| known.get_name() == word && !known.is_hide_set())
            .ok_or_else(|| {
                failure(2, format!("no command {}: see pdadmm-g help", arguments.command.join(" ")))
            })?;
    }
    let mut page = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| failure(1, format!("the manual page cannot be made: {error}")))?;
    print(&page)
}

/// Prints the script of a shell that completes commands and flags.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut program = Cli::command();
    let name = program.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut program, name, &mut script);
    print(&script)
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // A pager that is closed early has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failure(1, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn failure(exit_code: u8, message: String) -> Failure {
    Failure { message, exit_code, is_joint: true }
}

//! The command line program: parses, runs one subcommand, prints the error if there is one, and ends every rank
//! with the same code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use pdadmm_g::cli::{
    Cli, Command, Failure, dataset, definitions, plan, predict, report, scaling, traffic, train,
};
use pdadmm_g::error_chain;
use pdadmm_g::parallel;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error),
    };
    match cli.command {
        Command::Dataset(dataset::DatasetCommand::Augment(arguments)) => {
            let findings = dataset::inspect_augment(&arguments);
            over_ranks(|communicator| dataset::run_augment(&arguments, findings, communicator))
        }
        Command::Dataset(command) => match dataset::run(&command) {
            Ok(()) => ExitCode::SUCCESS,
            Err((exit_code, message)) => {
                tell(&message);
                ExitCode::from(exit_code)
            }
        },
        // Files are inspected by a child process, which there can be no more once MPI runs.
        Command::Train(arguments) => {
            let findings = train::inspect(&arguments);
            over_ranks(|communicator| train::run(&arguments, findings, communicator))
        }
        Command::Plan(arguments) => in_one_process(plan::run(&arguments)),
        Command::Traffic(arguments) => in_one_process(traffic::run(&arguments)),
        Command::Scaling(arguments) => in_one_process(scaling::run(&arguments)),
        Command::Report(arguments) => in_one_process(report::run(&arguments)),
        Command::Man(arguments) => in_one_process(definitions::man(&arguments)),
        Command::Completions(arguments) => in_one_process(definitions::completions(&arguments)),
        Command::Predict(arguments) => {
            let findings = predict::inspect(&arguments);
            over_ranks(|communicator| predict::run(&arguments, findings, communicator))
        }
        Command::InspectFile(arguments) => ExitCode::from(pdadmm_g::inspection::run_child(&arguments)),
    }
}

/// The exit code of a command that knows no ranks.
fn in_one_process(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure.message);
            ExitCode::from(failure.exit_code)
        }
    }
}

/// Runs a command on all ranks. An error is printed by rank 0, or by the rank that alone knows of it.
fn over_ranks(run: impl FnOnce(&dyn parallel::Communicator) -> Result<u8, Failure>) -> ExitCode {
    let communicator = match parallel::start() {
        Ok(communicator) => communicator,
        Err(error) => {
            tell(&error_chain(&error));
            return ExitCode::from(1);
        }
    };
    let code = match run(communicator.as_ref()) {
        Ok(code) => code,
        Err(failure) if failure.is_joint => {
            if communicator.rank() == 0 {
                tell(&failure.message);
            }
            failure.exit_code
        }
        Err(failure) => {
            tell(&failure.message);
            parallel::abort(failure.exit_code);
        }
    };
    // A launcher ends the others as soon as one rank exits with a code: all must be done by then.
    let done = parallel::barrier(communicator.as_ref(), &parallel::WaitPolicy::new(), "end");
    if let Err(error) = done {
        tell(&error_chain(&error));
    }
    drop(communicator);
    ExitCode::from(code)
}

/// Prints help, or what is wrong with the arguments; exit code 0 or 2.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || std::io::stderr().is_terminal() {
        // A pipe that is closed wants to hear no more.
        let _ = error.print();
    } else {
        // Every rank meets this error, before ranks know of each other; clap would write it in pieces.
        in_one_piece(&error.render().to_string());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn tell(message: &str) {
    in_one_piece(&format!("error: {message}\n"));
}

/// One write to standard error, so that what several ranks say does not mix within a line.
fn in_one_piece(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

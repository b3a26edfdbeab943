//! The child's part of an inspection.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Content, FileKind, Limits};
use crate::storage::regular_file;

/// The subcommand that the parent starts; no user needs it.
pub const CHILD_COMMAND: &str = "inspect-file";
/// What the child's standard output begins with.
pub(super) const SOUND: &str = "sound ";
pub(super) const REFUSED: &str = "refused ";

/// Arguments of the child.
#[derive(Debug, Args)]
pub struct ChildArguments {
    /// What the file should be.
    #[arg(long, value_enum)]
    pub kind: FileKind,
    /// Report on the content too.
    #[arg(long)]
    pub report: bool,
    /// The file.
    pub file: PathBuf,
}

/// Goes through a file under its limits, says on standard output how it went, and returns the exit code: 0 or 3.
/// What kills this process meanwhile, the parent sees.
pub fn run(arguments: &ChildArguments) -> u8 {
    let ChildArguments { kind, report, file } = arguments;
    let limited = regular_file(file, "give another file")
        .map_err(|error| crate::error_chain(&error))
        .and_then(|metadata| {
            Limits::for_length(metadata.len())
                .impose()
                .map_err(|error| format!("cannot limit time and memory: {error}"))
        });
    let (text, code) = match limited.and_then(|()| kind.go_through(file, *report)) {
        Ok(Content { checksum, report }) => (format!("{SOUND}{checksum}\n{report}"), 0),
        Err(message) => (format!("{REFUSED}{message}\n"), 3),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => 1,
    }
}

//! The command line: one file a subcommand.

pub mod dataset;
pub mod predict;

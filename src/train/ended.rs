//! Runs that have ended by themselves, as their summaries tell: with those there is nothing to go on.

use std::path::Path;

use serde_json::Value;

use super::checkpoint::any_left;
use super::output::{OutputFolder, Summary};
use super::several::runs_in;
use super::status::Status;

/// How a run, or several, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: u8,
    /// Status and message, as far as there is one.
    pub words: String,
}

impl Ended {
    /// What `summary.json` in `folder` says of the run there, or of the `runs` runs; `None` where there is more to do, or
    /// where it cannot be read.
    pub fn of(folder: &Path, runs: usize) -> Option<Self> {
        let text = Summary::read_text(&folder.join("summary.json")).ok()?;
        let summary: Value = serde_json::from_slice(&text).ok()?;
        let status = summary.get("status")?.as_str()?;
        let code = Status::code_of_ended(status)?;
        if runs > 1 && summary.get("runs")?.as_array()?.len() < runs {
            return None;
        }
        let message = summary.get("message").and_then(Value::as_str);
        Some(Self {
            code,
            words: message.map_or(status.to_owned(), |message| format!("{status}: {message}")),
        })
    }

    /// Removes the checkpoints of the run in `folder`, or of the `runs` runs, if it has come to a good end: one that was
    /// killed while it removed them has left some. Where that cannot be done, they do no harm.
    pub fn remove_checkpoints(folder: &Path, runs: usize) {
        if runs > 1 {
            runs_in(folder).iter().for_each(|(_, path)| Self::remove_checkpoints(path, 1));
        } else if any_left(folder) && Self::of(folder, 1).is_some_and(|ended| ended.code == 0) {
            match OutputFolder::lock(folder) {
                Ok(held) => held.remove_checkpoints(),
                Err(error) => log::debug!("checkpoints stay: {error}"),
            }
        }
    }
}

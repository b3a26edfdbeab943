//! The folders of checkpoints: which there are, and how a new one takes its name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Whole checkpoints that are kept: the newest, and the one before in case that one is damaged.
const KEPT: usize = 2;
const PREFIX: &str = "checkpoint-";
/// Ends the name of a checkpoint that is being written.
const PARTIAL: &str = ".partial";
/// Ends the name of a checkpoint that is being removed.
const REMOVED: &str = ".removed";
const DIGITS: usize = 10;

/// One checkpoint, or the place for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFolder {
    /// The output folder.
    parent: PathBuf,
    /// The iteration it is of.
    iteration: u64,
}

impl CheckpointFolder {
    /// The place of the checkpoint of an iteration in an output folder.
    pub fn new(parent: &Path, iteration: u64) -> Self {
        Self { parent: parent.to_owned(), iteration }
    }

    /// All that are whole by name, the newest first.
    ///
    /// # Errors
    /// The output folder cannot be read.
    pub fn all(parent: &Path) -> Result<Vec<Self>, CheckpointError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(parent).map_err(CheckpointError::read(parent))? {
            let name = entry.map_err(CheckpointError::read(parent))?.file_name();
            if let Some((iteration, "")) = name.to_str().and_then(take_apart) {
                found.push(Self::new(parent, iteration));
            }
        }
        found.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.iteration));
        Ok(found)
    }

    /// The iteration it is of.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }

    fn named(&self, suffix: &str) -> PathBuf {
        self.parent.join(format!("{PREFIX}{:0DIGITS$}{suffix}", self.iteration))
    }

    /// Its folder when it is whole.
    pub fn path(&self) -> PathBuf {
        self.named("")
    }

    /// Its folder while it is written.
    pub fn partial(&self) -> PathBuf {
        self.named(PARTIAL)
    }

    /// The file of a rank's layers in one of its folders.
    pub fn part(folder: &Path, rank: usize) -> PathBuf {
        folder.join(format!("rank-{rank:05}.h5"))
    }

    /// The manifest in one of its folders.
    pub fn manifest(folder: &Path) -> PathBuf {
        folder.join("manifest.json")
    }

    /// Makes the temporary folder. The output folder must be there: where somebody has removed it, nothing in a new one
    /// could be gone on from.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn begin(&self) -> Result<(), CheckpointError> {
        let partial = self.partial();
        match fs::create_dir(&partial) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // What a run that was killed has left.
                fs::remove_dir_all(&partial).and_then(|()| fs::create_dir(&partial))
            }
            other => other,
        }
        .map_err(CheckpointError::write(&partial))
    }

    /// Gives up what [`CheckpointFolder::begin`] began.
    pub fn abandon(&self) {
        let _ = fs::remove_dir_all(self.partial());
    }

    /// Gives the complete temporary folder its name, once all in it is on disk, and removes checkpoints that are older
    /// than the one before.
    ///
    /// # Errors
    /// The disk or the file system refuses.
    pub fn commit(&self) -> Result<(), CheckpointError> {
        let (partial, whole) = (self.partial(), self.path());
        sync_folder(&partial)?;
        if whole.symlink_metadata().is_ok() {
            // A damaged one that was passed over when the run went on from an older one.
            remove(&whole, &self.named(REMOVED));
        }
        fs::rename(&partial, &whole).map_err(CheckpointError::write(&whole))?;
        sync_folder(&self.parent)?;
        // What cannot be removed does no harm.
        let all = Self::all(&self.parent).unwrap_or_default();
        for old in all.into_iter().filter(|old| old.iteration < self.iteration).skip(KEPT - 1) {
            remove(&old.path(), &old.named(REMOVED));
        }
        Ok(())
    }
}

/// Puts a folder's entries on disk. Not all file systems can, and those that cannot need not.
fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    let folder = File::open(path).map_err(CheckpointError::write(path))?;
    match folder.sync_all() {
        Err(error)
            if error.kind() != io::ErrorKind::InvalidInput && error.kind() != io::ErrorKind::Unsupported =>
        {
            Err(CheckpointError::write(path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a checkpoint; under another name first, so that half of one is never taken for a whole one.
fn remove(path: &Path, removed: &Path) {
    let _ = fs::remove_dir_all(removed);
    let gone = fs::rename(path, removed).and_then(|()| fs::remove_dir_all(removed));
    if let Err(error) = gone {
        log::warn!("{}: cannot remove this old checkpoint: {error}", path.display());
    }
}

/// Removes all checkpoints in an output folder, and what half-written and half-removed ones have left.
pub fn remove_all(parent: &Path) {
    remove_leftovers(parent);
    for old in CheckpointFolder::all(parent).unwrap_or_default() {
        remove(&old.path(), &old.named(REMOVED));
    }
}

/// Whether there is a checkpoint, or what is left of one.
pub fn any_left(parent: &Path) -> bool {
    let mut entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_str().and_then(take_apart).is_some())
}

/// Removes what half-written and half-removed checkpoints of runs that were killed have left.
pub fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if let Some((_, PARTIAL | REMOVED)) = entry.file_name().to_str().and_then(take_apart) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Iteration and suffix of a folder's name.
fn take_apart(name: &str) -> Option<(u64, &str)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (digits, suffix) = rest.split_at_checked(DIGITS)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let known = ["", PARTIAL, REMOVED].contains(&suffix);
    (is_number && known).then(|| digits.parse().ok()).flatten().map(|iteration| (iteration, suffix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_come_first_and_only_two_are_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let parent = scratch.path();
        fs::create_dir(parent.join("checkpoint-12")).unwrap();
        fs::write(parent.join("checkpoint-0000000003.txt"), "").unwrap();
        for iteration in [5, 10, 15] {
            let new = CheckpointFolder::new(parent, iteration);
            new.begin().unwrap();
            fs::write(CheckpointFolder::part(&new.partial(), 0), "x").unwrap();
            assert!(CheckpointFolder::all(parent).unwrap().iter().all(|old| old.iteration < iteration));
            new.commit().unwrap();
        }
        let all = CheckpointFolder::all(parent).unwrap();
        assert_eq!(all.iter().map(|c| c.iteration).collect::<Vec<_>>(), [15, 10]);
        remove_all(parent);
        assert_eq!(CheckpointFolder::all(parent).unwrap(), []);
        assert_eq!(fs::read_dir(parent).unwrap().count(), 2, "what is not ours stays");
    }

    #[test]
    fn a_vanished_output_folder_is_not_made_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let gone = CheckpointFolder::new(&scratch.path().join("gone"), 1);
        assert!(gone.begin().unwrap_err().to_string().contains("cannot write the checkpoint"));
    }
}

//! The folder of a run: history.csv, config.toml, summary.json and the models. Written by rank 0 alone.

mod history;
mod summary;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::checkpoint::{CheckpointFolder, remove_all, remove_leftovers};
use crate::error_chain;
use crate::parallel::local_host_name;
use crate::settings::RawSettings;
use crate::storage::{StorageError, folder_above, open_regular, try_out_above};

pub use history::HistoryRow;
use history::rows_before;
pub use summary::{Accuracy, BestSummary, BytesSummary, F1Summary, SecondsSummary, Summary, ratio};

/// The files of a run that an earlier one may have left, in the order in which they are removed: a process that is killed
/// meanwhile must leave no run to go on with, and none that says that it has finished.
pub(super) const FILES: [&str; 6] =
    ["config.toml", "summary.json", "run.csv", "history.csv", "model-last.h5", "model.h5"];

/// A result that could not be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The folder holds a run already.
    #[error("{folder} already holds a run ({file}): choose another --output, or --overwrite to replace it")]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// A file in it.
        file: &'static str,
    },
    /// The path is that of a file.
    #[error("{path} is a file, not a folder: choose another --output")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Something is in the way of the folder, or those above it cannot be written.
    #[error("{}", error_chain(.0))]
    Place(StorageError),
    /// Another process is at work in the folder.
    #[error("{folder} is in use by {holder}: wait for its end, or choose another --output")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who, as far as is known.
        holder: String,
    },
    /// A result of an earlier run could not be read.
    #[error("cannot read {path}: {source}; move its folder away to train that run anew")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file of which a process that writes to the folder holds the lock.
pub(super) const LOCK: &str = ".lock";

fn write_error(path: &Path, source: io::Error) -> OutputError {
    OutputError::Write { path: path.to_owned(), source }
}

/// The folder of a run, made and ready.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    history: Option<csv::Writer<File>>,
    /// Kept open: the operating system gives the lock back when the process ends, however it ends.
    lock: Option<File>,
}

impl OutputFolder {
    /// Looks whether a run may be written here, without touching anything.
    ///
    /// # Errors
    /// [`OutputError::Occupied`] where a run is there and `overwrite` is not set; a file where a folder must be.
    pub fn check(path: &Path, overwrite: bool) -> Result<(), OutputError> {
        // A link that leads nowhere is in the way too.
        if path.symlink_metadata().is_ok() && !path.is_dir() {
            return Err(OutputError::NotAFolder { path: path.to_owned() });
        }
        folder_above(path).map_err(OutputError::Place)?;
        let left = FILES.into_iter().find(|file| path.join(file).symlink_metadata().is_ok());
        let checkpoints =
            || CheckpointFolder::all(path).is_ok_and(|all| !all.is_empty()).then_some("checkpoints");
        match left.or_else(checkpoints) {
            Some(file) if !overwrite => Err(OutputError::Occupied { folder: path.to_owned(), file }),
            _ => Ok(()),
        }
    }

    /// Tries whether the folder can be made and written, and whether another process has it, before long work.
    ///
    /// # Errors
    /// As [`OutputFolder::lock`].
    pub fn try_out(path: &Path) -> Result<(), OutputError> {
        if path.is_dir() {
            return Self::lock(path).map(drop);
        }
        try_out_above(path).map_err(OutputError::Place)
    }

    /// Makes the folder, removes an earlier run's files where that is allowed, and writes config.toml.
    ///
    /// # Errors
    /// As [`OutputFolder::empty`].
    pub fn create(path: &Path, overwrite: bool, settings: &RawSettings) -> Result<Self, OutputError> {
        Self::empty(path, overwrite)?.begin(settings)
    }

    /// Makes the folder, takes it for this process, and removes an earlier run's files where that is allowed.
    ///
    /// # Errors
    /// As [`OutputFolder::check`] and [`OutputFolder::lock`], or the folder cannot be written.
    pub fn empty(path: &Path, overwrite: bool) -> Result<Self, OutputError> {
        Self::check(path, overwrite)?;
        fs::create_dir_all(path).map_err(|source| write_error(path, source))?;
        let folder = Self::lock(path)?;
        // Another process may have come first.
        Self::check(path, overwrite)?;
        folder.remove_files()?;
        Ok(folder)
    }

    /// Takes an existing folder for this process.
    ///
    /// # Errors
    /// [`OutputError::InUse`] where another process has it, or the folder cannot be written.
    pub fn lock(path: &Path) -> Result<Self, OutputError> {
        let lock_path = path.join(LOCK);
        let fail = |source| write_error(&lock_path, source);
        // It is emptied, which a link to another file must not be.
        if lock_path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(fail(io::Error::other("it is no regular file; remove it")));
        }
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(fail)?;
        let lock = match file.try_lock() {
            Ok(()) => {
                // For the message of who comes second; the lock does not depend on it.
                let holder = format!("process {} on {}\n", std::process::id(), local_host_name());
                let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
                Some(file)
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                let holder = match holder.lines().next().unwrap_or_default() {
                    "" => "another process".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(OutputError::InUse { folder: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => {
                log::warn!(
                    "{}: this file system has no locks ({error}): start no second run here",
                    path.display()
                );
                None
            }
        };
        Ok(Self { path: path.to_owned(), history: None, lock })
    }

    /// Writes beside the lock which process each rank is: a launcher that reports a dead one by its number alone (MPICH)
    /// leaves open which rank that was.
    pub fn name_processes(&mut self, processes: &[String]) {
        if let Some(lock) = &mut self.lock {
            // A help for people, on which nothing depends.
            let _ = lock.write_all(processes.concat().as_bytes());
        }
    }

    /// Goes on with the run in a folder that is locked: cuts history.csv back to the iterations before `before`, or
    /// starts anew where there is no checkpoint.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn go_on(mut self, before: Option<u64>, settings: &RawSettings) -> Result<Self, OutputError> {
        let Some(before) = before else {
            self.remove_files()?;
            return self.begin(settings);
        };
        remove_leftovers(&self.path);
        self.write_config(settings)?;
        // Results of a run that has not ended are stale; and links to elsewhere must not be written through.
        let results = ["summary.json", "run.csv", "model-last.h5", "model.h5"].map(|file| self.file(file));
        for result in results.into_iter().filter(|file| file.symlink_metadata().is_ok()) {
            fs::remove_file(&result).map_err(|source| write_error(&result, source))?;
        }
        let path = self.file("history.csv");
        let fail = |source| write_error(&path, source);
        let kept = match open_regular(&path) {
            Ok(history) => rows_before(io::BufReader::new(history), before).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fail(error)),
        };
        let rows = kept.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if rows < before {
            log::warn!("{}: rows before iteration {before} are missing", path.display());
        }
        self.write_whole("history.csv", &kept)?;
        let file = File::options().append(true).open(&path).map_err(fail)?;
        let writer = csv::WriterBuilder::new().has_headers(kept.is_empty()).from_writer(file);
        self.history = Some(writer);
        Ok(self)
    }

    /// Removes the files of a run, in a folder that is locked.
    ///
    /// # Errors
    /// One cannot be removed.
    pub(super) fn remove_files(&self) -> Result<(), OutputError> {
        let old: Vec<PathBuf> =
            FILES.iter().map(|file| self.file(file)).filter(|file| file.symlink_metadata().is_ok()).collect();
        // All or none: a folder among them must not cost the files beside it.
        if let Some(folder) = old.iter().find(|file| file.is_dir()) {
            return Err(write_error(folder, io::Error::other("a folder of this name is in the way")));
        }
        for file in &old {
            fs::remove_file(file).map_err(|source| write_error(file, source))?;
        }
        self.remove_checkpoints();
        Ok(())
    }

    /// Begins a run in a folder that is locked and holds none.
    fn begin(mut self, settings: &RawSettings) -> Result<Self, OutputError> {
        let path = self.file("history.csv");
        let history = File::create(&path).map_err(|source| write_error(&path, source))?;
        self.history = Some(csv::Writer::from_writer(history));
        self.write_config(settings)?;
        Ok(self)
    }

    /// Writes config.toml.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_config(&self, settings: &RawSettings) -> Result<(), OutputError> {
        let config = toml::to_string(settings)
            .map_err(|error| write_error(&self.file("config.toml"), io::Error::other(error)))?;
        let config = format!("# All settings of this run as used; usable with train --config.\n{config}");
        self.write_whole("config.toml", config.as_bytes())
    }

    /// Removes the checkpoints of a run that needs them no more.
    pub fn remove_checkpoints(&self) {
        remove_all(&self.path);
    }

    /// Puts the rows written so far on disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync_history(&self) -> Result<(), OutputError> {
        let synced = self.history.as_ref().map_or(Ok(()), |history| history.get_ref().sync_all());
        synced.map_err(|source| write_error(&self.file("history.csv"), source))
    }

    /// Makes the folder anew where somebody has removed it during the run: the models are still worth keeping.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn restore(&self) -> Result<(), OutputError> {
        fs::create_dir_all(&self.path)
            .map_err(|source| OutputError::Write { path: self.path.clone(), source })
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Adds a row to history.csv and flushes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_row(&mut self, row: &HistoryRow) -> Result<(), OutputError> {
        let path = self.path.join("history.csv");
        let Some(history) = &mut self.history else { return Ok(()) };
        let written = history.serialize(row).map_err(io::Error::other).and_then(|()| history.flush());
        written.map_err(|source| OutputError::Write { path, source })
    }

    /// Writes summary.json.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_summary(&self, summary: &impl Serialize) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(summary).map_err(|e| OutputError::Write {
            path: self.file("summary.json"),
            source: io::Error::other(e),
        })?;
        self.write_whole("summary.json", format!("{text}\n").as_bytes())
    }

    /// Writes run.csv: these names and values.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_run_row(&self, columns: &[(String, String)]) -> Result<(), OutputError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = [
            columns.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            columns.iter().map(|(_, value)| value).collect(),
        ];
        let written = rows.iter().try_for_each(|row| writer.write_record(row)).map_err(io::Error::other);
        let bytes =
            written.and_then(|()| writer.into_inner().map_err(|error| io::Error::other(error.to_string())));
        let bytes = bytes.map_err(|source| write_error(&self.file("run.csv"), source))?;
        self.write_whole("run.csv", &bytes)
    }

    /// Writes a file under a temporary name, syncs it and renames it, so that it is never seen half written.
    fn write_whole(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.file(name);
        let write = || -> io::Result<()> {
            let mut builder = tempfile::Builder::new();
            // Temporary files are private by default; a result has the rights of any other file.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.tempfile_in(&self.path)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| OutputError::Write { path: path.clone(), source })
    }
}

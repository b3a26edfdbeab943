//! Import of published formats. Every reader takes files from strangers: nothing is executed, and
//! nothing is allocated on a file's word alone.

mod csv_folder;
pub mod edge_list;
pub(crate) mod edges;
pub mod graphsaint;
pub mod npy;
pub mod npz;
pub mod ogb;
pub mod pickle;
mod pickle_machine;
pub mod planetoid;

use std::path::{Path, PathBuf};

use crate::progress::Steps;
use crate::storage::{Fault, StorageError, io_error};

/// Largest file that is read into memory as a whole.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// The content of a file.
pub(crate) fn read_bytes(path: &Path, steps: &Steps) -> Result<Vec<u8>, StorageError> {
    now_reading(steps, path);
    let length = std::fs::metadata(path).map_err(io_error(path, "open the file"))?.len();
    if length > MAX_FILE_BYTES {
        return Err(Fault::new(
            "the whole file",
            format!("at most {MAX_FILE_BYTES} bytes"),
            format!("{length} bytes"),
        )
        .advise("check that this is the right file")
        .in_file(path));
    }
    let bytes = std::fs::read(path).map_err(io_error(path, "read the file"))?;
    steps.advance(bytes.len());
    Ok(bytes)
}

/// Reading begins, of these files as far as they are there: their bytes are the work.
pub(crate) fn begin_reading(steps: &Steps, files: impl IntoIterator<Item = PathBuf>) {
    let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let bytes = files.into_iter().map(length).fold(0, u64::saturating_add);
    steps.begin(usize::try_from(bytes).unwrap_or(usize::MAX));
}

/// Says which file is being read.
pub(crate) fn now_reading(steps: &Steps, path: &Path) {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    steps.doing(format!("reading {name}"));
}

/// Advice for files that somebody else published.
pub(crate) const DOWNLOAD_AGAIN: &str = "the file is cut off or is not what its name says; download it again";

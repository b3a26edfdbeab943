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

use std::path::Path;

use crate::storage::{Fault, StorageError, io_error};

/// Largest file that is read into memory as a whole.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// The content of a file.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, StorageError> {
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
    std::fs::read(path).map_err(io_error(path, "read the file"))
}

/// Advice for files that somebody else published.
pub(crate) const DOWNLOAD_AGAIN: &str = "the file is cut off or is not what its name says; download it again";

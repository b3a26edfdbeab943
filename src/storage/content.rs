//! Which bytes a file holds, so that what is read can be tied to what was looked at before.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::error::{Fault, StorageError, io_error};

/// CRC-32 of a file's bytes and their number, such as `1c291ca3-15360`.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn checksum(path: &Path) -> Result<String, StorageError> {
    let mut file = std::fs::File::open(path).map_err(io_error(path, "open the file"))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut length = 0u64;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error(path, "read the file")(error)),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
    Ok(format!("{:08x}-{length}", hasher.finalize()))
}

/// Opens a file for reading that somebody may have put there: anything but a regular one is refused, as by
/// [`regular_file`].
///
/// # Errors
/// No such file, no permission, or not a regular file.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(std::io::Error::other("it is a folder, a pipe or a device, not a regular file")),
    }
}

/// Reads a small file that somebody may have put there.
///
/// # Errors
/// As [`open_regular`], or it is longer than `longest` bytes.
pub(crate) fn read_small(path: &Path, longest: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > longest {
        true => Err(std::io::Error::other(format!("it is longer than {longest} bytes"))),
        false => Ok(bytes),
    }
}

/// What the operating system says of a file before it is opened; anything but a regular file is refused, for a pipe
/// would be waited for and a device may never end. `advice` says how to come by a file of the kind that is wanted.
///
/// # Errors
/// No such file, no permission, or not a regular file.
pub(crate) fn regular_file(path: &Path, advice: &str) -> Result<Metadata, StorageError> {
    let metadata = std::fs::metadata(path).map_err(io_error(path, "open the file"))?;
    if !metadata.is_file() {
        return Err(Fault::new("/", "an HDF5 file", "a folder or a device").advise(advice).in_file(path));
    }
    Ok(metadata)
}

/// Which file a name stands for at one moment: another value means that the file was replaced or written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    number: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl FileIdentity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (device, number) = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let (device, number) = (0, 0);
        FileIdentity { device, number, length: metadata.len(), modified: metadata.modified().ok() }
    }
}

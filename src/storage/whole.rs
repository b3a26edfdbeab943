//! Writing files that appear whole or not at all.

use std::path::Path;

use hdf5::Location;
use hdf5::types::{FixedUnicode, TypeDescriptor, VarLenUnicode};
use tempfile::NamedTempFile;

use super::error::{Fault, StorageError, unwritten};
use super::hdf5_source::MAX_TEXT;

/// Lets `write` fill a temporary file in the folder of `path`, which is made where it is missing; complete and on disk, the
/// file takes that name.
///
/// # Errors
/// What `write` says, an existing file unless `overwrite`, or a failing disk; an existing file is then as it was.
pub(crate) fn write_whole(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&Path) -> hdf5::Result<()>,
) -> Result<(), StorageError> {
    write_whole_or(path, overwrite, |temporary| write(temporary).map_err(unwritten(path, "write the file")))
}

/// As [`write_whole`], for a `write` with errors of its own.
pub(crate) fn write_whole_or<E: From<StorageError>>(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    refuse_existing(path, overwrite)?;
    // A link stays a link: what it points to is replaced.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(unwritten(folder, "make the folder"))?;
    let temporary = temporary_in(folder)?;
    write(temporary.path())?;
    temporary.as_file().sync_all().map_err(unwritten(path, "write the file"))?;
    let renamed = if overwrite { temporary.persist(path) } else { temporary.persist_noclobber(path) };
    match renamed {
        Ok(_) => Ok(()),
        Err(error) if !overwrite && error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(StorageError::OutputExists { path: path.to_path_buf() }.into())
        }
        Err(error) => Err(unwritten(path, "write the file")(error.error).into()),
    }
}

/// Refuses to go on when the output exists and may not be replaced, or can be no file, before any long work.
///
/// # Errors
/// [`StorageError::OutputExists`], [`StorageError::NoOutput`], [`StorageError::Unwritten`] where nothing can be written.
pub fn refuse_existing(path: &Path, overwrite: bool) -> Result<(), StorageError> {
    let no_file = |expected: &str, found: &str, advice: &str| {
        let fault = Fault::new("--output", expected, found).advise(advice);
        Err(StorageError::NoOutput { path: path.to_path_buf(), fault: Box::new(fault) })
    };
    let advice = "give a file name, such as cora.h5";
    if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return no_file("a file name for the output", "a folder", advice);
    }
    // Renaming over a device would replace it for everybody on the machine.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return no_file("a regular file or a new name for the output", "a device, pipe or socket", advice);
    }
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(StorageError::OutputExists { path: path.to_path_buf() });
    }
    // Where a link leads, as it is written there.
    try_out_above(&std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()))
}

/// The nearest folder above an output that is there, and whether it is the one that holds the output; those between are
/// made when it is written.
///
/// # Errors
/// [`StorageError::NoOutput`] where something else than a folder is in the way.
pub(crate) fn folder_above(path: &Path) -> Result<(&Path, bool), StorageError> {
    let above = path.ancestors().skip(1).map(|above| match above.as_os_str().is_empty() {
        true => Path::new("."),
        false => above,
    });
    let mut found = above.enumerate().filter(|(_, above)| above.symlink_metadata().is_ok());
    // The root of the file system is nobody's to make.
    let Some((steps, above)) = found.next() else { return Ok((Path::new("/"), true)) };
    if above.is_dir() {
        return Ok((above, steps == 0));
    }
    let fault =
        Fault::new("--output", "folders alone above the output", format!("the file {}", above.display()))
            .advise("give another name");
    Err(StorageError::NoOutput { path: path.to_path_buf(), fault: Box::new(fault) })
}

/// Tries whether an output, or the missing folders above it, can be made, before any long work.
///
/// # Errors
/// As [`folder_above`]; [`StorageError::Unwritten`].
pub(crate) fn try_out_above(path: &Path) -> Result<(), StorageError> {
    let (above, _) = folder_above(path)?;
    temporary_in(above).map(drop)
}

/// A file beside an output, which takes its name when it is complete.
fn temporary_in(folder: &Path) -> Result<NamedTempFile, StorageError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pdadmm-g-");
    // Temporary files are private by default; a result has the rights of any other file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(unwritten(folder, "create a file in the folder"))
}

/// A text attribute in variable-length UTF-8, as h5py writes a `str` and anndata expects it.
pub(crate) fn write_text(location: &Location, name: &str, text: &str) -> hdf5::Result<()> {
    let text: VarLenUnicode = text.parse().map_err(|error| hdf5::Error::from(format!("{error}")))?;
    location.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text)
}

/// A text attribute of fixed length in UTF-8, of at most [`MAX_TEXT`] bytes.
pub(crate) fn write_fixed_text(location: &Location, name: &str, text: &str) -> hdf5::Result<()> {
    let memory: FixedUnicode<MAX_TEXT> =
        text.parse().map_err(|error| hdf5::Error::from(format!("{name}: {error}")))?;
    let stored = TypeDescriptor::FixedUnicode(text.len().max(1));
    location.new_attr_builder().empty_as(&stored).create(name)?.write_scalar(&memory)
}

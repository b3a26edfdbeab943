//! Reading HDF5 objects from a file that nobody vouches for.
//!
//! libhdf5 follows external links, external storage and virtual layouts without asking, and a
//! reader that allocates what a file declares can be made to allocate anything. So every object is
//! looked at before it is read: hard links only, storage in this file only, known filters only,
//! and no more elements than the bytes that are there can hold.

use std::path::{Path, PathBuf};

use super::checked_data_set::CheckedDataSet;
use super::content::{FileIdentity, checksum, regular_file};
use super::error::{Fault, StorageError, io_error};
use hdf5::filters::Filter;
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Group, H5Type, IndexType, IterationOrder, LinkType, Location, LocationType};

/// Deflate cannot shrink data further than this (zlib's technical details: 1032 to 1).
pub(crate) const DEFLATE_LIMIT: u64 = 1032;
/// libhdf5 takes memory for a whole chunk at a time, however little of it is asked for.
const MAX_CHUNK_BYTES: u64 = 1 << 30;
/// Longest text attribute that is read.
pub(crate) const MAX_TEXT: usize = 1024;
/// Most links in one group.
const MAX_LINKS: u64 = 100_000;

/// An open HDF5 file and its name for messages.
#[derive(Debug)]
pub(crate) struct Hdf5Source {
    path: PathBuf,
    bytes: u64,
    file: hdf5::File,
    variable_length: bool,
    checksum: Option<String>,
}

/// What an object in the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Group,
    DataSet,
}

impl Hdf5Source {
    /// Opens a file for reading; `advice` says how to come by a file of the kind that is wanted.
    pub(crate) fn open(path: &Path, advice: &str) -> Result<Self, StorageError> {
        let metadata = regular_file(path, advice)?;
        // Tells "no permission" from "not HDF5", which libhdf5 does not.
        std::fs::File::open(path).map_err(io_error(path, "open the file"))?;
        let file = hdf5::File::open(path).map_err(|error| {
            Fault::new("/", "an HDF5 file", format!("something else or half a file ({})", error))
                .advise(advice)
                .in_file(path)
        })?;
        let bytes = metadata.len();
        Ok(Hdf5Source { path: path.to_path_buf(), bytes, file, variable_length: true, checksum: None })
    }

    /// As [`Hdf5Source::open`], and takes the checksum of the file on the way, which must be `inspected` if that is
    /// given. It is compared before libhdf5 sees the file, and the name must stand for the same file afterwards.
    pub(crate) fn open_inspected(
        path: &Path,
        inspected: Option<&str>,
        advice: &str,
    ) -> Result<Self, StorageError> {
        let before = FileIdentity::of(&regular_file(path, advice)?);
        let found = checksum(path)?;
        let changed = |inspected: &str, found: String| {
            Err(StorageError::Changed { path: path.to_path_buf(), inspected: inspected.to_string(), found })
        };
        if let Some(inspected) = inspected.filter(|&inspected| inspected != found) {
            return changed(inspected, found);
        }
        let mut source = Self::open(path, advice)?;
        if FileIdentity::of(&regular_file(path, advice)?) != before {
            return changed(&found, checksum(path)?);
        }
        source.checksum = Some(found);
        Ok(source)
    }

    /// Checksum of the file's content: the one it was opened with, if that was taken.
    pub(crate) fn checksum(&self) -> Result<String, StorageError> {
        self.checksum.clone().map_or_else(|| checksum(&self.path), Ok)
    }

    /// Refuses texts of variable length from here on. libhdf5 (1.10.8) reads them without checking the heap that they
    /// are in: a damaged file can make it read outside its memory and crash.
    pub(crate) fn without_variable_length(mut self) -> Self {
        self.variable_length = false;
        self
    }

    /// The root attributes `format` and `format_version` are these.
    pub(crate) fn check_format(&self, format: &str, version: i64, advice: &str) -> Result<(), StorageError> {
        let found = self.text(self.root(), "/", "format").map_err(|error| match error {
            StorageError::Invalid { mut fault, .. } => {
                fault.expected = format!("{format:?}");
                self.fault(fault.advise(advice))
            }
            other => other,
        })?;
        let wrong = |name: &str, expected: String, found: String, advice: &str| {
            Err(self.fault(Fault::new(format!("attribute {name} of /"), expected, found).advise(advice)))
        };
        if found != format {
            return wrong("format", format!("{format:?}"), format!("{found:?}"), advice);
        }
        let found = self.integer(self.root(), "/", "format_version")?;
        if found != version {
            let advice = "use a version of this program that knows the file's version";
            return wrong("format_version", format!("{version}"), format!("{found}"), advice);
        }
        Ok(())
    }

    /// Turns a fault into an error that names this file.
    pub(crate) fn fault(&self, fault: Fault) -> StorageError {
        fault.in_file(&self.path)
    }

    pub(super) fn library(&self, place: &str) -> impl FnOnce(hdf5::Error) -> StorageError + use<> {
        let (path, place) = (self.path.clone(), place.to_string());
        move |source| StorageError::Hdf5 { path, place, source }
    }

    /// The root group.
    pub(crate) fn root(&self) -> &Group {
        &self.file
    }

    /// Names of the links of a group; every one is a hard link.
    pub(crate) fn links(&self, group: &Group, place: &str) -> Result<Vec<String>, StorageError> {
        if group.len() > MAX_LINKS {
            return Err(self.fault(Fault::new(
                place,
                format!("at most {MAX_LINKS} members"),
                format!("{}", group.len()),
            )));
        }
        let links = group.links(IndexType::Name, IterationOrder::Increasing).map_err(self.library(place))?;
        Ok(links.into_iter().map(|(name, _)| name).collect())
    }

    /// What `name` is, or `None` if there is no such thing. Only hard links are followed.
    pub(crate) fn kind(&self, group: &Group, prefix: &str, name: &str) -> Result<Option<Kind>, StorageError> {
        let place = format!("{prefix}/{name}");
        let link = group
            .find_link(IndexType::Name, IterationOrder::Native, |found, info| {
                Ok((found == name).then_some(info.link_type))
            })
            .map_err(self.library(&place))?;
        match link {
            None => return Ok(None),
            Some(LinkType::Hard) => {}
            Some(other) => {
                let found = match other {
                    LinkType::Soft => "a soft link",
                    _ => "a link to another file",
                };
                return Err(self.fault(
                    Fault::new(place, "the object itself (a hard link)", found)
                        .advise("copy the linked object into this file, for example with h5repack"),
                ));
            }
        }
        match group.loc_type_by_name(name).map_err(self.library(&place))? {
            LocationType::Group => Ok(Some(Kind::Group)),
            LocationType::Dataset => Ok(Some(Kind::DataSet)),
            _ => Err(self.fault(Fault::new(place, "a group or a data set", "a named data type"))),
        }
    }

    /// The group `name`, which must be there.
    pub(crate) fn group(&self, parent: &Group, prefix: &str, name: &str) -> Result<Group, StorageError> {
        let place = format!("{prefix}/{name}");
        match self.kind(parent, prefix, name)? {
            Some(Kind::Group) => parent.group(name).map_err(self.library(&place)),
            Some(Kind::DataSet) => Err(self.fault(Fault::new(place, "a group", "a data set"))),
            None => Err(self.fault(Fault::new(place, "a group", "nothing of that name"))),
        }
    }

    /// The data set `name`, which must be there, with a simple shape of `ndim` dimensions.
    pub(crate) fn data_set(
        &self,
        parent: &Group,
        prefix: &str,
        name: &str,
        ndim: usize,
    ) -> Result<CheckedDataSet<'_>, StorageError> {
        let place = format!("{prefix}/{name}");
        match self.kind(parent, prefix, name)? {
            Some(Kind::DataSet) => {}
            Some(Kind::Group) => return Err(self.fault(Fault::new(place, "a data set", "a group"))),
            None => return Err(self.fault(Fault::new(place, "a data set", "nothing of that name"))),
        }
        let data = parent.dataset(name).map_err(self.library(&place))?;
        let space = data.space().map_err(self.library(&place))?;
        let shape = space.shape();
        if !space.is_simple() || shape.len() != ndim {
            return Err(self.fault(Fault::new(
                place,
                format!("{ndim} dimension(s)"),
                format!("{} (shape {shape:?})", shape.len()),
            )));
        }
        let dtype = data.dtype().map_err(self.library(&place))?;
        let descriptor = dtype.to_descriptor().map_err(|error| {
            self.fault(Fault::new(&place, "numbers", format!("an unsupported type ({error})")))
        })?;
        self.check_storage(&place, &data, &shape, dtype.size() as u64)?;
        Ok(CheckedDataSet { source: self, place, data, descriptor, shape })
    }

    /// Refuses storage outside the file, filters we do not know, and sizes that the stored bytes
    /// cannot hold.
    fn check_storage(
        &self,
        place: &str,
        data: &hdf5::Dataset,
        shape: &[usize],
        element: u64,
    ) -> Result<(), StorageError> {
        let plist = data.create_plist().map_err(self.library(place))?;
        if !plist.get_external().map_err(self.library(place))?.is_empty() {
            return Err(self.fault(
                Fault::new(place, "data in this file", "external storage")
                    .advise("copy the data into the file, for example with h5repack"),
            ));
        }
        let layout = plist.get_layout().map_err(self.library(place))?;
        use hdf5::plist::dataset_create::Layout;
        if !matches!(layout, Layout::Compact | Layout::Contiguous | Layout::Chunked) {
            return Err(self.fault(
                Fault::new(place, "data in this file", "a virtual data set")
                    .advise("copy the data into the file, for example with h5repack"),
            ));
        }
        let mut deflated = 0;
        for filter in plist.get_filters().map_err(self.library(place))? {
            match filter {
                Filter::Deflate(_) => deflated += 1,
                Filter::Shuffle | Filter::Fletcher32 => {}
                other => {
                    return Err(self.fault(
                        Fault::new(
                            place,
                            "no filters but gzip, shuffle and fletcher32",
                            format!("{other:?}"),
                        )
                        .advise("write it again with gzip or without compression, for example with h5repack"),
                    ));
                }
            }
        }
        if deflated > 1 {
            return Err(self.fault(Fault::new(place, "gzip once at most", format!("{deflated} times"))));
        }
        if let Some(chunk) = plist.get_chunk().map_err(self.library(place))? {
            let bytes = size_in_bytes(&chunk, element);
            if bytes.is_none_or(|bytes| bytes > MAX_CHUNK_BYTES) {
                return Err(self.fault(
                    Fault::new(
                        place,
                        format!("chunks of at most {MAX_CHUNK_BYTES} bytes"),
                        format!("chunks of {chunk:?}"),
                    )
                    .advise("write it again in smaller chunks, for example with h5repack"),
                ));
            }
        }
        let stored = data.storage_size();
        let ratio = if deflated > 0 { DEFLATE_LIMIT } else { 1 };
        let declared = size_in_bytes(shape, element);
        let backed = stored.min(self.bytes).saturating_mul(ratio);
        if declared.is_none_or(|declared| declared > backed) || stored > self.bytes {
            return Err(self.fault(
                Fault::new(
                    place,
                    "no more elements than the stored bytes can hold",
                    format!("shape {shape:?} on {stored} stored bytes in a file of {} bytes", self.bytes),
                )
                .advise(
                    "the file is cut off, was not completely written, or is not what it says; write it again",
                ),
            ));
        }
        Ok(())
    }

    /// The attribute `name` of `location`, which must be there and hold `length` elements.
    fn attribute(
        &self,
        location: &Location,
        place: &str,
        name: &str,
        length: usize,
    ) -> Result<(Attribute, TypeDescriptor), StorageError> {
        let place = format!("attribute {name} of {place}");
        let attribute = location
            .attr(name)
            .map_err(|_| self.fault(Fault::new(&place, "an attribute", "nothing of that name")))?;
        let space = attribute.space().map_err(self.library(&place))?;
        if space.is_null() || space.size() != length || space.ndim() > 1 {
            return Err(self.fault(Fault::new(
                &place,
                format!("{length} value(s)"),
                format!("shape {:?}", space.shape()),
            )));
        }
        let descriptor = attribute
            .dtype()
            .and_then(|dtype| dtype.to_descriptor())
            .map_err(|error| self.fault(Fault::new(&place, "a text or a number", format!("{error}"))))?;
        Ok((attribute, descriptor))
    }

    /// The same with one element, if it is there.
    fn optional_attribute(
        &self,
        location: &Location,
        place: &str,
        name: &str,
    ) -> Result<Option<(Attribute, TypeDescriptor)>, StorageError> {
        // Not by `attr_names`, which in hdf5-metno 0.15.1 crashes over a damaged character set.
        if location.attr(name).is_err() {
            return Ok(None);
        }
        self.attribute(location, place, name, 1).map(Some)
    }

    /// A text attribute; fixed and variable length, ASCII and UTF-8 are all read.
    pub(crate) fn text(&self, location: &Location, place: &str, name: &str) -> Result<String, StorageError> {
        let (attribute, descriptor) = self.attribute(location, place, name, 1)?;
        let place = format!("attribute {name} of {place}");
        let failed = |error| self.library(&place)(error);
        let bytes = match descriptor {
            TypeDescriptor::VarLenUnicode | TypeDescriptor::VarLenAscii if !self.variable_length => {
                return Err(self.fault(Fault::new(
                    &place,
                    format!("a text of fixed length, at most {MAX_TEXT} bytes"),
                    "a text of variable length",
                )));
            }
            TypeDescriptor::VarLenUnicode => {
                first::<VarLenUnicode>(&attribute).map(|text| text.map(|t| t.as_bytes().to_vec()))
            }
            TypeDescriptor::VarLenAscii => {
                first::<VarLenAscii>(&attribute).map(|text| text.map(|t| t.as_bytes().to_vec()))
            }
            TypeDescriptor::FixedUnicode(n) if n <= MAX_TEXT => {
                first::<FixedUnicode<MAX_TEXT>>(&attribute).map(|text| text.map(|t| t.as_bytes().to_vec()))
            }
            TypeDescriptor::FixedAscii(n) if n <= MAX_TEXT => {
                first::<FixedAscii<MAX_TEXT>>(&attribute).map(|text| text.map(|t| t.as_bytes().to_vec()))
            }
            other => {
                return Err(self.fault(Fault::new(
                    &place,
                    format!("a text of at most {MAX_TEXT} bytes"),
                    type_name(&other),
                )));
            }
        }
        .map_err(failed)?
        .unwrap_or_default();
        if bytes.len() > MAX_TEXT {
            return Err(self.fault(Fault::new(
                &place,
                format!("a text of at most {MAX_TEXT} bytes"),
                format!("{} bytes", bytes.len()),
            )));
        }
        String::from_utf8(bytes).map_err(|_| self.fault(Fault::new(&place, "UTF-8", "other bytes")))
    }

    /// An attribute of `length` integers of any width.
    pub(crate) fn integers(
        &self,
        location: &Location,
        place: &str,
        name: &str,
        length: usize,
    ) -> Result<Vec<i64>, StorageError> {
        let (attribute, descriptor) = self.attribute(location, place, name, length)?;
        let place = format!("attribute {name} of {place}");
        match descriptor {
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => {
                attribute.read_raw::<i64>().map_err(self.library(&place))
            }
            other => Err(self.fault(Fault::new(&place, "int64", type_name(&other)))),
        }
    }

    /// An attribute that holds one integer.
    pub(crate) fn integer(&self, location: &Location, place: &str, name: &str) -> Result<i64, StorageError> {
        Ok(self.integers(location, place, name, 1)?.first().copied().unwrap_or(-1))
    }

    /// An attribute that holds one floating point number, if it is there.
    pub(crate) fn optional_float(
        &self,
        location: &Location,
        place: &str,
        name: &str,
    ) -> Result<Option<f64>, StorageError> {
        let Some((attribute, descriptor)) = self.optional_attribute(location, place, name)? else {
            return Ok(None);
        };
        let place = format!("attribute {name} of {place}");
        match descriptor {
            TypeDescriptor::Float(_) => first::<f64>(&attribute).map_err(self.library(&place)),
            other => Err(self.fault(Fault::new(&place, "float64", type_name(&other)))),
        }
    }

    /// An attribute that holds one integer from 0 to 2^64 − 1, if it is there.
    pub(crate) fn optional_unsigned(
        &self,
        location: &Location,
        place: &str,
        name: &str,
    ) -> Result<Option<u64>, StorageError> {
        let Some((attribute, descriptor)) = self.optional_attribute(location, place, name)? else {
            return Ok(None);
        };
        if matches!(descriptor, TypeDescriptor::Unsigned(_)) {
            return first::<u64>(&attribute).map_err(self.library(place));
        }
        let value = self.integers(location, place, name, 1)?.first().copied().unwrap_or(-1);
        u64::try_from(value).map(Some).map_err(|_| {
            self.fault(Fault::new(
                format!("attribute {name} of {place}"),
                "an integer of at least 0",
                format!("{value}"),
            ))
        })
    }
}

/// The first element of an attribute that holds at least one.
fn first<T: H5Type>(attribute: &Attribute) -> hdf5::Result<Option<T>> {
    Ok(attribute.read_raw::<T>()?.into_iter().next())
}

/// A type in words that users of h5py know.
pub(super) fn type_name(descriptor: &TypeDescriptor) -> String {
    match descriptor {
        TypeDescriptor::FixedAscii(_)
        | TypeDescriptor::FixedUnicode(_)
        | TypeDescriptor::VarLenAscii
        | TypeDescriptor::VarLenUnicode => "a string".into(),
        other => other.to_string(),
    }
}

fn size_in_bytes(shape: &[usize], element: u64) -> Option<u64> {
    shape.iter().try_fold(element, |size, &n| size.checked_mul(u64::try_from(n).ok()?))
}

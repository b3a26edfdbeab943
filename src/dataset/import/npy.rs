//! NumPy arrays: the `.npy` format (versions 1 to 3), `.npz` archives, and their conversion to
//! numbers. Format: numpy.lib.format in the NumPy documentation.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use super::super::error::DatasetError;
use super::{DOWNLOAD_AGAIN, now_reading};
use crate::progress::{Counted, Steps};
use crate::storage::hdf5_source::DEFLATE_LIMIT;
use crate::storage::{Fault, io_error, reserve};

/// Longest header of an array; NumPy itself refuses longer ones by default.
const MAX_HEADER: usize = 10_000;
/// Most dimensions of an array, as in NumPy 1.
const MAX_DIMENSIONS: usize = 32;

/// What an array's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Signed integers of so many bytes.
    Signed(usize),
    /// Unsigned integers of so many bytes; also truth values.
    Unsigned(usize),
    /// Floating point numbers of 4 or 8 bytes.
    Float(usize),
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::Signed(n) | Element::Unsigned(n) | Element::Float(n) => n,
        }
    }

    /// Reads a code such as `i4`, `f8` or `b1`.
    pub(crate) fn from_code(code: &[u8]) -> Option<Element> {
        match code {
            b"i1" | b"i2" | b"i4" | b"i8" | b"u1" | b"u2" | b"u4" | b"u8" | b"f4" | b"f8" | b"b1" => {}
            _ => return None,
        }
        let [kind, digit] = *code else { return None };
        let size = usize::from(digit.wrapping_sub(b'0'));
        match kind {
            b'i' => Some(Element::Signed(size)),
            b'f' => Some(Element::Float(size)),
            _ => Some(Element::Unsigned(size)),
        }
    }
}

/// An array of numbers, still in the bytes of its file.
#[derive(Debug, Clone)]
pub struct NumpyArray<'a> {
    /// What the elements are.
    pub element: Element,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
    /// Whether the first index varies fastest.
    pub fortran_order: bool,
    /// Size in each dimension; the product, times the element's size, is the number of bytes.
    pub shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

/// Number of elements and bytes of an array, unless that overflows.
fn sizes(shape: &[usize], element: Element) -> Option<(usize, usize)> {
    let length = shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n))?;
    Some((length, length.checked_mul(element.bytes())?))
}

impl<'a> NumpyArray<'a> {
    /// Puts an array together; the bytes must be exactly as many as shape and element need.
    pub(crate) fn new(
        place: &str,
        element: Element,
        big_endian: bool,
        fortran_order: bool,
        shape: Vec<usize>,
        bytes: Cow<'a, [u8]>,
    ) -> Result<Self, Fault> {
        let needed = sizes(&shape, element).map(|(_, bytes)| bytes);
        if needed != Some(bytes.len()) || shape.len() > MAX_DIMENSIONS {
            return Err(Fault::new(
                place,
                format!(
                    "{} bytes for shape {shape:?} of {element:?}",
                    needed.map_or("impossibly many".into(), |n| n.to_string())
                ),
                format!("{} bytes", bytes.len()),
            )
            .advise(DOWNLOAD_AGAIN));
        }
        Ok(NumpyArray { element, big_endian, fortran_order, shape, bytes })
    }

    /// Reads a `.npy` file or member. `limit` is the number of bytes that can possibly follow.
    ///
    /// # Errors
    /// Not an array of numbers, or fewer bytes than it declares.
    pub fn read(place: &str, reader: &mut impl Read, limit: u64) -> Result<NumpyArray<'static>, Fault> {
        let cut_off = |what: &str| Fault::new(place, what, "the end of the data").advise(DOWNLOAD_AGAIN);
        let mut start = [0u8; 8];
        reader.read_exact(&mut start).map_err(|_| cut_off("a NumPy array"))?;
        let [magic @ .., major, _minor] = start;
        if &magic != b"\x93NUMPY" {
            return Err(Fault::new(place, "a NumPy array", "other bytes").advise(DOWNLOAD_AGAIN));
        }
        let mut length = [0u8; 4];
        let used = match major {
            1 => length.get_mut(..2),
            2 | 3 => length.get_mut(..),
            _ => {
                return Err(Fault::new(
                    place,
                    "version 1, 2 or 3 of the npy format",
                    format!("version {major}"),
                )
                .advise("save the array again with numpy.save"));
            }
        };
        reader.read_exact(used.unwrap_or_default()).map_err(|_| cut_off("the length of the header"))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(Fault::new(
                place,
                format!("a header of at most {MAX_HEADER} bytes"),
                format!("{length} bytes"),
            ));
        }
        let mut header = vec![0u8; length];
        reader.read_exact(&mut header).map_err(|_| cut_off("the header"))?;
        let (element, big_endian, fortran_order, shape) = parse_header(place, &header)?;
        let needed = sizes(&shape, element).map(|(_, bytes)| bytes);
        let Some(needed) = needed.filter(|&needed| needed as u64 <= limit) else {
            return Err(Fault::new(
                place,
                format!("at most the {limit} bytes that there are"),
                format!("a declared shape of {shape:?}"),
            )
            .advise(DOWNLOAD_AGAIN));
        };
        let mut bytes = reserve(place, needed)?;
        reader.take(needed as u64).read_to_end(&mut bytes).map_err(|error| {
            Fault::new(place, format!("{needed} bytes"), format!("{error}")).advise(DOWNLOAD_AGAIN)
        })?;
        NumpyArray::new(place, element, big_endian, fortran_order, shape, Cow::Owned(bytes))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes().max(1)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Each element's bytes, least significant first, in the file's order.
    fn elements(&self) -> impl Iterator<Item = [u8; 8]> {
        let size = self.element.bytes();
        self.bytes.chunks_exact(size.max(1)).map(move |chunk| {
            let mut little = [0u8; 8];
            if self.big_endian {
                little.iter_mut().zip(chunk.iter().rev()).for_each(|(to, &from)| *to = from);
            } else {
                little.iter_mut().zip(chunk).for_each(|(to, &from)| *to = from);
            }
            little
        })
    }

    /// The elements in row-major order, each converted by `convert`.
    fn convert<T: Copy>(
        &self,
        place: &str,
        mut convert: impl FnMut([u8; 8]) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut values = reserve(place, self.len())?;
        for element in self.elements() {
            values.push(convert(element)?);
        }
        match *self.shape.as_slice() {
            [rows, columns] if self.fortran_order => {
                let mut turned = reserve(place, values.len())?;
                for row in 0..rows {
                    turned.extend(values.iter().skip(row).step_by(rows.max(1)).take(columns).copied());
                }
                Ok(turned)
            }
            _ if self.fortran_order && self.shape.len() > 2 => {
                Err(Fault::new(place, "at most 2 dimensions", format!("shape {:?}", self.shape)))
            }
            _ => Ok(values),
        }
    }

    /// All elements as 64-bit integers, row by row.
    ///
    /// # Errors
    /// An element that is not a whole number or too large.
    pub fn integers(&self, place: &str) -> Result<Vec<i64>, Fault> {
        let element = self.element;
        self.convert(place, |bytes| {
            let raw = u64::from_le_bytes(bytes);
            let wrong = |found: String| Fault::new(place, "whole numbers of at most 63 bits", found);
            match element {
                Element::Unsigned(_) => i64::try_from(raw).map_err(|_| wrong(raw.to_string())),
                Element::Signed(size) => {
                    let shift = 64 - 8 * size.clamp(1, 8) as u32;
                    Ok((raw as i64) << shift >> shift)
                }
                Element::Float(size) => {
                    let value = float(bytes, size);
                    // Above 2^53 a float no longer tells whole numbers apart.
                    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
                        Ok(value as i64)
                    } else {
                        Err(wrong(value.to_string()))
                    }
                }
            }
        })
    }

    /// All elements as 32-bit floating point numbers, row by row, rounded where they need more
    /// digits.
    ///
    /// # Errors
    /// Too little memory.
    pub fn floats(&self, place: &str) -> Result<Vec<f32>, Fault> {
        let element = self.element;
        self.convert(place, |bytes| {
            let raw = u64::from_le_bytes(bytes);
            Ok(match element {
                Element::Unsigned(_) => raw as f32,
                Element::Signed(size) => {
                    let shift = 64 - 8 * size.clamp(1, 8) as u32;
                    ((raw as i64) << shift >> shift) as f32
                }
                Element::Float(size) => float(bytes, size) as f32,
            })
        })
    }
}

fn float(bytes: [u8; 8], size: usize) -> f64 {
    let [a, b, c, d, ..] = bytes;
    match size {
        4 => f64::from(f32::from_le_bytes([a, b, c, d])),
        _ => f64::from_le_bytes(bytes),
    }
}

/// Reads the dictionary in the header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(place: &str, header: &[u8]) -> Result<(Element, bool, bool, Vec<usize>), Fault> {
    let text = String::from_utf8_lossy(header);
    let field = |name: &str| -> Option<&str> {
        let start = text.find(&format!("'{name}':"))? + name.len() + 3;
        text.get(start..).map(str::trim_start)
    };
    let wrong = |what: &str, found: Option<&str>| {
        let found: String = found.unwrap_or("nothing").chars().take(60).collect();
        Fault::new(format!("{place} (header)"), what, format!("{found:?}"))
            .advise("save the array as plain numbers with numpy.save")
    };
    let descr = field("descr");
    let code =
        descr.and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).map(|(code, _)| code.as_bytes());
    let (order, code) = match code {
        Some([order @ (b'<' | b'>' | b'|' | b'='), code @ ..]) => (*order, code),
        _ => return Err(wrong("a simple numeric type", descr)),
    };
    let element = Element::from_code(code)
        .ok_or_else(|| wrong("integers, truth values or floats of 4 or 8 bytes", descr))?;
    let fortran = field("fortran_order");
    let fortran_order = match fortran {
        Some(rest) if rest.starts_with("True") => true,
        Some(rest) if rest.starts_with("False") => false,
        _ => return Err(wrong("fortran_order True or False", fortran)),
    };
    let tuple = field("shape");
    let sizes = tuple.and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(sizes, _)| sizes);
    let Some(sizes) = sizes else {
        return Err(wrong("a shape", tuple));
    };
    let mut shape = Vec::new();
    for size in sizes.split(',').map(str::trim).filter(|size| !size.is_empty()) {
        // Python 2 wrote long integers as 12L.
        let size = size.trim_end_matches('L').parse().map_err(|_| wrong("a shape", tuple))?;
        if shape.len() == MAX_DIMENSIONS {
            return Err(wrong("at most 32 dimensions", tuple));
        }
        shape.push(size);
    }
    Ok((element, order == b'>', fortran_order, shape))
}

/// Reads a `.npy` file.
///
/// # Errors
/// The file cannot be read or is not an array of numbers.
pub(crate) fn read_npy(path: &Path, steps: &Steps) -> Result<NumpyArray<'static>, DatasetError> {
    now_reading(steps, path);
    let file = File::open(path).map_err(io_error(path, "open the file"))?;
    let length = file.metadata().map_err(io_error(path, "open the file"))?.len();
    Ok(NumpyArray::read("the array", &mut BufReader::new(Counted::new(file, steps)), length)
        .map_err(|fault| fault.in_file(path))?)
}

/// An open `.npz` archive. Members are read one by one, by name; others are never touched, so that
/// pickled objects among them do no harm.
pub struct NpzArchive<R> {
    archive: zip::ZipArchive<R>,
}

impl NpzArchive<BufReader<Counted<File>>> {
    /// Opens an archive.
    ///
    /// # Errors
    /// The file cannot be read or is not a zip archive.
    pub(crate) fn open(path: &Path, steps: &Steps) -> Result<Self, DatasetError> {
        now_reading(steps, path);
        let file = File::open(path).map_err(io_error(path, "open the file"))?;
        Ok(NpzArchive::new(BufReader::new(Counted::new(file, steps))).map_err(|fault| fault.in_file(path))?)
    }
}

impl<'a> NpzArchive<Cursor<&'a [u8]>> {
    /// Opens an archive in memory.
    ///
    /// # Errors
    /// Not a zip archive.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Fault> {
        NpzArchive::new(Cursor::new(bytes))
    }
}

impl<R: Read + Seek> NpzArchive<R> {
    fn new(reader: R) -> Result<Self, Fault> {
        let archive = zip::ZipArchive::new(reader).map_err(|error| {
            Fault::new("the whole file", "a zip archive of NumPy arrays", format!("{error}"))
                .advise(DOWNLOAD_AGAIN)
        })?;
        Ok(NpzArchive { archive })
    }

    /// Whether there is a member of this name (without `.npy`).
    pub fn contains(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// Reads a member (its name without `.npy`).
    ///
    /// # Errors
    /// No such member, or not an array of numbers, or one that is damaged or larger than its
    /// compressed bytes can be.
    pub fn read(&mut self, name: &str) -> Result<NumpyArray<'static>, Fault> {
        let place = format!("member {name}.npy");
        let mut member = self.archive.by_name(&format!("{name}.npy")).map_err(|error| {
            Fault::new(&place, "an array", format!("{error}"))
                .advise("check that the file is of this format; `unzip -l` lists its members")
        })?;
        // The declared size may lie; the compressed bytes can hold so much and no more.
        let limit = member.size().min(member.compressed_size().saturating_mul(DEFLATE_LIMIT));
        NumpyArray::read(&place, &mut member, limit)
    }

    /// Reads a member and converts it to integers.
    ///
    /// # Errors
    /// As [`NpzArchive::read`], or an element that is not a whole number.
    pub fn integers(&mut self, name: &str) -> Result<Vec<i64>, Fault> {
        self.read(name)?.integers(&format!("member {name}.npy"))
    }

    /// Reads a member and converts it to 32-bit floating point numbers.
    ///
    /// # Errors
    /// As [`NpzArchive::read`].
    pub fn floats(&mut self, name: &str) -> Result<Vec<f32>, Fault> {
        self.read(name)?.floats(&format!("member {name}.npy"))
    }
}

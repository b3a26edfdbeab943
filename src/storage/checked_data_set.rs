//! A data set in a file that nobody vouches for, looked at and ready to be read.

use std::ops::Range;

use hdf5::H5Type;
use hdf5::types::{FloatSize, TypeDescriptor};
use ndarray::s;
use num_traits::Zero;

use super::error::{Fault, StorageError, filled, reserve};
use super::hdf5_source::{Hdf5Source, type_name};

/// What is read of a data set at once.
#[derive(Debug, Clone)]
enum Part {
    All,
    /// Of one dimension.
    Entries(Range<usize>),
    /// Rows and columns, of two dimensions.
    Block(Range<usize>, Range<usize>),
}

impl Part {
    /// Where element `i` of the part stands in the data set, in words for a message.
    fn index(&self, i: usize) -> String {
        match self {
            Part::All => i.to_string(),
            Part::Entries(range) => (range.start + i).to_string(),
            Part::Block(rows, columns) => {
                let width = columns.len().max(1);
                format!("{}, {}", rows.start + i / width, columns.start + i % width)
            }
        }
    }
}

/// A data set that has been looked at and may be read.
#[derive(Debug)]
pub(crate) struct CheckedDataSet<'a> {
    pub(super) source: &'a Hdf5Source,
    /// Its path within the file.
    pub(crate) place: String,
    pub(super) data: hdf5::Dataset,
    pub(super) descriptor: TypeDescriptor,
    /// Size in each dimension; the product is backed by stored bytes.
    pub(crate) shape: Vec<usize>,
}

impl CheckedDataSet<'_> {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Rows (entries where there is one dimension) to read at once: about `elements` elements, and no fewer than a
    /// chunk has, which libhdf5 decompresses whole however little of it is asked for.
    pub(crate) fn rows_at_once(&self, elements: usize) -> usize {
        let width = self.shape.iter().skip(1).product::<usize>().max(1);
        let chunk = self.data.chunk().and_then(|chunk| chunk.first().copied()).unwrap_or(1);
        (elements / width).max(chunk).max(1)
    }

    fn read<T: H5Type + Copy + Zero>(&self, part: &Part) -> Result<Vec<T>, StorageError> {
        if let Part::All = part {
            let mut values = filled(&self.place, self.len(), T::zero()).map_err(|f| self.source.fault(f))?;
            if !values.is_empty() {
                self.data.as_reader().read_into_raw(&mut values).map_err(self.source.library(&self.place))?;
            }
            return Ok(values);
        }
        let read = match part {
            Part::All => return Ok(Vec::new()),
            Part::Entries(range) if range.is_empty() => return Ok(Vec::new()),
            Part::Block(rows, columns) if rows.is_empty() || columns.is_empty() => return Ok(Vec::new()),
            Part::Entries(range) => self
                .data
                .read_slice_1d::<T, _>(s![range.clone()])
                .map(|values| values.into_raw_vec_and_offset().0),
            Part::Block(rows, columns) => self
                .data
                .read_slice_2d::<T, _>(s![rows.clone(), columns.clone()])
                .map(|values| values.into_raw_vec_and_offset().0),
        };
        read.map_err(self.source.library(&self.place))
    }

    /// All elements as 64-bit integers; any integer type is accepted, nothing else.
    pub(crate) fn integers(&self) -> Result<Vec<i64>, StorageError> {
        self.integers_of(&Part::All)
    }

    /// Some entries of a data set of one dimension, as [`CheckedDataSet::integers`] gives all.
    pub(crate) fn integers_in(&self, range: Range<usize>) -> Result<Vec<i64>, StorageError> {
        self.integers_of(&Part::Entries(range))
    }

    fn integers_of(&self, part: &Part) -> Result<Vec<i64>, StorageError> {
        match &self.descriptor {
            // libhdf5 turns an unsigned value above 2^63 − 1 into 2^63 − 1, which no index and no
            // label can be, so that it is found by the checks on the values.
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => self.read(part),
            other => Err(self.source.fault(
                Fault::new(&self.place, "int64", type_name(other)).advise("write it with dtype int64"),
            )),
        }
    }

    /// Some entries of a data set of one dimension as 32-bit floating point numbers; float64 is accepted where no
    /// value changes.
    pub(crate) fn floats_in(&self, range: Range<usize>) -> Result<Vec<f32>, StorageError> {
        self.floats_of(&Part::Entries(range))
    }

    /// A block of a data set of two dimensions, row by row, as [`CheckedDataSet::floats_in`].
    pub(crate) fn float_block(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Vec<f32>, StorageError> {
        self.floats_of(&Part::Block(rows, columns))
    }

    fn floats_of(&self, part: &Part) -> Result<Vec<f32>, StorageError> {
        match &self.descriptor {
            TypeDescriptor::Float(FloatSize::U4) => self.read(part),
            TypeDescriptor::Float(FloatSize::U8) => {
                let wide: Vec<f64> = self.read(part)?;
                let mut narrow = reserve(&self.place, wide.len()).map_err(|f| self.source.fault(f))?;
                for (i, value) in wide.into_iter().enumerate() {
                    let short = value as f32;
                    if f64::from(short) != value && !value.is_nan() {
                        return Err(self.source.fault(
                            Fault::new(
                                format!("{}[{}]", self.place, part.index(i)),
                                "float32 values",
                                format!("the float64 value {value:e}, which float32 cannot hold"),
                            )
                            .advise("write it with dtype float32"),
                        ));
                    }
                    narrow.push(short);
                }
                Ok(narrow)
            }
            other => Err(self.source.fault(
                Fault::new(&self.place, "float32", type_name(other)).advise("write it with dtype float32"),
            )),
        }
    }

    /// All elements in exactly this type: of floating point numbers none is rounded.
    pub(crate) fn exact<T: H5Type + Copy + Zero>(&self) -> Result<Vec<T>, StorageError> {
        let expected = T::type_descriptor();
        if self.descriptor == expected {
            return self.read(&Part::All);
        }
        Err(self.source.fault(Fault::new(&self.place, type_name(&expected), type_name(&self.descriptor))))
    }
}

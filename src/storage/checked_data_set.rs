//! A data set in a file that nobody vouches for, looked at and ready to be read.

use hdf5::H5Type;
use hdf5::types::{FloatSize, TypeDescriptor};
use num_traits::Zero;

use super::error::{Fault, StorageError, filled, reserve};
use super::hdf5_source::{Hdf5Source, type_name};

/// A data set that has been looked at and may be read.
#[derive(Debug)]
pub(crate) struct CheckedDataSet<'a> {
    pub(super) source: &'a Hdf5Source,
    pub(super) place: String,
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

    fn read<T: H5Type + Copy + Zero>(&self) -> Result<Vec<T>, StorageError> {
        let mut values = filled(&self.place, self.len(), T::zero()).map_err(|f| self.source.fault(f))?;
        if !values.is_empty() {
            self.data.as_reader().read_into_raw(&mut values).map_err(self.source.library(&self.place))?;
        }
        Ok(values)
    }

    /// All elements as 64-bit integers; any integer type is accepted, nothing else.
    pub(crate) fn integers(&self) -> Result<Vec<i64>, StorageError> {
        match &self.descriptor {
            // libhdf5 turns an unsigned value above 2^63 − 1 into 2^63 − 1, which no index and no
            // label can be, so that it is found by the checks on the values.
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => self.read(),
            other => Err(self.source.fault(
                Fault::new(&self.place, "int64", type_name(other)).advise("write it with dtype int64"),
            )),
        }
    }

    /// All elements as 32-bit floating point numbers; float64 is accepted where no value changes.
    pub(crate) fn floats(&self) -> Result<Vec<f32>, StorageError> {
        match &self.descriptor {
            TypeDescriptor::Float(FloatSize::U4) => self.read(),
            TypeDescriptor::Float(FloatSize::U8) => {
                let wide: Vec<f64> = self.read()?;
                let mut narrow = reserve(&self.place, wide.len()).map_err(|f| self.source.fault(f))?;
                for (i, value) in wide.into_iter().enumerate() {
                    let short = value as f32;
                    if f64::from(short) != value && !value.is_nan() {
                        return Err(self.source.fault(
                            Fault::new(
                                format!("{}[{i}]", self.place),
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
            return self.read();
        }
        Err(self.source.fault(Fault::new(&self.place, type_name(&expected), type_name(&self.descriptor))))
    }
}

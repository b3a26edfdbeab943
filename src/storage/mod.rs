//! Files: HDF5 is read with distrust, and what is written appears whole or not at all.

mod checked_data_set;
mod content;
mod error;
pub(crate) mod hdf5_source;
mod whole;

pub(crate) use checked_data_set::CheckedDataSet;
pub(crate) use content::{checksum, open_regular, read_small, regular_file};
pub use error::{Fault, StorageError};
pub(crate) use error::{filled, io_error, reserve, unwritten};
pub use whole::refuse_existing;
pub(crate) use whole::{
    folder_above, try_out_above, write_fixed_text, write_text, write_whole, write_whole_or,
};

//! Checkpoints: the state of all ranks between two iterations, on disk, whole or not at all (docs/reliability.md).
//!
//! A checkpoint is a folder `checkpoint-ITERATION` in the output folder: a file of HDF5 a rank with its layers, and a
//! manifest with the rest and the length and checksum of each of those. It is written under a temporary name, and takes
//! its own when everything is on disk. What it holds does not depend on who held it: any number of ranks goes on from it.

mod error;
mod folder;
mod inspect;
mod manifest;
mod part;
mod part_read;
mod restore;
mod save;
mod sealed;
mod steps;

pub use error::CheckpointError;
pub(super) use folder::{CheckpointFolder, any_left, remove_all, remove_leftovers};
pub(crate) use inspect::{go_through, whole_parts};
pub(super) use sealed::Exact;
pub(super) use steps::{StepManifest, Vectors};

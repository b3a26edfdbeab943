//! What is looked at before a run goes on: the files of its checkpoints, by a process of its own (docs/reliability.md).

use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::folder::CheckpointFolder;
use super::part::{FORMAT, FORMAT_VERSION, checksum};
use super::sealed;
use super::steps;
use crate::settings::Precision;
use crate::storage::hdf5_source::{Hdf5Source, Kind};
use hdf5::Group;

const ADVICE: &str = "remove this checkpoint's folder to go on from the one before";
/// Levels of groups: layers, a layer, what belongs to it.
const DEEPEST: usize = 3;

/// The files that going on with the run in `folder` may open: those that have the length and the checksum of their
/// manifest. The others are passed over without being opened.
pub fn whole_parts(folder: &Path) -> Vec<PathBuf> {
    let mut whole = Vec::new();
    for checkpoint in CheckpointFolder::all(folder).unwrap_or_default() {
        let path = checkpoint.path();
        // What is wrong with a manifest, the run says itself.
        let parts = sealed::bytes(&path).and_then(|bytes| sealed::parts(&path, &bytes)).unwrap_or_default();
        whole.extend(parts.into_iter().filter_map(|entry| {
            let part = CheckpointFolder::part(&path, entry.rank);
            checksum(&part).is_ok_and(|found| found == (entry.bytes, entry.crc32)).then_some(part)
        }));
    }
    whole
}

/// Reads all that is ever read of a file, and forgets it. Whether shapes fit the run, is seen when it goes on.
///
/// # Errors
/// What breaks a rule of the format.
pub fn go_through(path: &Path) -> Result<(), CheckpointError> {
    let source = Hdf5Source::open(path, ADVICE)?.without_variable_length();
    source.check_format(FORMAT, FORMAT_VERSION, ADVICE)?;
    let precision = source.text(source.root(), "/", "precision")?;
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "f64" => Precision::F64,
        _ => return Err(CheckpointError::damaged(path, "precision f32 or f64", precision)),
    };
    let name = match source.kind(source.root(), "", steps::GROUP)? {
        None => "layers",
        Some(_) => steps::GROUP,
    };
    let group = source.group(source.root(), "", name)?;
    walk(&source, path, &group, &format!("/{name}"), precision, DEEPEST)
}

fn walk(
    source: &Hdf5Source,
    path: &Path,
    group: &Group,
    place: &str,
    precision: Precision,
    depth: usize,
) -> Result<(), CheckpointError> {
    source.optional_float(group, place, "c")?;
    for name in source.links(group, place)? {
        let below = format!("{place}/{name}");
        if source.kind(group, place, &name)? == Some(Kind::Group) {
            if depth == 0 {
                return Err(CheckpointError::damaged(path, "no group in here", below));
            }
            let inner = source.group(group, place, &name)?;
            walk(source, path, &inner, &below, precision, depth - 1)?;
            continue;
        }
        let vector = ["b", "spectral", "levels", "digest", "model"].contains(&name.as_str())
            || steps::VECTORS.contains(&name.as_str());
        let data = source.data_set(group, place, &name, if vector { 1 } else { 2 })?;
        match (name.as_str(), precision) {
            ("indices" | "digest" | "model", _) => drop(data.exact::<u16>()?),
            ("levels", _) | (_, Precision::F64) => drop(data.exact::<f64>()?),
            (_, Precision::F32) => drop(data.exact::<f32>()?),
        }
    }
    Ok(())
}

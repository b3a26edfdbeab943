//! The manifest of a checkpoint as a file: JSON, and a last line with its checksum. Numbers that must come back to the last
//! bit are written as their bits. What else a manifest holds depends on what is trained, but for its beginning.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, CheckpointFolder};
use crate::settings::{Settings, differences, with_later_settings};
use crate::storage::read_small;
use crate::train::problem::Problem;
use crate::train::state::RUN_STATE_VERSION;

/// Far above what a thousand layers and ranks take.
const LARGEST: u64 = 16 << 20;

/// No run sends so many bytes or messages; more could not be added up with those to come.
pub const MOST_SENT: u64 = 1 << 60;

/// A number by its bits: NaN and infinity included, and the same after any number of writings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Exact(pub f64);

impl From<u64> for Exact {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Exact> for u64 {
    fn from(number: Exact) -> u64 {
        number.0.to_bits()
    }
}

/// One file of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// The rank that wrote it, by which it is named.
    pub rank: usize,
    /// Its shard of nodes.
    pub shard: usize,
    /// Its lowest layer.
    pub first: usize,
    /// Its highest layer.
    pub last: usize,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 (IEEE) of its content.
    pub crc32: u32,
}

/// Writes a manifest into a folder, and puts it on disk.
///
/// # Errors
/// The disk refuses.
pub fn write(folder: &Path, manifest: &impl Serialize) -> Result<(), CheckpointError> {
    let path = CheckpointFolder::manifest(folder);
    let write = || -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(manifest)?;
        text.push_str(&format!("\ncrc32 {:08x}\n", crc32fast::hash(text.as_bytes())));
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(CheckpointError::write(&path))
}

/// The bytes of the manifest in a folder; they are checked by [`parse`].
///
/// # Errors
/// It cannot be read, or is far too large.
pub fn bytes(folder: &Path) -> Result<Vec<u8>, CheckpointError> {
    let path = CheckpointFolder::manifest(folder);
    read_small(&path, LARGEST).map_err(CheckpointError::read(&path))
}

/// A manifest of this format from its bytes, which are those of a file in `folder`.
///
/// # Errors
/// Not what [`write`] writes.
pub fn parse<M: DeserializeOwned>(folder: &Path, bytes: &[u8], wanted: &str) -> Result<M, CheckpointError> {
    let path = CheckpointFolder::manifest(folder);
    let content = content(&path, bytes)?;
    // Format and version first: another version has other fields.
    #[derive(Deserialize)]
    struct Identity {
        format: String,
        version: u32,
    }
    let Identity { format, version } = read_json(&path, content)?;
    if (format.as_str(), version) != (wanted, RUN_STATE_VERSION) {
        let expected = format!("{wanted} version {RUN_STATE_VERSION}, which this program writes");
        return Err(CheckpointError::damaged(&path, expected, format!("{format} version {version}")));
    }
    read_json(&path, content)
}

/// The files that a manifest of any format names.
///
/// # Errors
/// As [`parse`].
pub fn parts(folder: &Path, bytes: &[u8]) -> Result<Vec<PartEntry>, CheckpointError> {
    #[derive(Deserialize)]
    struct Parts {
        parts: Vec<PartEntry>,
    }
    let path = CheckpointFolder::manifest(folder);
    let Parts { parts } = read_json(&path, content(&path, bytes)?)?;
    Ok(parts)
}

/// Whether a checkpoint of a data set (name and checksum) and of settings belongs to this run.
///
/// # Errors
/// What differs.
pub fn belongs(
    folder: &Path,
    [dataset, checksum, settings]: [&str; 3],
    problem: &Problem,
    here: &Settings,
) -> Result<(), CheckpointError> {
    let path = folder.to_owned();
    if checksum != problem.checksum {
        let here = format!("{} with checksum {}", problem.name, problem.checksum);
        let there = format!("{dataset} with checksum {checksum}");
        return Err(CheckpointError::OtherData { path, there, here });
    }
    let changed = differences(&here.deciding(&problem.split), &with_later_settings(settings));
    match changed.is_empty() {
        true => Ok(()),
        false => Err(CheckpointError::OtherSettings { path, changed: changed.join(", ") }),
    }
}

/// The JSON before the checksum, which is right.
fn content<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, CheckpointError> {
    let wrong = |expected: String, found: String| CheckpointError::damaged(path, expected, found);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| wrong("text".into(), format!("other bytes at {}", error.valid_up_to())))?;
    let ending = text.strip_suffix('\n').and_then(|text| text.rsplit_once("\ncrc32 "));
    let Some((content, written)) = ending else {
        return Err(wrong("a last line with the checksum".into(), "none: the file is cut off".into()));
    };
    let found = format!("{:08x}", crc32fast::hash(content.as_bytes()));
    match found == written {
        true => Ok(content),
        false => Err(wrong(format!("checksum {written}"), found)),
    }
}

fn read_json<M: DeserializeOwned>(path: &Path, content: &str) -> Result<M, CheckpointError> {
    serde_json::from_str(content)
        .map_err(|error| CheckpointError::damaged(path, "the manifest of a checkpoint", error))
}

//! GraphSAINT folders (Zeng et al. 2020), as Flickr, Reddit and Yelp are published:
//! `adj_full.npz`, `feats.npy`, `class_map.json`, `role.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ndarray::Array2;
use serde_json::Value;

use super::npy::{NpzArchive, read_npy};
use super::npz::{loose_rows, symmetrised};
use super::{DOWNLOAD_AGAIN, begin_reading, read_bytes};
use crate::dataset::error::DatasetError;
use crate::dataset::{Dataset, Features, Split, check};
use crate::progress::Steps;
use crate::storage::{Fault, filled};

/// Imports a folder, with the roles of its nodes as split `public`. Edges of the whole graph
/// (`adj_full`) are symmetrised; features stay as they are.
///
/// # Errors
/// A file that is missing, cut off, or does not fit the others; several labels a node.
pub fn import(folder: &Path, name: &str, steps: &Steps) -> Result<Dataset, DatasetError> {
    let files = ["adj_full.npz", "feats.npy", "class_map.json", "role.json"];
    begin_reading(steps, files.map(|file| folder.join(file)));
    let path = folder.join("adj_full.npz");
    let mut archive = NpzArchive::open(&path, steps)?;
    let adjacency = loose_rows(&mut archive, "")
        .and_then(|rows| symmetrised(&rows))
        .map_err(|fault| fault.in_file(&path))?;
    let nodes = adjacency.rows();

    let path = folder.join("feats.npy");
    let array = read_npy(&path, steps)?;
    let shape = match *array.shape.as_slice() {
        [rows, columns] if rows == nodes => (rows, columns),
        _ => {
            return Err(Fault::new(
                "the array",
                format!("{nodes} rows, as in adj_full.npz"),
                format!("shape {:?}", array.shape),
            )
            .advise(DOWNLOAD_AGAIN)
            .in_file(&path)
            .into());
        }
    };
    let values = array.floats("the array").map_err(|fault| fault.in_file(&path))?;
    let features = Array2::from_shape_vec(shape, values)
        .map_err(|error| Fault::new("the array", "a matrix", error.to_string()).in_file(&path))?;

    let path = folder.join("class_map.json");
    let labels = labels(&path, nodes, steps)?;
    let classes = labels.iter().copied().max().unwrap_or(-1).saturating_add(1);
    let in_folder = |fault: Fault| fault.in_file(folder);
    let classes = check::sizes(nodes, shape.1, classes).map_err(in_folder)?;
    let data = Dataset {
        name: name.to_string(),
        num_classes: classes,
        adjacency,
        features: Features::Dense(features),
        labels,
        splits: BTreeMap::from([("public".to_string(), split(&folder.join("role.json"), nodes, steps)?)]),
    };
    data.check().map_err(in_folder)?;
    Ok(data)
}

fn parse<T: serde::de::DeserializeOwned>(
    path: &Path,
    expected: &str,
    steps: &Steps,
) -> Result<T, DatasetError> {
    Ok(serde_json::from_slice(&read_bytes(path, steps)?).map_err(|error| {
        Fault::new(format!("line {}", error.line()), expected, error.to_string())
            .advise(DOWNLOAD_AGAIN)
            .in_file(path)
    })?)
}

/// Classes of nodes; −1 for nodes that the map leaves out.
fn labels(path: &Path, nodes: usize, steps: &Steps) -> Result<Vec<i64>, DatasetError> {
    let map: HashMap<String, Value> = parse(path, "an object from node numbers to classes", steps)?;
    let mut labels = filled("labels", nodes, -1i64).map_err(|fault| fault.in_file(path))?;
    for (key, value) in map {
        let wrong = |expected: &str, found: String| {
            let key: String = key.chars().take(40).collect();
            Fault::new(format!("node {key:?}"), expected, found)
                .advise("use a data set with one class a node; several labels a node are not supported")
                .in_file(path)
        };
        let slot = key.parse().ok().and_then(|node: usize| labels.get_mut(node));
        let Some(slot) = slot else {
            return Err(wrong(&format!("a node number in 0..{nodes}"), "another one".into()).into());
        };
        *slot = match value.as_i64() {
            Some(class) if class >= -1 => class,
            _ => {
                let shown: String = value.to_string().chars().take(40).collect();
                return Err(wrong("one class number", shown).into());
            }
        };
    }
    Ok(labels)
}

fn split(path: &Path, nodes: usize, steps: &Steps) -> Result<Split, DatasetError> {
    let mut roles: HashMap<String, Vec<i64>> = parse(path, "an object with lists tr, va and te", steps)?;
    let mut part = |name: &str| {
        let list = roles.remove(name).unwrap_or_default();
        check::split_part(name, &list, nodes).map_err(|fault| fault.in_file(path))
    };
    Ok(Split { train: part("tr")?, val: part("va")?, test: part("te")?, seed: None })
}

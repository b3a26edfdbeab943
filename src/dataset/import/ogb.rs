//! Node-property folders of the Open Graph Benchmark (Hu et al. 2020), as ogbn-arxiv and
//! ogbn-products are published: gzipped CSV files.

use std::collections::BTreeMap;
use std::path::Path;

use super::begin_reading;
use super::csv_folder::{Table, find, label, read_features, read_nodes};
use super::edges::undirected;
use crate::dataset::error::DatasetError;
use crate::dataset::{Dataset, Features, Split, check};
use crate::progress::Steps;
use crate::storage::{Fault, io_error};

/// Imports `raw/{edge,node-feat,node-label,num-node-list}.csv.gz` and each `split/<name>/`
/// `{train,valid,test}.csv.gz`. Directed edges (ogbn-arxiv) are symmetrised, duplicates and self
/// loops dropped, and splits keep their names.
///
/// # Errors
/// A file that is missing, cut off, or does not fit the others.
pub fn import(folder: &Path, name: &str, steps: &Steps) -> Result<Dataset, DatasetError> {
    let raw = folder.join("raw");
    // The lists of splits are short.
    begin_reading(
        steps,
        ["node-feat.csv", "node-label.csv", "edge.csv"].iter().filter_map(|file| find(&raw, file)),
    );
    let features = read_features(Table::open(&raw, "node-feat.csv", steps)?)?;
    let nodes = features.nrows();
    agree(&raw, nodes, steps)?;

    let mut table = Table::open(&raw, "node-label.csv", steps)?;
    let mut labels = Vec::new();
    while let Some(record) = table.next()? {
        if record.len() != 1 || labels.len() >= nodes {
            return Err(table.fault(
                Fault::new(
                    table.place(),
                    format!("{nodes} rows with one class each"),
                    "more rows or columns",
                )
                .advise("use a data set with one class a node; several labels a node are not supported"),
            ));
        }
        labels.push(label(&table, 0)?);
    }
    let classes = labels.iter().copied().max().unwrap_or(-1).saturating_add(1);
    let in_folder = |fault: Fault| fault.in_file(folder);
    let classes = check::sizes(nodes, features.ncols(), classes).map_err(in_folder)?;

    let mut table = Table::open(&raw, "edge.csv", steps)?;
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    while table.next()?.is_some() {
        pairs.push((table.field(0, "a node number")?, table.field(1, "a node number")?));
    }
    let adjacency = undirected("edges", nodes, pairs).map_err(|fault| table.fault(fault))?;

    let data = Dataset {
        name: name.to_string(),
        num_classes: classes,
        adjacency,
        features: Features::Dense(features),
        labels,
        splits: splits(&folder.join("split"), nodes, steps)?,
    };
    data.check().map_err(in_folder)?;
    Ok(data)
}

/// One graph, of the number of nodes that the folder declares.
fn agree(raw: &Path, nodes: usize, steps: &Steps) -> Result<(), DatasetError> {
    let mut table = Table::open(raw, "num-node-list.csv", steps)?;
    let mut graphs = 0;
    while table.next()?.is_some() {
        let declared: usize = table.field(0, "a number of nodes")?;
        graphs += 1;
        if graphs > 1 || declared != nodes {
            return Err(table.fault(
                Fault::new(
                    table.place(),
                    format!("one graph of {nodes} nodes, the rows of node-feat.csv"),
                    format!("graph {graphs} of {declared} nodes"),
                )
                .advise("use a node-property data set of one graph (ogbn-…), completely downloaded"),
            ));
        }
    }
    Ok(())
}

fn splits(folder: &Path, nodes: usize, steps: &Steps) -> Result<BTreeMap<String, Split>, DatasetError> {
    let mut splits = BTreeMap::new();
    let entries = std::fs::read_dir(folder).map_err(io_error(folder, "list the folder"))?;
    for entry in entries {
        let path = entry.map_err(io_error(folder, "list the folder"))?.path();
        if !path.is_dir() {
            continue;
        }
        let part = |name: &str| read_nodes(Table::open(&path, name, steps)?, nodes);
        let split =
            Split { train: part("train.csv")?, val: part("valid.csv")?, test: part("test.csv")?, seed: None };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        splits.insert(name.unwrap_or_default(), split);
    }
    Ok(splits)
}

//! A folder of plain CSV files, for graphs of one's own: `edges.csv`, `features.csv`, `labels.csv`
//! and perhaps `splits.csv`.

use std::collections::BTreeMap;
use std::path::Path;

use super::begin_reading;
use super::csv_folder::{Table, find, label, read_features};
use super::edges::weighted;
use crate::dataset::error::DatasetError;
use crate::dataset::split::standard_splits;
use crate::dataset::{Dataset, Features, Split, check};
use crate::progress::Steps;
use crate::storage::{Fault, filled};

/// Imports a folder. Each file may be gzipped (`.gz`) and may start with a row of column names.
///
/// - `edges.csv`: `source,target[,weight]`, nodes numbered from 0. Unless `directed`, both
///   directions are stored; of repeated edges the largest weight counts; self loops are dropped.
/// - `features.csv`: a row a node, in order, a number a column.
/// - `labels.csv`: a row a node, in order, its class from 0; −1, `nan` or nothing if unknown.
/// - `splits.csv`: `node,part` with part `train`, `val` or `test`; becomes split `public`. Without
///   it ten standard splits are drawn.
///
/// # Errors
/// A file that is missing, has a field that is no number, or does not fit the others.
pub fn import(folder: &Path, name: &str, directed: bool, steps: &Steps) -> Result<Dataset, DatasetError> {
    let files = ["features.csv", "labels.csv", "edges.csv", "splits.csv"];
    begin_reading(steps, files.iter().filter_map(|file| find(folder, file)));
    let features = read_features(Table::open(folder, "features.csv", steps)?.skip_header()?)?;
    let nodes = features.nrows();

    let mut table = Table::open(folder, "labels.csv", steps)?.skip_header()?;
    let mut labels = Vec::new();
    while table.next()?.is_some() {
        labels.push(label(&table, 0)?);
    }
    let classes = labels.iter().copied().max().unwrap_or(-1).saturating_add(1);
    let in_folder = |fault: Fault| fault.in_file(folder);
    let classes = check::sizes(nodes, features.ncols(), classes).map_err(in_folder)?;
    check::labels(&labels, nodes, classes).map_err(|fault| table.fault(fault))?;

    let mut table = Table::open(folder, "edges.csv", steps)?.skip_header()?;
    let mut edges: Vec<(u32, u32, f32)> = Vec::new();
    while let Some(record) = table.next()? {
        let has_weight = record.len() > 2;
        let weight = if has_weight { table.field(2, "a weight")? } else { 1.0 };
        edges.push((table.field(0, "a node number")?, table.field(1, "a node number")?, weight));
    }
    let adjacency =
        weighted("edges", nodes, edges.iter().copied(), directed).map_err(|fault| table.fault(fault))?;

    let splits = if find(folder, "splits.csv").is_some() {
        let split = read_split(Table::open(folder, "splits.csv", steps)?.skip_header()?, nodes)?;
        BTreeMap::from([("public".to_string(), split)])
    } else {
        standard_splits(&labels, classes)
    };
    let data = Dataset {
        name: name.to_string(),
        num_classes: classes,
        adjacency,
        features: Features::Dense(features),
        labels,
        splits,
    };
    data.check().map_err(in_folder)?;
    Ok(data)
}

fn read_split(mut table: Table, nodes: usize) -> Result<Split, DatasetError> {
    let mut split = Split::default();
    let mut seen = filled("splits", nodes, false).map_err(|fault| fault.in_file(table.path()))?;
    while table.next()?.is_some() {
        let node: usize = table.field(0, "a node number")?;
        let part: String = table.field(1, "train, val or test")?;
        let list = match part.as_str() {
            "train" => &mut split.train,
            "val" | "valid" | "validation" => &mut split.val,
            "test" => &mut split.test,
            _ => {
                return Err(table.fault(
                    Fault::new(
                        table.place(),
                        "train, val or test",
                        format!("{:?}", part.chars().take(40).collect::<String>()),
                    )
                    .advise("correct the file"),
                ));
            }
        };
        match seen.get_mut(node) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                return Err(table.fault(
                    Fault::new(
                        table.place(),
                        format!("each node of 0..{nodes} once at most"),
                        node.to_string(),
                    )
                    .advise("correct the file"),
                ));
            }
        }
        list.push(node);
    }
    Ok(split)
}

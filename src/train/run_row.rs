//! `run.csv`: a run in one row, with every setting and every result, to be put below the rows of other runs.

use std::io;
use std::path::Path;

use csv::StringRecord;
use serde_json::Value;

use super::output::Summary;
use super::problem::Problem;
use crate::settings::RawSettings;
use crate::storage::read_small;

/// Parts of a phase that have a column.
const OF_PHASES: [&str; 2] = ["avg", "max"];
/// Far above what a row takes.
const LARGEST_ROW: u64 = 64 << 20;

/// Names and values: what the summary says, sizes of the data, and every setting under `config.`. The names are the same
/// for every run; what a run does not have is empty.
pub(super) fn run_row(summary: &Summary, problem: &Problem, settings: &RawSettings) -> Vec<(String, String)> {
    let mut columns = Vec::new();
    let value = serde_json::to_value(summary).unwrap_or_default();
    flatten("", &value, &mut columns);
    columns.retain(|(name, _)| match name.strip_prefix("phases.") {
        Some(rest) => OF_PHASES.iter().any(|part| rest.ends_with(&format!(".{part}"))),
        // A table of its own, which not every run has.
        None => name != "by_rank",
    });
    let [train, val, test] = problem.sizes();
    let sizes = [
        ("graph_nodes", problem.graph_nodes),
        ("features", problem.features),
        ("classes", problem.classes),
        ("training_nodes", train),
        ("validation_nodes", val),
        ("test_nodes", test),
    ];
    columns.extend(sizes.map(|(name, size)| (name.to_owned(), size.to_string())));
    flatten("config", &serde_json::to_value(settings).unwrap_or_default(), &mut columns);
    columns
}

/// A `run.csv` read back.
#[derive(Debug, Clone, Default)]
pub struct RunRow {
    /// The names of its columns.
    pub names: StringRecord,
    values: StringRecord,
}

impl RunRow {
    /// Reads a file, of which nothing is expected but a head; all values are absent where no row follows it.
    ///
    /// # Errors
    /// The file cannot be read, is above 64 MiB, or is no table.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = read_small(path, LARGEST_ROW)?;
        let mut table = csv::Reader::from_reader(&text[..]);
        let names = table.headers()?.clone();
        let values = table.records().next().transpose()?.unwrap_or_default();
        Ok(Self { names, values })
    }

    /// The value of a column; an earlier version of the program may lack one, or have another.
    pub fn value(&self, name: &str) -> Option<&str> {
        let place = self.names.iter().position(|known| known == name)?;
        self.values.get(place)
    }
}

/// Appends every number and text below `value`, under its path.
fn flatten(path: &str, value: &Value, columns: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, columns);
            }
            return;
        }
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        other => plain(other),
    };
    columns.push((path.to_owned(), text));
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

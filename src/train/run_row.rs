//! `run.csv`: a run in one row, with every setting and every result, to be put below the rows of other runs.

use serde_json::Value;

use super::output::Summary;
use super::problem::Problem;
use crate::settings::RawSettings;

/// Parts of a phase that have a column.
const OF_PHASES: [&str; 2] = ["avg", "max"];

/// Names and values: what the summary says, sizes of the data, and every setting under `config.`. The names are the same
/// for every run; what a run does not have is empty.
pub fn run_row(summary: &Summary, problem: &Problem, settings: &RawSettings) -> Vec<(String, String)> {
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

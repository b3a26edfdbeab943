//! What a data set looks like at a glance, and what deserves a warning.

use std::borrow::Cow;
use std::fmt;

use super::check::absent_classes;
use super::{Dataset, Features, SparseMatrix};

/// Figures of a checked data set, as `dataset check` prints them.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Short name.
    pub name: String,
    /// Number of nodes N.
    pub nodes: usize,
    /// Pairs of joined nodes; in a directed graph, stored edges.
    pub edges: usize,
    /// Whether some edge is not stored in both directions.
    pub directed: bool,
    /// Whether some weight differs from 1.
    pub weighted: bool,
    /// Number of features d.
    pub features: usize,
    /// Whether the features are stored in compressed rows.
    pub sparse: bool,
    /// Number of features that are not 0, over all nodes.
    pub nonzero_features: usize,
    /// Number of classes C.
    pub classes: usize,
    /// Number of nodes of each class.
    pub class_counts: Vec<usize>,
    /// Nodes with label −1.
    pub unlabelled: usize,
    /// Nodes without any edge, in or out.
    pub isolated: usize,
    /// Share of edges whose ends have the same class, among edges with both ends labelled;
    /// `None` without such edges.
    pub homophily: Option<f64>,
    /// Each split's name and its numbers of train, val and test nodes.
    pub splits: Vec<(String, [usize; 3])>,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Counts everything in a data set that keeps the rules of the format.
    pub fn of(data: &Dataset) -> Summary {
        // What training sees: an edge of weight 0 is no edge.
        let adjacency = &without_zeros(&data.adjacency);
        let nodes = adjacency.rows();
        let directed = !is_symmetric(adjacency, false);
        let mut warnings = Vec::new();
        if directed {
            warnings.push(
                "the graph is directed: some edges are stored in one direction only; features then \
                 flow along stored edges alone"
                    .to_string(),
            );
        } else if !is_symmetric(adjacency, true) {
            warnings.push("some edges weigh differently in their two directions".to_string());
        }
        if adjacency.nnz() == 0 {
            warnings.push("the graph has no edges: hops add nothing to the features".to_string());
        }
        let zeros = data.adjacency.nnz() - adjacency.nnz();
        if zeros > 0 {
            warnings.push(format!("{zeros} stored edges have weight 0 and are no edges"));
        }
        let negative = adjacency.data().iter().filter(|&&weight| weight < 0.0).count();
        if negative > 0 {
            warnings.push(format!("{negative} stored edges have a negative weight"));
        }
        let mut class_counts = vec![0; data.num_classes];
        let mut unlabelled = 0;
        for &label in &data.labels {
            match usize::try_from(label).ok().and_then(|class| class_counts.get_mut(class)) {
                Some(count) => *count += 1,
                None => unlabelled += 1,
            }
        }
        let mut splits = Vec::new();
        for (name, split) in &data.splits {
            splits.push((name.clone(), [split.train.len(), split.val.len(), split.test.len()]));
            let absent = |nodes: &[usize]| absent_classes(&data.labels, data.num_classes, nodes);
            let missing = absent(&split.train);
            if !missing.is_empty() {
                warnings.push(format!("split {name}: no training node of class {}", shortened(&missing)));
            }
            let missing = absent(&split.val);
            if missing.len() == data.num_classes {
                warnings.push(format!(
                    "split {name}: no validation node has a label, so there is no validation accuracy to choose by"
                ));
            } else if !missing.is_empty() {
                warnings.push(format!("split {name}: no validation node of class {}", shortened(&missing)));
            }
            let unknown = |part: &[usize]| part.iter().filter(|&&n| data.labels.get(n) == Some(&-1)).count();
            let unknown = unknown(&split.val) + unknown(&split.test);
            if unknown > 0 {
                warnings.push(format!(
                    "split {name}: {unknown} validation or test nodes have no label and do not count"
                ));
            }
        }
        let (sparse, nonzero_features) = match &data.features {
            Features::Dense(h) => (false, h.iter().filter(|&&value| value != 0.0).count()),
            Features::Sparse(h) => (true, h.data().iter().filter(|&&value| value != 0.0).count()),
        };
        Summary {
            name: data.name.clone(),
            nodes,
            edges: if directed { adjacency.nnz() } else { adjacency.nnz() / 2 },
            directed,
            weighted: adjacency.data().iter().any(|&weight| weight != 1.0),
            features: data.features.dimension(),
            sparse,
            nonzero_features,
            classes: data.num_classes,
            class_counts,
            unlabelled,
            isolated: isolated(adjacency),
            homophily: homophily(adjacency, &data.labels),
            splits,
            warnings,
        }
    }

    /// Share of features that are not 0.
    pub fn density(&self) -> f64 {
        self.nonzero_features as f64 / (self.nodes as f64 * self.features as f64)
    }
}

/// The same matrix with no entry of value 0.
fn without_zeros(matrix: &SparseMatrix) -> Cow<'_, SparseMatrix> {
    if !matrix.data().contains(&0.0) {
        return Cow::Borrowed(matrix);
    }
    let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in matrix.outer_iterator() {
        let kept = row.indices().iter().zip(row.data()).filter(|(_, value)| **value != 0.0);
        kept.for_each(|(&column, &value)| {
            columns.push(column);
            values.push(value);
        });
        starts.push(columns.len());
    }
    // Rows that were sorted stay so.
    SparseMatrix::try_new(matrix.shape(), starts, columns, values).map_or(Cow::Borrowed(matrix), Cow::Owned)
}

/// Whether the matrix equals its transpose, in structure and, if asked, in values.
fn is_symmetric(matrix: &SparseMatrix, values: bool) -> bool {
    let transpose = matrix.transpose_view().to_csr();
    matrix.indptr() == transpose.indptr()
        && matrix.indices() == transpose.indices()
        && (!values || matrix.data() == transpose.data())
}

fn isolated(matrix: &SparseMatrix) -> usize {
    let mut joined = vec![false; matrix.rows()];
    for (row, neighbours) in matrix.outer_iterator().enumerate() {
        for &node in neighbours.indices() {
            for end in [row, node as usize] {
                if let Some(flag) = joined.get_mut(end) {
                    *flag = true;
                }
            }
        }
    }
    joined.iter().filter(|&&flag| !flag).count()
}

fn homophily(matrix: &SparseMatrix, labels: &[i64]) -> Option<f64> {
    let (mut same, mut all) = (0usize, 0usize);
    for (row, neighbours) in matrix.outer_iterator().enumerate() {
        let Some(&own) = labels.get(row).filter(|&&label| label >= 0) else {
            continue;
        };
        for &node in neighbours.indices() {
            if let Some(&other) = labels.get(node as usize).filter(|&&label| label >= 0) {
                all += 1;
                same += usize::from(own == other);
            }
        }
    }
    (all > 0).then(|| same as f64 / all as f64)
}

/// The first few numbers of a list, and how many more there are.
fn shortened(numbers: &[usize]) -> String {
    const SHOWN: usize = 10;
    let mut text = numbers.iter().take(SHOWN).map(usize::to_string).collect::<Vec<_>>().join(", ");
    if numbers.len() > SHOWN {
        text.push_str(&format!(" and {} more", numbers.len() - SHOWN));
    }
    text
}

/// Puts a comma between groups of three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<18} {value}");
        row("name", self.name.clone())?;
        row("nodes", grouped(self.nodes))?;
        let kind = if self.directed { "directed" } else { "undirected" };
        let weights = if self.weighted { ", weighted" } else { "" };
        row("edges", format!("{} ({kind}{weights})", grouped(self.edges)))?;
        row("isolated nodes", grouped(self.isolated))?;
        let homophily = self.homophily.map_or("unknown".to_string(), |h| format!("{h:.4}"));
        row("edge homophily", homophily)?;
        let storage = if self.sparse { "sparse" } else { "dense" };
        row("features", format!("{} ({storage})", grouped(self.features)))?;
        let density = format!("{} (density {:.6})", grouped(self.nonzero_features), self.density());
        row("non-zero features", density)?;
        row("classes", grouped(self.classes))?;
        let counts: Vec<String> = self.class_counts.iter().take(20).map(|&n| grouped(n)).collect();
        let more = if self.class_counts.len() > 20 { " …" } else { "" };
        row("nodes of each", format!("{}{more}", counts.join(" ")))?;
        row("unlabelled nodes", grouped(self.unlabelled))?;
        for (name, [train, val, test]) in &self.splits {
            let sizes =
                format!("train {} / val {} / test {}", grouped(*train), grouped(*val), grouped(*test));
            row(&format!("split {name}"), sizes)?;
        }
        for warning in &self.warnings {
            row("warning", warning.clone())?;
        }
        Ok(())
    }
}

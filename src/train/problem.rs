//! What every rank knows of the data: sizes, labels and the chosen split. Features are for the rank of layer 1.

use std::path::Path;

use super::class_weights::class_weights;
use crate::dataset::check::absent_classes;
use crate::dataset::{DatasetError, DatasetFile, split};

/// The training problem without its features.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Name of the data set.
    pub name: String,
    /// Checksum of the data set file.
    pub checksum: String,
    /// Name of the split in use.
    pub split: String,
    /// All nodes of the graph.
    pub graph_nodes: usize,
    /// d.
    pub features: usize,
    /// C.
    pub classes: usize,
    /// Training, validation and test nodes.
    pub sets: [Vec<usize>; 3],
    /// Classes of the training nodes, in their order.
    pub train_labels: Vec<usize>,
    /// Classes of training, validation and test nodes in this order; `None` where unknown.
    pub labels: Vec<Option<usize>>,
    /// What a user should know before training.
    pub warnings: Vec<String>,
}

impl Problem {
    /// Reads all but edges and features. `inspected` is the checksum that the file must have, if it is known.
    ///
    /// # Errors
    /// The file cannot be used, or has no such split.
    pub fn read(path: &Path, wanted: Option<&str>, inspected: Option<&str>) -> Result<Self, DatasetError> {
        let file = DatasetFile::open_inspected(path, inspected)?;
        let outline = file.outline()?;
        let checksum = file.checksum()?;
        let (name, chosen) = split::choose(&outline.splits, wanted)?;
        let class = |&i: &usize| outline.labels.get(i).and_then(|&label| usize::try_from(label).ok());
        let sets = [chosen.train.clone(), chosen.val.clone(), chosen.test.clone()];
        let labels: Vec<Option<usize>> = sets.iter().flatten().map(class).collect();
        // The file's check refuses training nodes of unknown class.
        let train_labels = labels.iter().take(chosen.train.len()).flatten().copied().collect();
        let mut warnings = Vec::new();
        for (part, nodes, so) in [
            ("training", &chosen.train, "it can hardly be predicted"),
            ("validation", &chosen.val, "how well it is predicted plays no part in what is chosen"),
        ] {
            let missing = absent_classes(&outline.labels, outline.header.num_classes, nodes);
            // A split whose validation nodes have no class at all is told of where it matters.
            if !missing.is_empty() && missing.len() < outline.header.num_classes {
                let list: Vec<String> = missing.iter().take(20).map(ToString::to_string).collect();
                warnings.push(format!("split {name}: no {part} node has class {}; {so}", list.join(", ")));
            }
        }
        Ok(Self {
            name: outline.header.name.clone(),
            checksum,
            split: name.to_owned(),
            graph_nodes: outline.header.nodes,
            features: outline.header.features,
            classes: outline.header.num_classes,
            sets,
            train_labels,
            labels,
            warnings,
        })
    }

    /// Sizes of the three sets.
    pub fn sizes(&self) -> [usize; 3] {
        [self.sets[0].len(), self.sets[1].len(), self.sets[2].len()]
    }

    /// ω of each class in the risk, with the exponent γ (docs/mathematics.md).
    pub fn class_weights(&self, exponent: f64) -> Vec<f64> {
        let [train, val, _] = self.sizes();
        let validated: Vec<usize> = self.labels.iter().skip(train).take(val).flatten().copied().collect();
        class_weights(&self.train_labels, &validated, self.classes, exponent)
    }

    /// Training, validation and test nodes in this order.
    pub fn evaluated_nodes(&self) -> Vec<usize> {
        self.sets.concat()
    }
}

//! What every rank knows of the data: sizes, labels and the chosen split. Features are for the rank of layer 1.

use std::path::Path;

use crate::dataset::check::classes_without_training_nodes;
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
        let missing = classes_without_training_nodes(&outline.labels, outline.header.num_classes, chosen);
        let mut warnings = Vec::new();
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().take(20).map(ToString::to_string).collect();
            warnings.push(format!(
                "split {name}: no training node has class {}; it can hardly be predicted",
                list.join(", ")
            ));
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

    /// ω, the weight of each class in the risk: (s_c / t_c)^τ with s_c its share of the validation nodes of known class, one
    /// node added to each class, t_c its share of the training nodes, and τ the `exponent`; times what makes the mean
    /// over the training nodes 1. 1 for a class without training nodes; nothing, which means 1 for all, where τ is 0 or
    /// there is no validation node of known class.
    pub fn class_weights(&self, exponent: f64) -> Vec<f64> {
        let [train, val, _] = self.sizes();
        let count = |classes: &mut dyn Iterator<Item = usize>| {
            let mut counts = vec![0.0; self.classes];
            classes.for_each(|class| counts.get_mut(class).into_iter().for_each(|count| *count += 1.0));
            counts
        };
        let known = count(&mut self.labels.iter().skip(train).take(val).flatten().copied());
        let trained = count(&mut self.train_labels.iter().copied());
        if exponent == 0.0 || known.iter().sum::<f64>() == 0.0 {
            return Vec::new();
        }
        let raw = known
            .iter()
            .zip(&trained)
            .map(|(s, &t)| if t > 0.0 { ((s + 1.0) / t).powf(exponent) } else { 1.0 });
        let mut weights: Vec<f64> = raw.collect();
        let mean =
            weights.iter().zip(&trained).map(|(w, t)| w * t).sum::<f64>() / trained.iter().sum::<f64>();
        for (weight, &t) in weights.iter_mut().zip(&trained) {
            if t > 0.0 {
                *weight /= mean;
            }
        }
        weights
    }

    /// Training, validation and test nodes in this order.
    pub fn evaluated_nodes(&self) -> Vec<usize> {
        self.sets.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(train: &[usize], val: &[Option<usize>], classes: usize) -> Problem {
        let sets = [(0..train.len()).collect(), (train.len()..train.len() + val.len()).collect(), Vec::new()];
        let labels = train.iter().copied().map(Some).chain(val.iter().copied()).collect();
        let [name, checksum, split] = ["", "", ""].map(str::to_owned);
        let (graph_nodes, train_labels, warnings) = (train.len() + val.len(), train.to_vec(), Vec::new());
        Problem {
            name,
            checksum,
            split,
            graph_nodes,
            features: 1,
            classes,
            sets,
            train_labels,
            labels,
            warnings,
        }
    }

    #[test]
    fn classes_weigh_as_much_as_their_share_of_the_validation_nodes_asks() {
        // 7 and 1 nodes of 2 and 2; unknown ones do not count.
        let mut val = vec![Some(0); 7];
        val.extend([Some(1), None, None]);
        let weights = problem(&[0, 1, 0, 1], &val, 2).class_weights(0.5);
        assert!((weights[0] / weights[1] - 2.0).abs() < 1e-14, "{weights:?}");
        assert!((weights[0] + weights[1] - 2.0).abs() < 1e-14, "{weights:?}");
        let whole = problem(&[0, 1, 1, 1], &val, 2).class_weights(1.0);
        assert!((whole[0] / whole[1] - 12.0).abs() < 1e-13, "{whole:?}");
        assert!((whole[0] + 3.0 * whole[1] - 4.0).abs() < 1e-14, "{whole:?}");
    }

    #[test]
    fn without_an_exponent_or_known_shares_all_weigh_1() {
        let val = [Some(0), Some(0), Some(2), None];
        assert!(problem(&[0, 2], &val, 3).class_weights(0.0).is_empty());
        assert!(problem(&[0, 2], &[None, None], 3).class_weights(0.5).is_empty());
        assert_eq!(problem(&[0, 2], &val, 3).class_weights(0.5)[1], 1.0);
        assert_eq!(problem(&[0, 1], &[Some(0), Some(1)], 2).class_weights(0.5), [1.0, 1.0]);
    }
}

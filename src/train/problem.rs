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

    /// ω, the weight of each class in the risk: (s_c / t_c)^γ, γ being the `exponent`, times what makes the mean over the
    /// training nodes 1. 1 for a class without training nodes; nothing, which means 1 for all, where γ is 0.
    ///
    /// t_c is the share of class c among the training nodes, s_c that among the n validation nodes of known class, drawn
    /// towards t_c as far as chance may have made them differ (James and Stein's positive part): s_c =
    /// t_c + max(0, 1 − (k − 1)/χ²)(n_c/n − t_c) with χ² = Σ_c (n_c − n t_c)²/(n t_c) over the k classes with training
    /// nodes. Weights of the raw shares of some ten nodes would fit the network to those very nodes.
    pub fn class_weights(&self, exponent: f64) -> Vec<f64> {
        if exponent == 0.0 {
            return Vec::new();
        }
        let [train, val, _] = self.sizes();
        let count = |classes: &mut dyn Iterator<Item = usize>| {
            let mut counts = vec![0.0; self.classes];
            classes.for_each(|class| counts.get_mut(class).into_iter().for_each(|count| *count += 1.0));
            counts
        };
        let trained = count(&mut self.train_labels.iter().copied());
        let validated = count(&mut self.labels.iter().skip(train).take(val).flatten().copied());
        let classes = || trained.iter().zip(&validated).filter(|(t, _)| **t > 0.0);
        let (nodes, k) = (classes().map(|(_, n)| n).sum::<f64>(), classes().count() as f64);
        let expected = |t: f64| nodes * t / train as f64;
        let chi_square: f64 = classes().map(|(&t, n)| (n - expected(t)).powi(2) / expected(t)).sum();
        // Without validation nodes it is not a number, and nothing is believed.
        let believed = if chi_square > k - 1.0 { 1.0 - (k - 1.0) / chi_square } else { 0.0 };
        let weight = |(&t, &n): (&f64, &f64)| match t > 0.0 && believed > 0.0 {
            true => (1.0 + believed * (n / expected(t) - 1.0)).powf(exponent),
            false => 1.0,
        };
        let mut weights: Vec<f64> = trained.iter().zip(&validated).map(weight).collect();
        let sum: f64 = weights.iter().zip(&trained).map(|(weight, t)| weight * t).sum();
        for (weight, t) in weights.iter_mut().zip(&trained) {
            if *t > 0.0 {
                *weight *= train as f64 / sum;
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

    /// Of 100 validation nodes of known class, `first` are of class 0, the others of class 1.
    fn validation(first: usize) -> Vec<Option<usize>> {
        let mut classes = vec![Some(1); 100];
        classes[..first].fill(Some(0));
        classes.extend([None; 7]);
        classes
    }

    #[test]
    fn classes_weigh_as_much_as_their_share_of_the_validation_nodes_asks() {
        // χ² = 16: of the distance from 50 to 70 nodes 15/16 count.
        let weights = problem(&[0, 1, 0, 1], &validation(70), 2).class_weights(0.5);
        let [high, low] = [1.0 + 0.4 * 15.0 / 16.0, 1.0 - 0.4 * 15.0 / 16.0];
        assert!((weights[0] / weights[1] - f64::sqrt(high / low)).abs() < 1e-14, "{weights:?}");
        assert!((weights[0] + weights[1] - 2.0).abs() < 1e-14, "{weights:?}");
        // 70 nodes instead of 25: χ² = 45²/25 + 45²/75 = 108.
        let whole = problem(&[0, 1, 1, 1], &validation(70), 2).class_weights(1.0);
        let [high, low] = [1.0 + 1.8 * 107.0 / 108.0, 1.0 - 0.6 * 107.0 / 108.0];
        assert!((whole[0] - high).abs() < 1e-14 && (whole[1] - low).abs() < 1e-14, "{whole:?}");
    }

    #[test]
    fn without_an_exponent_or_other_shares_all_weigh_1() {
        assert!(problem(&[0, 1], &validation(90), 2).class_weights(0.0).is_empty());
        assert_eq!(problem(&[0, 1], &[None, None], 2).class_weights(1.0), [1.0, 1.0]);
        assert_eq!(problem(&[0, 1], &validation(50), 2).class_weights(1.0), [1.0, 1.0]);
        let absent = problem(&[0, 1], &validation(90), 3).class_weights(1.0);
        assert!(absent[0] > 1.7 && absent[1] < 0.3 && absent[1] > 0.0 && absent[2] == 1.0, "{absent:?}");
    }

    #[test]
    fn what_chance_may_have_done_changes_nothing() {
        assert_eq!(problem(&[0, 1], &validation(54), 2).class_weights(1.0), [1.0, 1.0]);
        // A class of one training node and no validation node does not outweigh the others.
        let mut train = vec![0; 300];
        train.push(1);
        assert_eq!(problem(&train, &[Some(0); 10], 2).class_weights(1.0), [1.0, 1.0]);
        assert_eq!(problem(&[0, 0], &[Some(0), Some(1)], 2).class_weights(1.0), [1.0, 1.0]);
    }
}

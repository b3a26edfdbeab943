//! How many nodes of known class were predicted right.

use crate::dataset::Split;

/// Right ones among nodes of known class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Nodes predicted right.
    pub correct: usize,
    /// Nodes of known class.
    pub known: usize,
}

impl Share {
    /// From 0 to 1; `None` where no class is known.
    pub fn value(self) -> Option<f64> {
        (self.known > 0).then(|| self.correct as f64 / self.known as f64)
    }

    fn of(nodes: impl Iterator<Item = usize>, classes: &[usize], labels: &[i64]) -> Self {
        let mut share = Share::default();
        for node in nodes {
            let label = labels.get(node).and_then(|&label| usize::try_from(label).ok());
            if let (Some(label), Some(&class)) = (label, classes.get(node)) {
                share.known += 1;
                share.correct += usize::from(label == class);
            }
        }
        share
    }
}

/// Accuracies over all nodes of known class, and over the parts of a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accuracies {
    /// All nodes of known class.
    pub all: Share,
    /// Training, validation and test nodes.
    pub parts: Option<[Share; 3]>,
}

impl Accuracies {
    /// Names of [`Accuracies::parts`].
    pub const PARTS: [&'static str; 3] = ["train", "val", "test"];

    /// Of predicted classes (N) and labels (N, −1 where unknown).
    pub fn of(classes: &[usize], labels: &[i64], split: Option<&Split>) -> Self {
        let part = |nodes: &[usize]| Share::of(nodes.iter().copied(), classes, labels);
        Accuracies {
            all: Share::of(0..labels.len(), classes, labels),
            parts: split.map(|split| [&split.train, &split.val, &split.test].map(|nodes| part(nodes))),
        }
    }
}

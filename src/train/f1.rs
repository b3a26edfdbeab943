//! F1 of the test nodes, from counts by class that ranks add up at the end of a run.

use serde::{Deserialize, Serialize};

/// Nodes of known class by class: predicted right, predicted so, and being so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCounts {
    counts: Vec<[u64; 3]>,
}

/// F1 over several classes; `None` where there is nothing to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct F1 {
    /// Over all nodes alike: with one class a node it equals the accuracy.
    pub micro: Option<f64>,
    /// The mean over the classes that occur, or are predicted.
    #[serde(rename = "macro")]
    pub macro_: Option<f64>,
}

impl ClassCounts {
    /// Of no nodes.
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![[0; 3]; classes] }
    }

    /// Adds a node of class `label` that was taken for `predicted`.
    pub fn add(&mut self, label: usize, predicted: usize) {
        if let Some(class) = self.counts.get_mut(label) {
            class[0] += u64::from(label == predicted);
            class[2] += 1;
        }
        if let Some(class) = self.counts.get_mut(predicted) {
            class[1] += 1;
        }
    }

    /// All counts, to be summed over ranks; whole numbers, so that no order of summation matters.
    pub fn to_values(&self) -> Vec<f64> {
        self.counts.iter().flatten().map(|&count| count as f64).collect()
    }

    /// The inverse of [`ClassCounts::to_values`].
    pub fn from_values(values: &[f64]) -> Self {
        Self { counts: values.as_chunks::<3>().0.iter().map(|class| class.map(|x| x as u64)).collect() }
    }

    /// F1 = 2 right / (predicted + actual), over the sums of all classes and as a mean over classes.
    pub fn f1(&self) -> F1 {
        let f1 = |[right, predicted, actual]: [u64; 3]| {
            (predicted + actual > 0).then(|| 2.0 * right as f64 / (predicted + actual) as f64)
        };
        let mut total = [0; 3];
        for class in &self.counts {
            total.iter_mut().zip(class).for_each(|(total, count)| *total += count);
        }
        let each: Vec<f64> = self.counts.iter().filter_map(|class| f1(*class)).collect();
        let mean = (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64);
        F1 { micro: f1(total), macro_: mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_classes_of_which_one_never_occurs() {
        let mut counts = ClassCounts::new(4);
        for (label, predicted) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 0)] {
            counts.add(label, predicted);
        }
        let f1 = counts.f1();
        assert_eq!(f1.micro, Some(3.0 / 6.0));
        // 2·2/(4+3), 2·1/(2+2) and 0/(0+1); class 3 does not count.
        assert_eq!(f1.macro_, Some((4.0 / 7.0 + 0.5 + 0.0) / 3.0));
        assert_eq!(ClassCounts::from_values(&counts.to_values()), counts);
        assert_eq!(ClassCounts::new(3).f1(), F1::default());
    }
}

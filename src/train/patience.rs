//! When a stage ends because validation accuracy no longer rises.

/// Counts evaluations since the highest validation accuracy of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    /// The most validation nodes that were right, if there was an evaluation.
    top: Option<f64>,
    /// Evaluations since then.
    waited: usize,
}

impl Patience {
    /// Takes in an evaluation with this many validation nodes right. Whether the stage is to end: `allowed`
    /// evaluations have gone by since the last that was better than all before it. One as good is not better.
    pub fn observe(&mut self, correct: f64, allowed: Option<usize>) -> bool {
        if self.top.is_none_or(|top| correct > top) {
            self.top = Some(correct);
            self.waited = 0;
        } else {
            // A number from a checkpoint may be any.
            self.waited = self.waited.saturating_add(1);
        }
        allowed.is_some_and(|allowed| self.waited >= allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_better_accuracy_starts_the_count_anew() {
        let mut patience = Patience::default();
        let ends = [5.0, 5.0, 6.0, 6.0, 4.0, 6.0].map(|correct| patience.observe(correct, Some(3)));
        assert_eq!(ends, [false, false, false, false, false, true]);
        let mut patience = Patience::default();
        assert!(!(0..100).any(|_| patience.observe(0.0, None)));
    }
}

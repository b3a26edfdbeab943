//! How far a run is: the time that is left, by the rows of its history, and the bar on a terminal. Both are for people;
//! nothing is decided by them.

use super::output::HistoryRow;
use crate::parallel::plan::Shards;
use crate::progress::{Bar, time};
use crate::settings::Settings;

/// What is left of a run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The work of one iteration of each stage, in layers with all their nodes: that of the rank that holds the most.
    work: Vec<f64>,
    /// Iterations of a stage.
    iterations: usize,
    /// Stage, iteration of that stage and seconds of the first row that was seen of the stage under way.
    first: Option<(usize, usize, f64)>,
    /// Seconds that a layer takes in an iteration, as last measured.
    pace: Option<f64>,
    /// The last accuracy: validation, or training where there is no such.
    accuracy: Option<(&'static str, f64)>,
    bar: Option<Bar>,
}

impl Progress {
    /// With a bar, which is shown from the first row on.
    pub fn with_bar(bar: Bar) -> Self {
        Self { bar: Some(bar), ..Self::default() }
    }

    /// A run on so many ranks begins.
    pub fn begin(&mut self, settings: &Settings, ranks: usize) {
        self.work = settings.stages.iter().map(|&layers| work(layers, ranks, settings.shards)).collect();
        if self.work.is_empty() {
            self.work.push(1.0);
        }
        (self.iterations, self.first, self.pace, self.accuracy) = (settings.iterations, None, None, None);
    }

    /// Takes in a row; returns the seconds left, as soon as an iteration's time is known. Stages that end early leave
    /// less than that.
    pub fn observe(&mut self, row: &HistoryRow, of_stage: usize) -> Option<f64> {
        let work = self.work.get(row.stage.checked_sub(1)?).copied()?;
        match self.first {
            Some((stage, iteration, seconds)) if stage == row.stage && of_stage > iteration => {
                self.pace = Some((row.seconds - seconds) / (of_stage - iteration) as f64 / work);
            }
            _ => self.first = Some((row.stage, of_stage, row.seconds)),
        }
        let later: f64 = self.work[row.stage..].iter().sum();
        let iterations = self.iterations.saturating_sub(of_stage) as f64;
        let left = self.pace.map(|pace| pace * (work * iterations + later * self.iterations as f64));
        let validation = row.val_accuracy.map(|share| ("validation", share));
        let training = row.train_accuracy.map(|share| ("training", share));
        self.accuracy = validation.or(training).or(self.accuracy);
        let all = self.work.len() * self.iterations;
        if let Some(bar) = &mut self.bar {
            let place = (row.stage - 1) * self.iterations + of_stage;
            let accuracy = self.accuracy.map_or(String::new(), |(set, x)| format!(", {set} {x:.4}"));
            let text = format!("iteration {place} of {all}{accuracy}, {} left", time(left));
            bar.show(place, all, text);
        }
        left
    }

    /// Takes the bar away while `print` prints.
    pub fn aside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.aside(print),
            None => print(),
        }
    }

    /// The run has ended: the bar goes.
    pub fn end(&mut self) {
        if let Some(bar) = &mut self.bar {
            bar.end();
        }
    }
}

/// The layers of the rank that holds the most, each counted by the share of its nodes that the rank has. `auto` shares
/// out nearly evenly.
fn work(layers: usize, ranks: usize, shards: Shards) -> f64 {
    match shards {
        Shards::Auto => layers as f64 / ranks.max(1) as f64,
        Shards::Of(shards) => layers.div_ceil((ranks / shards.max(1)).max(1)) as f64 / shards.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_the_layers_of_later_stages() {
        let mut progress = Progress { work: vec![1.0, 3.0], iterations: 10, ..Progress::default() };
        let row = |stage, seconds| HistoryRow { stage, seconds, ..HistoryRow::default() };
        assert_eq!(progress.observe(&row(1, 5.0), 1), None, "one row has no duration");
        // 2 s an iteration of one layer: 7 more of them, then 10 of three layers.
        assert_eq!(progress.observe(&row(1, 9.0), 3), Some(2.0 * (7.0 + 30.0)));
        // A new stage goes by the pace of the one before until it has its own.
        assert_eq!(progress.observe(&row(2, 30.0), 1), Some(2.0 * 27.0));
        assert_eq!(progress.observe(&row(2, 33.0), 2), Some(3.0 * 8.0));
        assert_eq!(progress.observe(&row(2, 57.0), 10), Some(0.0));
        assert_eq!(progress.observe(&row(0, 1.0), 1), None, "no stage has this number");
    }

    #[test]
    fn work_is_that_of_the_fullest_rank() {
        assert_eq!(work(10, 4, Shards::Of(1)), 3.0);
        assert_eq!(work(2, 4, Shards::Of(1)), 1.0);
        assert_eq!(work(10, 4, Shards::Of(2)), 2.5);
        assert_eq!(work(2, 8, Shards::Auto), 0.25);
    }
}

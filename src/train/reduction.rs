//! What all ranks learn of an iteration, by one sum over the ranks that travels while the next iteration runs.
//!
//! Each layer has slots of its own for each shard of nodes, which only their owner fills; sums over nodes go on from shard to
//! shard in the fixed tree when the vector is taken apart. So what comes out is the same for any number of ranks and shards.

use super::evaluate::Scores;
use crate::admm::iteration::{LayerReport, Variable};
use crate::admm::residuals::LayerTerms;
use crate::linalg::ScalarSum;
use crate::linalg::elements::larger;
use crate::parallel::exchange::Traffic;

/// Slots of a layer and shard: its terms, the peaks of p and q, and the code of a variable that is not finite.
const LAYER_SLOTS: usize = LayerTerms::COUNT + 3;
/// Slots after the layers and the evaluation: whether evaluated, traffic, failed output, requests.
const SHARED_SLOTS: usize = 7 + REQUEST_SLOTS;
/// The last slots: stop requests, time that is up, checkpoints that are due.
const REQUEST_SLOTS: usize = 3;

/// What one iteration left to be known, over all layers and ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduced {
    /// Terms of each layer, in order.
    pub terms: Vec<LayerTerms>,
    /// Largest |p_l| before rounding, by layer.
    pub p_peaks: Vec<f64>,
    /// Largest |q_l| before rounding, by layer.
    pub q_peaks: Vec<f64>,
    /// Layer and variable in which a value that is not finite came up first.
    pub not_finite: Option<(usize, Variable)>,
    /// Results of the evaluation, where there was one.
    pub scores: Option<Scores>,
    /// Bytes and messages of all ranks since the start of the run.
    pub traffic: Traffic,
    /// What ranks ask of the run.
    pub requests: Requests,
    /// Whether rank 0 could not write its results.
    pub output_failed: bool,
}

/// What ranks ask of the run: to be granted by all of them after the iteration in which they learn of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Ranks that were told to stop by a signal.
    pub stops: usize,
    /// The run's time is up, by the clock of rank 0.
    pub time_is_up: bool,
    /// A checkpoint is due, by the clock of rank 0.
    pub checkpoint_is_due: bool,
}

/// What a rank adds beside the reports of its layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contribution {
    /// Scores, on the rank of layer L at an evaluation.
    pub scores: Option<Scores>,
    /// This rank's traffic.
    pub traffic: Traffic,
    /// What this rank asks: at most one stop.
    pub requests: Requests,
    /// Whether this rank could not write its results.
    pub output_failed: bool,
}

/// Where everything is in the vector: of each layer for each shard, then the scores of each shard, then what all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Layers of the stage.
    pub layers: usize,
    /// Shards of nodes.
    pub shards: usize,
}

impl Slots {
    /// Length of the vector.
    pub fn count(self) -> usize {
        self.shared() + SHARED_SLOTS
    }

    fn layer(self, l: usize, shard: usize) -> usize {
        (l * self.shards + shard) * LAYER_SLOTS
    }

    fn scores(self, shard: usize) -> usize {
        self.layer(self.layers, 0) + shard * Scores::COUNT
    }

    fn shared(self) -> usize {
        self.scores(self.shards)
    }

    /// The vector that a rank with this shard of nodes contributes; `slots` gives its memory.
    pub fn contribute(
        self,
        shard: usize,
        reports: &[LayerReport],
        own: &Contribution,
        mut slots: Vec<f64>,
    ) -> Vec<f64> {
        slots.clear();
        slots.resize(self.count(), 0.0);
        let mut fill = |at: usize, values: &mut dyn Iterator<Item = f64>| {
            slots[at..].iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
        };
        for report in reports {
            let code = Variable::ALL.iter().position(|v| Some(*v) == report.not_finite).map_or(0, |i| i + 1);
            let peaks = [report.p_peak, report.q_peak, code as f64];
            let values = &mut report.terms.to_array().into_iter().chain(peaks);
            fill(self.layer(report.index - 1, shard), values);
        }
        fill(self.scores(shard), &mut own.scores.unwrap_or_default().to_array().into_iter());
        let flag = |flag: bool| f64::from(u8::from(flag));
        let Traffic { p_bytes, q_bytes, messages, baseline_bytes, other_bytes } = own.traffic;
        // Whole numbers below 2^53: exact in any order of summation.
        let shared = [
            flag(own.scores.is_some()),
            p_bytes as f64,
            q_bytes as f64,
            messages as f64,
            baseline_bytes as f64,
            other_bytes as f64,
            flag(own.output_failed),
            own.requests.stops as f64,
            flag(own.requests.time_is_up),
            flag(own.requests.checkpoint_is_due),
        ];
        fill(self.shared(), &mut shared.into_iter());
        slots
    }

    /// The sum over all ranks, taken apart.
    pub fn take_apart(self, sums: &[f64]) -> Reduced {
        let slot = |i: usize| sums.get(i).copied().unwrap_or(f64::NAN);
        let of_shards =
            |l: usize, i: usize| (0..self.shards).map(move |shard| slot(self.layer(l, shard) + i));
        let sum = |l: usize, i: usize| match i {
            LayerTerms::DECAY => slot(self.layer(l, 0) + i),
            _ => ScalarSum::of(of_shards(l, i)),
        };
        let peak = |l: usize, i: usize| of_shards(l, LayerTerms::COUNT + i).fold(0.0, larger);
        let not_finite = Variable::ALL.iter().enumerate().find_map(|(code, &variable)| {
            let is_it = |l: &usize| of_shards(*l, LAYER_SLOTS - 1).any(|found| found == (code + 1) as f64);
            (0..self.layers).find(is_it).map(|l| (l + 1, variable))
        });
        let score = |i: usize| ScalarSum::of((0..self.shards).map(|shard| slot(self.scores(shard) + i)));
        let after = |i: usize| slot(self.shared() + i);
        Reduced {
            terms: (0..self.layers)
                .map(|l| LayerTerms::from_array(std::array::from_fn(|i| sum(l, i))))
                .collect(),
            p_peaks: (0..self.layers).map(|l| peak(l, 0)).collect(),
            q_peaks: (0..self.layers).map(|l| peak(l, 1)).collect(),
            not_finite,
            scores: (after(0) > 0.0).then(|| Scores::from_array(std::array::from_fn(score))),
            traffic: Traffic {
                p_bytes: after(1) as u64,
                q_bytes: after(2) as u64,
                messages: after(3) as u64,
                baseline_bytes: after(4) as u64,
                other_bytes: after(5) as u64,
            },
            output_failed: after(6) > 0.0,
            requests: Requests {
                stops: after(7) as usize,
                time_is_up: after(8) > 0.0,
                checkpoint_is_due: after(9) > 0.0,
            },
        }
    }
}

/// The sums without what ranks asked of a run that has been granted it.
pub fn without_requests(mut sums: Vec<f64>) -> Vec<f64> {
    let keep = sums.len().saturating_sub(REQUEST_SLOTS);
    sums.iter_mut().skip(keep).for_each(|request| *request = 0.0);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_layers_report_comes_back_wherever_they_are() {
        let report = |index: usize| LayerReport {
            index,
            terms: LayerTerms { fit: index as f64, dual: 0.1, ..LayerTerms::default() },
            p_peak: 2.0,
            q_peak: 3.0 * index as f64,
            not_finite: (index == 3).then_some(Variable::Z),
        };
        let all: Vec<LayerReport> = (1..=4).map(report).collect();
        let scores = Scores { correct: [1.0, 2.0, 3.0], loss: [0.5; 3] };
        let requests = Requests { stops: 1, time_is_up: true, checkpoint_is_due: false };
        let own = Contribution { scores: Some(scores), requests, ..Contribution::default() };
        let slots = Slots { layers: 4, shards: 1 };
        let whole = slots.contribute(0, &all, &own, Vec::new());
        let parts = [
            slots.contribute(0, &all[..1], &Contribution::default(), vec![1.0]),
            slots.contribute(0, &all[1..], &own, Vec::new()),
        ];
        let sum: Vec<f64> = parts[0].iter().zip(&parts[1]).map(|(a, b)| a + b).collect();
        assert_eq!(whole, sum);
        let reduced = slots.take_apart(&sum);
        assert_eq!(reduced.not_finite, Some((3, Variable::Z)));
        assert_eq!((reduced.scores, reduced.requests), (Some(scores), requests));
        assert_eq!(reduced.terms[3].fit, 4.0);
        assert_eq!(reduced.q_peaks, [3.0, 6.0, 9.0, 12.0]);
        assert_eq!(sum.len(), slots.count());
        let granted = slots.take_apart(&without_requests(sum));
        assert_eq!(granted, Reduced { requests: Requests::default(), ..reduced });
    }

    #[test]
    fn shards_are_added_in_the_tree_but_for_what_each_of_them_has() {
        let terms = |shard: usize| LayerTerms {
            fit: 1.0 / (3.0 + shard as f64).powi(5),
            decay: 0.25,
            ..LayerTerms::default()
        };
        let slots = Slots { layers: 1, shards: 4 };
        let mut sums = vec![0.0; slots.count()];
        for shard in 0..4 {
            let (p_peak, not_finite) = (shard as f64, (shard == 2).then_some(Variable::Q));
            let report = LayerReport { index: 1, terms: terms(shard), p_peak, q_peak: 1.0, not_finite };
            let scores = Some(Scores { correct: [1.0; 3], loss: [terms(shard).fit; 3] });
            let own = Contribution { scores, ..Contribution::default() };
            let vector = slots.contribute(shard, &[report], &own, Vec::new());
            sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        let reduced = slots.take_apart(&sums);
        let fit = ScalarSum::of((0..4).map(|shard| terms(shard).fit));
        assert_eq!((reduced.terms[0].fit, reduced.terms[0].decay), (fit, 0.25));
        assert_eq!((reduced.p_peaks[0], reduced.q_peaks[0]), (3.0, 1.0));
        assert_eq!(reduced.not_finite, Some((1, Variable::Q)));
        assert_eq!(reduced.scores, Some(Scores { correct: [4.0; 3], loss: [fit; 3] }));
    }
}

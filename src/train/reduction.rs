//! What all ranks learn of an iteration, by one sum over the ranks that travels while the next iteration runs.
//!
//! Each layer has slots of its own, which only its owner fills, so the sum is the same for any number of ranks.

use super::evaluate::Scores;
use crate::admm::iteration::{LayerReport, Variable};
use crate::admm::residuals::LayerTerms;
use crate::parallel::exchange::Traffic;

/// Slots of a layer: its terms, the peaks of p and q, and the code of a variable that is not finite.
const LAYER_SLOTS: usize = LayerTerms::COUNT + 3;
/// Slots after the layers: evaluation, whether evaluated, traffic, failed output, requests.
const SHARED_SLOTS: usize = Scores::COUNT + 7 + REQUEST_SLOTS;
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

/// The vector that a rank contributes. Its length depends on the number of layers alone.
pub fn contribute(
    layers: usize,
    reports: &[LayerReport],
    own: &Contribution,
    mut slots: Vec<f64>,
) -> Vec<f64> {
    slots.clear();
    slots.resize(len(layers), 0.0);
    for report in reports {
        let at = (report.index - 1) * LAYER_SLOTS;
        let code = Variable::ALL.iter().position(|v| Some(*v) == report.not_finite).map_or(0, |i| i + 1);
        let values = report.terms.to_array().into_iter().chain([report.p_peak, report.q_peak, code as f64]);
        slots[at..at + LAYER_SLOTS].iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
    }
    let flag = |flag: bool| f64::from(u8::from(flag));
    let Traffic { p_bytes, q_bytes, messages, baseline_bytes, other_bytes } = own.traffic;
    // Whole numbers below 2^53: exact in any order of summation.
    let shared = own.scores.unwrap_or_default().to_array().into_iter().chain([
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
    ]);
    slots[layers * LAYER_SLOTS..].iter_mut().zip(shared).for_each(|(slot, value)| *slot = value);
    slots
}

/// Length of the vector for this many layers.
pub fn len(layers: usize) -> usize {
    layers * LAYER_SLOTS + SHARED_SLOTS
}

/// The sums without what ranks asked of a run that has been granted it.
pub fn without_requests(mut sums: Vec<f64>) -> Vec<f64> {
    let keep = sums.len().saturating_sub(REQUEST_SLOTS);
    sums.iter_mut().skip(keep).for_each(|request| *request = 0.0);
    sums
}

/// The sum over all ranks, taken apart.
pub fn take_apart(layers: usize, sums: &[f64]) -> Reduced {
    let slot = |i: usize| sums.get(i).copied().unwrap_or(f64::NAN);
    let layer = |l: usize, i: usize| slot(l * LAYER_SLOTS + i);
    let not_finite = Variable::ALL.iter().enumerate().find_map(|(code, &variable)| {
        let is_it = |l: &usize| layer(*l, LAYER_SLOTS - 1) == (code + 1) as f64;
        (0..layers).find(is_it).map(|l| (l + 1, variable))
    });
    let shared = |i: usize| slot(layers * LAYER_SLOTS + i);
    let after = |i: usize| shared(Scores::COUNT + i);
    let scores = Scores::from_array(std::array::from_fn(shared));
    Reduced {
        terms: (0..layers).map(|l| LayerTerms::from_array(std::array::from_fn(|i| layer(l, i)))).collect(),
        p_peaks: (0..layers).map(|l| layer(l, LayerTerms::COUNT)).collect(),
        q_peaks: (0..layers).map(|l| layer(l, LayerTerms::COUNT + 1)).collect(),
        not_finite,
        scores: (after(0) > 0.0).then_some(scores),
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
        let whole = contribute(4, &all, &own, Vec::new());
        let parts = [
            contribute(4, &all[..1], &Contribution::default(), vec![1.0]),
            contribute(4, &all[1..], &own, Vec::new()),
        ];
        let sum: Vec<f64> = parts[0].iter().zip(&parts[1]).map(|(a, b)| a + b).collect();
        assert_eq!(whole, sum);
        let reduced = take_apart(4, &sum);
        assert_eq!(reduced.not_finite, Some((3, Variable::Z)));
        assert_eq!((reduced.scores, reduced.requests), (Some(scores), requests));
        assert_eq!(reduced.terms[3].fit, 4.0);
        assert_eq!(reduced.q_peaks, [3.0, 6.0, 9.0, 12.0]);
        assert_eq!(sum.len(), len(4));
        let granted = take_apart(4, &without_requests(sum));
        assert_eq!(granted, Reduced { requests: Requests::default(), ..reduced });
    }
}

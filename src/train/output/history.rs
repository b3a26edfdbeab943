//! The rows of history.csv, and those that a run which goes on keeps.

use std::io::{self, BufRead, Read};

use serde::Serialize;

use crate::train::evaluate::Scores;

/// Far above what the columns of a history take.
const LONGEST_ROW: u64 = 1 << 16;

/// One row of `history.csv`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HistoryRow {
    /// Stage, from 1.
    pub stage: usize,
    /// Layers of the stage.
    pub layers: usize,
    /// Iteration over all stages, from 1.
    pub iteration: u64,
    /// Problem 2.
    pub objective: f64,
    /// Augmented Lagrangian.
    pub lagrangian: f64,
    /// sqrt(Σ‖p − q‖²).
    pub primal_residual: f64,
    /// ρ sqrt(Σ‖q − q_old‖²).
    pub dual_residual: f64,
    /// ρ.
    pub rho: f64,
    /// ν.
    pub nu: f64,
    /// R(z_L; y), a node.
    pub risk: f64,
    /// Cross-entropy of the forward pass over the training nodes, a node.
    pub train_loss: Option<f64>,
    /// The same over the validation nodes.
    pub val_loss: Option<f64>,
    /// Accuracy over the training nodes.
    pub train_accuracy: Option<f64>,
    /// Accuracy over the validation nodes.
    pub val_accuracy: Option<f64>,
    /// Accuracy over the test nodes.
    pub test_accuracy: Option<f64>,
    /// Bytes of p since the start, over all ranks.
    pub bytes_p: u64,
    /// Bytes of q since the start.
    pub bytes_q: u64,
    /// 12 bytes an element of every boundary between ranks, since the start.
    pub bytes_baseline: u64,
    /// Messages of p and q since the start.
    pub messages: u64,
    /// Seconds since training started, on rank 0.
    pub seconds: f64,
}

impl HistoryRow {
    /// Fills in the columns of an evaluation, given the number of nodes of known class in each set.
    pub fn set_scores(&mut self, scores: &Scores, known: [usize; 3]) {
        let share = |set: usize, x: f64| (known[set] > 0).then(|| x / known[set] as f64);
        self.train_loss = share(0, scores.loss[0]);
        self.val_loss = share(1, scores.loss[1]);
        self.train_accuracy = share(0, scores.correct[0]);
        self.val_accuracy = share(1, scores.correct[1]);
        self.test_accuracy = share(2, scores.correct[2]);
    }
}

/// The head and the rows of a history up to the row of iteration `before`, which may be cut off itself. Iterations rise, and
/// lines are short: whatever the file holds, no more than such a history is kept.
pub(super) fn rows_before(mut history: impl BufRead, before: u64) -> io::Result<Vec<u8>> {
    let (mut kept, mut line, mut last) = (Vec::new(), Vec::new(), None);
    loop {
        line.clear();
        history.by_ref().take(LONGEST_ROW).read_until(b'\n', &mut line)?;
        let iteration = || {
            let field = line.split(|&byte| byte == b',').nth(2)?;
            std::str::from_utf8(field).ok()?.parse::<u64>().ok()
        };
        let number = if last.is_none() { Some(0) } else { iteration() };
        if !line.ends_with(b"\n") || number.is_none() || number <= last || number >= Some(before.max(1)) {
            return Ok(kept);
        }
        kept.extend_from_slice(&line);
        last = number;
    }
}

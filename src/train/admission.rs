//! Whether a run fits into the memory of its hosts: asked before anything but labels and splits is read.

use super::error::SetUpError;
use super::memory::PROCESS;
use super::problem::Problem;
use crate::backprop::{Layout, Rule};
use crate::parallel::memory::available_bytes;
use crate::parallel::{Communicator, Host};
use crate::settings::Settings;

/// Refuses ranks whose `peaks` (bytes, by rank) do not fit together into the memory of this rank's host. Where the
/// system does not tell how much there is, all are welcome.
pub(super) fn admit(
    communicator: &dyn Communicator,
    hosts: &[Host],
    peaks: &[u64],
) -> Result<(), SetUpError> {
    let rank = communicator.rank();
    let Some(host) = hosts.iter().find(|host| host.ranks.contains(&rank)) else { return Ok(()) };
    let needed = host
        .ranks
        .iter()
        .filter_map(|&rank| peaks.get(rank))
        .fold(0, |sum: u64, &peak| sum.saturating_add(peak));
    match available_bytes() {
        Some(available) if needed > available => {
            Err(SetUpError::Memory { host: host.name.clone(), ranks: host.ranks.len(), needed, available })
        }
        _ => Ok(()),
    }
}

/// The most memory that each rank needs under backpropagation, in bytes: parameters, their gradient with the tree that
/// adds it up, on rank 0 what the rule and the best evaluation keep; and features.
pub(super) fn backprop_peaks(settings: &Settings, problem: &Problem, ranks: usize) -> Vec<u64> {
    let inputs = settings.operators.count() * problem.features;
    let layout = Layout::new(inputs, settings.neurons, problem.classes, settings.layers);
    let (parameters, size) = (layout.len() as f64, settings.precision.wire().size() as f64);
    // Edges and raw features are most of the file.
    let raw = std::fs::metadata(&settings.data).map_or(0, |file| file.len());
    let nodes: usize = problem.sizes().iter().sum();
    let features = nodes as f64 / ranks as f64 * inputs as f64 + raw as f64 / size;
    let of_rule = match settings.method.rule() {
        Some(Rule::Adam | Rule::Adadelta) => 2.0,
        Some(Rule::Adagrad) => 1.0,
        Some(Rule::Gd) | None => 0.0,
    };
    let of = |rank: usize| {
        let at_root = if rank == 0 { of_rule + 1.0 } else { 0.0 };
        (size * (parameters * (4.0 + at_root) + features)) as u64
    };
    (0..ranks).map(|rank| of(rank).saturating_add(PROCESS)).collect()
}

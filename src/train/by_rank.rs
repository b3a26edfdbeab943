//! What an iteration cost each rank, for studies of scaling and predictions of time: `by_rank` of the summary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::admm::iteration::RankState;
use crate::linalg::Real;
use crate::parallel::{CommError, Communicator, WaitPolicy, gather_to_root, processors};
use crate::timing::{BusyTotals, Part, Phase};

/// Seconds of an iteration by part; see [`Part`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PartSeconds {
    /// Until q of the layer below is needed.
    pub begin: f64,
    /// From there until p is on its way down.
    pub p: f64,
    /// From there until p of the layer above is needed.
    pub middle: f64,
    /// From there until q is on its way up.
    pub q: f64,
    /// From there to the next iteration.
    pub end: f64,
}

impl PartSeconds {
    /// All of them.
    pub fn sum(&self) -> f64 {
        let Self { begin, p, middle, q, end } = self;
        begin + p + middle + q + end
    }
}

/// A mean iteration of the last stage on one rank: the first two and those with an evaluation are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankCost {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Processors of the host that are online; 0 where the system does not tell.
    pub processors: usize,
    /// Its first and its last layer; none where it waited out the stage.
    pub layers: Option<[usize; 2]>,
    /// Training nodes that it held.
    pub nodes: usize,
    /// Iterations measured.
    pub iterations: u64,
    /// Wall seconds.
    pub seconds: f64,
    /// Of which it waited for others.
    pub waited: f64,
    /// Processor seconds of its own thread by part, waiting left out.
    pub busy: PartSeconds,
    /// The same by phase, waiting included (testing for messages takes a processor).
    pub phases: BTreeMap<Phase, f64>,
    /// Bytes of p that it sent down.
    pub bytes_p: f64,
    /// Bytes of q that it sent up.
    pub bytes_q: f64,
}

impl RankCost {
    /// Of one rank, from what its clock has measured.
    pub(super) fn of<T: Real>(
        communicator: &dyn Communicator,
        totals: &BusyTotals,
        network: &RankState<T>,
    ) -> Self {
        let each = |total: f64| total / totals.iterations.max(1) as f64;
        let part = |part: Part| each(totals.parts[part as usize]);
        let layers = &network.layers;
        Self {
            rank: communicator.rank(),
            host: communicator.host_name(),
            processors: processors::online().unwrap_or(0),
            layers: layers.first().zip(layers.last()).map(|(first, last)| [first.index, last.index]),
            nodes: layers.first().map_or(0, |layer| layer.block_nodes().sum()),
            iterations: totals.iterations,
            seconds: each(totals.seconds),
            waited: each(totals.waited),
            busy: PartSeconds {
                begin: part(Part::Begin),
                p: part(Part::P),
                middle: part(Part::Middle),
                q: part(Part::Q),
                end: part(Part::End),
            },
            phases: Phase::ALL
                .into_iter()
                .zip(totals.phases)
                .filter(|(_, seconds)| *seconds > 0.0)
                .map(|(phase, seconds)| (phase, each(seconds)))
                .collect(),
            bytes_p: each(totals.bytes[0] as f64),
            bytes_q: each(totals.bytes[1] as f64),
        }
    }
}

/// Gathers what iterations cost on rank 0, in the order of ranks; nothing where nobody has measured.
///
/// # Errors
/// The communication failed.
pub(super) fn gather_costs(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    own: Option<RankCost>,
) -> Result<Vec<RankCost>, CommError> {
    let bytes = own.map_or(Vec::new(), |own| serde_json::to_vec(&own).unwrap_or_default());
    let gathered = gather_to_root(communicator, policy, "costs of an iteration", bytes)?;
    Ok(gathered.into_iter().flatten().filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect())
}

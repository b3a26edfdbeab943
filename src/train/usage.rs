//! What a run used: the time of each phase over all ranks, and memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::parallel::memory::peak_bytes;
use crate::parallel::{CommError, Communicator, WaitPolicy, gather_to_root};
use crate::timing::{Phase, PhaseTotal};

/// A phase over all ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// Seconds of the rank that spent least in it.
    pub min: f64,
    /// Mean seconds of a rank.
    pub avg: f64,
    /// Seconds of the rank that spent most in it.
    pub max: f64,
    /// The mean over the mean time of all phases.
    pub share: f64,
    /// The most over the mean: 1 where all ranks spent the same.
    pub imbalance: f64,
    /// Floating point operations of the products made in it, in 10⁹ a second of a rank; `None` where there are none.
    pub gflops: Option<f64>,
}

/// Resident memory, where the operating system tells it; 0 elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySummary {
    /// The most that any rank has held, in bytes.
    pub peak: u64,
    /// The same, summed over ranks.
    pub peak_sum: u64,
}

/// What a run used since this process started it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Machines.
    pub hosts: usize,
    /// All phases.
    pub phases: BTreeMap<Phase, PhaseSummary>,
    /// Memory.
    pub memory: MemorySummary,
}

/// What one rank used: its phases in order, and its peak memory.
struct RankUsage {
    phases: [PhaseTotal; Phase::COUNT],
    memory: u64,
    host: String,
}

/// Bytes of a phase in a message: seconds and operations.
const PHASE_BYTES: usize = 16;

impl RankUsage {
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.phases.iter().flat_map(|total| [total.time.as_secs_f64(), total.operations]);
        let mut bytes: Vec<u8> = numbers.flat_map(f64::to_le_bytes).collect();
        bytes.extend(self.memory.to_le_bytes());
        bytes.extend(self.host.as_bytes());
        bytes
    }
}

/// Gathers what all ranks used on rank 0; the others get an empty [`Usage`]. What follows is in no phase.
///
/// # Errors
/// The communication failed.
pub(super) fn gather_usage(communicator: &dyn Communicator, policy: &WaitPolicy) -> Result<Usage, CommError> {
    let own = RankUsage {
        phases: policy.clock().totals(),
        memory: peak_bytes().unwrap_or(0),
        host: communicator.host_name(),
    };
    let gathered = gather_to_root(communicator, policy, "phases", own.to_bytes())?;
    Ok(gathered.map_or_else(Usage::default, |ranks| Usage::of(&ranks)))
}

impl Usage {
    /// From the bytes of all ranks.
    fn of(ranks: &[Vec<u8>]) -> Self {
        let number = |rank: &[u8], at: usize| {
            rank.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 8])
        };
        let (mut usage, mut hosts) = (Usage::default(), BTreeSet::new());
        let count = ranks.len().max(1) as f64;
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            let of = |rank: &Vec<u8>| f64::from_le_bytes(number(rank, PHASE_BYTES * i));
            let sum: f64 = ranks.iter().map(of).sum();
            let operations: f64 =
                ranks.iter().map(|rank| f64::from_le_bytes(number(rank, PHASE_BYTES * i + 8))).sum();
            let (avg, max) = (sum / count, ranks.iter().map(of).fold(0.0, f64::max));
            usage.phases.insert(
                phase,
                PhaseSummary {
                    min: ranks.iter().map(of).fold(f64::INFINITY, f64::min),
                    avg,
                    max,
                    share: 0.0,
                    imbalance: if avg > 0.0 { max / avg } else { 1.0 },
                    gflops: (operations > 0.0 && sum > 0.0).then_some(operations / sum / 1e9),
                },
            );
        }
        let all: f64 = usage.phases.values().map(|phase| phase.avg).sum();
        usage.phases.values_mut().for_each(|phase| phase.share = phase.avg / all);
        for rank in ranks {
            let memory = u64::from_le_bytes(number(rank, PHASE_BYTES * Phase::COUNT));
            usage.memory.peak = usage.memory.peak.max(memory);
            usage.memory.peak_sum += memory;
            hosts.insert(rank.get(PHASE_BYTES * Phase::COUNT + 8..).unwrap_or_default());
        }
        usage.hosts = hosts.len();
        usage
    }
}

/// The table of a run's end, a line a phase that any rank was in, with its head.
pub(super) fn table(phases: &BTreeMap<Phase, PhaseSummary>) -> Vec<String> {
    let head = format!(
        "{:<10} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8}",
        "phase", "min s", "avg s", "max s", "share", "max/avg", "GFLOP/s"
    );
    let lines = phases.iter().filter(|(_, of)| of.max > 0.0).map(|(phase, of)| {
        format!(
            "{:<10} {:>9.3} {:>9.3} {:>9.3} {:>6.1}% {:>8.2} {:>8}",
            phase.name(),
            of.min,
            of.avg,
            of.max,
            100.0 * of.share,
            of.imbalance,
            of.gflops.map_or("-".to_owned(), |rate| format!("{rate:.1}"))
        )
    });
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ranks_are_compared() {
        let rank = |seconds: u64, memory: u64, host: &str| {
            let mut phases = [PhaseTotal::default(); Phase::COUNT];
            phases[Phase::P as usize].time = Duration::from_secs(seconds);
            phases[Phase::P as usize].operations = 4e9;
            phases[Phase::Wait as usize].time = Duration::from_secs(4 - seconds);
            RankUsage { phases, memory, host: host.to_owned() }.to_bytes()
        };
        let usage = Usage::of(&[rank(3, 10, "a"), rank(1, 30, "b"), rank(2, 20, "a")]);
        let p = usage.phases[&Phase::P];
        assert_eq!((p.min, p.avg, p.max, p.share, p.imbalance), (1.0, 2.0, 3.0, 0.5, 1.5));
        assert_eq!(p.gflops, Some(2.0));
        assert_eq!(usage.phases[&Phase::Wait].gflops, None);
        assert_eq!((usage.memory.peak, usage.memory.peak_sum, usage.hosts), (30, 60, 2));
        let share: f64 = usage.phases.values().map(|phase| phase.share).sum();
        assert!((share - 1.0).abs() < 1e-12);
        let table = table(&usage.phases);
        assert_eq!(table.len(), 3);
        assert_eq!(table[1].split_whitespace().collect::<Vec<_>>()[..4], ["p", "1.000", "2.000", "3.000"]);
    }
}

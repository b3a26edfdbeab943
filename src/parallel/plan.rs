//! Who holds which layers: a pure function of the stage, the number of ranks and the number of shards.

use std::ops::RangeInclusive;

use thiserror::Error;

/// The shape of a problem at one stage, as far as costs depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageShape {
    /// L, the number of layers of this stage.
    pub layers: usize,
    /// Neurons of a hidden layer.
    pub neurons: usize,
    /// C, the number of classes.
    pub classes: usize,
    /// n_0 = K d, the number of augmented features.
    pub inputs: usize,
    /// N, the number of training nodes.
    pub nodes: usize,
    /// Nodes that an evaluation goes over.
    pub evaluated: usize,
    /// Iterations from one evaluation to the next.
    pub evaluate_every: usize,
}

/// Floating point operations that an element-wise pass over one element of a layer is worth.
const ELEMENT_COST: f64 = 150.0;

impl StageShape {
    /// n_l, the width of layer l's output (n_0 for l = 0).
    pub fn width(&self, l: usize) -> usize {
        match l {
            0 => self.inputs,
            l if l == self.layers => self.classes,
            _ => self.neurons,
        }
    }

    /// Estimated floating point operations of layer l (from 1) for an iteration.
    ///
    /// A hidden layer takes four products of N n_l n_{l−1}; layer 1 has no p to update and lives in min(N, n_0)
    /// dimensions; every layer takes one product of an evaluation in `evaluate_every` iterations.
    pub fn cost(&self, l: usize) -> f64 {
        let (inputs, outputs) = (self.width(l - 1) as f64, self.width(l) as f64);
        let (nodes, evaluated) =
            (self.nodes as f64, self.evaluated as f64 / self.evaluate_every.max(1) as f64);
        let (inputs, products) = if l == 1 { (inputs.min(nodes), 2.0) } else { (inputs, 4.0) };
        2.0 * inputs * outputs * (products * nodes + evaluated) + ELEMENT_COST * nodes * outputs
    }
}

/// One shard: every rank that holds a layer holds all of its nodes.
pub const ONE_SHARD: usize = 1;

/// The layers and the shard of nodes of each rank for one stage.
///
/// The ranks form a grid of runs of layers × shards of nodes: rank = run · shards + shard. The ranks of one run
/// hold the same layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    layers: usize,
    shards: usize,
    runs: Vec<Option<RangeInclusive<usize>>>,
}

/// A number of ranks that a run cannot use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// More ranks than the last stage has layers.
    #[error(
        "{ranks} ranks are more than the {layers} layers of the network: start at most {layers} \
         (mpirun -n {layers}), or train a deeper network (--layers {ranks})"
    )]
    TooManyRanks {
        /// Ranks started.
        ranks: usize,
        /// Layers of the last stage.
        layers: usize,
    },
}

/// Contiguous runs of layers over the ranks so that the dearest rank costs least.
///
/// Rank 0 always holds layer 1. In a stage with fewer layers than ranks the highest ranks hold nothing.
/// `shards` (at least 1) shares the nodes of each layer between that many ranks.
pub fn plan(stage: &StageShape, ranks: usize, shards: usize) -> Plan {
    let layers = stage.layers;
    let shards = shards.max(1);
    let columns = (ranks / shards).max(1);
    let parts = columns.clamp(1, layers.max(1));
    let mut before = vec![0.0];
    (1..=layers).for_each(|l| before.push(before[l - 1] + stage.cost(l)));
    // best[r][l]: least possible cost of the dearest of r ranks that hold layers 1..=l; cut[r][l]: where the last
    // of them starts. Ties go to the earlier cut, so that the plan is the same everywhere.
    let mut best = vec![vec![f64::INFINITY; layers + 1]; parts + 1];
    let mut cut = vec![vec![0; layers + 1]; parts + 1];
    best[0][0] = 0.0;
    for r in 1..=parts {
        for l in r..=layers {
            for start in r - 1..l {
                let dearest = best[r - 1][start].max(before[l] - before[start]);
                if dearest < best[r][l] {
                    best[r][l] = dearest;
                    cut[r][l] = start;
                }
            }
        }
    }
    let mut runs = vec![None; columns];
    let mut end = layers;
    for r in (1..=parts).rev() {
        let start = cut[r][end];
        runs[r - 1] = Some(start + 1..=end);
        end = start;
    }
    Plan { layers, shards, runs }
}

/// Checks that the last stage has a layer for every rank.
///
/// # Errors
/// [`PlanError::TooManyRanks`].
pub fn check_ranks(layers: usize, ranks: usize) -> Result<(), PlanError> {
    if ranks > layers { Err(PlanError::TooManyRanks { ranks, layers }) } else { Ok(()) }
}

impl Plan {
    /// L of this stage.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The layers of a rank, none where it waits out the stage.
    pub fn layers_of(&self, rank: usize) -> Option<RangeInclusive<usize>> {
        self.runs.get(rank / self.shards).cloned().flatten()
    }

    /// The shard of nodes of a rank.
    pub fn shard_of(&self, rank: usize) -> usize {
        rank % self.shards
    }

    /// The blocks of nodes of a shard, of `blocks` in all: aligned runs, each a node of the tree of sums where
    /// both numbers are powers of two.
    pub fn blocks_of(&self, shard: usize, blocks: usize) -> std::ops::Range<usize> {
        shard * blocks / self.shards..(shard + 1) * blocks / self.shards
    }

    /// The rank that holds layer l for the first shard of nodes.
    pub fn owner(&self, l: usize) -> usize {
        self.shards
            * self.runs.iter().position(|run| run.as_ref().is_some_and(|run| run.contains(&l))).unwrap_or(0)
    }

    /// Ranks that hold layers.
    pub fn working_ranks(&self) -> usize {
        self.shards * self.runs.iter().flatten().count()
    }

    /// Boundaries between layers on different ranks, by the layer below.
    pub fn cut_boundaries(&self) -> Vec<usize> {
        (1..self.layers).filter(|&l| self.owner(l) != self.owner(l + 1)).collect()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, run) in self.runs.iter().enumerate() {
            let gap = if i > 0 { " | " } else { "" };
            match run {
                None => write!(f, "{gap}-")?,
                Some(run) if run.start() == run.end() => write!(f, "{gap}{}", run.start())?,
                Some(run) => write!(f, "{gap}{}-{}", run.start(), run.end())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(layers: usize, inputs: usize, nodes: usize) -> StageShape {
        StageShape { layers, neurons: 100, classes: 7, inputs, nodes, evaluated: 1640, evaluate_every: 1 }
    }

    proptest! {
        #[test]
        fn every_layer_has_one_owner_and_runs_are_contiguous(
            layers in 1usize..20, ranks in 1usize..24, inputs in 1usize..6000, nodes in 1usize..3000,
        ) {
            let plan = plan(&shape(layers, inputs, nodes), ranks, ONE_SHARD);
            prop_assert_eq!(plan.working_ranks(), ranks.min(layers));
            let mut next = 1;
            for rank in 0..plan.working_ranks() {
                let Some(run) = plan.layers_of(rank) else { return Err(TestCaseError::fail("no layers")) };
                prop_assert_eq!(*run.start(), next);
                prop_assert!(run.end() >= run.start());
                next = run.end() + 1;
            }
            prop_assert_eq!(next, layers + 1);
        }

        #[test]
        fn no_other_cut_is_cheaper(layers in 2usize..12, nodes in 1usize..2000) {
            let stage = shape(layers, 5732, nodes);
            let costs: Vec<f64> = (1..=layers).map(|l| stage.cost(l)).collect();
            let dearest = |cut: usize| {
                let lower: f64 = costs[..cut].iter().sum();
                lower.max(costs[cut..].iter().sum())
            };
            let ours = *plan(&stage, 2, ONE_SHARD).layers_of(0).unwrap_or(1..=1).end();
            prop_assert!((1..layers).all(|cut| dearest(ours) <= dearest(cut) * (1.0 + 1e-12)));
        }
    }

    #[test]
    fn shards_of_a_run_hold_the_same_layers_and_all_blocks_once() {
        let plan = plan(&shape(10, 5732, 3000), 8, 4);
        assert_eq!(plan.layers_of(0), plan.layers_of(3));
        assert_eq!((plan.owner(1), plan.owner(10), plan.working_ranks()), (0, 4, 8));
        let blocks: Vec<usize> = (0..4).flat_map(|rank| plan.blocks_of(plan.shard_of(rank), 8)).collect();
        assert_eq!(blocks, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn more_ranks_than_layers_are_refused_with_advice() {
        assert_eq!(check_ranks(10, 10), Ok(()));
        let message = check_ranks(10, 11).map_err(|e| e.to_string());
        assert!(message.is_err_and(|m| m.contains("mpirun -n 10") && m.contains("--layers 11")));
    }
}

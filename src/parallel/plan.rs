//! Who holds which layers: a pure function of the stage, the number of ranks and the number of shards.

use std::ops::{Range, RangeInclusive};

use serde::{Deserialize, Serialize};
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

/// Into how many shards the nodes of each layer are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ShardsInFile", into = "String")]
pub enum Shards {
    /// The number that makes the dearest rank of a stage cheapest, by [`StageShape::cost`].
    Auto,
    /// This many, a power of two.
    Of(usize),
}

impl Default for Shards {
    fn default() -> Self {
        Shards::Of(1)
    }
}

impl std::str::FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            _ if text == "auto" => Ok(Shards::Auto),
            Ok(shards) if shards.is_power_of_two() && shards <= MOST_SHARDS => Ok(Shards::Of(shards)),
            _ => Err(format!("'auto' or a power of two up to {MOST_SHARDS} is needed, not '{text}'")),
        }
    }
}

impl std::fmt::Display for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shards::Auto => f.write_str("auto"),
            Shards::Of(shards) => write!(f, "{shards}"),
        }
    }
}

/// A number or a word, both of which a file may have.
#[derive(Deserialize)]
#[serde(untagged)]
enum ShardsInFile {
    Number(u64),
    Word(String),
}

impl TryFrom<ShardsInFile> for Shards {
    type Error = String;

    fn try_from(found: ShardsInFile) -> Result<Self, String> {
        match found {
            ShardsInFile::Number(number) => number.to_string().parse(),
            ShardsInFile::Word(word) => word.parse(),
        }
    }
}

impl From<Shards> for String {
    fn from(shards: Shards) -> String {
        shards.to_string()
    }
}

/// Far above any use.
const MOST_SHARDS: usize = 1 << 16;

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

/// Ranks or shards that a run cannot use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// More ranks than the last stage has layers.
    #[error(
        "{ranks} ranks are more than the {layers} layers of the network: start at most {layers} \
         (mpirun -n {layers}), train a deeper network (--layers {ranks}), or share the nodes of each layer between \
         ranks too (--shards auto)"
    )]
    TooManyRanks {
        /// Ranks started.
        ranks: usize,
        /// Layers of the last stage.
        layers: usize,
    },
    /// More ranks than the last stage has layers and shards.
    #[error(
        "{ranks} ranks are more than {layers} layers in {shards} shards can use: start at most {most} (mpirun -n {most})"
    )]
    TooManyRanksForShards {
        /// Ranks started.
        ranks: usize,
        /// Layers of the last stage.
        layers: usize,
        /// Shards.
        shards: usize,
        /// The most ranks that can be used.
        most: usize,
    },
    /// Shards that ranks do not fill.
    #[error(
        "--shards {shards} needs a multiple of {shards} ranks, not {ranks}: start mpirun -n {more}, or use --shards auto"
    )]
    RanksDoNotFillShards {
        /// Ranks started.
        ranks: usize,
        /// Shards asked for.
        shards: usize,
        /// The next multiple.
        more: usize,
    },
    /// Shards without nodes.
    #[error(
        "--shards {shards}: the {nodes} training nodes make {blocks} block(s), enough for {most} shard(s); use \
         --shards {most}, or smaller blocks (--block-nodes), which change the rounding of sums"
    )]
    TooFewBlocks {
        /// Shards asked for.
        shards: usize,
        /// Training nodes.
        nodes: usize,
        /// Their blocks.
        blocks: usize,
        /// The most shards that can be filled.
        most: usize,
    },
}

/// The blocks of a shard, of `blocks` in all: an aligned run, so that a shard's own sum is a node of the tree of sums.
pub fn blocks_of(shard: usize, shards: usize, blocks: usize) -> Range<usize> {
    let each = (blocks.max(1).next_power_of_two() / shards.max(1)).max(1);
    let end = |shard: usize| (shard * each).min(blocks);
    end(shard)..end(shard + 1)
}

/// The most shards, a power of two, that all have blocks.
fn most_shards(blocks: usize) -> usize {
    let mut shards = blocks.max(1).next_power_of_two();
    while blocks_of(shards - 1, shards, blocks).is_empty() && shards > 1 {
        shards /= 2;
    }
    shards
}

/// Into how many shards each stage goes, given what was asked for. With [`Shards::Auto`] the number never grows from
/// stage to stage, so that the features stay with ranks that have them. Depends on shapes alone.
///
/// # Errors
/// Ranks and shards that do not fit together.
pub fn shards_of_stages(
    stages: &[StageShape],
    ranks: usize,
    asked: Shards,
    blocks: usize,
) -> Result<Vec<usize>, PlanError> {
    let (layers, nodes) = stages.last().map_or((1, 0), |stage| (stage.layers, stage.nodes));
    let most = most_shards(blocks);
    match asked {
        Shards::Of(1) if ranks > layers => Err(PlanError::TooManyRanks { ranks, layers }),
        Shards::Of(shards) if shards > most => Err(PlanError::TooFewBlocks { shards, nodes, blocks, most }),
        Shards::Of(shards) if !ranks.is_multiple_of(shards) => {
            Err(PlanError::RanksDoNotFillShards { ranks, shards, more: ranks.next_multiple_of(shards) })
        }
        Shards::Of(shards) if ranks > layers * shards => {
            Err(PlanError::TooManyRanksForShards { ranks, layers, shards, most: layers * shards })
        }
        Shards::Of(shards) => Ok(vec![shards; stages.len()]),
        Shards::Auto if ranks > layers * most => {
            Err(PlanError::TooManyRanksForShards { ranks, layers, shards: most, most: layers * most })
        }
        Shards::Auto => {
            let mut before = most;
            let best = stages.iter().map(|stage| {
                before = cheapest_shards(stage, ranks, before, blocks);
                before
            });
            Ok(best.collect())
        }
    }
}

/// The number of shards up to `most` whose dearest rank costs least; the smallest of those that are alike to 2 %.
fn cheapest_shards(stage: &StageShape, ranks: usize, most: usize, blocks: usize) -> usize {
    let candidates = (0..).map(|bit| 1 << bit).take_while(|&shards| shards <= most.min(ranks));
    let cost = |shards: usize| {
        let whole = plan(stage, ranks, shards);
        let runs = whole.runs.iter().flatten();
        let dearest = runs.map(|run| run.clone().map(|l| stage.cost(l)).sum()).fold(0.0, f64::max);
        dearest * blocks_of(0, shards, blocks).len() as f64 / blocks.max(1) as f64
    };
    let costs: Vec<(usize, f64)> = candidates.map(|shards| (shards, cost(shards))).collect();
    let least = costs.iter().fold(f64::INFINITY, |least, (_, cost)| least.min(*cost));
    costs.iter().find(|(_, cost)| *cost <= 1.02 * least).map_or(1, |(shards, _)| *shards)
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

impl Plan {
    /// L of this stage.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The layers of a rank, none where it waits out the stage.
    pub fn layers_of(&self, rank: usize) -> Option<RangeInclusive<usize>> {
        self.runs.get(rank / self.shards).cloned().flatten()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard of nodes of a rank.
    pub fn shard_of(&self, rank: usize) -> usize {
        rank % self.shards
    }

    /// The rank of shard 0 among those that hold the same layers as this one.
    pub fn first_of_group(&self, rank: usize) -> usize {
        rank - self.shard_of(rank)
    }

    /// The rank that holds layer l for this shard of nodes.
    pub fn holder(&self, l: usize, shard: usize) -> usize {
        shard
            + self.shards
                * self
                    .runs
                    .iter()
                    .position(|run| run.as_ref().is_some_and(|run| run.contains(&l)))
                    .unwrap_or(0)
    }

    /// The rank that holds layer l for the first shard of nodes.
    pub fn owner(&self, l: usize) -> usize {
        self.holder(l, 0)
    }

    /// Ranks that hold layers.
    #[cfg(test)]
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
        match self.shards {
            1 => Ok(()),
            shards => write!(f, ", each on {shards} ranks that share the nodes"),
        }
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
            let plan = plan(&shape(layers, inputs, nodes), ranks, 1);
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
            let ours = *plan(&stage, 2, 1).layers_of(0).unwrap_or(1..=1).end();
            prop_assert!((1..layers).all(|cut| dearest(ours) <= dearest(cut) * (1.0 + 1e-12)));
        }
    }

    #[test]
    fn shards_of_a_run_hold_the_same_layers_and_all_blocks_once() {
        let plan = plan(&shape(10, 5732, 3000), 8, 4);
        assert_eq!(plan.layers_of(0), plan.layers_of(3));
        assert_eq!((plan.owner(1), plan.owner(10), plan.working_ranks()), (0, 4, 8));
        let blocks: Vec<usize> = (0..4).flat_map(|rank| blocks_of(plan.shard_of(rank), 4, 8)).collect();
        assert_eq!(blocks, (0..8).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn shards_are_aligned_and_hold_all_blocks(bits in 0u32..6, blocks in 1usize..70) {
            let shards = 1usize << bits;
            let all: Vec<usize> = (0..shards).flat_map(|shard| blocks_of(shard, shards, blocks)).collect();
            if shards <= blocks.next_power_of_two() {
                prop_assert_eq!(all, (0..blocks).collect::<Vec<_>>());
                let each = blocks.next_power_of_two() / shards;
                prop_assert!((0..shards).all(|shard| blocks_of(shard, shards, blocks).len() <= each));
            }
            let most = most_shards(blocks);
            prop_assert!((0..most).all(|shard| !blocks_of(shard, most, blocks).is_empty()));
        }
    }

    #[test]
    fn ranks_and_shards_that_do_not_fit_are_refused_with_advice() {
        let stages = [2, 10].map(|layers| shape(layers, 512, 10_000));
        let of = |ranks, asked| shards_of_stages(&stages, ranks, asked, 8);
        let text = |ranks, asked| of(ranks, asked).map_err(|error| error.to_string());
        assert_eq!(of(10, Shards::Of(1)), Ok(vec![1, 1]));
        assert!(
            text(11, Shards::Of(1)).is_err_and(|m| m.contains("mpirun -n 10") && m.contains("--layers 11"))
        );
        assert!(text(6, Shards::Of(4)).is_err_and(|m| m.contains("mpirun -n 8")));
        assert!(text(16, Shards::Of(16)).is_err_and(|m| m.contains("--shards 8")));
        assert!(text(48, Shards::Of(4)).is_err_and(|m| m.contains("at most 40")));
        assert!(text(81, Shards::Auto).is_err_and(|m| m.contains("at most 80")));
    }

    #[test]
    fn a_stage_with_few_layers_uses_the_ranks_as_shards() {
        let stages = [2, 5, 10].map(|layers| shape(layers, 512, 10_000));
        let auto = |ranks| shards_of_stages(&stages, ranks, Shards::Auto, 8);
        assert_eq!(auto(1), Ok(vec![1, 1, 1]));
        let Ok(eight) = auto(8) else { unreachable!("eight ranks can be used") };
        assert!(eight[0] >= 4 && eight.windows(2).all(|pair| pair[1] <= pair[0]), "{eight:?}");
        assert_eq!(plan(&stages[0], 8, eight[0]).working_ranks(), 8);
        assert!(auto(80).is_ok_and(|shards| shards == [8, 8, 8]));
        // A graph of one block has no shards to give.
        assert_eq!(shards_of_stages(&[shape(2, 512, 100)], 2, Shards::Auto, 1), Ok(vec![1]));
    }
}

//! The nodes of a rank under backpropagation, and their augmented features.

use std::convert::Infallible;

use ndarray::{Array2, s};

use super::error::SetUpError;
use super::evaluate::EvaluatedNodes;
use super::problem::Problem;
use crate::admm::Workspace;
use crate::backprop::Layout;
use crate::backprop::network::{logits, logits_from_first};
use crate::dataset::{DatasetFile, Features as RawFeatures};
use crate::graph::{Augmentation, RenormalisedAdjacency, renormalised_adjacency};
use crate::linalg::{NodeBlocks, Real, Workers};
use crate::parallel::node_blocks::BlockOwners;
use crate::settings::Settings;

/// Nodes of a block of validation and test nodes.
const BLOCK: usize = 256;
/// Training nodes come in several blocks where each gets at least this many …
const FEWEST_NODES: usize = 64;
/// … and in at most this many blocks, as far as the numerics alone would have one.
const MOST_BLOCKS: usize = 8;
/// A multiplication of a projection takes so many times as long as one of a dense product, about.
const PROJECTION_COST: usize = 8;
/// A training node costs a forward and a backward pass beside its evaluation.
const COST_OF_TRAINING: usize = 4;

/// All blocks of nodes and their owners: first those of the training nodes, then those of the other evaluated nodes.
#[derive(Debug)]
pub(super) struct NodeShares {
    /// Blocks of training nodes.
    pub training: NodeBlocks,
    /// Who owns those.
    pub owners: BlockOwners,
    /// All blocks, for evaluation.
    pub evaluated: EvaluatedNodes,
    /// The rank of each of all blocks.
    owner: Vec<usize>,
}

impl NodeShares {
    /// Shares the nodes out over the ranks. What is added up over blocks does not depend on the ranks.
    pub fn new(problem: &Problem, block_nodes: Option<usize>, ranks: usize) -> Self {
        let [nodes, val, test] = problem.sizes();
        let training = training_blocks(nodes, block_nodes);
        let owners = BlockOwners::new(training.count(), ranks);
        let rest = NodeBlocks::new(val + test, Some(BLOCK));
        let blocks = training.clone().followed_by(&rest);
        // Ranks with few training nodes, or none, get more of the others.
        let mut owner: Vec<usize> = (0..training.count()).map(|block| owners.owner(block)).collect();
        let mut loads = vec![0; ranks];
        for (block, nodes) in training.ranges().enumerate() {
            loads[owners.owner(block)] += COST_OF_TRAINING * nodes.len();
        }
        for block in training.count()..blocks.count() {
            let least = (0..ranks).min_by_key(|&rank| loads[rank]).unwrap_or(0);
            loads[least] += blocks.range(block).len();
            owner.push(least);
        }
        let evaluated = EvaluatedNodes::in_blocks(problem.sizes(), &problem.labels, blocks);
        Self { training, owners, evaluated, owner }
    }

    /// The blocks of a rank, in order.
    pub fn of(&self, rank: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.owner.len()).filter(move |&block| self.owner[block] == rank)
    }
}

/// Blocks of `nodes` training nodes: smaller than the ADMM's where there are few nodes, so that several ranks have work.
fn training_blocks(nodes: usize, block_nodes: Option<usize>) -> NodeBlocks {
    let usual = NodeBlocks::new(nodes, block_nodes);
    if block_nodes.is_some() || usual.count() > 1 || nodes < 2 * FEWEST_NODES {
        return usual;
    }
    let blocks = (1 << (nodes / FEWEST_NODES).ilog2()).min(MOST_BLOCKS);
    NodeBlocks::new(nodes, Some(nodes.div_ceil(blocks)))
}

/// X of blocks of this rank (nodes × n_0), by block.
pub(super) type Blocks<T> = Vec<(usize, Array2<T>)>;

/// The features of a rank's nodes, in the form that suits them.
#[derive(Debug)]
pub(super) struct Input<T> {
    /// X of its training blocks.
    pub training: Blocks<T>,
    /// What evaluations take layer 1 from.
    pub evaluated: EvaluatedFeatures<T>,
}

/// How W_1 X of evaluated nodes comes about.
#[derive(Debug)]
pub(super) enum EvaluatedFeatures<T> {
    /// By a product with X of the blocks that are not trained on.
    Dense(Blocks<T>),
    /// W_1 being projected on the raw features first, and then propagated through the whole graph: without any X. For wide,
    /// sparse features. Each rank does it for itself.
    Projected { adjacency: RenormalisedAdjacency<T>, raw: RawFeatures, rows: Vec<(usize, Vec<usize>)> },
}

impl<T: Real> Input<T> {
    /// Reads the data set and augments the features of this rank's nodes.
    pub fn read(
        settings: &Settings,
        problem: &Problem,
        shares: &NodeShares,
        rank: usize,
        workers: &Workers,
    ) -> Result<Self, SetUpError> {
        // Also a rank without nodes reads the data: what is wrong with them is wrong on every number of ranks.
        let file = DatasetFile::open(&settings.data)?;
        let adjacency = renormalised_adjacency::<T>(&file.adjacency()?);
        let raw = file.features()?;
        let all = problem.evaluated_nodes();
        let nodes_of = |block: usize| &all[shares.evaluated.blocks.range(block)];
        let augment = |nodes: &[usize]| {
            Augmentation::new(&adjacency, &raw, &settings.operators, settings.feature_norm, nodes)
        };
        let read = |blocks: &[usize]| {
            let nodes: Vec<usize> = blocks.iter().flat_map(|&block| nodes_of(block).to_vec()).collect();
            let lengths = blocks.iter().map(|&block| (block, nodes_of(block).len()));
            augmented(&augment(&nodes), lengths, workers)
        };
        let (own, rest): (Vec<usize>, Vec<usize>) =
            shares.of(rank).partition(|&block| block < shares.training.count());
        let training = read(&own);
        // By the problem alone: the two ways round differently.
        let [_, val, test] = problem.sizes();
        let plan = augment(&[]);
        let is_projected = plan.project_cost().saturating_mul(PROJECTION_COST) < (val + test) * plan.width();
        let evaluated = match is_projected {
            false => EvaluatedFeatures::Dense(read(&rest)),
            true => {
                let rows = shares.of(rank).map(|block| (block, nodes_of(block).to_vec())).collect();
                EvaluatedFeatures::Projected { adjacency, raw, rows }
            }
        };
        Ok(Self { training, evaluated })
    }

    /// Hands the logits of every block of this rank to `take`.
    pub fn for_each_logits(
        &self,
        settings: &Settings,
        (layout, parameters): (&Layout, &[T]),
        workspace: &mut Workspace<T>,
        workers: &Workers,
        mut take: impl FnMut(usize, &Array2<T>),
    ) {
        match &self.evaluated {
            EvaluatedFeatures::Dense(rest) => {
                for (block, x) in self.training.iter().chain(rest) {
                    let z = logits(layout, parameters, x, workspace, workers);
                    take(*block, &z);
                    workspace.give(z);
                }
            }
            EvaluatedFeatures::Projected { rows, .. } if rows.is_empty() => {}
            EvaluatedFeatures::Projected { adjacency, raw, rows } => {
                let nodes: Vec<usize> = rows.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect();
                let plan =
                    Augmentation::new(adjacency, raw, &settings.operators, settings.feature_norm, &nodes);
                let all = plan.project(layout.layer(parameters, 1).0, workers, |_| ());
                for (block, nodes) in rows {
                    let mut first = workspace.take((nodes.len(), layout.width(1)));
                    for (mut to, &node) in first.rows_mut().into_iter().zip(nodes) {
                        to.assign(&all.row(node));
                    }
                    let z = logits_from_first(layout, parameters, first, workspace, workers);
                    take(*block, &z);
                    workspace.give(z);
                }
            }
        }
    }
}

/// X of the nodes of `augmentation`, cut into blocks of these numbers and lengths.
fn augmented<T: Real>(
    augmentation: &Augmentation<'_, T>,
    blocks: impl Iterator<Item = (usize, usize)>,
    workers: &Workers,
) -> Blocks<T> {
    let (width, d) = (augmentation.width(), augmentation.feature_count());
    let mut cut: Blocks<T> = blocks.map(|(block, nodes)| (block, Array2::zeros((nodes, width)))).collect();
    if cut.is_empty() {
        return cut;
    }
    let done: Result<(), Infallible> = augmentation.for_each_block(workers, |columns| {
        for (k, part) in columns.parts.iter().enumerate() {
            let to = k * d + columns.columns.start..k * d + columns.columns.end;
            let mut start = 0;
            for (_, x) in &mut cut {
                let rows = start..start + x.nrows();
                start = rows.end;
                x.slice_mut(s![.., to.clone()]).assign(&part.slice(s![rows, ..]));
            }
        }
        Ok(())
    });
    match done {
        Ok(()) => cut,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_training_nodes_come_in_blocks_too() {
        let counts = [1, 60, 127, 128, 140, 200, 512, 2047, 2048].map(|n| training_blocks(n, None).count());
        assert_eq!(counts, [1, 1, 1, 2, 2, 2, 8, 8, 8]);
        assert_eq!(training_blocks(140, Some(50)).count(), 3);
    }

    #[test]
    fn every_node_is_somewhere_once() {
        let problem = Problem {
            name: String::new(),
            checksum: String::new(),
            split: String::new(),
            graph_nodes: 4000,
            features: 1,
            classes: 2,
            sets: [(0..300).collect(), (300..1000).collect(), (1000..3500).collect()],
            train_labels: vec![0; 300],
            labels: vec![Some(0); 3500],
            warnings: Vec::new(),
        };
        for ranks in [1, 2, 3, 5, 40] {
            let shares = NodeShares::new(&problem, None, ranks);
            assert_eq!(shares.evaluated.blocks.nodes(), 3500);
            let mut all: Vec<usize> = (0..ranks).flat_map(|rank| shares.of(rank)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..shares.evaluated.blocks.count()).collect::<Vec<_>>());
            for rank in 0..ranks {
                let own: Vec<usize> =
                    shares.of(rank).filter(|&block| block < shares.training.count()).collect();
                assert!(own.into_iter().eq(shares.owners.run(rank)));
            }
        }
    }
}

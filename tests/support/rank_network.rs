//! A network with random weights on random inputs, after its forward pass, as a run has it on one rank.

use std::convert::Infallible;

use ndarray::{Array1, s};
use pdadmm_g::admm::deepen::{LayerWeights, random_weights};
use pdadmm_g::admm::first_layer::DualWeights;
use pdadmm_g::admm::iteration::{RankState, Targets};
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::state::FirstLayer;
use pdadmm_g::admm::{Team, Weights};
use pdadmm_g::linalg::NodeBlocks;
use pdadmm_g::parallel::plan::StageShape;
use pdadmm_g::train::stage;

/// Its sizes.
pub struct Network {
    pub layers: usize,
    pub neurons: usize,
    pub classes: usize,
    /// Layer 1 is held in N dimensions where these are more than the nodes.
    pub inputs: usize,
    pub nodes: usize,
    /// Nodes of a block, where they are not those that a run would take.
    pub block_nodes: Option<usize>,
    /// Regularisers of layer l.
    pub penalty: fn(usize) -> WeightPenalty,
}

impl Network {
    /// The state of a rank that holds all of it.
    pub fn state(&self, team: &mut Team<'_, f32>) -> RankState<f32> {
        let &Self { layers, neurons, classes, inputs, nodes, block_nodes, penalty } = self;
        let stage =
            StageShape { layers, neurons, classes, inputs, nodes, evaluated: nodes, evaluate_every: 1 };
        let blocks = NodeBlocks::new(nodes, block_nodes);
        // Features of unit size: random weights for so many inputs, scaled.
        let x = random_weights::<f32>(1, 100, nodes, inputs);
        let w = |l: usize| random_weights::<f32>(0, l, stage.width(l), stage.width(l - 1));
        let first = if nodes < inputs {
            Weights::Dual(Box::new(DualWeights::new(x, w(1), team.workers)))
        } else {
            let x = blocks.ranges().map(|rows| x.slice(s![rows, ..]).to_owned()).collect();
            Weights::First(FirstLayer { w: w(1), x, gram: None, inverse: None })
        };
        let weights = std::iter::once(first).chain((2..=layers).map(|l| Weights::Hidden(w(l))));
        let weights = (1..).zip(weights).map(|(index, weights)| LayerWeights {
            index,
            weights,
            b: Array1::zeros(stage.width(index)),
        });
        let labels = blocks.ranges().map(|rows| rows.map(|node| node * 7 % classes).collect()).collect();
        let targets = Targets { labels, ..Targets::default() };
        let mut state = stage::empty_state(weights.collect(), &stage, &blocks, penalty, Some(targets));
        let Ok(()) = stage::forward(&mut state, team, None, |_| Ok(()), |_| Ok::<(), Infallible>(()));
        state
    }
}

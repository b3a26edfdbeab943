//! Floating point operations of the products of an iteration, from shapes alone: for the rates at the end of a run,
//! and for plans of runs that have not begun.
//!
//! A product of m × k by k × n is 2 m n k operations; an inverse of n × n counts n³. Passes over elements count
//! nothing, and neither do what layer 1 keeps from iteration to iteration (its Gram matrix and its inverses) and the
//! tries of a rounded step beyond the first.

use super::w::residuals_by_nodes;
use super::{Layer, Weights};
use crate::linalg::Real;
use crate::linalg::gram::gram_operations;

/// The form that the weights of a layer are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Layers 2 to L.
    Hidden,
    /// Layer 1 with N ≥ n_0.
    First,
    /// Layer 1 in N dimensions.
    Dual,
}

/// Sizes of one layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Form of the weights.
    pub form: Form,
    /// n_l.
    pub outputs: usize,
    /// n_{l−1}; N where layer 1 is held in N dimensions.
    pub inputs: usize,
    /// Training nodes on this rank.
    pub nodes: usize,
    /// Whether these are all training nodes, in one block.
    pub one_block: bool,
}

/// What an iteration does with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// W is solved exactly.
    pub exact_w: bool,
    /// p is solved exactly, or goes to its best levels.
    pub exact_p: bool,
    /// W p is formed anew after p was rounded to what travels.
    pub refreshed: bool,
}

impl LayerShape {
    /// Of a layer whose training nodes are `all` in number over all shards.
    pub fn of<T: Real>(layer: &Layer<T>, all: usize) -> Self {
        let (form, inputs) = match &layer.weights {
            Weights::Hidden(w) => (Form::Hidden, w.ncols()),
            Weights::First(first) => (Form::First, first.w.ncols()),
            Weights::Dual(dual) => (Form::Dual, dual.gram.ncols()),
        };
        let nodes = layer.block_nodes().sum();
        let one_block = layer.blocks.len() == 1 && nodes == all;
        Self { form, outputs: layer.b.len(), inputs, nodes, one_block }
    }

    /// Of line 1, p of the boundary below.
    pub fn p(&self, ways: Ways) -> f64 {
        let (m, n, nodes) = self.sizes();
        match self.form {
            Form::Hidden if ways.exact_p => {
                2.0 * nodes * n * (m + n) + gram_operations(self.inputs, self.outputs) + n.powi(3)
            }
            Form::Hidden if ways.refreshed => 6.0 * nodes * m * n,
            Form::Hidden => 4.0 * nodes * m * n,
            Form::First | Form::Dual => 0.0,
        }
    }

    /// Of line 2, W.
    pub fn w(&self, ways: Ways) -> f64 {
        let (m, n, nodes) = self.sizes();
        let products = 4.0 * nodes * m * n;
        match self.form {
            Form::Dual if ways.exact_w => products,
            Form::Dual => products / 2.0,
            Form::Hidden if !ways.exact_w && self.step_by_nodes() => {
                products / 2.0 + gram_operations(self.nodes, self.inputs) + 2.0 * nodes * nodes * m
            }
            _ if !ways.exact_w => products,
            Form::First => products + 2.0 * m * n * n,
            // A term more where layers between have a proximal term, which is what they have by default.
            Form::Hidden if self.by_nodes() => {
                3.0 * products / 2.0
                    + gram_operations(self.nodes, self.inputs)
                    + 2.0 * nodes * nodes * m
                    + nodes.powi(3)
            }
            Form::Hidden => products + gram_operations(self.inputs, self.nodes) + 2.0 * m * n * n + n.powi(3),
        }
    }

    /// Of a forward pass over so many nodes.
    pub fn forward(&self, nodes: usize) -> f64 {
        let (m, n, _) = self.sizes();
        2.0 * nodes as f64 * m * n
    }

    /// Whether the exact W takes the N × N form.
    pub fn by_nodes(&self) -> bool {
        self.form == Form::Hidden && self.one_block && self.nodes < self.inputs
    }

    /// Whether the gradient step of W multiplies residuals with pᵀp, N × N.
    fn step_by_nodes(&self) -> bool {
        self.one_block && residuals_by_nodes(self.nodes, (self.outputs, self.inputs))
    }

    fn sizes(&self) -> (f64, f64, f64) {
        (self.outputs as f64, self.inputs as f64, self.nodes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admm::deepen::LayerWeights;
    use crate::admm::first_layer::DualWeights;
    use crate::admm::iteration::{NoNeighbours, Rules, Targets, iterate};
    use crate::admm::p_quantized::{QuantizedP, SpectralNorm};
    use crate::admm::penalties::WeightPenalty;
    use crate::admm::state::FirstLayer;
    use crate::admm::{Penalties, Subproblem, Team, Workspace};
    use crate::linalg::product::OPERATIONS;
    use crate::linalg::{NodeBlocks, Workers};
    use crate::parallel::plan::StageShape;
    use crate::quantize::{LevelSet, Wire};
    use crate::train::stage::empty_state;
    use ndarray::{Array1, Array2, s};

    const NODES: usize = 40;

    fn some(rows: usize, cols: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, cols), |(i, j)| ((i * 31 + j * 17 + 5) % 23) as f64 / 23.0 - 0.4)
    }

    /// Operations of the products of a second iteration on three layers, and what p and W of it should take.
    fn counted(
        inputs: usize,
        subproblem: Subproblem,
        levels: Option<QuantizedP>,
        wire: Option<Wire>,
    ) -> [f64; 2] {
        let stage = StageShape {
            layers: 3,
            neurons: 8,
            classes: 3,
            inputs,
            nodes: NODES,
            evaluated: NODES,
            evaluate_every: 1,
        };
        let blocks = NodeBlocks::new(NODES, Some(20));
        let (x, workers) = (some(NODES, inputs), Workers::one());
        let first = match inputs > NODES {
            true => Weights::Dual(Box::new(DualWeights::new(x, some(8, inputs), &workers))),
            false => Weights::First(FirstLayer {
                w: some(8, inputs),
                x: blocks.ranges().map(|rows| x.slice(s![rows, ..]).to_owned()).collect(),
                gram: None,
                inverse: None,
            }),
        };
        let of = |index, weights, n| LayerWeights { index, weights, b: Array1::zeros(n) };
        let weights = vec![
            of(1, first, 8),
            of(2, Weights::Hidden(some(8, 8)), 8),
            of(3, Weights::Hidden(some(3, 8)), 3),
        ];
        let labels = blocks.ranges().map(|rows| rows.map(|i| i % 3).collect()).collect();
        let penalty = |_| WeightPenalty { mu: 0.1, theta_prox: 0.0, kappa: 0.0 };
        let mut state =
            empty_state(weights, &stage, &blocks, penalty, Some(Targets { labels, ..Targets::default() }));
        let penalties = Penalties { rho: 1.0, nu: 1.0 };
        let sets = levels.map(|_| vec![LevelSet::new(-1.0, 0.25, 9).unwrap_or_else(|_| unreachable!()); 2]);
        let mut rules = Rules {
            iteration: 1,
            penalties,
            previous: None,
            subproblem,
            p_levels: sets,
            q_levels: None,
            wire,
            quantized_p: levels.unwrap_or(QuantizedP::BestLevels),
            z_tolerance: 1e-9,
        };
        let (mut workspace, mut reports) = (Workspace::new(), Vec::new());
        for iteration in 1..=2 {
            rules.iteration = iteration;
            OPERATIONS.set(0.0);
            let mut team = Team::of_one_shard(&mut workspace, &workers);
            let Ok(()) = iterate(&mut state, &rules, &mut NoNeighbours, &mut team, &mut reports);
        }
        assert!(reports.iter().all(|report| report.not_finite.is_none()));
        let exact_w = subproblem == Subproblem::Exact;
        let exact_p = exact_w && matches!(levels, None | Some(QuantizedP::BestLevels));
        let ways = Ways { exact_w, exact_p, refreshed: wire.is_some() };
        let of = |layer| {
            let shape = LayerShape::of(layer, NODES);
            // LAPACK makes the inverses.
            let inverses = |is: bool| if is { (shape.inputs as f64).powi(3) } else { 0.0 };
            match shape.form {
                Form::Hidden => {
                    shape.p(ways) + shape.w(ways) - inverses(ways.exact_p) - inverses(ways.exact_w)
                }
                _ => shape.p(ways) + shape.w(ways),
            }
        };
        [OPERATIONS.get(), state.layers.iter().map(of).sum()]
    }

    #[test]
    fn formulas_say_what_products_take() {
        for inputs in [6, 60] {
            for subproblem in [Subproblem::Gradient, Subproblem::Exact] {
                let [made, said] = counted(inputs, subproblem, None, None);
                assert_eq!(made, said, "{inputs} inputs, {subproblem:?}");
            }
            let [made, said] = counted(inputs, Subproblem::Gradient, None, Some(Wire::F16));
            assert_eq!(made, said, "{inputs} inputs, rounded to what travels");
        }
    }

    #[test]
    fn rounded_steps_take_what_formulas_say_or_little_more() {
        let power = Some(QuantizedP::GradientStep(SpectralNorm::Power));
        for (subproblem, way) in
            [(Subproblem::Gradient, power), (Subproblem::Exact, Some(QuantizedP::BestLevels))]
        {
            let [made, said] = counted(6, subproblem, way, None);
            assert!(said <= made && made <= 1.5 * said, "{subproblem:?}: {made} made, {said} said");
        }
    }
}

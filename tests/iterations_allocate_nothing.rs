//! Does an iteration allocate memory once its buffers are there? Counted by an allocator that counts.
#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2, s};
use pdadmm_g::admm::deepen::{LayerWeights, random_weights};
use pdadmm_g::admm::first_layer::DualWeights;
use pdadmm_g::admm::iteration::{NoNeighbours, Rules, iterate};
use pdadmm_g::admm::p_quantized::{QuantizedP, SpectralNorm};
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::state::FirstLayer;
use pdadmm_g::admm::{Penalties, Subproblem, Team, Weights, Workspace};
use pdadmm_g::linalg::product::arithmetic;
use pdadmm_g::linalg::{NodeBlocks, Workers};
use pdadmm_g::parallel::plan::StageShape;
use pdadmm_g::quantize::{LevelSet, Wire};
use pdadmm_g::train::stage;

const LAYERS: usize = 4;

/// How an iteration is made.
#[derive(Debug, Clone, Copy)]
struct Way {
    nodes: usize,
    block_nodes: usize,
    inputs: usize,
    neurons: usize,
    subproblem: Subproblem,
    quantized: Option<QuantizedP>,
    wire: Option<Wire>,
}

/// Bytes and calls of the third and later iterations.
fn allocated(way: Way) -> (u64, u64) {
    let workers = Workers::one();
    let mut workspace = Workspace::new();
    let blocks = NodeBlocks::new(way.nodes, Some(way.block_nodes));
    let shape = StageShape {
        layers: LAYERS,
        neurons: way.neurons,
        classes: 5,
        inputs: way.inputs,
        nodes: way.nodes,
        evaluated: way.nodes,
        evaluate_every: 1,
    };
    let x: Array2<f32> = random_weights(1, 100, way.nodes, way.inputs);
    let w = |l: usize| random_weights::<f32>(0, l, shape.width(l), shape.width(l - 1));
    let first = if way.nodes < way.inputs {
        Weights::Dual(Box::new(DualWeights::new(x, w(1), &workers)))
    } else {
        let x = blocks.ranges().map(|rows| x.slice(s![rows, ..]).to_owned()).collect();
        Weights::First(FirstLayer { w: w(1), x, gram: None, inverse: None })
    };
    let weights = std::iter::once(first).chain((2..=LAYERS).map(|l| Weights::Hidden(w(l))));
    let weights = weights.enumerate().map(|(i, weights)| LayerWeights {
        index: i + 1,
        weights,
        b: Array1::zeros(shape.width(i + 1)),
    });
    let labels = blocks.ranges().map(|rows| rows.map(|node| node % 5).collect()).collect();
    let penalty = |_| WeightPenalty { mu: 0.01, theta_prox: 0.1, kappa: 0.1 };
    let mut state = stage::empty_state(weights.collect(), &shape, &blocks, penalty, Some(labels));
    let mut team = Team::of_one_shard(&mut workspace, &workers);
    stage::forward(&mut state, &mut team, |_| Ok(()), |_| Ok::<(), std::convert::Infallible>(())).unwrap();
    let sets = way.quantized.map(|_| vec![LevelSet::new(-1.0, 0.25, 17).unwrap(); LAYERS - 1]);
    if sets.is_some() {
        stage::round_start(&mut state, sets.as_deref(), sets.as_deref(), &mut team);
    }
    let mut rules = Rules {
        iteration: 0,
        penalties: Penalties { rho: 0.01, nu: 0.01 },
        previous: None,
        subproblem: way.subproblem,
        p_levels: sets.clone(),
        q_levels: sets,
        wire: way.wire,
        quantized_p: way.quantized.unwrap_or(QuantizedP::BestLevels),
        z_tolerance: 1e-7,
    };
    let mut reports = Vec::new();
    let mut iterations = |count: usize| {
        for _ in 0..count {
            rules.iteration += 1;
            let mut team = Team::of_one_shard(&mut workspace, &workers);
            iterate(&mut state, &rules, &mut NoNeighbours, &mut team, &mut reports).unwrap();
            rules.previous = Some(rules.penalties);
        }
    };
    iterations(2);
    let counted = allocation_counter::measure(|| iterations(60));
    assert!(reports.iter().all(|report| report.not_finite.is_none()), "{way:?} diverges");
    (counted.bytes_total, counted.count_total)
}

const WAY: Way = Way {
    nodes: 60,
    block_nodes: 100,
    inputs: 20,
    neurons: 12,
    subproblem: Subproblem::Gradient,
    quantized: None,
    wire: None,
};

/// Other processors multiply by matrixmultiply, which allocates what it packs operands into.
fn products_allocate() -> bool {
    let allocate = arithmetic() != "fused products";
    if allocate {
        println!("skipped: this processor has no fused multiply-add");
    }
    allocate
}

#[test]
fn gradient_steps_allocate_nothing() {
    if products_allocate() {
        return;
    }
    let ways = [
        WAY,
        Way { block_nodes: 16, ..WAY },
        Way { inputs: 100, ..WAY },
        Way { inputs: 100, block_nodes: 16, ..WAY },
        Way { neurons: 200, ..WAY },
        Way { wire: Some(Wire::F16), ..WAY },
    ];
    for way in ways {
        assert_eq!(allocated(way), (0, 0), "{way:?}");
    }
}

#[test]
fn exact_solves_allocate_what_lapack_asks_for_and_no_more() {
    if products_allocate() {
        return;
    }
    let exact = Way { subproblem: Subproblem::Exact, ..WAY };
    let best = Way { quantized: Some(QuantizedP::BestLevels), ..exact };
    for way in [exact, Way { block_nodes: 16, ..exact }, Way { inputs: 100, ..exact }, best] {
        let (_, calls) = allocated(way);
        // An inverse for p and one for W of each layer above the first, and two lists of each in ndarray-linalg.
        let inverses = 60 * 2 * (LAYERS as u64 - 1);
        assert!(calls <= 2 * inverses, "{way:?}: {calls} allocations");
    }
}

#[test]
fn rounded_steps_allocate_nothing() {
    if products_allocate() {
        return;
    }
    let power = Some(QuantizedP::GradientStep(SpectralNorm::Power));
    let (_, calls) = allocated(Way { quantized: power, ..WAY });
    assert_eq!(calls, 0);
}

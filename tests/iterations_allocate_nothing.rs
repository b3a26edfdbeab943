//! Does an iteration allocate memory once its buffers are there? Counted by an allocator that counts.
#![allow(clippy::unwrap_used)]

use pdadmm_g::admm::iteration::{NoNeighbours, Rules, iterate};
use pdadmm_g::admm::p_quantized::{QuantizedP, SpectralNorm};
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::{Penalties, Subproblem, Team, Workspace};
use pdadmm_g::linalg::Workers;
use pdadmm_g::linalg::product::arithmetic;
use pdadmm_g::quantize::{LevelSet, Wire};
use pdadmm_g::train::stage;
use rank_network::Network;

#[path = "support/rank_network.rs"]
mod rank_network;

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
    let network = Network {
        layers: LAYERS,
        neurons: way.neurons,
        classes: 5,
        inputs: way.inputs,
        nodes: way.nodes,
        block_nodes: Some(way.block_nodes),
        penalty: |_| WeightPenalty { mu: 0.01, theta_prox: 0.1, kappa: 0.1 },
    };
    let mut team = Team::of_one_shard(&mut workspace, &workers);
    let mut state = network.state(&mut team);
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

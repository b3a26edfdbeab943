//! How long does an iteration take beside the products that it cannot do without, on one thread?
//!
//! Wide: 10 layers of 1,000 neurons, 1,000 inputs, 10 classes, 10,000 training nodes. An iteration's time is given over
//! that of L − 1 products n × n by n × N, made in between. The claim: at most 4.5 on the gradient path (four products a
//! hidden layer are the floor) and 5.5 on the exact one. Narrow: 140 training nodes and 5,732 inputs, which is layer 1 in
//! N dimensions; the claim is at most 1.5 ms an iteration with 100 neurons and 20 ms with 500.
//!
//! Times are those that this thread had of a core. Arguments choose cases: `cargo bench --bench iteration -- wide exact`.
#![allow(missing_docs)]

use std::time::Duration;

use cpu_time::ThreadTime;
use ndarray::Array2;
use pdadmm_g::admm::deepen::random_weights;
use pdadmm_g::admm::iteration::{NoNeighbours, Rules, iterate};
use pdadmm_g::admm::p_quantized::QuantizedP;
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::{Penalties, Subproblem, Team, Workspace};
use pdadmm_g::linalg::Workers;
use pdadmm_g::linalg::factor::use_one_lapack_thread;
use pdadmm_g::linalg::product::product;
use pdadmm_g::quantize::LevelSet;
use pdadmm_g::timing::{Phase, PhaseClock};
use pdadmm_g::train::stage;
use rank_network::Network;

#[path = "../tests/support/rank_network.rs"]
mod rank_network;

const LAYERS: usize = 10;

struct Case {
    words: [&'static str; 3],
    neurons: usize,
    inputs: usize,
    nodes: usize,
    subproblem: Subproblem,
    quantized: bool,
}

const fn wide(path: &'static str, subproblem: Subproblem, quantized: bool) -> Case {
    let kind = if quantized { "quantized" } else { "plain" };
    Case { words: ["wide", path, kind], neurons: 1000, inputs: 1000, nodes: 10_000, subproblem, quantized }
}

const fn narrow(path: &'static str, subproblem: Subproblem, neurons: usize) -> Case {
    let size = if neurons == 100 { "100" } else { "500" };
    Case { words: ["narrow", path, size], neurons, inputs: 5732, nodes: 140, subproblem, quantized: false }
}

const CASES: [Case; 8] = [
    wide("gradient", Subproblem::Gradient, false),
    wide("exact", Subproblem::Exact, false),
    wide("gradient", Subproblem::Gradient, true),
    wide("exact", Subproblem::Exact, true),
    narrow("gradient", Subproblem::Gradient, 100),
    narrow("exact", Subproblem::Exact, 100),
    narrow("gradient", Subproblem::Gradient, 500),
    narrow("exact", Subproblem::Exact, 500),
];

/// Weight decay at both ends, a proximal term between them.
fn penalty(l: usize) -> WeightPenalty {
    match l {
        1 | LAYERS => WeightPenalty { mu: 0.01, ..WeightPenalty::default() },
        _ => WeightPenalty { theta_prox: 0.1, ..WeightPenalty::default() },
    }
}

fn measure(case: &Case) {
    let (workers, clock) = (Workers::one(), PhaseClock::new());
    let mut workspace = Workspace::new();
    let Case { neurons, inputs, nodes, .. } = *case;
    let network = Network { layers: LAYERS, neurons, classes: 10, inputs, nodes, block_nodes: None, penalty };
    let mut state = network.state(&mut Team::of_one_shard(&mut workspace, &workers));
    let levels = LevelSet::squares(2f64.powi(-14), 256).ok().filter(|_| case.quantized);
    let sets = levels.map(|levels| vec![levels; LAYERS - 1]);
    if sets.is_some() {
        let mut team = Team::of_one_shard(&mut workspace, &workers);
        stage::round_start(&mut state, sets.as_deref(), sets.as_deref(), &mut team);
    }
    let mut rules = Rules {
        iteration: 0,
        penalties: Penalties { rho: 1e-2, nu: 1e-2 },
        previous: None,
        subproblem: case.subproblem,
        p_levels: sets.clone(),
        q_levels: sets,
        wire: None,
        quantized_p: QuantizedP::BestLevels,
        z_tolerance: 1e-7,
    };
    let (p, w) = (random_weights::<f32>(3, 1, nodes, neurons), random_weights::<f32>(3, 2, neurons, neurons));
    let mut m = Array2::zeros((nodes, neurons));
    let mut reports = Vec::new();
    let (mut iterations, mut products) = (Vec::new(), Vec::new());
    let budget = if neurons == 1000 { 5 } else { 200 };
    for warm in [true, false] {
        let before = clock.totals();
        for _ in 0..if warm { 2 } else { budget } {
            let start = ThreadTime::now();
            product(1.0, &p, &w.t(), 0.0, &mut m);
            products.push(start.elapsed());
            rules.iteration += 1;
            let mut team = Team::of_one_shard(&mut workspace, &workers).timed_by(&clock);
            let start = ThreadTime::now();
            let Ok(()) = iterate(&mut state, &rules, &mut NoNeighbours, &mut team, &mut reports);
            iterations.push(start.elapsed());
            rules.previous = Some(rules.penalties);
        }
        if warm {
            iterations.clear();
            continue;
        }
        assert!(reports.iter().all(|report| report.not_finite.is_none()), "the network has diverged");
        let (iteration, product) = (middle(&mut iterations), middle(&mut products));
        let floor = product.as_secs_f64() * (LAYERS - 1) as f64;
        print!(
            "{:<6} {:<8} {:<9} {:>9.3} ms an iteration, {:>5.2} times {} products of {:.3} ms;",
            case.words[0],
            case.words[1],
            case.words[2],
            iteration.as_secs_f64() * 1e3,
            iteration.as_secs_f64() / floor,
            LAYERS - 1,
            product.as_secs_f64() * 1e3
        );
        for (phase, (now, before)) in Phase::ALL.iter().zip(clock.totals().iter().zip(&before)) {
            let milliseconds = (now.time - before.time).as_secs_f64() * 1e3 / f64::from(budget);
            if now.entries > before.entries {
                print!(" {} {milliseconds:.2}", phase.name());
            }
        }
        println!();
    }
}

fn middle(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    use_one_lapack_thread();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for case in CASES.iter().filter(|case| wanted.iter().all(|word| case.words.contains(&word.as_str()))) {
        measure(case);
    }
}

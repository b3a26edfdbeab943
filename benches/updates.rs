//! Each update of Algorithm 1 alone, on one thread: `cargo bench --bench updates -- 'p gradient'`.
//!
//! A block of the small case (140 nodes, 100 and 500 neurons) and one of the large case (1,250 nodes, 1,000 neurons). Rates are
//! elements of z a second; what an update takes in products is in `src/admm/cost.rs`.
#![allow(missing_docs, clippy::expect_used)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use pdadmm_g::admm::deepen::random_weights;
use pdadmm_g::admm::first_layer::DualWeights;
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::{
    Boundary, BoundaryBlock, Layer, LayerBlock, Penalties, Team, Weights, Workspace, b, p, p_quantized, q, u,
    w, z, z_last,
};
use pdadmm_g::linalg::Workers;
use pdadmm_g::linalg::factor::use_one_lapack_thread;
use pdadmm_g::quantize::LevelSet;

const PENALTIES: Penalties = Penalties { rho: 1e-2, nu: 1e-2 };
const INPUTS_OF_LAYER_1: usize = 5732;
const CLASSES: usize = 10;

/// A layer of one block of nodes and the boundary below it, which has the same width.
struct Case {
    layer: Layer<f32>,
    below: Boundary<f32>,
    workspace: Workspace<f32>,
}

/// Numbers of size one.
fn numbers(seed: u64, rows: usize, cols: usize) -> Array2<f32> {
    random_weights::<f32>(seed, 1, rows, cols) * (cols as f32).sqrt()
}

impl Case {
    fn new(nodes: usize, inputs: usize, weights: Weights<f32>, outputs: usize) -> Self {
        let of = |seed| numbers(seed, nodes, inputs);
        let block = LayerBlock { m: Array2::zeros((nodes, outputs)), z: numbers(3, nodes, outputs) };
        let layer = Layer {
            index: if matches!(weights, Weights::Hidden(_)) { 2 } else { 1 },
            weights,
            b: Array1::zeros(outputs),
            penalty: WeightPenalty { mu: 0.01, theta_prox: 0.1, kappa: 0.0 },
            blocks: vec![block],
            spectral: None,
        };
        let below = Boundary { index: 1, blocks: vec![BoundaryBlock { p: of(4), q: of(5), u: of(6) }] };
        let mut case = Self { layer, below, workspace: Workspace::new() };
        let workers = Workers::one();
        let boundary = (case.layer.index > 1).then_some(&case.below);
        w::refresh(&mut case.layer, boundary, &mut Team::of_one_shard(&mut case.workspace, &workers));
        case
    }

    fn hidden(nodes: usize, neurons: usize, outputs: usize) -> Self {
        Self::new(nodes, neurons, Weights::Hidden(random_weights(0, 2, outputs, neurons)), outputs)
    }

    fn dual(nodes: usize, neurons: usize) -> Self {
        let (x, w) = (numbers(1, nodes, INPUTS_OF_LAYER_1), random_weights(0, 1, neurons, INPUTS_OF_LAYER_1));
        let dual = DualWeights::new(x, w, &Workers::one());
        Self::new(nodes, 1, Weights::Dual(Box::new(dual)), neurons)
    }
}

type Update = fn(&mut Layer<f32>, &mut Boundary<f32>, &mut Team<'_, f32>);

/// Updates of a layer above the first and of the boundary below it.
const UPDATES: [(&str, Update); 6] = [
    ("p gradient", |layer, below, team| {
        let h = p::gradient_begin(layer, team);
        let (_, left) = p::gradient_finish(layer, below, h, &PENALTIES, team);
        left.into_iter().for_each(|blocks| team.workspace.give_blocks(blocks));
    }),
    ("p exact", |layer, below, team| {
        let h = p::exact_begin(layer, team);
        p::exact_finish(layer, below, h, &PENALTIES, team).expect("positive definite");
    }),
    ("p best levels", |layer, below, team| {
        let levels = LevelSet::new(-4.0, 8.0 / 255.0, 256).expect("a level set");
        let h = p::exact_begin(layer, team);
        p_quantized::best_levels(layer, below, h, &levels, &PENALTIES, team);
    }),
    ("W gradient", |layer, below, team| {
        let step = w::gradient(layer, Some(below), None, &PENALTIES, team);
        step.sums.into_iter().for_each(|sums| team.workspace.give_blocks(sums));
    }),
    ("W exact", |layer, below, team| {
        w::exact(layer, Some(below), false, &PENALTIES, team).expect("positive definite");
    }),
    ("b", |layer, _, team| b::update(layer, layer.blocks[0].z.nrows(), None, team)),
];

fn updates(criterion: &mut Criterion) {
    use_one_lapack_thread();
    let workers = Workers::one();
    for (nodes, neurons) in [(140, 100), (140, 500), (1250, 1000)] {
        let size = format!("{nodes} x {neurons}");
        let elements = Throughput::Elements((nodes * neurons) as u64);
        let mut case = Case::hidden(nodes, neurons, neurons);
        for (name, update) in UPDATES {
            let mut group = criterion.benchmark_group(name);
            group.throughput(elements.clone());
            group.bench_function(BenchmarkId::from_parameter(&size), |bencher| {
                let Case { workspace, layer, below } = &mut case;
                // From the same point every time.
                bencher.iter_batched_ref(
                    || (layer.clone(), below.clone()),
                    |(layer, below)| {
                        update(layer, below, &mut Team::of_one_shard(workspace, &workers));
                    },
                    BatchSize::LargeInput,
                );
            });
        }
        let Case { layer, below, .. } = &case;
        let mut element_wise = |name: &str, pass: &dyn Fn(&mut LayerBlock<f32>, &mut BoundaryBlock<f32>)| {
            let mut group = criterion.benchmark_group(name);
            group.throughput(elements.clone());
            group.bench_function(BenchmarkId::from_parameter(&size), |bencher| {
                bencher.iter_batched_ref(
                    || (layer.blocks[0].clone(), below.blocks[0].clone()),
                    |(block, edge)| pass(block, edge),
                    BatchSize::LargeInput,
                );
            });
        };
        element_wise("z", &|block, edge| {
            z::update(block, &layer.b, &edge.q);
        });
        element_wise("q and u", &|block, edge| {
            q::update(&block.z, edge, &PENALTIES, None, None);
        });
        element_wise("u", &|_, edge| u::update(edge, PENALTIES.rho));
    }
    for (nodes, neurons) in [(140, 100), (140, 500)] {
        let Case { workspace, mut layer, .. } = Case::dual(nodes, neurons);
        let mut workspace = workspace;
        let mut group = criterion.benchmark_group("W gradient, layer 1 in N dimensions");
        group.bench_function(BenchmarkId::from_parameter(format!("{nodes} x {neurons}")), |bencher| {
            bencher.iter(|| {
                let mut team = Team::of_one_shard(&mut workspace, &workers);
                let step = w::gradient(&mut layer, None, None, &PENALTIES, &mut team);
                step.sums.into_iter().for_each(|sums| team.workspace.give_blocks(sums));
            });
        });
    }
    let case = Case::hidden(140, 100, CLASSES);
    let labels: Vec<usize> = (0..140).map(|node| node * 7 % CLASSES).collect();
    let mut newton = z_last::Newton::default();
    criterion.bench_function("z of the output layer/140 x 10", |bencher| {
        bencher.iter_batched_ref(
            || case.layer.blocks[0].clone(),
            |block| z_last::update(block, &case.layer.b, &labels, &[], PENALTIES.nu, 1e-7, &mut newton),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, updates);
criterion_main!(benches);

//! What a rank will hold, told from shapes before anything is loaded.
//!
//! [`estimate`] follows the program: what a rank must hold to train its layers (the state), the buffers that updates and
//! messages take, and what comes on top at the start (features on their way) or at the end (the models on rank 0). The
//! highest of these, and [`PROCESS`] for the program itself, is what it needs. Numbers are bytes in f64: sizes that no
//! machine has must not overflow.

use serde::Serialize;

use super::evaluate::EvaluatedNodes;
use super::feature_metric::{self, direction_count, sample_size};
use super::input::is_dual;
use super::problem::Problem;
use crate::admm::cost::{Form, LayerShape, Ways};
use crate::graph::column_block;
use crate::linalg::NodeBlocks;
use crate::parallel::plan::{Plan, StageShape, blocks_of, plan};
use crate::settings::{Precision, Settings};

/// What a process takes beside its data: the program, MPI, HDF5, LAPACK, and packed operands of products.
pub const PROCESS: u64 = 48 << 20;

/// The sizes of a run, as far as they are known before it.
#[derive(Debug, Clone)]
pub struct RunShape {
    /// Nodes of the graph.
    pub graph_nodes: usize,
    /// d.
    pub features: usize,
    /// C.
    pub classes: usize,
    /// Bytes of edges and raw features.
    pub raw_bytes: u64,
    /// Blocks of the training nodes.
    pub blocks: NodeBlocks,
    /// Blocks of the evaluated nodes.
    pub evaluated: NodeBlocks,
    /// Ranks.
    pub ranks: usize,
    /// Shards of each stage.
    pub shards: Vec<usize>,
}

/// Bytes of one rank in one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RankMemory {
    /// Weights, z, W p, p, q, u, the input of layer 1, the weights of the best and of the last evaluation, and what the
    /// coding of messages keeps.
    pub state: u64,
    /// Buffers of the updates and of messages.
    pub buffers: u64,
    /// The most at a time, the program included.
    pub peak: u64,
}

impl RunShape {
    /// Of a problem, whose shards are still to be settled.
    pub fn of_problem(problem: &Problem, settings: &Settings, ranks: usize) -> Self {
        Self {
            graph_nodes: problem.graph_nodes,
            features: problem.features,
            classes: problem.classes,
            // They are most of the file.
            raw_bytes: std::fs::metadata(&settings.data).map_or(0, |file| file.len()),
            blocks: NodeBlocks::new(problem.train_labels.len(), settings.block_nodes),
            evaluated: EvaluatedNodes::blocks_of(problem.labels.len()),
            ranks,
            shards: Vec::new(),
        }
    }

    /// How many directions of features layer 1's metric tells apart; 0 without one.
    fn directions(&self, settings: &Settings) -> f64 {
        match settings.method.rule().is_none() && settings.follow_covariance > 0.0 {
            true => direction_count(sample_size(self.graph_nodes), self.features) as f64,
            false => 0.0,
        }
    }

    /// A stage with so many layers.
    pub fn stage(&self, settings: &Settings, layers: usize) -> StageShape {
        let nodes = [self.blocks.nodes(), self.evaluated.nodes()];
        stage_shape(settings, layers, [self.features, self.classes], nodes)
    }

    /// The plan of stage `number`, from 0.
    pub fn plan(&self, settings: &Settings, number: usize) -> (StageShape, Plan) {
        let stage = self.stage(settings, settings.stages[number]);
        (stage, plan(&stage, self.ranks, self.shards[number]))
    }

    /// The layers of a rank in a stage, with their numbers.
    pub fn layers_of(&self, stage: &StageShape, plan: &Plan, rank: usize) -> Vec<(usize, LayerShape)> {
        let [nodes, _] = self.nodes_of(plan, rank);
        let layer = |l: usize| (l, Self::layer(stage, l, nodes, self.blocks.count()));
        plan.layers_of(rank).into_iter().flatten().map(layer).collect()
    }

    /// Layer l of a stage on a rank with so many of the training nodes, which are `blocks` blocks.
    pub fn layer(stage: &StageShape, l: usize, nodes: usize, blocks: usize) -> LayerShape {
        let (form, inputs) = match (l, is_dual(stage.nodes, stage.inputs)) {
            (1, true) => (Form::Dual, stage.nodes),
            (1, false) => (Form::First, stage.inputs),
            _ => (Form::Hidden, stage.width(l - 1)),
        };
        LayerShape { form, outputs: stage.width(l), inputs, nodes, one_block: blocks == 1 }
    }

    /// What an iteration with these settings does with a layer of a stage.
    pub fn ways(stage: &StageShape, settings: &Settings, layer: &LayerShape) -> Ways {
        let exact = settings.subproblem.is_exact(layer.inputs, stage.nodes);
        let refreshed = !settings.quantize.p() && settings.wire != settings.precision.wire();
        Ways { exact_w: exact, exact_p: exact, refreshed }
    }

    /// Training nodes and evaluated nodes of a rank.
    pub fn nodes_of(&self, plan: &Plan, rank: usize) -> [usize; 2] {
        [&self.blocks, &self.evaluated].map(|blocks| {
            let own = blocks_of(plan.shard_of(rank), plan.shards(), blocks.count());
            blocks.range_of(own).len()
        })
    }

    /// The most that each rank needs over all stages, in bytes.
    pub fn peaks(&self, settings: &Settings) -> Vec<u64> {
        let mut peaks = vec![0; self.ranks];
        for number in 0..settings.stages.len() {
            let planned = self.plan(settings, number);
            for (rank, peak) in peaks.iter_mut().enumerate() {
                *peak = estimate(self, settings, (number, &planned), rank).peak.max(*peak);
            }
        }
        peaks
    }
}

/// The shape of a stage with so many layers, for d features, C classes, and so many training and evaluated nodes.
pub fn stage_shape(
    settings: &Settings,
    layers: usize,
    [features, classes]: [usize; 2],
    [nodes, evaluated]: [usize; 2],
) -> StageShape {
    StageShape {
        layers,
        neurons: settings.neurons,
        classes,
        inputs: settings.operators.count() * features,
        nodes,
        evaluated,
        evaluate_every: settings.evaluate_every,
    }
}

/// What `rank` holds in stage `number`, from 0, of a run of the ADMM, by the stage's plan, which takes longer to make.
pub fn estimate(
    run: &RunShape,
    settings: &Settings,
    (number, planned): (usize, &(StageShape, Plan)),
    rank: usize,
) -> RankMemory {
    let (stage, plan) = planned;
    let layers = run.layers_of(stage, plan, rank);
    let size = settings.precision.wire().size() as f64;
    let mut held = Held { size, ..Held::default() };
    for (_, layer) in &layers {
        held.layer(settings, stage, layer, run.nodes_of(plan, rank)[1]);
    }
    held.boundaries(settings, stage, &layers, run.nodes_of(plan, rank));
    let blocks = blocks_of(plan.shard_of(rank), plan.shards(), run.blocks.count()).len();
    held.products(settings, stage, &layers, blocks);
    let at_start = if number == 0 { held.start(run, settings, stage, plan, rank) } else { 0.0 };
    // The directions of the metric, which the saved model is made with.
    let kept = if rank == 0 { size * run.directions(settings) * run.features as f64 } else { 0.0 };
    let at_end = if rank == 0 && number + 1 == settings.stages.len() {
        let weights = |l: usize| stage.width(l) as f64 * stage.width(l - 1) as f64;
        size * (1..=stage.layers).map(weights).sum::<f64>() + held.snapshot
    } else {
        0.0
    };
    let training = held.state + held.buffers + kept;
    let known_to_all = 8.0 * run.graph_nodes as f64 + 40.0 * run.evaluated.nodes() as f64;
    let peak = at_start.max(training + held.passing.max(at_end)) + known_to_all + PROCESS as f64;
    RankMemory { state: held.state as u64, buffers: held.buffers as u64, peak: peak as u64 }
}

/// Bytes added up.
#[derive(Default)]
struct Held {
    /// Of a number.
    size: f64,
    state: f64,
    /// Of which the input of layer 1.
    input: f64,
    /// Of which the weights of one evaluation.
    snapshot: f64,
    buffers: f64,
    /// Within one update, and given back after it.
    passing: f64,
}

impl Held {
    /// A layer's weights, W p and z.
    fn layer(&mut self, settings: &Settings, stage: &StageShape, layer: &LayerShape, evaluated: usize) {
        let (m, n, nodes) = (layer.outputs as f64, layer.inputs as f64, layer.nodes as f64);
        let (all, n0, evaluated) = (stage.nodes as f64, stage.inputs as f64, evaluated as f64);
        let exact = settings.subproblem.is_exact(layer.inputs, stage.nodes);
        let size = self.size;
        // What an evaluation keeps a copy of.
        let kept = size * m * if layer.form == Form::Dual { nodes } else { n };
        match layer.form {
            Form::Hidden => {}
            Form::First => {
                self.input = size * (nodes + evaluated) * n0;
                if exact {
                    // The Gram matrix and its inverse.
                    self.state += size * 2.0 * n0 * n0;
                }
            }
            Form::Dual => {
                self.input = size * (nodes * (n0 + all + m) + evaluated * (all + m) + m * n0);
                if exact {
                    self.state += size * nodes * all;
                    // Its inverse is made in double precision, of all rows, which come from all shards.
                    let rows = if layer.nodes < stage.nodes { size } else { 0.0 };
                    self.passing = self.passing.max((8.0 + rows) * all * all);
                }
            }
        }
        self.state += self.input_of(layer) + size * 2.0 * nodes * m + 3.0 * kept;
        self.snapshot += kept;
    }

    fn input_of(&self, layer: &LayerShape) -> f64 {
        if layer.form == Form::Hidden { 0.0 } else { self.input }
    }

    /// p, q and u, and their messages.
    fn boundaries(
        &mut self,
        settings: &Settings,
        stage: &StageShape,
        layers: &[(usize, LayerShape)],
        [nodes, evaluated]: [usize; 2],
    ) {
        let (Some((first, _)), Some((last, _))) = (layers.first(), layers.last()) else { return };
        let (nodes, evaluated) = (nodes as f64, evaluated as f64);
        for l in (first - 1).max(1)..=(*last).min(stage.layers - 1) {
            let width = stage.width(l) as f64;
            self.state += self.size * 3.0 * nodes * width;
            let (from_below, to_above) = (l + 1 == *first, l == *last);
            if from_below || to_above {
                let levels = [settings.quantize.p(), settings.quantize.q()];
                let bytes = |on_levels: bool| if on_levels { 2.0 } else { settings.wire.size() as f64 };
                // The indices that the next message is coded against, and what writes it.
                let kept = levels.iter().filter(|on_levels| **on_levels).count() as f64;
                self.state += 2.0 * kept * nodes * width;
                let messages = nodes * width * (bytes(levels[0]) + bytes(levels[1]));
                let activations = self.size * evaluated * width;
                self.buffers += messages.max(activations);
            }
        }
    }

    /// Buffers of the updates.
    fn products(
        &mut self,
        settings: &Settings,
        stage: &StageShape,
        layers: &[(usize, LayerShape)],
        blocks: usize,
    ) {
        let trees = if blocks > 1 { f64::from(blocks.next_power_of_two().ilog2()) + 2.0 } else { 1.0 };
        // Outputs of sums over nodes, each with its tree; layers of the same shape share them.
        let mut sums: Vec<(usize, usize)> = Vec::new();
        let (mut widest, mut dual) = (0.0_f64, 0.0);
        for (_, layer) in layers {
            let (m, n, nodes) = (layer.outputs as f64, layer.inputs as f64, layer.nodes as f64);
            let exact = settings.subproblem.is_exact(layer.inputs, stage.nodes);
            widest = widest.max(match layer.form {
                Form::Hidden if exact => nodes * n,
                // H, new p and new W p where p is rounded after a step; H and W g elsewhere, which leaves r for W.
                Form::Hidden if settings.quantize.p() => nodes * (2.0 * n + m),
                Form::Hidden => nodes * (n + m),
                Form::First | Form::Dual if exact => 0.0,
                Form::First | Form::Dual => nodes * m,
            });
            if layer.form == Form::Dual {
                // E and g X, or the right-hand sides; and these of all nodes where other shards have some.
                let of_all = if layer.nodes < stage.nodes { n } else { 0.0 };
                dual = m * (of_all + nodes * if exact { 1.0 } else { 2.0 });
            }
            if layer.form != Form::Dual && !layer.by_nodes() {
                sums.push((layer.outputs, layer.inputs));
            }
            if layer.form == Form::Hidden && exact {
                if !layer.by_nodes() {
                    sums.push((layer.inputs, layer.inputs));
                }
                let order = if layer.by_nodes() { nodes.max(n) } else { n };
                self.passing = self.passing.max(self.size * order * order);
            }
        }
        sums.sort_unstable();
        sums.dedup();
        let sums: f64 = sums.iter().map(|&(m, n)| (trees + 2.0) * m as f64 * n as f64).sum();
        self.buffers += self.size * (widest + dual + sums);
    }

    /// Layer 1's input in the making.
    fn start(
        &self,
        run: &RunShape,
        settings: &Settings,
        stage: &StageShape,
        plan: &Plan,
        rank: usize,
    ) -> f64 {
        let holds = plan.layers_of(rank).is_some_and(|layers| *layers.start() == 1);
        let wanted = run.evaluated.nodes();
        let building = self.input + self.features_under_way(run, settings, holds, wanted);
        let directions = run.directions(settings);
        if directions == 0.0 {
            return building;
        }
        let sampled = sample_size(run.graph_nodes);
        let finding = self.features_under_way(run, settings, holds, sampled);
        if !holds {
            return building.max(finding);
        }
        let (k, d) = (settings.operators.count() as f64, run.features as f64);
        let metric = match is_dual(stage.nodes, stage.inputs) {
            // What the evaluated nodes have along the directions, and W⁰ M.
            true => wanted as f64 * (k + 1.0) * directions + settings.neurons as f64 * k * d,
            false => {
                let blocks = run.blocks.ranges().chain(run.evaluated.ranges());
                let largest = blocks.map(|block| block.len()).max().unwrap_or(0);
                (settings.threads * largest) as f64 * directions
            }
        };
        let finding = finding + feature_metric::bytes(run.graph_nodes, run.features, self.size);
        finding.max(building + self.size * (directions * d + metric))
    }

    /// Features of so many nodes on their way to the ranks of layer 1, of which this may be one: raw rows, and blocks of
    /// columns.
    fn features_under_way(&self, run: &RunShape, settings: &Settings, holds: bool, wanted: usize) -> f64 {
        let (ranks, k) = (run.ranks as f64, settings.operators.count() as f64);
        let columns = match settings.precision {
            Precision::F32 => column_block::<f32>(run.graph_nodes, run.features),
            Precision::F64 => column_block::<f64>(run.graph_nodes, run.features),
        } as f64;
        let (nodes, wanted) = (run.graph_nodes as f64, wanted as f64);
        let own = nodes / ranks;
        let reach = if run.ranks > 1 { nodes } else { own };
        let delivered = if holds { wanted } else { 0.0 };
        // All operators' part, all of them scaled and, where operators are tied, what they have in common.
        let copies = if settings.tie_operators > 0.0 && k > 1.0 { 2.0 * k + 1.0 } else { 2.0 * k };
        let rows = reach + own + k * wanted / ranks + copies * delivered;
        self.size * columns * rows + 2.0 * run.raw_bytes as f64 / ranks
    }
}

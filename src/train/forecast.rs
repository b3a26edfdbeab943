//! What a run of the ADMM will do, told without doing it: who holds what, memory, products, bytes.

use serde::Serialize;

use super::memory::{RankMemory, RunShape, estimate};
use crate::quantize::packed_len;
use crate::settings::Settings;

/// One rank in one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankForecast {
    /// The rank.
    pub rank: usize,
    /// Its first and its last layer; none where it waits out the stage.
    pub layers: Option<[usize; 2]>,
    /// Training nodes that it holds.
    pub nodes: usize,
    /// Memory.
    pub memory: RankMemory,
    /// 10⁹ floating point operations of products in an iteration.
    pub gflop: f64,
    /// The same of an evaluation.
    pub gflop_evaluation: f64,
}

/// p and q of one boundary between ranks, in bytes an iteration, over all shards and without headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BoundaryForecast {
    /// The layer below.
    pub layer: usize,
    /// p, q and u as float32: the base line.
    pub baseline: u64,
    /// p and q as they travel; level indices packed. Coded they are smaller, by how much depends on the data.
    pub p: u64,
    /// The same of q.
    pub q: u64,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageForecast {
    /// L of this stage.
    pub layers: usize,
    /// Shards of the nodes.
    pub shards: usize,
    /// Layers by rank, as training prints them.
    pub mapping: String,
    /// The ranks.
    pub ranks: Vec<RankForecast>,
    /// Boundaries between ranks.
    pub boundaries: Vec<BoundaryForecast>,
    /// 10⁹ floating point operations of products in an iteration, over all ranks.
    pub gflop: f64,
    /// The mean over the most that any rank has to do of it: 1 where all do the same.
    pub balance: f64,
}

/// All stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Training nodes.
    pub training_nodes: usize,
    /// Nodes that an evaluation goes over.
    pub evaluated_nodes: usize,
    /// n_0.
    pub inputs: usize,
    /// C.
    pub classes: usize,
    /// The stages.
    pub stages: Vec<StageForecast>,
    /// The most memory that each rank needs over all stages, in bytes.
    pub peaks: Vec<u64>,
}

impl Forecast {
    /// Of a run of this shape.
    pub fn of(run: &RunShape, settings: &Settings) -> Self {
        Self {
            training_nodes: run.blocks.nodes(),
            evaluated_nodes: run.evaluated.nodes(),
            inputs: settings.operators.count() * run.features,
            classes: run.classes,
            stages: (0..settings.stages.len()).map(|number| stage(run, settings, number)).collect(),
            peaks: run.peaks(settings),
        }
    }
}

fn stage(run: &RunShape, settings: &Settings, number: usize) -> StageForecast {
    let planned = run.plan(settings, number);
    let (shape, plan) = &planned;
    let ranks: Vec<RankForecast> = (0..run.ranks)
        .map(|rank| {
            let layers = run.layers_of(shape, plan, rank);
            let [nodes, evaluated] = if layers.is_empty() { [0, 0] } else { run.nodes_of(plan, rank) };
            let products = layers.iter().map(|(_, layer)| {
                let ways = RunShape::ways(shape, settings, layer);
                [layer.p(ways) + layer.w(ways), layer.forward(evaluated)]
            });
            let [gflop, gflop_evaluation] = products.fold([0.0; 2], |[a, b], [iteration, evaluation]| {
                [a + iteration / 1e9, b + evaluation / 1e9]
            });
            RankForecast {
                rank,
                layers: plan.layers_of(rank).map(|run| [*run.start(), *run.end()]),
                nodes,
                memory: estimate(run, settings, (number, &planned), rank),
                gflop,
                gflop_evaluation,
            }
        })
        .collect();
    let bits = match &settings.levels {
        Some(levels) => levels.bits(),
        None => settings.bits,
    };
    let boundaries = plan.cut_boundaries().into_iter().map(|layer| {
        let elements = shape.nodes * shape.width(layer);
        let bytes = |on_levels: bool| match on_levels {
            true => packed_len(elements, bits),
            false => elements * settings.wire.size(),
        };
        BoundaryForecast {
            layer,
            baseline: 12 * elements as u64,
            p: bytes(settings.quantize.p()) as u64,
            q: bytes(settings.quantize.q()) as u64,
        }
    });
    let gflop: f64 = ranks.iter().map(|rank| rank.gflop).sum();
    let most = ranks.iter().fold(0.0, |most: f64, rank| most.max(rank.gflop));
    StageForecast {
        layers: shape.layers,
        shards: plan.shards(),
        mapping: plan.to_string(),
        boundaries: boundaries.collect(),
        balance: if most > 0.0 { gflop / run.ranks as f64 / most } else { 1.0 },
        gflop,
        ranks,
    }
}

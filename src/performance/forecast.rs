//! Seconds an iteration for numbers of ranks, layers × shards.

use serde::Serialize;

use super::network::Network;
use super::pipeline::{RankWork, pace};
use super::rates::{Held, Rates};
use crate::admm::cost::{Form, LayerShape};
use crate::parallel::plan::{Shards, shards_of_stages};
use crate::settings::Settings;
use crate::train::by_rank::PartSeconds;
use crate::train::memory::RunShape;

/// One number of ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeRow {
    /// Ranks.
    pub ranks: usize,
    /// Runs of layers.
    pub runs: usize,
    /// Shards of the nodes.
    pub shards: usize,
    /// Seconds an iteration, without evaluations.
    pub seconds: f64,
    /// Of which the rank with most to do computes, sums between shards included.
    pub busy: f64,
    /// Seconds of one rank over these.
    pub speed_up: f64,
    /// That over the number of ranks.
    pub efficiency: f64,
    /// Bytes of p and q over all boundaries between ranks.
    pub bytes: f64,
}

/// What is predicted of the last stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeForecast {
    /// Layers.
    pub layers: usize,
    /// The network.
    pub network: Network,
    /// What things cost.
    pub rates: Rates,
    /// By number of ranks.
    pub rows: Vec<TimeRow>,
}

impl TimeForecast {
    /// For 1, 2, 4, … ranks up to `most`, and `most`, of a run of these sizes; with each number the shards that are
    /// fastest, or those of `settings` where they are not 1.
    pub fn of(sizes: &RunShape, settings: &Settings, rates: &Rates, network: &Network, most: usize) -> Self {
        let last = Settings { stages: vec![settings.layers], ..settings.clone() };
        let one = row(sizes, &last, rates, network, 1, 1, None).map_or(f64::NAN, |row| row.seconds);
        let mut counts: Vec<usize> = std::iter::successors(Some(1), |ranks| Some(2 * ranks))
            .take_while(|&ranks| ranks < most)
            .collect();
        counts.push(most);
        let rows = counts.into_iter().filter_map(|ranks| {
            let candidates: Vec<usize> = match settings.shards {
                Shards::Of(shards) if shards > 1 => vec![shards],
                _ => std::iter::successors(Some(1), |shards| Some(2 * shards))
                    .take_while(|&shards| shards <= ranks)
                    .collect(),
            };
            let candidates = candidates
                .into_iter()
                .filter_map(|shards| row(sizes, &last, rates, network, ranks, shards, Some(one)));
            candidates.min_by(|a, b| a.seconds.total_cmp(&b.seconds))
        });
        Self { layers: settings.layers, network: *network, rates: *rates, rows: rows.collect() }
    }
}

/// A number of ranks and shards, where they fit the problem.
fn row(
    sizes: &RunShape,
    settings: &Settings,
    rates: &Rates,
    network: &Network,
    ranks: usize,
    shards: usize,
    one: Option<f64>,
) -> Option<TimeRow> {
    let stage = sizes.stage(settings, settings.layers);
    let blocks = sizes.blocks.count();
    shards_of_stages(&[stage], ranks, Shards::Of(shards), blocks).ok()?;
    let run = RunShape { ranks, shards: vec![shards], ..sizes.clone() };
    let (stage, plan) = run.plan(settings, 0);
    let size = settings.precision.wire().size() as f64;
    // The first shard has the most nodes.
    let work: Vec<RankWork> = (0..ranks)
        .step_by(shards)
        .filter_map(|rank| {
            let held = plan.layers_of(rank)?;
            let held = Held::new(&stage, settings, held, run.nodes_of(&plan, rank)[0], blocks);
            Some(work(&held, rates, network, shards, size))
        })
        .collect();
    let pace = pace(&work, shards, network);
    let seconds = pace.seconds;
    let speed_up = one.unwrap_or(seconds) / seconds;
    // Over all shards; the last one may have fewer nodes.
    let whole = stage.nodes as f64 / run.nodes_of(&plan, 0)[0].max(1) as f64;
    Some(TimeRow {
        ranks,
        runs: work.len(),
        shards,
        seconds,
        busy: pace.busy,
        speed_up,
        efficiency: speed_up / ranks as f64,
        bytes: whole * work.iter().map(|work| work.p_bytes + work.q_bytes).sum::<f64>(),
    })
}

/// What a rank with these layers does in an iteration.
fn work(held: &Held, rates: &Rates, network: &Network, shards: usize, size: f64) -> RankWork {
    let mut parts = PartSeconds::default();
    let (below, above) = (held.below(), held.above());
    for (i, (l, layer, ways)) in held.layers.iter().enumerate() {
        let outputs = Held::outputs(layer);
        let p = rates.p * layer.p(*ways);
        let sums = if shards > 1 { sums(layer, ways.exact_w, network, shards, size) } else { [0.0; 2] };
        let remote_below = i == 0 && below > 0.0;
        let remote_above = i + 1 == held.layers.len() && above > 0.0;
        if remote_below {
            // The product with W that runs while q is on its way.
            let first = rates.p * 2.0 * outputs * layer.inputs as f64;
            parts.begin += first;
            parts.p += p - first + sums[0] + rates.u * below + (rates.encode + rates.decode) * below;
        } else {
            parts.middle += p + sums[0];
        }
        parts.middle += rates.w * layer.w(*ways) + rates.z * outputs + sums[1];
        let updates = if *l < held.depth { (rates.q + rates.u) * outputs } else { 0.0 };
        if remote_above {
            parts.q += updates + (rates.encode + rates.decode) * above;
            parts.end += rates.terms * outputs;
        } else {
            parts.middle += updates + rates.terms * outputs;
        }
    }
    RankWork {
        parts,
        calls: 3 * held.layers.len(),
        p_bytes: rates.p_bytes * below,
        q_bytes: rates.q_bytes * above,
    }
}

/// Seconds of the sums between shards in the updates of p, and of W and b.
fn sums(layer: &LayerShape, exact: bool, network: &Network, shards: usize, size: f64) -> [f64; 2] {
    let (m, n) = (layer.outputs as f64, layer.inputs as f64);
    let sum = |numbers: f64| network.sum(shards, size * numbers);
    let norms = |count: f64| sum(2.0 * count);
    match layer.form {
        // What K is multiplied with comes from all shards, and the norms of a step.
        Form::Dual => [0.0, 0.5 * sum(n * m) + norms(1.0) + sum(m)],
        Form::First if exact => [0.0, sum(m * n) + sum(m)],
        Form::First => [0.0, sum(m * n) + norms(1.0) + sum(m)],
        Form::Hidden if exact => [0.0, sum(m * n + n * n) + sum(m)],
        Form::Hidden => [norms(1.0), sum(m * n) + norms(1.0) + sum(m)],
    }
}

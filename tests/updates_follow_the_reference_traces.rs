//! Do the updates follow solutions of small problems that were computed independently?
//!
//! `PDADMM_REFERENCE_TRACES` names a folder of HDF5 files with every variable after each iteration; the layout is
//! described in docs/testing.md. Without it the test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use ndarray::{Array1, Array2, s};
use pdadmm_g::admm::first_layer::DualWeights;
use pdadmm_g::admm::iteration::{NoNeighbours, RankState, Rules, Targets, iterate};
use pdadmm_g::admm::p_quantized::{QuantizedP, SpectralNorm};
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::residuals::{LayerTerms, Totals};
use pdadmm_g::admm::state::FirstLayer;
use pdadmm_g::admm::{
    Boundary, BoundaryBlock, Layer, LayerBlock, Penalties, Subproblem, Team, Weights, Workspace, w,
};
use pdadmm_g::linalg::{NodeBlocks, Workers};
use pdadmm_g::quantize::LevelSet;

const TOLERANCE: f64 = 1e-9;

struct Trace {
    file: hdf5::File,
    depth: usize,
}

impl Trace {
    fn attr(&self, name: &str) -> f64 {
        self.file.attr(name).unwrap().read_scalar::<f64>().unwrap()
    }

    fn text(&self, name: &str) -> String {
        self.file.attr(name).unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string()
    }

    /// A variable in our orientation, nodes in rows (or W as it is).
    fn matrix(&self, iteration: usize, variable: char, l: usize) -> Array2<f64> {
        let name = format!("iteration/{iteration:03}/{variable}{l}");
        let data: Array2<f64> = self.file.dataset(&name).unwrap().read_2d().unwrap();
        let data = if variable == 'W' { data } else { data.reversed_axes() };
        data.as_standard_layout().to_owned()
    }

    fn vector(&self, iteration: usize, l: usize) -> Array1<f64> {
        self.file.dataset(&format!("iteration/{iteration:03}/b{l}")).unwrap().read_1d().unwrap()
    }

    fn state(&self, blocks: &NodeBlocks) -> RankState<f64> {
        let x: Array2<f64> = self.file.dataset("X").unwrap().read_2d().unwrap();
        let x = x.reversed_axes().as_standard_layout().to_owned();
        let labels: Array1<i64> = self.file.dataset("labels").unwrap().read_1d().unwrap();
        let cut = |a: &Array2<f64>| -> Vec<Array2<f64>> {
            blocks.ranges().map(|r| a.slice(s![r, ..]).to_owned()).collect()
        };
        let (nodes, n0) = x.dim();
        let layers = (1..=self.depth).map(|l| {
            let start = self.matrix(0, 'W', l);
            let weights = match l {
                1 if nodes < n0 => {
                    Weights::Dual(Box::new(DualWeights::new(x.clone(), start, &Workers::one())))
                }
                1 => Weights::First(FirstLayer { w: start, x: cut(&x), gram: None, inverse: None }),
                _ => Weights::Hidden(start),
            };
            let z = cut(&self.matrix(0, 'z', l));
            let blocks = z.into_iter().map(|z| LayerBlock { m: Array2::zeros(z.dim()), z }).collect();
            let penalty = WeightPenalty { mu: self.attr("mu"), ..WeightPenalty::default() };
            Layer { index: l, weights, b: self.vector(0, l), penalty, blocks, spectral: None }
        });
        let boundaries = (1..self.depth).map(|l| {
            let of = |variable, l| cut(&self.matrix(0, variable, l));
            let blocks = of('p', l + 1).into_iter().zip(of('q', l).into_iter().zip(of('u', l)));
            Boundary { index: l, blocks: blocks.map(|(p, (q, u))| BoundaryBlock { p, q, u }).collect() }
        });
        let labels =
            blocks.ranges().map(|r| labels.slice(s![r]).iter().map(|&y| y as usize).collect()).collect();
        let mut state = RankState {
            depth: self.depth,
            layers: layers.collect(),
            boundaries: boundaries.collect(),
            targets: Some(Targets { labels, ..Targets::default() }),
            nodes,
            below_is_current: false,
        };
        for i in 0..self.depth {
            let below = i.checked_sub(1).map(|i| &state.boundaries[i]);
            let (mut workspace, workers) = (Workspace::new(), Workers::one());
            w::refresh(&mut state.layers[i], below, &mut Team::of_one_shard(&mut workspace, &workers));
        }
        state
    }
}

fn joined<'a>(blocks: impl Iterator<Item = &'a Array2<f64>>) -> Array2<f64> {
    let views: Vec<_> = blocks.map(|block| block.view()).collect();
    ndarray::concatenate(ndarray::Axis(0), &views).unwrap()
}

fn norm(a: &Array2<f64>) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Runs one file; returns the largest relative difference and where it is.
fn follow(path: &Path, block_nodes: Option<usize>, threads: usize) -> (f64, String) {
    let file = hdf5::File::open(path).unwrap();
    let depth = file.attr("layers").unwrap().read_scalar::<i64>().unwrap() as usize;
    let trace = Trace { file, depth };
    let iterations = trace.file.attr("iterations").unwrap().read_scalar::<i64>().unwrap() as usize;
    let nodes = trace.file.dataset("labels").unwrap().size();
    let blocks = NodeBlocks::new(nodes, block_nodes);
    let mut state = trace.state(&blocks);
    let quantize = trace.text("quantize");
    let levels = trace.file.dataset("levels").ok().map(|levels| {
        let values: Vec<f64> = levels.read_raw().unwrap();
        vec![LevelSet::from_values(&values).unwrap(); depth - 1]
    });
    let subproblem = match trace.text("variant").as_str() {
        "exact" => Subproblem::Exact,
        _ => Subproblem::Gradient,
    };
    let penalties = Penalties { rho: trace.attr("rho"), nu: trace.attr("nu") };
    let objective: Array1<f64> = trace.file.dataset("objective").unwrap().read_1d().unwrap();
    let lagrangian: Array1<f64> = trace.file.dataset("lagrangian").unwrap().read_1d().unwrap();
    let primal: Array1<f64> = trace.file.dataset("primal_residual").unwrap().read_1d().unwrap();
    let dual: Array1<f64> = trace.file.dataset("dual_residual").unwrap().read_1d().unwrap();

    let workers = Workers::new(threads).unwrap();
    let (mut workspace, mut reports) = (Workspace::new(), Vec::new());
    let mut worst = (0.0, String::new());
    for k in 1..=iterations {
        let rules = Rules {
            iteration: k as u64,
            penalties,
            previous: (k > 1).then_some(penalties),
            subproblem,
            p_levels: levels.clone().filter(|_| quantize.contains('p')),
            q_levels: levels.clone().filter(|_| quantize.contains('q')),
            wire: None,
            quantized_p: QuantizedP::GradientStep(SpectralNorm::Exact),
            z_tolerance: 1e-13,
        };
        let mut team = Team::of_one_shard(&mut workspace, &workers);
        iterate(&mut state, &rules, &mut NoNeighbours, &mut team, &mut reports).unwrap();
        let mut hold_above = |floor: f64, what: String, ours: &Array2<f64>, theirs: &Array2<f64>| {
            assert_eq!(ours.dim(), theirs.dim(), "{what}");
            let difference = norm(&(ours - theirs));
            let difference = if difference <= floor { 0.0 } else { difference / norm(theirs).max(1e-12) };
            if difference > worst.0 || difference.is_nan() {
                worst = (difference, format!("{what} of iteration {k}"));
            }
        };
        // p − q, and with it u and the residuals, is exactly zero in some of these problems at first. What a
        // program then computes is the rounding of its own operands, a few units in the last place of p.
        let noise = 16.0
            * f64::EPSILON
            * state
                .boundaries
                .iter()
                .map(|b| norm(&joined(b.blocks.iter().map(|b| &b.p))))
                .fold(0.0, f64::max);
        let mut hold = |what: String, ours: &Array2<f64>, theirs: &Array2<f64>| {
            let floor = match what.as_bytes() {
                [b'u', ..] | [b'd', ..] => penalties.rho * noise,
                [b'p', b'r', ..] => noise,
                _ => 0.0,
            };
            hold_above(floor, what, ours, theirs);
        };
        for layer in &state.layers {
            let l = layer.index;
            hold(format!("W{l}"), &layer.weights.dense(), &trace.matrix(k, 'W', l));
            let row = |b: &Array1<f64>| b.clone().insert_axis(ndarray::Axis(0));
            hold(format!("b{l}"), &row(&layer.b), &row(&trace.vector(k, l)));
            hold(format!("z{l}"), &joined(layer.blocks.iter().map(|b| &b.z)), &trace.matrix(k, 'z', l));
        }
        for boundary in &state.boundaries {
            let l = boundary.index;
            hold(
                format!("p{}", l + 1),
                &joined(boundary.blocks.iter().map(|b| &b.p)),
                &trace.matrix(k, 'p', l + 1),
            );
            hold(format!("q{l}"), &joined(boundary.blocks.iter().map(|b| &b.q)), &trace.matrix(k, 'q', l));
            hold(format!("u{l}"), &joined(boundary.blocks.iter().map(|b| &b.u)), &trace.matrix(k, 'u', l));
        }
        let terms: Vec<LayerTerms> = reports.iter().map(|report| report.terms).collect();
        let totals = Totals::of(&terms, &penalties);
        let scalar = |x: f64| Array2::from_elem((1, 1), x);
        hold("objective".into(), &scalar(totals.objective), &scalar(objective[k]));
        hold("Lagrangian".into(), &scalar(totals.lagrangian), &scalar(lagrangian[k]));
        hold("primal residual".into(), &scalar(totals.primal_residual), &scalar(primal[k]));
        hold("dual residual".into(), &scalar(totals.dual_residual), &scalar(dual[k]));
    }
    worst
}

#[test]
fn every_variable_of_every_iteration_agrees() {
    let Some(folder) = std::env::var_os("PDADMM_REFERENCE_TRACES") else {
        println!("skipped: PDADMM_REFERENCE_TRACES is not set");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("PDADMM_REFERENCE_TRACES names a folder")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "h5"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no .h5 file in {}", folder.display());
    let mut failed = 0;
    for path in &files {
        for (block_nodes, threads) in [(None, 1), (Some(4), 1), (Some(4), 2)] {
            let (worst, place) = follow(path, block_nodes, threads);
            println!("{worst:.1e} at {place}: {}, blocks {block_nodes:?}, {threads} threads", path.display());
            failed += usize::from(worst > TOLERANCE || worst.is_nan());
        }
    }
    assert_eq!(failed, 0, "some trace is not followed to {TOLERANCE:e}");
}

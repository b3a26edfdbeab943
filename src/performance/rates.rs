//! What things cost, from a run that was measured: seconds an operation, an element, a byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::admm::cost::{LayerShape, Ways};
use crate::linalg::NodeBlocks;
use crate::parallel::plan::StageShape;
use crate::settings::{RawSettings, Settings, SettingsError};
use crate::timing::Phase;
use crate::train::by_rank::RankCost;
use crate::train::evaluate::EvaluatedNodes;
use crate::train::memory::RunShape;
use crate::train::output::Summary;
use crate::train::run_row::RunRow;

/// A run that says nothing of costs.
#[derive(Debug, Error)]
pub enum RatesError {
    /// A file of the run cannot be read.
    #[error("cannot read {path}: {source}; --measured takes the folder of a run that has finished")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// It did not measure, or too little.
    #[error(
        "{folder} has {found}: measure a run of at least 4 iterations on at least 2 ranks, by train --measure-ranks \
         --threads 1 --evaluate-every 1000"
    )]
    NotMeasured {
        /// The folder.
        folder: PathBuf,
        /// What it has.
        found: String,
    },
    /// It computed or sent in other ways than what is planned.
    #[error("{folder} was run with {name} = {there}, the plan has {here}: what that costs must be measured")]
    Different {
        /// The folder.
        folder: PathBuf,
        /// The setting.
        name: &'static str,
        /// Its value in the run.
        there: String,
        /// In the plan.
        here: String,
    },
}

/// Seconds of one thread, and bytes, an element or an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Of p, a floating point operation of its products, passes over elements included.
    pub p: f64,
    /// Of W.
    pub w: f64,
    /// Of b and z, an output of a layer and node.
    pub z: f64,
    /// Of q, an element.
    pub q: f64,
    /// Of u.
    pub u: f64,
    /// Of terms, sums and everything else, an output of a layer and node.
    pub terms: f64,
    /// Of writing p or q for another rank, an element.
    pub encode: f64,
    /// Of reading it.
    pub decode: f64,
    /// Bytes of p, an element.
    pub p_bytes: f64,
    /// Bytes of q.
    pub q_bytes: f64,
}

/// What a run has cost.
#[derive(Debug)]
pub struct MeasuredRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Its settings.
    pub settings: Settings,
    /// Its ranks.
    pub ranks: Vec<RankCost>,
    /// Its sizes.
    pub shape: RunShape,
}

impl MeasuredRun {
    /// Reads the folder of a run.
    ///
    /// # Errors
    /// A file that cannot be read, or a run that was not measured.
    pub fn read(folder: &Path) -> Result<Self, RatesError> {
        let fail = |path: &Path, source| RatesError::Read { path: path.to_owned(), source };
        let path = folder.join("summary.json");
        let summary = Summary::read(&path).map_err(|source| fail(&path, source))?;
        let settings = RawSettings::from_file(&folder.join("config.toml"))?.check()?;
        let path = folder.join("run.csv");
        let row = RunRow::read(&path).map_err(|source| fail(&path, source))?;
        let size = |name: &str| {
            let value = row.value(name).and_then(|value| value.parse::<u32>().ok());
            let missing = || fail(&path, std::io::Error::other(format!("column {name} has no number")));
            value.map(|value| value as usize).ok_or_else(missing)
        };
        let training = size("training_nodes")?;
        let shape = RunShape {
            graph_nodes: size("graph_nodes")?,
            features: size("features")?,
            classes: size("classes")?,
            raw_bytes: 0,
            blocks: NodeBlocks::new(training, settings.block_nodes),
            evaluated: EvaluatedNodes::blocks_of(training + size("validation_nodes")? + size("test_nodes")?),
            ranks: summary.ranks,
            shards: vec![1; settings.stages.len()],
        };
        let not_measured = |found: String| RatesError::NotMeasured { folder: folder.to_owned(), found };
        let ranks = summary.by_rank;
        match ranks.iter().map(|rank| rank.iterations).max() {
            None => Err(not_measured("no by_rank in its summary.json".into())),
            Some(0) => Err(not_measured("no iteration that was measured".into())),
            Some(_) if settings.threads != 1 => {
                Err(not_measured(format!("{} threads a rank, of which one is measured", settings.threads)))
            }
            Some(_) => Ok(Self { folder: folder.to_owned(), settings, ranks, shape }),
        }
    }

    /// What things cost in it.
    ///
    /// # Errors
    /// Nothing was sent between its ranks.
    pub fn rates(&self) -> Result<Rates, RatesError> {
        let stage = self.shape.stage(&self.settings, self.settings.layers);
        let mut sums: HashMap<Phase, f64> = HashMap::new();
        let mut units = Units::default();
        let mut bytes = [0.0; 2];
        for rank in &self.ranks {
            let Some([first, last]) = rank.layers else { continue };
            rank.phases.iter().for_each(|(phase, seconds)| *sums.entry(*phase).or_default() += seconds);
            let run = Held::new(&stage, &self.settings, first..=last, rank.nodes, self.shape.blocks.count());
            units.add(&run);
            bytes = [bytes[0] + rank.bytes_p, bytes[1] + rank.bytes_q];
        }
        if units.sent_p == 0.0 {
            let found = "one run of layers, whose ranks sent each other neither p nor q".to_owned();
            return Err(RatesError::NotMeasured { folder: self.folder.clone(), found });
        }
        let of = |phases: &[Phase]| phases.iter().filter_map(|phase| sums.get(phase)).sum::<f64>();
        let each = |seconds: f64, units: f64| if units > 0.0 { seconds / units } else { 0.0 };
        let rest = [Phase::Send, Phase::Reduce, Phase::Io, Phase::Other];
        Ok(Rates {
            p: each(of(&[Phase::P]), units.p),
            w: each(of(&[Phase::W]), units.w),
            z: each(of(&[Phase::B, Phase::Z]), units.outputs),
            q: each(of(&[Phase::Q]), units.q),
            u: each(of(&[Phase::U]), units.u),
            terms: each(of(&rest), units.outputs),
            encode: each(of(&[Phase::Encode]), units.sent_p + units.sent_q),
            decode: each(of(&[Phase::Decode]), units.sent_p + units.sent_q),
            p_bytes: each(bytes[0], units.sent_p),
            q_bytes: each(bytes[1], units.sent_q),
        })
    }

    /// Whether it computed and sent as `planned` will.
    ///
    /// # Errors
    /// The setting that differs.
    pub fn must_match(&self, planned: &Settings) -> Result<(), RatesError> {
        let told = |of: &Settings| {
            let bits = of.quantize.p() || of.quantize.q();
            [
                ("precision", format!("{:?}", of.precision)),
                ("subproblem", format!("{:?}", of.subproblem)),
                ("quantize", format!("{:?}", of.quantize)),
                ("bits", if bits { of.bits.to_string() } else { String::new() }),
                ("levels", format!("{:?}", of.levels)),
                ("wire", format!("{:?}", of.wire)),
                ("coding", format!("{:?}", of.coding)),
                ("threads", of.threads.to_string()),
            ]
        };
        match told(&self.settings).into_iter().zip(told(planned)).find(|(there, here)| there != here) {
            None => Ok(()),
            Some(((name, there), (_, here))) => {
                Err(RatesError::Different { folder: self.folder.clone(), name, there, here })
            }
        }
    }
}

/// A run of layers on one rank.
#[derive(Debug)]
pub struct Held {
    /// The layers with their numbers, from below.
    pub layers: Vec<(usize, LayerShape, Ways)>,
    /// L.
    pub depth: usize,
}

impl Held {
    /// Layers `held` of a stage, `nodes` of all training nodes, which are `blocks` blocks.
    pub fn new(
        stage: &StageShape,
        settings: &Settings,
        held: std::ops::RangeInclusive<usize>,
        nodes: usize,
        blocks: usize,
    ) -> Self {
        let layers = held.map(|l| {
            let layer = RunShape::layer(stage, l, nodes, blocks);
            (l, layer, RunShape::ways(stage, settings, &layer))
        });
        Self { layers: layers.collect(), depth: stage.layers }
    }

    /// Elements of q above a layer of this shape, on this rank.
    pub fn outputs(layer: &LayerShape) -> f64 {
        layer.nodes as f64 * layer.outputs as f64
    }

    /// Elements of p below the lowest layer, 0 where there is no boundary.
    pub fn below(&self) -> f64 {
        match self.layers.first() {
            Some((l, layer, _)) if *l > 1 => layer.nodes as f64 * layer.inputs as f64,
            _ => 0.0,
        }
    }

    /// Elements of q above the highest layer, 0 where there is no boundary.
    pub fn above(&self) -> f64 {
        match self.layers.last() {
            Some((l, layer, _)) if *l < self.depth => Self::outputs(layer),
            _ => 0.0,
        }
    }
}

/// How much of everything was done.
#[derive(Debug, Default)]
struct Units {
    p: f64,
    w: f64,
    outputs: f64,
    q: f64,
    u: f64,
    sent_p: f64,
    sent_q: f64,
}

impl Units {
    fn add(&mut self, held: &Held) {
        for (l, layer, ways) in &held.layers {
            self.p += layer.p(*ways);
            self.w += layer.w(*ways);
            self.outputs += Held::outputs(layer);
            if *l < held.depth {
                self.q += Held::outputs(layer);
                self.u += Held::outputs(layer);
            }
        }
        // Both sides of a boundary update its u; the lower one is counted above.
        self.u += held.below();
        self.sent_p += held.below();
        self.sent_q += held.above();
    }
}

//! A contextual stochastic block model: a graph with communities, and features that tell a little
//! about a node's community, so that neighbours help (Deshpande et al. 2018, arXiv:1807.09596).

use std::collections::BTreeMap;

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::check::{MAX_CLASSES, MAX_FEATURES, MAX_NODES};
use super::error::DatasetError;
use super::import::edges::undirected;
use super::split::{Quota, below, draw, generator, shuffle};
use super::{Dataset, Features};
use crate::progress::Steps;
use crate::storage::{filled, reserve};

/// Numbers drawn in the time that an edge takes to be drawn and put in its place, about.
const EDGE: usize = 16;
/// The part of it in which it is drawn.
const DRAW: usize = 6;
/// Edges drawn between two looks at the clock.
const EDGES: usize = 1 << 16;
/// Rows of features drawn between two looks at the clock.
const ROWS: usize = 1024;
/// Mean number of neighbours, where nothing else is asked for.
pub const DEGREE: f64 = 10.0;

/// Settings of a generated data set.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateSettings {
    /// Short name; default `generated`.
    pub name: String,
    /// Number of nodes N.
    pub nodes: usize,
    /// Number of features d.
    pub features: usize,
    /// Number of classes C; classes are of equal size, up to one node.
    pub classes: usize,
    /// Mean number of neighbours; default 10.
    pub degree: f64,
    /// Share of edges that join nodes of the same class; default 0.8.
    pub homophily: f64,
    /// Expected length of a class mean, in standard deviations of one feature; default 1.0. At 0
    /// features tell nothing.
    pub signal: f64,
    /// Seed of everything random; default 0.
    pub seed: u64,
    /// Training nodes; default 20 a class, at most half of the nodes.
    pub train_nodes: Option<usize>,
    /// Validation nodes; default 500, at most a third of what train leaves.
    pub val_nodes: Option<usize>,
    /// Test nodes; default 1,000, at most what train and val leave.
    pub test_nodes: Option<usize>,
}

impl GenerateSettings {
    /// The defaults for a graph of this size.
    pub fn new(nodes: usize, features: usize, classes: usize) -> Self {
        GenerateSettings {
            name: "generated".into(),
            nodes,
            features,
            classes,
            degree: DEGREE,
            homophily: 0.8,
            signal: 1.0,
            seed: 0,
            train_nodes: None,
            val_nodes: None,
            test_nodes: None,
        }
    }

    /// Edges that are asked for.
    fn edges(&self) -> usize {
        (self.nodes as f64 * self.degree / 2.0).round() as usize
    }

    /// Checks every setting and settles the sizes of the split.
    fn validate(&self) -> Result<Quota, DatasetError> {
        let (nodes, classes) = (self.nodes, self.classes);
        whole("--classes", self.classes, 2, MAX_CLASSES)?;
        whole("--nodes", nodes, classes.saturating_mul(2).max(6), MAX_NODES)?;
        whole("--features", self.features, 1, MAX_FEATURES)?;
        // Half of the densest possible graph: beyond it, drawing pairs and dropping repetitions
        // would hardly end.
        let densest = nodes / 2;
        if !(0.0..=densest as f64).contains(&self.degree) {
            return Err(DatasetError::Setting {
                setting: "--degree",
                expected: format!(
                    "a number from 0 to half of --nodes, {densest} ({DEGREE} if it is not given)"
                ),
                found: self.degree.to_string(),
            });
        }
        real("--homophily", self.homophily, 0.0, 1.0)?;
        real("--signal", self.signal, 0.0, 1e6)?;
        let train = match self.train_nodes {
            Some(train) => train,
            None => (super::split::TRAIN_PER_CLASS * classes).min(nodes / 2),
        };
        let given = [Some(train), self.val_nodes, self.test_nodes];
        let given = given.iter().flatten().fold(0usize, |sum, &n| sum.saturating_add(n));
        let rest = nodes.saturating_sub(given);
        let val = self.val_nodes.unwrap_or_else(|| {
            // A third, so that test keeps the larger share.
            500.min(if self.test_nodes.is_some() { rest } else { rest / 3 })
        });
        let test =
            self.test_nodes.unwrap_or_else(|| 1000.min(nodes.saturating_sub(train.saturating_add(val))));
        let sum = train.saturating_add(val).saturating_add(test);
        if sum > nodes || train == 0 || val == 0 || test == 0 {
            return Err(DatasetError::Setting {
                setting: "--train-nodes, --val-nodes, --test-nodes",
                expected: format!("at least one node each and at most {nodes} together"),
                found: format!("{train}, {val} and {test}"),
            });
        }
        let train =
            (0..classes).map(|class| train / classes + usize::from(class < train % classes)).collect();
        Ok(Quota { train, test, val })
    }
}

fn whole(setting: &'static str, found: usize, low: usize, high: usize) -> Result<(), DatasetError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(DatasetError::Setting { setting, expected: format!("{low} to {high}"), found: found.to_string() })
}

fn real(setting: &'static str, found: f64, low: f64, high: f64) -> Result<(), DatasetError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(DatasetError::Setting {
        setting,
        expected: format!("a number from {low} to {high}"),
        found: found.to_string(),
    })
}

/// Generates a data set with one split, `random`. Equal settings give equal data sets.
///
/// Labels are balanced and shuffled. N · degree / 2 edges are drawn: one end is any node, the
/// other one is of the same class with probability `homophily`, else of another class; pairs that
/// repeat are drawn again. Features are a class mean plus standard Gaussian noise; the means are
/// Gaussian with expected squared length signal². Cost: O(N d + E log E).
///
/// # Errors
/// [`DatasetError::Setting`] where a setting is impossible, and a fault where memory is short.
pub fn generate(settings: &GenerateSettings) -> Result<Dataset, DatasetError> {
    generate_in_steps(settings, &Steps::silent())
}

/// As [`generate`]; `steps` tells how far it is.
///
/// # Errors
/// As [`generate`].
pub fn generate_in_steps(settings: &GenerateSettings, steps: &Steps) -> Result<Dataset, DatasetError> {
    let quota = settings.validate()?;
    let drawn = settings.edges().saturating_mul(EDGE);
    steps.begin(drawn.saturating_add(settings.nodes.saturating_mul(settings.features)));
    steps.doing("drawing edges");
    let in_memory = |fault: crate::storage::Fault| fault.in_file(std::path::Path::new(&settings.name));
    let mut generator = generator(settings.seed);

    let mut labels: Vec<i64> = reserve("/labels", settings.nodes).map_err(in_memory)?;
    labels.extend((0..settings.nodes).map(|node| (node % settings.classes) as i64));
    shuffle(&mut labels, &mut generator);

    let pairs = edges(settings, &labels, &mut generator, steps).map_err(in_memory)?;
    steps.doing("sorting edges");
    let adjacency = undirected("generated edges", settings.nodes, pairs).map_err(in_memory)?;
    steps.advance(settings.edges().saturating_mul(EDGE - DRAW));
    steps.doing("drawing features");
    let features = features(settings, &labels, &mut generator, steps).map_err(in_memory)?;
    let split = draw(&labels, settings.classes, &quota, settings.seed);
    Ok(Dataset {
        name: settings.name.clone(),
        num_classes: settings.classes,
        adjacency,
        features: Features::Dense(features),
        labels,
        splits: BTreeMap::from([("random".to_string(), split)]),
    })
}

/// Distinct pairs (u, v), u < v.
fn edges(
    settings: &GenerateSettings,
    labels: &[i64],
    generator: &mut ChaCha8Rng,
    steps: &Steps,
) -> Result<Vec<(u32, u32)>, crate::storage::Fault> {
    // A class's nodes in a row, so that a node of the same class is one draw away.
    let mut by_class: Vec<u32> = reserve("edges", labels.len())?;
    by_class.extend(0..labels.len() as u32);
    by_class.sort_by_key(|&node| labels.get(node as usize).copied());
    let size = |class: usize| {
        settings.nodes / settings.classes + usize::from(class < settings.nodes % settings.classes)
    };
    let start = |class: usize| {
        class * (settings.nodes / settings.classes) + class.min(settings.nodes % settings.classes)
    };
    let wanted = settings.edges();
    let mut pairs: Vec<(u32, u32)> = reserve("edges", wanted)?;
    // Repeated pairs are few in sparse graphs; a fixed number of rounds also ends where the wanted
    // number of pairs does not exist, as with tiny classes and homophily 1.
    for round in 0..64 {
        let missing = wanted - pairs.len();
        if missing == 0 {
            break;
        }
        for drawn in 1..=missing {
            // Later rounds draw few.
            if round == 0 && (drawn % EDGES == 0 || drawn == missing) {
                steps.advance((drawn - (drawn - 1) / EDGES * EDGES) * DRAW);
            }
            let u = below(labels.len(), generator);
            let class = labels.get(u).map_or(0, |&label| label as usize);
            let v = if chance(generator) < settings.homophily {
                start(class) + below(size(class), generator)
            } else {
                let outside = below(labels.len() - size(class), generator);
                if outside < start(class) { outside } else { outside + size(class) }
            };
            let (u, v) = (u as u32, by_class.get(v).copied().unwrap_or(u as u32));
            if u != v {
                pairs.push((u.min(v), u.max(v)));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
    }
    Ok(pairs)
}

/// A uniform number in [0, 1) with 53 bits.
fn chance(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn features(
    settings: &GenerateSettings,
    labels: &[i64],
    generator: &mut ChaCha8Rng,
    steps: &Steps,
) -> Result<Array2<f32>, crate::storage::Fault> {
    let d = settings.features;
    let too_many = || {
        crate::storage::Fault::new(
            "/features",
            "a size that fits into memory",
            format!("{} × {d}", labels.len()),
        )
        .advise("ask for fewer nodes or features")
    };
    let scale = settings.signal / (d as f64).sqrt();
    let means_size = d.checked_mul(settings.classes).ok_or_else(too_many)?;
    let mut means: Vec<f32> = reserve("class means", means_size)?;
    for _ in 0..means_size {
        let draw: f64 = StandardNormal.sample(generator);
        means.push((scale * draw) as f32);
    }
    let size = d.checked_mul(labels.len()).ok_or_else(too_many)?;
    let mut values: Vec<f32> = filled("/features", size, 0.0)?;
    for (rows, labels) in values.chunks_mut(d.saturating_mul(ROWS)).zip(labels.chunks(ROWS)) {
        for (row, &label) in rows.chunks_exact_mut(d).zip(labels) {
            let mean = means.get(label as usize * d..).unwrap_or_default();
            for (value, mean) in row.iter_mut().zip(mean) {
                let noise: f32 = StandardNormal.sample(generator);
                *value = mean + noise;
            }
        }
        steps.advance(rows.len());
    }
    Array2::from_shape_vec((labels.len(), d), values).map_err(|_| too_many())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dataset::Summary;

    #[test]
    fn the_graph_is_as_asked_for() {
        let mut settings = GenerateSettings::new(5_000, 16, 4);
        settings.seed = 7;
        let data = generate(&settings).unwrap();
        data.check().unwrap();
        let summary = Summary::of(&data);
        assert_eq!(summary.edges, 25_000);
        assert_eq!(summary.class_counts, [1250; 4]);
        assert!((summary.homophily.unwrap() - 0.8).abs() < 0.01, "{summary}");
        assert_eq!(summary.splits, [("random".to_string(), [80, 500, 1000])]);
        assert_eq!(summary.warnings, [""; 0]);
        assert_eq!(generate(&settings).unwrap(), data);
        settings.seed = 8;
        assert_ne!(generate(&settings).unwrap().labels, data.labels);
    }

    /// Nearest class mean of the training nodes, on raw features and on features that were
    /// averaged over neighbours twice.
    #[test]
    fn neighbours_help() {
        let data = generate(&GenerateSettings::new(4_000, 64, 5)).unwrap();
        let Features::Dense(raw) = &data.features else { panic!("dense") };
        let hop = |h: &Array2<f32>| -> Array2<f32> {
            let mut sum = h.clone();
            for (row, neighbours) in data.adjacency.outer_iterator().enumerate() {
                for (node, _) in neighbours.iter() {
                    let other = h.row(node).to_owned();
                    sum.row_mut(row).zip_mut_with(&other, |a, b| *a += b);
                }
                sum.row_mut(row).mapv_inplace(|x| x / (neighbours.nnz() + 1) as f32);
            }
            sum
        };
        let split = &data.splits["random"];
        let accuracy = |h: &Array2<f32>| -> f64 {
            let mut means = Array2::<f32>::zeros((5, 64));
            for &node in &split.train {
                let mut mean = means.row_mut(data.labels[node] as usize);
                mean += &h.row(node);
            }
            means /= 20.0;
            let right = split.test.iter().filter(|&&node| {
                let distance = |class: usize| {
                    (&h.row(node) - &means.row(class)).iter().map(|x| f64::from(x * x)).sum::<f64>()
                };
                let nearest = (0..5).min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                nearest == Some(data.labels[node] as usize)
            });
            right.count() as f64 / split.test.len() as f64
        };
        let (alone, helped) = (accuracy(raw), accuracy(&hop(&hop(raw))));
        println!("alone {alone}, with neighbours {helped}");
        assert!(alone < 0.6 && helped > alone + 0.25, "alone {alone}, with neighbours {helped}");
    }

    #[test]
    fn impossible_settings_are_named() {
        let good = GenerateSettings::new(100, 8, 2);
        let refused = |change: fn(&mut GenerateSettings), name: &str| {
            let mut settings = good.clone();
            change(&mut settings);
            let error = generate(&settings).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(name), "{error}");
        };
        refused(|s| s.nodes = 0, "--nodes");
        refused(|s| s.nodes = usize::MAX, "--nodes");
        refused(|s| s.features = 0, "--features");
        refused(|s| s.classes = 1, "--classes");
        refused(|s| s.classes = 80, "--nodes");
        refused(|s| s.degree = 51.0, "--degree");
        refused(|s| s.degree = f64::NAN, "--degree");
        refused(|s| s.homophily = 1.5, "--homophily");
        refused(|s| s.signal = -1.0, "--signal");
        refused(|s| s.train_nodes = Some(100), "--train-nodes");
        refused(|s| s.val_nodes = Some(0), "--val-nodes");
        refused(|s| s.test_nodes = Some(usize::MAX), "--test-nodes");
    }

    #[test]
    fn tiny_graphs_get_smaller_splits() {
        for nodes in 6..200 {
            let mut settings = GenerateSettings::new(nodes, 3, 3);
            settings.degree = 2.5;
            let data = generate(&settings).unwrap();
            data.check().unwrap();
        }
    }
}

//! Is the gradient that backpropagation uses that of the loss, with and without dropout, summed over blocks of nodes?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ndarray::{Array2, s};
use pdadmm_g::admm::Workspace;
use pdadmm_g::backprop::network::{TrainingBlock, gradient, logits};
use pdadmm_g::backprop::{Dropout, Layout};
use pdadmm_g::linalg::{NodeBlocks, Workers};

const NODES: usize = 23;

struct Case {
    layout: Layout,
    parameters: Vec<f64>,
    x: Array2<f64>,
    labels: Vec<usize>,
    class_weights: Vec<f64>,
    dropout: Dropout,
    blocks: NodeBlocks,
}

impl Case {
    fn new(layers: usize, rate: f64, block_nodes: usize) -> Self {
        let layout = Layout::new(9, 6, 4, layers);
        let mut parameters: Vec<f64> = layout.random(3);
        for l in 1..=layers {
            // Intercepts that are not 0, so that their part in it shows.
            layout
                .layer_mut(&mut parameters, l)
                .1
                .iter_mut()
                .enumerate()
                .for_each(|(i, b)| *b = 0.05 * (i + l) as f64);
        }
        let x = Array2::from_shape_fn((NODES, 9), |(i, j)| ((i * 37 + j * 11) % 19) as f64 / 9.0 - 1.0);
        let labels = (0..NODES).map(|i| i * 7 % 4).collect();
        let dropout = Dropout { rate, seed: 11, iteration: 4, nodes: NODES };
        let (class_weights, blocks) = (vec![0.5, 2.0, 1.0, 0.7], NodeBlocks::new(NODES, Some(block_nodes)));
        Self { layout, parameters, x, labels, class_weights, dropout, blocks }
    }

    /// The weighted mean cross-entropy and its gradient.
    fn loss(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let (mut workspace, workers) = (Workspace::new(), Workers::one());
        let mut total = vec![0.0; parameters.len()];
        let mut risk = 0.0;
        for rows in self.blocks.ranges() {
            let x = self.x.slice(s![rows.clone(), ..]).to_owned();
            let block = TrainingBlock {
                x: &x,
                labels: &self.labels[rows.clone()],
                class_weights: &self.class_weights,
                first_node: rows.start,
                nodes: NODES,
            };
            let mut part = vec![f64::NAN; parameters.len()];
            risk +=
                gradient(&self.layout, parameters, block, &self.dropout, &mut part, &mut workspace, &workers);
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        (risk / NODES as f64, total)
    }
}

#[test]
fn every_entry_is_the_slope_of_the_loss() {
    for (layers, rate, block_nodes) in
        [(1, 0.0, 23), (2, 0.0, 23), (2, 0.4, 5), (4, 0.0, 8), (4, 0.25, 8), (7, 0.1, 23)]
    {
        let case = Case::new(layers, rate, block_nodes);
        let (_, gradient) = case.loss(&case.parameters);
        assert!(
            gradient.iter().filter(|g| **g != 0.0).count() > gradient.len() / 4,
            "a network without slope"
        );
        let h = 1e-6;
        for (i, &slope) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut parameters = case.parameters.clone();
                parameters[i] += step;
                case.loss(&parameters).0
            };
            let measured = (at(h) - at(-h)) / (2.0 * h);
            assert!(
                (slope - measured).abs() < 1e-8 + 1e-6 * measured.abs(),
                "{layers} layers, dropout {rate}, parameter {i}: {slope}, not {measured}"
            );
        }
    }
}

/// Without dropout the loss is that of the logits which evaluations use.
#[test]
fn training_and_evaluation_are_the_same_network() {
    let case = Case::new(3, 0.0, 8);
    let z = logits(&case.layout, &case.parameters, &case.x, &mut Workspace::new(), &Workers::one());
    let risk: f64 = z
        .rows()
        .into_iter()
        .zip(&case.labels)
        .map(|(z, &label)| {
            case.class_weights[label] * (z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[label])
        })
        .sum();
    assert!((case.loss(&case.parameters).0 - risk / NODES as f64).abs() < 1e-14);
}

#[test]
fn blocks_and_threads_leave_the_gradient_as_it_is() {
    let whole = Case::new(4, 0.3, 23);
    let (_, expected) = whole.loss(&whole.parameters);
    let blocks = Case::new(4, 0.3, 6);
    let (_, found) = blocks.loss(&blocks.parameters);
    let largest = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest < 1e-15, "{largest}");
}

//! Does `--follow-covariance` draw layer 1's weights towards the directions in which the features of all nodes vary, the same
//! on any ranks and shards, and do nothing at 0?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use ndarray::{Array2, Axis, s};
use ndarray_linalg::{Eigh, UPLO};
use pdadmm_g::dataset::{DatasetFile, Features};

#[path = "support/program.rs"]
mod program;

const FEATURES: usize = 12;

/// The two leading eigenvectors of the covariance of the features, each node's scaled to length 1.
fn principal_directions(data: &Path) -> Array2<f64> {
    let Features::Dense(h) = DatasetFile::open(data).unwrap().feature_rows(0..400).unwrap() else {
        panic!("generated features are dense")
    };
    let mut h = h.mapv(f64::from);
    for mut row in h.rows_mut() {
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    h -= &h.mean_axis(Axis(0)).unwrap();
    let (_, vectors) = h.t().dot(&h).eigh(UPLO::Lower).unwrap();
    vectors.slice(s![.., FEATURES - 2..]).to_owned()
}

/// How much of the squares of W_1 lies along `directions`.
fn share_along(directions: &Array2<f64>, run: &Path) -> f64 {
    let (w, b) = program::weights(&run.join("model-last.h5")).remove(0);
    let w = w.into_iter().map(f64::from_bits).collect();
    let w = Array2::from_shape_vec((b.len(), FEATURES), w).unwrap();
    let square = |w: &Array2<f64>| w.iter().map(|w| w * w).sum::<f64>();
    square(&w.dot(directions)) / square(&w)
}

/// More training nodes than features, and fewer.
#[test]
fn weights_lean_towards_principal_directions() {
    for train_nodes in [60, 9] {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data.h5");
        program::generate(&data, 400, FEATURES, 3, train_nodes);
        let directions = principal_directions(&data);
        let share = |xi: &str| {
            let run = scratch.path().join(format!("run{xi}"));
            let common =
                "--operators 0 --dropout 0 --mu 1 --layers 2 --neurons 8 --iterations 30 --precision f64";
            let flag = if xi.is_empty() { String::new() } else { format!("--follow-covariance {xi}") };
            program::train(None, 1, &data, &run, &format!("{common} {flag}"));
            share_along(&directions, &run)
        };
        let shares = ["0", "1", "10", "1000"].map(share);
        assert!(shares.is_sorted() && shares[3] > 1.2 * shares[0], "{train_nodes}: {shares:?}");
        assert!(share("") > shares[0], "{train_nodes}: by default it does nothing");
    }
}

/// In both forms of layer 1, and with so many features that they come in several blocks of columns and their principal
/// directions by iteration.
#[test]
fn the_metric_is_the_same_on_any_ranks() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    for (features, train_nodes) in [(FEATURES, 60), (330, 60)] {
        let data = scratch.path().join(format!("{features}.h5"));
        program::generate(&data, 1500, features, 3, train_nodes);
        let common = "--operators 0,2 --layers 3 --stages 3 --neurons 8 --iterations 15 --block-nodes 10";
        let folder = |name: &str| scratch.path().join(format!("{features}-{name}"));
        program::train(None, 1, &data, &folder("alone"), common);
        for (ranks, flags) in [(3, ""), (6, "--shards 2"), (2, "--threads 2")] {
            let other = folder(&ranks.to_string());
            program::train(Some(&launcher), ranks, &data, &other, &format!("{common} {flags}"));
            program::hold_alike(&folder("alone"), &other, &format!("{ranks} ranks {flags}"));
        }
        program::train(None, 1, &data, &folder("without"), &format!("{common} --follow-covariance 0"));
        let model = |name: &str| program::weights(&folder(name).join("model.h5"));
        assert_ne!(model("alone"), model("without"));
    }
}

//! Does `--tie-operators` hold the weights of a feature together over the operators, and do nothing with one operator?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "support/program.rs"]
mod program;

const FEATURES: usize = 12;

fn train(folder: &Path, name: &str, flags: &str) -> std::path::PathBuf {
    let (data, run) = (folder.join("data.h5"), folder.join(name));
    if !data.exists() {
        program::generate(&data, 400, FEATURES, 3, 60);
    }
    let common = "--layers 2 --neurons 8 --iterations 20 --precision f64";
    program::train(None, 1, &data, &run, &format!("{common} {flags}"));
    run
}

/// W_1 of model.h5, n_1 rows.
fn first_weights(run: &Path) -> Vec<Vec<f64>> {
    let (w, b) = program::weights(&run.join("model.h5")).remove(0);
    w.chunks(w.len() / b.len()).map(|row| row.iter().map(|w| f64::from_bits(*w)).collect()).collect()
}

/// The largest difference between neurons in the ratio of the weights that a feature has for two operators.
fn apart(run: &Path) -> f64 {
    let w = first_weights(run);
    assert_eq!(w[0].len(), 2 * FEATURES);
    let ratio = |row: &[f64], j: usize| row[FEATURES + j] / row[j];
    let first = &w[0];
    let differences =
        |j: usize| w.iter().map(move |row| (ratio(row, j) / ratio(first, j) - 1.0).abs()).fold(0.0, f64::max);
    (0..FEATURES).map(differences).fold(0.0, f64::max)
}

#[test]
fn weights_of_a_feature_go_together_over_operators() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |zeta: &str| {
        train(scratch.path(), &format!("two-{zeta}"), &format!("--operators 0,2 --tie-operators {zeta}"))
    };
    // All the same but for the scale that each augmented feature has, which no neuron changes.
    let together = apart(&run("1"));
    assert!(together < 1e-9, "{together}");
    let [free, default] = [apart(&run("0")), apart(&train(scratch.path(), "default", "--operators 0,2"))];
    assert!(free > 0.5, "{free}");
    assert!(default > 1e-3, "{default}");
    assert_eq!(first_weights(&run("0.3")), first_weights(&scratch.path().join("default")));
}

#[test]
fn one_operator_is_tied_to_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |zeta: &str| {
        train(scratch.path(), &format!("one-{zeta}"), &format!("--operators 2 --tie-operators {zeta}"))
    };
    program::hold_alike(&run("0"), &run("1"), "one operator");
}

//! Do the optimizers leave the same models and the same history, to the last bit, on any number of ranks and threads?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "support/program.rs"]
mod program;

use program::Launcher;

/// Holds a run to another one of the same settings.
fn hold(one: &Path, other: &Path, what: &str) {
    for model in ["model.h5", "model-last.h5"] {
        let of = |folder: &Path| program::weights(&folder.join(model));
        assert!(of(one) == of(other), "{what}: {model} differs");
    }
    let (expected, found) = (program::history(one), program::history(other));
    for (name, expected) in expected.iter().filter(|(name, _)| name.as_str() != "seconds") {
        assert_eq!(expected, &found[name], "{what}: column {name} of history.csv");
    }
    let of = |folder: &Path| program::summary(folder);
    assert_eq!(of(one)["f1"], of(other)["f1"], "{what}");
    assert!(of(one)["f1"]["best"]["macro"].is_f64(), "{what}");
}

/// Trains once without mpirun, then on 1, 2, 3 and 5 ranks with one thread and two.
fn agree(launcher: &Launcher, data: &Path, settings: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: String| scratch.path().join(name);
    let alone = folder("alone".into());
    program::train(None, 1, data, &alone, settings);
    for (ranks, threads) in [(1, 1), (2, 1), (3, 2), (5, 1), (5, 2)] {
        let other = folder(format!("{ranks}-{threads}"));
        program::train(Some(launcher), ranks, data, &other, &format!("{settings} --threads {threads}"));
        hold(&alone, &other, &format!("{ranks} ranks, {threads} threads, {settings}"));
        let bytes = program::summary(&other)["bytes"]["other"].as_u64().unwrap();
        assert_eq!(bytes > 0, ranks > 1, "{bytes} bytes on {ranks} ranks");
    }
}

/// 300 training nodes: four blocks unasked. 40 features make 160 inputs, wide enough that threads share a product.
#[test]
fn each_optimizer() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 1500, 40, 3, 300);
    for settings in [
        "--optimizer adam --layers 2",
        "--optimizer adam --layers 4 --precision f64 --block-nodes 43 --evaluate-every 4",
        "--optimizer gd --layers 3 --dropout 0 --weight-decay 0",
        "--optimizer adagrad --block-nodes 300 --layers 2",
        "--optimizer adadelta --layers 2 --dropout 0.2",
    ] {
        agree(&launcher, &data, &format!("{settings} --neurons 70 --iterations 10"));
    }
}

#[test]
fn cora() {
    let (Some(datasets), Some(launcher)) = (program::real_data(), program::launcher()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cora.h5");
    program::import(&datasets, "cora", &data);
    agree(&launcher, &data, "--optimizer adam --layers 2 --iterations 3");
}

/// The seed decides, and what is predicted is what was measured.
#[test]
fn runs_repeat_and_models_predict_what_was_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 600, 20, 3, 60);
    let folder = |name: &str| scratch.path().join(name);
    let settings = "--optimizer adam --layers 2 --neurons 16 --iterations 40";
    for (name, seed) in [("one", 0), ("again", 0), ("other", 1)] {
        program::train(None, 1, &data, &folder(name), &format!("{settings} --seed {seed}"));
    }
    hold(&folder("one"), &folder("again"), "the same seed");
    let of = |name| program::weights(&folder(name).join("model-last.h5"));
    assert!(of("one") != of("other"), "the seed changes nothing");
    let summary = program::summary(&folder("one"));
    assert_eq!((&summary["optimizer"], &summary["status"]), (&"adam".into(), &"finished".into()));
    let test = summary["best"]["test"].as_f64().unwrap();
    assert!(test > 0.6, "{test}");
    assert!(
        (summary["f1"]["best"]["micro"].as_f64().unwrap() - test).abs() < 1e-12,
        "micro-F1 is the accuracy"
    );
    let mut command = program::alone();
    command.arg("predict").arg("--model").arg(folder("one").join("model.h5")).arg("--data").arg(&data);
    let printed = program::succeed(command.arg("--output").arg(folder("prediction.h5"))).stdout;
    assert!(
        printed.lines().any(|line| line.starts_with(&format!("  test     {test:.4}"))),
        "{test}\n{printed}"
    );
    // What a run wrote can be used again.
    let config = folder("one").join("config.toml");
    program::train(None, 1, &data, &folder("config"), &format!("--config {}", config.display()));
    hold(&folder("one"), &folder("config"), "its config.toml");
}

/// Numbers that leave their range end the run with code 4 on every rank; the best model until then is kept.
#[test]
fn a_learning_rate_that_is_too_large_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 400, 12, 3, 60);
    let launcher = program::launcher();
    let output = scratch.path().join("run");
    let mut command = program::on_ranks(launcher.as_ref(), 3);
    command.arg("train").arg("--data").arg(&data).arg("--output").arg(&output);
    command.args("--optimizer gd --learning-rate 1e6 --layers 5 --neurons 16 --iterations 200".split(' '));
    let outcome = program::run(&mut command);
    assert_eq!(
        outcome.status.and_then(|status| status.code()),
        Some(4),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
    let summary = program::summary(&output);
    assert_eq!(summary["status"], "diverged");
    assert!(summary["message"].as_str().unwrap().contains("--learning-rate"), "{summary}");
    assert!(!output.join("model-last.h5").exists());
}

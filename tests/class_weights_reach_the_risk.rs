//! Does `--class-weights` weigh the risk that is trained on, with every kind of optimizer, the same on any ranks? Does a run
//! begun before there were weights go on without?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use pdadmm_g::dataset::generate::{GenerateSettings, generate};

#[path = "support/program.rs"]
mod program;

/// Two classes: about half of the training nodes are of class 0, but few of the validation nodes.
fn unbalanced(folder: &Path) -> PathBuf {
    let mut dataset = generate(&GenerateSettings::new(600, 12, 2)).unwrap();
    let labels = dataset.labels.clone();
    for split in dataset.splits.values_mut() {
        let mut kept = 0;
        split.val.retain(|&node| {
            kept += usize::from(labels[node] == 0);
            labels[node] == 1 || kept < 8
        });
    }
    let path = folder.join("data.h5");
    dataset.write(&path, false).unwrap();
    path
}

/// ω for γ = 1, from the definition.
fn weights(data: &Path) -> ([f64; 2], [f64; 2]) {
    let file = pdadmm_g::dataset::DatasetFile::open(data).unwrap();
    let (labels, splits) = (file.labels().unwrap(), file.splits().unwrap());
    let split = splits.values().next().unwrap();
    let count = |nodes: &[usize]| {
        [0, 1].map(|class| nodes.iter().filter(|&&node| labels[node] == class).count() as f64)
    };
    let (train, val) = (count(&split.train), count(&split.val));
    let (n, all) = (val[0] + val[1], train[0] + train[1]);
    let expected = train.map(|t| n * t / all);
    let chi_square: f64 = (0..2).map(|c| (val[c] - expected[c]).powi(2) / expected[c]).sum();
    assert!(chi_square > 20.0, "{train:?} {val:?}");
    let share = |c: usize| train[c] / all + (1.0 - 1.0 / chi_square) * (val[c] / n - train[c] / all);
    (train, [0, 1].map(|c| share(c) * all / train[c]))
}

/// `risk` of the first row.
fn first_risk(folder: &Path) -> f64 {
    program::column(folder, "risk")[0]
}

/// All runs start with the same weights, so that the losses of two classes follow from two of them, and give a third.
#[test]
fn a_step_of_gradient_descent_is_taken_on_the_weighted_loss() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let risk = |gamma: &str| {
        let folder = scratch.path().join(format!("run{gamma}"));
        let flags = format!(
            "--optimizer gd --layers 3 --dropout 0 --iterations 1 --precision f64 --class-weights {gamma}"
        );
        program::train(None, 1, &data, &folder, &flags);
        first_risk(&folder)
    };
    let (train, once) = weights(&data);
    let all = train[0] + train[1];
    let squared = once.map(|w| w * w);
    let mean = (squared[0] * train[0] + squared[1] * train[1]) / all;
    let twice = squared.map(|w| w / mean);
    let (plain, weighted) = (risk("0") * all, risk("1") * all);
    // S_0 + S_1 and ω_0 S_0 + ω_1 S_1.
    let first = (weighted - once[1] * plain) / (once[0] - once[1]);
    let expected = (twice[0] * first + twice[1] * (plain - first)) / all;
    let found = risk("2");
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
    assert!((found - plain / all).abs() > 1e-3, "weights change nothing");
}

#[test]
fn the_admm_weighs_by_default_and_on_any_ranks_alike() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let folder = |name: &str| scratch.path().join(name);
    let small = "--layers 4 --neurons 16 --iterations 20 --block-nodes 10";
    let launcher = program::launcher();
    for (name, flags) in [("default", ""), ("half", "--class-weights 0.5"), ("none", "--class-weights 0")] {
        program::train(None, 1, &data, &folder(name), &format!("{small} {flags}"));
    }
    let history = |name: &str, column: &str| program::history(&folder(name))[column].clone();
    assert_eq!(history("default", "risk"), history("half", "risk"));
    assert_ne!(history("default", "risk"), history("none", "risk"));
    for (ranks, flags) in [(2, ""), (4, ""), (8, "--shards 2"), (2, "--optimizer adam --class-weights 1")] {
        let Some(launcher) = &launcher else { break };
        let alone = match flags.starts_with("--optimizer") {
            true => folder("adam"),
            false => folder("default"),
        };
        if !alone.exists() {
            program::train(None, 1, &data, &alone, &format!("{small} {flags}"));
        }
        let other = folder(&format!("{ranks}-{}", flags.len()));
        program::train(Some(launcher), ranks, &data, &other, &format!("{small} {flags}"));
        for model in ["model.h5", "model-last.h5"] {
            let of = |folder: &Path| program::weights(&folder.join(model));
            assert!(of(&alone) == of(&other), "{ranks} ranks {flags}: {model} differs");
        }
    }
}

#[test]
fn a_run_begun_before_there_were_weights_goes_on_without() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let [straight, old] = ["straight", "old"].map(|name| scratch.path().join(name));
    let small = "--layers 2 --neurons 16 --iterations 20 --class-weights 0";
    program::train(None, 1, &data, &straight, small);
    program::train(None, 1, &data, &old, small);
    let path = old.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("class-weights")).collect();
    assert_eq!(without.len() + 1, config.lines().count());
    std::fs::write(&path, without.join("\n")).unwrap();
    // What was left of it is a folder without results.
    for file in ["summary.json", "history.csv", "model.h5", "model-last.h5", "run.csv"] {
        let _ = std::fs::remove_file(old.join(file));
    }
    let resumed = program::run(program::alone().args(["train", "--resume"]).arg(&old));
    assert_eq!(resumed.status.unwrap().code(), Some(0), "{resumed:?}");
    let risk = |folder: &Path| program::history(folder)["risk"].clone();
    assert_eq!(risk(&straight), risk(&old));
    assert!(std::fs::read_to_string(&path).unwrap().contains("class-weights = 0.0"));
}

//! Does `--class-weights` weigh the risk that is trained on, with every kind of optimizer, the same on any ranks? Does a run
//! begun before there were weights go on without?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use pdadmm_g::dataset::generate::{GenerateSettings, generate};

#[path = "support/program.rs"]
mod program;

/// Split with the training nodes of class 0 alone, beside the one of the generator.
const FIRST_CLASS: &str = "first-class";

/// Two classes: of the training nodes some less than half are of class 0, of the validation nodes few.
fn unbalanced(folder: &Path) -> PathBuf {
    let mut dataset = generate(&GenerateSettings::new(600, 12, 2)).unwrap();
    let labels = dataset.labels.clone();
    let (name, mut split) = dataset.splits.pop_first().unwrap();
    for (nodes, most) in [(&mut split.train, 12), (&mut split.val, 8)] {
        let mut kept = 0;
        nodes.retain(|&node| {
            kept += usize::from(labels[node] == 0);
            labels[node] == 1 || kept <= most
        });
    }
    let mut first = split.clone();
    first.train.retain(|&node| labels[node] == 0);
    dataset.splits.extend([(FIRST_CLASS.to_owned(), first), (name, split)]);
    let path = folder.join("data.h5");
    dataset.write(&path, false).unwrap();
    path
}

/// Training nodes of each class, and ω for γ = 1, from the definition.
fn weights(data: &Path) -> ([f64; 2], [f64; 2]) {
    let file = pdadmm_g::dataset::DatasetFile::open(data).unwrap();
    let (labels, splits) = (file.labels().unwrap(), file.splits().unwrap());
    let (name, _) = splits.iter().find(|(name, _)| *name != FIRST_CLASS).unwrap();
    let split = &splits[name];
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

/// All runs start with the same network, so that the loss of each class is known from a run on the nodes of one class and
/// one without weights.
#[test]
fn the_risk_of_backpropagation_counts_each_class_by_its_weight() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let risk = |flags: &str| {
        let folder = scratch.path().join(flags.replace(' ', ""));
        let common = "--optimizer gd --layers 3 --dropout 0 --iterations 1 --precision f64";
        program::train(None, 1, &data, &folder, &format!("{common} {flags}"));
        program::column(&folder, "risk")[0]
    };
    let (train, once) = weights(&data);
    let all = train[0] + train[1];
    let squared = once.map(|w| w * w);
    let mean = (squared[0] * train[0] + squared[1] * train[1]) / all;
    let twice = squared.map(|w| w / mean);
    let plain = risk("--class-weights 0");
    let first = risk(&format!("--split {FIRST_CLASS} --class-weights 0")) * train[0];
    let second = plain * all - first;
    for (gamma, weights) in [(1, once), (2, twice)] {
        let expected = (weights[0] * first + weights[1] * second) / all;
        let found = risk(&format!("--class-weights {gamma}"));
        assert!((found - expected).abs() < 1e-9, "γ = {gamma}: {found} for {expected}");
        assert!((found - plain).abs() > 1e-3, "weights change nothing");
    }
}

#[test]
fn the_admm_weighs_by_default_and_adam_when_asked_on_any_ranks_alike() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let folder = |name: &str| scratch.path().join(name);
    let small = "--layers 4 --neurons 16 --iterations 20 --block-nodes 10";
    let launcher = program::launcher();
    for (name, flags) in [("default", ""), ("one", "--class-weights 1"), ("none", "--class-weights 0")] {
        program::train(None, 1, &data, &folder(name), &format!("{small} {flags}"));
    }
    let history = |name: &str, column: &str| program::history(&folder(name))[column].clone();
    assert_eq!(history("default", "risk"), history("one", "risk"));
    assert_ne!(history("default", "risk"), history("none", "risk"));
    let adam = "--optimizer adam --class-weights";
    for gamma in ["0", "1"] {
        program::train(None, 1, &data, &folder(&format!("adam{gamma}")), &format!("{small} {adam} {gamma}"));
    }
    assert_ne!(history("adam0", "risk"), history("adam1", "risk"));
    let adam = format!("{adam} 1");
    for (ranks, flags) in [(2, ""), (4, ""), (8, "--shards 2"), (2, &*adam)] {
        let Some(launcher) = &launcher else { break };
        let alone = folder(if flags == adam { "adam1" } else { "default" });
        let other = folder(&format!("{ranks}-{}", flags.len()));
        program::train(Some(launcher), ranks, &data, &other, &format!("{small} {flags}"));
        program::hold_alike(&alone, &other, &format!("{ranks} ranks {flags}"));
    }
}

#[test]
fn a_run_begun_before_there_were_weights_ties_and_covariance_goes_on_without() {
    let scratch = tempfile::tempdir().unwrap();
    let data = unbalanced(scratch.path());
    let [straight, old] = ["straight", "old"].map(|name| scratch.path().join(name));
    let later = ["class-weights", "tie-operators", "follow-covariance"];
    let without = later.map(|key| format!("--{key} 0")).join(" ");
    let small = &format!("--layers 2 --neurons 16 --iterations 20 {without}");
    program::train(None, 1, &data, &straight, small);
    program::train(None, 1, &data, &old, small);
    let path = old.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let is_later = |line: &str| later.iter().any(|key| line.starts_with(key));
    let without: Vec<&str> = config.lines().filter(|line| !is_later(line)).collect();
    assert_eq!(without.len() + later.len(), config.lines().count());
    std::fs::write(&path, without.join("\n")).unwrap();
    // What was left of it is a folder without results.
    for file in ["summary.json", "history.csv", "model.h5", "model-last.h5", "run.csv"] {
        let _ = std::fs::remove_file(old.join(file));
    }
    let resumed = program::run(program::alone().args(["train", "--resume"]).arg(&old));
    assert_eq!(resumed.status.unwrap().code(), Some(0), "{resumed:?}");
    let risk = |folder: &Path| program::history(folder)["risk"].clone();
    assert_eq!(risk(&straight), risk(&old));
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(later.iter().all(|key| config.contains(&format!("{key} = 0.0"))), "{config}");
}

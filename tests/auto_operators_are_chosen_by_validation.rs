//! Does `--operators auto` keep the best candidate by validation accuracy, the same on any ranks, once for a run?

#![allow(clippy::unwrap_used)]

use std::path::Path;

use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::parallel::ThreadCommunicator;
use pdadmm_g::settings::{Method, OperatorChoice, RawSettings};
use pdadmm_g::train::operator_search::{CANDIDATES, OperatorSummary};
use pdadmm_g::train::{RunOptions, train, train_several};

fn raw(folder: &Path, output: &str) -> RawSettings {
    RawSettings {
        data: Some(folder.join("graph.h5")),
        output: Some(folder.join(output)),
        operators: Some(OperatorChoice::Auto),
        neurons: Some(8),
        iterations: Some(6),
        block_nodes: Some(20),
        ..RawSettings::default()
    }
}

fn graph(folder: &Path) {
    let data = GenerateSettings::new(300, 12, 3);
    generate(&data).unwrap().write(folder.join("graph.h5"), false).unwrap();
}

/// A run on `ranks` threads: what it says of its operators, the same on all of them.
fn run(raw: &RawSettings, ranks: usize) -> OperatorSummary {
    let settings = raw.clone().check().unwrap();
    let outcomes = ThreadCommunicator::run(ranks, |communicator| {
        train::<f32>(&settings, communicator, RunOptions::default()).unwrap().summary.operators
    });
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    outcomes[0].clone()
}

#[test]
fn the_best_is_kept_and_written_down() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    graph(folder);
    for (name, method) in [("admm", Method::Admm), ("adam", Method::Adam)] {
        let with =
            |output: String| RawSettings { optimizer: Some(method), layers: Some(3), ..raw(folder, &output) };
        let alone = run(&with(format!("{name}-1")), 1);
        for ranks in [2, 3] {
            assert_eq!(run(&with(format!("{name}-{ranks}")), ranks), alone, "{name} on {ranks} ranks");
        }
        assert_eq!(alone.tried.len(), CANDIDATES.len());
        let top = alone.tried.iter().map(|trial| trial.val.unwrap()).fold(0.0, f64::max);
        let used = alone
            .tried
            .iter()
            .find(|trial| trial.operators == alone.used && trial.feature_norm == alone.feature_norm);
        let used = used.unwrap();
        assert_eq!(used.val.unwrap(), top);
        let tied = alone.tried.iter().filter(|trial| trial.val == used.val);
        assert!(tied.into_iter().all(|trial| trial.val_loss.unwrap() >= used.val_loss.unwrap()));
        // Going on, or training with this file, chooses nothing anew.
        let config = RawSettings::from_file(&folder.join(format!("{name}-1/config.toml"))).unwrap();
        assert_eq!(config.operators.as_ref().map(ToString::to_string), Some(alone.used.clone()));
        assert_eq!(config.feature_norm, Some(alone.feature_norm));
        let again = run(&RawSettings { output: Some(folder.join(format!("{name}-again"))), ..config }, 1);
        assert_eq!(again, OperatorSummary { tried: Vec::new(), ..alone });
        let history =
            |run: &str| std::fs::read_to_string(folder.join(format!("{name}-{run}/history.csv"))).unwrap();
        let objectives = |run: &str| -> Vec<String> {
            history(run).lines().map(|line| line.split(',').take(5).collect::<Vec<_>>().join(",")).collect()
        };
        assert_eq!(objectives("1"), objectives("again"));
    }
}

#[test]
fn the_first_of_several_runs_chooses_for_all() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    graph(folder);
    let settings = RawSettings { runs: Some(2), layers: Some(2), ..raw(folder, "runs") }.check().unwrap();
    let several = ThreadCommunicator::run(2, |communicator| {
        train_several::<f32>(&settings, communicator, RunOptions::default()).unwrap().1
    });
    let [first, second] = several[0].runs.as_slice() else { panic!("two runs") };
    assert!(!first.operators.tried.is_empty() && second.operators.tried.is_empty());
    assert_eq!(first.operators.used, second.operators.used);
    for file in ["runs/config.toml", "runs/run-1/config.toml"] {
        let config = RawSettings::from_file(&folder.join(file)).unwrap();
        assert_eq!(config.operators.map(|choice| choice.to_string()), Some(first.operators.used.clone()));
    }
}

#[test]
fn without_validation_nodes_there_is_nothing_to_choose_by() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let mut data = generate(&GenerateSettings::new(300, 12, 3)).unwrap();
    for split in data.splits.values() {
        split.val.iter().for_each(|&node| data.labels[node] = -1);
    }
    data.write(folder.join("graph.h5"), false).unwrap();
    let settings = raw(folder, "run").check().unwrap();
    let errors = ThreadCommunicator::run(2, |communicator| {
        train::<f32>(&settings, communicator, RunOptions::default()).unwrap_err()
    });
    for error in errors {
        assert!(error.is_joint() && error.exit_code() == 2, "{error}");
        assert!(error.to_string().contains("--operators auto needs validation nodes"), "{error}");
    }
}

//! Does `--operators auto` keep the best candidate by validation accuracy, the same on any ranks, once for a run? Is what
//! cannot run refused before the short runs, and a stop granted between two of them?

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pdadmm_g::dataset::DatasetFile;
use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::parallel::plan::Shards;
use pdadmm_g::parallel::{Communicator, ThreadCommunicator};
use pdadmm_g::settings::{Method, OperatorChoice, RawSettings};
use pdadmm_g::train::operator_search::{CANDIDATES, OperatorSummary, Trial};
use pdadmm_g::train::{RunOptions, Screen, train, train_several};

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
        let used = alone
            .tried
            .iter()
            .find(|trial| trial.operators == alone.used && trial.feature_norm == alone.feature_norm)
            .unwrap();
        let of = |fallback: bool| {
            let all = CANDIDATES.iter().zip(&alone.tried);
            all.filter(move |(candidate, _)| candidate.fallback == fallback).map(|(_, trial)| trial)
        };
        // The best but for fallbacks, and those where they are clearly ahead.
        let val = DatasetFile::open(folder.join("graph.h5")).unwrap().splits().unwrap()["random"].val.len();
        let top = of(false).map(|trial| trial.val.unwrap()).fold(0.0, f64::max);
        let enough = top + (top * (1.0 - top) / val as f64).sqrt();
        let clear = of(true).filter(|trial| trial.val.unwrap() > enough);
        let expected = clear.map(|trial| trial.val.unwrap()).fold(top, f64::max);
        assert_eq!(used.val.unwrap(), expected);
        let mut tied = of(false).filter(|trial| trial.val == used.val);
        assert!(tied.all(|trial| trial.val_loss.unwrap() >= used.val_loss.unwrap()));
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

/// What is tried for two layers with settings changed like this.
fn tried(change: impl FnOnce(&mut RawSettings)) -> Vec<Trial> {
    let scratch = tempfile::tempdir().unwrap();
    graph(scratch.path());
    let mut settings = RawSettings { layers: Some(2), ..raw(scratch.path(), "run") };
    change(&mut settings);
    run(&settings, 1).tried
}

#[test]
fn tied_operators_are_tried_as_such() {
    let [apart, together] = [0.0, 1.0].map(|zeta| tried(|with| with.tie_operators = Some(zeta)));
    for (apart, together) in apart.iter().zip(&together) {
        assert_eq!(apart == together, !apart.operators.contains(','), "{apart:?} {together:?}");
    }
}

#[test]
fn candidates_follow_the_covariance_as_the_run_does() {
    let [without, with] = [0.0, 10.0].map(|xi| tried(|with| with.follow_covariance = Some(xi)));
    for (without, with) in without.iter().zip(&with) {
        assert_ne!(without.val_loss, with.val_loss, "{}", with.operators);
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

/// What rank 0 prints.
#[derive(Clone, Default)]
struct Printed(Rc<RefCell<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run on two ranks that ends with an error, the same on both: exit code and message, and how many candidates were tried.
fn refused(
    raw: &RawSettings,
    options: impl Fn(&dyn Communicator) -> RunOptions + Sync,
) -> (u8, String, usize) {
    let settings = raw.clone().check().unwrap();
    let ends = ThreadCommunicator::run(2, |communicator| {
        let printed = Printed::default();
        let screen = Screen::to(Box::new(printed.clone()));
        let options = RunOptions { screen, ..options(communicator) };
        let error = train::<f32>(&settings, communicator, options).unwrap_err();
        assert!(error.is_joint(), "{error}");
        let tried = String::from_utf8_lossy(&printed.0.borrow()).matches(" validation 0.").count();
        (error.exit_code(), error.to_string(), tried)
    });
    assert_eq!(ends[0], ends[1]);
    ends[0].clone()
}

#[test]
fn what_cannot_run_is_refused_before_the_short_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    graph(folder);
    std::fs::write(folder.join("file"), "").unwrap();
    std::fs::create_dir(folder.join("used")).unwrap();
    std::fs::write(folder.join("used/config.toml"), "").unwrap();
    let plain = |_: &dyn Communicator| RunOptions::default();
    for method in [Method::Admm, Method::Adam] {
        let with = |raw| RawSettings { optimizer: Some(method), layers: Some(3), ..raw };
        let (code, message, tried) = refused(&with(raw(folder, "used")), plain);
        assert!(code == 2 && tried == 0 && message.contains("already holds a run"), "{message}");
        let (_, message, tried) = refused(&with(raw(folder, "file/run")), plain);
        assert!(tried == 0 && message.contains("file/run"), "{message}");
        let huge = RawSettings { neurons: Some(1 << 20), ..with(raw(folder, "huge")) };
        let (code, message, tried) = refused(&huge, plain);
        assert!(code == 2 && tried == 0 && message.contains("of memory"), "{message}");
    }
    let shards = RawSettings { shards: Some(Shards::Of(4)), layers: Some(3), ..raw(folder, "shards") };
    let (code, message, tried) = refused(&shards, plain);
    assert!(code == 2 && tried == 0 && message.contains("--shards"), "{message}");
}

#[test]
fn a_stop_is_granted_between_two_candidates() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    graph(folder);
    let settings = RawSettings { layers: Some(3), ..raw(folder, "run") };
    // Rank 1 is told to stop while the second candidate is tried.
    let signal = |communicator: &dyn Communicator| {
        let (rank, asked) = (communicator.rank(), AtomicUsize::new(0));
        let stop = Box::new(move |_| rank == 1 && asked.fetch_add(1, Ordering::Relaxed) == 2);
        RunOptions { stop, ..RunOptions::default() }
    };
    let (code, message, tried) = refused(&settings, signal);
    assert!(code == 1 && tried == 2 && message.contains("told to stop by a signal"), "{tried}: {message}");
    assert!(
        message.contains("nothing has been trained that --resume could go on with; start the command again"),
        "{message}"
    );
    assert!(!folder.join("run").exists());

    let settings = RawSettings { max_time: Some("1s".parse().unwrap()), ..settings };
    let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
    let late = |_: &dyn Communicator| RunOptions { since: Some(long_ago), ..RunOptions::default() };
    let (code, message, tried) = refused(&settings, late);
    assert!(code == 2 && tried == 0 && message.contains("--max-time is over"), "{message}");
}

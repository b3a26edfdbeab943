//! Do the phases of a run add up to its time, and does its row tell every setting?
#![allow(clippy::unwrap_used)]

use std::path::Path;

use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::parallel::ThreadCommunicator;
use pdadmm_g::settings::{Method, Quantize, RawSettings};
use pdadmm_g::timing::Phase;
use pdadmm_g::train::{Outcome, RunOptions, train};

fn run(folder: &Path, ranks: usize, change: impl FnOnce(RawSettings) -> RawSettings) -> Outcome {
    let data = folder.join("graph.h5");
    if !data.exists() {
        generate(&GenerateSettings::new(1500, 32, 4)).unwrap().write(&data, false).unwrap();
    }
    let raw = RawSettings {
        data: Some(data),
        output: Some(folder.join("run")),
        layers: Some(4),
        neurons: Some(64),
        iterations: Some(60),
        evaluate_every: Some(5),
        ..RawSettings::default()
    };
    let settings = change(raw).check().unwrap();
    let options = || RunOptions { overwrite: true, ..RunOptions::default() };
    let run = |communicator: &ThreadCommunicator| train::<f32>(&settings, communicator, options()).unwrap();
    ThreadCommunicator::run(ranks, run).swap_remove(0)
}

#[test]
fn phases_add_up_to_the_run() {
    let folder = tempfile::tempdir().unwrap();
    for ranks in [1, 2] {
        let summary = run(folder.path(), ranks, |raw| raw).summary;
        let of = |phase: Phase| summary.phases[&phase];
        let sum = |phases: &[Phase]| phases.iter().map(|&phase| of(phase).avg).sum::<f64>();
        let total = summary.seconds.total;
        let all = sum(&Phase::ALL);
        assert!((all - total).abs() <= 0.02 * total, "{ranks} ranks: phases {all} s, run {total} s");
        let training: Vec<Phase> = Phase::ALL
            .into_iter()
            .filter(|phase| !matches!(phase, Phase::Read | Phase::Augment | Phase::Other))
            .collect();
        let (named, train) = (sum(&training), summary.seconds.train);
        assert!(named >= 0.98 * train, "{ranks} ranks: phases of training {named} s, training {train} s");
        let share: f64 = summary.phases.values().map(|phase| phase.share).sum();
        assert!((share - 1.0).abs() < 1e-9);
        for phase in [Phase::P, Phase::W, Phase::Evaluate] {
            let told = of(phase);
            assert!(told.gflops.is_some_and(|rate| rate > 0.01), "{phase:?}: {told:?}");
            assert!(told.min <= told.avg && told.avg <= told.max && told.imbalance >= 1.0);
        }
        for phase in [Phase::B, Phase::Z, Phase::Q, Phase::Reduce, Phase::Stage] {
            assert!(of(phase).max > 0.0, "{phase:?} took no time");
        }
        for phase in [Phase::U, Phase::Encode, Phase::Decode] {
            assert_eq!(of(phase).max > 0.0, ranks > 1, "{phase:?} with {ranks} ranks");
        }
        // Several ranks in one process share its memory, and each tells of all of it.
        assert!(!cfg!(target_os = "linux") || summary.memory.peak > 1_000_000);
    }
}

#[test]
fn one_row_tells_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    for method in [Method::Admm, Method::Adam] {
        let summary = run(folder.path(), 2, |raw| match method {
            Method::Admm => RawSettings { quantize: Some(Quantize::Pq), stages: Some(vec![2, 4]), ..raw },
            _ => RawSettings { optimizer: Some(method), ..raw },
        });
        let summary = summary.summary;
        let mut reader = csv::Reader::from_path(folder.path().join("run/run.csv")).unwrap();
        let head: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1);
        let cell = |name: &str| {
            let at = head.iter().position(|column| column == name);
            rows[0].get(at.unwrap_or_else(|| panic!("no column {name}"))).unwrap().to_owned()
        };
        let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
        for (key, value) in config.parse::<toml::Table>().unwrap() {
            let text = match value {
                toml::Value::Array(list) => {
                    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
                }
                toml::Value::String(text) => text,
                other => other.to_string(),
            };
            assert_eq!(cell(&format!("config.{key}")), text, "{key}");
        }
        assert_eq!(cell("status"), "finished");
        assert_eq!((cell("ranks"), cell("hosts")), ("2".into(), "1".into()));
        assert_eq!(cell("iterations"), summary.iterations.to_string());
        assert_eq!(cell("best.test").parse(), Ok(summary.best.test.unwrap()));
        assert_eq!(cell("bytes.q").parse(), Ok(summary.bytes.q));
        assert_eq!(cell("phases.wait.max").parse(), Ok(summary.phases[&Phase::Wait].max));
        assert_eq!(cell("training_nodes"), "80");
        assert!(head.iter().all(|name| head.iter().filter(|other| *other == name).count() == 1));
        heads.push(head);
    }
    assert_eq!(heads[0], heads[1], "rows of all runs fit below one head");
}

//! Does a run come to the same bits on any number of ranks, whatever p and q travel as?

#![allow(clippy::unwrap_used)]

use std::path::Path;

use pdadmm_g::admm::Subproblem;
use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::parallel::ThreadCommunicator;
use pdadmm_g::quantize::Wire;
use pdadmm_g::settings::{Precision, Quantize, RawSettings};
use pdadmm_g::train::output::Summary;
use pdadmm_g::train::{RunOptions, train};

/// A run on `ranks` threads: its summary and its history without traffic and seconds.
fn run(folder: &Path, raw: &RawSettings, ranks: usize) -> (Summary, String) {
    let output = folder.join(format!("run-{ranks}"));
    let raw = RawSettings {
        data: Some(folder.join("graph.h5")),
        output: Some(output.clone()),
        stages: Some(vec![2, 5]),
        neurons: Some(8),
        iterations: Some(25),
        evaluate_every: Some(5),
        block_nodes: Some(20),
        ..raw.clone()
    };
    let settings = raw.check().unwrap();
    let outcomes = ThreadCommunicator::run(ranks, |communicator| {
        let options = RunOptions { overwrite: true, ..RunOptions::default() };
        match settings.precision {
            Precision::F32 => train::<f32>(&settings, communicator, options).unwrap(),
            Precision::F64 => train::<f64>(&settings, communicator, options).unwrap(),
        }
    });
    let history = std::fs::read_to_string(output.join("history.csv")).unwrap();
    let columns: Vec<&str> = history.lines().next().unwrap().split(',').collect();
    let kept: Vec<usize> = (0..columns.len())
        .filter(|&i| !["bytes", "seconds", "messages"].iter().any(|word| columns[i].contains(word)))
        .collect();
    let keep = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        kept.iter().map(|&i| cells[i]).collect::<Vec<_>>().join(",")
    };
    (outcomes[0].summary.clone(), history.lines().map(keep).collect::<Vec<_>>().join("\n"))
}

fn check(name: &str, raw: &RawSettings) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    let data = GenerateSettings::new(300, 12, 3);
    generate(&data).unwrap().write(folder.path().join("graph.h5"), false).unwrap();
    let (alone, history) = run(folder.path(), raw, 1);
    assert_eq!(alone.bytes.p + alone.bytes.q, 0);
    let mut summary = alone;
    for ranks in [2, 3, 5] {
        let (on_ranks, there) = run(folder.path(), raw, ranks);
        assert_eq!(history, there, "{name}: 1 rank and {ranks} ranks differ");
        summary = on_ranks;
    }
    let ratio = summary.bytes.baseline as f64 / (summary.bytes.p + summary.bytes.q) as f64;
    println!("{name}: ratio {ratio:.1}, test accuracy {:?}", summary.accuracy.test);
    summary
}

fn ratio(summary: &Summary) -> f64 {
    summary.bytes.baseline as f64 / (summary.bytes.p + summary.bytes.q) as f64
}

#[test]
fn level_indices() {
    for (quantize, bits) in [(Quantize::Pq, 4), (Quantize::Pq, 8), (Quantize::P, 2), (Quantize::Q, 12)] {
        let raw = RawSettings { quantize: Some(quantize), bits: Some(bits), ..RawSettings::default() };
        let summary = check(&format!("{quantize:?} at {bits} bits"), &raw);
        assert!(ratio(&summary) > if quantize == Quantize::Pq { 10.0 } else { 2.0 });
    }
    let paper = RawSettings {
        quantize: Some(Quantize::Pq),
        levels: Some("-1:20:1".to_owned()),
        precision: Some(Precision::F64),
        ..RawSettings::default()
    };
    assert!(ratio(&check("levels of the paper", &paper)) > 10.0);
}

#[test]
fn numbers_of_16_and_32_bits() {
    for (wire, precision, subproblem, least) in [
        (Wire::F16, Precision::F32, Subproblem::Exact, 2.5),
        (Wire::Bf16, Precision::F32, Subproblem::Gradient, 2.5),
        (Wire::F32, Precision::F64, Subproblem::Auto, 1.3),
        (Wire::F16, Precision::F64, Subproblem::Gradient, 2.5),
    ] {
        let raw = RawSettings {
            wire: Some(wire),
            precision: Some(precision),
            subproblem: Some(subproblem),
            ..RawSettings::default()
        };
        let summary = check(&format!("{wire}, {precision:?}, {subproblem:?}"), &raw);
        assert!(ratio(&summary) > least, "{}", ratio(&summary));
    }
}

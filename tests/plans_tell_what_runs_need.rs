//! Does `plan` tell beforehand who holds what, the bytes, and the memory of a run, and is a run that cannot fit refused?
#![allow(clippy::unwrap_used)]

use std::path::Path;

use pdadmm_g::train::memory::PROCESS;

#[path = "support/program.rs"]
mod program;

const TRAINING: usize = 6000;

fn plan(arguments: &str) -> serde_json::Value {
    let mut command = program::alone();
    command.args(["plan", "--json"]).args(arguments.split_whitespace());
    serde_json::from_str(&program::succeed(&mut command).stdout).unwrap()
}

fn summary(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap()
}

/// Plans a run and runs it.
fn hold(data: &Path, folder: &Path, ranks: usize, settings: &str) {
    let launcher = program::launcher();
    if ranks > 1 && launcher.is_none() {
        return;
    }
    let forecast = plan(&format!("--data {} --ranks {ranks} {settings}", data.display()));
    let output = folder.join(format!("run-{ranks}"));
    let flags = format!("{settings} --iterations 2 --overwrite");
    let launcher = launcher.as_ref().filter(|_| ranks > 1);
    let told = program::train(launcher, ranks, data, &output, &flags).stdout;
    let stages = forecast["stages"].as_array().unwrap();
    for stage in stages {
        let mapping =
            format!("{} layers, by rank: {}\n", stage["layers"], stage["mapping"].as_str().unwrap());
        assert!(told.contains(&mapping), "{mapping} is not in\n{told}");
    }
    let summary = summary(&output);
    for of in ["p", "q"] {
        let planned: u64 = stages
            .iter()
            .flat_map(|stage| stage["boundaries"].as_array().unwrap())
            .map(|boundary| 2 * boundary[of].as_u64().unwrap())
            .sum();
        let sent = summary["bytes"][of].as_u64().unwrap();
        assert!(
            sent >= planned && sent as f64 <= 1.01 * planned as f64,
            "{of}: {planned} planned, {sent} sent"
        );
    }
    if cfg!(target_os = "linux") {
        let peaks = forecast["peaks"].as_array().unwrap().iter().map(|peak| peak.as_u64().unwrap());
        let planned = (peaks.max().unwrap() - PROCESS) as f64;
        let taken = summary["memory"]["peak"].as_u64().unwrap().saturating_sub(PROCESS) as f64;
        let ratio = planned / taken;
        assert!((0.8..=1.25).contains(&ratio), "{ranks} ranks {settings}: {planned} planned, {taken} taken");
    }
}

#[test]
fn plans_are_held_by_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("graph.h5");
    program::generate(&data, TRAINING + 1500, 64, 5, TRAINING);
    for ranks in [1, 2, 4] {
        hold(&data, folder.path(), ranks, "--stages 2,4 --neurons 500");
    }
    hold(&data, folder.path(), 2, "--stages 2,4 --neurons 500 --shards 2");
}

#[test]
fn sizes_may_be_given_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("graph.h5");
    program::generate(&data, 3000, 16, 4, 400);
    let settings = "--ranks 3 --layers 6 --quantize pq --bits 4";
    let read = plan(&format!("--data {} {settings}", data.display()));
    let sizes = "--nodes 3000 --training-nodes 400 --features 16 --classes 4 --evaluated 1900";
    let given = plan(&format!("{sizes} {settings}"));
    for (a, b) in read["stages"].as_array().unwrap().iter().zip(given["stages"].as_array().unwrap()) {
        for key in ["mapping", "boundaries", "gflop"] {
            assert_eq!(a[key], b[key], "{key}");
        }
    }
    for (flags, word) in [
        ("--nodes 3000 --features 16 --classes 4", "--training-nodes"),
        ("--nodes 300 --training-nodes 400 --features 16 --classes 4", "--nodes"),
        ("--layers 3", "--data"),
        ("--nodes 300 --training-nodes 40 --features 16 --classes 4 --ranks 11", "11 ranks"),
        ("--nodes 300 --training-nodes 40 --features 16 --classes 4 --optimizer adam", "adam"),
    ] {
        let mut command = program::alone();
        let outcome = program::run(command.arg("plan").args(flags.split_whitespace()));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{flags}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(word), "{flags}: {}", outcome.stderr);
    }
}

#[test]
fn what_no_machine_can_hold_is_refused_before_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("graph.h5");
    program::generate(&data, 1000, 16, 4, 100);
    for flags in ["--neurons 1048576", "--neurons 1048576 --optimizer adam"] {
        let mut command = program::alone();
        command.arg("train").arg("--data").arg(&data).arg("--output").arg(folder.path().join("run"));
        let outcome = program::run(command.args(flags.split_whitespace()));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{flags}: {}", outcome.stderr);
        for word in ["TB of memory", "are available", "--neurons"] {
            assert!(outcome.stderr.contains(word), "{flags}: {}", outcome.stderr);
        }
        assert!(!folder.path().join("run").exists(), "{flags} has left a folder");
    }
}

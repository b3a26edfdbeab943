//! Does `traffic` measure every way to send p and q, truly, and refuse what it cannot do?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;

#[path = "support/program.rs"]
mod program;

fn rows(folder: &Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(folder.join("traffic.csv")).unwrap().deserialize().map(Result::unwrap).collect()
}

fn traffic(data: &Path, output: &Path, more: &str) -> std::process::Command {
    let mut command = program::alone();
    command.args(["traffic", "--layers", "4", "--neurons", "16", "--iterations", "12", "--data"]).arg(data);
    command.arg("--output").arg(output).args(more.split_whitespace());
    command
}

#[test]
fn ours_and_packed_have_one_accuracy_and_fewer_bytes_than_the_base_line() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 400, 12, 3, 60);
    let output = scratch.path().join("study");
    let all = "--runs 2 --seed 5";
    let printed = program::succeed(&mut traffic(&data, &output, all)).stdout;
    let rows = rows(&output);
    // none and f16 once, the twelve others coded and packed; two runs each.
    assert_eq!(rows.len(), 2 * (2 + 2 * 12), "{printed}");
    let number = |row: &BTreeMap<String, String>, key: &str| row[key].parse::<f64>().unwrap();
    for row in &rows {
        assert!(["5", "6"].contains(&row["seed"].as_str()), "{row:?}");
        assert!(number(row, "bytes") < number(row, "bytes_baseline"), "{row:?}");
        assert!((0.0..=1.0).contains(&number(row, "test_at_best")), "{row:?}");
        if row["coding"] == "packed" {
            let same = |other: &&BTreeMap<String, String>| {
                other["way"] == row["way"] && other["seed"] == row["seed"] && other["coding"] == "smallest"
            };
            let coded = rows.iter().find(same).unwrap();
            assert_eq!(coded["test_at_best"], row["test_at_best"], "{row:?}");
            assert_eq!(coded["test_at_end"], row["test_at_end"], "{row:?}");
            assert!(number(coded, "bytes") <= number(row, "bytes"), "{coded:?} {row:?}");
        }
    }
    // A run of train with the same settings sends what the table says.
    let bytes = |way: &str| {
        let row = rows.iter().find(|row| row["way"] == way && row["seed"] == "5").unwrap();
        (number(row, "bytes"), number(row, "test_at_best"))
    };
    if let Some(launcher) = program::launcher() {
        let run = scratch.path().join("run");
        let settings =
            "--layers 4 --neurons 16 --iterations 12 --seed 5 --evaluate-every 10 --quantize pq --bits 4";
        program::train(Some(&launcher), 4, &data, &run, settings);
        let summary = program::summary(&run);
        let sent = summary["bytes"]["p"].as_f64().unwrap() + summary["bytes"]["q"].as_f64().unwrap();
        assert_eq!((sent, summary["best"]["test"].as_f64().unwrap()), bytes("pq4"));
    }
    let svg = std::fs::read_to_string(output.join("traffic.svg")).unwrap();
    for text in ["<svg", "p and q on levels, packed", "2 bits", "16 bits", "f16"] {
        assert!(svg.contains(text), "{text}");
    }
    // An earlier study stays unless it may be replaced.
    let before = std::fs::read(output.join("traffic.csv")).unwrap();
    let outcome = program::run(&mut traffic(&data, &output, "--runs 1 --ways none"));
    assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--overwrite"), "{}", outcome.stderr);
    assert_eq!(before, std::fs::read(output.join("traffic.csv")).unwrap());
    program::succeed(&mut traffic(&data, &output, "--runs 1 --ways none --overwrite"));
}

/// How p and q travel is what `--ways` says, also where the file of settings is that of a quantized run.
#[test]
fn settings_of_a_file_do_not_reach_the_ways() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 3, 60);
    let bytes = |name: &str, settings: &str| {
        let output = scratch.path().join(name);
        let file = output.with_extension("toml");
        std::fs::write(&file, settings).unwrap();
        let more = format!("--runs 1 --ways none,f16,pq8 --config {}", file.display());
        program::succeed(&mut traffic(&data, &output, &more));
        rows(&output).into_iter().map(|row| [row["way"].clone(), row["bytes"].clone()]).collect::<Vec<_>>()
    };
    let plain = bytes("plain", "");
    for (name, settings) in [
        ("bits", "quantize = 'pq'\nbits = 4\ncoding = 'packed'"),
        ("levels", "quantize = 'p'\nlevels = '-1:20:1'"),
        ("wire", "wire = 'bf16'"),
    ] {
        assert_eq!(bytes(name, settings), plain, "{name}");
    }
}

#[test]
fn wrong_input_is_refused_before_anything_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 8, 2, 20);
    let output = scratch.path().join("study");
    let adam = scratch.path().join("adam.toml");
    std::fs::write(&adam, "optimizer = 'adam'").unwrap();
    let adam = format!("--ways none --config {}", adam.display());
    for (more, message) in [
        (adam.as_str(), "--optimizer adam sends neither"),
        ("--ways pq17", "no way to send"),
        ("--runs 0", "--runs"),
        ("--ways none,pq4 --iterations 0", "iterations"),
        ("--ways none --splits nowhere", "nowhere"),
        ("--ways none --config missing.toml", "missing.toml"),
    ] {
        let outcome = program::run(&mut traffic(&data, &output, more));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{more}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{more}: {}", outcome.stderr);
        assert!(!output.join("traffic.svg").exists(), "{more}");
    }
}

//! Does `scaling` measure every case once, tell wall time from what it derives, and go on where it was stopped; and does
//! `plan --measured` predict what was measured?
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[path = "support/program.rs"]
mod program;

type Row = BTreeMap<String, String>;

fn rows(path: &Path) -> Vec<Row> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, key: &str) -> f64 {
    row[key].parse().unwrap()
}

/// `scaling` with the launcher of this build.
fn scaling(launcher: &program::Launcher, output: &Path, arguments: &str) -> Command {
    let mut command = program::alone();
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs/mpirun.sh");
    command.env("PDADMM_MPIRUN", &launcher.program);
    command
        .args(["scaling", "--repeats", "2", "--neurons", "24", "--iterations", "6", "--output"])
        .arg(output);
    command.args(["--launcher", &format!("bash {} -n {{ranks}}", wrapper.display())]);
    command.args(arguments.split_whitespace());
    command
}

#[test]
fn every_case_is_measured_once() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (data, output) = (scratch.path().join("data.h5"), scratch.path().join("study"));
    program::generate(&data, 600, 12, 3, 200);
    let cases = format!(
        "--data {} --mode strong,layers,weak --layers 4 --ranks 1,2,4 --depths 3 --weak-nodes 64 --weak-features 8 \
         --weak-classes 3",
        data.display()
    );
    let told = program::succeed(&mut scaling(&launcher, &output, &cases)).stdout;
    let runs = rows(&output.join("runs.csv"));
    // Three strong, one depth on one rank and on three, three weak; two of each.
    assert_eq!(runs.len(), 2 * (3 + 2 + 3), "{told}");
    assert_eq!(told.matches("run        ").count(), runs.len(), "{told}");
    assert!(runs.iter().all(|row| row["status"] == "finished"), "{runs:?}");
    assert!(!output.join("warm-up").exists());
    let points = rows(&output.join("scaling.csv"));
    let found: Vec<String> = points
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {} {}",
                row["mode"], row["layers"], row["ranks"], row["shards"], row["training_nodes"]
            )
        })
        .collect();
    let expected = [
        "strong 4 1 1 200",
        "strong 4 2 1 200",
        "strong 4 4 1 200",
        "layers 3 1 1 200",
        "layers 3 3 1 200",
        "weak 4 1 1 64",
        "weak 4 2 2 128",
        "weak 4 4 4 256",
    ];
    assert_eq!(found, expected);
    let summary = program::summary(&output.join("strong-4-layers-4-ranks/repeat-1"));
    let by_rank = summary["by_rank"].as_array().unwrap();
    assert_eq!(by_rank.len(), 4);
    let processors = by_rank[0]["processors"].as_f64().unwrap();
    for row in &points {
        let (busy, critical) = (number(row, "busy"), number(row, "critical_path"));
        assert!(busy > 0.0 && critical >= 0.999 * busy && critical < 3.0 * busy, "{row:?}");
        // Other tests may take processors away.
        assert!(number(row, "ranks") <= processors || row["has_processors"] == "false", "{row:?}");
        let speed_up = number(row, "speed_up");
        assert!((number(row, "efficiency") * number(row, "ranks") - speed_up).abs() < 1e-9, "{row:?}");
        if number(row, "ranks") == 1.0 {
            assert_eq!((speed_up, number(row, "bytes")), (1.0, 0.0), "{row:?}");
        }
    }
    let derived = points.iter().any(|row| row["has_processors"] == "false");
    let table = std::fs::read_to_string(output.join("scaling.md")).unwrap();
    assert_eq!(table.contains("derived"), derived, "{table}");
    // p and q of three boundaries of 200 nodes and 24 neurons, and their headers.
    let strong = number(&points[2], "bytes");
    let elements = 3.0 * 2.0 * 200.0 * 24.0;
    assert!(strong >= 4.0 * elements && strong < 4.2 * elements, "{strong}");

    // The report draws it, and says what is derived.
    let page = scratch.path().join("scaling.html");
    program::succeed(program::alone().arg("report").arg(&output).arg("--output").arg(&page));
    for word in ["scaling-speed-up", "scaling-efficiency", "scaling-layers"] {
        assert!(scratch.path().join(format!("scaling-{word}.svg")).exists(), "{word}");
    }
    let page = std::fs::read_to_string(&page).unwrap();
    assert_eq!(page.matches("<tr><td>").count(), points.len(), "a row a case");
    assert_eq!(page.contains("Derived where ranks outnumbered"), derived);

    // What has finished stays; what is missing is done.
    let kept = output.join("strong-4-layers-2-ranks/repeat-1/model.h5");
    let made = std::fs::metadata(&kept).unwrap().modified().unwrap();
    std::fs::remove_file(output.join("weak-4-layers-2-ranks/repeat-2/summary.json")).unwrap();
    let told = program::succeed(&mut scaling(&launcher, &output, &cases)).stdout;
    assert_eq!(told.matches("run        ").count(), 1, "{told}");
    assert!(told.contains("run        weak-4-layers-2-ranks, repeat 2"), "{told}");
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), made);
    assert_eq!(rows(&output.join("runs.csv")).len(), runs.len());
    // Other settings are other runs.
    let one = format!("--data {} --layers 4 --ranks 1 --seed 7", data.display());
    let told = program::succeed(&mut scaling(&launcher, &output, &one)).stdout;
    assert_eq!(told.matches("run        ").count(), 2, "{told}");
}

#[test]
fn what_cannot_be_studied_is_told() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (data, output) = (scratch.path().join("data.h5"), scratch.path().join("study"));
    program::generate(&data, 300, 8, 3, 60);
    let base = format!("--data {} --layers 3", data.display());
    let refused = |command: &mut Command, code: i32, words: &[&str]| {
        let outcome = program::run(command);
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(code), "{outcome:?}");
        words.iter().for_each(|word| assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr));
    };
    let with = |more: &str| scaling(&launcher, &output, &format!("{base} {more}"));
    refused(&mut with("--ranks 1,3 --mode weak"), 2, &["power of two", "3"]);
    refused(with("--ranks 1").env("PMI_SIZE", "2"), 2, &["PMI_SIZE"]);
    refused(&mut with("--ranks 4"), 2, &["strong-3-layers-4-ranks", "4 ranks"]);
    refused(&mut with("--quantize pq --bits 40 --ranks 1"), 2, &["strong-3-layers-1-ranks"]);
    refused(&mut with("--optimizer adam --ranks 1"), 2, &["--optimizer adam", "hold nodes"]);
    let mut elsewhere = program::alone();
    elsewhere.args(["scaling", "--data"]).arg(&data).arg("--output").arg(&output);
    refused(elsewhere.args(["--launcher", "mpirun -n 2"]), 2, &["{ranks}"]);
    let mut elsewhere = program::alone();
    elsewhere.args(["scaling", "--data"]).arg(&data).arg("--output").arg(&output);
    refused(elsewhere.args(["--launcher", "no-such-launcher {ranks}"]), 1, &["no-such-launcher 1"]);
}

fn plan(arguments: &str) -> program::Outcome {
    let mut command = program::alone();
    command.args(["plan", "--json"]).args(arguments.split_whitespace());
    program::run(&mut command)
}

#[test]
fn plans_predict_what_iterations_cost() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (data, run) = (scratch.path().join("data.h5"), scratch.path().join("run"));
    program::generate(&data, 3000, 24, 3, 1000);
    let settings = "--layers 6 --stages 6 --neurons 96 --iterations 12 --evaluate-every 12";
    program::train(Some(&launcher), 2, &data, &run, &format!("{settings} --measure-ranks"));
    let by_rank = program::summary(&run)["by_rank"].clone();
    let busy = |rank: &serde_json::Value| -> f64 {
        rank["busy"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum()
    };
    let most = by_rank.as_array().unwrap().iter().map(busy).fold(0.0, f64::max);
    assert!(by_rank[0]["iterations"].as_u64() == Some(9) && most > 0.0, "{by_rank}");
    let measured = format!("{settings} --measured {}", run.display());
    let same = plan(&format!("--data {} {measured} --ranks 2 --network infiniband-200g", data.display()));
    assert!(same.success(), "{same:?}");
    let told: serde_json::Value = serde_json::from_str(&same.stdout).unwrap();
    let of = |row: usize, key: &str| told["time"]["rows"][row][key].as_f64().unwrap();
    assert!((0.5..2.0).contains(&(of(1, "busy") / most)), "{} told, {most} measured", of(1, "busy"));
    assert!(of(1, "seconds") >= 0.999 * of(1, "busy") && of(1, "speed_up") > 0.0, "{told}");

    // A thousand ranks that are not there; a slower network is never faster.
    let sizes = "--nodes 400000 --training-nodes 200000 --features 24 --classes 3";
    let large = measured.replace("--layers 6 --stages 6", "--layers 16 --stages 16");
    let seconds = |network: &str| -> Vec<f64> {
        let outcome = plan(&format!("{sizes} {large} --ranks 1024 --shards auto {network}"));
        assert!(outcome.success(), "{outcome:?}");
        let told: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let rows = told["time"]["rows"].as_array().unwrap().clone();
        assert_eq!(rows.last().unwrap()["ranks"], 1024);
        rows.iter().map(|row| row["seconds"].as_f64().unwrap()).collect()
    };
    let fast = seconds("--network infiniband-200g");
    let slow = seconds("--latency 50us --bandwidth 1Gbit");
    assert_eq!(fast.len(), 11);
    assert!(fast.iter().zip(&slow).all(|(fast, slow)| slow >= fast), "{fast:?} {slow:?}");
    assert!(fast[10] < fast[0], "{fast:?}");

    let refused = |arguments: &str, word: &str| {
        let outcome = plan(&format!("--data {} --ranks 2 {arguments}", data.display()));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    };
    refused(&measured, "needs a network");
    refused(&format!("{settings} --network ethernet-1g"), "needs --measured");
    refused(&format!("{measured} --latency 1ms"), "--bandwidth go together");
    refused(&format!("{measured} --network ethernet-1g --quantize pq"), "quantize");
    let plain = scratch.path().join("plain");
    program::train(None, 1, &data, &plain, settings);
    refused(&format!("{settings} --measured {} --network ethernet-1g", plain.display()), "--measure-ranks");
    refused(
        &format!("{settings} --measured {} --network ethernet-1g", scratch.path().display()),
        "summary.json",
    );
}

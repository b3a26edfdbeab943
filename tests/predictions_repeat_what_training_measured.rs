//! Does `predict` find the accuracies with a saved model that training found when it was saved, whatever training did
//! to the features?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "support/program.rs"]
mod program;

use program::Launcher;

/// The shares that `predict` prints: the line "test 0.8100 (81 of 100)" gives 0.81.
fn predicted(launcher: Option<&Launcher>, ranks: usize, model: &Path, data: &Path, part: &str) -> f64 {
    let output = model.with_extension(format!("{part}-{ranks}.h5"));
    let mut command = program::on_ranks(launcher, ranks);
    command.arg("predict").arg("--model").arg(model).arg("--data").arg(data);
    let printed = program::succeed(command.arg("--output").arg(output)).stdout;
    let line = printed.lines().find(|line| line.trim_start().starts_with(part));
    let counts = line.and_then(|line| line.split_once('(')).unwrap_or_else(|| panic!("no {part}: {printed}"));
    let (right, known) = counts.1.trim_end_matches(')').split_once(" of ").unwrap();
    let number = |text: &str| text.replace(',', "").parse::<f64>().unwrap();
    number(right) / number(known)
}

/// The same share; in single precision a node or two may lie within rounding of two classes. JSON may cost a last bit.
fn is_same(found: f64, expected: f64, settings: &str) -> bool {
    (found - expected).abs() <= if settings.contains("f64") { 1e-12 } else { 3e-3 }
}

fn hold(launcher: Option<&Launcher>, data: &Path, scratch: &Path, settings: &[&str]) {
    for (case, settings) in settings.iter().enumerate() {
        let output = scratch.join(case.to_string());
        let ranks = if launcher.is_some() { 3 } else { 1 };
        program::train(launcher, ranks, data, &output, settings);
        let summary = program::summary(&output);
        let history = program::history(&output);
        let best = &summary["best"];
        let row = best["iteration"].as_u64().unwrap() as usize - 1;
        for part in ["val", "test"] {
            let of_row: f64 = history[&format!("{part}_accuracy")][row].parse().unwrap();
            assert!((best[part].as_f64().unwrap() - of_row).abs() <= 1e-12, "best {part} of {settings}");
        }
        for (model, of_run) in [("model.h5", best), ("model-last.h5", &summary["accuracy"])] {
            for (part, ranks) in [("val", 1), ("test", 1), ("test", ranks)] {
                let launcher = launcher.filter(|_| ranks > 1);
                let found = predicted(launcher, ranks, &output.join(model), data, part);
                let expected = of_run[part].as_f64().unwrap();
                let what = format!("{part} of {model} with {settings}, {ranks} ranks");
                assert!(is_same(found, expected, settings), "{what}: {found}, training found {expected}");
            }
        }
    }
}

#[test]
fn generated() {
    let launcher = program::launcher();
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    // More features than training nodes, then fewer.
    for (features, train_nodes) in [(40, 90), (8, 90)] {
        program::generate(&data, 500, features, 3, train_nodes);
        let folder = scratch.path().join(features.to_string());
        std::fs::create_dir(&folder).unwrap();
        let settings = [
            "--neurons 24 --iterations 20 --precision f64",
            "--neurons 24 --iterations 20 --precision f64 --dropout 0.4 --quantize pq",
            "--neurons 24 --iterations 20 --precision f64 --dropout 0 --feature-norm row",
            "--neurons 24 --iterations 20 --precision f64 --operators 2,ppr:0.1:5",
        ];
        hold(launcher.as_ref(), &data, &folder, &settings);
        std::fs::remove_file(&data).unwrap();
    }
}

#[test]
fn cora() {
    let Some(datasets) = program::real_data() else { return };
    let launcher = program::launcher();
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cora.h5");
    program::import(&datasets, "cora", &data);
    hold(launcher.as_ref(), &data, scratch.path(), &["--iterations 30 --precision f64", "--iterations 30"]);
}

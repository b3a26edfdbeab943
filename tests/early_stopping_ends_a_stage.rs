//! Does `--patience` end a stage after that many evaluations without a better validation accuracy, and nothing else?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

#[path = "support/program.rs"]
mod program;

struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: tempfile::tempdir().unwrap() };
        program::generate(&place.path("data.h5"), 500, 12, 3, 45);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn train(&self, ranks: usize, output: &str, settings: &str) -> PathBuf {
        let launcher = if ranks > 1 { program::launcher() } else { None };
        let output = self.path(output);
        program::train(launcher.as_ref(), ranks, &self.path("data.h5"), &output, settings);
        output
    }
}

/// Validation accuracies of the evaluations of each stage.
fn evaluations(folder: &Path) -> Vec<Vec<f64>> {
    let history = program::history(folder);
    let mut stages: Vec<Vec<f64>> = Vec::new();
    for (stage, accuracy) in history["stage"].iter().zip(&history["val_accuracy"]) {
        let stage: usize = stage.parse().unwrap();
        stages.resize(stages.len().max(stage), Vec::new());
        if let Ok(accuracy) = accuracy.parse() {
            stages[stage - 1].push(accuracy);
        }
    }
    stages
}

/// The place, from 1, of the evaluation that ends a stage: `patience` after the last that was better than all before.
fn end(accuracies: &[f64], patience: usize) -> Option<usize> {
    let (mut top, mut since) = (f64::NEG_INFINITY, 0);
    for (i, &accuracy) in accuracies.iter().enumerate() {
        since = if accuracy > top { 0 } else { since + 1 };
        top = top.max(accuracy);
        if since == patience {
            return Some(i + 1);
        }
    }
    None
}

#[test]
fn of_an_optimizer() {
    let place = Place::new();
    for (every, patience) in [(1, 6), (5, 2)] {
        let settings =
            format!("--optimizer adam --layers 2 --neurons 12 --iterations 150 --evaluate-every {every}");
        let whole = place.train(1, &format!("whole-{every}"), &settings);
        let stopped =
            place.train(3, &format!("stopped-{every}"), &format!("{settings} --patience {patience}"));
        let all = &evaluations(&whole)[0];
        let last = end(all, patience).expect("it ends early");
        assert!(last < all.len());
        assert_eq!(evaluations(&stopped)[0], all[..last]);
        let summary = program::summary(&stopped);
        assert_eq!(summary["status"], "early-stopped");
        assert!(summary["message"].as_str().unwrap().contains(&patience.to_string()));
        assert_eq!(summary["iterations"], last * every);
    }
}

/// Each stage of the ADMM ends for itself; whether one is over is known an iteration later, which is evaluated too.
#[test]
fn of_each_stage_of_the_admm() {
    let place = Place::new();
    let (iterations, patience) = (40, 4);
    let settings = format!("--stages 2,3,5 --neurons 12 --iterations {iterations} --patience {patience}");
    let one = place.train(1, "one", &settings);
    let three = place.train(3, "three", &settings);
    assert!(program::weights(&one.join("model.h5")) == program::weights(&three.join("model.h5")));
    let stages = evaluations(&one);
    assert_eq!(stages.len(), 3);
    let mut early = 0;
    for accuracies in &stages {
        match end(accuracies, patience) {
            Some(last) => {
                assert!(last == accuracies.len() || last + 1 == accuracies.len(), "{accuracies:?}");
                early += 1;
            }
            None => assert_eq!(accuracies.len(), iterations),
        }
    }
    assert!(early > 0, "no stage ended early: {stages:?}");
    let status = program::summary(&one)["status"].clone();
    let last_ended = end(&stages[2], patience).is_some();
    assert_eq!(status, if last_ended { "early-stopped" } else { "finished" });
    // Without it, or where it is never used up, nothing changes.
    let settings = "--stages 2,3 --neurons 12 --iterations 10";
    let without = place.train(1, "without", settings);
    let never = place.train(1, "never", &format!("{settings} --patience 10"));
    assert!(program::weights(&without.join("model.h5")) == program::weights(&never.join("model.h5")));
    assert_eq!(program::summary(&never)["status"], "finished");
}

#[test]
fn without_validation_labels_it_is_refused() {
    let place = Place::new();
    {
        // What is written is there once every handle is closed.
        let file = hdf5::File::open_rw(place.path("data.h5")).unwrap();
        let val: Vec<i64> = file.dataset("splits/random/val").unwrap().read_raw().unwrap();
        let labels = file.dataset("labels").unwrap();
        let mut classes: Vec<i64> = labels.read_raw().unwrap();
        val.iter().for_each(|&node| classes[node as usize] = -1);
        labels.write_raw(&classes).unwrap();
    }
    let mut command = program::alone();
    command.arg("train").arg("--data").arg(place.path("data.h5")).arg("--output").arg(place.path("new"));
    let outcome = program::run(command.args(["--patience", "5"]));
    assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--patience") && outcome.stderr.contains("random"), "{}", outcome.stderr);
    assert!(!place.path("new").exists());
}

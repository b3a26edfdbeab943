//! Does `--runs` give the runs that single seeds give, with their means and deviations, in folders of their own?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

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

    fn train(&self, ranks: usize, output: &str, settings: &str) -> program::Outcome {
        let launcher = if ranks > 1 { program::launcher() } else { None };
        program::train(launcher.as_ref(), ranks, &self.path("data.h5"), &self.path(output), settings)
    }
}

/// Mean and deviation of a sample, by their definitions.
fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0)).sqrt())
}

fn hold(found: &Value, values: Vec<f64>, what: &str) {
    let (mean, std) = mean_and_std(&values);
    assert_eq!(found["runs"], values.len(), "{what}");
    for (name, expected) in [("mean", mean), ("std", std)] {
        let found = found[name].as_f64().unwrap_or_else(|| panic!("{what}: {found}"));
        assert!((found - expected).abs() < 1e-12, "{what}: {name} {found}, not {expected}");
    }
}

fn sums_up(place: &Place, settings: &str) {
    place.train(1, "several", &format!("{settings} --seed 7 --runs 3 --overwrite"));
    let several = program::summary(&place.path("several"));
    assert_eq!(several["seeds"], serde_json::json!([7, 8, 9]));
    assert_eq!(several["status"], "finished");
    let runs = several["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for (i, run) in runs.iter().enumerate() {
        let folder = place.path("several").join(format!("run-{i}"));
        assert_eq!(run, &program::summary(&folder), "run {i}");
        // A run is that of its seed alone.
        let alone = format!("alone-{i}");
        place.train(1, &alone, &format!("{settings} --seed {} --overwrite", 7 + i));
        for model in ["model.h5", "model-last.h5"] {
            let of = |folder: &Path| program::weights(&folder.join(model));
            assert!(
                of(&folder) == of(&place.path(&alone)),
                "{settings}: run {i} is not that of its seed alone"
            );
        }
        assert_eq!(run["f1"], program::summary(&place.path(&alone))["f1"]);
        // F1 is counted in passes of its own, over the best and the last model; micro-F1 is the accuracy.
        for (kind, accuracy) in [("best", "best"), ("last", "accuracy")] {
            let (f1, accuracy) = (&run["f1"][kind]["micro"], &run[accuracy]["test"]);
            assert!(
                (f1.as_f64().unwrap() - accuracy.as_f64().unwrap()).abs() < 1e-12,
                "{f1}, not {accuracy}"
            );
        }
    }
    let tests: Vec<f64> = runs.iter().map(|run| run["best"]["test"].as_f64().unwrap()).collect();
    assert!(tests.windows(2).any(|pair| pair[0] != pair[1]), "all seeds alike: nothing is tested");
    for (kind, accuracy) in [("best", "best"), ("last", "accuracy")] {
        for set in ["val", "test"] {
            let values = runs.iter().map(|run| run[accuracy][set].as_f64().unwrap()).collect();
            hold(&several[kind][set], values, &format!("{kind} {set}"));
        }
        for (name, of) in [("f1_micro", "micro"), ("f1_macro", "macro")] {
            let values = runs.iter().map(|run| run["f1"][kind][of].as_f64().unwrap()).collect();
            hold(&several[kind][name], values, &format!("{kind} {name}"));
        }
    }
}

#[test]
fn of_the_admm() {
    sums_up(&Place::new(), "--layers 3 --neurons 12 --iterations 8");
}

#[test]
fn of_an_optimizer() {
    sums_up(&Place::new(), "--optimizer adam --layers 2 --neurons 12 --iterations 20");
}

#[test]
fn on_several_ranks_and_in_print() {
    let place = Place::new();
    for (name, settings) in
        [("admm", "--layers 3 --iterations 5"), ("adam", "--optimizer adam --layers 2 --iterations 12")]
    {
        let settings = format!("{settings} --neurons 12 --runs 2");
        let one = place.train(1, &format!("{name}-1"), &settings);
        let three = place.train(3, &format!("{name}-3"), &settings);
        let of = |ranks: &str| program::summary(&place.path(&format!("{name}-{ranks}")));
        for key in ["best", "last", "seeds", "status"] {
            assert_eq!(of("1")[key], of("3")[key], "{name}: {key}");
        }
        let last_lines = |text: &str| text.lines().rev().take(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(last_lines(&one.stdout), last_lines(&three.stdout));
        let mean = of("1")["best"]["test"]["mean"].as_f64().unwrap();
        let std = of("1")["best"]["test"]["std"].as_f64().unwrap();
        assert!(one.stdout.contains(&format!("test accuracy {mean:.4} ± {std:.4}")), "{}", one.stdout);
    }
    let json = place.train(1, "json", "--layers 2 --neurons 8 --iterations 2 --runs 2 --json").stdout;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), program::summary(&place.path("json")));
}

#[test]
fn folders_in_use_are_left_alone_and_replaced_when_asked() {
    let place = Place::new();
    let settings = "--layers 2 --neurons 8 --iterations 2";
    let refused_with = |output: &str, flags: &str, words: &str| {
        let before = program::contents(place.scratch.path());
        let mut command = program::alone();
        command.arg("train").arg("--data").arg(place.path("data.h5")).arg("--output").arg(place.path(output));
        let outcome = program::run(command.args(format!("{settings} {flags}").split_whitespace()));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!(before, program::contents(place.scratch.path()));
    };
    let refused = |output: &str, flags: &str| refused_with(output, flags, "already holds a run");
    refused_with("data.h5", "--runs 2 --overwrite", "not a folder");
    place.train(1, "several", &format!("{settings} --runs 3"));
    refused("several", "--runs 2");
    refused("several", "");
    std::fs::remove_file(place.path("several/summary.json")).unwrap();
    std::fs::remove_file(place.path("several/config.toml")).unwrap();
    refused("several", "--runs 2");
    place.train(1, "single", settings);
    refused("single", "--runs 2");
    // Fewer runs than before: those beyond go, other files stay.
    std::fs::write(place.path("several/notes.txt"), "mine").unwrap();
    place.train(1, "several", &format!("{settings} --runs 2 --overwrite"));
    assert!(place.path("several/run-1/model.h5").exists() && !place.path("several/run-2").exists());
    assert!(place.path("several/notes.txt").exists());
    let config = format!("--config {}", place.path("several/config.toml").display());
    place.train(1, "again", &config);
    let of = |folder: &str| program::summary(&place.path(folder));
    assert_eq!(of("several")["best"], of("again")["best"]);
}

#[test]
fn what_was_stopped_goes_on_and_comes_to_the_same() {
    let place = Place::new();
    let resume = |output: &str, flags: &str, code: i32| {
        let mut command = program::alone();
        command.args(["train", "--resume"]).arg(place.path(output)).args(flags.split_whitespace());
        let outcome = program::run(&mut command);
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(code), "{}", outcome.stderr);
        outcome.stdout
    };
    for (name, settings) in
        [("admm", "--layers 3 --iterations 9"), ("adam", "--optimizer adam --layers 2 --iterations 12")]
    {
        let (whole, parts) = (format!("{name}-whole"), format!("{name}-parts"));
        let settings = format!("{settings} --neurons 12 --runs 3");
        place.train(1, &whole, &settings);
        place.train(1, &parts, &settings);
        // As if the job had been killed in the second run, or before the third.
        let folder = place.path(&parts);
        for file in ["model.h5", "model-last.h5", "summary.json"] {
            std::fs::remove_file(folder.join("run-1").join(file)).unwrap();
        }
        std::fs::remove_dir_all(folder.join("run-2")).unwrap();
        std::fs::create_dir(folder.join("run-2")).unwrap();
        std::fs::write(folder.join("run-2/history.csv"), "").unwrap();
        // Numbers that are not finite are null in JSON; such a run has ended all the same.
        let summary = folder.join("run-0/summary.json");
        let mut value: Value = serde_json::from_slice(&std::fs::read(&summary).unwrap()).unwrap();
        value["objective"] = Value::Null;
        std::fs::write(&summary, value.to_string()).unwrap();
        let first = std::fs::metadata(folder.join("run-0/model.h5")).unwrap().modified().unwrap();
        std::fs::write(folder.join("summary.json"), r#"{"status": "finished", "runs": []}"#).unwrap();
        let printed = resume(&parts, "", 0);
        assert!(printed.contains("kept: it has finished before"), "{printed}");
        assert_eq!(first, std::fs::metadata(folder.join("run-0/model.h5")).unwrap().modified().unwrap());
        for run in ["run-0", "run-1", "run-2"] {
            let of = |output: &str| program::weights(&place.path(output).join(run).join("model.h5"));
            assert!(of(&whole) == of(&parts), "{name}: {run}");
        }
        let of = |output: &str| program::summary(&place.path(output));
        for key in ["best", "last", "seeds", "status"] {
            assert_eq!(of(&whole)[key], of(&parts)[key], "{name}: {key}");
        }
        // Nothing is left to do, and nothing changes.
        resume(&parts, "", 0);
    }
    // Time that is over stops the first run, and with it all.
    let long = "--layers 3 --neurons 12 --iterations 1000000 --evaluate-every 1000000 --runs 2 --max-time 1s";
    // What an earlier command has left of the second is not taken for its own.
    place.train(1, "long", "--layers 3 --neurons 12 --iterations 2 --runs 2");
    let mut command = program::alone();
    command.args(["train", "--data"]).arg(place.path("data.h5")).arg("--output").arg(place.path("long"));
    let outcome = program::run(command.args(long.split_whitespace()).arg("--overwrite"));
    assert_eq!(outcome.status.and_then(|status| status.code()), Some(75), "{}", outcome.stderr);
    let summary = program::summary(&place.path("long"));
    assert_eq!((&summary["status"], summary["runs"].as_array().unwrap().len()), (&"interrupted".into(), 1));
    assert!(!place.path("long/run-1").exists());
    let again = resume("long", "", 75);
    assert!(again.contains("resumed"), "{again}");
}

/// Runs that are gone on with find the data set in another place, which the settings then name; another data set is refused,
/// whether a run goes on or a new one follows.
#[test]
fn the_data_set_may_move_but_not_change() {
    let place = Place::new();
    program::generate(&place.path("other.h5"), 500, 12, 3, 46);
    for (name, settings) in
        [("admm", "--layers 3 --iterations 9"), ("adam", "--optimizer adam --layers 2 --iterations 12")]
    {
        let settings = format!("{settings} --neurons 12 --runs 3");
        place.train(1, &format!("{name}-whole"), &settings);
        place.train(1, name, &settings);
        let folder = place.path(name);
        // As if the job had been killed in the second run, or (below) before the third.
        std::fs::remove_file(folder.join("run-1/summary.json")).unwrap();
        std::fs::remove_file(folder.join("summary.json")).unwrap();
        std::fs::remove_dir_all(folder.join("run-2")).unwrap();
        let resume = |data: &str, code: i32| {
            let mut command = program::alone();
            command.args(["train", "--resume"]).arg(&folder).arg("--data").arg(place.path(data));
            let outcome = program::run(&mut command);
            assert_eq!(outcome.status.and_then(|status| status.code()), Some(code), "{}", outcome.stderr);
            outcome.stderr
        };
        let refused = || {
            let before = program::contents(&folder);
            let stderr = resume("other.h5", 3);
            let words = format!("{} was trained on ", folder.join("run-0").display());
            assert!(stderr.contains(&words) && stderr.contains("but --data is "), "{stderr}");
            assert_eq!(changed(before, program::contents(&folder)), ["summary.json"]);
        };
        refused();
        std::fs::rename(place.path("data.h5"), place.path("moved.h5")).unwrap();
        resume("moved.h5", 0);
        let config = |of: &str| std::fs::read_to_string(folder.join(of)).unwrap();
        for of in ["config.toml", "run-1/config.toml", "run-2/config.toml"] {
            assert!(config(of).contains("moved.h5") && !config(of).contains("data.h5"), "{}", config(of));
        }
        for run in ["run-0", "run-1", "run-2"] {
            let of = |output: &Path| program::weights(&output.join(run).join("model.h5"));
            assert!(of(&place.path(&format!("{name}-whole"))) == of(&folder), "{name}: {run}");
        }
        std::fs::rename(place.path("moved.h5"), place.path("data.h5")).unwrap();
        std::fs::remove_dir_all(folder.join("run-2")).unwrap();
        std::fs::remove_file(folder.join("summary.json")).unwrap();
        refused();
        resume("data.h5", 0);
        assert!(config("config.toml").contains("data.h5"), "{}", config("config.toml"));
    }
}

/// Names of the files whose content is not as before.
fn changed(before: BTreeMap<PathBuf, String>, after: BTreeMap<PathBuf, String>) -> Vec<String> {
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let differ = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    differ.map(name).filter(|name| name != ".lock").collect()
}

/// The first of several runs is killed while it takes the place of an earlier command's: what goes on is the new one.
#[test]
fn what_replaces_an_earlier_command_and_is_killed_goes_on() {
    if !running::is_possible() {
        return;
    }
    let place = Place::new();
    for (optimizer, more) in [("admm", "--evaluate-every 1000"), ("adam", "")] {
        let (data, output) = (place.path("data.h5"), place.path(optimizer));
        place.train(1, optimizer, "--layers 3 --neurons 8 --iterations 2 --runs 3");
        let long = format!(
            "--optimizer {optimizer} --layers 2 --neurons 9 --iterations 2000000 --runs 2 --overwrite \
             --checkpoint-every 5it {more}"
        );
        let mut command = program::alone();
        command.arg("train").arg("--data").arg(&data).arg("--output").arg(&output);
        let mut run = running::Running::start(command.args(long.split_whitespace()));
        let has_checkpoint = || {
            let entries = std::fs::read_dir(output.join("run-0")).into_iter().flatten().flatten();
            let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
            names.any(|name| name.starts_with("checkpoint-") && !name.contains('.'))
        };
        assert!(run.wait_until(|_| has_checkpoint()), "no checkpoint came");
        assert!(running::signal("KILL", run.pid()));
        run.end(program::LIMIT);
        let config = std::fs::read_to_string(output.join("config.toml")).unwrap();
        assert!(config.contains("neurons = 9") && config.contains("runs = 2"), "{config}");
        assert!(config.contains(optimizer), "{config}");
        for gone in ["history.csv", "summary.json", "run-1", "run-2"] {
            assert!(!output.join(gone).exists(), "{gone}");
        }
        let mut resume = program::alone();
        resume.args(["train", "--resume"]).arg(&output).args(["--max-time", "1s"]);
        let outcome = program::run(&mut resume);
        assert_eq!(outcome.status.unwrap().code(), Some(75), "{outcome:?}");
        assert!(outcome.stdout.contains("  resumed   from "), "{outcome:?}");
        assert_eq!(program::summary(&output)["status"], "interrupted");
        assert_eq!(program::summary(&output.join("run-0"))["neurons"], 9);
    }
}

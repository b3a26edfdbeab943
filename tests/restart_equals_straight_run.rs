//! Does a run that is stopped and goes on, once or often, on the same ranks or on others, leave the models and the
//! history of a run that is never stopped, to the last bit? Do checkpoints leave a run as it is?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use pdadmm_g::parallel::{Communicator, ThreadCommunicator};
use pdadmm_g::settings::{Precision, RawSettings, resumed};
use pdadmm_g::train::{RunOptions, Status, StopCause, train};

#[path = "support/program.rs"]
mod program;

/// Columns of history.csv that other numbers of ranks change.
const OF_THE_RANKS: [&str; 4] = ["bytes_p", "bytes_q", "bytes_baseline", "messages"];

/// Flags as settings.
fn parse(flags: &str) -> RawSettings {
    use clap::{Args, FromArgMatches};
    let command = RawSettings::augment_args(clap::Command::new("settings"));
    let matches = command.get_matches_from(std::iter::once("settings").chain(flags.split_whitespace()));
    RawSettings::from_arg_matches(&matches).unwrap()
}

/// One part of a run on ranks that are threads, stopped when this iteration has been done.
fn part(raw: RawSettings, ranks: usize, resume: bool, stop_after: Option<u64>) -> Status {
    let outcomes = ThreadCommunicator::run(ranks, |communicator| {
        // The last rank alone has the signal.
        let listens = communicator.rank() + 1 == communicator.size();
        let options = RunOptions {
            resume,
            stop: Box::new(move |iteration| listens && stop_after.is_some_and(|after| iteration >= after)),
            ..RunOptions::default()
        };
        let settings = match resume {
            true => resumed(raw.output.as_deref().unwrap(), raw.clone()).unwrap(),
            false => raw.clone().check().unwrap(),
        };
        let outcome = match settings.precision {
            Precision::F32 => train::<f32>(&settings, communicator, options),
            Precision::F64 => train::<f64>(&settings, communicator, options),
        };
        outcome.map(|outcome| outcome.status).map_err(|error| error.to_string())
    });
    let first = outcomes[0].clone().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref() == Ok(&first)), "{outcomes:?}");
    first
}

/// Holds a run to the straight one: models and history, and the bytes where `same_ranks`.
fn hold(straight: &Path, restarted: &Path, same_ranks: bool, what: &str) {
    for model in ["model.h5", "model-last.h5"] {
        let read = |folder: &Path| std::fs::read(folder.join(model)).unwrap();
        assert!(read(straight) == read(restarted), "{what}: {model} differs");
    }
    let (expected, found) = (program::history(straight), program::history(restarted));
    for (name, expected) in &expected {
        let of_the_ranks = OF_THE_RANKS.contains(&name.as_str());
        if name == "seconds" {
            let seconds = program::column(restarted, name);
            assert!(seconds.windows(2).all(|rows| rows[0] <= rows[1]), "{what}: seconds start anew");
        } else if of_the_ranks && !same_ranks {
            let column = program::column(restarted, name);
            assert!(column.windows(2).all(|rows| rows[0] <= rows[1]), "{what}: {name} starts anew");
        } else {
            assert_eq!(expected, &found[name], "{what}: column {name} of history.csv");
        }
    }
    let (expected, found) = (program::summary(straight), program::summary(restarted));
    for key in ["status", "iterations", "objective", "lagrangian", "best", "accuracy"] {
        assert_eq!(expected[key], found[key], "{what}: {key} of summary.json");
    }
    if same_ranks {
        let (mut straight, mut restarted) = (expected["bytes"].clone(), found["bytes"].clone());
        if what.contains("--shards") {
            // What layer 1 keeps of its input is added up over the shards anew, and headers number sums from 0 again.
            let [once, again] =
                [&mut straight, &mut restarted].map(|bytes| bytes["other"].take().as_u64().unwrap());
            assert!(1000 * again >= 999 * once, "{what}: {again} other bytes instead of {once}");
        }
        assert_eq!(straight, restarted, "{what}: bytes of summary.json");
    }
    let left = std::fs::read_dir(restarted).unwrap().map(|entry| entry.unwrap().file_name());
    let checkpoints: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("checkpoint")).collect();
    assert!(checkpoints.is_empty(), "{what}: a finished run leaves {checkpoints:?}");
}

/// Runs straight on the first number of ranks, then in parts: one for each entry of `stops`, on its number of ranks, until
/// its iteration, and the rest on the last.
fn in_parts(data: &Path, flags: &str, stops: &[(usize, u64)], rest: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let (straight, restarted) = (scratch.path().join("straight"), scratch.path().join("restarted"));
    let settings = |output: &Path| {
        let mut raw = parse(flags);
        (raw.data, raw.output) = (Some(data.to_owned()), Some(output.to_owned()));
        raw
    };
    let ranks = stops.first().map_or(rest, |(ranks, _)| *ranks);
    assert_eq!(part(settings(&straight), ranks, false, None), Status::Finished);
    let on = |output: &Path| RawSettings { output: Some(output.to_owned()), ..RawSettings::default() };
    let what = format!("{flags}, stops {stops:?}, rest on {rest}");
    for (i, (ranks, iteration)) in stops.iter().enumerate() {
        let raw = if i == 0 { settings(&restarted) } else { on(&restarted) };
        let status = part(raw, *ranks, i > 0, Some(*iteration));
        assert_eq!(status, Status::Interrupted(StopCause::Signal), "{what}");
    }
    assert_eq!(part(on(&restarted), rest, !stops.is_empty(), None), Status::Finished, "{what}");
    hold(&straight, &restarted, stops.iter().all(|(ranks, _)| *ranks == rest), &what);
}

fn data(features: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("data.h5");
    program::generate(&path, 300, features, 3, 60);
    (scratch, path)
}

/// Three stages of 8 iterations.
const SMALL: &str = "--stages 2,4,6 --neurons 10 --iterations 8";

/// Settings that keep different things: with 6 features (24 inputs) layer 1 has more nodes than inputs, with 40 fewer.
const VARIANTS: [(usize, &str); 11] = [
    (6, ""),
    (40, ""),
    (40, "--precision f64 --subproblem gradient"),
    (6, "--precision f64 --subproblem gradient --block-nodes 17"),
    (40, "--quantize pq --bits 4"),
    (6, "--quantize pq --precision f64 --subproblem gradient"),
    (40, "--quantize p --levels 0:4:0.25 --block-nodes 20"),
    (6, "--quantize q --subproblem exact --wire f16"),
    (40, "--wire bf16 --mu-hidden 0.01"),
    (6, "--evaluate-every 3 --penalties fixed --nu 0.01"),
    (40, "--quantize pq --bits 3 --block-nodes 25 --evaluate-every 5"),
];

/// Stages that end when their tolerances are met: after six iterations of eight with these.
#[test]
fn stopped_at_every_iteration_of_stages_that_converge() {
    let (_scratch, data) = data(6);
    let flags = format!("{SMALL} --tolerance 1,1 --subproblem exact");
    let scratch = tempfile::tempdir().unwrap();
    let straight = scratch.path().join("straight");
    let settings = |output: &Path| {
        let mut raw = parse(&flags);
        (raw.data, raw.output) = (Some(data.clone()), Some(output.to_owned()));
        raw
    };
    assert_eq!(part(settings(&straight), 2, false, None), Status::Converged);
    let mut interrupted = 0;
    for stop in 1..=24 {
        let restarted = scratch.path().join(format!("restarted-{stop}"));
        let mut status = part(settings(&restarted), 2, false, Some(stop));
        if let Status::Interrupted(_) = status {
            interrupted += 1;
            let on = RawSettings { output: Some(restarted.clone()), ..RawSettings::default() };
            status = part(on, 2, true, None);
        }
        assert_eq!(status, Status::Converged, "stopped in iteration {stop}");
        hold(&straight, &restarted, true, &format!("stopped in iteration {stop}"));
    }
    assert!(interrupted > 5, "only {interrupted} were stopped");
}

#[test]
fn stopped_in_shards() {
    for (features, flags) in [(6, "--quantize pq"), (40, ""), (40, "--subproblem gradient")] {
        let (_scratch, data) = data(features);
        let flags = format!("{SMALL} --block-nodes 8 {flags}");
        for stop in [3, 8, 9, 20] {
            in_parts(&data, &format!("{flags} --shards 2"), &[(4, stop)], 4);
            // Other numbers of ranks in as many shards.
            in_parts(&data, &format!("{flags} --shards 2"), &[(4, stop), (2, stop + 2)], 8);
        }
        // Four shards in the first stage, fewer later.
        in_parts(&data, &format!("{flags} --shards auto"), &[(6, 5), (6, 12), (6, 21)], 6);
    }
}

#[test]
fn stopped_once_in_any_stage_on_the_same_ranks() {
    for (features, flags) in VARIANTS {
        let (_scratch, data) = data(features);
        for (ranks, stop) in [(1, 3), (2, 9), (3, 1), (3, 13), (4, 20), (6, 18)] {
            in_parts(&data, &format!("{SMALL} {flags}"), &[(ranks, stop)], ranks);
        }
    }
}

/// A stop that is asked for in iteration 6 is granted in iteration 7 or 8: before, at and after the end of a stage.
#[test]
fn stopped_at_every_iteration() {
    let (_scratch, data) = data(40);
    for stop in 1..=21 {
        in_parts(&data, &format!("{SMALL} --quantize pq --bits 4"), &[(3, stop)], 3);
    }
}

#[test]
fn stopped_again_and_again() {
    let (_scratch, data) = data(6);
    // Asked at once each time, it stops after two iterations each time.
    in_parts(&data, SMALL, &[(2, 0); 10], 2);
    in_parts(&data, &format!("{SMALL} --quantize pq"), &[(3, 4), (3, 5), (3, 12), (3, 17)], 3);
}

#[test]
fn deep_from_the_start() {
    let (_scratch, data) = data(40);
    let flags = "--stages 6 --neurons 10 --iterations 12";
    for stop in 1..=9 {
        in_parts(&data, flags, &[(3, stop)], 2);
    }
}

#[test]
fn on_other_numbers_of_ranks() {
    for (features, flags) in VARIANTS {
        let (_scratch, data) = data(features);
        let flags = format!("{SMALL} {flags}");
        in_parts(&data, &flags, &[(1, 10)], 4);
        in_parts(&data, &flags, &[(6, 20)], 1);
        in_parts(&data, &flags, &[(2, 4), (5, 11), (3, 19)], 6);
    }
}

/// Each rule remembers something else. Stopped at any iteration, again and again, and on other ranks.
#[test]
fn optimizers_go_on_too() {
    for (method, more) in [
        ("gd", ""),
        ("adagrad", "--precision f64"),
        ("adadelta", "--evaluate-every 3"),
        ("adam", "--dropout 0.5 --block-nodes 17"),
    ] {
        let (_scratch, data) = data(6);
        let flags = format!("--optimizer {method} --layers 3 --neurons 10 --iterations 12 {more}");
        for stop in 1..12 {
            in_parts(&data, &flags, &[(2, stop)], 2);
        }
        in_parts(&data, &flags, &[(1, 3), (1, 3), (1, 9)], 1);
        in_parts(&data, &flags, &[(1, 5), (4, 8)], 3);
    }
}

/// A stage of one iteration has no second one in which ranks could grant what was asked for in the first.
#[test]
fn stages_of_one_iteration_can_be_stopped() {
    let (_scratch, data) = data(6);
    in_parts(&data, "--stages 2,3,4,5,6 --neurons 10 --iterations 1", &[(2, 1), (3, 3)], 2);
    // Asked for before anything, it waits for the second stage.
    in_parts(&data, "--stages 2,3,4,5 --neurons 10 --iterations 1 --quantize pq", &[(2, 0)], 2);
}

/// Checkpoints wait for sums and messages that the next iteration would have waited for: nothing may come of it.
#[test]
fn checkpoints_change_nothing() {
    for (features, flags) in VARIANTS {
        let (_scratch, data) = data(features);
        let scratch = tempfile::tempdir().unwrap();
        let (without, with) = (scratch.path().join("without"), scratch.path().join("with"));
        for (output, every) in [(&without, "off"), (&with, "1it")] {
            let mut raw = parse(&format!("{SMALL} {flags} --checkpoint-every {every}"));
            (raw.data, raw.output) = (Some(data.clone()), Some(output.clone()));
            assert_eq!(part(raw, 3, false, None), Status::Finished);
        }
        hold(&without, &with, true, flags);
    }
}

/// A run that has finished says so and succeeds, with its data set or without, and loses checkpoints that a process which
/// was killed at its very end has left. One that has not needs its data set.
#[test]
fn with_a_finished_run_there_is_nothing_to_do() {
    let (_scratch, data) = data(6);
    let scratch = tempfile::tempdir().unwrap();
    let stopped = scratch.path().join("stopped");
    let mut raw = parse(SMALL);
    (raw.data, raw.output) = (Some(data.clone()), Some(stopped.clone()));
    part(raw, 1, false, Some(9));
    let checkpoint = "checkpoint-0000000010";
    let resume = |folder: &Path, flags: &[&str]| {
        program::run(program::alone().args(["train", "--resume"]).arg(folder).args(flags))
    };
    let (one, several) = (scratch.path().join("one"), scratch.path().join("several"));
    program::train(None, 1, &data, &one, SMALL);
    program::train(None, 1, &data, &several, &format!("{SMALL} --runs 2"));
    std::fs::remove_file(&data).unwrap();
    for (folder, with_checkpoints) in [(&one, one.clone()), (&several, several.join("run-1"))] {
        let left = with_checkpoints.join(checkpoint);
        std::fs::create_dir(&left).unwrap();
        for entry in std::fs::read_dir(stopped.join(checkpoint)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, left.join(path.file_name().unwrap())).unwrap();
        }
        std::fs::create_dir(with_checkpoints.join("checkpoint-0000000005.removed")).unwrap();
        let outcome = resume(folder, &[]);
        assert_eq!(outcome.status.unwrap().code(), Some(0), "{outcome:?}");
        assert!(outcome.stdout.contains("nothing to go on with: the run in"), "{outcome:?}");
        assert!(outcome.stdout.contains("has finished"), "{outcome:?}");
        let names = std::fs::read_dir(&with_checkpoints).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("checkpoint")).collect();
        assert!(left.is_empty(), "{left:?}");
        let json = resume(folder, &["--json"]).stdout;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), program::summary(folder));
    }
    let outcome = resume(&stopped, &[]);
    assert_eq!(outcome.status.unwrap().code(), Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("data.h5"), "{outcome:?}");
}

/// The program itself, under mpirun, with the last part on other ranks and threads.
#[test]
fn the_program_under_mpirun() {
    let Some(launcher) = program::launcher() else { return };
    let (_scratch, data) = data(40);
    let scratch = tempfile::tempdir().unwrap();
    let (straight, restarted) = (scratch.path().join("straight"), scratch.path().join("restarted"));
    let settings = SMALL.replace("--iterations 8", "--iterations 1500");
    program::train(None, 1, &data, &straight, &settings);
    let mut first = program::on_ranks(Some(&launcher), 3);
    first.arg("train").arg("--data").arg(&data).arg("--output").arg(&restarted);
    let outcome = program::run(first.args(settings.split_whitespace()).args(["--max-time", "1s"]));
    let code = outcome.status.and_then(|status| status.code());
    assert_eq!(code, Some(75), "{}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(program::summary(&restarted)["status"], "interrupted");
    let mut rest = program::on_ranks(Some(&launcher), 2);
    rest.arg("train").arg("--resume").arg(&restarted).args(["--max-time", "off", "--threads", "2"]);
    let outcome = program::succeed(&mut rest);
    assert!(outcome.stdout.contains("  resumed   from "), "{}", outcome.stdout);
    hold(&straight, &restarted, false, "under mpirun");
}

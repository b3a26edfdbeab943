//! Does a rank that is killed at any moment, during a checkpoint too, end the whole job with a status that is not 0 and a
//! message that names it, and does the run then go on to the same model as if nothing had been?
//!
//! `PDADMM_KILLS` is the number of kills (default 6), or which: `30..60` is a part of a long run, with other choices than
//! those before it. 200 take about a quarter of an hour.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use program::Launcher;
use running::{Running, signal};

const RANKS: u32 = 3;
const SETTINGS: &str = "--stages 2,5 --neurons 40 --iterations 150 --quantize pq --checkpoint-every 9it";
/// A job that is not over by then hangs; figures of how long it takes are printed.
const LIMIT: Duration = Duration::from_secs(60);

/// xorshift: the same choices on every machine, though not the same moments.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What the kills came to.
#[derive(Debug, Default)]
struct Figures {
    kills: usize,
    /// The run was over before the signal came.
    too_late: usize,
    /// A checkpoint was being written.
    during_a_checkpoint: usize,
    /// There was no checkpoint yet, or not even a run.
    from_the_start: usize,
    rank_named: usize,
    /// From the kill to the end of the job, in seconds.
    to_the_end: Vec<f64>,
}

/// The kills that are asked for.
fn wanted_kills() -> Range<usize> {
    let text = std::env::var("PDADMM_KILLS").unwrap_or_else(|_| "6".to_owned());
    let number = |text: &str| text.parse().expect("PDADMM_KILLS is a number or two with .. between");
    text.split_once("..").map_or_else(|| 0..number(&text), |(first, end)| number(first)..number(end))
}

fn has_partial(output: &Path) -> bool {
    let mut entries = std::fs::read_dir(output).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().ends_with(".partial"))
}

/// Starts a run or goes on with one, kills one of its ranks, and holds what is left; whether it was killed.
fn kill_once(
    launcher: &Launcher,
    data: &Path,
    output: &Path,
    random: &mut Random,
    usual: Duration,
    figures: &mut Figures,
) -> bool {
    let mut command = program::on_ranks(Some(launcher), RANKS as usize);
    command.arg("train");
    match output.join("config.toml").exists() {
        true => command.arg("--resume").arg(output),
        false => command.arg("--data").arg(data).arg("--output").arg(output).arg("--overwrite"),
    };
    if !output.join("config.toml").exists() {
        command.args(SETTINGS.split_whitespace());
    }
    let mut run = Running::start(&mut command);
    let ranks = run.wait_for_ranks(RANKS as usize);
    let victim = random.below(RANKS.into()) as u32;
    let aimed = random.below(2) == 0;
    let moment = Instant::now() + usual.mul_f64(random.below(1000) as f64 / 1000.0);
    let wait = Duration::from_micros(random.below(4000));
    run.wait_until(|_| Instant::now() >= moment);
    if aimed && run.wait_until(|_| has_partial(output)) {
        std::thread::sleep(wait);
    }
    let is_writing = has_partial(output);
    let killed = ranks.get(&victim).is_some_and(|&pid| signal("KILL", pid));
    let time = Instant::now();
    let ended = run.end(LIMIT);
    let took = time.elapsed();
    if !killed || ended.status.success() {
        figures.too_late += 1;
        return false;
    }
    figures.kills += 1;
    figures.during_a_checkpoint += usize::from(is_writing);
    figures.to_the_end.push(took.as_secs_f64());
    println!(
        "rank {victim} killed, a checkpoint being written: {is_writing}; the job ended {took:.2?} later"
    );
    // MPICH names the process, and the file of the lock says which rank that is.
    let processes = std::fs::read_to_string(output.join(".lock")).unwrap_or_default();
    let by_number = ranks.get(&victim).is_some_and(|pid| {
        (ended.stdout.contains(&format!("PID {pid} ")) || ended.stderr.contains(&format!("PID {pid} ")))
            && processes.contains(&format!("rank {victim}: process {pid} on "))
    });
    let is_named = by_number || ended.stderr.contains(&format!("rank {victim}"));
    figures.rank_named += usize::from(is_named);
    assert!(is_named || launcher.flavour != program::Flavour::OpenMpi, "rank {victim}: {ended:?}");
    assert!(ended.code() != Some(75), "{ended:?}");
    true
}

#[test]
fn whatever_moment_it_is() {
    let Some(launcher) = program::launcher().filter(|_| running::is_possible()) else { return };
    let wanted = wanted_kills();
    let kills = wanted.len();
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 400, 20, 3, 90);
    let straight = scratch.path().join("straight");
    program::train(Some(&launcher), RANKS as usize, &data, &straight, SETTINGS);
    let usual = Duration::from_secs_f64(program::summary(&straight)["seconds"]["total"].as_f64().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.rotate_left(wanted.start as u32));
    let mut figures = Figures::default();
    let mut runs = 0;
    while figures.kills < kills {
        runs += 1;
        assert!(runs < 20 * kills, "the kills come too late: {figures:?}");
        let output = scratch.path().join(format!("run-{runs}"));
        // One run in four is killed again when it goes on.
        let times = 1 + usize::from(random.below(4) == 0);
        let killed =
            (0..times).all(|_| kill_once(&launcher, &data, &output, &mut random, usual, &mut figures));
        if !killed && program::contents(&output).keys().any(|path| path.ends_with("summary.json")) {
            std::fs::remove_dir_all(&output).unwrap();
            continue;
        }
        // The rest, on the same ranks or on others.
        let ranks = [RANKS, 1, 2, 5][random.below(4) as usize];
        let mut command = program::on_ranks(Some(&launcher), ranks as usize);
        command.arg("train");
        if output.join("config.toml").exists() {
            command.arg("--resume").arg(&output);
        } else {
            command.arg("--data").arg(&data).arg("--output").arg(&output).arg("--overwrite");
            command.args(SETTINGS.split_whitespace());
            figures.from_the_start += 1;
        }
        let outcome = program::succeed(&mut command);
        assert!(!outcome.stderr.contains("passing over"), "a checkpoint was damaged: {}", outcome.stderr);
        figures.from_the_start += usize::from(outcome.stdout.contains("from the start"));
        for model in ["model.h5", "model-last.h5"] {
            let read = |folder: &Path| std::fs::read(folder.join(model)).unwrap();
            assert!(read(&straight) == read(&output), "run {runs}: {model} differs");
        }
        let (expected, found) = (program::history(&straight), program::history(&output));
        for name in ["iteration", "objective", "lagrangian", "val_accuracy"] {
            assert_eq!(expected[name], found[name], "run {runs}: column {name} of history.csv");
        }
        std::fs::remove_dir_all(&output).unwrap();
    }
    figures.to_the_end.sort_by(f64::total_cmp);
    println!("{figures:.2?}");
}

/// Checkpoints that rank 0's clock asks for: they come again and again, and the run goes on from the last.
#[test]
fn checkpoints_come_by_the_clock() {
    if !running::is_possible() {
        return;
    }
    let launcher = program::launcher();
    let scratch = tempfile::tempdir().unwrap();
    let (data, output) = (scratch.path().join("data.h5"), scratch.path().join("run"));
    program::generate(&data, 200, 6, 3, 40);
    let mut command = program::on_ranks(launcher.as_ref(), 2);
    command.arg("train").arg("--data").arg(&data).arg("--output").arg(&output);
    let long = "--stages 2,4 --neurons 8 --iterations 2000000 --checkpoint-every 1s";
    let mut run = Running::start(command.args(long.split_whitespace()));
    let checkpoints = || {
        let entries = std::fs::read_dir(&output).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("checkpoint-") && !name.contains('.')).collect::<Vec<_>>()
    };
    let mut seen = std::collections::BTreeSet::new();
    let enough = run.wait_until(|_| {
        seen.extend(checkpoints());
        seen.len() >= 4
    });
    assert!(enough, "only {seen:?}");
    assert!(checkpoints().len() <= 3, "old ones stay: {:?}", checkpoints());
    let rows = program::column(&output, "iteration").len();
    assert!(seen.len() * 10 < rows, "{} checkpoints in {rows} iterations are not one a second", seen.len());
    signal("KILL", *run.ranks().values().next().unwrap());
    run.end(LIMIT);
    let mut resume = program::on_ranks(launcher.as_ref(), 2);
    let outcome = program::run(resume.arg("train").arg("--resume").arg(&output).args(["--max-time", "1s"]));
    assert_eq!(outcome.status.unwrap().code(), Some(75), "{outcome:?}");
    assert!(outcome.stdout.contains("  resumed   from "), "{outcome:?}");
}

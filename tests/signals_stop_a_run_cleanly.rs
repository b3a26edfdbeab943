//! Do SIGUSR1, SIGUSR2, SIGTERM and SIGINT, on one rank or all, end a run after an iteration that all ranks agree on, with
//! a checkpoint, a summary and exit code 75, so that it goes on as if nothing had been? Does a second one end a run that
//! cannot stop?
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use program::Launcher;
use running::{Running, signal};

/// Far more iterations than there is time for.
const LONG: &str = "--stages 2,4 --neurons 8 --iterations 2000000 --evaluate-every 100";

/// The same of an optimizer.
const STEPS: &str = "--optimizer adam --layers 2 --neurons 8 --iterations 2000000 --evaluate-every 100";

fn start(launcher: Option<&Launcher>, ranks: usize, data: &Path, output: &Path) -> Running {
    start_with(LONG, launcher, ranks, data, output)
}

fn start_with(flags: &str, launcher: Option<&Launcher>, ranks: usize, data: &Path, output: &Path) -> Running {
    let mut command = program::on_ranks(launcher, ranks);
    command.arg("train").arg("--data").arg(data).arg("--output").arg(output);
    let mut running = Running::start(command.args(flags.split_whitespace()));
    let history = output.join("history.csv");
    let rows =
        |path: &Path| std::fs::read(path).map_or(0, |text| text.iter().filter(|&&c| c == b'\n').count());
    assert!(running.wait_until(|_| rows(&history) > 10), "the run did not start");
    running
}

/// The run has ended as a stopped one should, and goes on.
fn hold(ended: &running::Ended, output: &Path, what: &str) {
    let told = format!("{what}: {ended:?}");
    assert_eq!(ended.code(), Some(75), "{told}");
    assert!(ended.stdout.contains("status     interrupted - told to stop by a signal"), "{told}");
    assert!(ended.stdout.contains("go on with: pdadmm-g train --resume"), "{told}");
    let summary = program::summary(output);
    assert_eq!(summary["status"], "interrupted", "{told}");
    let iterations = summary["iterations"].as_u64().unwrap();
    let rows = program::column(output, "iteration");
    assert_eq!(rows.last().copied(), Some(iterations as f64), "{told}");
    assert!(output.join(format!("checkpoint-{iterations:010}/manifest.json")).exists(), "{told}");
    // It goes on from there; one more stop follows at once.
    let mut command = program::alone();
    command.arg("train").arg("--resume").arg(output).args(["--max-time", "1s"]);
    let outcome = program::run(&mut command);
    assert_eq!(outcome.status.unwrap().code(), Some(75), "{told}\n{}", outcome.stderr);
    assert!(outcome.stdout.contains("--max-time is over"), "{told}\n{}", outcome.stdout);
    let rows = program::column(output, "iteration");
    assert!(rows.last().copied() > Some(iterations as f64), "{told}");
    assert!((1..).zip(&rows).all(|(i, row)| *row == f64::from(i)), "{told}: history.csv has gaps");
}

fn data() -> (tempfile::TempDir, std::path::PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 3, 40);
    (scratch, data)
}

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn one_process() {
    if !running::is_possible() {
        return;
    }
    let (scratch, data) = data();
    for name in ["USR1", "USR2", "TERM", "INT"] {
        let output = scratch.path().join(name);
        let run = start(None, 1, &data, &output);
        assert!(signal(name, run.pid()));
        hold(&run.end(LIMIT), &output, name);
    }
}

#[test]
fn an_optimizer() {
    if !running::is_possible() {
        return;
    }
    let (scratch, data) = data();
    let launcher = program::launcher();
    for (ranks, name) in [(1, "USR1"), (3, "TERM")] {
        let output = scratch.path().join(name);
        let launcher = launcher.as_ref().filter(|_| ranks > 1);
        let mut run = start_with(STEPS, launcher, ranks, &data, &output);
        let held = if launcher.is_some() { run.wait_for_ranks(ranks) } else { [(0, run.pid())].into() };
        assert!(signal(name, *held.values().last().unwrap()));
        hold(&run.end(LIMIT), &output, &format!("SIG{name} to an optimizer on {ranks}"));
    }
}

#[test]
fn one_rank_all_ranks_or_the_launcher() {
    let Some(launcher) = program::launcher().filter(|_| running::is_possible()) else { return };
    let (scratch, data) = data();
    // mpirun hands on USR1 and USR2; TERM and INT it turns into an end within a second.
    for (name, on) in [
        ("USR1", "last"),
        ("TERM", "last"),
        ("INT", "first"),
        ("USR2", "all"),
        ("TERM", "all"),
        ("USR1", "launcher"),
        ("USR2", "launcher"),
    ] {
        if (name, on, launcher.flavour) == ("USR2", "launcher", program::Flavour::Hydra) {
            // MPICH's ends by it.
            continue;
        }
        let output = scratch.path().join(format!("{name}-{on}"));
        let mut run = start(Some(&launcher), 3, &data, &output);
        let ranks = run.wait_for_ranks(3);
        let pids: Vec<u32> = match on {
            "last" => vec![ranks[&2]],
            "first" => vec![ranks[&0]],
            "all" => ranks.values().copied().collect(),
            _ => vec![run.pid()],
        };
        assert!(pids.into_iter().all(|pid| signal(name, pid)));
        hold(&run.end(LIMIT), &output, &format!("SIG{name} to {on}"));
    }
}

/// Rank 1 is stopped, so that no iteration ends: only the second signal can end the job.
#[test]
fn a_second_signal_ends_what_cannot_stop() {
    let Some(launcher) = program::launcher().filter(|_| running::is_possible()) else { return };
    let (scratch, data) = data();
    let output = scratch.path().join("run");
    let mut run = start(Some(&launcher), 2, &data, &output);
    let ranks = run.wait_for_ranks(2);
    assert!(signal("STOP", ranks[&1]));
    assert!(signal("INT", ranks[&0]));
    // Sent twice at once, as launchers and batch systems may: it counts once.
    signal("INT", ranks[&0]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!run.has_ended());
    assert!(signal("INT", ranks[&0]));
    let ended = run.end(LIMIT);
    assert!(!ended.status.success() && ended.code() != Some(75), "{ended:?}");
    assert!(ended.stderr.contains("SIGINT once more: ending without a checkpoint"), "{ended:?}");
}

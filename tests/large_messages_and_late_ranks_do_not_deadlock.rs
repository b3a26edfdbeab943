//! Do runs end, with the models of one process, where messages are large or many and where ranks start late or stand
//! still for a while? A run that hangs is ended after a limit and fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "support/program.rs"]
mod program;

use program::Launcher;

/// A data set, the models that one process makes of it, and a place for more.
struct Problem {
    scratch: tempfile::TempDir,
    settings: String,
}

impl Problem {
    fn new(train_nodes: usize, settings: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let problem = Self { scratch, settings: settings.to_owned() };
        program::generate(&problem.path("data.h5"), train_nodes + 200, 12, 3, train_nodes);
        program::train(None, 1, &problem.path("data.h5"), &problem.path("serial"), settings);
        problem
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Adds the arguments of a run to a command that starts the program.
    fn arguments(&self, command: &mut Command, output: &Path) {
        command.arg("train").arg("--data").arg(self.path("data.h5")).arg("--output").arg(output);
        command.args(self.settings.split_whitespace());
    }

    fn holds(&self, output: &Path) {
        for model in ["model.h5", "model-last.h5"] {
            let of = |folder: &Path| program::weights(&folder.join(model));
            assert!(of(output) == of(&self.path("serial")), "{model} differs from that of one process");
        }
    }

    /// Runs on these ranks; returns the mean bytes of a message.
    fn run(&self, launcher: &Launcher, ranks: usize) -> u64 {
        let output = self.path(&format!("{ranks}"));
        program::train(Some(launcher), ranks, &self.path("data.h5"), &output, &self.settings);
        self.holds(&output);
        let bytes = &program::summary(&output)["bytes"];
        let of = |name: &str| bytes[name].as_u64().unwrap();
        (of("p") + of("q")) / of("messages")
    }
}

#[test]
fn messages_above_64_kib() {
    let Some(launcher) = program::launcher() else { return };
    let problem = Problem::new(400, "--neurons 64 --iterations 4");
    for ranks in [2, 10] {
        assert!(problem.run(&launcher, ranks) > 64 << 10);
    }
    // Level indices take less, so that one kind of message is small and the other large.
    let quantized = Problem::new(600, "--neurons 128 --iterations 2 --quantize p --bits 8");
    assert!(quantized.run(&launcher, 5) > 64 << 10);
}

#[test]
fn messages_above_4_mib() {
    let Some(launcher) = program::launcher() else { return };
    let settings = "--neurons 300 --stages 4 --iterations 2 --subproblem gradient --precision f64";
    let problem = Problem::new(1900, settings);
    assert!(problem.run(&launcher, 4) > 4 << 20);
}

#[test]
fn hundreds_of_messages_at_a_time() {
    let Some(launcher) = program::launcher() else { return };
    let problem = Problem::new(300, "--neurons 16 --iterations 2 --block-nodes 1 --quantize p");
    problem.run(&launcher, 5);
}

/// Ranks come to MPI's start one after the other.
#[test]
fn ranks_that_start_late() {
    let Some(launcher) = program::launcher() else { return };
    let problem = Problem::new(400, "--neurons 64 --iterations 3");
    // The first rank last, the last rank last.
    for (case, script) in ["sleep $((2 - rank))", "sleep $rank"].into_iter().enumerate() {
        let output = problem.path(&format!("late-{case}"));
        let mut command = program::behind(&launcher, 3, script);
        problem.arguments(&mut command, &output);
        program::succeed(&mut command);
        problem.holds(&output);
    }
}

/// Each rank in turn stands still for a second in the middle of the iterations, as on a machine that swaps.
#[test]
fn ranks_that_stand_still_for_a_while() {
    let Some(launcher) = program::launcher() else { return };
    let problem = Problem::new(400, "--neurons 64 --stages 5 --iterations 600 --evaluate-every 10");
    let output = problem.path("stopped");
    let mut command = program::behind(&launcher, 3, "echo $$ > \"$PID_FOLDER/$rank\"");
    command.env("PID_FOLDER", problem.scratch.path());
    problem.arguments(&mut command, &output);
    let job = std::thread::spawn(move || program::succeed(&mut command));
    let rows = || std::fs::read_to_string(output.join("history.csv")).map_or(0, |text| text.lines().count());
    let start = Instant::now();
    for rank in 0..3 {
        let before = rows();
        while rows() < before + 5 && !job.is_finished() && start.elapsed() < program::LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        let process = std::fs::read_to_string(problem.path(&rank.to_string())).unwrap();
        let signal = |name: &str| Command::new("kill").args([name, process.trim()]).status().unwrap();
        assert!(signal("-STOP").success(), "the run ended before rank {rank} could be stopped");
        std::thread::sleep(Duration::from_secs(1));
        assert!(signal("-CONT").success());
    }
    job.join().unwrap();
    problem.holds(&output);
}

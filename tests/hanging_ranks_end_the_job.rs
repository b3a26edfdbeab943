//! Does a rank that hangs (SIGSTOP) end the whole job after `--comm-timeout`, with the silent rank named?
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use running::{Running, signal};

#[test]
fn the_silent_rank_is_named() {
    let Some(launcher) = program::launcher().filter(|_| running::is_possible()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 3, 40);
    // The lowest, one in the middle, the highest; the last case has a rank that holds no layers.
    for (silent, stages) in [(0, "4"), (1, "4"), (2, "4"), (1, "2,4")] {
        let output = scratch.path().join(format!("{silent}-{stages}"));
        let mut command = program::on_ranks(Some(&launcher), 3);
        command.arg("train").arg("--data").arg(&data).arg("--output").arg(&output);
        command.args([
            "--stages",
            stages,
            "--neurons",
            "8",
            "--iterations",
            "2000000",
            "--comm-timeout",
            "2",
        ]);
        command.args(["--checkpoint-every", "50it"]);
        let mut run = Running::start(&mut command);
        let ranks = run.wait_for_ranks(3);
        let has_checkpoint = |folder: &std::path::Path| {
            let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.any(|entry| {
                let name = entry.file_name().into_string().unwrap();
                name.starts_with("checkpoint-") && !name.contains('.')
            })
        };
        assert!(run.wait_until(|_| has_checkpoint(&output)), "no checkpoint came");
        assert!(signal("STOP", ranks[&silent]));
        let ended = run.end(Duration::from_secs(60));
        let what = format!("rank {silent} of stages {stages}: {ended:?}");
        assert!(!ended.status.success(), "{what}");
        // A neighbour knows; who waits for a sum over all ranks asks them first.
        assert!(ended.stderr.contains("nothing after 2"), "{what}");
        assert!(ended.stderr.contains(&format!("rank {silent} is silent, slow or dead")), "{what}");
        assert!(has_checkpoint(&output), "{what}");
    }
}

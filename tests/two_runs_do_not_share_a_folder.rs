//! Is a second run into the folder of one that is at work refused, however it is started, and does the lock of a run that
//! was killed stand in nobody's way?
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use running::{Running, signal};

#[test]
fn the_second_is_refused_and_a_dead_ones_lock_is_no_lock() {
    if !running::is_possible() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (data, output) = (scratch.path().join("data.h5"), scratch.path().join("run"));
    program::generate(&data, 200, 6, 3, 40);
    let long = "--stages 2,4 --neurons 8 --iterations 2000000 --checkpoint-every 20it";
    let start = || {
        let mut command = program::alone();
        command.arg("train").arg("--data").arg(&data).arg("--output").arg(&output);
        command.args(long.split_whitespace());
        command
    };
    let resume = || {
        let mut command = program::alone();
        command.arg("train").arg("--resume").arg(&output).args(["--max-time", "1s"]);
        command
    };
    let mut first = Running::start(&mut start());
    let has_checkpoint = || {
        let entries = std::fs::read_dir(&output).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.any(|name| name.starts_with("checkpoint-") && !name.contains('.'))
    };
    assert!(first.wait_until(|_| has_checkpoint()), "no checkpoint came");
    let holder = format!("is in use by process {} on ", first.pid());
    for mut command in [resume(), {
        let mut again = start();
        again.arg("--overwrite");
        again
    }] {
        let outcome = program::run(&mut command);
        assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(&holder), "{outcome:?}");
    }
    let without = program::run(&mut start());
    assert_eq!(without.status.unwrap().code(), Some(2), "{without:?}");
    assert!(without.stderr.contains("already holds a run"), "{without:?}");
    // None of that has disturbed the first.
    let rows = || program::column(&output, "iteration").len();
    let before = rows();
    assert!(first.wait_until(|_| rows() > before), "the first run has stopped");
    assert!(signal("KILL", first.pid()));
    assert!(!first.end(program::LIMIT).status.success());
    let outcome = program::run(&mut resume());
    assert_eq!(outcome.status.unwrap().code(), Some(75), "{outcome:?}");
    assert!(outcome.stdout.contains("  resumed   from "), "{outcome:?}");
}

//! Is a LAPACK that has taken the processor for an older one noticed, and named with the remedy?
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/program.rs"]
mod program;

/// The banner's line about OpenBLAS, and all that went to standard error, of a short run.
fn run(core: Option<&str>, remaining: &[&str]) -> (Option<String>, String) {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("graph.h5");
    program::generate(&data, 60, 5, 3, 12);
    let mut command = program::alone();
    match core {
        Some(core) => command.env("OPENBLAS_CORETYPE", core),
        None => command.env_remove("OPENBLAS_CORETYPE"),
    };
    command.args(["train", "--neurons", "8", "--iterations", "2", "--layers", "2", "--data"]).arg(&data);
    command.arg("--output").arg(scratch.path().join("run")).args(remaining);
    let outcome = program::succeed(&mut command);
    let line = outcome.stdout.lines().find(|line| line.contains("OpenBLAS")).map(str::to_owned);
    (line, outcome.stderr)
}

#[test]
fn an_older_core_is_named_with_the_remedy() {
    if !is_x86_feature_detected!("avx2") {
        println!("skipped: this processor is as old as the core that the test forces");
        return;
    }
    let (line, _) = run(Some("Prescott"), &[]);
    let line = line.expect("the banner says nothing of OpenBLAS");
    assert!(line.starts_with("  warning   OpenBLAS takes this "), "{line}");
    assert!(line.contains(" for Prescott: "), "{line}");
    let (_, remedy) = line.split_once("OPENBLAS_CORETYPE=").expect("no remedy");
    let remedy = remedy.split(' ').next().unwrap();
    // The remedy works, and is the last that is heard of it.
    assert_eq!(run(Some(remedy), &[]).0, None);
}

#[test]
fn a_quiet_run_hears_of_it_on_standard_error() {
    if is_x86_feature_detected!("avx2") {
        let (line, errors) = run(Some("Prescott"), &["--quiet"]);
        assert_eq!(line, None);
        assert!(errors.contains("for Prescott: "), "{errors}");
    }
}

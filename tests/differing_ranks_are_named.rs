//! Is a rank with another program, other settings, other arithmetic or other data than rank 0 named, together with what
//! differs, before anything is computed, and do all ranks end with the same code? And is a launcher recognised that belongs
//! to another MPI?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[path = "support/program.rs"]
mod program;

use program::{Flavour, Launcher};

const RANKS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);
const USAGE: i32 = 2;
const DATA: i32 = 3;
const TRAIN: &str = "train --data data.h5 --output new --neurons 8 --iterations 2";

/// A folder with a data set, and another with one of the same name.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        program::generate(&scratch.path().join("data.h5"), 60, 5, 3, 12);
        std::fs::create_dir(scratch.path().join("other")).unwrap();
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Every rank runs `script` first, a line of shell with its number in `$rank`: the job ends with this code, a line of
    /// rank `culprit` that has these words, and no results.
    fn refused(
        &self,
        launcher: &Launcher,
        script: &str,
        command: &str,
        code: i32,
        culprit: usize,
        words: &[&str],
    ) {
        let mut command = with_arguments(program::behind(launcher, RANKS, script), command);
        let outcome = program::run_within(command.current_dir(self.scratch.path()), LIMIT).unwrap();
        let what = format!("{script}: {}\n{}", outcome.stdout, outcome.stderr);
        let status = outcome.status.unwrap_or_else(|| panic!("it hangs: {what}"));
        // The launcher's code is that of the first rank that ends: what every rank says would show if one had another.
        assert_eq!(status.code(), Some(code), "{what}");
        let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("one message for all ranks: {what}") };
        println!("{error}");
        for word in words.iter().copied().chain([format!("rank {culprit}").as_str()]) {
            assert!(error.contains(word), "{word:?} is not in the message: {what}");
        }
        assert!(!self.path("new").exists(), "{what}");
    }
}

fn with_arguments(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace());
    command
}

#[test]
fn other_settings() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    // What decides the steps that ranks go through too: the type of numbers, several runs, going on.
    for (culprit, flags, words) in [
        (1, "--seed 7", &["settings", "--seed (there 0, here 7)"][..]),
        (2, "--seed 7 --mu 0.5", &["--mu (there 0.05, here 0.5), --seed (there 0, here 7)"]),
        (1, "--precision f64", &["--precision (there \"f32\", here \"f64\")"]),
        (2, "--runs 2", &["--runs (there 1, here 2)"]),
        (1, "--overwrite", &["--overwrite (there false, here true)"]),
        (2, "--optimizer adam", &["settings", "--optimizer (there \"admm\", here \"adam\")"]),
    ] {
        let script = format!("test $rank = {culprit} && set -- \"$@\" {flags}");
        place.refused(&launcher, &script, TRAIN, USAGE, culprit, words);
    }
    // Where it is rank 0 that is alone with its settings, the next one differs from it.
    let script = "test $rank = 0 && set -- \"$@\" --mu 0.5";
    place.refused(&launcher, script, TRAIN, USAGE, 1, &["--mu (there 0.5, here 0.05)", "same flags"]);
    let script = "test $rank = 2 && set -- train --resume old";
    program::train(None, 1, &place.path("data.h5"), &place.path("old"), "--neurons 8 --iterations 2");
    place.refused(&launcher, script, TRAIN, USAGE, 2, &["--resume (there false, here true)"]);
}

/// Processors for which OpenBLAS, and so LAPACK, rounds differently.
#[test]
fn other_arithmetic() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    for culprit in [1, 2] {
        let script =
            format!("export OPENBLAS_CORETYPE=Prescott; test $rank = {culprit} && OPENBLAS_CORETYPE=Nehalem");
        let words =
            ["arithmetic", "here", "LAPACK for Nehalem", "there", "LAPACK for Prescott", "OPENBLAS_CORETYPE"];
        place.refused(&launcher, &script, TRAIN, USAGE, culprit, &words);
    }
}

#[test]
fn other_data() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    let script = "test $rank = 2 && cd other";
    // The same shapes with other numbers, and other shapes; first where all was inspected, which finds it as well.
    for nodes in [60, 61] {
        program::generate(&place.path("other/data.h5"), nodes, 5, 3, 13);
        place.refused(&launcher, script, TRAIN, DATA, 2, &["data.h5", "not those that were inspected"]);
        let here = format!("{nodes} nodes");
        let words = ["data set", "checksum", "60 nodes", &here, "5 features", "12,", "13,", "the same file"];
        place.refused(&launcher, script, &format!("{TRAIN} --trust-files"), USAGE, 2, &words);
        std::fs::remove_file(place.path("other/data.h5")).unwrap();
    }
    place.refused(
        &launcher,
        script,
        &format!("{TRAIN} --trust-files"),
        DATA,
        2,
        &["data.h5", "No such file"],
    );
}

/// A copy of the program whose version is another.
fn other_build(path: &Path) {
    let mut bytes = std::fs::read(program::binary()).unwrap();
    let own = concat!("pdadmm-g ", env!("CARGO_PKG_VERSION"), ", state ").as_bytes();
    let places: Vec<usize> =
        (0..bytes.len() - own.len()).filter(|&at| bytes[at..].starts_with(own)).collect();
    assert!(!places.is_empty(), "the program's line of the handshake is not in the program");
    for at in places {
        bytes[at + "pdadmm-g ".len()] = b'9';
    }
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::metadata(program::binary()).unwrap().permissions()).unwrap();
}

#[test]
fn another_program() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    let other = place.path("other/pdadmm-g");
    other_build(&other);
    for culprit in [1, 2] {
        let script = format!("test $rank = {culprit} && exec '{}' \"$@\"", other.display());
        let words = ["program", "here pdadmm-g 9.", "there pdadmm-g 0.", ", state ", "MPI", "same program"];
        place.refused(&launcher, &script, TRAIN, USAGE, culprit, &words);
    }
}

/// Processes of a launcher of the other family do not find each other: each would train the whole network.
#[test]
fn the_launcher_of_another_mpi() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    let variables: &[(&str, &str)] = match launcher.flavour {
        Flavour::OpenMpi => &[("PMI_SIZE", "4"), ("PMI_RANK", "1")],
        Flavour::Hydra => &[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1")],
    };
    let mut command = with_arguments(program::alone(), TRAIN);
    command.envs(variables.iter().copied()).current_dir(place.scratch.path());
    let outcome = program::run_within(&mut command, LIMIT).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("belongs to another MPI than this program"), "{outcome:?}");
    assert!(!place.path("new").exists());
}

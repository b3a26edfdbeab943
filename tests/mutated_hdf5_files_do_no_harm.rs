//! Is an HDF5 file with mutated bytes read or refused, and nothing else? libhdf5 itself crashes and loops over such
//! files. So worker processes read them, one after the other, until one crashes; our own code must neither panic nor
//! abort; and where libhdf5 did crash or loop, the program must end with code 3, as over any wrong file.
//!
//! A process of its own: children inherit the files, and locks, that libhdf5 has open in other threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::type_complexity)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use clap::ValueEnum;
use pdadmm_g::inspection::{FileKind, Limits, inspect_with};

#[path = "support/mutator.rs"]
mod mutator;
#[path = "support/program.rs"]
mod program;
#[path = "support/tiny_hdf5.rs"]
mod tiny_hdf5;

use mutator::{Mutator, mutations};

/// Tells a worker what to do: kind, folder, numbers of the first mutation and of the one after the last.
const WORK: &str = "PDADMM_TEST_MUTATED_HDF5";
/// A file that takes longer makes libhdf5 loop: others take less than a millisecond. Should a busy machine make one
/// look so, the program reads it and nothing is lost.
const LOOP: Duration = Duration::from_secs(2);
/// Files over which libhdf5 loops that are given to the program: each takes its limit of 10 s of processor time.
const MOST_LOOPS: usize = 3;
/// The program ends by its limits of 10 s of processor time or 30 s by the clock.
const LIMIT: Duration = Duration::from_secs(90);

/// What became of one mutation in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Read,
    Refused,
    CrashedTheLibrary,
    /// It was read once, and crashed when it was read again.
    CrashedLater,
    LoopedTheLibrary,
    Panicked,
    OutOfMemory,
}

/// A worker and what it says, line by line.
struct Worker {
    child: Child,
    lines: Receiver<String>,
    stderr: std::thread::JoinHandle<String>,
}

impl Worker {
    fn start(kind: FileKind, folder: &Path, first: usize, end: usize) -> Worker {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reads_mutated_files", "--nocapture"])
            .env(WORK, format!("{kind:?} {first} {end} {}", folder.display()))
            .env("OPENBLAS_NUM_THREADS", "1")
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Worker { child, lines, stderr }
    }

    /// Why the worker has stopped before its end.
    fn fate(mut self, looped: bool) -> (Fate, String) {
        if looped {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let said = self.stderr.join().unwrap();
        let fate = match looped {
            true => Fate::LoopedTheLibrary,
            false if said.contains("memory allocation of") => Fate::OutOfMemory,
            false if status.code().is_none() => Fate::CrashedTheLibrary,
            false => Fate::Panicked,
        };
        (fate, format!("{status}: {said}"))
    }
}

/// The worker's part; alone it does nothing. A line for each mutation: its number and `read` or `refused`.
#[test]
fn reads_mutated_files() {
    let Ok(work) = std::env::var(WORK) else { return };
    let mut words = work.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let kind = FileKind::from_str(word(), true).unwrap();
    let (first, end): (usize, usize) = (word().parse().unwrap(), word().parse().unwrap());
    let folder = PathBuf::from(word());
    let seed = std::fs::read(folder.join("seed.h5")).unwrap();
    let limits = Limits { processor: Duration::from_secs(1 << 20), ..Limits::for_length(seed.len() as u64) };
    limits.impose().unwrap();
    let path = folder.join("mutated.h5");
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready").unwrap();
    for number in first..end {
        std::fs::write(&path, Mutator::of(number).mutate(&seed)).unwrap();
        let read = || kind.go_through(&path, true).is_ok();
        let once = read();
        writeln!(out, "{number} {}", if once { "read" } else { "refused" }).unwrap();
        // The process that trains has another heap: a file that was passed should not crash it.
        if once {
            read();
        }
    }
    writeln!(out, "done").unwrap();
}

/// Runs the workers over all mutations; what became of each, and the files that were neither read nor refused.
fn sweep(kind: FileKind, wanted: Range<usize>) -> (BTreeMap<Fate, usize>, Vec<(usize, Fate, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.h5");
    tiny_hdf5::write(kind, &path);
    let seed = std::fs::read(&path).unwrap();
    println!("{kind:?}: {} bytes, mutations {wanted:?}", seed.len());
    let (mut counts, mut harmful) = (BTreeMap::new(), Vec::new());
    let mut next = wanted.start;
    while next < wanted.end {
        let worker = Worker::start(kind, folder.path(), next, wanted.end);
        let mut last = None;
        let end = loop {
            match worker.lines.recv_timeout(LOOP) {
                Ok(line) if line == "done" => break None,
                Ok(line) => {
                    let Some((number, fate)) = line.split_once(' ') else { continue };
                    let Ok(number) = number.parse::<usize>() else { continue };
                    let fate = match fate {
                        "read" => Fate::Read,
                        "refused" => Fate::Refused,
                        _ => continue,
                    };
                    last = Some(fate);
                    *counts.entry(fate).or_insert(0) += 1;
                    next = number + 1;
                }
                Err(error) => break Some(error == RecvTimeoutError::Timeout),
            }
        };
        let Some(looped) = end else { break };
        let (mut fate, said) = worker.fate(looped);
        assert!(!matches!(fate, Fate::Panicked | Fate::OutOfMemory), "{kind:?}, mutation {next}: {said}");
        let mut number = next;
        // It broke off after the first reading of a file that it had passed, or in a new one.
        if last == Some(Fate::Read) && crashes_again(kind, folder.path(), next - 1) {
            number = next - 1;
            fate = Fate::CrashedLater;
            *counts.entry(Fate::Read).or_insert(0) -= 1;
        } else {
            next += 1;
        }
        *counts.entry(fate).or_insert(0) += 1;
        // Long runs are followed by these lines.
        println!("{kind:?}, mutation {number}, {fate:?}; so far {counts:?}");
        harmful.push((number, fate, Mutator::of(number).mutate(&seed)));
    }
    (counts, harmful)
}

/// Whether a mutation that was read ends a worker that reads it several times.
fn crashes_again(kind: FileKind, folder: &Path, number: usize) -> bool {
    let worker = Worker::start(kind, folder, number, number + 1);
    loop {
        match worker.lines.recv_timeout(LOOP) {
            Ok(line) if line == "done" => {
                worker.fate(false);
                return false;
            }
            Ok(_) => {}
            Err(error) => {
                worker.fate(error == RecvTimeoutError::Timeout);
                return true;
            }
        }
    }
}

/// The program on a file: `dataset check`, or `predict` with a sound data set.
fn run_program(kind: FileKind, folder: &Path, bytes: &[u8]) -> (Option<i32>, String) {
    let (path, data) = (folder.join("mutated.h5"), folder.join("data.h5"));
    std::fs::write(&path, bytes).unwrap();
    let mut command = program::alone();
    match kind {
        FileKind::Dataset => {
            command.args(["dataset", "check"]).arg(&path);
        }
        FileKind::Model => {
            tiny_hdf5::write(FileKind::Dataset, &data);
            command.arg("predict").arg("--model").arg(&path).arg("--data").arg(&data);
            command.arg("--output").arg(folder.join("out.h5")).arg("--overwrite");
        }
        // What --resume does with each file of a checkpoint before MPI starts; the rest needs a whole run:
        // damaged_checkpoints_are_passed_over.
        FileKind::Checkpoint => {
            let inspected = inspect_with(Path::new(program::binary()), kind, &path, false);
            return match inspected {
                Ok(_) => (Some(0), String::new()),
                Err(error) => (Some(error.exit_code().into()), format!("error: {error}")),
            };
        }
    }
    let outcome = program::run_within(&mut command, LIMIT).unwrap();
    (outcome.status.and_then(|status| status.code()), outcome.stderr)
}

/// Mutates the small file of a kind, and gives the program what harmed libhdf5, and a sample of the rest. (A model that
/// can be read does not fit the data set: 3 as well.)
fn hold(kind: FileKind) {
    let wanted = mutations(300);
    let (counts, harmful) = sweep(kind, wanted.clone());
    println!("{kind:?}: {counts:?}");
    assert_eq!(counts.values().sum::<usize>(), wanted.len());
    assert!(counts.get(&Fate::Refused).is_some_and(|&refused| refused > 0), "{counts:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut loops = 0;
    for (number, fate, bytes) in &harmful {
        loops += usize::from(*fate == Fate::LoopedTheLibrary);
        if *fate == Fate::LoopedTheLibrary && loops > MOST_LOOPS {
            continue;
        }
        let (code, stderr) = run_program(kind, folder.path(), bytes);
        let line = stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        println!("{kind:?}, mutation {number}, {fate:?}: {code:?} {line}");
        // What crashed after many other files may pass alone, and a file that is read is no error.
        assert!(matches!(code, Some(0 | 3)), "{kind:?}, mutation {number}: {code:?} {stderr}");
        // The file can be had for a look.
        if let Some(keep) = std::env::var_os("PDADMM_KEEP_CRASHES") {
            let name = format!("{kind:?}-{number}-{fate:?}-{}.h5", code.unwrap_or(-1));
            std::fs::write(Path::new(&keep).join(name), bytes).unwrap();
        }
    }
    // A sample of all others through the whole program.
    let path = folder.path().join("seed.h5");
    tiny_hdf5::write(kind, &path);
    let seed = std::fs::read(&path).unwrap();
    for number in wanted.clone().step_by((wanted.len() / 25).max(1)) {
        let (code, stderr) = run_program(kind, folder.path(), &Mutator::of(number).mutate(&seed));
        assert!(matches!(code, Some(0 | 3)), "{kind:?}, mutation {number}: {code:?} {stderr}");
    }
}

#[test]
fn mutated_data_sets_are_read_or_refused() {
    hold(FileKind::Dataset);
}

#[test]
fn mutated_checkpoints_are_read_or_refused() {
    hold(FileKind::Checkpoint);
}

#[test]
fn mutated_models_are_read_or_refused() {
    hold(FileKind::Model);
}

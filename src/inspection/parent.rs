//! The parent's part: starts the child, waits for it, and judges how it ended.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::{CHILD_COMMAND, REFUSED, SOUND};
use super::{FileKind, InspectionError, Limits};
use crate::storage::regular_file;

/// Most that is kept of what the child says.
const LONGEST_REPORT: u64 = 1 << 20;
/// What is shown of the last words of a child that died.
const LAST_WORDS: usize = 300;

/// A file that was gone through without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Checksum of its bytes: what is read later must have it.
    pub checksum: String,
    /// What there is to say about the content, where it was asked for.
    pub report: String,
}

/// Has a child process of this program go through a file. Call it before MPI starts, from the program itself: the
/// child is the program that runs, called with [`CHILD_COMMAND`].
///
/// # Errors
/// What is wrong with the file; that the child died over it; or that there could be no child.
pub fn inspect(kind: FileKind, path: &Path, report: bool) -> Result<Inspected, InspectionError> {
    let start = |source| InspectionError::Start { path: path.to_path_buf(), source };
    let program = std::env::current_exe().map_err(start)?;
    inspect_with(&program, kind, path, report)
}

/// As [`inspect`], with the program at `program` as the child: for programs that use this library.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(
    program: &Path,
    kind: FileKind,
    path: &Path,
    report: bool,
) -> Result<Inspected, InspectionError> {
    let metadata = regular_file(path, &format!("give a {} file", kind.name()))?;
    let limits = Limits::for_length(metadata.len());
    let mut command = Command::new(program);
    command.args([CHILD_COMMAND, "--kind", kind.argument()]);
    if report {
        command.arg("--report");
    }
    command
        .arg("--")
        .arg(path)
        // Filters of strangers are refused: libhdf5 need not look for any.
        .env("HDF5_PLUGIN_PRELOAD", "::")
        // Nothing is computed, so that threads of BLAS would only cost time and address space.
        .env("OPENBLAS_NUM_THREADS", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = |source| InspectionError::Start { path: path.to_path_buf(), source };
    let mut child = command.spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
    let status = wait(&mut child, limits.wall).map_err(start)?;
    let text = |reader: Option<JoinHandle<String>>| reader.and_then(|reader| reader.join().ok());
    let said = Said { out: text(stdout).unwrap_or_default(), err: text(stderr).unwrap_or_default() };
    judge(path, &limits, status, said)
}

/// What the child said.
struct Said {
    out: String,
    err: String,
}

/// The end of the child, none if it had to be killed because it took too long.
fn judge(
    path: &Path,
    limits: &Limits,
    status: Option<ExitStatus>,
    said: Said,
) -> Result<Inspected, InspectionError> {
    let path = path.to_path_buf();
    let Some(status) = status else {
        let seconds = limits.wall.as_secs();
        return Err(InspectionError::TooSlow { path, seconds, clock: "wall-clock time" });
    };
    match (status.code(), said.out.strip_prefix(SOUND), said.out.strip_prefix(REFUSED)) {
        (Some(0), Some(sound), _) => {
            let (checksum, report) = sound.split_once('\n').unwrap_or((sound, ""));
            return Ok(Inspected { checksum: checksum.to_string(), report: report.to_string() });
        }
        (Some(3), _, Some(message)) => {
            return Err(InspectionError::Refused { message: message.trim_end().to_string() });
        }
        _ => {}
    }
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    // What Rust's allocator says before it aborts.
    if is(Signal::ABORT) && said.err.contains("memory allocation of") {
        return Err(InspectionError::TooLarge { path, mebibytes: limits.memory >> 20 });
    }
    if is(Signal::XCPU) {
        let seconds = limits.processor.as_secs();
        return Err(InspectionError::TooSlow { path, seconds, clock: "processor time" });
    }
    match status.signal() {
        Some(signal)
            if [Signal::SEGV, Signal::BUS, Signal::ABORT, Signal::ILL, Signal::FPE].into_iter().any(is) =>
        {
            Err(InspectionError::Crashed { path, signal })
        }
        _ => {
            let last = said.err.trim_end().chars().rev().take(LAST_WORDS).collect::<Vec<_>>();
            let said = match last.is_empty() {
                true => "it said nothing".to_string(),
                false => last.into_iter().rev().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            };
            Err(InspectionError::BrokeOff { path, status, said })
        }
    }
}

/// Waits for the end of the child; after `limit` kills it and returns none.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Reads a stream to its end, so that the child never waits, and keeps its beginning.
fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = stream.by_ref().take(LONGEST_REPORT).read_to_end(&mut kept);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judged(status: i32, out: &str, err: &str) -> Result<Inspected, String> {
        let said = Said { out: out.into(), err: err.into() };
        let limits = Limits::for_length(1000);
        judge(Path::new("a.h5"), &limits, Some(ExitStatus::from_raw(status)), said)
            .map_err(|error| format!("{}: {error}", error.exit_code()))
    }

    #[test]
    fn every_end_of_the_child_has_a_meaning() {
        let exit = |code: i32| code << 8;
        let sound = judged(exit(0), "sound 1c291ca3-15360\nnodes 3\n", "").unwrap();
        assert_eq!((sound.checksum.as_str(), sound.report.as_str()), ("1c291ca3-15360", "nodes 3\n"));
        assert_eq!(judged(exit(3), "refused a.h5: no labels\n", "").unwrap_err(), "3: a.h5: no labels");
        for (status, err, words) in [
            (11, "", "crashed (signal 11)"),
            (6, "free(): invalid pointer\n", "crashed (signal 6)"),
            (6, "memory allocation of 99 bytes failed\n", "1024 MiB of memory"),
            (24, "", "10 s of processor time"),
            (9, "", "broke off (signal: 9"),
            (exit(101), "panicked at x.rs", "panicked at x.rs"),
            (exit(0), "", "broke off"),
            (exit(3), "sound x", "broke off"),
        ] {
            let error = judged(status, "", err).unwrap_err();
            assert!(error.starts_with("3: a.h5: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(20)).unwrap(), None);
        let mut child = Command::new("true").spawn().unwrap();
        assert!(wait(&mut child, Duration::from_secs(60)).unwrap().unwrap().success());
    }
}

//! Where the disk or a quota is full, a limit on file sizes is reached, the file system is read-only or the folder vanishes: does the
//! run end with a clear error on all ranks, and are the last checkpoint and the input as they were, so that it goes on
//! when there is room?
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use pdadmm_g::parallel::{SingleProcess, ThreadCommunicator};
use pdadmm_g::settings::{RawSettings, Settings};
use pdadmm_g::train::{RunOptions, train};
use program::Launcher;
use running::Running;

const SETTINGS: &str = "--stages 2,4 --neurons 40 --iterations 60 --quantize pq";

/// Checkpoints above 2 MB: btrfs reserves some hundred KB for each file that it makes.
const LARGE: &str = "--stages 2,4 --neurons 200 --iterations 60 --quantize pq";

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// None, after saying so in one line, where file systems cannot be mounted.
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        let mounted = mount.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        if !mounted {
            println!("skipped: a small file system cannot be mounted here (root is needed)");
        }
        mounted.then_some(Self { path })
    }

    /// A file system with quotas, in a file of `image`'s path; none, after saying so, where that cannot be.
    fn with_quotas(path: PathBuf, image: &Path) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        // The smallest that mkfs.btrfs makes has 109 MiB, most of which are never written.
        std::fs::File::create(image).unwrap().set_len(120 << 20).unwrap();
        let (image, place) = (image.as_os_str(), path.as_os_str());
        // Kernels may lack other kinds of quotas, and those of users do not hold for root.
        let disk = Self { path: path.clone() };
        let made = is_done("mkfs.btrfs", &["-q".as_ref(), "-n".as_ref(), "4096".as_ref(), image])
            && is_done("mount", &["-o".as_ref(), "loop".as_ref(), image, place])
            && is_done("btrfs", &["quota".as_ref(), "enable".as_ref(), place]);
        if !made {
            println!(
                "skipped: a file system with quotas cannot be made here (root and btrfs-progs are needed)"
            );
        }
        made.then_some(disk)
    }

    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", &format!("remount,{how}")]).arg(&self.path).status().unwrap();
        assert!(status.success());
    }
}

/// Runs a command without showing what it says; whether it succeeds.
fn is_done(program: &str, arguments: &[&OsStr]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        is_done("umount", &["-l".as_ref(), self.path.as_os_str()]);
    }
}

struct Place {
    settings: &'static str,
    scratch: tempfile::TempDir,
    launcher: Option<Launcher>,
}

impl Place {
    fn new() -> Self {
        Self::of(SETTINGS)
    }

    fn of(settings: &'static str) -> Self {
        let place = Self { settings, scratch: tempfile::tempdir().unwrap(), launcher: program::launcher() };
        program::generate(&place.data(), 300, 20, 3, 90);
        program::train(None, 1, &place.data(), &place.path("straight"), settings);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data.h5")
    }

    fn ranks(&self) -> usize {
        if self.launcher.is_some() { 3 } else { 1 }
    }

    fn train(&self) -> Command {
        let mut command = program::on_ranks(self.launcher.as_ref(), self.ranks());
        command.arg("train");
        command
    }

    /// A run that was stopped in iteration 70 of 120.
    fn interrupted(&self, output: &Path) {
        let settings = settings(self.settings, self.data(), output);
        let outcomes = ThreadCommunicator::run(2, |communicator| {
            let options = RunOptions { stop: Box::new(|iteration| iteration >= 70), ..RunOptions::default() };
            train::<f32>(&settings, communicator, options).map(|outcome| outcome.status.exit_code()).unwrap()
        });
        assert_eq!(outcomes, [75, 75]);
    }

    /// Going on fails on all ranks with these words, and leaves checkpoints and input as they were.
    fn fails(&self, command: &mut Command, output: &Path, words: &[&str]) {
        let kept = |path: &Path| {
            let all = program::contents(path);
            let name = |path: &Path| path.to_string_lossy().contains("/checkpoint-");
            all.into_iter().filter(|(path, _)| name(path)).collect::<Vec<_>>()
        };
        let (before, data) = (kept(output), std::fs::read(self.data()).unwrap());
        assert!(!before.is_empty());
        let outcome = program::run(command.arg("--resume").arg(output).args(["--checkpoint-every", "5it"]));
        let told = format!("{words:?}: {outcome:?}");
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(1), "{told}");
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{told}");
        assert!(!outcome.stderr.contains("panicked"), "{told}");
        assert_eq!(kept(output), before, "{told}");
        assert!(std::fs::read(self.data()).unwrap() == data, "{told}");
    }

    /// It goes on to the model of the straight run.
    fn goes_on(&self, output: &Path) {
        program::succeed(self.train().arg("--resume").arg(output));
        for model in ["model.h5", "model-last.h5"] {
            let read = |folder: &Path| std::fs::read(folder.join(model)).unwrap();
            assert!(read(&self.path("straight")) == read(output), "{model} differs");
        }
    }
}

/// Settings from flags.
fn settings(flags: &str, data: PathBuf, output: &Path) -> Settings {
    use clap::{Args, FromArgMatches};
    let command = RawSettings::augment_args(clap::Command::new("settings"));
    let matches = command.get_matches_from(std::iter::once("settings").chain(flags.split_whitespace()));
    let mut raw = RawSettings::from_arg_matches(&matches).unwrap();
    (raw.data, raw.output) = (Some(data), Some(output.to_owned()));
    raw.check().unwrap()
}

/// Takes all room on a disk but so many bytes.
fn fill(disk: &SmallDisk, but: u64) -> PathBuf {
    use std::io::Write;
    let path = disk.path.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut written = 0u64;
    while let Ok(more) = file.write(&[1; 4096]) {
        written += more as u64;
    }
    file.set_len(written.saturating_sub(but)).unwrap();
    path
}

#[test]
fn a_full_disk() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(place.path("disk"), "6m") else { return };
    let output = disk.path.join("run");
    place.interrupted(&output);
    // Room for a part of a checkpoint, for next to nothing, for nothing at all.
    for (but, words) in [
        (150_000, ["cannot write the checkpoint", "No space left on device"]),
        (20_000, ["cannot write ", "No space left on device"]),
        (0, ["cannot write ", "No space left on device"]),
    ] {
        let filler = fill(&disk, but);
        place.fails(&mut place.train(), &output, &words);
        std::fs::remove_file(filler).unwrap();
        let left = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name());
        let partial: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".partial")).collect();
        assert!(partial.is_empty(), "{partial:?} takes room that there is none of");
    }
    place.goes_on(&output);
}

#[test]
fn a_full_quota() {
    let place = Place::of(LARGE);
    let Some(disk) = SmallDisk::with_quotas(place.path("disk"), &place.path("image")) else { return };
    let share = disk.path.join("share");
    let output = share.join("run");
    let limit = |size: &str| {
        // Quotas count what is on disk. The first subvolume has the number 256; through it, a full one could not be given
        // more.
        assert!(is_done("sync", &["-f".as_ref(), share.as_os_str()]));
        let limit = ["qgroup", "limit", size, "0/256"].map(OsStr::new);
        assert!(is_done("btrfs", &[&limit[..], &[disk.path.as_os_str()]].concat()));
    };
    assert!(is_done("btrfs", &["subvolume".as_ref(), "create".as_ref(), share.as_os_str()]));
    place.interrupted(&output);
    // Room for a part of a checkpoint, and for nothing.
    for (room, words) in [
        (1 << 20, ["cannot write the checkpoint", "quota exceeded"]),
        (0, ["cannot write ", "quota exceeded"]),
    ] {
        let used: u64 = program::contents(&output).keys().map(|path| path.metadata().unwrap().len()).sum();
        limit(&(used + room).to_string());
        place.fails(&mut place.train(), &output, &words);
        limit("none");
    }
    place.goes_on(&output);
}

#[test]
fn a_limit_on_the_size_of_files() {
    let place = Place::new();
    let output = place.path("run");
    place.interrupted(&output);
    // One process: the files that Open MPI itself makes in memory are larger. In blocks of 512 bytes.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", program::binary(), "train"]);
    command.env("HDF5_USE_FILE_LOCKING", "FALSE");
    place.fails(&mut command, &output, &["cannot write the checkpoint", "File too large"]);
    place.goes_on(&output);
}

/// Tells a worker the data set and the output folder.
const WORK: &str = "PDADMM_TEST_LAST_ROW";
/// Six hundred rows are longer than a model or a checkpoint.
const LAST_ROW: [&str; 2] = [
    "--stages 2,4 --neurons 8 --iterations 300 --checkpoint-every 70it",
    "--optimizer adam --layers 2 --neurons 8 --iterations 600 --checkpoint-every 70it",
];

/// The worker's part, a process because limits are of a process; alone it does nothing. From the last iteration on no file
/// can be longer than the history is.
#[test]
fn trains_until_the_last_row_fails() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Ok(work) = std::env::var(WORK) else { return };
    let mut lines = work.lines();
    let [flags, data, output] = [(); 3].map(|()| lines.next().unwrap());
    let history = Path::new(output).join("history.csv");
    let ignored = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored).unwrap();
    let stop = move |iteration| {
        if iteration == 600 {
            let length = std::fs::metadata(&history).unwrap().len();
            setrlimit(Resource::Fsize, Rlimit { current: Some(length), maximum: None }).unwrap();
        }
        false
    };
    let options = RunOptions { stop: Box::new(stop), ..RunOptions::default() };
    let settings = settings(flags, data.into(), Path::new(output));
    let error = train::<f32>(&settings, &SingleProcess, options).unwrap_err();
    println!("error: {error}");
}

/// No iteration follows in which ranks could tell each other.
#[test]
fn the_last_row() {
    let place = Place::new();
    for (i, flags) in LAST_ROW.into_iter().enumerate() {
        let (straight, output) = (place.path(&format!("straight-{i}")), place.path(&format!("run-{i}")));
        program::train(None, 1, &place.data(), &straight, flags);
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker.args(["--exact", "trains_until_the_last_row_fails", "--nocapture"]);
        worker.env(WORK, format!("{flags}\n{}\n{}", place.data().display(), output.display()));
        let outcome = program::succeed(&mut worker);
        let told = format!("{flags}: {outcome:?}");
        assert!(outcome.stdout.contains("history.csv: File too large"), "{told}");
        assert!(output.join("model.h5").exists() && !output.join("summary.json").exists(), "{told}");
        let resumed = program::succeed(program::alone().args(["train", "--resume"]).arg(&output));
        assert!(resumed.stdout.contains("  resumed   from "), "{}", resumed.stdout);
        let read = |folder: &Path| std::fs::read(folder.join("model.h5")).unwrap();
        assert!(read(&straight) == read(&output), "{flags}: the model differs");
        assert_eq!(program::column(&output, "iteration").len(), 600);
    }
}

#[test]
fn a_read_only_file_system() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(place.path("disk"), "6m") else { return };
    let output = disk.path.join("run");
    place.interrupted(&output);
    disk.remount("ro");
    place.fails(&mut place.train(), &output, &["cannot write ", "Read-only file system"]);
    disk.remount("rw");
    place.goes_on(&output);
}

/// Somebody moves the folder away while the run is at it: what is in it goes on from where it is now.
#[test]
fn a_vanished_folder() {
    let place = Place::new();
    let (output, moved) = (place.path("run"), place.path("moved"));
    let mut command = place.train();
    command.arg("--data").arg(place.data()).arg("--output").arg(&output);
    let long = "--stages 4 --neurons 8 --iterations 2000000 --checkpoint-every 50it";
    let mut run = Running::start(command.args(long.split_whitespace()));
    let checkpoint = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.any(|name| name.starts_with("checkpoint-") && !name.contains('.'))
    };
    assert!(run.wait_until(|_| checkpoint(&output)), "no checkpoint came");
    std::fs::rename(&output, &moved).unwrap();
    let ended = run.end(program::LIMIT);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot write the checkpoint"), "{ended:?}");
    assert!(ended.stderr.contains("No such file or directory"), "{ended:?}");
    assert!(!output.exists() && checkpoint(&moved));
    let outcome = program::run(place.train().arg("--resume").arg(&moved).args(["--max-time", "1s"]));
    assert_eq!(outcome.status.unwrap().code(), Some(75), "{outcome:?}");
    assert!(outcome.stdout.contains("  resumed   from "), "{outcome:?}");
}

//! Is a checkpoint that is damaged in any way passed over, with a warning, for the one before, which gives the same model?
//! Is it said so where none is whole, and does a forged one do no harm?
//!
//! `PDADMM_MUTATIONS` is the number of damaged copies that are tried.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "support/program.rs"]
mod program;

const SETTINGS: &str = "--stages 2,4 --neurons 6 --iterations 10 --quantize pq --bits 4";

/// xorshift: the same damage on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A folder with a straight run, and an interrupted one with checkpoints of iterations 12 and 15.
struct Place {
    scratch: tempfile::TempDir,
}

const OLDER: &str = "checkpoint-0000000012";
const NEWER: &str = "checkpoint-0000000015";

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data.h5");
        program::generate(&data, 120, 6, 3, 30);
        let place = Self { scratch };
        program::train(None, 1, &data, &place.path("straight"), SETTINGS);
        place.interrupted(&data);
        assert!(place.path("run").join(OLDER).is_dir() && place.path("run").join(NEWER).is_dir());
        place
    }

    /// Two ranks as threads, stopped in iteration 14; checkpoints every 3 iterations.
    fn interrupted(&self, data: &Path) {
        use clap::{Args, FromArgMatches};
        use pdadmm_g::parallel::ThreadCommunicator;
        use pdadmm_g::settings::RawSettings;
        use pdadmm_g::train::{RunOptions, train};
        let command = RawSettings::augment_args(clap::Command::new("settings"));
        let flags = std::iter::once("settings").chain(SETTINGS.split_whitespace());
        let matches = command.get_matches_from(flags.chain(["--checkpoint-every", "3it"]));
        let mut raw = RawSettings::from_arg_matches(&matches).unwrap();
        (raw.data, raw.output) = (Some(data.to_owned()), Some(self.path("run")));
        let settings = raw.check().unwrap();
        let outcomes = ThreadCommunicator::run(2, |communicator| {
            let options = RunOptions { stop: Box::new(|iteration| iteration >= 14), ..RunOptions::default() };
            train::<f32>(&settings, communicator, options).map(|outcome| outcome.status.exit_code()).unwrap()
        });
        assert_eq!(outcomes, [75, 75]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A fresh copy of the interrupted run.
    fn copy(&self) -> PathBuf {
        let copy = self.path("copy");
        let _ = std::fs::remove_dir_all(&copy);
        let status = Command::new("cp").arg("-r").arg(self.path("run")).arg(&copy).status().unwrap();
        assert!(status.success());
        copy
    }

    /// It goes on to the straight run's model.
    fn goes_on(&self, run: &Path, what: &str) -> String {
        let outcome = program::run(program::alone().args(["train", "--resume"]).arg(run));
        assert!(outcome.success(), "{what}: {outcome:?}");
        for model in ["model.h5", "model-last.h5"] {
            let read = |folder: &Path| std::fs::read(folder.join(model)).unwrap();
            assert!(read(&self.path("straight")) == read(run), "{what}: {model} differs");
        }
        assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome:?}");
        outcome.stderr
    }
}

fn files(checkpoint: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(checkpoint).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_one_before_is_used() {
    let place = Place::new();
    assert_eq!(place.goes_on(&place.copy(), "undamaged"), "");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 9] = [
        ("removed", |file| std::fs::remove_file(file).unwrap()),
        ("a pipe that nobody writes to", |file| {
            std::fs::remove_file(file).unwrap();
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("a link to what has no end", |file| {
            std::fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("/dev/zero", file).unwrap();
        }),
        ("emptied", |file| std::fs::write(file, "").unwrap()),
        ("cut off", |file| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("longer", |file| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, [&bytes[..], b"\n"].concat()).unwrap();
        }),
        ("zeros", |file| {
            let len = std::fs::read(file).unwrap().len();
            std::fs::write(file, vec![0; len]).unwrap();
        }),
        ("a folder", |file| {
            std::fs::remove_file(file).unwrap();
            std::fs::create_dir(file).unwrap();
        }),
        ("of the checkpoint before", |file| {
            let before = file.parent().unwrap().with_file_name(OLDER).join(file.file_name().unwrap());
            std::fs::copy(before, file).unwrap();
        }),
    ];
    let count = files(&place.path("run").join(NEWER)).len();
    assert_eq!(count, 3, "a manifest and a file of each rank");
    for at in 0..count {
        for (name, damage) in damages {
            let run = place.copy();
            let file = &files(&run.join(NEWER))[at];
            damage(file);
            let what = format!("{} {name}", file.display());
            let told = place.goes_on(&run, &what);
            assert!(told.contains("passing over") && told.contains(NEWER), "{what}: {told}");
        }
    }
    // Flipped bits.
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let flips = std::env::var("PDADMM_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    for _ in 0..flips {
        let run = place.copy();
        let file = &files(&run.join(NEWER))[random.below(count)];
        let mut bytes = std::fs::read(file).unwrap();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(file, bytes).unwrap();
        let what = format!("bit of byte {at} of {}", file.display());
        let told = place.goes_on(&run, &what);
        assert!(told.contains("passing over") && told.contains(NEWER), "{what}: {told}");
    }
}

#[test]
fn where_none_is_whole_it_is_said_and_nothing_is_touched() {
    let place = Place::new();
    let run = place.copy();
    for checkpoint in [OLDER, NEWER] {
        std::fs::remove_file(run.join(checkpoint).join("manifest.json")).unwrap();
    }
    let before = program::contents(&run);
    let outcome = program::run(program::alone().args(["train", "--resume"]).arg(&run));
    assert_eq!(outcome.status.unwrap().code(), Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("no checkpoint in") && outcome.stderr.contains("2 tried"), "{outcome:?}");
    let mut after = program::contents(&run);
    // The lock says who held it last.
    after.remove(&run.join(".lock"));
    let kept: Vec<_> = before.iter().filter(|(path, _)| !path.ends_with(".lock")).collect();
    assert!(after.iter().eq(kept), "files have changed");
}

/// Whoever can recompute the checksums can write what they like: it is held to the shapes of the run, and nothing panics.
#[test]
fn forged_ones_do_no_harm() {
    let place = Place::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let forgeries = std::env::var("PDADMM_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut codes = std::collections::BTreeMap::new();
    for _ in 0..forgeries {
        let run = place.copy();
        let checkpoint = run.join(NEWER);
        let rank = random.below(2);
        let part = checkpoint.join(format!("rank-{rank:05}.h5"));
        let mut bytes = std::fs::read(&part).unwrap();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = [0, 0xff, 0x7f, random.below(256) as u8][random.below(4)];
        }
        std::fs::write(&part, &bytes).unwrap();
        let manifest = checkpoint.join("manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let (content, _) = text.rsplit_once("\ncrc32 ").unwrap();
        let mut json: serde_json::Value = serde_json::from_str(content).unwrap();
        json["parts"][rank]["crc32"] = crc32fast::hash(&bytes).into();
        let mut content = serde_json::to_string(&json).unwrap();
        content.push_str(&format!("\ncrc32 {:08x}\n", crc32fast::hash(content.as_bytes())));
        std::fs::write(&manifest, content).unwrap();
        let outcome = program::run(program::alone().args(["train", "--quiet", "--resume"]).arg(&run));
        // A child process has gone through the file before. Weights that are not finite become no model, which is an
        // error of its own.
        let code = outcome.status.unwrap().code();
        assert!(matches!(code, Some(0 | 1 | 3 | 4)) && !outcome.stderr.contains("panicked"), "{outcome:?}");
        *codes.entry(code).or_insert(0) += 1;
    }
    println!("exit codes: {codes:?}");
}

/// A checkpoint with other shapes than the run's settings, data or another run's files.
#[test]
fn other_settings_and_other_data_are_named() {
    let place = Place::new();
    let resume = |run: &Path, flags: &str, code: i32, words: &[&str]| {
        let before = program::contents(run);
        let mut command = program::alone();
        command.args(["train", "--resume"]).arg(run).args(flags.split_whitespace());
        let outcome = program::run(&mut command);
        assert_eq!(outcome.status.unwrap().code(), Some(code), "{flags}: {outcome:?}");
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{flags}: {outcome:?}");
        let after = program::contents(run);
        let differ: Vec<_> = before.iter().filter(|(path, sum)| after.get(*path) != Some(*sum)).collect();
        assert!(differ.iter().all(|(path, _)| path.ends_with(".lock")), "{flags}: {differ:?}");
    };
    let run = place.copy();
    resume(&run, "--seed 5 --mu 0.5", 2, &["has other settings", "--seed (there 0, here 5)", "--mu"]);
    resume(&run, "--iterations 20", 2, &["--iterations (there 10, here 20)"]);
    resume(&run, "--output elsewhere", 2, &["--output"]);
    resume(&run, "--config x.toml", 2, &["cannot be used with"]);
    resume(&run, "--overwrite", 2, &["cannot be used with"]);
    let other = place.path("other.h5");
    program::generate(&other, 120, 6, 3, 31);
    resume(
        &run,
        &format!("--data {}", other.display()),
        3,
        &["was trained on", "give the data set that the run began"],
    );
    // config.toml changed by hand.
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    std::fs::write(run.join("config.toml"), config.replace("neurons = 6", "neurons = 7")).unwrap();
    resume(&run, "", 2, &["was made with other settings", "--neurons (there 6, here 7)"]);
    std::fs::write(run.join("config.toml"), config).unwrap();
    place.goes_on(&run, "after all that");

    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    resume(&empty, "", 2, &["holds no run to go on with"]);
    let nowhere = place.path("nowhere");
    let outcome = program::run(program::alone().args(["train", "--resume"]).arg(&nowhere));
    assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
    assert!(!nowhere.exists());
}

/// What may change, and what a finished run says.
#[test]
fn what_changes_nothing_may_change_and_a_finished_run_stays() {
    let place = Place::new();
    let run = place.copy();
    let moved = place.path("moved.h5");
    std::fs::copy(place.path("data.h5"), &moved).unwrap();
    let flags = "--threads 2 --comm-timeout 60 --checkpoint-every off --max-time 1h --seed 0";
    let mut command = program::alone();
    command.args(["train", "--resume"]).arg(&run).args(flags.split_whitespace()).arg("--data").arg(&moved);
    program::succeed(&mut command);
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("max-time = \"1h\"") && config.contains("threads = 2"), "{config}");
    let before = program::contents(&run);
    let outcome = program::succeed(program::alone().args(["train", "--resume"]).arg(&run));
    assert!(outcome.stdout.contains("nothing to go on with: the run in"), "{outcome:?}");
    assert_eq!(program::contents(&run), before, "a finished run was touched");
}

/// A run from a stranger: names that lead elsewhere, or to what is no file, are neither written through nor waited for.
#[test]
fn links_and_pipes_in_a_run_do_no_harm() {
    let place = Place::new();
    let precious = place.path("precious");
    std::fs::write(&precious, "mine").unwrap();
    let link = |run: &Path, name: &str, to: &Path| {
        let _ = std::fs::remove_file(run.join(name));
        std::os::unix::fs::symlink(to, run.join(name)).unwrap();
    };
    for name in ["model.h5", "model-last.h5", "history.csv", "summary.json"] {
        let run = place.copy();
        link(&run, name, &precious);
        place.goes_on(&run, name);
        assert_eq!(std::fs::read(&precious).unwrap(), b"mine", "{name}");
    }
    for name in [".lock", "history.csv", "summary.json", "config.toml"] {
        for to in [precious.as_path(), Path::new("/dev/zero"), Path::new("a pipe")] {
            let run = place.copy();
            link(&run, name, to);
            if to.is_relative() {
                std::fs::remove_file(run.join(name)).unwrap();
                assert!(Command::new("mkfifo").arg(run.join(name)).status().unwrap().success());
            }
            let outcome = program::run(program::alone().args(["train", "--resume"]).arg(&run));
            let code = outcome.status.and_then(|status| status.code());
            assert!(matches!(code, Some(0..=2)), "{name}, {}: {outcome:?}", to.display());
            assert_eq!(std::fs::read(&precious).unwrap(), b"mine", "{name}");
        }
    }
}

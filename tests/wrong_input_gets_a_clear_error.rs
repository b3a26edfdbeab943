//! Does every kind of wrong input end the program with the right exit code on all ranks and a sentence that says what
//! is wrong, where and what to do, without a hang and with every file as it was?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hdf5::File;

#[path = "support/program.rs"]
mod program;
#[path = "support/tiny_imports.rs"]
mod tiny_imports;

use program::Launcher;

const USAGE: i32 = 2;
const DATA: i32 = 3;
/// A refusal takes a second; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Settings of a run that takes no time.
const SHORT: &str = "--neurons 8 --iterations 2";

/// A folder with a good data set in it.
struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: tempfile::tempdir().unwrap() };
        program::generate(&place.path("good.h5"), 60, 5, 3, 12);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A copy of the good data set, spoilt by `change`.
    fn spoilt(&self, name: &str, change: impl FnOnce(&File)) -> PathBuf {
        let path = self.path(name);
        std::fs::copy(self.path("good.h5"), &path).unwrap();
        let file = File::open_rw(&path).unwrap();
        change(&file);
        file.close().unwrap();
        path
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Runs a command in the folder; it must end with this code, say all these words, and leave every file as it was.
    fn refused(&self, command: &mut Command, code: i32, words: &[&str]) {
        let before = program::contents(self.scratch.path());
        let outcome = program::run_within(command.current_dir(self.scratch.path()), LIMIT).unwrap();
        let what = format!("{command:?}\n{}\n{}", outcome.stdout, outcome.stderr);
        let status = outcome.status.unwrap_or_else(|| panic!("it hangs: {what}"));
        assert_eq!(status.code(), Some(code), "{what}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word:?} is not in the message: {what}");
        }
        assert!(!outcome.stderr.contains("panicked"), "{what}");
        // mpirun adds words of its own to those of the program; those of the program come once.
        let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(errors >= 1, "no line says error: {what}");
        println!("{}", outcome.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default());
        let after = program::contents(self.scratch.path());
        assert_eq!(before, after, "files have changed: {what}");
    }

    /// `train` with these flags is refused by one process.
    fn train_refused(&self, flags: &str, code: i32, words: &[&str]) {
        self.refused(program::alone().arg("train").args(flags.split_whitespace()), code, words);
    }

    /// The same also by three ranks.
    fn train_refused_on_ranks(&self, launcher: Option<&Launcher>, flags: &str, code: i32, words: &[&str]) {
        self.train_refused(flags, code, words);
        if let Some(launcher) = launcher {
            let mut command = program::on_ranks(Some(launcher), 3);
            self.refused(command.arg("train").args(flags.split_whitespace()), code, words);
        }
    }

    /// Training and checking with this data set are refused, with and without an earlier run in the output folder.
    fn data_refused(&self, launcher: Option<&Launcher>, data: &Path, words: &[&str]) {
        let name = data.file_name().unwrap().to_str().unwrap();
        let words: Vec<&str> = words.iter().copied().chain([name]).collect();
        self.train_refused_on_ranks(launcher, &format!("--data {name} --output new {SHORT}"), DATA, &words);
        if !self.path("old").exists() {
            program::train(None, 1, &self.path("good.h5"), &self.path("old"), SHORT);
        }
        self.train_refused(&format!("--data {name} --output old --overwrite {SHORT}"), DATA, &words);
    }
}

fn replace<T: hdf5::H5Type>(file: &File, path: &str, values: &[T]) {
    file.unlink(path).unwrap();
    file.new_dataset_builder().with_data(values).create(path).unwrap();
}

fn numbers(file: &File, path: &str) -> Vec<i64> {
    file.dataset(path).unwrap().read_raw().unwrap()
}

/// Changes a data set of whole numbers.
fn alter(file: &File, path: &str, change: impl FnOnce(&mut Vec<i64>)) {
    let mut values = numbers(file, path);
    change(&mut values);
    replace(file, path, &values);
}

#[test]
fn files_that_are_no_data_set() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    place.data_refused(ranks, &place.path("missing.h5"), &["cannot open", "No such file"]);
    let text = place.write("text.h5", "node,label\n1,0\n");
    place.data_refused(ranks, &text, &["expected an HDF5 file"]);
    place.data_refused(None, &place.write("empty.h5", ""), &["expected an HDF5 file"]);
    let whole = std::fs::read(place.path("good.h5")).unwrap();
    for (name, length) in [("half.h5", whole.len() / 2), ("head.h5", 64)] {
        place.data_refused(ranks, &place.write(name, &whole[..length]), &[]);
    }
    std::fs::create_dir(place.path("folder.h5")).unwrap();
    place.data_refused(None, &place.path("folder.h5"), &["folder"]);
    let model = place.path("old/model.h5");
    std::fs::copy(model, place.path("model.h5")).unwrap();
    place.data_refused(None, &place.path("model.h5"), &["expected", "gamlp-graph", "gamlp-model"]);
}

#[test]
fn parts_that_are_missing_or_of_another_type_or_shape() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    let cut = place.spoilt("no-labels.h5", |f| f.unlink("labels").unwrap());
    place.data_refused(ranks, &cut, &["/labels"]);
    let cut = place.spoilt("no-indptr.h5", |f| f.unlink("adjacency/indptr").unwrap());
    place.data_refused(ranks, &cut, &["/adjacency", "indptr"]);
    let cut = place.spoilt("no-splits.h5", |f| f.unlink("splits").unwrap());
    place.data_refused(None, &cut, &["splits"]);
    let other = place.spoilt("float-labels.h5", |f| replace(f, "labels", &[0.5f64; 60]));
    place.data_refused(ranks, &other, &["/labels", "expected"]);
    let other = place.spoilt("text-indices.h5", |f| {
        let word = hdf5::types::FixedAscii::<4>::from_ascii(b"abcd").unwrap();
        replace(f, "adjacency/indices", &vec![word; numbers(f, "adjacency/indices").len()]);
    });
    place.data_refused(None, &other, &["/adjacency/indices"]);
    let short = place.spoilt("short-labels.h5", |f| replace(f, "labels", &[0i64; 59]));
    place.data_refused(ranks, &short, &["/labels", "60", "59"]);
    let short = place.spoilt("short-features.h5", |f| {
        f.unlink("features").unwrap();
        f.new_dataset::<f32>().shape((59, 5)).create("features").unwrap().write_raw(&[1f32; 295]).unwrap();
    });
    place.data_refused(ranks, &short, &["/features", "60", "59"]);
}

#[test]
fn rows_and_numbers_that_cannot_be() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    let falls = place.spoilt("falls.h5", |f| {
        alter(f, "adjacency/indptr", |indptr| indptr[7] = indptr[9] + 1);
    });
    place.data_refused(ranks, &falls, &["/adjacency/indptr"]);
    let overruns = place.spoilt("overruns.h5", |f| {
        alter(f, "adjacency/indptr", |indptr| *indptr.last_mut().unwrap() += 5);
    });
    place.data_refused(None, &overruns, &["/adjacency/indptr"]);
    let outside = place.spoilt("outside.h5", |f| {
        alter(f, "adjacency/indices", |indices| *indices.last_mut().unwrap() = 60);
    });
    place.data_refused(ranks, &outside, &["/adjacency/indices", "60"]);
    let negative = place.spoilt("negative.h5", |f| alter(f, "adjacency/indices", |indices| indices[0] = -1));
    place.data_refused(None, &negative, &["/adjacency/indices", "-1"]);
    for (name, label) in [("label-3.h5", 3), ("label-minus-2.h5", -2)] {
        let label_outside = place.spoilt(name, |f| alter(f, "labels", |labels| labels[11] = label));
        place.data_refused(ranks, &label_outside, &["/labels[11]", &label.to_string()]);
    }
    for (name, value) in [("nan.h5", f32::NAN), ("infinite.h5", f32::NEG_INFINITY)] {
        let broken = place.spoilt(name, |f| {
            let features = f.dataset("features").unwrap();
            let mut values: Vec<f32> = features.read_raw().unwrap();
            values[17] = value;
            features.write_raw(&values).unwrap();
        });
        // Only the rank of layer 1 reads features.
        place.data_refused(ranks, &broken, &["/features", "finite"]);
    }
}

#[test]
fn splits_that_cannot_be() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    let train = numbers(&File::open(place.path("good.h5")).unwrap(), "splits/random/train");
    let overlap = place.spoilt("overlap.h5", |f| alter(f, "splits/random/val", |val| val[0] = train[0]));
    place.data_refused(ranks, &overlap, &["/splits/random"]);
    for part in ["train", "val", "test"] {
        let empty = place.spoilt(&format!("empty-{part}.h5"), |f| {
            f.unlink(&format!("splits/random/{part}")).unwrap();
            let part = format!("splits/random/{part}");
            f.new_dataset::<i64>().shape(0).create(part.as_str()).unwrap();
        });
        place.data_refused(ranks, &empty, &[&format!("/splits/random/{part}")]);
    }
    let outside = place.spoilt("outside.h5", |f| alter(f, "splits/random/test", |test| test[0] = 60));
    place.data_refused(ranks, &outside, &["/splits/random/test", "60"]);
    let negative = place.spoilt("negative.h5", |f| alter(f, "splits/random/train", |train| train[0] = -1));
    place.data_refused(None, &negative, &["/splits/random/train", "-1"]);
    let twice = place.spoilt("twice.h5", |f| alter(f, "splits/random/train", |train| train[0] = train[1]));
    place.data_refused(None, &twice, &["/splits/random/train"]);
    let flags = format!("--data good.h5 --output new --split public {SHORT}");
    place.train_refused_on_ranks(ranks, &flags, USAGE, &["public", "random", "--split"]);
}

/// Not an error: the run succeeds, and says so also where it prints little.
#[test]
fn a_class_without_training_nodes_is_a_warning() {
    let place = Place::new();
    let odd = place.spoilt("odd.h5", |f| {
        let labels = numbers(f, "labels");
        alter(f, "splits/random/train", |train| train.retain(|&node| labels[node as usize] != 2));
    });
    let printed = program::train(None, 1, &odd, &place.path("loud"), SHORT).stdout;
    assert!(printed.contains("warning") && printed.contains("no training node has class 2"), "{printed}");
    for flag in ["--quiet", "--json"] {
        let outcome = program::train(None, 1, &odd, &place.path(flag), &format!("{SHORT} {flag}"));
        let warned = outcome.stderr.contains("no training node has class 2");
        assert!(warned, "no warning with {flag}: {}", outcome.stderr);
    }
}

#[test]
fn flags_that_are_unknown_contradict_each_other_or_are_out_of_range() {
    let (place, launcher) = (Place::new(), program::launcher());
    for (flags, words) in [
        ("--no-such-flag", &["--no-such-flag"][..]),
        ("--neurons many", &["--neurons", "many"]),
        ("--layers 1", &["--layers 1", "from 2"]),
        ("--neurons 0", &["--neurons 0"]),
        ("--iterations 0", &["--iterations 0"]),
        ("--evaluate-every 0", &["--evaluate-every 0"]),
        ("--threads 0", &["--threads 0"]),
        ("--block-nodes 0", &["--block-nodes 0"]),
        ("--nu nan", &["--nu NaN", "a number from"]),
        ("--rho nan", &["--rho NaN", "a number from"]),
        ("--mu nan", &["--mu NaN", "a number from"]),
        ("--mu inf", &["--mu inf", "a number from"]),
        ("--mu -1", &["--mu -1", "a number from"]),
        ("--nu-max -1", &["--nu-max -1", "a number from"]),
        ("--mu --nu 1", &["--mu", "a value is required"]),
        ("--seed -1", &["--seed", "-1"]),
        ("--tolerance -1,1", &["--tolerance -1"]),
        ("--tie-operators -0.1", &["--tie-operators -0.1", "from 0 to 1"]),
        ("--follow-covariance -1", &["--follow-covariance -1", "from 0 to 1e6"]),
        ("--nu-max nan", &["--nu-max NaN"]),
        ("--penalty-growth nan", &["--penalty-growth NaN"]),
        ("--proximal nan", &["--proximal NaN"]),
        ("--dropout nan", &["--dropout NaN"]),
        ("--dropout 1", &["--dropout 1", "0.99"]),
        ("--class-weights nan", &["--class-weights NaN", "0 to 2"]),
        ("--class-weights 3", &["--class-weights 3", "0 to 2"]),
        ("--tolerance nan,1", &["--tolerance NaN"]),
        ("--tolerance 0.1,0.1,0.1", &["--tolerance", "PRIMAL,DUAL"]),
        ("--rho 0", &["--rho 0"]),
        ("--stages 5,2,10", &["--stages 5,2,10", "rise"]),
        ("--stages 1,10", &["--stages 1,10", "at least 2"]),
        ("--stages 2,5 --layers 10", &["--stages 2,5", "--layers 10", "equal", "file of --config"]),
        ("--quantize pq --bits 8 --levels 0:1:0.5", &["--bits and --levels", "give one"]),
        ("--bits 8", &["--bits", "needs --quantize"]),
        ("--quantize none --levels -1:20:1", &["--levels needs --quantize"]),
        ("--quantize p --bits 17", &["--bits 17", "1 to 16"]),
        ("--quantize p --levels 0:1", &["--levels 0:1", "LO:HI:STEP"]),
        ("--quantize p --levels nan:1:1", &["--levels nan:1:1"]),
        ("--quantize p --levels 0:1:0.3", &["--levels 0:1:0.3", "choose an end"]),
        ("--nu 2 --nu-max 1", &["--nu 2", "--nu-max 1"]),
        ("--penalties fixed --nu-max 1", &["--nu-max", "--penalties adaptive"]),
        ("--proximal 0 --subproblem exact", &["--proximal 0", "--subproblem gradient"]),
        ("--quiet --json", &["--quiet", "--json"]),
        ("--operators 0,x", &["--operators", "'x'", "neither a power of the adjacency nor a known name"]),
        ("--operators AUTO", &["--operators", "auto, alone"]),
        ("--operators ppr:0.1", &["'ppr:0.1'", "two numbers"]),
        ("--optimizer sgd", &["--optimizer", "sgd", "adam"]),
        ("--optimizer adam --learning-rate 0", &["--learning-rate 0", "from 1e-12"]),
        ("--optimizer adam --learning-rate -1", &["--learning-rate -1", "from 1e-12"]),
        ("--optimizer adam --learning-rate nan", &["--learning-rate NaN"]),
        ("--optimizer adam --weight-decay nan", &["--weight-decay NaN"]),
        ("--learning-rate 0.1", &["--learning-rate", "--optimizer admm", "adam"]),
        ("--optimizer admm --weight-decay 0", &["--weight-decay", "--optimizer admm"]),
        ("--optimizer adam --nu 1", &["--nu", "--optimizer adam", "leave it out"]),
        ("--optimizer gd --quantize pq", &["--quantize", "--optimizer gd"]),
        ("--optimizer adagrad --stages 2,5", &["--stages", "--optimizer adagrad"]),
        ("--optimizer adadelta --wire f16", &["--wire", "--optimizer adadelta"]),
        ("--runs 0", &["--runs 0", "from 1"]),
        ("--runs 1001", &["--runs 1001", "1000"]),
        ("--runs 2 --seed 18446744073709551615", &["--seed 18446744073709551615", "2 runs"]),
        ("--optimizer adam --measure-ranks", &["--measure-ranks", "--optimizer admm"]),
        ("--patience 0", &["--patience 0", "from 1"]),
    ] {
        place.train_refused(&format!("--data good.h5 --output new {flags}"), USAGE, words);
    }
    place.train_refused("--output new", USAGE, &["--data is required"]);
    place.train_refused("--data good.h5", USAGE, &["--output is required"]);
    let ranks = launcher.as_ref();
    for flags in
        ["--no-such-flag", "--nu nan", "--optimizer adam --nu 1", "--quantize p --bits 8 --levels 0:1:0.5"]
    {
        place.train_refused_on_ranks(ranks, &format!("--data good.h5 --output new {flags}"), USAGE, &[]);
    }
}

#[test]
fn settings_files_that_cannot_be_used() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    let given = "--data good.h5 --output new --config settings.toml";
    place.train_refused_on_ranks(ranks, given, USAGE, &["settings.toml", "cannot read"]);
    for (text, words) in [
        ("neurons = 8\nneuronz = 9\n", &["settings.toml", "neuronz", "line 2"][..]),
        ("neurons = \"many\"\n", &["settings.toml", "neurons", "many"]),
        ("mu = nan\n", &["--mu NaN"]),
        ("tolerance = \"low\"\n", &["settings.toml", "tolerance", "a number, or a list of two"]),
        ("tolerance = 2\n", &["--tolerance 2"]),
        ("neurons = 8 8\n", &["settings.toml", "line 1"]),
        ("bits = 8\nlevels = \"0:1:0.5\"\nquantize = \"p\"\n", &["--bits and --levels"]),
        ("quantize = \"everything\"\n", &["settings.toml", "everything"]),
        ("\u{0}\u{1}", &["settings.toml"]),
    ] {
        place.write("settings.toml", text);
        place.train_refused(given, USAGE, words);
    }
    place.write("settings.toml", "neuronz = 9\n");
    place.train_refused_on_ranks(ranks, given, USAGE, &["neuronz"]);
    // Without the mistake, the same file works, and what a run wrote can be used again.
    place.write("settings.toml", "neurons = 8\niterations = 2\nlayers = 3\ntolerance = 1e-6\n");
    let given = format!("--config {}", place.path("settings.toml").display());
    program::train(None, 1, &place.path("good.h5"), &place.path("first"), &given);
    let config = place.path("first/config.toml");
    let again = format!("--config {}", config.display());
    program::train(None, 1, &place.path("good.h5"), &place.path("second"), &again);
    let of = |folder| program::weights(&place.path(folder).join("model.h5"));
    assert!(of("first") == of("second"));
}

#[test]
fn more_ranks_than_layers() {
    let Some(launcher) = program::launcher() else { return };
    let place = Place::new();
    let mut command = program::on_ranks(Some(&launcher), 3);
    command.args(["train", "--data", "good.h5", "--output", "new", "--layers", "2"]);
    place.refused(&mut command, USAGE, &["3 ranks", "2 layers", "mpirun -n 2", "--layers 3"]);
}

#[test]
fn outputs_that_are_taken_or_cannot_be_written() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    program::train(None, 1, &place.path("good.h5"), &place.path("run"), SHORT);
    let flags = format!("--data good.h5 --output run {SHORT} --seed 1");
    place.train_refused_on_ranks(ranks, &flags, USAGE, &["run already holds a run", "--overwrite"]);
    // Also what is left of one.
    std::fs::create_dir(place.path("rest")).unwrap();
    std::fs::copy(place.path("run/model.h5"), place.path("rest/model.h5")).unwrap();
    place.train_refused(&flags.replace("run", "rest"), USAGE, &["rest already holds a run", "--overwrite"]);
    place.write("file", "mine");
    let into_file = format!("--data good.h5 --output file {SHORT}");
    place.train_refused_on_ranks(ranks, &into_file, USAGE, &["file", "not a folder"]);
    place.train_refused(&format!("{into_file} --overwrite"), USAGE, &["file", "not a folder"]);
    // Nobody can make a folder there, not even root.
    let nowhere = format!("--data good.h5 --output /proc/pdadmm-g {SHORT}");
    place.train_refused_on_ranks(ranks, &nowhere, 1, &["cannot write /proc/pdadmm-g"]);
    let below_file = format!("--data good.h5 --output good.h5/run {SHORT}");
    for flag in ["--comm-timeout", "--max-time", "--checkpoint-every"] {
        let negative = format!("--data good.h5 --output new {flag} -1 {SHORT}");
        place.train_refused(&negative, USAGE, &[flag, "\"-1\": expected a time", "3650d"]);
    }
    place.train_refused(&below_file, USAGE, &["good.h5/run", "folders alone above the output"]);

    // With --overwrite the run is replaced, and files that are no run's stay.
    std::fs::write(place.path("run/notes.txt"), "mine").unwrap();
    let before = program::weights(&place.path("run/model.h5"));
    let settings = format!("{SHORT} --seed 1 --overwrite");
    program::train(None, 1, &place.path("good.h5"), &place.path("run"), &settings);
    assert!(program::weights(&place.path("run/model.h5")) != before);
    assert_eq!(std::fs::read_to_string(place.path("run/notes.txt")).unwrap(), "mine");
    let names = std::fs::read_dir(place.path("run")).unwrap().count();
    assert_eq!(names, 8, "six files of the run, its lock and the notes");
}

#[test]
fn truncated_planetoid_files() {
    let place = Place::new();
    std::fs::create_dir(place.path("raw")).unwrap();
    let good = tiny_imports::tiny_planetoid();
    tiny_imports::write_planetoid(&place.path("raw"), &good);
    let import = || {
        let mut command = program::alone();
        command.args("dataset import --format planetoid --name tiny --input raw --output".split(' '));
        command
    };
    program::succeed(import().arg("tiny.h5").current_dir(place.scratch.path()));
    place.refused(import().arg("tiny.h5"), USAGE, &["tiny.h5", "exists", "--overwrite"]);
    for (part, bytes) in good.iter().filter(|(part, _)| *part != "test.index") {
        let name = format!("ind.tiny.{part}");
        place.write(&format!("raw/{name}"), &bytes[..bytes.len() / 2]);
        place.refused(import().arg("new.h5"), DATA, &[&name]);
        place.refused(import().args(["tiny.h5", "--overwrite"]), DATA, &[&name]);
        place.write(&format!("raw/{name}"), bytes);
    }
    std::fs::remove_file(place.path("raw/ind.tiny.graph")).unwrap();
    place.refused(import().arg("new.h5"), DATA, &["ind.tiny.graph", "No such file"]);
}

#[test]
fn truncated_npz_files() {
    let place = Place::new();
    let whole = tiny_imports::archive(&tiny_imports::tiny_members(), true);
    let import = |output: &str| {
        let mut command = program::alone();
        command.args("dataset import --format npz --input tiny.npz --output".split(' ')).arg(output);
        command
    };
    place.write("tiny.npz", &whole);
    program::succeed(import("tiny.h5").current_dir(place.scratch.path()));
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        place.write("tiny.npz", &whole[..length]);
        place.refused(&mut import("new.h5"), DATA, &["tiny.npz"]);
        place.refused(import("tiny.h5").arg("--overwrite"), DATA, &["tiny.npz"]);
    }
}

#[test]
fn other_commands_refuse_as_well() {
    let place = Place::new();
    place.write("text.h5", "node,label\n");
    let commands: [(&str, i32, &[&str]); 9] = [
        ("dataset check missing.h5", DATA, &["missing.h5", "cannot open"]),
        ("dataset check text.h5", DATA, &["text.h5", "expected an HDF5 file"]),
        ("dataset check", USAGE, &["FILE.h5"]),
        ("dataset generate --nodes 60 --features 5 --classes 3 --output good.h5", USAGE, &["--overwrite"]),
        ("dataset generate --nodes 2 --features 5 --classes 3 --output new.h5", USAGE, &["nodes"]),
        (
            "dataset generate --nodes 60 --features 5 --classes 3 --homophily nan --output new.h5",
            USAGE,
            &["homophily"],
        ),
        ("dataset generate --nodes -5 --features 5 --classes 3 --output new.h5", USAGE, &["'-5'", "--nodes"]),
        ("plan --data good.h5 --ranks -1", USAGE, &["'-1'", "--ranks"]),
        ("dataset import --format planetoid --input . --output new.h5", USAGE, &["--name"]),
    ];
    for (command, code, words) in commands {
        place.refused(program::alone().args(command.split(' ')), code, words);
    }
}

/// One meaning, one code: every command ends with 1 where the system does not let it write, and with 2 where another name
/// would do.
#[test]
fn outputs_end_every_command_alike() {
    let (place, launcher) = (Place::new(), program::launcher());
    let ranks = launcher.as_ref();
    program::train(None, 1, &place.path("good.h5"), &place.path("run"), SHORT);
    let train = format!("train --data good.h5 {SHORT} --output");
    // Nobody can make anything in /proc, not even root.
    for (command, output) in [
        ("dataset generate --nodes 60 --features 5 --classes 3 --output", "/proc/new.h5"),
        ("dataset augment --data good.h5 --output", "/proc/new.h5"),
        ("predict --model run/model.h5 --data good.h5 --output", "/proc/new.h5"),
        ("report run --output", "/proc/new.html"),
        ("man --output", "/proc/pdadmm-g"),
        (&train, "/proc/pdadmm-g"),
        ("traffic --data good.h5 --layers 2 --iterations 2 --ways none --output", "/proc/pdadmm-g"),
        ("scaling --data good.h5 --layers 2 --iterations 3 --launcher {ranks} --output", "/proc/pdadmm-g"),
    ] {
        let words = command.split_whitespace().chain([output]);
        place.refused(program::alone().args(words), 1, &["/proc"]);
    }
    for command in [
        "dataset generate --nodes 60 --features 5 --classes 3",
        "dataset augment --data good.h5",
        "predict --model run/model.h5 --data good.h5",
    ] {
        let words = command.split_whitespace().chain(["--output", "run"]);
        place.refused(program::alone().args(words), USAGE, &["run", "found a folder"]);
    }
    // All commands make missing folders, and say the same where a file is in the way.
    for (command, name) in [
        ("dataset generate --nodes 60 --features 5 --classes 3 --output", "new.h5"),
        ("dataset augment --data good.h5 --output", "new.h5"),
        ("predict --model run/model.h5 --data good.h5 --output", "new.h5"),
        ("report run --output", "new.html"),
        (&train, "new"),
    ] {
        for above in ["good.h5", "good.h5/deeper"] {
            let output = format!("{above}/{name}");
            let words = command.split_whitespace().chain([output.as_str()]);
            let expected = format!(
                "{output}: --output: expected folders alone above the output, found the file good.h5"
            );
            place.refused(program::alone().args(words), USAGE, &[expected.as_str()]);
        }
        let folder: String = command.chars().filter(|c| c.is_ascii_lowercase()).collect();
        let output = format!("made/{folder}/{name}");
        let mut command: Vec<&str> = command.split_whitespace().collect();
        command.push(&output);
        program::succeed(program::alone().current_dir(place.path("")).args(command));
        assert!(place.path(&output).exists());
    }
    // A folder in which nobody can write, not even root, is found before any work, not when the result is there.
    for command in [
        "dataset generate --nodes 60 --features 5 --classes 3 --output /proc/new.h5",
        "predict --model run/model.h5 --data good.h5 --output /proc/new.h5",
    ] {
        let words = command.split_whitespace();
        place.refused(program::alone().args(words), 1, &["/proc: cannot create a file in the folder"]);
    }
    if let Some(ranks) = ranks {
        let augment = "dataset augment --data good.h5 --output /proc/new.h5".split(' ');
        place.refused(program::on_ranks(Some(ranks), 2).args(augment), 1, &["rank 0: /proc"]);
    }
}

#[test]
fn models_that_cannot_be_used() {
    let (place, launcher) = (Place::new(), program::launcher());
    program::train(None, 1, &place.path("good.h5"), &place.path("run"), SHORT);
    program::generate(&place.path("wider.h5"), 60, 6, 3, 12);
    program::generate(&place.path("finer.h5"), 60, 5, 4, 12);
    let model = std::fs::read(place.path("run/model.h5")).unwrap();
    place.write("half.h5", &model[..model.len() / 2]);
    place.write("taken.h5", "mine");
    let cases: [(&str, i32, &[&str]); 9] = [
        ("run/model.h5 wider.h5 new.h5", DATA, &["does not fit", "5 features", "6"]),
        ("run/model.h5 finer.h5 new.h5", DATA, &["does not fit", "3 classes", "4"]),
        ("missing.h5 good.h5 new.h5", DATA, &["missing.h5", "cannot open"]),
        ("half.h5 good.h5 new.h5", DATA, &["half.h5"]),
        ("good.h5 good.h5 new.h5", DATA, &["good.h5", "gamlp-model", "model.h5"]),
        ("run/model.h5 missing.h5 new.h5", DATA, &["missing.h5", "cannot open"]),
        ("run/model.h5 good.h5 taken.h5", USAGE, &["taken.h5", "--overwrite"]),
        ("run/model.h5 good.h5 good.h5 --overwrite", USAGE, &["good.h5", "replace"]),
        ("run/model.h5 good.h5 good.h5/folder.h5", USAGE, &["folders alone above"]),
    ];
    for (arguments, code, words) in cases {
        let mut parts = arguments.split(' ');
        let mut next = || parts.next().unwrap();
        let mut flags = vec!["predict", "--model", next(), "--data", next(), "--output", next()];
        flags.extend(parts);
        place.refused(program::alone().args(&flags), code, words);
        if launcher.is_some() {
            place.refused(program::on_ranks(launcher.as_ref(), 3).args(&flags), code, words);
        }
    }
}

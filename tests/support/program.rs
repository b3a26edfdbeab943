//! Runs the program as a user would, alone or under mpirun, and reads what it leaves. Test files include it with
//! `#[path]`.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ndarray::{Array1, Array2};

#[path = "mpi_launch.rs"]
mod mpi_launch;

#[allow(unused_imports)]
pub use mpi_launch::Flavour;
pub use mpi_launch::{Launcher, Outcome, run_within};

/// Long enough for any run of the tests on a slow machine; what takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(300);

/// The program's path.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_pdadmm-g")
}

/// The launcher, or none after saying in one line that the test is skipped.
pub fn launcher() -> Option<Launcher> {
    #[cfg(feature = "mpi")]
    {
        let library = pdadmm_g::parallel::mpi_library();
        let launcher = Launcher::find(&library);
        if launcher.is_none() {
            println!("skipped: no mpirun for {library}");
        }
        launcher
    }
    #[cfg(not(feature = "mpi"))]
    {
        println!("skipped: this build has no MPI");
        None
    }
}

/// The folder of real data sets, or none after saying in one line that the test is skipped.
pub fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("PDADMM_DATASETS").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: PDADMM_DATASETS is not set");
    }
    folder
}

/// The program without mpirun.
pub fn alone() -> Command {
    let mut command = Command::new(binary());
    command.stdin(std::process::Stdio::null());
    without_locks(command)
}

/// A file that this process has just written may still be locked: programs that other threads of it have started
/// meanwhile inherit its handle.
fn without_locks(mut command: Command) -> Command {
    command.env("HDF5_USE_FILE_LOCKING", "FALSE");
    command
}

/// The program on `ranks` ranks; without mpirun where `launcher` is none.
pub fn on_ranks(launcher: Option<&Launcher>, ranks: usize) -> Command {
    match launcher {
        Some(launcher) => without_locks(launcher.command(ranks, binary())),
        None => alone(),
    }
}

/// Runs a command within [`LIMIT`].
pub fn run(command: &mut Command) -> Outcome {
    run_within(command, LIMIT).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Outcome {
    let outcome = run(command);
    let Outcome { status, stdout, stderr, seconds } = &outcome;
    assert!(outcome.success(), "{command:?}: {status:?} after {seconds:.1} s\n{stdout}\n{stderr}");
    outcome
}

/// `dataset generate`.
pub fn generate(path: &Path, nodes: usize, features: usize, classes: usize, train_nodes: usize) {
    let numbers = [nodes, features, classes, train_nodes].map(|number| number.to_string());
    let [nodes, features, classes, train] = &numbers;
    succeed(
        alone()
            .args(["dataset", "generate", "--nodes", nodes, "--features", features, "--classes", classes])
            .args(["--train-nodes", train, "--seed", "3", "--output"])
            .arg(path),
    );
}

/// `dataset import` of one of the four real sets.
pub fn import(datasets: &Path, name: &str, output: &Path) {
    let raw = datasets.join("raw");
    let (format, input) = match name {
        "cora" | "pubmed" => ("planetoid", raw.join("planetoid")),
        "amazon-computers" => ("npz", raw.join("npz/amazon_electronics_computers.npz")),
        _ => ("npz", raw.join("npz/ms_academic_phy.npz")),
    };
    succeed(
        alone()
            .args(["dataset", "import", "--format", format, "--name", name, "--input"])
            .arg(input)
            .arg("--output")
            .arg(output),
    );
}

/// `train` on `ranks` ranks; `settings` are flags separated by spaces.
pub fn train(
    launcher: Option<&Launcher>,
    ranks: usize,
    data: &Path,
    output: &Path,
    settings: &str,
) -> Outcome {
    let mut command = on_ranks(launcher, ranks);
    command.arg("train").arg("--data").arg(data).arg("--output").arg(output);
    succeed(command.args(settings.split_whitespace()))
}

/// summary.json of a run.
pub fn summary(folder: &Path) -> serde_json::Value {
    let path = folder.join("summary.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// history.csv of a run: its columns by name.
pub fn history(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let path = folder.join("history.csv");
    let mut reader =
        csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names: Vec<String> = reader.headers().map(|row| row.iter().map(str::to_owned).collect()).unwrap();
    let mut columns = vec![Vec::new(); names.len()];
    for row in reader.records() {
        let row = row.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        columns.iter_mut().zip(&row).for_each(|(column, entry)| column.push(entry.to_owned()));
    }
    names.into_iter().zip(columns).collect()
}

/// A column of history.csv as numbers.
pub fn column(folder: &Path, name: &str) -> Vec<f64> {
    let history = history(folder);
    let column = history.get(name).unwrap_or_else(|| panic!("history.csv has no column {name}"));
    column.iter().map(|entry| entry.parse().unwrap()).collect()
}

/// The bits of W and b of every layer, in f64, which holds every f32.
pub fn weights(path: &Path) -> Vec<(Vec<u64>, Vec<u64>)> {
    let file = hdf5::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let layers = file.group("layers").unwrap();
    let count = layers.member_names().unwrap().len();
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    (1..=count)
        .map(|l| {
            let layer = layers.group(&l.to_string()).unwrap();
            let w: Array2<f64> = layer.dataset("W").unwrap().read().unwrap();
            let b: Array1<f64> = layer.dataset("b").unwrap().read().unwrap();
            (bits(w.into_iter().collect()), bits(b.to_vec()))
        })
        .collect()
}

/// Every file below a folder with the checksum of its content, folders with an empty one.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), String::new());
                waiting.push(path);
            } else {
                found.insert(path.clone(), pdadmm_g::dataset::checksum(&path).unwrap());
            }
        }
    }
    found
}

/// The program behind a shell script that is run first on each rank, with the rank in `$rank`.
pub fn behind(launcher: &Launcher, ranks: usize, script: &str) -> Command {
    let mut command = launcher.command(ranks, OsStr::new("sh"));
    let script = format!("rank=${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}; {script}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(binary());
    without_locks(command)
}

/// Columns of history.csv that may differ between numbers of ranks.
const OF_THE_RANKS: [&str; 5] = ["bytes_p", "bytes_q", "bytes_baseline", "messages", "seconds"];
/// Holds a run to another one of the same settings.
pub fn hold_alike(serial: &Path, parallel: &Path, what: &str) {
    for model in ["model.h5", "model-last.h5"] {
        let (expected, found) = (weights(&serial.join(model)), weights(&parallel.join(model)));
        assert_eq!(expected.len(), found.len(), "{what}: layers of {model}");
        for (l, (expected, found)) in (1..).zip(expected.iter().zip(&found)) {
            assert!(expected.0 == found.0, "{what}: W of layer {l} of {model} differs");
            assert!(expected.1 == found.1, "{what}: b of layer {l} of {model} differs");
        }
    }
    let (expected, found) = (history(serial), history(parallel));
    assert!(expected.keys().eq(found.keys()), "{what}: columns of history.csv");
    for (name, expected) in expected.iter().filter(|(name, _)| !OF_THE_RANKS.contains(&name.as_str())) {
        assert_eq!(expected, &found[name], "{what}: column {name} of history.csv");
    }
}

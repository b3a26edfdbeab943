//! Is a model file with mutated bytes loaded or refused, and nothing else?
//!
//! A process of its own: children inherit the files, and locks, that libhdf5 has open in other threads.

#![allow(clippy::unwrap_used)]

use ndarray::{Array1, Array2};
use pdadmm_g::graph::{FeatureNorm, Operators};
use pdadmm_g::model::{Model, ModelLayer, Provenance};

/// Two operators, two features, layers of 5 and 3.
fn small() -> Model<f32> {
    let layer = |rows, columns| ModelLayer {
        w: Array2::from_elem((rows, columns), 0.5),
        b: Array1::from_elem(rows, -0.25),
    };
    let provenance = Provenance {
        dataset: "ring".into(),
        checksum: "1c291ca3-15360".into(),
        split: "random_0".into(),
        val_accuracy: Some(0.75),
        version: "0.1.0".into(),
        ..Provenance::default()
    };
    let operators: Operators = "0,ppr:0.1:4".parse().unwrap();
    Model::new(operators, FeatureNorm::Row, 2, 3, vec![layer(5, 4), layer(3, 5)], provenance).unwrap()
}

/// Names the file that a child process of this test is to read.
const MUTATED: &str = "PDADMM_TEST_MUTATED_MODEL";

/// What a child process made of a file; libhdf5 itself may crash on damaged files, so that this process must not read
/// them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Loaded,
    Refused,
    Panicked,
    CrashedInTheLibrary,
    Hung,
}

fn read_in_a_child(path: &std::path::Path) -> Outcome {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reads_the_mutated_model", "--nocapture"])
        .env(MUTATED, path)
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match child.try_wait().unwrap().map(|status| status.code()) {
            Some(Some(0)) => return Outcome::Loaded,
            Some(Some(3)) => return Outcome::Refused,
            Some(Some(_)) => return Outcome::Panicked,
            Some(None) => return Outcome::CrashedInTheLibrary,
            None if std::time::Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                return Outcome::Hung;
            }
            None => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
}

/// The child's part; alone it does nothing.
#[test]
fn reads_the_mutated_model() {
    if let Some(path) = std::env::var_os(MUTATED) {
        std::process::exit(match Model::<f32>::load(path) {
            Ok(_) => 0,
            Err(_) => 3,
        });
    }
}

#[test]
fn mutated_models_are_loaded_or_refused_and_nothing_panics_or_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.h5");
    small().save(&path, false).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // xorshift: the same mutations on every machine.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut counts = std::collections::BTreeMap::new();
    // PDADMM_MUTATIONS=100000 looks longer.
    let mutations = std::env::var("PDADMM_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    for _ in 0..mutations {
        let mut mutated = bytes.clone();
        for _ in 0..=below(4) {
            let at = below(mutated.len());
            mutated[at] = [0, 0xff, 0x7f, below(256) as u8][below(4)];
        }
        std::fs::write(&path, &mutated).unwrap();
        *counts.entry(read_in_a_child(&path)).or_insert(0) += 1;
    }
    println!("{counts:?}");
    assert!(!counts.contains_key(&Outcome::Panicked) && !counts.contains_key(&Outcome::Hung), "{counts:?}");
}

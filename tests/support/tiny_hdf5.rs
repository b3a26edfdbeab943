//! Tiny HDF5 files of each kind that is read. Test files include it with `#[path]`.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array1, Array2};
use pdadmm_g::augment::{AugmentSettings, augment};
use pdadmm_g::dataset::{Dataset, Features, SparseMatrix, Split};
use pdadmm_g::graph::{FeatureNorm, Operators};
use pdadmm_g::inspection::FileKind;
use pdadmm_g::model::{Model, ModelLayer, Provenance};
use pdadmm_g::parallel::SingleProcess;
use pdadmm_g::progress::Steps;
use pdadmm_g::settings::{Quantize, RawSettings};
use pdadmm_g::train::{RunOptions, train};

/// Six nodes on a ring, two classes, three sparse features.
pub fn data_set() -> Dataset {
    let ring = |i: u32| {
        let mut ends = [(i + 1) % 6, (i + 5) % 6];
        ends.sort_unstable();
        ends
    };
    let split = Split { train: vec![0, 1], val: vec![2], test: vec![3, 4], seed: Some(5) };
    let rows = (0..=6).map(|i| 2 * i).collect();
    Dataset {
        name: "ring".into(),
        num_classes: 2,
        adjacency: SparseMatrix::new((6, 6), rows, (0..6).flat_map(ring).collect(), vec![1.0; 12]),
        features: Features::Sparse(SparseMatrix::new(
            (6, 3),
            (0..=6).collect(),
            vec![0, 1, 2, 0, 1, 2],
            vec![1.0; 6],
        )),
        labels: vec![0, 1, 0, 1, 0, -1],
        splits: BTreeMap::from([("random".into(), split)]),
    }
}

/// Two operators, two features, layers of 5 and 3.
pub fn model() -> Model<f32> {
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
    let operators: Operators = "0,ppr:0.1:4".parse().expect("operators");
    let layers = vec![layer(5, 4), layer(3, 5)];
    Model::new(operators, FeatureNorm::Row, 2, 3, layers, provenance).expect("a model")
}

/// Writes the small file of a kind.
pub fn write(kind: FileKind, path: &Path) {
    match kind {
        FileKind::Dataset => {
            data_set().write(path, true).expect("a data set");
            augment_in_place(path);
        }
        FileKind::Model => model().save(path, true).expect("a model"),
        FileKind::Checkpoint => checkpoint(path),
    }
}

/// Stores augmented features in a data set file.
fn augment_in_place(path: &Path) {
    let settings = AugmentSettings {
        data: path.to_path_buf(),
        output: path.to_path_buf(),
        overwrite: true,
        operators: "0,1".parse().expect("operators"),
        feature_norm: FeatureNorm::Row,
        threads: 1,
        inspected: None,
    };
    augment(&settings, &SingleProcess, &Steps::silent()).expect("augmented features");
}

/// The file of one rank with three layers after three iterations, p and q quantized.
fn checkpoint(path: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data.h5");
    data_set().write(&data, true).expect("a data set");
    let settings = RawSettings {
        data: Some(data),
        output: Some(folder.path().join("run")),
        layers: Some(3),
        stages: Some(vec![3]),
        neurons: Some(4),
        quantize: Some(Quantize::Pq),
        ..RawSettings::default()
    };
    let options = RunOptions { stop: Box::new(|iteration| iteration == 2), ..RunOptions::default() };
    let outcome = train::<f32>(&settings.check().expect("settings"), &SingleProcess, options).expect("a run");
    let written = format!("run/checkpoint-{:010}/rank-00000.h5", outcome.summary.iterations);
    std::fs::copy(folder.path().join(written), path).expect("a checkpoint");
}

//! Does a model file give back the model that was saved, and is each kind of bad model file refused?

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::str::FromStr;

use hdf5::File;
use hdf5::types::{FixedUnicode, VarLenUnicode};
use ndarray::{Array1, Array2};
use pdadmm_g::graph::{FeatureNorm, Operator, Operators};
use pdadmm_g::linalg::Real;
use pdadmm_g::model::{Model, ModelError, ModelFile, ModelLayer, Provenance};
use pdadmm_g::settings::Precision;
use proptest::prelude::*;

fn provenance(seed: u64) -> Provenance {
    Provenance {
        dataset: "ring".into(),
        checksum: "1c291ca3-15360".into(),
        split: "random_0".into(),
        seed,
        iteration: 17,
        val_accuracy: (!seed.is_multiple_of(3)).then_some(0.75),
        test_accuracy: Some(1.0),
        version: "0.1.0".into(),
    }
}

/// A model of n_1, n_2, … neurons with arbitrary weights.
fn model<T: Real>(operators: &str, features: usize, neurons: &[usize], seed: u64) -> Model<T> {
    let operators: Operators = operators.parse().unwrap();
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    };
    let mut below = operators.count() * features;
    let mut layers = Vec::new();
    for &n in neurons {
        let w = Array2::from_shape_simple_fn((n, below), &mut draw);
        layers.push(ModelLayer { w, b: Array1::from_shape_simple_fn(n, &mut draw) });
        below = n;
    }
    Model::new(operators, FeatureNorm::Row, features, below, layers, provenance(seed)).unwrap()
}

/// Three operators, two features, layers of 5, 4 and 3.
fn good() -> Model<f32> {
    model("0,1,ppr:0.1:4", 2, &[5, 4, 3], 1)
}

struct Bad {
    folder: tempfile::TempDir,
}

impl Bad {
    fn path(&self) -> PathBuf {
        self.folder.path().join("bad.h5")
    }

    /// The good file, then spoilt by `change`.
    fn new(change: impl FnOnce(&File)) -> Bad {
        let bad = Bad { folder: tempfile::tempdir().unwrap() };
        good().save(bad.path(), false).unwrap();
        let file = File::open_rw(bad.path()).unwrap();
        change(&file);
        file.close().unwrap();
        bad
    }

    /// The error names the file and has all the words.
    fn refused(&self, words: &[&str]) {
        let text = Model::<f32>::load(self.path()).unwrap_err().to_string();
        assert!(text.contains("bad.h5"), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        println!("{text}");
    }
}

fn matrix<T: hdf5::H5Type + Clone>(file: &File, path: &str, shape: (usize, usize), value: T) {
    file.unlink(path).unwrap();
    let values = Array2::from_elem(shape, value);
    file.new_dataset_builder().with_data(&values).create(path).unwrap();
}

fn vector<T: hdf5::H5Type>(file: &File, path: &str, values: &[T]) {
    file.unlink(path).unwrap();
    file.new_dataset_builder().with_data(values).create(path).unwrap();
}

fn number<T: hdf5::H5Type>(file: &File, name: &str, value: T) {
    file.delete_attr(name).unwrap();
    file.new_attr::<T>().create(name).unwrap().write_scalar(&value).unwrap();
}

fn text(file: &File, name: &str, value: &str) {
    file.delete_attr(name).unwrap();
    let value = FixedUnicode::<64>::from_str(value).unwrap();
    file.new_attr::<FixedUnicode<64>>().create(name).unwrap().write_scalar(&value).unwrap();
}

fn read_back<T: Real>(model: &Model<T>, precision: Precision) {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a.h5", "another name.h5"].map(|name| folder.path().join(name));
    model.save(&first, false).unwrap();
    model.save(&second, false).unwrap();
    let file = ModelFile::open(&first).unwrap();
    assert_eq!(file.precision(), precision);
    assert_eq!(file.provenance(), model.provenance());
    assert_eq!(&file.read::<T>().unwrap(), model);
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn what_is_saved_is_loaded(
        operators in 0usize..3,
        features in 1usize..9,
        neurons in prop::collection::vec(1usize..20, 1..12),
        seed in any::<u64>(),
    ) {
        let operators = ["0,1,2,3", "ppr:0.15:10", "I,heat:2.5:8,mean:3,sum:1:-0.5:3"][operators];
        read_back(&model::<f32>(operators, features, &neurons, seed), Precision::F32);
        read_back(&model::<f64>(operators, features, &neurons, seed), Precision::F64);
    }
}

#[test]
fn equal_models_give_equal_bytes_at_different_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.h5");
    good().save(&path, false).unwrap();
    let early = std::fs::read(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    good().save(&path, true).unwrap();
    assert_eq!(early, std::fs::read(&path).unwrap());
}

#[test]
fn an_existing_file_stays_unless_it_may_go() {
    let bad = Bad::new(|_| ());
    let before = std::fs::read(bad.path()).unwrap();
    let error = model::<f32>("0", 1, &[2], 3).save(bad.path(), false).unwrap_err();
    assert!(error.to_string().contains("--overwrite"), "{error}");
    assert_eq!(before, std::fs::read(bad.path()).unwrap());
    assert_eq!(std::fs::read_dir(bad.folder.path()).unwrap().count(), 1);
}

#[test]
fn models_that_fit_nowhere_are_not_made() {
    let refused = |operators: Operators, layers: Vec<ModelLayer<f64>>, provenance, words: &str| {
        let error = Model::new(operators, FeatureNorm::None, 2, 3, layers, provenance).unwrap_err();
        assert!(matches!(error, ModelError::Invalid(_)));
        assert!(error.to_string().contains(words), "{error}");
    };
    let zeros = |w: (usize, usize), b: usize| ModelLayer { w: Array2::zeros(w), b: Array1::zeros(b) };
    let hops = |text: &str| text.parse::<Operators>().unwrap();
    refused(hops("0"), vec![], provenance(1), "number of layers");
    refused(hops("0,1"), vec![zeros((3, 2), 3)], provenance(1), "4 columns (2 operators × 2 features)");
    refused(hops("0"), vec![zeros((3, 2), 4)], provenance(1), "3 entries");
    refused(hops("0"), vec![zeros((4, 2), 4)], provenance(1), "3 rows, one for each class");
    refused(hops("0"), vec![zeros((4, 2), 4), zeros((3, 5), 3)], provenance(1), "rows of W of layer 1");
    refused(hops("0"), vec![zeros((0, 2), 0), zeros((3, 0), 3)], provenance(1), "1 to");
    let mut layer = zeros((3, 2), 3);
    layer.b[1] = f64::NAN;
    refused(hops("0"), vec![layer], provenance(1), "/layers/1/b[1]");
    let split = Provenance { split: "a\nb".into(), ..provenance(1) };
    refused(hops("0"), vec![zeros((3, 2), 3)], split, "attribute split");
    let accuracy = Provenance { val_accuracy: Some(f64::NAN), ..provenance(1) };
    refused(hops("0"), vec![zeros((3, 2), 3)], accuracy, "val_accuracy");
    let other = Operators::new(vec![Operator::new("mine", vec![0.5, 0.25]).unwrap()]).unwrap();
    refused(other, vec![zeros((3, 2), 3)], provenance(1), "mine");
}

#[test]
fn files_that_are_no_models() {
    let bad = Bad::new(|_| ());
    let bytes = std::fs::read(bad.path()).unwrap();
    for length in [0, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(bad.path(), &bytes[..length]).unwrap();
        bad.refused(&["pdadmm-g train"]);
    }
    std::fs::remove_file(bad.path()).unwrap();
    bad.refused(&["cannot open"]);
    File::create(bad.path()).unwrap().close().unwrap();
    bad.refused(&["attribute format", "pdadmm-g train"]);
    Bad::new(|f| text(f, "format", "gamlp-graph")).refused(&["gamlp-model", "\"gamlp-graph\""]);
    Bad::new(|f| number(f, "format_version", 2i64)).refused(&["format_version", "found 2"]);
}

#[test]
fn attributes_that_are_missing_wrong_or_absurd() {
    for name in ["precision", "operators", "feature_norm", "features", "num_classes", "dataset", "seed"] {
        let name = format!("attribute {name} of /");
        let attribute = name.split(' ').nth(1).unwrap();
        Bad::new(|f| f.delete_attr(attribute).unwrap()).refused(&[&name, "nothing of that name"]);
        Bad::new(|f| number(f, attribute, 0.5f64)).refused(&[&name]);
    }
    Bad::new(|f| text(f, "precision", "f16")).refused(&["precision", "f32, f64", "\"f16\""]);
    Bad::new(|f| text(f, "feature_norm", "rows")).refused(&["none, row, column"]);
    Bad::new(|f| text(f, "operators", "0,x")).refused(&["operators", "hops"]);
    Bad::new(|f| text(f, "operators", "0,1,2")).refused(&["/operators", "shape"]);
    Bad::new(|f| text(f, "operators", "0,1,ppr:0.2:4")).refused(&["/operators[2, 0]", "ppr:0.2:4"]);
    Bad::new(|f| number(f, "features", 3i64)).refused(&["/layers/1/W", "9 columns", "found 6"]);
    Bad::new(|f| number(f, "features", -1i64)).refused(&["features", "-1"]);
    Bad::new(|f| number(f, "features", i64::MAX)).refused(&["features", "1 to"]);
    Bad::new(|f| number(f, "num_classes", 4i64)).refused(&["/layers/3/W", "4 rows", "found 3"]);
    Bad::new(|f| number(f, "num_classes", 1i64 << 40)).refused(&["classes", "1 to"]);
    Bad::new(|f| number(f, "seed", -1i64)).refused(&["seed", "at least 0"]);
    Bad::new(|f| number(f, "val_accuracy", 1.5f64)).refused(&["val_accuracy", "1.5"]);
    Bad::new(|f| {
        f.delete_attr("split").unwrap();
        let split: VarLenUnicode = "public".parse().unwrap();
        f.new_attr::<VarLenUnicode>().create("split").unwrap().write_scalar(&split).unwrap();
    })
    .refused(&["attribute split", "variable length"]);
    Bad::new(|f| text(f, "split", "a\u{7}b")).refused(&["attribute split", "control"]);
}

#[test]
fn layers_that_are_missing_wrongly_typed_or_do_not_chain() {
    Bad::new(|f| f.unlink("layers").unwrap()).refused(&["/layers", "a group"]);
    Bad::new(|f| f.unlink("layers/2").unwrap()).refused(&["/layers/2", "nothing of that name"]);
    Bad::new(|f| f.unlink("layers/3/b").unwrap()).refused(&["/layers/3/b", "nothing of that name"]);
    Bad::new(|f| drop(f.create_group("layers/x").unwrap())).refused(&["/layers/4", "nothing of that name"]);
    Bad::new(|f| vector(f, "layers/2/W", &[1f32])).refused(&["/layers/2/W", "2 dimension"]);
    Bad::new(|f| matrix(f, "layers/2/W", (4, 6), 1f32)).refused(&["/layers/2/W", "5 columns", "found 6"]);
    Bad::new(|f| matrix(f, "layers/2/W", (4, 5), 1f64)).refused(&["/layers/2/W", "float32", "float64"]);
    Bad::new(|f| matrix(f, "layers/2/W", (4, 5), 1i32)).refused(&["/layers/2/W", "float32", "int32"]);
    Bad::new(|f| vector(f, "layers/2/b", &[1f32; 5])).refused(&["/layers/2/b", "4 entries", "found 5"]);
    Bad::new(|f| matrix(f, "layers/1/W", (5, 6), f32::NAN)).refused(&["/layers/1/W[0, 0]", "NaN"]);
    Bad::new(|f| vector(f, "layers/3/b", &[0f32, 0.0, f32::INFINITY])).refused(&["/layers/3/b[2]", "inf"]);
    Bad::new(|f| text(f, "precision", "f64")).refused(&["precision", "f64"]);
}

#[test]
fn weights_of_the_other_precision_are_not_rounded() {
    let bad = Bad::new(|_| ());
    let error = Model::<f64>::load(bad.path()).unwrap_err().to_string();
    assert!(error.contains("bad.h5") && error.contains("\"f64\""), "{error}");
}

#[test]
fn storage_that_is_elsewhere_or_not_there() {
    Bad::new(|f| {
        f.unlink("layers/2/W").unwrap();
        f.new_dataset::<f32>().shape((4, 5)).chunk((4, 5)).create("layers/2/W").unwrap();
    })
    .refused(&["/layers/2/W", "stored bytes"]);
    Bad::new(|f| {
        f.unlink("layers/1/W").unwrap();
        f.new_dataset::<f32>().shape((1 << 40, 1 << 20)).chunk((1, 1)).create("layers/1/W").unwrap();
    })
    .refused(&["/layers/1/W", "stored bytes"]);
    Bad::new(|f| {
        f.unlink("layers/2").unwrap();
        f.link_soft("/layers/1", "layers/2").unwrap();
    })
    .refused(&["/layers/2", "a soft link"]);
    Bad::new(|f| {
        f.unlink("layers/2").unwrap();
        f.link_external("/etc/passwd", "/", "layers/2").unwrap();
    })
    .refused(&["/layers/2", "another file"]);
}

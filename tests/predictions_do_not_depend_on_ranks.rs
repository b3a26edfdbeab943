//! Does predict write the same bytes for any number of ranks and threads, and do all ranks end alike when it cannot?

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2};
use pdadmm_g::cli::predict::{PredictArguments, run};
use pdadmm_g::cli::progress::ProgressArguments;
use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::dataset::{Dataset, checksum};
use pdadmm_g::graph::{FeatureNorm, renormalised_adjacency};
use pdadmm_g::inspection::Findings;
use pdadmm_g::linalg::{Real, Workers};
use pdadmm_g::model::forward::Prediction;
use pdadmm_g::model::{Model, ModelLayer, Provenance};
use pdadmm_g::parallel::{SingleProcess, ThreadCommunicator};

const FEATURES: usize = 12;
const CLASSES: usize = 5;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a data set of five blocks of nodes.
    fn new() -> (Folder, Dataset) {
        let folder = Folder(tempfile::tempdir().unwrap());
        let mut data = generate(&GenerateSettings {
            name: "made".into(),
            nodes: 4500,
            features: FEATURES,
            classes: CLASSES,
            degree: 6.0,
            homophily: 0.8,
            signal: 1.0,
            seed: 3,
            train_nodes: None,
            val_nodes: None,
            test_nodes: None,
        })
        .unwrap();
        let train = data.splits["random"].train.clone();
        let unknown = (0..4500).find(|node| !train.contains(node)).unwrap();
        data.labels[unknown] = -1;
        data.write(folder.path("data.h5"), false).unwrap();
        (folder, data)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arguments(&self, output: &str) -> PredictArguments {
        PredictArguments {
            model: self.path("model.h5"),
            data: self.path("data.h5"),
            output: self.path(output),
            overwrite: false,
            threads: 1,
            split: None,
            trust_files: true,
            progress: ProgressArguments::default(),
        }
    }

    /// The exit code and the message that every rank ends with.
    fn refused(&self, ranks: usize, change: impl Fn(&mut PredictArguments)) -> (u8, String) {
        let mut arguments = self.arguments("refused.h5");
        change(&mut arguments);
        let errors = ThreadCommunicator::run(ranks, |communicator| {
            let error = run(&arguments, Findings::Trusted, communicator).unwrap_err();
            assert!(error.is_joint);
            (error.exit_code, error.message)
        });
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        println!("{:?}", errors[0]);
        errors[0].clone()
    }
}

fn model<T: Real>(neurons: &[usize], scale: f64) -> Model<T> {
    let operators = "0,1,ppr:0.1:3".parse().unwrap();
    let mut below = 3 * FEATURES;
    let mut layers = Vec::new();
    for (l, &n) in neurons.iter().enumerate() {
        let entry =
            |i: usize, j: usize| T::of(scale * (((i * 37 + j * 101 + l * 13) % 89) as f64 / 44.0 - 1.0));
        let w = Array2::from_shape_fn((n, below), |(i, j)| entry(i, j));
        layers.push(ModelLayer { w, b: Array1::from_shape_fn(n, |i| entry(i, 7)) });
        below = n;
    }
    let provenance = Provenance {
        dataset: "made".into(),
        split: "random".into(),
        version: "0.1.0".into(),
        ..Provenance::default()
    };
    Model::new(operators, FeatureNorm::Row, FEATURES, below, layers, provenance).unwrap()
}

fn same_for_all_ranks<T: Real>(neurons: &[usize]) {
    let (folder, data) = Folder::new();
    let model = model::<T>(neurons, 0.5);
    model.save(folder.path("model.h5"), false).unwrap();
    run(&folder.arguments("alone.h5"), Findings::Trusted, &SingleProcess).unwrap();
    let alone = std::fs::read(folder.path("alone.h5")).unwrap();
    for (ranks, threads) in [(1, 3), (2, 1), (3, 2), (7, 1)] {
        let arguments = PredictArguments { threads, ..folder.arguments(&format!("{ranks}.h5")) };
        let results = ThreadCommunicator::run(ranks, |communicator| {
            run(&arguments, Findings::Trusted, communicator).is_ok()
        });
        assert!(results.iter().all(|ok| *ok));
        assert!(alone == std::fs::read(&arguments.output).unwrap(), "{ranks} ranks, {threads} threads");
    }
    holds_what_the_model_says(&folder.path("alone.h5"), &model, &data);
    let read = hdf5::File::open(folder.path("alone.h5")).unwrap();
    let text = |name: &str| -> String {
        read.attr(name).unwrap().read_scalar::<hdf5::types::FixedUnicode<64>>().unwrap().to_string()
    };
    assert_eq!(text("data_checksum"), checksum(&folder.path("data.h5")).unwrap());
    assert_eq!((text("data").as_str(), text("data_split").as_str()), ("made", "random"));
}

/// The file against the whole forward pass and a count by hand.
fn holds_what_the_model_says<T: Real>(path: &Path, model: &Model<T>, data: &Dataset) {
    let adjacency = renormalised_adjacency::<T>(&data.adjacency);
    let logits = model.logits(&adjacency, &data.features, &Workers::one()).unwrap();
    let expected = Prediction::of(&logits);
    let file = hdf5::File::open(path).unwrap();
    let classes = file.dataset("class").unwrap().read_raw::<i64>().unwrap();
    assert!(classes.iter().zip(&expected.classes).all(|(a, b)| *a == *b as i64));
    assert!(file.dataset("probabilities").unwrap().read_2d::<T>().unwrap() == expected.probabilities);
    let share = |nodes: &mut dyn Iterator<Item = usize>| {
        let known: Vec<usize> = nodes.filter(|&node| data.labels[node] >= 0).collect();
        known.iter().filter(|&&node| classes[node] == data.labels[node]).count() as f64 / known.len() as f64
    };
    let accuracy = |name: &str| file.attr(name).unwrap().read_scalar::<f64>().unwrap();
    let split = &data.splits["random"];
    assert_eq!(accuracy("accuracy"), share(&mut (0..4500)));
    assert_eq!(accuracy("accuracy_train"), share(&mut split.train.iter().copied()));
    assert_eq!(accuracy("accuracy_val"), share(&mut split.val.iter().copied()));
    assert_eq!(accuracy("accuracy_test"), share(&mut split.test.iter().copied()));
}

#[test]
fn ranks_and_threads_do_not_change_a_bit() {
    same_for_all_ranks::<f32>(&[20, 17, 9, CLASSES]);
    same_for_all_ranks::<f64>(&[70, CLASSES]);
    same_for_all_ranks::<f32>(&[CLASSES]);
}

#[test]
fn all_ranks_end_with_the_same_code_and_sentence() {
    let (folder, _) = Folder::new();
    model::<f32>(&[8, CLASSES], 0.5).save(folder.path("model.h5"), false).unwrap();
    model::<f32>(&[8, 4], 0.5).save(folder.path("four.h5"), false).unwrap();
    model::<f32>(&[8, 8, CLASSES], 1e20).save(folder.path("large.h5"), false).unwrap();
    std::fs::write(folder.path("there.h5"), "mine").unwrap();
    let mut overflows = Vec::new();
    for ranks in [1, 3] {
        let check = |change: &dyn Fn(&mut PredictArguments), code: u8, words: &[&str]| {
            let (found, text) = folder.refused(ranks, change);
            assert_eq!(found, code, "{text}");
            words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
            assert!(!folder.path("refused.h5").exists());
        };
        check(&|a| a.output = folder.path("there.h5"), 2, &["there.h5", "--overwrite"]);
        assert_eq!(std::fs::read(folder.path("there.h5")).unwrap(), b"mine");
        let onto_data = |a: &mut PredictArguments| (a.output, a.overwrite) = (folder.path("data.h5"), true);
        check(&onto_data, 2, &["would replace the data set"]);
        let onto_model = |a: &mut PredictArguments| (a.output, a.overwrite) = (folder.path("model.h5"), true);
        check(&onto_model, 2, &["would replace the model"]);
        check(&|a| a.output = folder.path("there.h5/file.h5"), 2, &["folders alone above the output"]);
        check(&|a| a.output = folder.path(""), 2, &["a folder"]);
        check(&|a| a.split = Some("other".into()), 2, &["\"other\"", "random"]);
        check(&|a| a.model = folder.path("gone.h5"), 3, &["gone.h5", "No such file"]);
        check(&|a| a.model = folder.path("data.h5"), 3, &["gamlp-model"]);
        check(&|a| a.data = folder.path("model.h5"), 3, &["gamlp-graph"]);
        check(&|a| a.model = folder.path("four.h5"), 3, &["4 classes", "5"]);
        overflows.push(folder.refused(ranks, |a| a.model = folder.path("large.h5")));
    }
    let (code, text) = &overflows[0];
    assert_eq!(*code, 4);
    assert!(text.contains("layer 3") || text.contains("layer 2"), "{text}");
    // With several ranks the message says on which; the rest is the same.
    assert!(overflows[1].1.ends_with(text.as_str()), "{overflows:?}");
    assert!(!folder.path("refused.h5").exists());
}

#[test]
fn an_output_may_be_replaced_when_asked() {
    let (folder, _) = Folder::new();
    model::<f32>(&[CLASSES], 0.5).save(folder.path("model.h5"), false).unwrap();
    std::fs::write(folder.path("there.h5"), "mine").unwrap();
    let arguments = PredictArguments { overwrite: true, ..folder.arguments("there.h5") };
    run(&arguments, Findings::Trusted, &SingleProcess).unwrap();
    assert!(hdf5::File::open(folder.path("there.h5")).unwrap().dataset("class").is_ok());
    // Nothing else is left behind.
    let mut names: Vec<_> =
        std::fs::read_dir(folder.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data.h5", "model.h5", "there.h5"]);
}

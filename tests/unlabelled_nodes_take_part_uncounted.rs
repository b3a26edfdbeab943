//! Do nodes of unknown class spread their features, and count in no accuracy?

#![allow(clippy::unwrap_used)]

use pdadmm_g::dataset::Dataset;
use pdadmm_g::dataset::generate::{GenerateSettings, generate};
use pdadmm_g::parallel::SingleProcess;
use pdadmm_g::settings::RawSettings;
use pdadmm_g::train::output::Summary;
use pdadmm_g::train::{RunOptions, train};

fn run(data: &Dataset) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    data.write(folder.path().join("graph.h5"), false).unwrap();
    let raw = RawSettings {
        data: Some(folder.path().join("graph.h5")),
        output: Some(folder.path().join("run")),
        layers: Some(2),
        neurons: Some(8),
        iterations: Some(10),
        ..RawSettings::default()
    };
    train::<f64>(&raw.check().unwrap(), &SingleProcess, RunOptions::default()).unwrap().summary
}

#[test]
fn in_training_and_evaluation() {
    let data = generate(&GenerateSettings::new(300, 12, 3)).unwrap();
    let split = data.splits.values().next().unwrap();
    let in_split: Vec<usize> =
        [&split.train, &split.val, &split.test].into_iter().flatten().copied().collect();
    let whole = run(&data);

    // Labels of nodes in no set are read by nothing.
    let mut outside = data.clone();
    (0..outside.labels.len()).filter(|i| !in_split.contains(i)).for_each(|i| outside.labels[i] = -1);
    assert_eq!((run(&outside).accuracy, run(&outside).objective), (whole.accuracy, whole.objective));

    // Half of the test nodes without a class: the accuracy is a share of the others, and training is the same.
    let mut half = data.clone();
    let known = split.test.len() / 2;
    split.test[known..].iter().for_each(|&i| half.labels[i] = -1);
    let summary = run(&half);
    assert_eq!(summary.objective, whole.objective);
    let right = summary.accuracy.test.unwrap() * known as f64;
    assert!((right - right.round()).abs() < 1e-9 && right <= known as f64, "{right} of {known}");

    // None with a class: no accuracy, but a result.
    split.test.iter().for_each(|&i| half.labels[i] = -1);
    assert_eq!(run(&half).accuracy.test, None);
}

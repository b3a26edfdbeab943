//! Is an HDF5 file gone through by a child process before it is read, on one rank for all, and is what is read what was
//! inspected?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pdadmm_g::dataset::DatasetFile;
use pdadmm_g::inspection::{FileKind, InspectionError, inspect_with};
use pdadmm_g::model::ModelFile;
use pdadmm_g::parallel::SingleProcess;
use pdadmm_g::settings::RawSettings;
use pdadmm_g::train::{RunOptions, train};

#[path = "support/mutator.rs"]
mod mutator;
#[path = "support/program.rs"]
mod program;
#[path = "support/tiny_hdf5.rs"]
mod tiny_hdf5;

const SHORT: &str = "--neurons 8 --iterations 2 --quiet";
const DATA: i32 = 3;
/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

fn code_and_words(command: &mut Command) -> (i32, String) {
    let outcome = program::run_within(command, LIMIT).unwrap();
    let status = outcome.status.unwrap_or_else(|| panic!("{command:?} hangs: {}", outcome.stderr));
    (status.code().unwrap_or_else(|| panic!("{command:?}: {status}")), outcome.stderr)
}

/// libhdf5 1.10.8 reads outside its memory over this one; other versions may refuse it or read it.
#[test]
fn a_file_that_crashes_the_library_is_an_error_of_the_data_on_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crash.h5");
    tiny_hdf5::write(FileKind::Dataset, &path);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, mutator::Mutator::of(216).mutate(&bytes)).unwrap();
    let (checked, words) = code_and_words(program::alone().args(["dataset", "check"]).arg(&path));
    println!("{checked}: {words}");
    if !words.contains("crashed") {
        println!("skipped: this HDF5 library does not crash over the file");
        return;
    }
    assert_eq!(checked, DATA, "{words}");
    let launcher = program::launcher();
    for ranks in [1, 3] {
        if ranks > 1 && launcher.is_none() {
            continue;
        }
        let mut command = program::on_ranks(launcher.as_ref().filter(|_| ranks > 1), ranks);
        command.arg("train").arg("--data").arg(&path).args(SHORT.split(' '));
        let (code, words) = code_and_words(command.arg("--output").arg(folder.path().join("run")));
        assert_eq!(code, DATA, "{ranks} ranks: {words}");
        assert!(words.contains("the HDF5 library crashed (signal"), "{words}");
        let errors = words.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{words}");
        assert!(!folder.path().join("run").exists());
    }
}

#[test]
fn trusted_files_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.h5");
    tiny_hdf5::write(FileKind::Dataset, &data);
    let run = |name: &str, more: &str| {
        let output = folder.path().join(name);
        program::train(None, 1, &data, &output, &format!("{SHORT} --layers 2 {more}"));
        std::fs::read(output.join("model.h5")).unwrap()
    };
    assert_eq!(run("inspected", ""), run("trusted", "--trust-files"));
    let mut predict = program::alone();
    predict
        .arg("predict")
        .arg("--data")
        .arg(&data)
        .arg("--model")
        .arg(folder.path().join("trusted/model.h5"));
    program::succeed(predict.arg("--trust-files").arg("--output").arg(folder.path().join("out.h5")));
    let report = |more: &[&str]| {
        program::succeed(program::alone().args(["dataset", "check"]).arg(&data).args(more)).stdout
    };
    assert_eq!(report(&[]), report(&["--trust-files"]));
}

#[test]
fn other_bytes_than_those_inspected_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (folder.path().join("data.h5"), folder.path().join("model.h5"));
    tiny_hdf5::write(FileKind::Dataset, &data);
    tiny_hdf5::write(FileKind::Model, &model);
    let inspected =
        |kind, path: &Path| inspect_with(Path::new(program::binary()), kind, path, false).unwrap().checksum;
    let (of_data, of_model) = (inspected(FileKind::Dataset, &data), inspected(FileKind::Model, &model));
    DatasetFile::open_inspected(&data, Some(&of_data)).unwrap();
    ModelFile::open_inspected(&model, Some(&of_model)).unwrap();
    let changed = |error: String| assert!(error.contains("not those that were inspected"), "{error}");
    changed(DatasetFile::open_inspected(&data, Some(&of_model)).unwrap_err().to_string());
    changed(ModelFile::open_inspected(&model, Some(&of_data)).unwrap_err().to_string());
    let settings = RawSettings {
        data: Some(data),
        output: Some(folder.path().join("run")),
        layers: Some(2),
        ..RawSettings::default()
    };
    let options = RunOptions { inspected: Some(of_model), ..RunOptions::default() };
    let error = train::<f32>(&settings.check().unwrap(), &SingleProcess, options).unwrap_err();
    assert_eq!(i32::from(error.exit_code()), DATA);
    changed(error.to_string());
}

/// Each rank in a folder of its own: rank 1 finds other bytes under the same name.
#[test]
fn a_rank_with_another_file_ends_all() {
    let Some(launcher) = program::launcher() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (rank, nodes) in [("0", 60), ("1", 61)] {
        std::fs::create_dir(folder.path().join(rank)).unwrap();
        program::generate(&folder.path().join(rank).join("data.h5"), nodes, 5, 3, 12);
    }
    let script = format!("cd '{}'/$rank", folder.path().display());
    let mut command = program::behind(&launcher, 2, &script);
    command.args(["train", "--data", "data.h5", "--output", "run"]).args(SHORT.split(' '));
    let (code, words) = code_and_words(&mut command);
    assert_eq!(code, DATA, "{words}");
    assert!(words.contains("rank 1: data.h5: the bytes of this file"), "{words}");
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.h5");
    program::succeed(Command::new("mkfifo").arg(&pipe));
    for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
        let (code, words) = code_and_words(program::alone().args(["dataset", "check"]).arg(path));
        assert_eq!(code, DATA, "{words}");
        assert!(words.contains("a folder or a device"), "{words}");
    }
}

#[test]
fn a_child_that_is_no_inspector_passes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.h5");
    tiny_hdf5::write(FileKind::Dataset, &path);
    let error =
        |program: &str| inspect_with(Path::new(program), FileKind::Dataset, &path, false).unwrap_err();
    assert!(matches!(error("true"), InspectionError::BrokeOff { .. }));
    assert!(matches!(error("false"), InspectionError::BrokeOff { .. }));
    let missing = error("/nowhere/pdadmm-g");
    assert!(matches!(missing, InspectionError::Start { .. }) && missing.exit_code() == 1, "{missing}");
}

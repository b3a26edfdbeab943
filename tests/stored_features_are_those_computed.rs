//! Does `dataset augment` store on any ranks what training computes, does training take it from the file, and are wrong
//! and stale ones told?

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use std::path::{Path, PathBuf};

use ndarray::{Array2, s};
use pdadmm_g::dataset::DatasetFile;
use pdadmm_g::graph::{Augmentation, FeatureNorm, Operators, renormalised_adjacency};
use pdadmm_g::linalg::Workers;
use program::{LIMIT, alone, generate, launcher, on_ranks, run, run_within, succeed, train};

const NODES: usize = 3000;
const D: usize = 21;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        generate(&folder.path("graph.h5"), NODES, D, 3, 300);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `dataset augment` on `ranks` ranks, 0 for without mpirun.
    fn augment(&self, ranks: usize, data: &str, output: &str, flags: &str) {
        let launcher = launcher();
        let mut command = on_ranks(launcher.as_ref().filter(|_| ranks > 0), ranks);
        command
            .args(["dataset", "augment", "--data"])
            .arg(self.path(data))
            .arg("--output")
            .arg(self.path(output));
        let said = succeed(command.args(flags.split_whitespace())).stdout;
        assert!(said.contains("MiB at most") && said.contains("features"), "{said}");
    }

    fn stored(&self, file: &str, name: &str) -> Array2<f32> {
        let file = hdf5::File::open(self.path(file)).unwrap();
        file.dataset(&format!("augmented/{name}/features")).unwrap().read_2d().unwrap()
    }
}

/// X of all nodes by one process that holds everything.
fn expected(path: &Path, operators: &str, norm: FeatureNorm) -> Array2<f32> {
    let file = DatasetFile::open(path).unwrap();
    let (tilde, features) = (renormalised_adjacency(&file.adjacency().unwrap()), file.features().unwrap());
    let operators: Operators = operators.parse().unwrap();
    let all: Vec<usize> = (0..features.nodes()).collect();
    let plan = Augmentation::new(&tilde, &features, &operators, norm, &all);
    let mut x = Array2::zeros((all.len(), plan.width()));
    let d = features.dimension();
    plan.for_each_block(&Workers::one(), |block| {
        for (k, part) in block.parts.iter().enumerate() {
            x.slice_mut(s![.., k * d + block.columns.start..k * d + block.columns.end]).assign(part);
        }
        Ok::<(), ()>(())
    })
    .unwrap();
    x
}

#[test]
fn any_ranks_store_what_one_process_computes() {
    let folder = Folder::new();
    let before = std::fs::read(folder.path("graph.h5")).unwrap();
    folder.augment(0, "graph.h5", "alone.h5", "");
    let x = expected(&folder.path("graph.h5"), "0,1,2,3", FeatureNorm::None);
    assert_eq!(folder.stored("alone.h5", "1"), x);
    if launcher().is_some() {
        for ranks in 1..=3 {
            folder.augment(ranks, "graph.h5", "ranks.h5", "--overwrite");
            assert_eq!(folder.stored("ranks.h5", "1"), x, "{ranks} ranks");
        }
    }
    // Another one beside it, in place; the first again, which replaces itself.
    folder.augment(2, "alone.h5", "alone.h5", "--overwrite --operators ppr:0.1:4 --feature-norm column");
    folder.augment(0, "alone.h5", "alone.h5", "--overwrite");
    let of_column = expected(&folder.path("graph.h5"), "ppr:0.1:4", FeatureNorm::Column);
    assert_eq!(folder.stored("alone.h5", "2"), of_column);
    assert_eq!(folder.stored("alone.h5", "1"), x);
    let names: Vec<String> = DatasetFile::open(folder.path("alone.h5"))
        .unwrap()
        .augmented()
        .unwrap()
        .into_iter()
        .map(|a| a.name)
        .collect();
    assert_eq!(names, ["1", "2"]);
    assert_eq!(std::fs::read(folder.path("graph.h5")).unwrap(), before);
    let data = |name: &str| DatasetFile::open(folder.path(name)).unwrap().read().unwrap();
    assert_eq!(data("alone.h5"), data("graph.h5"));
}

#[test]
fn training_takes_what_is_stored_and_is_the_same() {
    let folder = Folder::new();
    folder.augment(0, "graph.h5", "stored.h5", "");
    // Told apart by their values: wrong ones are stored, and must be used.
    std::fs::copy(folder.path("stored.h5"), folder.path("wrong.h5")).unwrap();
    let file = hdf5::File::open_rw(folder.path("wrong.h5")).unwrap();
    let values = file.dataset("augmented/1/features").unwrap();
    values.write_slice(&Array2::<f32>::ones((NODES, 1)), s![.., 0..1]).unwrap();
    drop(values);
    file.close().unwrap();
    let launcher = launcher();
    let weights = |data: &str, name: &str, ranks: usize, settings: &str| {
        let output = folder.path(name);
        let settings = format!("--layers 3 --neurons 12 --iterations 6 --overwrite {settings}");
        let launcher = launcher.as_ref().filter(|_| ranks > 1);
        let said = train(launcher, ranks, &folder.path(data), &output, &settings).stderr;
        let model = hdf5::File::open(output.join("model-last.h5")).unwrap();
        let w: Array2<f64> = model.group("layers").unwrap().dataset("1/W").unwrap().read_2d().unwrap();
        (w, said)
    };
    // Fewer training nodes than features, then more, then with sums over all training nodes.
    for settings in ["", "--operators 0", "--operators 0 --dropout 0.2"] {
        if settings == "--operators 0" {
            folder.augment(0, "stored.h5", "stored.h5", "--overwrite --operators 0");
        }
        let computed = weights("graph.h5", "computed", 1, settings).0;
        for ranks in [1, 2, 3] {
            assert_eq!(weights("stored.h5", "stored", ranks, settings).0, computed, "{settings} on {ranks}");
            assert_eq!(weights("graph.h5", "stored", ranks, settings).0, computed, "{settings} on {ranks}");
        }
        if settings.is_empty() {
            assert_ne!(weights("wrong.h5", "wrong", 1, settings).0, computed);
            // Not in double precision, nor for other operators.
            let double = "--precision f64";
            assert_eq!(weights("wrong.h5", "f64", 1, double).0, weights("graph.h5", "f64", 1, double).0);
            let other = "--operators 1,2";
            assert_eq!(weights("wrong.h5", "other", 1, other).0, weights("graph.h5", "other", 1, other).0);
        }
    }
    // Edges and features have changed since: computed anew, with a warning.
    let file = hdf5::File::open_rw(folder.path("wrong.h5")).unwrap();
    let features = file.dataset("features").unwrap();
    let changed = features.read_2d::<f32>().unwrap() + 0.5;
    features.write(&changed).unwrap();
    drop(features);
    file.close().unwrap();
    let (_, said) = weights("wrong.h5", "stale", 1, "");
    assert!(said.contains("/augmented/1") && said.contains("other edges or features"), "{said}");
}

#[test]
fn bad_stored_features_are_refused() {
    let folder = Folder::new();
    folder.augment(0, "graph.h5", "good.h5", "");
    let refused = |change: &dyn Fn(&hdf5::Group), words: &[&str]| {
        std::fs::copy(folder.path("good.h5"), folder.path("bad.h5")).unwrap();
        let file = hdf5::File::open_rw(folder.path("bad.h5")).unwrap();
        change(&file.group("augmented/1").unwrap());
        file.close().unwrap();
        for command in ["check", "train", "trusting"] {
            let mut program = alone();
            match command {
                "check" => program.args(["dataset", "check"]).arg(folder.path("bad.h5")),
                _ => program
                    .args(["train", "--layers", "2", "--iterations", "1", "--overwrite", "--output"])
                    .arg(folder.path("run"))
                    .arg("--data")
                    .arg(folder.path("bad.h5")),
            };
            if command == "trusting" {
                program.arg("--trust-files");
            }
            let outcome = run_within(&mut program, LIMIT).unwrap();
            let said = &outcome.stderr;
            assert_eq!(outcome.status.and_then(|status| status.code()), Some(3), "{command}: {said}");
            assert!(words.iter().all(|word| said.contains(word)), "{command}: {said}");
        }
    };
    let replace = |group: &hdf5::Group, shape: (usize, usize)| {
        group.unlink("features").unwrap();
        group
            .new_dataset::<f32>()
            .shape(shape)
            .create("features")
            .unwrap()
            .write(&Array2::<f32>::zeros(shape))
            .unwrap();
    };
    let values = "/augmented/1/features";
    refused(&|group| replace(group, (NODES - 1, 4 * D)), &[values, "3000 rows", "2999"]);
    refused(&|group| replace(group, (NODES, 4 * D - 1)), &[values, "multiple of 21"]);
    refused(&|group| group.unlink("features").unwrap(), &[values, "nothing of that name"]);
    refused(&|group| group.delete_attr("operators").unwrap(), &["operators", "/augmented/1"]);
    refused(
        &|group| {
            let data = group.dataset("features").unwrap();
            data.write_slice(&Array2::from_elem((NODES, 1), f32::NAN), s![.., 5..6]).unwrap();
        },
        &[values, ", 5]", "a finite number"],
    );
    refused(
        &|group| {
            group.unlink("features").unwrap();
            group
                .new_dataset::<f32>()
                .chunk((1 << 10, 1 << 12))
                .shape((NODES, D << 40))
                .create("features")
                .unwrap();
        },
        &[values, "stored bytes"],
    );
    refused(
        &|group| {
            group.unlink("features").unwrap();
            group.link_soft("/features", "features").unwrap();
        },
        &[values, "soft link"],
    );
}

#[test]
fn what_cannot_be_stored_is_told_alike_on_all_ranks() {
    let folder = Folder::new();
    let launcher = launcher();
    let failed = |ranks: usize, data: &str, output: PathBuf, code: i32, words: &str| {
        let mut command = on_ranks(launcher.as_ref().filter(|_| ranks > 1), ranks);
        command.args(["dataset", "augment", "--data"]).arg(folder.path(data)).arg("--output").arg(output);
        let outcome = run(&mut command);
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(code), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    };
    for ranks in [1, 2] {
        failed(ranks, "graph.h5", folder.path("graph.h5"), 2, "--overwrite");
        failed(ranks, "none.h5", folder.path("out.h5"), 3, "none.h5");
        failed(ranks, "graph.h5", folder.path("graph.h5/out.h5"), 2, "folders alone above the output");
        // Not even root can make a file there.
        failed(ranks, "graph.h5", PathBuf::from("/proc/out.h5"), 1, "create a file in the folder");
        assert!(!folder.path("out.h5").exists());
    }
}

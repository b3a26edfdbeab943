//! Is each kind of bad data set file refused, with an error that names the file and the place?

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5::File;
use hdf5::types::{FixedAscii, VarLenUnicode};
use ndarray::{Array2, arr2};
use pdadmm_g::dataset::{
    Dataset, DatasetError, DatasetFile, Features, SparseMatrix, Split, Summary, checksum,
};

/// Six nodes on a ring, two classes, three features.
fn good() -> Dataset {
    let ring = |i: u32| {
        let mut ends = [(i + 1) % 6, (i + 5) % 6];
        ends.sort_unstable();
        ends
    };
    let split = Split { train: vec![0, 1], val: vec![2], test: vec![3, 4], seed: Some(5) };
    Dataset {
        name: "ring".into(),
        num_classes: 2,
        adjacency: SparseMatrix::new(
            (6, 6),
            (0..=6).map(|i| 2 * i).collect(),
            (0..6).flat_map(ring).collect(),
            vec![1.0; 12],
        ),
        features: Features::Sparse(SparseMatrix::new(
            (6, 3),
            vec![0, 1, 2, 3, 4, 5, 6],
            vec![0, 1, 2, 0, 1, 2],
            vec![1.0; 6],
        )),
        labels: vec![0, 1, 0, 1, 0, -1],
        splits: BTreeMap::from([("random".into(), split)]),
    }
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
        good().write(bad.path(), false).unwrap();
        let file = File::open_rw(bad.path()).unwrap();
        change(&file);
        file.close().unwrap();
        bad
    }

    fn error(&self) -> DatasetError {
        Dataset::read(self.path()).unwrap_err()
    }

    /// The error is about the data, names the file, and has all the words.
    fn refused(&self, words: &[&str]) {
        let error = self.error();
        let text = error.to_string();
        assert!(error.exit_code() != 2, "{text}");
        assert!(text.contains("bad.h5"), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        println!("{text}");
    }
}

fn replace<T: hdf5::H5Type>(file: &File, path: &str, values: &[T]) {
    file.unlink(path).unwrap();
    file.new_dataset_builder().with_data(values).create(path).unwrap();
}

fn attribute<T: hdf5::H5Type>(file: &File, group: &str, name: &str, values: &[T]) {
    let group = file.group(group).unwrap();
    group.delete_attr(name).unwrap();
    let attribute = group.new_attr::<T>().shape(values.len()).create(name).unwrap();
    attribute.write_raw(values).unwrap();
}

fn text(file: &File, group: &str, name: &str, value: &str) {
    let group = file.group(group).unwrap();
    group.delete_attr(name).unwrap();
    let value: VarLenUnicode = value.parse().unwrap();
    group.new_attr::<VarLenUnicode>().create(name).unwrap().write_scalar(&value).unwrap();
}

#[test]
fn the_unspoilt_file_is_read() {
    let bad = Bad::new(|_| ());
    assert_eq!(Dataset::read(bad.path()).unwrap(), good());
    let outline = Dataset::read_without_features(bad.path()).unwrap();
    assert_eq!((outline.header.nodes, outline.header.features), (6, 3));
    assert_eq!(outline.labels, good().labels);
    let file = DatasetFile::open(bad.path()).unwrap();
    assert_eq!(file.checksum().unwrap(), checksum(&bad.path()).unwrap());
}

#[test]
fn files_that_are_no_data_sets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.h5");
    let text = |path: &Path| Dataset::read(path).unwrap_err().to_string();
    assert!(text(&path).contains("bad.h5: cannot open"), "{}", text(&path));
    assert!(text(folder.path()).contains("a folder"));
    std::fs::write(&path, "node,label\n").unwrap();
    assert!(text(&path).contains("expected an HDF5 file"), "{}", text(&path));
    std::fs::write(&path, "").unwrap();
    assert!(text(&path).contains("expected an HDF5 file"));

    let bad = Bad::new(|_| ());
    let bytes = std::fs::read(bad.path()).unwrap();
    for length in [8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(bad.path(), &bytes[..length]).unwrap();
        bad.refused(&[]);
    }
    File::create(&path).unwrap().close().unwrap();
    assert!(text(&path).contains("attribute format"), "{}", text(&path));
}

#[test]
fn wrong_attributes() {
    Bad::new(|f| text(f, "/", "format", "other")).refused(&["attribute format of /", "\"other\""]);
    Bad::new(|f| attribute(f, "/", "format_version", &[2i64])).refused(&["format_version", "found 2"]);
    Bad::new(|f| attribute(f, "/", "num_classes", &[0i64])).refused(&["num_classes", "found 0"]);
    Bad::new(|f| attribute(f, "/", "num_classes", &[1i64 << 40])).refused(&["num_classes"]);
    Bad::new(|f| attribute(f, "/", "num_classes", &[2.0f64])).refused(&["num_classes", "int64"]);
    Bad::new(|f| attribute(f, "/", "num_classes", &[2i64, 2])).refused(&["num_classes", "1 value"]);
    Bad::new(|f| attribute(f, "/", "name", &[2i64])).refused(&["attribute name", "a text"]);
    Bad::new(|f| text(f, "/", "name", "a/b")).refused(&["attribute name", "slashes"]);
    Bad::new(|f| text(f, "/adjacency", "encoding-type", "csc_matrix"))
        .refused(&["encoding-type of /adjacency"]);
    Bad::new(|f| text(f, "/features", "encoding-version", "9")).refused(&["encoding-version of /features"]);
    Bad::new(|f| f.group("adjacency").unwrap().delete_attr("shape").unwrap())
        .refused(&["shape of /adjacency"]);
    Bad::new(|f| attribute(f, "/adjacency", "shape", &[6i64, 7])).refused(&["shape of /adjacency", "square"]);
    Bad::new(|f| attribute(f, "/adjacency", "shape", &[-6i64, -6])).refused(&["shape of /adjacency"]);
    Bad::new(|f| attribute(f, "/splits/random", "seed", &[-1i64])).refused(&["seed of /splits/random"]);
}

#[test]
fn missing_and_wrongly_typed_parts() {
    for part in [
        "adjacency",
        "features",
        "labels",
        "splits",
        "adjacency/indptr",
        "adjacency/indices",
        "adjacency/data",
        "features/data",
        "splits/random/train",
        "splits/random/val",
        "splits/random/test",
    ] {
        Bad::new(|f| f.unlink(part).unwrap()).refused(&[&format!("/{part}"), "nothing of that name"]);
    }
    Bad::new(|f| replace(f, "labels", &[0.0f64; 6])).refused(&["/labels", "int64", "float64"]);
    Bad::new(|f| replace(f, "labels", &[true; 6])).refused(&["/labels", "int64"]);
    let words: Vec<VarLenUnicode> = ["1"; 12].iter().map(|word| word.parse().unwrap()).collect();
    Bad::new(|f| replace(f, "adjacency/indices", &words)).refused(&["/adjacency/indices", "int64", "string"]);
    Bad::new(|f| replace(f, "adjacency/data", &[1i64; 12])).refused(&["/adjacency/data", "float32"]);
    Bad::new(|f| replace(f, "features/data", &[0.1f64; 6])).refused(&["/features/data[0]", "float32"]);
}

#[test]
fn other_widths_and_strings_are_read() {
    let bad = Bad::new(|f| {
        replace(f, "labels", &[0i8, 1, 0, 1, 0, -1]);
        replace(f, "adjacency/indptr", &[0u16, 2, 4, 6, 8, 10, 12]);
        replace(f, "features/data", &[1.0f64; 6]);
        let root = f.group("/").unwrap();
        root.delete_attr("name").unwrap();
        let name = FixedAscii::<8>::from_ascii("ring").unwrap();
        root.new_attr::<FixedAscii<8>>().create("name").unwrap().write_scalar(&name).unwrap();
    });
    assert_eq!(Dataset::read(bad.path()).unwrap(), good());
}

#[test]
fn shapes_that_disagree() {
    Bad::new(|f| replace(f, "labels", &[0i64; 5])).refused(&["/labels", "6 rows", "found 5"]);
    Bad::new(|f| attribute(f, "/features", "shape", &[5i64, 3])).refused(&["/features", "6 rows"]);
    Bad::new(|f| attribute(f, "/features", "shape", &[6i64, 0])).refused(&["number of features"]);
    Bad::new(|f| replace(f, "adjacency/indptr", &[0i64, 2, 4])).refused(&["/adjacency/indptr", "6 + 1"]);
    Bad::new(|f| replace(f, "adjacency/data", &[1f32; 11])).refused(&["/adjacency/data", "12 entries"]);
    Bad::new(|f| {
        f.unlink("features").unwrap();
        let dense = Array2::<f32>::zeros((5, 3));
        f.new_dataset_builder().with_data(&dense).create("features").unwrap();
    })
    .refused(&["/features", "6 rows", "found 5"]);
    Bad::new(|f| {
        f.unlink("features").unwrap();
        f.new_dataset_builder().with_data(&[0f32; 6]).create("features").unwrap();
    })
    .refused(&["/features", "2 dimension"]);
}

#[test]
fn damaged_rows() {
    let indptr = |values: [i64; 7]| Bad::new(|f| replace(f, "adjacency/indptr", &values));
    indptr([0, 4, 2, 6, 8, 10, 12]).refused(&["/adjacency/indptr[2]", "at least 4"]);
    indptr([0, 2, 4, 6, 8, 10, 13]).refused(&["/adjacency/indptr[6]", "at most 12"]);
    indptr([0, 2, 4, 6, 8, 10, 11]).refused(&["/adjacency/indptr[6]", "12, the number of indices"]);
    indptr([1, 2, 4, 6, 8, 10, 12]).refused(&["/adjacency/indptr[0]"]);
    indptr([0, -2, 4, 6, 8, 10, 12]).refused(&["/adjacency/indptr[1]"]);
    let indices = |at: usize, value: i64| {
        let mut values = vec![1i64, 5, 0, 2, 1, 3, 2, 4, 3, 5, 0, 4];
        values[at] = value;
        Bad::new(|f| replace(f, "adjacency/indices", &values))
    };
    indices(1, 6).refused(&["/adjacency/indices[1] (row 0)", "0..6", "found 6"]);
    indices(0, -1).refused(&["/adjacency/indices[0]", "found -1"]);
    indices(1, 1).refused(&["/adjacency/indices[1]", "duplicates"]);
    indices(3, -3).refused(&["/adjacency/indices[3]"]);
    indices(5, 0).refused(&["/adjacency/indices[5] (row 2)", "sorted"]);
    indices(0, 0).refused(&["/adjacency (row 0)", "self loops"]);
    Bad::new(|f| replace(f, "features/indices", &[0i64, 1, 3, 0, 1, 2]))
        .refused(&["/features/indices[2]", "0..3"]);
}

#[test]
fn values_that_are_no_numbers_and_wrong_labels() {
    let mut values = [1f32; 6];
    values[4] = f32::NAN;
    Bad::new(|f| replace(f, "features/data", &values)).refused(&["/features/data[4]", "NaN"]);
    Bad::new(|f| {
        f.unlink("features").unwrap();
        let mut dense = Array2::<f32>::zeros((6, 3));
        dense[[2, 1]] = f32::INFINITY;
        f.new_dataset_builder().with_data(&dense).create("features").unwrap();
    })
    .refused(&["/features[2, 1]", "inf"]);
    let mut weights = [1f32; 12];
    weights[7] = f32::NEG_INFINITY;
    Bad::new(|f| replace(f, "adjacency/data", &weights)).refused(&["/adjacency/data[7]", "-inf"]);
    Bad::new(|f| replace(f, "labels", &[0i64, 1, 2, 1, 0, 0])).refused(&["/labels[2]", "0..2", "found 2"]);
    Bad::new(|f| replace(f, "labels", &[0i64, 1, 0, -2, 0, 0])).refused(&["/labels[3]", "found -2"]);
}

#[test]
fn wrong_splits() {
    let part = |part: &str, nodes: &[i64]| {
        let path = format!("splits/random/{part}");
        Bad::new(|f| replace(f, &path, nodes))
    };
    part("train", &[]).refused(&["/splits/random/train", "at least one"]);
    part("val", &[]).refused(&["/splits/random/val", "at least one"]);
    part("test", &[6]).refused(&["/splits/random/test[0]", "0..6", "found 6"]);
    part("test", &[-1]).refused(&["/splits/random/test[0]", "found -1"]);
    part("test", &[3, 1]).refused(&["/splits/random/test[1]", "node 1", "in train"]);
    part("val", &[2, 2]).refused(&["/splits/random/val[1]", "in val"]);
    part("train", &[0, 5]).refused(&["/splits/random/train[1]", "label -1"]);
    part("train", &[0, 1, 0, 1, 0, 1, 0]).refused(&["/splits/random/train", "at most 6"]);
    Bad::new(|f| f.unlink("splits/random").unwrap()).refused(&["/splits", "at least one split"]);
}

#[test]
fn data_from_elsewhere_and_unknown_filters() {
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        f.link_external("/etc/passwd", "/x", "labels").unwrap();
    })
    .refused(&["/labels", "another file"]);
    Bad::new(|f| f.link_external("other.h5", "/x", "splits/other").unwrap())
        .refused(&["/splits/other", "another file"]);
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        f.link_soft("/adjacency/indptr", "labels").unwrap();
    })
    .refused(&["/labels", "soft link"]);
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        let builder = f.new_dataset::<i64>().external("passwd", 0, 48);
        builder.shape(6).create("labels").unwrap();
    })
    .refused(&["/labels", "external storage"]);
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        let builder = f.new_dataset::<i64>().virtual_map("o.h5", "x", 6, .., 6, ..);
        builder.shape(6).create("labels").unwrap();
    })
    .refused(&["/labels", "virtual"]);
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        f.new_dataset_builder().with_data(&[0i64; 6]).chunk(6).nbit().create("labels").unwrap();
    })
    .refused(&["/labels", "NBit", "h5repack"]);
}

/// A few bytes that declare 10^12 entries: an error at once, and no memory taken.
#[test]
fn sizes_that_the_bytes_cannot_hold() {
    const HUGE: usize = 1_000_000_000_000;
    let huge = |f: &File, path: &str| {
        f.unlink(path).unwrap();
        f.new_dataset::<i64>().chunk(1024).shape(HUGE).deflate(4).create(path).unwrap();
    };
    Bad::new(|f| huge(f, "adjacency/indices")).refused(&["/adjacency/indices", "stored bytes"]);
    Bad::new(|f| huge(f, "labels")).refused(&["/labels", "stored bytes"]);
    Bad::new(|f| attribute(f, "/adjacency", "shape", &[HUGE as i64; 2])).refused(&["number of nodes"]);
    Bad::new(|f| attribute(f, "/adjacency", "shape", &[1i64 << 31; 2])).refused(&["/labels"]);
    Bad::new(|f| attribute(f, "/features", "shape", &[6i64, HUGE as i64])).refused(&["number of features"]);
    Bad::new(|f| {
        f.unlink("features").unwrap();
        f.new_dataset::<f32>().shape((6, HUGE)).chunk((1, 1024)).create("features").unwrap();
    })
    .refused(&["/features", "stored bytes"]);
    Bad::new(|f| {
        f.unlink("labels").unwrap();
        f.new_dataset::<i64>().shape(6).create("labels").unwrap();
    })
    .refused(&["/labels", "stored bytes"]);
}

#[test]
fn what_is_allowed_but_odd_is_a_warning() {
    let mut data = good();
    data.splits.get_mut("random").unwrap().train = vec![0];
    data.adjacency = SparseMatrix::new((6, 6), vec![0, 1, 2, 2, 2, 2, 2], vec![1, 2], vec![1.0, -2.0]);
    let summary = Summary::of(&data);
    assert!(summary.directed && summary.weighted);
    assert_eq!((summary.edges, summary.isolated, summary.unlabelled), (2, 3, 1));
    for words in ["directed", "negative", "no training node of class 1"] {
        assert!(summary.warnings.iter().any(|w| w.contains(words)), "{summary}");
    }
}

/// As training has it, an edge of weight 0 is no edge.
#[test]
fn edges_of_weight_0_are_not_counted() {
    let mut data = good();
    let with = Summary::of(&data);
    data.adjacency =
        SparseMatrix::new((6, 6), vec![0, 2, 3, 3, 3, 4, 4], vec![1, 5, 0, 2], vec![1.0, 0.0, 1.0, 0.0]);
    let summary = Summary::of(&data);
    assert!(!summary.directed && !summary.weighted && !with.directed);
    assert_eq!((summary.edges, summary.isolated), (1, 4));
    assert!(summary.warnings.iter().any(|w| w.starts_with("2 stored edges have weight 0")), "{summary}");
}

#[test]
fn classes_that_validation_nodes_lack_are_a_warning() {
    let mut data = good();
    let warned = |data: &Dataset, words: &str| Summary::of(data).warnings.iter().any(|w| w.contains(words));
    // The one validation node is of class 0.
    assert!(warned(&data, "no validation node of class 1") && !warned(&data, "no training node"));
    data.labels[2] = -1;
    assert!(!warned(&data, "no validation node of class"));
    assert!(warned(&data, "no validation node has a label"));
}

#[test]
fn writing_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.h5");
    good().write(&path, false).unwrap();
    let before = checksum(&path).unwrap();
    let error = good().write(&path, false).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--overwrite"), "{error}");

    let mut wrong = good();
    wrong.labels[0] = 9;
    let error = wrong.write(&path, true).unwrap_err();
    assert!(error.to_string().contains("/labels[0]"), "{error}");
    assert_eq!(checksum(&path).unwrap(), before);

    let mut dense = good();
    dense.features = Features::Dense(arr2(&[[0.5, 1.0]; 6]));
    dense.write(&path, true).unwrap();
    assert_eq!(Dataset::read(&path).unwrap(), dense);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");
    // A missing folder is made; a file is no folder.
    good().write(folder.path().join("missing/data.h5"), false).unwrap();
    assert_eq!(good().write(path.join("data.h5"), false).unwrap_err().exit_code(), 2);
}

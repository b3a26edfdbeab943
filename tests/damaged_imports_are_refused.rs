//! Are cut off, damaged and hostile files of published formats refused, without a panic, a hang or
//! a large allocation? All files are made here.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use pdadmm_g::dataset::import::npy::NumpyArray;
use pdadmm_g::dataset::import::pickle::Pickle;
use pdadmm_g::dataset::import::{edge_list, graphsaint, npz, ogb, planetoid};
use pdadmm_g::dataset::{Dataset, DatasetError, Features, Summary};
use pdadmm_g::progress::Steps;
use pdadmm_g::storage::StorageError;

#[path = "support/tiny_imports.rs"]
mod tiny_imports;

use tiny_imports::*;

#[test]
fn tiny_planetoid_files_follow_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    write_planetoid(folder.path(), &tiny_planetoid());
    let data = planetoid::import(folder.path(), "tiny", &Steps::silent()).unwrap();
    let summary = Summary::of(&data);
    assert_eq!((summary.nodes, summary.edges, summary.isolated, summary.classes), (8, 4, 2, 2));
    assert_eq!(data.labels, [0, 1, 1, 0, 0, 1, 0, 1]);
    let Features::Sparse(features) = &data.features else { panic!("sparse") };
    let dense = features.to_dense();
    assert_eq!(dense.row(0).to_vec(), [2.0, 1.0, 0.0]);
    assert_eq!(dense.row(7).to_vec(), [5.0, 0.0, 0.0]);
    assert_eq!(dense.row(4).to_vec(), [0.0, 6.0, 0.0]);
    assert_eq!(dense.row(6).to_vec(), [0.0; 3]);
    assert_eq!(features.nnz(), 7);
    let split = &data.splits["public"];
    assert_eq!(
        (&split.train[..], &split.val[..], &split.test[..]),
        (&[0, 1][..], &[2, 3][..], &[4, 5, 7][..])
    );
}

#[test]
fn cut_off_planetoid_files_are_refused() {
    let good = tiny_planetoid();
    for (i, (part, bytes)) in good.iter().enumerate() {
        for length in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            if *part == "test.index" && length == bytes.len() - 1 {
                continue;
            }
            let mut files = good.clone();
            files[i].1.truncate(length);
            let folder = tempfile::tempdir().unwrap();
            write_planetoid(folder.path(), &files);
            let error = planetoid::import(folder.path(), "tiny", &Steps::silent()).unwrap_err();
            assert!(error.exit_code() != 2, "{part} cut to {length}: {error}");
            assert!(
                error.to_string().contains(&format!("ind.tiny.{part}")),
                "{part} cut to {length}: {error}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let others: Vec<_> = good.iter().filter(|(other, _)| other != part).cloned().collect();
        write_planetoid(folder.path(), &others);
        let error = planetoid::import(folder.path(), "tiny", &Steps::silent()).unwrap_err();
        assert!(
            matches!(error, DatasetError::Storage(StorageError::Io { .. }))
                && error.to_string().contains(part),
            "{error}"
        );
    }
}

#[test]
fn pickles_execute_nothing() {
    let refused = |bytes: &[u8], word: &str| {
        let fault = Pickle::parse(bytes).unwrap_err().to_string();
        assert!(fault.contains(word), "{fault}");
    };
    refused(b"cos\nsystem\n(S'true'\ntR.", "os.system");
    refused(b"\x80\x02c__builtin__\neval\nU\x01x\x85R.", "__builtin__.eval");
    refused(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system");
    refused(b"(ios\nsystem\n.", "instruction");
    refused(b"\x80\x07.", "protocol 7");
    refused(b"\x80\x02T\xff\xff\xff\xffabc", "more data");
    refused(b"(((((", "more data");
    refused(b"\x80\x02\x86.", "stack");
    // A text of 60 bytes that is decoded a thousand times.
    let mut bomb = b"\x80\x02X\x3c\0\0\0".to_vec();
    bomb.extend([b'a'; 60]);
    bomb.extend(b"q\0c_codecs\nencode\nq\x01X\x06\0\0\0latin1q\x02");
    (0..1000).for_each(|_| bomb.extend(b"h\x01h\0h\x02\x86R"));
    bomb.push(b'.');
    refused(&bomb, "no more text");
    // Nesting takes no call stack: a list in a list in a list.
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    Pickle::parse(&deep).unwrap();
    // A list that holds itself.
    Pickle::parse(b"]q\0h\0a.").unwrap();
}

#[test]
fn tiny_npz_files_follow_the_rules() {
    for deflate in [false, true] {
        let data = npz::import_bytes(&archive(&tiny_members(), deflate), "tiny").unwrap();
        let summary = Summary::of(&data);
        assert_eq!(
            (summary.nodes, summary.edges, summary.nonzero_features, summary.features),
            (12, 12, 10, 2)
        );
        assert_eq!(data.splits.len(), 10);
    }
}

#[test]
fn damaged_npz_files_are_refused() {
    let whole = archive(&tiny_members(), false);
    for length in (0..whole.len()).step_by(97) {
        npz::import_bytes(&whole[..length], "tiny").unwrap_err();
    }
    let with = |name: &str, bytes: Vec<u8>| {
        let mut members = tiny_members();
        members.iter_mut().filter(|(member, _)| *member == name).for_each(|member| member.1 = bytes.clone());
        npz::import_bytes(&archive(&members, true), "tiny").unwrap_err().to_string()
    };
    let huge = with("adj_data", npy("'<f4'", "(1000000000000,)", &[]));
    assert!(huge.contains("adj_data.npy") && huge.contains("1000000000000"), "{huge}");
    let overflow = with("adj_data", npy("'<f4'", "(4611686018427387904, 4611686018427387904)", &[]));
    assert!(overflow.contains("adj_data.npy"), "{overflow}");
    let objects = with("labels", npy("'|O'", "(12,)", b"cos\nsystem\n."));
    assert!(objects.contains("labels.npy") && objects.contains("|O"), "{objects}");
    let rows = with("adj_indptr", npy("'<i4'", "(2,)", &ints(&[0, 12])));
    assert!(rows.contains("adj_"), "{rows}");
    let column = with("adj_indices", npy("'<i4'", "(12,)", &ints(&[99; 12])));
    assert!(column.contains("column numbers in 0..12"), "{column}");
    let missing = npz::import_bytes(&archive(&tiny_members()[..8], true), "tiny").unwrap_err();
    assert!(missing.to_string().contains("labels.npy"), "{missing}");
}

#[test]
fn arrays_of_other_orders_and_types_are_read() {
    let mut fortran = npy("'>i2'", "(2, 3)", &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 255, 255]);
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran.splice(at..at + 5, *b"True ");
    let array = NumpyArray::read("test", &mut &fortran[..], 1000).unwrap();
    assert_eq!(array.integers("test").unwrap(), [1, 2, 3, 4, 5, -1]);
    let halves = npy("'<f8'", "(1,)", &0.5f64.to_le_bytes());
    let array = NumpyArray::read("test", &mut &halves[..], 1000).unwrap();
    assert_eq!(array.floats("test").unwrap(), [0.5]);
    assert!(array.integers("test").is_err());
}

fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let content = content.as_ref();
    if name.ends_with(".gz") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        std::fs::write(path, encoder.finish().unwrap()).unwrap();
    } else {
        std::fs::write(path, content).unwrap();
    }
}

fn refused_with(result: Result<Dataset, DatasetError>, words: &[&str]) {
    let error = result.unwrap_err().to_string();
    words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in: {error}"));
}

#[test]
fn ogb_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "raw/node-feat.csv.gz", "0.5,1\n2,3\n4,5\n6,7\n");
    put(at, "raw/node-label.csv.gz", "0\n1.0\nnan\n1\n");
    put(at, "raw/edge.csv.gz", "0,1\n1,0\n3,2\n2,2\n");
    put(at, "raw/num-node-list.csv.gz", "4\n");
    put(at, "split/time/train.csv.gz", "0\n");
    put(at, "split/time/valid.csv.gz", "1\n");
    put(at, "split/time/test.csv.gz", "3\n");
    let data = ogb::import(at, "tiny", &Steps::silent()).unwrap();
    assert_eq!((data.labels.as_slice(), data.adjacency.nnz()), (&[0, 1, -1, 1][..], 4));
    assert_eq!(data.split(None).unwrap().0, "time");
    put(at, "raw/num-node-list.csv.gz", "5\n");
    refused_with(ogb::import(at, "tiny", &Steps::silent()), &["num-node-list.csv.gz", "line 1", "5 nodes"]);
    put(at, "raw/num-node-list.csv.gz", "4\n");
    put(at, "raw/edge.csv.gz", "0,4\n");
    refused_with(ogb::import(at, "tiny", &Steps::silent()), &["edge.csv.gz", "0..4"]);
    put(at, "raw/node-feat.csv.gz", "0.5,1\n2\n");
    refused_with(ogb::import(at, "tiny", &Steps::silent()), &["node-feat.csv.gz", "line 2", "2 columns"]);
    std::fs::write(at.join("raw/node-feat.csv.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    refused_with(ogb::import(at, "tiny", &Steps::silent()), &["node-feat.csv.gz"]);
}

#[test]
fn graphsaint_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let members: Vec<_> = tiny_members()
        .into_iter()
        .filter_map(|(name, bytes)| name.strip_prefix("adj_").map(|name| (name, bytes)))
        .collect();
    put(at, "adj_full.npz", archive(&members, true));
    put(at, "feats.npy", npy("'<f8'", "(12, 1)", &[0; 96]));
    let classes: Vec<String> = (0..11).map(|i| format!("\"{i}\": {}", i % 3)).collect();
    put(at, "class_map.json", format!("{{{}}}", classes.join(",")));
    put(at, "role.json", "{\"tr\": [0, 1], \"va\": [2], \"te\": [3, 4]}");
    let data = graphsaint::import(at, "tiny", &Steps::silent()).unwrap();
    assert_eq!((data.num_classes, data.labels[11], data.adjacency.nnz()), (3, -1, 24));
    put(at, "class_map.json", "{\"0\": [0, 1]}");
    refused_with(graphsaint::import(at, "tiny", &Steps::silent()), &["class_map.json", "one class", "[0,1]"]);
    put(at, "class_map.json", "{\"99\": 0}");
    refused_with(graphsaint::import(at, "tiny", &Steps::silent()), &["class_map.json", "0..12"]);
    put(at, "class_map.json", "{\"0\": ");
    refused_with(graphsaint::import(at, "tiny", &Steps::silent()), &["class_map.json", "line 1"]);
    put(at, "feats.npy", npy("'<f8'", "(11, 1)", &[0; 88]));
    refused_with(graphsaint::import(at, "tiny", &Steps::silent()), &["feats.npy", "12 rows"]);
}

#[test]
fn edge_list_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "edges.csv", "source,target,weight\n0,1,2\n1,0,3\n1,2,1\n3,3,1\n");
    put(at, "features.csv", "a,b\n1,2\n3,4\n5,6\n7,8\n");
    put(at, "labels.csv", "0\n1\n1\n0\n");
    put(at, "splits.csv", "node,part\n0,train\n1,train\n2,val\n3,test\n");
    let data = edge_list::import(at, "tiny", false, &Steps::silent()).unwrap();
    assert_eq!(data.adjacency.get(0, 1), Some(&3.0));
    assert_eq!((data.adjacency.nnz(), data.split(None).unwrap().0), (4, "public"));
    let directed = edge_list::import(at, "tiny", true, &Steps::silent()).unwrap();
    assert_eq!((directed.adjacency.get(0, 1), directed.adjacency.nnz()), (Some(&2.0), 3));
    put(at, "splits.csv", "0,train\n0,test\n");
    refused_with(edge_list::import(at, "tiny", false, &Steps::silent()), &["splits.csv", "line 2"]);
    put(at, "features.csv", "1,2\n3,x\n");
    refused_with(
        edge_list::import(at, "tiny", false, &Steps::silent()),
        &["features.csv", "line 2, column 2", "\"x\""],
    );
    put(at, "features.csv", "1\n2\n3\nnan\n");
    std::fs::remove_file(at.join("splits.csv")).unwrap();
    refused_with(edge_list::import(at, "tiny", false, &Steps::silent()), &["/features[3, 0]", "NaN"]);
    std::fs::remove_file(at.join("edges.csv")).unwrap();
    refused_with(edge_list::import(at, "tiny", false, &Steps::silent()), &["edges.csv", "no such file"]);
}

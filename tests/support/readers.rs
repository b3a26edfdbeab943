//! One entry for each reader, written by us, of bytes from outside; each says whether it took them. Fuzz targets and
//! tests include it with `#[path]`.
#![allow(dead_code)]

use std::path::Path;

use pdadmm_g::dataset::import::npy::NumpyArray;
use pdadmm_g::dataset::import::{edge_list, graphsaint, npz, ogb, planetoid};
use pdadmm_g::progress::Steps;
use pdadmm_g::quantize::{Expected, Header, Kind, LevelSet, Scratch, Stream, Wire, decode_raw};
use pdadmm_g::settings::RawSettings;

/// A reader and the folder of `tests/seeds` with what it takes.
pub struct Reader {
    pub name: &'static str,
    pub read: fn(&[u8]) -> bool,
}

pub const READERS: [Reader; 9] = [
    Reader { name: "pickle", read: pickle },
    Reader { name: "test-index", read: test_index },
    Reader { name: "npy", read: npy },
    Reader { name: "npz", read: npz },
    Reader { name: "csv", read: csv },
    Reader { name: "gzip", read: gzip },
    Reader { name: "json", read: json },
    Reader { name: "settings", read: settings },
    Reader { name: "message", read: message },
];

/// The pickles of Planetoid: a matrix, classes or neighbours.
pub fn pickle(bytes: &[u8]) -> bool {
    planetoid::read_any(bytes).iter().any(Result::is_ok)
}

/// The text file of Planetoid, after four rows of `allx` and for three of `tx`.
pub fn test_index(bytes: &[u8]) -> bool {
    planetoid::read_test_index(bytes, 4, 3).is_ok()
}

pub fn npy(bytes: &[u8]) -> bool {
    match NumpyArray::read("fuzz", &mut &bytes[..], bytes.len() as u64) {
        Ok(array) => array.integers("fuzz").is_ok() | array.floats("fuzz").is_ok(),
        Err(_) => false,
    }
}

pub fn npz(bytes: &[u8]) -> bool {
    npz::import_bytes(bytes, "fuzz").is_ok()
}

/// What separates the files of a folder in one input.
pub const SEPARATOR: &[u8] = b"\n====\n";

fn in_folder(read: impl FnOnce(&Path) -> bool) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    read(folder.path())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    let parent = path.parent().expect("a folder");
    std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, bytes)).expect("a temporary file");
}

fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + SEPARATOR.len()..];
    }
    parts.push(bytes);
    parts
}

/// A folder of CSV files: edges, features, labels and perhaps splits.
pub fn csv(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        let names = ["edges.csv", "features.csv", "labels.csv", "splits.csv"];
        names.iter().zip(parts(bytes)).for_each(|(name, part)| put(folder, name, part));
        edge_list::import(folder, "fuzz", false, &Steps::silent()).is_ok()
    })
}

/// A gzipped CSV file, as the features of an OGB folder.
pub fn gzip(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        put(folder, "raw/node-feat.csv.gz", bytes);
        for (name, text) in [
            ("raw/node-label.csv", "0\n1\nnan\n1\n"),
            ("raw/edge.csv", "0,1\n1,0\n3,2\n"),
            ("raw/num-node-list.csv", "4\n"),
            ("split/time/train.csv", "0\n"),
            ("split/time/valid.csv", "1\n"),
            ("split/time/test.csv", "3\n"),
        ] {
            put(folder, name, text.as_bytes());
        }
        ogb::import(folder, "fuzz", &Steps::silent()).is_ok()
    })
}

/// The two JSON files of a GraphSAINT folder, after the seed of npz and an array of 12 rows.
pub fn json(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        let names = ["class_map.json", "role.json"];
        names.iter().zip(parts(bytes)).for_each(|(name, part)| put(folder, name, part));
        put(folder, "adj_full.npz", include_bytes!("../seeds/graphsaint-adjacency"));
        put(folder, "feats.npy", include_bytes!("../seeds/graphsaint-features"));
        graphsaint::import(folder, "fuzz", &Steps::silent()).is_ok()
    })
}

/// Settings in TOML, read and checked.
pub fn settings(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    RawSettings::from_text(text, Path::new("fuzz.toml")).is_ok_and(|raw| raw.check().is_ok())
}

pub const HEADER: Expected =
    Header { kind: Kind::P, boundary: 3, block: 1, iteration: 170, rows: 5, cols: 7 };

/// Four bits over [0, 3].
pub fn levels() -> LevelSet {
    LevelSet::with_bits(0.0, 3.0, 4).expect("a level set")
}

/// A stream that has seen a message.
pub fn started() -> Stream {
    let mut stream = Stream::new();
    let values: Vec<f32> = (0..35).map(|i| levels().value(i % 16) as f32).collect();
    stream.start_from(&levels(), &values);
    stream
}

/// A message between ranks: the first byte chooses what the receiver expects, the rest is the message without its
/// checksum, which is put right, or nothing behind it would ever be reached.
pub fn message(bytes: &[u8]) -> bool {
    let Some((&choice, body)) = bytes.split_first() else { return false };
    let mut stream = if choice % 8 < 4 { Stream::new() } else { started() };
    let wire = [Wire::F32, Wire::F16, Wire::Bf16].get(usize::from(choice % 8));
    let digest = if wire.is_some() { 0 } else { u32::from(stream.state().digest) };
    let mut message = body.to_vec();
    message.extend((crc32fast::hash(body) ^ digest).to_le_bytes());
    let mut values = [0f32; 35];
    match wire {
        Some(&wire) => decode_raw(&message, &HEADER, wire, &mut values).is_ok(),
        None => stream.decode(&message, &HEADER, &levels(), &mut values, &mut Scratch::default()).is_ok(),
    }
}

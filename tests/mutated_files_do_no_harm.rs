//! Does each of our readers take or refuse damaged bytes, and nothing else: no panic, no endless loop, no allocation
//! beyond a limit? Where `PDADMM_WRITE_SEEDS` is set, the seeds are written anew first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::type_complexity)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pdadmm_g::inspection::FileKind;
use pdadmm_g::quantize::{Scratch, Stream, Wire, encode_raw};
use peak_alloc::PeakAlloc;

#[path = "support/mutator.rs"]
mod mutator;
#[path = "support/readers.rs"]
mod readers;
#[path = "support/tiny_hdf5.rs"]
mod tiny_hdf5;
#[path = "support/tiny_imports.rs"]
mod tiny_imports;

use mutator::{Mutator, mutations};
use readers::{READERS, SEPARATOR};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// Memory is counted for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Most that any reader may take at once for an input of a few kilobytes: above all, a label may say that there are
/// 2^20 classes.
const LIMIT: usize = 64 << 20;
/// Most for a few dozen bytes that declare 10^12 of something.
const LIMIT_OF_A_LIE: usize = 1 << 20;
/// An input that takes longer is an endless loop.
const ENDLESS: Duration = Duration::from_secs(60);

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|broken| broken.into_inner())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The most memory that `work` held at once beyond what was there.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

/// Ends the process if one input takes too long.
fn watch(name: &'static str, progress: &'static AtomicUsize) {
    std::thread::spawn(move || {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = progress.load(Ordering::Relaxed);
            if now == usize::MAX {
                return;
            }
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > ENDLESS {
                println!("{name}: mutation {now} does not end");
                std::process::abort();
            }
        }
    });
}

#[test]
fn mutated_bytes_are_taken_or_refused() {
    let _alone = alone();
    write_seeds();
    for reader in &READERS {
        let seeds = seeds(reader.name);
        for (i, seed) in seeds.iter().enumerate() {
            assert!((reader.read)(seed), "{}: seed {i} is refused", reader.name);
        }
        let (mut taken, mut most) = (0, 0);
        let progress: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        watch(reader.name, progress);
        let wanted = mutations(4_000);
        let count = wanted.len();
        for number in wanted {
            let input = Mutator::of(number).mutate(&seeds[number % seeds.len()]);
            let (outcome, bytes) = peak(|| std::panic::catch_unwind(|| (reader.read)(&input)));
            let outcome = outcome
                .unwrap_or_else(|_| panic!("{}: mutation {number} made it panic: {input:?}", reader.name));
            assert!(bytes <= LIMIT, "{}: mutation {number} took {bytes} bytes", reader.name);
            taken += usize::from(outcome);
            most = most.max(bytes);
            progress.store(number + 1, Ordering::Relaxed);
        }
        progress.store(usize::MAX, Ordering::Relaxed);
        println!("{}: {taken} of {count} taken, at most {most} bytes at once", reader.name);
        assert!(taken < count);
    }
}

/// Members of an npz archive, mutated behind a right checksum of the archive.
#[test]
fn mutated_arrays_in_a_sound_archive_are_taken_or_refused() {
    let _alone = alone();
    for number in mutations(4_000) {
        let mut members = tiny_imports::tiny_members();
        let at = number % members.len();
        members[at].1 = Mutator::of(number).mutate(&members[at].1);
        let archive = tiny_imports::archive(&members, false);
        let (_, bytes) = peak(|| readers::npz(&archive));
        assert!(bytes <= LIMIT, "mutation {number} took {bytes} bytes");
    }
}

/// A few dozen bytes that declare 10^12 rows, bytes, layers or levels: refused at once, and no memory taken.
#[test]
fn small_files_that_declare_much_are_refused_at_once() {
    let _alone = alone();
    let huge = "1000000000000";
    let mut text = b"\x80\x04\x8e".to_vec();
    text.extend(1_000_000_000_000u64.to_le_bytes());
    text.extend([b'a'; 29]);
    let mut shape = b"\x80\x02cnumpy\nndarray\n(J".to_vec();
    shape.extend([0xff; 20]);
    let array = |shape: &str| tiny_imports::npy("'<f4'", shape, &[0; 8]);
    let member = |shape: &str| {
        let mut members = tiny_imports::tiny_members();
        members[0].1 = array(shape);
        tiny_imports::archive(&members, true)
    };
    let mut message = vec![3, 0xb2, 1 | 2 << 3, 3, 1, 170, 1];
    message.extend([
        0xff, 0xff, 0xff, 0xff, 0x0f, 7, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
    ]);
    let json = [format!("{{\"{huge}\": {huge}}}").as_bytes(), SEPARATOR, b"{}"].concat();
    let csv = [format!("0,{huge}").as_bytes(), b"1\n", huge.as_bytes()].join(SEPARATOR);
    let lies: Vec<(&str, fn(&[u8]) -> bool, Vec<u8>)> = vec![
        ("pickle, a text", readers::pickle, text),
        ("pickle, cut off", readers::pickle, shape),
        ("test.index", readers::test_index, format!("4 5 {huge}").into_bytes()),
        ("npy", readers::npy, array(&format!("({huge},)"))),
        ("npy, rows", readers::npy, array(&format!("({huge}, {huge})"))),
        ("npz", readers::npz, member(&format!("({huge},)"))),
        ("csv", readers::csv, csv),
        ("json", readers::json, json),
        ("settings, layers", readers::settings, format!("data='a'\noutput='b'\nlayers={huge}").into_bytes()),
        (
            "settings, neurons",
            readers::settings,
            format!("data='a'\noutput='b'\nneurons={huge}").into_bytes(),
        ),
        (
            "settings, levels",
            readers::settings,
            b"data='a'\noutput='b'\nquantize='p'\nlevels='0:1e12:1'".to_vec(),
        ),
        (
            "settings, hops",
            readers::settings,
            format!("data='a'\noutput='b'\noperators='hop:{huge}'").into_bytes(),
        ),
        ("message", readers::message, message),
    ];
    for (name, read, bytes) in lies {
        let (taken, most) = peak(|| read(&bytes));
        println!("{name}: {} bytes, {most} taken at most", bytes.len());
        assert!(!taken, "{name} is taken");
        assert!(most <= LIMIT_OF_A_LIE, "{name}: {most} bytes");
    }
}

/// What the readers take, made from the tiny imports and by our own writers.
fn write_seeds() {
    if std::env::var_os("PDADMM_WRITE_SEEDS").is_none() {
        return;
    }
    let put = |name: &str, bytes: &[u8]| {
        let path = folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for (part, bytes) in tiny_imports::tiny_planetoid() {
        match part {
            "test.index" => put("test-index/test-index", &bytes),
            "allx" | "ally" | "graph" => put(&format!("pickle/{part}"), &bytes),
            _ => {}
        }
    }
    put("npy/floats", &tiny_imports::npy("'<f4'", "(2, 3)", &tiny_imports::floats(&[1.0; 6])));
    put("npy/integers", &tiny_imports::npy("'>i2'", "(3,)", &[0, 1, 0, 2, 255, 255]));
    put("npz/stored", &tiny_imports::archive(&tiny_imports::tiny_members(), false));
    put("npz/deflated", &tiny_imports::archive(&tiny_imports::tiny_members(), true));
    let adjacency: Vec<_> = tiny_imports::tiny_members()
        .into_iter()
        .filter_map(|(name, bytes)| name.strip_prefix("adj_").map(|name| (name, bytes)))
        .collect();
    put("graphsaint-adjacency", &tiny_imports::archive(&adjacency, true));
    put("graphsaint-features", &tiny_imports::npy("'|u1'", "(12, 1)", &[1; 12]));
    let edges = "source,target,weight\n0,1,2\n1,0,3\n1,2,1\n3,3,1\n";
    let files =
        [edges, "1,2\n3,4\n5,6\n7,8\n", "0\n1\n1\n0\n", "node,part\n0,train\n1,train\n2,val\n3,test\n"];
    put("csv/folder", &files.map(str::as_bytes).join(SEPARATOR));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, b"0.5,1\n2,3\n4,5\n6,7\n").unwrap();
    put("gzip/features", &encoder.finish().unwrap());
    let classes: Vec<String> = (0..12).map(|i| format!("\"{i}\": {}", i % 3)).collect();
    let roles = "{\"tr\": [0, 1], \"va\": [2], \"te\": [3, 4]}";
    put("json/folder", &[format!("{{{}}}", classes.join(",")).as_bytes(), roles.as_bytes()].join(SEPARATOR));
    let settings = "data = \"graph.h5\"\noutput = \"run\"\noperators = \"0,ppr:0.1:4,heat:1.5:3,sum:1:3\"\nlayers = 5\n\
                    stages = [2, 5]\nnu = 1e-3\ntolerance = [1e-4, 1e-3]\nquantize = \"p\"\nlevels = \"-1:20:1\"\n\
                    wire = \"f32\"\nprecision = \"f32\"\nblock-nodes = 100\n";
    put("settings/all", settings.as_bytes());
    put(
        "settings/bits",
        b"data='g.h5'\noutput='r'\nquantize='pq'\nbits=4\nseed=7\nfeature-norm='row'\nthreads=2\n",
    );
    write_messages(&put);
    for kind in [FileKind::Dataset, FileKind::Model, FileKind::Checkpoint] {
        let path = folder().join(format!("{kind:?}").to_lowercase()).join("tiny");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        tiny_hdf5::write(kind, &path);
    }
}

fn write_messages(put: &dyn Fn(&str, &[u8])) {
    let without_checksum = |choice: u8, message: &[u8]| {
        let mut seed = vec![choice];
        seed.extend(&message[..message.len() - 4]);
        seed
    };
    let levels = readers::levels();
    let mut message = Vec::new();
    let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.37 - 3.0).collect();
    for (choice, wire) in [Wire::F32, Wire::F16, Wire::Bf16].into_iter().enumerate() {
        encode_raw(&readers::HEADER, wire, &values, &mut message).unwrap();
        put(&format!("message/raw-{choice}"), &without_checksum(choice as u8, &message));
    }
    let on_levels = |change: fn(usize) -> u32| -> Vec<f32> {
        (0..35).map(|i| levels.value(change(i) % 16) as f32).collect()
    };
    let changes: [(&str, fn(usize) -> u32); 4] = [
        ("zeros", |_| 0),
        ("same", |i| i as u32),
        ("few", |i| i as u32 + u32::from(i == 20)),
        ("many", |i| (i * i) as u32),
    ];
    for (choice, name, start) in [(3, "first", false), (4, "next", true)] {
        for (change, values) in changes {
            let mut stream = if start { readers::started() } else { Stream::new() };
            let mut scratch = Scratch::default();
            stream.encode(&readers::HEADER, &levels, &on_levels(values), &mut scratch, &mut message).unwrap();
            put(&format!("message/{name}-{change}"), &without_checksum(choice, &message));
        }
    }
}

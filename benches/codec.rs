//! How fast is the codec, in bytes of the float32 input a second on one core?
//!
//! 2,048 nodes by 512 neurons, at 4 and 8 bits, with 0.1 %, 2 %, 20 % and all indices changed by a level or a few.
//! The claim: encoding plus decoding takes at most the input's bytes / 1 GB/s at 4 bits, and / 1.5 GB/s where at most
//! 2 % have changed: a throughput of `both` of 1 or 1.5 GB/s, which criterion prints as 0.93 or 1.4 GiB/s.
#![allow(missing_docs, clippy::unwrap_used)]

use cpu_time::ThreadTime;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pdadmm_g::quantize::{Header, Kind, LevelSet, Scratch, Stream};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Time that this thread has had of a core: other work on the machine does not count.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = ThreadTime;
    type Value = std::time::Duration;

    fn start(&self) -> ThreadTime {
        ThreadTime::now()
    }
    fn end(&self, start: ThreadTime) -> std::time::Duration {
        start.elapsed()
    }
    fn add(&self, a: &Self::Value, b: &Self::Value) -> Self::Value {
        *a + *b
    }
    fn zero(&self) -> Self::Value {
        std::time::Duration::ZERO
    }
    fn to_f64(&self, value: &Self::Value) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

const ROWS: usize = 2048;
const COLS: usize = 512;
const HEADER: Header =
    Header { kind: Kind::P, boundary: 1, block: 0, iteration: 1, rows: ROWS as u32, cols: COLS as u32 };

/// Activations before and after an iteration in which this share of the indices changed.
fn blocks(levels: &LevelSet, share: f64) -> [Vec<f32>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let top = levels.count() - 1;
    let before: Vec<u32> = (0..ROWS * COLS)
        .map(|_| {
            if rng.random_bool(0.5) { 0 } else { rng.random_range(0..=top) * rng.random_range(0..=top) / top }
        })
        .collect();
    let step = |index: u32, rng: &mut ChaCha8Rng| {
        let size = if rng.random_bool(0.8) { 1 } else { rng.random_range(1..=top.min(8)) };
        if index >= size && (rng.random_bool(0.5) || index + size > top) {
            index - size
        } else {
            index + size
        }
    };
    let after: Vec<u32> =
        before.iter().map(|&i| if rng.random_bool(share) { step(i, &mut rng) } else { i }).collect();
    [before, after].map(|indices| {
        let mut values = vec![0f32; indices.len()];
        levels.values_of(&indices, &mut values);
        values
    })
}

fn codec(criterion: &mut Criterion<CpuTime>) {
    for bits in [4, 8] {
        let levels = LevelSet::squares(2f64.powi(-2 * bits), 1 << bits).unwrap();
        for share in [0.001, 0.02, 0.2, 1.0] {
            let [before, after] = blocks(&levels, share);
            let mut start = Stream::new();
            start.start_from(&levels, &before);
            let (mut scratch, mut message) = (Scratch::default(), Vec::new());
            let mut values = vec![0f32; after.len()];
            let form = start.clone().encode(&HEADER, &levels, &after, &mut scratch, &mut message).unwrap();
            let ratio = (4 * after.len()) as f64 / message.len() as f64;
            println!("{bits} bits, {} % changed: {form:?}, 1/{ratio:.0} of float32", share * 100.0);

            let mut group = criterion.benchmark_group(format!("{bits} bits"));
            group.throughput(Throughput::Bytes(4 * after.len() as u64)).sample_size(50);
            let percent = format!("{}%", share * 100.0);
            let streams = || (start.clone(), start.clone());
            group.bench_function(BenchmarkId::new("encode", &percent), |bencher| {
                bencher.iter_batched_ref(
                    streams,
                    |(sender, _)| {
                        sender.encode(&HEADER, &levels, &after, &mut scratch, &mut message).unwrap()
                    },
                    criterion::BatchSize::LargeInput,
                );
            });
            group.bench_function(BenchmarkId::new("decode", &percent), |bencher| {
                bencher.iter_batched_ref(
                    streams,
                    |(_, receiver)| {
                        receiver.decode(&message, &HEADER, &levels, &mut values, &mut scratch).unwrap()
                    },
                    criterion::BatchSize::LargeInput,
                );
            });
            group.bench_function(BenchmarkId::new("both", &percent), |bencher| {
                bencher.iter_batched_ref(
                    streams,
                    |(sender, receiver)| {
                        sender.encode(&HEADER, &levels, &after, &mut scratch, &mut message).unwrap();
                        receiver.decode(&message, &HEADER, &levels, &mut values, &mut scratch).unwrap()
                    },
                    criterion::BatchSize::LargeInput,
                );
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = codec
}
criterion_main!(benches);

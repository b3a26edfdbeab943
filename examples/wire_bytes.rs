//! How many bytes does the exchange of p and q take over whole runs, and what does it cost in accuracy?
//!
//! Trains over several seeds with p and q as they are and on 8 and 4 bits, one layer a rank at full depth, ranks being
//! threads of this process, and prints a line for each: test accuracy at the best validation and at the end, bytes,
//! and the ratio to 12 bytes an element, iteration and boundary.
//!
//! ```text
//! cargo run --release --example wire_bytes -- --data cora.h5
//! ```

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use pdadmm_g::parallel::ThreadCommunicator;
use pdadmm_g::quantize::Wire;
use pdadmm_g::settings::{Quantize, RawSettings};
use pdadmm_g::train::output::Summary;
use pdadmm_g::train::{RunOptions, train};

#[derive(Debug, Parser)]
struct Arguments {
    /// Data set (HDF5)
    #[arg(long, value_name = "FILE.h5")]
    data: PathBuf,
    /// Splits, used in turn with the seeds [default: the data set's first choice]
    #[arg(long, value_delimiter = ',')]
    splits: Vec<String>,
    /// Seeds 0 to this, less one
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Layers, and ranks
    #[arg(long, default_value_t = 10)]
    layers: usize,
    /// Neurons of a hidden layer
    #[arg(long, default_value_t = 100)]
    neurons: usize,
    /// Iterations of each stage
    #[arg(long, default_value_t = 200)]
    iterations: usize,
    /// Iterations between evaluations
    #[arg(long, default_value_t = 5)]
    evaluate_every: usize,
    /// Ways to send: none, f16, bf16, or p, q, pq with bits, such as pq8
    #[arg(long, value_delimiter = ',', default_value = "none,f16,pq8,pq4")]
    ways: Vec<String>,
    /// Other settings, as in a file for --config
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

fn settings(
    arguments: &Arguments,
    way: &str,
    seed: u64,
    output: PathBuf,
) -> Result<RawSettings, Box<dyn Error>> {
    let split = match arguments.splits.len() {
        0 => None,
        n => Some(arguments.splits[seed as usize % n].clone()),
    };
    let mut raw = RawSettings {
        data: Some(arguments.data.clone()),
        output: Some(output),
        split,
        layers: Some(arguments.layers),
        neurons: Some(arguments.neurons),
        iterations: Some(arguments.iterations),
        evaluate_every: Some(arguments.evaluate_every),
        seed: Some(seed),
        ..RawSettings::default()
    };
    let digits = way.find(|c: char| c.is_ascii_digit()).unwrap_or(way.len());
    match (&way[..digits], way) {
        (_, "none") => {}
        (_, "f16") => raw.wire = Some(Wire::F16),
        (_, "bf16") => raw.wire = Some(Wire::Bf16),
        (what, _) => {
            raw.quantize = Some(match what {
                "p" => Quantize::P,
                "q" => Quantize::Q,
                "pq" => Quantize::Pq,
                _ => return Err(format!("no way to send: {way}").into()),
            });
            raw.bits = Some(way[digits..].parse()?);
        }
    }
    Ok(match &arguments.config {
        Some(path) => raw.over(RawSettings::from_file(path)?),
        None => raw,
    })
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "way    test at best      test at end       p and q bytes  messages    ratio  stage starts and evaluations  \
         encode s  decode s"
    )?;
    for way in &arguments.ways {
        let mut runs: Vec<Summary> = Vec::new();
        for seed in 0..arguments.seeds {
            let raw = settings(&arguments, way, seed, folder.path().join(format!("{way}-{seed}")))?;
            let checked = raw.check()?;
            let outcomes = ThreadCommunicator::run(arguments.layers, |communicator| {
                let options = RunOptions { overwrite: true, ..RunOptions::default() };
                train::<f32>(&checked, communicator, options).map(|outcome| outcome.summary)
            });
            runs.push(outcomes.into_iter().next().ok_or("no ranks")??);
        }
        let mean = |of: &dyn Fn(&Summary) -> f64| {
            let values: Vec<f64> = runs.iter().map(of).collect();
            mean_and_deviation(&values)
        };
        let best = mean(&|run| run.best.test.unwrap_or(f64::NAN));
        let last = mean(&|run| run.accuracy.test.unwrap_or(f64::NAN));
        let bytes = mean(&|run| (run.bytes.p + run.bytes.q) as f64).0;
        writeln!(
            out,
            "{way:6} {:.4} +- {:.4}  {:.4} +- {:.4}  {bytes:13.0}  {:8.0}  {:7.1}  {:28.0}  {:8.3}  {:8.3}",
            best.0,
            best.1,
            last.0,
            last.1,
            mean(&|run| run.bytes.messages as f64).0,
            mean(&|run| run.bytes.baseline as f64).0 / bytes,
            mean(&|run| run.bytes.other as f64).0,
            mean(&|run| run.seconds.encode).0,
            mean(&|run| run.seconds.decode).0,
        )?;
    }
    Ok(())
}

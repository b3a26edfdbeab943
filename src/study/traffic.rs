//! Test accuracy against bytes between ranks, for every way to send p and q: the paper's Figure 5.
//!
//! Ranks are threads of this process, one a layer at full depth, so that every boundary is one between ranks.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use crate::inspection::InspectionError;
use crate::parallel::ThreadCommunicator;
use crate::progress::{seconds_left, time};
use crate::quantize::{Coding, Wire};
use crate::report::PlotError;
use crate::report::scatter::{Point, ScatterPlot, Series, kind_of_levels};
use crate::settings::{Method, Precision, Quantize, RawSettings, Settings, SettingsError};
use crate::train::output::Summary;
use crate::train::{RunOptions, TrainError, train};

/// The files of a study.
const FILES: [&str; 2] = ["traffic.csv", "traffic.svg"];

/// A way to send p and q: `none`, `f16`, `bf16`, or `p`, `q`, `pq` with bits, as in `pq8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As they are, or as 16-bit numbers.
    Plain(Option<Wire>),
    /// On level sets.
    Levels(Quantize, u32),
}

/// A word that is no way to send.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is no way to send p and q: expected none, f16, bf16, or p, q or pq with bits, as in pq8")]
pub struct WayError(String);

impl FromStr for Way {
    type Err = WayError;

    fn from_str(text: &str) -> Result<Self, WayError> {
        let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let bits = || text[digits..].parse().ok().filter(|bits| (1..=16).contains(bits));
        match (text, &text[..digits]) {
            ("none", _) => return Ok(Way::Plain(None)),
            ("f16", _) => return Ok(Way::Plain(Some(Wire::F16))),
            ("bf16", _) => return Ok(Way::Plain(Some(Wire::Bf16))),
            (_, "p") => bits().map(|bits| Way::Levels(Quantize::P, bits)),
            (_, "q") => bits().map(|bits| Way::Levels(Quantize::Q, bits)),
            (_, "pq") => bits().map(|bits| Way::Levels(Quantize::Pq, bits)),
            _ => None,
        }
        .ok_or_else(|| WayError(text.to_owned()))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantized = |quantize: &Quantize| match quantize {
            Quantize::None => "none",
            Quantize::P => "p",
            Quantize::Q => "q",
            Quantize::Pq => "pq",
        };
        match self {
            Way::Plain(None) => f.write_str("none"),
            Way::Plain(Some(wire)) => write!(f, "{wire}"),
            Way::Levels(quantize, bits) => write!(f, "{}{bits}", quantized(quantize)),
        }
    }
}

impl Way {
    /// none, f16, and {p, q, pq} × {16, 8, 4, 2 bits}.
    pub fn of_the_figure() -> Vec<Way> {
        let levels = [Quantize::P, Quantize::Q, Quantize::Pq]
            .into_iter()
            .flat_map(|quantize| [16, 8, 4, 2].map(|bits| Way::Levels(quantize, bits)));
        [Way::Plain(None), Way::Plain(Some(Wire::F16))].into_iter().chain(levels).collect()
    }

    /// The codings that are compared.
    fn codings(self) -> &'static [Coding] {
        match self {
            Way::Plain(_) => &[Coding::Smallest],
            Way::Levels(..) => &[Coding::Smallest, Coding::Packed],
        }
    }

    /// Where it is in the plot, and what stands beside its point.
    fn place(self) -> (&'static str, usize, String) {
        let (quantize, label) = match self {
            Way::Plain(_) => (Quantize::None, self.to_string()),
            Way::Levels(quantize, bits) => (quantize, format!("{bits} bits")),
        };
        let (name, colour) = kind_of_levels(quantize);
        (name, colour, label)
    }
}

/// Inspects a file and gives its checksum.
pub type Inspect = fn(&Path) -> Result<String, InspectionError>;

/// What to run.
#[derive(Debug)]
pub struct TrafficStudy {
    /// Settings of every run but for data path, way and seed; the output folder is the study's.
    pub base: RawSettings,
    /// Splits, used in turn with the seeds; the data set's default where there are none.
    pub splits: Vec<String>,
    /// Runs of each way, with seeds from the base's on.
    pub runs: u64,
    /// Ways to send.
    pub ways: Vec<Way>,
    /// Inspects the data set before the first run and gives its checksum; `None` trusts it.
    pub inspect: Option<Inspect>,
    /// Replace an earlier study.
    pub overwrite: bool,
}

/// One run, a row of `traffic.csv`.
#[derive(Debug, Clone, Serialize)]
pub struct TrafficRow {
    /// Way to send.
    pub way: String,
    /// How level indices travel; empty where there are none.
    pub coding: String,
    /// Seed.
    pub seed: u64,
    /// Split.
    pub split: String,
    /// Test accuracy at the best validation accuracy.
    pub test_at_best: Option<f64>,
    /// Test accuracy at the end.
    pub test_at_end: Option<f64>,
    /// Bytes of p and q, headers and checksums included.
    pub bytes: u64,
    /// 12 bytes an element, iteration and boundary.
    pub bytes_baseline: u64,
    /// Base line over bytes.
    pub ratio: Option<f64>,
    /// Bytes of stage starts and evaluations.
    pub bytes_other: u64,
    /// Messages of p and q.
    pub messages: u64,
    /// Seconds spent writing messages, over all ranks.
    pub encode_seconds: f64,
    /// Seconds spent reading messages.
    pub decode_seconds: f64,
    /// Wall time of the run.
    pub seconds: f64,
}

/// A study that could not be finished.
#[derive(Debug, Error)]
pub enum StudyError {
    /// Settings that no run can start with.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A run failed.
    #[error("{way}, seed {seed}: {source}")]
    Run {
        /// The way to send.
        way: String,
        /// The seed.
        seed: u64,
        /// Why.
        source: Box<TrainError>,
    },
    /// The data set is not fit to be read.
    #[error(transparent)]
    Inspection(#[from] InspectionError),
    /// A run had no ranks.
    #[error("a run without ranks")]
    NoRanks,
    /// The folder holds a study already.
    #[error("{0} exists: choose another --output, or --overwrite to replace it")]
    Occupied(PathBuf),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The plot could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

impl StudyError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            StudyError::Settings(_) | StudyError::Occupied(_) => 2,
            StudyError::Run { source, .. } => source.exit_code(),
            StudyError::Inspection(error) => error.exit_code(),
            _ => 1,
        }
    }
}

/// Runs a study: one row of `traffic.csv` a run as it ends, a line of `screen` a way, then `traffic.svg`.
///
/// Every quantized way runs twice, with its indices in the smallest form and packed; the models are the same.
///
/// # Errors
/// Settings, a run, or a file; what has been written stays.
pub fn run(study: &TrafficStudy, screen: &mut dyn Write) -> Result<Vec<TrafficRow>, StudyError> {
    let folder = study.base.output.clone().ok_or(SettingsError::Missing("output"))?;
    let fail = |path: &Path, source| StudyError::Write { path: path.to_owned(), source };
    for file in FILES.map(|name| folder.join(name)) {
        if file.exists() && !study.overwrite {
            return Err(StudyError::Occupied(file));
        }
    }
    // Wrong settings of any way show before the first run starts.
    for &way in &study.ways {
        settings(study, way, Coding::default(), 0, &folder)?;
    }
    let inspected = match (study.inspect, &study.base.data) {
        (Some(inspect), Some(data)) => Some(inspect(data)?),
        _ => None,
    };
    std::fs::create_dir_all(&folder).map_err(|source| fail(&folder, source))?;
    let scratch = tempfile::tempdir_in(&folder).map_err(|source| fail(&folder, source))?;
    let table = folder.join(FILES[0]);
    let file = File::create(&table).map_err(|source| fail(&table, source))?;
    let mut table_rows = csv::Writer::from_writer(file);

    let say = |screen: &mut dyn Write, line: String| {
        let _ = writeln!(screen, "{line}");
    };
    say(screen, format!("{HEAD}\n"));
    let mut rows: Vec<TrafficRow> = Vec::new();
    let all = study.ways.iter().map(|way| way.codings().len()).sum::<usize>() * study.runs as usize;
    let start = Instant::now();
    for &way in &study.ways {
        for &coding in way.codings() {
            let first = rows.len();
            for run in 0..study.runs {
                let output = scratch.path().join("run");
                let settings = settings(study, way, coding, run, &output)?;
                let row = row(way, coding, &settings, &train_once(way, &settings, inspected.as_deref())?);
                let written =
                    table_rows.serialize(&row).map_err(io::Error::other).and_then(|()| table_rows.flush());
                written.map_err(|source| fail(&table, source))?;
                rows.push(row);
            }
            let left = seconds_left(start.elapsed().as_secs_f64(), rows.len(), all);
            say(screen, format!("{}  {:>6}", line(&rows[first..]), time(left)));
        }
    }
    let plot = folder.join(FILES[1]);
    let svg = figure(study, &rows).svg(true)?;
    std::fs::write(&plot, svg).map_err(|source| fail(&plot, source))?;
    say(screen, format!("\n{} and {}", table.display(), plot.display()));
    Ok(rows)
}

fn settings(
    study: &TrafficStudy,
    way: Way,
    coding: Coding,
    run: u64,
    output: &Path,
) -> Result<Settings, SettingsError> {
    let mut raw = study.base.clone();
    if let Some(method) = raw.optimizer.filter(|&method| method != Method::Admm) {
        let message = format!(
            "traffic measures what p and q take, and --optimizer {} sends neither: leave it out of the file of --config",
            method.word()
        );
        return Err(SettingsError::Contradiction(message));
    }
    raw.output = Some(output.to_owned());
    raw.seed = Some(raw.seed.unwrap_or(0) + run);
    if !study.splits.is_empty() {
        raw.split = Some(study.splits[run as usize % study.splits.len()].clone());
    }
    // How p and q travel is the way's to say, whatever the file of settings has.
    match way {
        Way::Plain(wire) => {
            raw.wire = wire;
            (raw.quantize, raw.bits, raw.spacing, raw.levels, raw.coding) = (None, None, None, None, None);
        }
        Way::Levels(quantize, bits) => {
            (raw.quantize, raw.bits, raw.coding) = (Some(quantize), Some(bits), Some(coding));
            (raw.wire, raw.levels) = (None, None);
        }
    }
    raw.check()
}

fn train_once(way: Way, settings: &Settings, inspected: Option<&str>) -> Result<Summary, StudyError> {
    let outcomes = ThreadCommunicator::run(settings.layers, |communicator| {
        let inspected = inspected.map(str::to_owned);
        let options = RunOptions { overwrite: true, inspected, ..RunOptions::default() };
        match settings.precision {
            Precision::F32 => train::<f32>(settings, communicator, options),
            Precision::F64 => train::<f64>(settings, communicator, options),
        }
        .map(|outcome| outcome.summary)
    });
    let first = outcomes.into_iter().next().ok_or(StudyError::NoRanks)?;
    let seed = settings.seed;
    first.map_err(|source| StudyError::Run { way: way.to_string(), seed, source: Box::new(source) })
}

fn row(way: Way, coding: Coding, settings: &Settings, summary: &Summary) -> TrafficRow {
    let coding = match (way, coding) {
        (Way::Plain(_), _) => "",
        (_, Coding::Smallest) => "smallest",
        (_, Coding::Packed) => "packed",
    };
    TrafficRow {
        way: way.to_string(),
        coding: coding.to_owned(),
        seed: settings.seed,
        split: summary.split.clone(),
        test_at_best: summary.best.test,
        test_at_end: summary.accuracy.test,
        bytes: summary.bytes.p + summary.bytes.q,
        bytes_baseline: summary.bytes.baseline,
        ratio: summary.bytes.ratio,
        bytes_other: summary.bytes.other,
        messages: summary.bytes.messages,
        encode_seconds: summary.seconds.encode,
        decode_seconds: summary.seconds.decode,
        seconds: summary.seconds.total,
    }
}

const HEAD: &str = "way   coding    test at best      test at end       bytes of p and q  messages  base line over \
                    that  encode s  decode s    left";

/// Means over the runs of a way.
fn line(rows: &[TrafficRow]) -> String {
    let mean = |of: &dyn Fn(&TrafficRow) -> f64| mean_and_deviation(&rows.iter().map(of).collect::<Vec<_>>());
    let best = mean(&|row| row.test_at_best.unwrap_or(f64::NAN));
    let end = mean(&|row| row.test_at_end.unwrap_or(f64::NAN));
    let bytes = mean(&|row| row.bytes as f64).0;
    let (way, coding) = rows.first().map_or(("", ""), |row| (row.way.as_str(), row.coding.as_str()));
    format!(
        "{way:5} {coding:9} {:.4} ± {:.4}   {:.4} ± {:.4}   {bytes:16.0}  {:8.0}  {:19.1}  {:8.3}  {:8.3}",
        best.0,
        best.1,
        end.0,
        end.1,
        mean(&|row| row.messages as f64).0,
        mean(&|row| row.bytes_baseline as f64).0 / bytes,
        mean(&|row| row.encode_seconds).0,
        mean(&|row| row.decode_seconds).0,
    )
}

/// Mean and standard deviation of a sample; 0 where there is but one.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt())
}

fn figure(study: &TrafficStudy, rows: &[TrafficRow]) -> ScatterPlot {
    let mut series: Vec<Series> = Vec::new();
    for &way in &study.ways {
        let (name, colour, label) = way.place();
        for (coding, filled) in [("", true), ("smallest", true), ("packed", false)] {
            let of_way: Vec<&TrafficRow> =
                rows.iter().filter(|row| row.way == way.to_string() && row.coding == coding).collect();
            if of_way.is_empty() {
                continue;
            }
            let name = match coding {
                "" => name.to_owned(),
                "packed" => format!("{name}, packed"),
                _ => format!("{name}, coded"),
            };
            let tests: Vec<f64> = of_way.iter().map(|row| row.test_at_best.unwrap_or(f64::NAN)).collect();
            let (y, deviation) = mean_and_deviation(&tests);
            let bytes: Vec<f64> = of_way.iter().map(|row| row.bytes as f64).collect();
            let point = Point { x: mean_and_deviation(&bytes).0, y, deviation, label: label.clone() };
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name, colour, filled, points: vec![point] }),
            }
        }
    }
    let data = study.base.data.as_deref().and_then(Path::file_stem).unwrap_or_default();
    ScatterPlot {
        title: format!(
            "{}: test accuracy against traffic, mean of {} run{}",
            data.to_string_lossy(),
            study.runs,
            if study.runs == 1 { "" } else { "s" }
        ),
        x_label: "bytes of p and q over the run".to_owned(),
        y_label: "test accuracy at best validation".to_owned(),
        series,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ways_read_back() {
        for way in Way::of_the_figure() {
            assert_eq!(way.to_string().parse::<Way>(), Ok(way));
        }
        for wrong in ["", "pq", "pq0", "pq17", "x4", "none4", "p-1", "ä4", "p99999999999"] {
            assert!(wrong.parse::<Way>().is_err(), "{wrong}");
        }
    }
}

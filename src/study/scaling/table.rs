//! What the runs of a study come to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::case::{Case, Mode};
use super::{Done, ScalingError, file_error};
use crate::performance::Network;
use crate::performance::pipeline::{RankWork, pace};
use crate::train::by_rank::RankCost;
use crate::train::output::Summary;
use crate::train::run_row::RunRow;

/// What speed-up and efficiency are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// Wall time.
    #[serde(rename = "wall")]
    Wall,
    /// The critical path, where ranks outnumber processors.
    #[serde(rename = "critical path")]
    CriticalPath,
}

impl Basis {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Basis::Wall => "wall",
            Basis::CriticalPath => "critical path",
        }
    }
}

/// A case: medians over its runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// What it belongs to.
    pub mode: Mode,
    /// L.
    pub layers: usize,
    /// Ranks.
    pub ranks: usize,
    /// Ranks that hold the same layers.
    pub shards: usize,
    /// Training nodes.
    pub training_nodes: usize,
    /// Runs.
    pub runs: usize,
    /// Wall seconds an iteration, without evaluations.
    pub wall: f64,
    /// Processor seconds of an iteration on the rank that has most to do.
    pub busy: f64,
    /// Seconds of an iteration if every rank had a processor and the network took no time.
    pub critical_path: f64,
    /// Bytes of p and q that an iteration sent.
    pub bytes: f64,
    /// Whether every rank had its processors to itself.
    pub has_processors: bool,
    /// What the next two are of. The same for all cases that are compared.
    pub basis: Basis,
    /// How many times faster than one rank; of weak scaling, how many times more nodes in the same time.
    pub speed_up: f64,
    /// That over the number of ranks.
    pub efficiency: f64,
}

/// Wall time without waiting over processor time, above which a rank has shared its processor.
const MOST_OVER_BUSY: f64 = 1.3;

/// One run.
struct Measured {
    wall: f64,
    busy: f64,
    critical_path: f64,
    bytes: f64,
    shards: usize,
    nodes: usize,
    has_processors: bool,
}

impl Measured {
    fn of(case: &Case, summary: &Summary) -> Result<Self, ScalingError> {
        let ranks = &summary.by_rank;
        let mut hosts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        ranks.iter().for_each(|rank| {
            let host = hosts.entry(&rank.host).or_insert((0, rank.processors));
            host.0 += 1;
        });
        let threads = summary.threads.max(1);
        let short =
            hosts.iter().find(|(_, (ranks, processors))| *processors > 0 && ranks * threads > *processors);
        if let Some((host, (ranks, processors))) = short.filter(|_| threads > 1) {
            return Err(ScalingError::Threads {
                case: case.name(),
                ranks: *ranks,
                threads,
                processors: *processors,
                host: (*host).to_owned(),
            });
        }
        // Nor does wall time count where other work took a processor away for a while.
        let is_disturbed = threads == 1
            && ranks.iter().any(|rank| rank.seconds - rank.waited > MOST_OVER_BUSY * rank.busy.sum());
        // The ranks that hold the same layers do the same; the slowest of them stands for all.
        let mut runs: BTreeMap<usize, &RankCost> = BTreeMap::new();
        let mut shards: BTreeMap<usize, usize> = BTreeMap::new();
        for rank in ranks {
            let Some([first, _]) = rank.layers else { continue };
            *shards.entry(first).or_default() += 1;
            let slowest = runs.entry(first).or_insert(rank);
            if rank.busy.sum() > slowest.busy.sum() {
                *slowest = rank;
            }
        }
        let work = |rank: &&RankCost| {
            let layers = rank.layers.map_or(1, |[first, last]| last + 1 - first);
            RankWork { parts: rank.busy, calls: 3 * layers, p_bytes: rank.bytes_p, q_bytes: rank.bytes_q }
        };
        let work: Vec<RankWork> = runs.values().map(work).collect();
        let shards = shards.values().copied().max().unwrap_or(1);
        let pace = pace(&work, shards, &Network::FREE);
        let lowest = ranks.iter().filter(|rank| rank.layers.is_some_and(|[first, _]| first == 1));
        Ok(Self {
            wall: ranks.iter().map(|rank| rank.seconds).fold(0.0, f64::max),
            busy: pace.busy,
            critical_path: pace.seconds,
            bytes: ranks.iter().map(|rank| rank.bytes_p + rank.bytes_q).sum(),
            shards,
            nodes: lowest.map(|rank| rank.nodes).sum(),
            has_processors: short.is_none() && !is_disturbed,
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => 0.5 * (values[n / 2 - 1] + values[n / 2]),
    }
}

/// The cases of finished runs, in the order in which they first come.
///
/// # Errors
/// Ranks of several threads that outnumber processors.
pub fn points(done: &[(Case, &Summary)]) -> Result<Vec<Point>, ScalingError> {
    let mut of_cases: Vec<(Case, Vec<Measured>)> = Vec::new();
    for (case, summary) in done {
        let measured = Measured::of(case, summary)?;
        match of_cases.iter_mut().find(|(known, _)| known == case) {
            Some((_, runs)) => runs.push(measured),
            None => of_cases.push((case.clone(), vec![measured])),
        }
    }
    let mut points: Vec<Point> = of_cases
        .iter()
        .map(|(Case { mode, layers, ranks }, runs)| {
            let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value));
            Point {
                mode: *mode,
                layers: *layers,
                ranks: *ranks,
                shards: runs.first().map_or(1, |run| run.shards),
                training_nodes: runs.first().map_or(0, |run| run.nodes),
                runs: runs.len(),
                wall: of(|run| run.wall),
                busy: of(|run| run.busy),
                critical_path: of(|run| run.critical_path),
                bytes: of(|run| run.bytes),
                has_processors: runs.iter().all(|run| run.has_processors),
                // Settled with the next two, once all are there to compare with.
                basis: Basis::Wall,
                speed_up: f64::NAN,
                efficiency: f64::NAN,
            }
        })
        .collect();
    let all = points.clone();
    for point in &mut points {
        compare(point, &all);
    }
    Ok(points)
}

/// Sets a case beside the one of its series with the fewest ranks.
fn compare(point: &mut Point, all: &[Point]) {
    let is_of_series = |other: &&Point| {
        other.mode == point.mode && (point.mode != Mode::Layers || other.layers == point.layers)
    };
    let series: Vec<&Point> = all.iter().filter(is_of_series).collect();
    let Some(least) = series.iter().min_by_key(|other| other.ranks) else { return };
    let by_wall = all.iter().filter(|other| other.mode == point.mode).all(|other| other.has_processors);
    let seconds = |of: &Point| if by_wall { of.wall } else { of.critical_path };
    point.basis = if by_wall { Basis::Wall } else { Basis::CriticalPath };
    let gain = seconds(least) / seconds(point);
    point.speed_up = match point.mode {
        Mode::Weak => gain * point.ranks as f64,
        _ => gain * least.ranks as f64,
    };
    point.efficiency = point.speed_up / point.ranks as f64;
}

/// The table, and what its numbers are.
pub(super) fn markdown(points: &[Point]) -> String {
    let mut text = String::from(
        "| scaling | layers | ranks | shards | training nodes | wall s | busy s | critical path s | bytes of p and q | \
         speed-up | efficiency |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for point in points {
        let mark = if point.has_processors { "" } else { "*" };
        let Point { mode, layers, ranks, shards, training_nodes, wall, busy, critical_path, .. } = point;
        let word = mode.word();
        let _ = writeln!(
            text,
            "| {word} | {layers} | {ranks} | {shards} | {training_nodes} | {wall:.5}{mark} | {busy:.5} | \
             {critical_path:.5} | {:.0} | {:.2} | {:.2} |",
            point.bytes, point.speed_up, point.efficiency
        );
    }
    let runs = points.iter().map(|point| point.runs).max().unwrap_or(0);
    let _ = writeln!(text, "\nSeconds an iteration, evaluations left out; medians of {runs} runs.");
    let mut derived: Vec<&str> = points
        .iter()
        .filter(|point| point.basis == Basis::CriticalPath)
        .map(|point| point.mode.word())
        .collect();
    derived.dedup();
    if !derived.is_empty() {
        let _ = writeln!(
            text,
            "* Ranks outnumbered processors here, or other work took some away, so that this wall time tells nothing. \
             Speed-up and efficiency of {} scaling are derived: of the critical path, which is made of the processor \
             time that each rank was measured to need, with a processor each and a network that takes no time.",
            derived.join(" and ")
        );
    }
    text
}

pub(super) fn write(folder: &Path, points: &[Point], text: &str) -> Result<(), ScalingError> {
    let path = folder.join("scaling.csv");
    let fail = |source| file_error(&path, source);
    let mut table = csv::Writer::from_path(&path).map_err(|error| fail(error.into()))?;
    for point in points {
        table.serialize(point).map_err(|error| fail(error.into()))?;
    }
    table.flush().map_err(fail)?;
    let path = folder.join("scaling.md");
    fs::write(&path, text).map_err(|source| file_error(&path, source))
}

/// `runs.csv`: the run.csv of every run, below one head.
pub(super) fn write_runs(folder: &Path, done: &[Done]) -> Result<(), ScalingError> {
    let path = folder.join("runs.csv");
    let mut table = csv::Writer::from_path(&path).map_err(|error| file_error(&path, error.into()))?;
    let mut names: Option<csv::StringRecord> = None;
    let fail = |error: csv::Error| file_error(&path, error.into());
    for Done { case, repeat, folder, .. } in done {
        let file = folder.join("run.csv");
        let row = RunRow::read(&file).map_err(|source| file_error(&file, source))?;
        if names.is_none() {
            table.write_record(["case", "repeat"].into_iter().chain(&row.names)).map_err(fail)?;
        }
        let names = names.get_or_insert_with(|| row.names.clone());
        let (case, repeat) = (case.name(), repeat.to_string());
        let own = [case.as_str(), repeat.as_str()].into_iter();
        table
            .write_record(own.chain(names.iter().map(|name| row.value(name).unwrap_or(""))))
            .map_err(fail)?;
    }
    table.flush().map_err(|source| file_error(&path, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::by_rank::PartSeconds;

    /// A run of `ranks` ranks with a layer each, which compute one second of wall and processor time.
    fn summary(ranks: usize, processors: usize, threads: usize) -> Summary {
        let rank = |rank: usize| RankCost {
            rank,
            host: "host".into(),
            processors,
            layers: Some([rank + 1, rank + 1]),
            nodes: 100,
            iterations: 9,
            seconds: 3.0,
            waited: 3.0 - (8.0 / ranks as f64).min(3.0),
            busy: PartSeconds { middle: 8.0 / ranks as f64, ..PartSeconds::default() },
            bytes_p: 10.0,
            ..RankCost::default()
        };
        Summary { threads, by_rank: (0..ranks).map(rank).collect(), ..Summary::default() }
    }

    fn case(mode: Mode, ranks: usize) -> Case {
        Case { mode, layers: 8, ranks }
    }

    #[test]
    fn wall_time_counts_only_where_every_rank_has_a_processor() {
        let (one, two, eight) = (summary(1, 2, 1), summary(2, 2, 1), summary(8, 2, 1));
        let found = points(&[(case(Mode::Strong, 1), &one), (case(Mode::Strong, 2), &two)]).unwrap();
        assert_eq!((found[1].basis, found[1].speed_up), (Basis::Wall, 1.0));
        let all = [1, 2, 8].map(|ranks| case(Mode::Strong, ranks)).into_iter().zip([&one, &two, &eight]);
        let found = points(&all.collect::<Vec<_>>()).unwrap();
        assert_eq!(found.iter().map(|of| of.has_processors).collect::<Vec<_>>(), [true, true, false]);
        assert!(found.iter().all(|of| of.basis == Basis::CriticalPath));
        assert!(
            (found[2].speed_up - 8.0).abs() < 1e-9 && (found[2].efficiency - 1.0).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!((found[2].bytes, found[0].training_nodes), (80.0, 100));
        let text = markdown(&found);
        assert!(text.contains("3.00000*") && text.contains("derived"), "{text}");
        let mut disturbed = two.clone();
        disturbed.by_rank[1].seconds = 9.0;
        let found = points(&[(case(Mode::Strong, 1), &one), (case(Mode::Strong, 2), &disturbed)]).unwrap();
        assert_eq!((found[1].has_processors, found[1].basis), (false, Basis::CriticalPath));
    }

    #[test]
    fn a_rank_of_several_threads_is_not_measured_by_one_of_them() {
        let refused = points(&[(case(Mode::Strong, 2), &summary(2, 2, 2))]);
        assert!(matches!(refused, Err(ScalingError::Threads { ranks: 2, processors: 2, .. })), "{refused:?}");
        assert!(points(&[(case(Mode::Strong, 2), &summary(2, 4, 2))]).is_ok());
    }

    #[test]
    fn weak_scaling_counts_more_nodes_in_the_same_time_as_faster() {
        let (one, four) = (summary(1, 8, 1), summary(4, 8, 1));
        let found = points(&[(case(Mode::Weak, 1), &one), (case(Mode::Weak, 4), &four)]).unwrap();
        assert_eq!((found[1].speed_up, found[1].efficiency), (4.0, 1.0));
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([3.0, 1.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }
}

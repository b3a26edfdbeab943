//! From runs to figures.

use std::collections::BTreeMap;

use super::bar_plot::{Bar, BarPlot, Group};
use super::line_plot::{Line, LinePlot, Look};
use super::run_folder::{History, Phase, RunFolder};
use super::scatter::{Point, ScatterPlot, Series, kind_of_levels};
use super::study::{self, Study};
use super::trace::Trace;
use super::{PlotError, ReportError};
use crate::settings::Quantize;
use crate::train::MeanAndDeviation;

/// Settings that change nothing of what all ranks together compute in an iteration.
const ASIDE: [&str; 9] = [
    "data",
    "output",
    "seed",
    "runs",
    "shards",
    "comm-timeout",
    "checkpoint-every",
    "max-time",
    "iterations",
];
/// Phases that are drawn, the longest.
const MOST_PHASES: usize = 20;
/// Share of a run's time from which on a phase is drawn.
const LEAST_SHARE: f64 = 0.01;
/// Runs whose phases are drawn side by side.
const MOST_RUNS_WITH_PHASES: usize = 8;

/// A figure of the page.
pub(super) struct Figure {
    /// The section that it belongs to.
    pub section: &'static str,
    /// Its word in names of files.
    pub word: &'static str,
    /// Above it.
    pub title: String,
    /// Below it: how to read it.
    pub caption: String,
    /// The drawing on the page, beside the page's legend.
    pub within: String,
    /// The drawing as a file of its own, with title and legend.
    pub alone: String,
    /// Whether it takes the width of the page.
    pub wide: bool,
    /// Whether its text has room to be larger on a narrow screen.
    pub roomy: bool,
}

type Column = fn(&History) -> &Trace;

enum Drawing {
    Lines(LinePlot),
    Bars(BarPlot),
    Scatter(ScatterPlot),
}

impl Drawing {
    fn svg(&self, alone: bool) -> Result<String, PlotError> {
        match self {
            Drawing::Lines(plot) => plot.svg(alone),
            Drawing::Bars(plot) => plot.svg(alone),
            Drawing::Scatter(plot) => plot.svg(alone),
        }
    }

    fn title(&self) -> &str {
        match self {
            Drawing::Lines(plot) => &plot.title,
            Drawing::Bars(plot) => &plot.title,
            Drawing::Scatter(plot) => &plot.title,
        }
    }
}

/// All figures that these runs and studies have something to show in.
pub(super) fn all(runs: &[RunFolder], studies: &[Study]) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    let mut add = |section, word, drawing: Option<Drawing>, caption: &str| -> Result<(), ReportError> {
        let Some(drawing) = drawing else { return Ok(()) };
        let (within, alone) = match (drawing.svg(false), drawing.svg(true)) {
            // A figure without a point is left out, whatever the reason.
            (Err(PlotError::Empty), _) | (_, Err(PlotError::Empty)) => return Ok(()),
            (within, alone) => (within?, alone?),
        };
        let left_out = match &drawing {
            Drawing::Lines(LinePlot { left_out: count @ 1.., .. }) => format!(
                " {count} more lines could not be told apart and were left out: report fewer folders, or studies of fewer cases."
            ),
            _ => String::new(),
        };
        let (title, caption) = (drawing.title().to_owned(), format!("{caption}{left_out}"));
        let wide = match &drawing {
            Drawing::Lines(plot) => plot.has_legend,
            Drawing::Bars(_) => false,
            Drawing::Scatter(_) => true,
        };
        let roomy = matches!(drawing, Drawing::Lines(_));
        figures.push(Figure { section, word, title, caption, within, alone, wide, roomy });
        Ok(())
    };
    let logarithmic = |title, y_label, column: Column| Some(history(runs, title, y_label, true, column));
    let share = |title, y_label, column: Column| Some(history(runs, title, y_label, false, column));

    let section = "Training (the paper's Figure 2)";
    let caption = "Dotted lines: a stage ends, and the network grows. Dashes of one colour over another: the same values.";
    let plot = logarithmic("Objective", "objective", |history| &history.objective);
    add(section, "objective", plot, caption)?;
    let plot = logarithmic("Augmented Lagrangian", "augmented Lagrangian", |history| &history.lagrangian);
    add(section, "lagrangian", plot, "The objective and what holds p and q together.")?;
    let plot = logarithmic("Primal residual", "‖p − q‖", |history| &history.primal_residual);
    add(section, "primal-residual", plot, "How far p and q are apart; 0 is not drawn.")?;
    let plot = logarithmic("Dual residual", "ρ ‖q − q of the iteration before‖", |history| {
        &history.dual_residual
    });
    add(section, "dual-residual", plot, "How much q still moves; 0 is not drawn.")?;

    let section = "Accuracy";
    let plot = share("Test accuracy", "share of test nodes that are right", |history| &history.test_accuracy);
    add(section, "test-accuracy", plot, "Of the network as it is in each iteration.")?;
    let plot = share("Validation accuracy", "share of validation nodes that are right", |history| {
        &history.val_accuracy
    });
    add(
        section,
        "validation-accuracy",
        plot,
        "The best is the model that is kept, deepened where it is of an earlier stage.",
    )?;
    let plot = share("Training accuracy", "share of training nodes that are right", |history| {
        &history.train_accuracy
    });
    add(section, "training-accuracy", plot, "Far above the test accuracy: the network learns by heart.")?;
    add(section, "accuracy-by-seconds", Some(accuracy_by_seconds(runs)), "Wall time of training on rank 0.")?;

    let section = "Time";
    add(
        section,
        "seconds",
        Some(seconds(runs)),
        "Wall time on rank 0, from the first iteration to the last.",
    )?;
    let caption = "Means over the ranks; whiskers: the rank with the least and the one with the most. Phases below a hundredth \
                   of every run are left out.";
    add(section, "phases", phases(runs), caption)?;

    let section = "More ranks (the paper's Figures 3 and 4)";
    let groups = by_ranks(runs);
    let caption = "Seconds an iteration with the fewest ranks over those with more, median of runs with the same settings; \
                   dotted: as many times faster as there are more ranks. Ranks that outnumber cores cannot speed up.";
    add(section, "speed-up", speed_up(&groups, false), caption)?;
    let caption = "Speed-up over what as many times more ranks could give.";
    add(section, "efficiency", speed_up(&groups, true), caption)?;

    let caption = match studies.iter().any(Study::is_derived) {
        true => {
            "Derived where ranks outnumbered processors: of the processor time that each rank was measured to need, with a \
                 processor each and a network that takes no time. Dotted: a rank more, as much faster."
        }
        false => "Of wall seconds an iteration. Dotted: a rank more, as much faster.",
    };
    add(section, "scaling-speed-up", study::by_ranks(studies, false).map(Drawing::Lines), caption)?;
    let caption = "Speed-up over what as many times more ranks could give.";
    add(section, "scaling-efficiency", study::by_ranks(studies, true).map(Drawing::Lines), caption)?;
    let caption = "The same network on one rank, in the time of a rank a layer.";
    add(section, "scaling-layers", study::by_layers(studies).map(Drawing::Lines), caption)?;

    let section = "Traffic (the paper's Figure 5)";
    let caption = "Test accuracy at the best validation accuracy; mean and standard deviation of runs that differ in nothing \
                   but the seed.";
    add(section, "traffic", traffic(runs), caption)?;
    Ok(figures)
}

fn history(runs: &[RunFolder], title: &str, y_label: &str, logarithmic: bool, column: Column) -> Drawing {
    let lines = runs.iter().enumerate().map(|(i, run)| line(i, run, column(&run.history).points()));
    Drawing::Lines(LinePlot {
        title: title.to_owned(),
        x_label: "iteration".to_owned(),
        y_label: y_label.to_owned(),
        logarithmic,
        from: None,
        lines: lines.collect(),
        marks: common_stage_ends(runs),
        has_legend: false,
        left_out: 0,
    })
}

fn line(number: usize, run: &RunFolder, points: Vec<(f64, f64)>) -> Line {
    Line { name: run.name.clone(), look: Look::of(number), points, marked: false }
}

/// Ends of stages where all runs that have stages have the same.
fn common_stage_ends(runs: &[RunFolder]) -> Vec<f64> {
    let mut all = runs.iter().map(|run| &run.history.stage_ends).filter(|ends| !ends.is_empty());
    match all.next() {
        Some(first) if all.all(|ends| ends == first) => first.clone(),
        _ => Vec::new(),
    }
}

fn accuracy_by_seconds(runs: &[RunFolder]) -> Drawing {
    let lines = runs.iter().enumerate().map(|(i, run)| line(i, run, run.history.test_by_seconds.points()));
    Drawing::Lines(LinePlot {
        title: "Test accuracy against time".to_owned(),
        x_label: "seconds since training started".to_owned(),
        y_label: "share of test nodes that are right".to_owned(),
        logarithmic: false,
        from: None,
        lines: lines.collect(),
        marks: Vec::new(),
        has_legend: false,
        left_out: 0,
    })
}

fn seconds(runs: &[RunFolder]) -> Drawing {
    let groups = runs.iter().enumerate().map(|(i, run)| {
        let bar = Bar {
            value: run.train_seconds(),
            spread: None,
            colour: Look::of(i).colour,
            label: String::new(),
        };
        Group { name: run.name.clone(), bars: vec![bar] }
    });
    Drawing::Bars(BarPlot {
        title: "Time of training".to_owned(),
        x_label: "seconds of training".to_owned(),
        groups: groups.collect(),
    })
}

/// The phases of the first runs that have any, the longest phase first.
fn phases(runs: &[RunFolder]) -> Option<Drawing> {
    let of = |run: &RunFolder| run.summary.as_ref().map(|summary| summary.phases.clone()).unwrap_or_default();
    let all: Vec<(usize, BTreeMap<String, Phase>)> = runs.iter().map(of).enumerate().collect();
    let all: Vec<_> =
        all.into_iter().filter(|(_, phases)| !phases.is_empty()).take(MOST_RUNS_WITH_PHASES).collect();
    let mut longest: BTreeMap<&str, f64> = BTreeMap::new();
    for (_, phases) in &all {
        let total: f64 = phases.values().map(|phase| phase.avg).sum();
        for (name, phase) in phases.iter().filter(|(_, phase)| phase.avg >= LEAST_SHARE * total) {
            let known = longest.entry(name).or_default();
            *known = known.max(phase.avg);
        }
    }
    let mut order: Vec<(&str, f64)> = longest.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let groups = order.iter().take(MOST_PHASES).map(|(name, _)| {
        // A run without the phase takes no room.
        let bars = all.iter().filter_map(|(i, phases)| {
            let Phase { min, avg, max } = phases.get(*name).copied().filter(|phase| phase.avg > 0.0)?;
            let label = if all.len() > 1 { runs[*i].name.clone() } else { String::new() };
            Some(Bar { value: avg, spread: Some((min, max)), colour: Look::of(*i).colour, label })
        });
        Group { name: (*name).to_owned(), bars: bars.collect() }
    });
    let groups: Vec<Group> = groups.collect();
    (!groups.is_empty()).then(|| {
        let (title, x_label) =
            ("Where the time goes".to_owned(), "seconds a rank over the whole run".to_owned());
        Drawing::Bars(BarPlot { title, x_label, groups })
    })
}

/// What runs with equal keys have in common: data set and every setting but those in [`ASIDE`].
fn key(run: &RunFolder) -> String {
    let settings = run.settings.iter().filter(|(key, _)| !ASIDE.contains(&key.as_str()));
    let settings = settings.map(|(key, value)| format!("{key} = {value}\n"));
    let dataset = run.summary.as_ref().map_or("", |summary| &summary.dataset);
    format!("{dataset}\n{}", settings.collect::<String>())
}

fn ranks(run: &RunFolder) -> u64 {
    run.summary.as_ref().map_or(0, |summary| summary.ranks)
}

/// Seconds an iteration by the number of ranks, of runs with the same settings on at least two numbers of ranks.
struct ByRanks {
    name: String,
    medians: Vec<(f64, f64)>,
}

fn by_ranks(runs: &[RunFolder]) -> Vec<ByRanks> {
    let mut groups: Vec<(String, String, BTreeMap<u64, Vec<f64>>)> = Vec::new();
    for run in runs {
        let each = run.train_seconds() / run.iterations();
        if ranks(run) == 0 || !each.is_finite() || each <= 0.0 {
            continue;
        }
        let key = key(run);
        let at = groups.iter().position(|group| group.0 == key).unwrap_or_else(|| {
            groups.push((key, run.name.clone(), BTreeMap::new()));
            groups.len() - 1
        });
        groups[at].2.entry(ranks(run)).or_default().push(each);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
    };
    groups
        .into_iter()
        .filter(|group| group.2.len() > 1)
        .map(|(_, name, seconds)| ByRanks {
            name: format!("settings of {name}"),
            medians: seconds.into_iter().map(|(ranks, seconds)| (ranks as f64, median(seconds))).collect(),
        })
        .collect()
}

fn speed_up(groups: &[ByRanks], efficiency: bool) -> Option<Drawing> {
    let mut lines = Vec::new();
    let (mut least, mut most) = (f64::INFINITY, 0f64);
    for group in groups {
        let &(base, seconds) = group.medians.first()?;
        let points = group.medians.iter().map(|&(ranks, each)| {
            let faster = seconds / each;
            (ranks, if efficiency { faster * base / ranks } else { faster })
        });
        let points: Vec<(f64, f64)> = points.collect();
        least = least.min(base);
        most = points.iter().fold(most, |most, point| most.max(point.0));
        lines.push((group.name.clone(), points));
    }
    let ideal = if efficiency { [(least, 1.0), (most, 1.0)] } else { [(least, 1.0), (most, most / least)] };
    let title = if efficiency { "Efficiency" } else { "Speed-up" };
    let plot = study::plot(lines, Some(ideal), title, "ranks", study::label(efficiency))?;
    Some(Drawing::Lines(LinePlot { has_legend: groups.len() > 1, ..plot }))
}

/// Accuracy against bytes, a point for each group of runs that differ in nothing but the seed.
fn traffic(runs: &[RunFolder]) -> Option<Drawing> {
    let mut groups: Vec<(String, Vec<&RunFolder>)> = Vec::new();
    for run in runs {
        // Figures of interrupted runs are on the way to somewhere.
        let sent = run.summary.as_ref().is_some_and(|summary| {
            summary.bytes.p + summary.bytes.q > 0.0
                && summary.best.test.is_some()
                && summary.status != "interrupted"
        });
        if sent {
            let setting = |key: &str| run.settings.get(key).map_or("", String::as_str);
            let sizes = [setting("shards"), setting("iterations")];
            let key = format!("{} {sizes:?} {}", ranks(run), key(run));
            match groups.iter_mut().find(|group| group.0 == key) {
                Some(group) => group.1.push(run),
                None => groups.push((key, vec![run])),
            }
        }
    }
    if groups.len() < 2 {
        return None;
    }
    let several_counts = groups.iter().any(|(_, runs)| ranks(runs[0]) != ranks(groups[0].1[0]));
    let mut series: Vec<Series> = Vec::new();
    for (_, runs) in &groups {
        let summaries = || runs.iter().filter_map(|run| run.summary.as_ref());
        let bytes = MeanAndDeviation::of(summaries().map(|summary| Some(summary.bytes.p + summary.bytes.q)));
        let test = MeanAndDeviation::of(summaries().map(|summary| summary.best.test));
        let (Some(x), Some(y)) = (bytes.mean, test.mean) else { continue };
        let (name, colour, filled, mut label) = way(runs[0]);
        if several_counts {
            // Bytes grow with the boundaries between ranks.
            label = format!("{label}, {} ranks", ranks(runs[0]));
        }
        let point = Point { x, y, deviation: test.std.unwrap_or(0.0), label };
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, colour, filled, points: vec![point] }),
        }
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    Some(Drawing::Scatter(ScatterPlot {
        title: "Test accuracy against traffic".to_owned(),
        x_label: "bytes of p and q over the run".to_owned(),
        y_label: "test accuracy at best validation".to_owned(),
        series,
    }))
}

/// How a run sends p and q: name of the series, colour, whether filled, and the label of the point.
fn way(run: &RunFolder) -> (String, usize, bool, String) {
    let setting = |key: &str| run.settings.get(key).map_or("", String::as_str);
    let quantize = match setting("quantize") {
        "p" => Quantize::P,
        "q" => Quantize::Q,
        "pq" => Quantize::Pq,
        _ => Quantize::None,
    };
    let (kind, colour) = kind_of_levels(quantize);
    if quantize == Quantize::None {
        return (kind.to_owned(), colour, true, setting("wire").to_owned());
    }
    let label = match setting("levels") {
        "" => format!("{} bits", setting("bits")),
        levels => levels.to_owned(),
    };
    match setting("coding") {
        "packed" => (format!("{kind}, packed"), colour, false, label),
        _ => (kind.to_owned(), colour, true, label),
    }
}

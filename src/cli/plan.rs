//! `pdadmm-g plan`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::error_chain;
use crate::inspection::{FileKind, inspect};
use crate::linalg::NodeBlocks;
use crate::parallel::memory::in_words;
use crate::parallel::plan::shards_of_stages;
use crate::performance::network::NetworkArguments;
use crate::performance::rates::MeasuredRun;
use crate::performance::{Network, TimeForecast, TimeRow};
use crate::settings::{Method, RawSettings, Settings};
use crate::train::Problem;
use crate::train::evaluate::EvaluatedNodes;
use crate::train::forecast::{Forecast, RankForecast, StageForecast};
use crate::train::memory::RunShape;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The settings, as of train; --output is not needed, nor is --data where the sizes are given
    #[command(flatten)]
    pub settings: RawSettings,
    /// TOML file with settings under the names of their flags; flags win
    #[arg(long, value_name = "FILE.toml", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Ranks of the run that is planned
    #[arg(long, value_name = "R", default_value_t = 1, help_heading = "Plan",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ranks: u32,
    /// Nodes of the graph, where there is no file yet
    #[arg(long, value_name = "N", help_heading = "Plan")]
    pub nodes: Option<u32>,
    /// Training nodes
    #[arg(long, value_name = "N", help_heading = "Plan")]
    pub training_nodes: Option<u32>,
    /// Features of a node, before augmentation
    #[arg(long, value_name = "D", help_heading = "Plan")]
    pub features: Option<u32>,
    /// Classes
    #[arg(long, value_name = "C", help_heading = "Plan")]
    pub classes: Option<u32>,
    /// Training, validation and test nodes together [default: --training-nodes]
    #[arg(long, value_name = "N", help_heading = "Plan")]
    pub evaluated: Option<u32>,
    /// Folder of a run of train --measure-ranks: predicts the seconds of an iteration on 1, 2, 4, … ranks from what it cost
    #[arg(long, value_name = "RUN", help_heading = "Time")]
    pub measured: Option<PathBuf>,
    /// Predict for up to so many ranks [default: --ranks]
    #[arg(long, value_name = "R", help_heading = "Time", requires = "measured",
        value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub up_to: Option<u32>,
    /// The network
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Print JSON, and nothing else
    #[arg(long, help_heading = "Run")]
    pub json: bool,
    /// Read the data set without inspecting it in a process of its own first
    #[arg(long, help_heading = "Run")]
    pub trust_files: bool,
}

/// Bytes of a number of dense features, and of an edge, as they are read.
const FEATURE_BYTES: u64 = 4;
/// The least that can be planned of nodes, training nodes, features and classes.
const LEAST: [u32; 4] = [1, 1, 1, 2];
/// Blocks of nodes, each of which is kept in a list.
const MOST_BLOCKS: usize = 10_000_000;

/// Prints the plan.
///
/// # Errors
/// [`Failure`], with what to print.
pub fn run(arguments: &PlanArguments) -> Result<(), Failure> {
    let fail = |exit_code, message| Failure { message, exit_code, is_joint: true };
    let settings = checked_settings(arguments).map_err(|message| fail(2, message))?;
    let mut run = match sizes(arguments).map_err(|message| fail(2, message))? {
        Some(run) => run,
        None => read(arguments, &settings)?,
    };
    let stages: Vec<_> = settings.stages.iter().map(|&layers| run.stage(&settings, layers)).collect();
    run.shards = shards_of_stages(&stages, run.ranks, settings.shards, run.blocks.count())
        .map_err(|error| fail(2, error.to_string()))?;
    let time = predicted(arguments, &run, &settings).map_err(|message| fail(2, message))?;
    let forecast = Forecast::of(&run, &settings);
    // Nobody is there to be told when standard output is closed.
    let mut out = std::io::stdout().lock();
    let _ = match arguments.json {
        true => {
            let all = Told { forecast, time };
            writeln!(out, "{}", serde_json::to_string_pretty(&all).unwrap_or_default())
        }
        false => print(&forecast, &mut out).and_then(|()| match &time {
            Some(time) => print_time(time, &mut out),
            None => Ok(()),
        }),
    };
    Ok(())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    forecast: Forecast,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<TimeForecast>,
}

/// Seconds an iteration, where a measured run and a network are given.
fn predicted(
    arguments: &PlanArguments,
    run: &RunShape,
    settings: &Settings,
) -> Result<Option<TimeForecast>, String> {
    let network = Network::of(&arguments.network)?;
    let (folder, network) = match (&arguments.measured, network) {
        (None, None) => return Ok(None),
        (Some(folder), Some(network)) => (folder, network),
        (None, Some(_)) => {
            return Err("a network needs --measured: the folder of a run of train --measure-ranks".into());
        }
        (Some(_), None) => {
            return Err("--measured needs a network: --network, or --latency and --bandwidth".into());
        }
    };
    let measured = MeasuredRun::read(folder).map_err(|error| error_chain(&error))?;
    measured.must_match(settings).map_err(|error| error_chain(&error))?;
    let rates = measured.rates().map_err(|error| error_chain(&error))?;
    if measured.settings.neurons != settings.neurons {
        log::warn!(
            "{} has {} neurons, the plan {}: products of other sizes run at other rates",
            folder.display(),
            measured.settings.neurons,
            settings.neurons
        );
    }
    let most = arguments.up_to.unwrap_or(arguments.ranks) as usize;
    Ok(Some(TimeForecast::of(run, settings, &rates, &network, most)))
}

/// The settings; what only a run needs is filled in.
fn checked_settings(arguments: &PlanArguments) -> Result<Settings, String> {
    let flags = arguments.settings.clone();
    let mut raw = flags.over_file(arguments.config.as_deref()).map_err(|error| error_chain(&error))?;
    raw.output.get_or_insert_with(|| PathBuf::from("planned"));
    if arguments.nodes.is_some() {
        raw.data.get_or_insert_with(|| PathBuf::from("planned.h5"));
    }
    let settings = raw.check().map_err(|error| error_chain(&error))?;
    match settings.method {
        Method::Admm => Ok(settings),
        other => {
            Err(format!("plan knows --optimizer admm only, not {}: its ranks hold layers", other.word()))
        }
    }
}

/// The sizes that are given by flags; none where the file is to be asked.
fn sizes(arguments: &PlanArguments) -> Result<Option<RunShape>, String> {
    let PlanArguments { nodes, training_nodes, features, classes, evaluated, .. } = arguments;
    let given = [nodes, training_nodes, features, classes];
    if given.iter().all(|size| size.is_none()) && evaluated.is_none() {
        return Ok(None);
    }
    if arguments.settings.data.is_some() {
        return Err("sizes and --data both: give the sizes in the place of --data, or leave them out".into());
    }
    let names = ["nodes", "training-nodes", "features", "classes"];
    let of = |at: usize| match given[at] {
        Some(size) if *size >= LEAST[at] => Ok(*size as usize),
        Some(size) => Err(format!("--{} {size}: at least {} needed", names[at], LEAST[at])),
        None => Err(format!(
            "--{} is needed beside the other sizes; or leave them all out and give --data",
            names[at]
        )),
    };
    let [nodes, training, features, classes] = [of(0)?, of(1)?, of(2)?, of(3)?];
    let evaluated = evaluated.map_or(training, |evaluated| evaluated as usize);
    if !(training <= evaluated && evaluated <= nodes) {
        return Err(format!(
            "{training} training nodes are among the {evaluated} evaluated ones (--evaluated), and these among the \
             {nodes} of the graph (--nodes): make them rise"
        ));
    }
    let block_nodes = arguments.settings.block_nodes;
    let blocks = block_nodes.map_or(0, |nodes| training.div_ceil(nodes.max(1)));
    if blocks > MOST_BLOCKS {
        return Err(format!(
            "{training} training nodes in {blocks} blocks of --block-nodes: at most {MOST_BLOCKS} can be planned"
        ));
    }
    Ok(Some(RunShape {
        graph_nodes: nodes,
        features,
        classes,
        raw_bytes: FEATURE_BYTES * nodes as u64 * features as u64,
        blocks: NodeBlocks::new(training, block_nodes),
        evaluated: EvaluatedNodes::blocks_of(evaluated),
        ranks: arguments.ranks as usize,
        shards: Vec::new(),
    }))
}

/// The sizes in the data set file, of which edges and features stay unread.
fn read(arguments: &PlanArguments, settings: &Settings) -> Result<RunShape, Failure> {
    let fail = |exit_code, message| Failure { message, exit_code, is_joint: true };
    let checksum = match arguments.trust_files {
        true => None,
        false => {
            let inspected = inspect(FileKind::Dataset, &settings.data, false);
            Some(inspected.map_err(|error| fail(error.exit_code(), error_chain(&error)))?.checksum)
        }
    };
    let problem = Problem::read(&settings.data, settings.split.as_deref(), checksum.as_deref())
        .map_err(|error| fail(error.describe().0, error_chain(&error)))?;
    Ok(RunShape::of_problem(&problem, settings, arguments.ranks as usize))
}

fn print(forecast: &Forecast, out: &mut impl Write) -> std::io::Result<()> {
    let Forecast { training_nodes, evaluated_nodes, inputs, classes, stages, peaks } = forecast;
    writeln!(
        out,
        "{training_nodes} training nodes of {evaluated_nodes} evaluated ones, {inputs} inputs, {classes} classes; {} ranks",
        peaks.len()
    )?;
    for (number, stage) in stages.iter().enumerate() {
        let StageForecast { layers, mapping, ranks, boundaries, gflop, balance, .. } = stage;
        writeln!(out)?;
        writeln!(out, "stage {} of {}: {layers} layers, by rank: {mapping}", number + 1, stages.len())?;
        writeln!(
            out,
            "{:>6} {:>9} {:>9} {:>10} {:>10} {:>10} {:>12} {:>12}",
            "rank", "layers", "nodes", "state", "buffers", "peak", "GFLOP", "GFLOP eval."
        )?;
        for RankForecast { rank, layers, nodes, memory, gflop, gflop_evaluation } in ranks {
            let layers = match layers {
                None => "-".to_owned(),
                Some([first, last]) if first == last => first.to_string(),
                Some([first, last]) => format!("{first}-{last}"),
            };
            writeln!(
                out,
                "{rank:>6} {layers:>9} {nodes:>9} {:>10} {:>10} {:>10} {gflop:>12.3} {gflop_evaluation:>12.3}",
                in_words(memory.state),
                in_words(memory.buffers),
                in_words(memory.peak),
            )?;
        }
        writeln!(
            out,
            "products   {gflop:.3} GFLOP an iteration; balance {balance:.2} (mean over most of a rank)"
        )?;
        let sum =
            |of: fn(&crate::train::forecast::BoundaryForecast) -> u64| boundaries.iter().map(of).sum::<u64>();
        if !boundaries.is_empty() {
            writeln!(
                out,
                "exchange   p {}, q {} an iteration over {} boundaries; p, q and u as float32: {}",
                in_words(sum(|of| of.p)),
                in_words(sum(|of| of.q)),
                boundaries.len(),
                in_words(sum(|of| of.baseline))
            )?;
        }
    }
    let all = peaks.iter().fold(0, |sum: u64, &peak| sum.saturating_add(peak));
    let most = peaks.iter().copied().max().unwrap_or(0);
    writeln!(out)?;
    writeln!(out, "memory     at most {} a rank, {} over all ranks", in_words(most), in_words(all))
}

fn print_time(time: &TimeForecast, out: &mut impl Write) -> std::io::Result<()> {
    let TimeForecast { layers, network: Network { latency, bandwidth, .. }, rows, .. } = time;
    writeln!(out)?;
    writeln!(
        out,
        "time       seconds an iteration of {layers} layers, without evaluations; a message takes {:.1} us and {}/s",
        1e6 * latency,
        in_words(*bandwidth as u64)
    )?;
    writeln!(
        out,
        "{:>6} {:>15} {:>11} {:>11} {:>9} {:>11} {:>10}",
        "ranks", "runs x shards", "seconds", "busy", "speed-up", "efficiency", "p and q"
    )?;
    for TimeRow { ranks, runs, shards, seconds, busy, speed_up, efficiency, bytes } in rows {
        writeln!(
            out,
            "{ranks:>6} {:>15} {seconds:>11.5} {busy:>11.5} {speed_up:>9.2} {efficiency:>11.2} {:>10}",
            format!("{runs} x {shards}"),
            in_words(*bytes as u64)
        )?;
    }
    Ok(())
}

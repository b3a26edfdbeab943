//! What a run prints on rank 0: a banner, a table of iterations, a footer. Lines, no cursor tricks unless a bar is asked
//! for: a Slurm log stays readable.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use super::output::{BytesSummary, HistoryRow, Summary, ratio};
use super::problem::Problem;
use super::progress::Progress;
use super::status::Status;
use super::usage::{MemorySummary, table};
use crate::linalg::processor::lapack_misjudgement;
use crate::parallel::plan::Plan;
use crate::parallel::{Communicator, Host, processors};
use crate::progress::{Bar, time};
use crate::settings::{Method, PenaltyRule, Quantize, Settings, Start};

/// Rows printed for a stage, about.
const ROWS: usize = 10;

/// Where a run's lines go; quiet and silent ranks print nothing. A clone prints to the same place.
#[derive(Clone)]
pub struct Screen {
    target: Option<Rc<RefCell<Box<dyn Write>>>>,
    progress: Rc<RefCell<Progress>>,
}

impl Screen {
    /// Prints to `target`.
    pub fn to(target: Box<dyn Write>) -> Self {
        Self { target: Some(Rc::new(RefCell::new(target))), progress: Rc::default() }
    }

    /// Prints to standard output, with a bar below that shows how far a run is. It is meant for a terminal.
    pub fn with_bar() -> Self {
        let progress = Rc::new(RefCell::new(Progress::with_bar(Bar::default())));
        Self { progress, ..Self::to(Box::new(std::io::stdout())) }
    }

    /// Prints nothing.
    pub fn silent() -> Self {
        Self { target: None, progress: Rc::default() }
    }

    /// Prints a line; nobody is there to be told when the output is closed.
    pub(super) fn line(&mut self, text: std::fmt::Arguments<'_>) {
        if let Some(target) = &self.target {
            self.progress.borrow().aside(|| {
                let mut target = target.borrow_mut();
                let _ = writeln!(target, "{text}").and_then(|()| target.flush());
            });
        }
    }

    /// What runs, where and on what.
    pub fn banner(
        &mut self,
        communicator: &dyn Communicator,
        hosts: &[Host],
        problem: &Problem,
        settings: &Settings,
    ) {
        let slow_lapack = if settings.method == Method::Admm { lapack_misjudgement() } else { None };
        let warnings = || problem.warnings.iter().chain(&slow_lapack);
        if self.target.is_none() && communicator.rank() == 0 {
            // Who wants no lines wants warnings all the same; they go to standard error.
            warnings().for_each(|warning| log::warn!("{warning}"));
        }
        let ranks = communicator.size();
        self.progress.borrow_mut().begin(settings, ranks);
        self.line(format_args!(
            "pdadmm-g {} - {}; {}",
            env!("CARGO_PKG_VERSION"),
            if settings.method == Method::Admm { "pdADMM-G" } else { "backpropagation, full batch" },
            communicator.library()
        ));
        let names: Vec<String> = hosts.iter().map(|h| format!("{} ({})", h.name, h.ranks.len())).collect();
        let threads = settings.threads;
        self.line(format_args!(
            "  ranks     {ranks} on {}, {threads} thread{} each",
            names.join(", "),
            if threads == 1 { "" } else { "s" }
        ));
        let [train, val, test] = problem.sizes();
        self.line(format_args!(
            "  data      {}: {} nodes, {} features, {} classes; split {}: {train} training, {val} validation, {test} test",
            problem.name, problem.graph_nodes, problem.features, problem.classes, problem.split
        ));
        let inputs = match settings.auto_operators {
            true => "operators to be chosen".to_owned(),
            false => {
                let inputs = settings.operators.count() * problem.features;
                format!("operators {}, {inputs} inputs", settings.operators)
            }
        };
        self.line(format_args!(
            "  network   {} layers x {} neurons, {inputs}, {:?}",
            settings.layers, settings.neurons, settings.precision,
        ));
        match settings.method {
            Method::Admm => self.training_by_admm(settings),
            _ => self.training_by_backprop(settings),
        }
        let cores = cores_of_machine();
        let most = hosts.iter().map(|h| h.ranks.len()).max().unwrap_or(1);
        if most * threads > cores {
            self.line(format_args!(
                "  warning   {most} ranks x {threads} threads on a machine of {cores} cores: they will take turns"
            ));
        }
        for warning in warnings() {
            self.line(format_args!("  warning   {warning}"));
        }
    }

    fn training_by_admm(&mut self, settings: &Settings) {
        let stages: Vec<String> = settings.stages.iter().map(ToString::to_string).collect();
        let penalties = match settings.penalties {
            PenaltyRule::Fixed => format!("rho {} nu {}, fixed", settings.rho, settings.nu),
            PenaltyRule::Adaptive => {
                format!(
                    "rho {} nu {}, growing x{} to nu {}",
                    settings.rho, settings.nu, settings.penalty_growth, settings.nu_max
                )
            }
        };
        let quantized = match (settings.quantize, &settings.levels) {
            (Quantize::None, _) => format!("p and q as {}", settings.wire),
            (what, Some(levels)) => format!("{what:?} on the levels {levels}").to_lowercase(),
            (what, None) => format!("{what:?} at {} bits", settings.bits).to_lowercase(),
        };
        let start = match settings.start {
            Start::Random => "",
            Start::Labels => " from labels",
        };
        self.line(format_args!(
            "  training  stages {}{start} of {} iterations, {penalties}, mu {}, dropout {}, tie {}, covariance {}, class weights {}, {quantized}, seed {}",
            stages.join(","),
            settings.iterations,
            settings.mu,
            settings.dropout,
            settings.tie_operators,
            settings.follow_covariance,
            settings.class_weights,
            settings.seed
        ));
    }

    fn training_by_backprop(&mut self, settings: &Settings) {
        self.line(format_args!(
            "  training  {} iterations of {}, learning rate {}, weight decay {}, dropout {}, class weights {}, seed {}",
            settings.iterations,
            settings.method.word(),
            settings.learning_rate,
            settings.weight_decay,
            settings.dropout,
            settings.class_weights,
            settings.seed
        ));
    }

    /// The head of the table of a run by backpropagation.
    pub fn steps(&mut self) {
        self.line(format_args!(""));
        self.line(format_args!(
            "{:>9} {:>11} {:>11} {:>7} {:>7} {:>7} {:>8} {:>7}",
            "iteration", "objective", "risk", "train", "val", "test", "seconds", "left"
        ));
    }

    /// A row of that table where it is due.
    pub fn step_row(&mut self, row: &HistoryRow, iterations: usize, last: bool) {
        let left = self.progress.borrow_mut().observe(row, row.iteration as usize);
        if !is_due(row.iteration as usize, iterations, last) {
            return;
        }
        self.line(format_args!(
            "{:>9} {:>11.4e} {:>11.4e} {:>7} {:>7} {:>7} {:>8.2} {:>7}",
            row.iteration,
            row.objective,
            row.risk,
            share(row.train_accuracy),
            share(row.val_accuracy),
            share(row.test_accuracy),
            row.seconds,
            time(left)
        ));
    }

    /// What the run goes on from.
    pub fn resumed(&mut self, checkpoint: &std::path::Path, version: &str) {
        self.line(format_args!("  resumed   from {}, written by version {version}", checkpoint.display()));
    }

    /// That there is no checkpoint yet to go on from.
    pub fn from_the_start(&mut self) {
        self.line(format_args!("  resumed   from the start: the run was ended before its first checkpoint"));
    }

    /// The head of a stage's table.
    pub fn stage(&mut self, number: usize, count: usize, plan: &Plan) {
        self.line(format_args!(""));
        self.line(format_args!("stage {number} of {count}: {} layers, by rank: {plan}", plan.layers()));
        self.line(format_args!(
            "{:>9} {:>11} {:>11} {:>9} {:>9} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7}",
            "iteration",
            "objective",
            "lagrangian",
            "primal",
            "dual",
            "nu",
            "train",
            "val",
            "test",
            "ratio",
            "seconds",
            "left"
        ));
    }

    /// A row of the table where it is due: about ten a stage, the first and the last always.
    pub fn row(&mut self, row: &HistoryRow, of_stage: usize, iterations: usize, last: bool) {
        let left = self.progress.borrow_mut().observe(row, of_stage);
        if !is_due(of_stage, iterations, last) {
            return;
        }
        self.line(format_args!(
            "{:>9} {:>11.4e} {:>11.4e} {:>9.2e} {:>9.2e} {:>8.0e} {:>7} {:>7} {:>7} {:>7} {:>8.2} {:>7}",
            row.iteration,
            row.objective,
            row.lagrangian,
            row.primal_residual,
            row.dual_residual,
            row.nu,
            share(row.train_accuracy),
            share(row.val_accuracy),
            share(row.test_accuracy),
            ratio(row.bytes_baseline, row.bytes_p, row.bytes_q).map_or("-".to_owned(), |r| format!("{r:.1}")),
            row.seconds,
            time(left)
        ));
    }

    /// How it ended.
    pub fn footer(&mut self, status: Status, summary: &Summary, folder: &std::path::Path) {
        self.progress.borrow_mut().end();
        self.line(format_args!(""));
        self.line(format_args!("status     {} - {}", summary.status, summary.message));
        self.line(format_args!(
            "best       iteration {}: validation {}, test accuracy {}",
            summary.best.iteration,
            share(summary.best.val),
            share(summary.best.test)
        ));
        self.line(format_args!(
            "last       iteration {}: training {}, validation {}, test accuracy {}",
            summary.iterations,
            share(summary.accuracy.train),
            share(summary.accuracy.val),
            share(summary.accuracy.test)
        ));
        self.line(format_args!(
            "test F1    best: micro {}, macro {}; last: micro {}, macro {}",
            share(summary.f1.best.micro),
            share(summary.f1.best.macro_),
            share(summary.f1.last.micro),
            share(summary.f1.last.macro_)
        ));
        if summary.optimizer == Method::Admm.word() {
            self.traffic(summary);
        } else if summary.bytes.other > 0 {
            self.line(format_args!("sent       {} bytes of gradients and parameters", summary.bytes.other));
        }
        self.usage(summary);
        let result = match status {
            Status::Interrupted(_) => format!("go on with: pdadmm-g train --resume {}", folder.display()),
            // A run that diverges before its first evaluation leaves none.
            _ if !folder.join("model.h5").exists() => format!("no model; history in {}", folder.display()),
            _ => format!("model in {}", folder.join("model.h5").display()),
        };
        self.line(format_args!(
            "seconds    {:.2} in all, {:.2} training; {result}",
            summary.seconds.total, summary.seconds.train
        ));
    }

    /// What the ADMM's exchange took.
    fn traffic(&mut self, summary: &Summary) {
        let BytesSummary { p, q, messages, other, .. } = summary.bytes;
        let ratio = match summary.bytes.ratio {
            None => "n/a".to_owned(),
            Some(ratio) => format!("{ratio:.1} times fewer than p, q and u as float32"),
        };
        self.line(format_args!("sent       {} bytes of p and q in {messages} messages: {ratio}", p + q));
        if other > 0 {
            self.line(format_args!("           {other} bytes for evaluations, the starts of stages, and sums of ranks that share nodes"));
        }
    }

    /// Where the time went, and the most memory.
    fn usage(&mut self, summary: &Summary) {
        self.line(format_args!(""));
        for line in table(&summary.phases) {
            self.line(format_args!("{line}"));
        }
        self.line(format_args!(""));
        let MemorySummary { peak, peak_sum } = summary.memory;
        if peak > 0 {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            let all = mb(peak_sum);
            self.line(format_args!(
                "memory     at most {:.0} MB a rank, {all:.0} MB over all ranks",
                mb(peak)
            ));
        }
    }
}

fn share(x: Option<f64>) -> String {
    x.map_or("-".to_owned(), |x| format!("{x:.4}"))
}

/// Whether the row of an iteration is printed: about ten a stage, the first and the last always.
fn is_due(iteration: usize, iterations: usize, last: bool) -> bool {
    iteration == 1 || last || iteration.is_multiple_of((iterations / ROWS).max(1))
}

/// Cores that are online. A launcher may have bound this rank to one of them, which the standard library then takes
/// for all there are.
fn cores_of_machine() -> usize {
    let own = std::thread::available_parallelism().map_or(1, usize::from);
    processors::online().map_or(own, |online| online.max(own))
}

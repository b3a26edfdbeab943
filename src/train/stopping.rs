//! What ends or saves a run before its last iteration: signals, and the clock of rank 0. What is asked travels with the
//! sums of an iteration, so that all ranks grant it after the same one.

use std::time::{Duration, Instant};

use super::reduction::Requests;
use crate::settings::{CheckpointEvery, Settings};

/// Whether this rank has been told to stop; asked after each iteration with its number, counted over all stages.
pub type StopSignal = Box<dyn Fn(u64) -> bool>;

/// Why a run was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// A rank had a signal.
    Signal,
    /// `--max-time` is over.
    Time,
}

impl Requests {
    /// Whether the run is to stop, and why.
    pub fn stop(&self) -> Option<StopCause> {
        match (self.stops > 0, self.time_is_up) {
            (true, _) => Some(StopCause::Signal),
            (false, true) => Some(StopCause::Time),
            (false, false) => None,
        }
    }
}

/// When checkpoints are due and the time is up. Only rank 0's clock counts.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    longest: Option<Duration>,
    every: CheckpointEvery,
    last: Instant,
    /// A checkpoint has been asked for and not been written yet.
    is_asked: bool,
    counts: bool,
    /// What all ranks learned at the end of a stage, too late to be granted there.
    left_over: Requests,
}

impl Clock {
    /// From the start of the process's work.
    pub fn new(settings: &Settings, start: Instant, rank: usize) -> Self {
        let (longest, every) = (settings.max_time.0, settings.checkpoint_every);
        let (last, is_asked, left_over) = (Instant::now(), false, Requests::default());
        Self { start, longest, every, last, is_asked, counts: rank == 0, left_over }
    }

    /// What the clock asks for now.
    pub fn requests(&mut self) -> Requests {
        let is_due = match self.every {
            CheckpointEvery::Time(time) => !self.is_asked && self.last.elapsed() >= time,
            _ => false,
        };
        let checkpoint_is_due = self.counts && is_due;
        self.is_asked |= checkpoint_is_due;
        let time_is_up = self.counts && self.longest.is_some_and(|longest| self.start.elapsed() >= longest);
        Requests { stops: 0, time_is_up, checkpoint_is_due }
    }

    /// Whether a checkpoint is due after this iteration by its number.
    pub fn is_due_at(&self, iteration: u64) -> bool {
        matches!(self.every, CheckpointEvery::Iterations(every) if iteration.is_multiple_of(every))
    }

    /// What was asked for in the last iteration of a stage waits for the first of the next. Where a stage has one
    /// iteration only, nothing would ever be granted otherwise.
    pub fn stage_ended(&mut self, requests: Requests) {
        // What was dropped because the stage ended by itself may be asked for anew.
        (self.left_over, self.is_asked) = (requests, requests.checkpoint_is_due);
    }

    /// What is to be granted after an iteration: what was asked for in the one before, in whichever stage that was.
    pub fn granted(&mut self, settled: Requests) -> Requests {
        let left_over = std::mem::take(&mut self.left_over);
        Requests {
            stops: settled.stops + left_over.stops,
            time_is_up: settled.time_is_up || left_over.time_is_up,
            checkpoint_is_due: settled.checkpoint_is_due || left_over.checkpoint_is_due,
        }
    }

    /// The time to the next one begins.
    pub fn checkpoint_written(&mut self) {
        (self.last, self.is_asked) = (Instant::now(), false);
    }
}

//! Where a rank's time goes: one clock that is always in exactly one phase.
//!
//! A phase within another stops the outer one: waiting for q inside the update of p is waiting, and nothing counts
//! twice. So all phases, [`Phase::Other`] included, add up to the time since the clock was made.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

mod busy;

use busy::BusyMeter;
pub use busy::{BusyTotals, Part};

/// What a rank can be busy with, in the order of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading the data set.
    Read,
    /// Augmented features, and what layer 1 keeps of them.
    Augment,
    /// The start of a stage: weights on their way to other ranks, the forward pass.
    Stage,
    /// p_l.
    P,
    /// W_l.
    #[serde(rename = "W")]
    W,
    /// b_l.
    B,
    /// z_l.
    Z,
    /// q_l, and u_l with it.
    Q,
    /// u of the boundary with the rank below.
    U,
    /// The gradient and the step of backpropagation.
    Gradient,
    /// Writing messages.
    Encode,
    /// Handing messages over and moving them along.
    Send,
    /// Waiting for other ranks.
    Wait,
    /// Reading messages.
    Decode,
    /// What all ranks learn of an iteration: filling in, adding up, drawing conclusions.
    Reduce,
    /// Forward passes that measure accuracy.
    Evaluate,
    /// Checkpoints.
    Checkpoint,
    /// The history, the models and the summary.
    Io,
    /// Everything else.
    Other,
}

impl Phase {
    /// How many there are.
    pub const COUNT: usize = Phase::Other as usize + 1;

    /// All of them, in order.
    pub const ALL: [Phase; Self::COUNT] = [
        Phase::Read,
        Phase::Augment,
        Phase::Stage,
        Phase::P,
        Phase::W,
        Phase::B,
        Phase::Z,
        Phase::Q,
        Phase::U,
        Phase::Gradient,
        Phase::Encode,
        Phase::Send,
        Phase::Wait,
        Phase::Decode,
        Phase::Reduce,
        Phase::Evaluate,
        Phase::Checkpoint,
        Phase::Io,
        Phase::Other,
    ];

    /// Its name in tables and files; variables have the paper's letters.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Read => "read",
            Phase::Augment => "augment",
            Phase::Stage => "stage",
            Phase::P => "p",
            Phase::W => "W",
            Phase::B => "b",
            Phase::Z => "z",
            Phase::Q => "q",
            Phase::U => "u",
            Phase::Gradient => "gradient",
            Phase::Encode => "encode",
            Phase::Send => "send",
            Phase::Wait => "wait",
            Phase::Decode => "decode",
            Phase::Reduce => "reduce",
            Phase::Evaluate => "evaluate",
            Phase::Checkpoint => "checkpoint",
            Phase::Io => "io",
            Phase::Other => "other",
        }
    }
}

/// What a phase has come to on one rank.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseTotal {
    /// Time in it.
    pub time: Duration,
    /// How often it was entered.
    pub entries: u64,
    /// Floating point operations of the products made in it.
    pub operations: f64,
}

/// The clock of one rank. It is shared by reference and read by one thread, the rank's own.
#[derive(Debug)]
pub struct PhaseClock {
    start: Instant,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    totals: [Cell<PhaseTotal>; Phase::COUNT],
    busy: BusyMeter,
}

impl PhaseClock {
    /// A clock that starts now, in [`Phase::Other`].
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            phase: Cell::new(Phase::Other),
            since: Cell::new(now),
            totals: std::array::from_fn(|_| Cell::default()),
            busy: BusyMeter::default(),
        }
    }

    /// Enters a phase until the guard is dropped, which goes back to the phase before.
    #[must_use = "the phase lasts as long as the guard"]
    pub fn enter(&self, phase: Phase) -> PhaseGuard<'_> {
        let before = self.switch(phase);
        self.update(phase, |total| total.entries += 1);
        PhaseGuard { within: Some((self, before)) }
    }

    /// Counts floating point operations to the phase that the clock is in.
    pub fn count(&self, operations: f64) {
        self.update(self.phase.get(), |total| total.operations += operations);
    }

    /// Seconds since the clock was made.
    pub fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Seconds in a phase so far.
    pub fn seconds(&self, phase: Phase) -> f64 {
        self.totals()[phase as usize].time.as_secs_f64()
    }

    /// What every phase has come to so far, in the order of [`Phase::ALL`].
    pub fn totals(&self) -> [PhaseTotal; Phase::COUNT] {
        self.switch(self.phase.get());
        std::array::from_fn(|i| self.totals[i].get())
    }

    /// Measures from now on what iterations cost the processor.
    pub fn measure_iterations(&self) {
        self.busy.switch_on();
    }

    /// Whether it does.
    pub fn measures_iterations(&self) -> bool {
        self.busy.is_on()
    }

    /// A stage begins: iterations measured so far are forgotten.
    pub fn begin_stage(&self) {
        self.busy.restart();
    }

    /// An iteration begins.
    pub fn begin_iteration(&self) {
        self.switch(self.phase.get());
        self.busy.begin();
    }

    /// The iteration has come to this part.
    pub fn begin_part(&self, part: Part) {
        self.switch(self.phase.get());
        self.busy.enter(part);
    }

    /// The iteration ends; it counts if `keep`. `bytes` are those of p and of q that were sent in it.
    pub fn end_iteration(&self, keep: bool, bytes: [u64; 2]) {
        self.switch(self.phase.get());
        self.busy.end(keep, bytes);
    }

    /// The iterations of this stage that count.
    pub fn iterations(&self) -> BusyTotals {
        self.busy.kept()
    }

    fn switch(&self, to: Phase) -> Phase {
        let (now, before) = (Instant::now(), self.phase.get());
        let spent = now - self.since.get();
        self.update(before, |total| total.time += spent);
        self.busy.book(before, spent);
        self.since.set(now);
        self.phase.replace(to)
    }

    fn update(&self, phase: Phase, change: impl FnOnce(&mut PhaseTotal)) {
        let cell = &self.totals[phase as usize];
        let mut total = cell.get();
        change(&mut total);
        cell.set(total);
    }
}

impl Default for PhaseClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Goes back to the phase before when it is dropped.
#[derive(Debug)]
pub struct PhaseGuard<'a> {
    within: Option<(&'a PhaseClock, Phase)>,
}

impl<'a> PhaseGuard<'a> {
    /// Enters a phase where there is a clock.
    pub fn of(clock: Option<&'a PhaseClock>, phase: Phase) -> Self {
        clock.map_or(PhaseGuard { within: None }, |clock| clock.enter(phase))
    }
}

impl Drop for PhaseGuard<'_> {
    fn drop(&mut self) {
        if let Some((clock, before)) = self.within {
            clock.switch(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    #[test]
    fn an_inner_phase_stops_the_outer_one() {
        let clock = PhaseClock::new();
        {
            let _p = clock.enter(Phase::P);
            spend(10);
            clock.count(3.0);
            {
                let _wait = clock.enter(Phase::Wait);
                spend(30);
                let _decode = clock.enter(Phase::Decode);
                clock.count(5.0);
            }
            assert_eq!(clock.phase.get(), Phase::P);
            clock.count(4.0);
        }
        let totals = clock.totals();
        let of = |phase: Phase| totals[phase as usize];
        let sum: Duration = totals.iter().map(|total| total.time).sum();
        assert_eq!(sum, clock.since.get() - clock.start, "all phases together are the whole time");
        assert!(of(Phase::P).time >= Duration::from_millis(10));
        assert!(of(Phase::Wait).time >= Duration::from_millis(30));
        assert!(of(Phase::P).time + of(Phase::Wait).time <= sum);
        assert_eq!((of(Phase::P).operations, of(Phase::Decode).operations), (7.0, 5.0));
        assert_eq!((of(Phase::P).entries, of(Phase::Other).entries), (1, 0));
    }

    #[test]
    fn iterations_are_measured_part_by_part_without_waiting() {
        let work = || (0..2_000_000u64).fold(0, |x: u64, y| std::hint::black_box(x.wrapping_mul(31) + y));
        let clock = PhaseClock::new();
        clock.begin_iteration();
        clock.end_iteration(true, [1, 1]);
        assert_eq!(clock.iterations(), BusyTotals::default(), "nobody has asked");
        clock.measure_iterations();
        for keep in [false, true, true] {
            clock.begin_iteration();
            let p = clock.enter(Phase::P);
            work();
            clock.begin_part(Part::P);
            {
                let _wait = clock.enter(Phase::Wait);
                work();
                spend(5);
            }
            drop(p);
            clock.begin_part(Part::Middle);
            let _w = clock.enter(Phase::W);
            work();
            clock.end_iteration(keep, [3, 4]);
        }
        let of = clock.iterations();
        assert_eq!((of.iterations, of.bytes), (2, [6, 8]));
        assert!(of.waited >= 0.010 && of.seconds > of.waited, "{of:?}");
        let [begin, p, middle, q, end] = of.parts;
        assert!(begin > 0.0 && middle > 0.0 && q == 0.0 && end == 0.0, "{of:?}");
        assert!(p < 0.5 * of.phases[Phase::Wait as usize], "waiting is no work: {of:?}");
        let phases: f64 = of.phases.iter().sum();
        let parts: f64 = of.parts.iter().sum();
        assert!((phases - of.phases[Phase::Wait as usize] - parts).abs() < 1e-9, "{of:?}");
        clock.begin_stage();
        assert_eq!(clock.iterations().iterations, 0);
    }

    #[test]
    fn without_a_clock_nothing_is_kept() {
        drop(PhaseGuard::of(None, Phase::P));
        let clock = PhaseClock::new();
        drop(PhaseGuard::of(Some(&clock), Phase::P));
        assert_eq!(clock.totals()[Phase::P as usize].entries, 1);
    }

    #[test]
    fn names_in_files_are_those_of_the_table() {
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, i);
            assert_eq!(serde_json::to_value(phase).ok(), Some(phase.name().into()));
        }
    }
}

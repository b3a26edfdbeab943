//! What an iteration costs the processor of a rank, part by part, whoever else shares that processor.
//!
//! Wall time says what an iteration cost only where every rank has a processor to itself. The processor time of the
//! rank's own thread says it wherever the rank runs, so that ranks that outnumber processors can be measured too. Time in
//! [`Phase::Wait`] is left out: it is spent testing for messages. With several threads a rank's own thread does only its
//! share, and its processor time says little.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::Phase;

/// The parts that the exchange with neighbours cuts an iteration into.
///
/// A rank without a neighbour below has no `P` and `Middle`, one without a neighbour above no `Q` and `End`: what they
/// would hold belongs to the part before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Until q of the layer below is needed.
    Begin,
    /// From there until p is on its way down.
    P,
    /// From there until p of the layer above is needed.
    Middle,
    /// From there until q is on its way up.
    Q,
    /// From there to the next iteration.
    End,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = Part::End as usize + 1;
}

/// Processor seconds of iterations, by part and by phase, with their wall time and the bytes sent in them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BusyTotals {
    /// Iterations.
    pub iterations: u64,
    /// Processor seconds by part, waiting left out.
    pub parts: [f64; Part::COUNT],
    /// Processor seconds by phase.
    pub phases: [f64; Phase::COUNT],
    /// Wall seconds.
    pub seconds: f64,
    /// Wall seconds in [`Phase::Wait`].
    pub waited: f64,
    /// Bytes sent of p and of q.
    pub bytes: [u64; 2],
}

/// Iterations under way and done; nothing at all until it is switched on, as asking for processor time costs a call of
/// the system.
#[derive(Debug, Default)]
pub(super) struct BusyMeter {
    is_on: Cell<bool>,
    part: Cell<usize>,
    since: Cell<Duration>,
    wall: Cell<Option<Instant>>,
    current: RefCell<BusyTotals>,
    kept: RefCell<BusyTotals>,
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

impl BusyMeter {
    pub fn switch_on(&self) {
        self.is_on.set(true);
    }

    pub fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Forgets what was kept.
    pub fn restart(&self) {
        *self.kept.borrow_mut() = BusyTotals::default();
    }

    pub fn begin(&self) {
        if self.is_on() {
            *self.current.borrow_mut() = BusyTotals::default();
            self.part.set(Part::Begin as usize);
            self.since.set(processor_time());
            self.wall.set(Some(Instant::now()));
        }
    }

    /// Time up to now belongs to `phase`, and to the part that the iteration is in.
    pub fn book(&self, phase: Phase, spent: Duration) {
        if !self.is_on() {
            return;
        }
        let now = processor_time();
        let busy = now.saturating_sub(self.since.replace(now)).as_secs_f64();
        let mut current = self.current.borrow_mut();
        current.phases[phase as usize] += busy;
        if phase == Phase::Wait {
            current.waited += spent.as_secs_f64();
        } else {
            current.parts[self.part.get()] += busy;
        }
    }

    pub fn enter(&self, part: Part) {
        self.part.set(part as usize);
    }

    /// Ends the iteration and keeps it, or not.
    pub fn end(&self, keep: bool, bytes: [u64; 2]) {
        let Some(start) = self.wall.take() else { return };
        if !keep {
            return;
        }
        let (mut kept, current) = (self.kept.borrow_mut(), self.current.borrow());
        let add = |to: &mut [f64], of: &[f64]| to.iter_mut().zip(of).for_each(|(to, of)| *to += of);
        kept.iterations += 1;
        add(&mut kept.parts, &current.parts);
        add(&mut kept.phases, &current.phases);
        kept.seconds += start.elapsed().as_secs_f64();
        kept.waited += current.waited;
        kept.bytes.iter_mut().zip(bytes).for_each(|(to, of)| *to += of);
    }

    pub fn kept(&self) -> BusyTotals {
        *self.kept.borrow()
    }
}

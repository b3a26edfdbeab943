//! The one wait loop.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::communicator::{Communicator, Completed, Pending};
use super::error::CommError;
use super::roll_call::silent_ranks;
use crate::timing::{Phase, PhaseClock};

/// How long the other ranks have to answer once something is late: they may have begun to wait a little later.
const SHORTEST_ROLL_CALL: Duration = Duration::from_secs(1);
const LONGEST_ROLL_CALL: Duration = Duration::from_secs(10);

/// How [`wait`] waits, and the clock of the rank that waits.
#[derive(Debug, Default)]
pub struct WaitPolicy {
    deadline: Option<Duration>,
    patient: bool,
    clock: Rc<PhaseClock>,
}

impl WaitPolicy {
    /// Waits for ever, yielding the processor between tests.
    pub fn new() -> Self {
        WaitPolicy::default()
    }

    /// Fails with [`CommError::Deadline`] after this long in one wait; zero means never.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = (!deadline.is_zero()).then_some(deadline);
        self
    }

    /// Sleeps up to a millisecond between tests, growing with the time waited: for ranks that idle through a whole
    /// stage and should leave the processor to others. Too slow for large messages over a network.
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Takes the time by the clock of another policy of the same rank.
    pub fn with_clock_of(mut self, other: &WaitPolicy) -> Self {
        self.clock = Rc::clone(&other.clock);
        self
    }

    /// The clock of the rank: it starts with the policy, and [`wait`] stops it in [`Phase::Wait`].
    pub fn clock(&self) -> &PhaseClock {
        &self.clock
    }

    /// Seconds spent waiting under this policy.
    pub fn seconds_waited(&self) -> f64 {
        self.clock.seconds(Phase::Wait)
    }
}

/// Tests `pending` until it completes. Yields between tests: with more ranks than processors a blocking wait costs up
/// to 100 ms an exchange, this one a few.
///
/// # Errors
/// The operation failed, or the deadline passed (the error names the peer and the purpose).
pub fn wait(
    communicator: &dyn Communicator,
    mut pending: Pending,
    policy: &WaitPolicy,
) -> Result<Completed, CommError> {
    if let Some(completed) = communicator.test(&mut pending)? {
        return Ok(completed);
    }
    let _wait = policy.clock.enter(Phase::Wait);
    test_until(communicator, &mut pending, policy, Instant::now())
}

fn test_until(
    communicator: &dyn Communicator,
    pending: &mut Pending,
    policy: &WaitPolicy,
    start: Instant,
) -> Result<Completed, CommError> {
    loop {
        let waited = start.elapsed();
        if policy.patient && waited > Duration::from_millis(1) {
            std::thread::sleep((waited / 16).min(Duration::from_millis(1)));
        } else {
            std::thread::yield_now();
        }
        if let Some(completed) = communicator.test(pending)? {
            return Ok(completed);
        }
        if let Some(deadline) = policy.deadline.filter(|&deadline| waited >= deadline) {
            let (awaited, seconds) = (pending.awaited(), waited.as_secs_f64());
            let mut silent =
                silent_ranks(communicator, deadline.clamp(SHORTEST_ROLL_CALL, LONGEST_ROLL_CALL));
            // A peer that answers is not to blame while another does not.
            if let Some(peer) = awaited.peer.filter(|peer| silent.is_empty() || silent.contains(peer)) {
                silent = vec![peer];
            }
            return Err(CommError::Deadline { awaited, seconds, silent });
        }
    }
}

/// [`wait`] for a message, sent or received; gives its buffer.
///
/// # Errors
/// As [`wait`]; [`CommError::NotPending`] if `pending` is a sum.
pub fn wait_bytes(
    communicator: &dyn Communicator,
    pending: Pending,
    policy: &WaitPolicy,
) -> Result<Vec<u8>, CommError> {
    let awaited = pending.awaited();
    match wait(communicator, pending, policy)? {
        Completed::Sent(bytes) | Completed::Received(bytes) => Ok(bytes),
        Completed::Reduced(_) => Err(CommError::NotPending(awaited)),
    }
}

/// [`wait`] for a sum; gives its values.
///
/// # Errors
/// As [`wait`]; [`CommError::NotPending`] if `pending` is a message.
pub fn wait_sum(
    communicator: &dyn Communicator,
    pending: Pending,
    policy: &WaitPolicy,
) -> Result<Vec<f64>, CommError> {
    let awaited = pending.awaited();
    match wait(communicator, pending, policy)? {
        Completed::Reduced(values) => Ok(values),
        Completed::Sent(_) | Completed::Received(_) => Err(CommError::NotPending(awaited)),
    }
}

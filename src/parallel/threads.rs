//! Ranks as threads of one process: for tests without MPI and for library users. Training uses MPI.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::communicator::{Communicator, Completed, Pending, State, checked, checked_sum};
use super::error::{Awaited, CommError, Operation};
use super::single::local_host_name;

/// Longer messages complete at the sender only when they are received, as with MPI: a program that sends before it
/// receives hangs here too.
const EAGER_LIMIT: usize = 4096;

/// Who sent, with which tag, and the how-manieth of those. Posting a receive draws its number, which gives MPI's
/// matching order.
type Key = (usize, u16, u64);

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    visible_from: Instant,
    taken: Arc<AtomicBool>,
}

/// One sum over all ranks.
#[derive(Debug)]
struct Round {
    contributions: Vec<Option<Vec<f64>>>,
    collected: usize,
}

#[derive(Debug)]
struct Hub {
    mailboxes: Vec<Mutex<HashMap<Key, Message>>>,
    rounds: Mutex<HashMap<u64, Round>>,
    gone: Vec<AtomicBool>,
}

/// What a [`Pending`] holds for an operation between threads.
#[derive(Debug)]
pub(super) enum ThreadRequest {
    Send { taken: Arc<AtomicBool>, bytes: Vec<u8> },
    Receive { key: Key, buffer: Vec<u8>, max_len: usize },
    Sum { round: u64, len: usize },
}

/// One of several ranks that are threads of this process. Messages may be delayed at random, by a seed, so that
/// tests see operations complete in many orders.
#[derive(Debug)]
pub struct ThreadCommunicator {
    rank: usize,
    hub: Arc<Hub>,
    sent: RefCell<HashMap<(usize, u16), u64>>,
    posted: RefCell<HashMap<(usize, u16), u64>>,
    rounds: Cell<u64>,
    delays: Cell<Option<(u64, Duration)>>,
}

impl ThreadCommunicator {
    /// One communicator for each of `ranks` threads.
    pub fn group(ranks: usize) -> Vec<ThreadCommunicator> {
        let hub = Arc::new(Hub {
            mailboxes: (0..ranks).map(|_| Mutex::default()).collect(),
            rounds: Mutex::default(),
            gone: (0..ranks).map(|_| AtomicBool::new(false)).collect(),
        });
        let one = |rank| ThreadCommunicator {
            rank,
            hub: Arc::clone(&hub),
            sent: RefCell::default(),
            posted: RefCell::default(),
            rounds: Cell::new(0),
            delays: Cell::new(None),
        };
        (0..ranks).map(one).collect()
    }

    /// As [`ThreadCommunicator::group`]; each message becomes visible after a random delay of up to `longest`.
    pub fn group_with_delays(ranks: usize, seed: u64, longest: Duration) -> Vec<ThreadCommunicator> {
        let group = Self::group(ranks);
        for communicator in &group {
            communicator.delays.set(Some((seed ^ ((communicator.rank as u64) << 48), longest)));
        }
        group
    }

    /// Runs `body` on `ranks` threads and gives the results by rank.
    ///
    /// # Panics
    /// If `body` panics on any rank, after all have ended.
    pub fn run<T: Send>(ranks: usize, body: impl Fn(&ThreadCommunicator) -> T + Sync) -> Vec<T> {
        Self::run_group(Self::group(ranks), body)
    }

    /// As [`ThreadCommunicator::run`], with a group made before.
    ///
    /// # Panics
    /// If `body` panics on any rank, after all have ended.
    pub fn run_group<T: Send>(
        group: Vec<ThreadCommunicator>,
        body: impl Fn(&ThreadCommunicator) -> T + Sync,
    ) -> Vec<T> {
        let body = &body;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                group.into_iter().map(|communicator| scope.spawn(move || body(&communicator))).collect();
            let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            outcomes
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// The moment from which the next message is visible.
    fn visible_from(&self) -> Instant {
        let now = Instant::now();
        let Some((state, longest)) = self.delays.get() else { return now };
        // SplitMix64 (Steele, Lea, Flood 2014): enough for delays.
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.delays.set(Some((state, longest)));
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        now + longest.mul_f64((mixed >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn ended(&self, rank: usize) -> bool {
        self.hub.gone[rank].load(Ordering::Acquire)
    }

    fn take_message(
        &self,
        awaited: Awaited,
        key: Key,
        buffer: &mut Vec<u8>,
        max_len: usize,
    ) -> Result<Option<Completed>, CommError> {
        // Read before the mailbox: what was sent before the end is there to be seen.
        let ended = self.ended(key.0);
        let mut mailbox = lock(&self.hub.mailboxes[self.rank]);
        match mailbox.get(&key) {
            None if ended => return Err(CommError::PeerGone { awaited, gone: key.0 }),
            Some(message) if message.visible_from <= Instant::now() => {}
            _ => return Ok(None),
        }
        let Some(message) = mailbox.remove(&key) else { return Ok(None) };
        message.taken.store(true, Ordering::Release);
        if message.bytes.len() > max_len {
            return Err(CommError::Truncated { awaited, max_len });
        }
        buffer.extend_from_slice(&message.bytes);
        Ok(Some(Completed::Received(std::mem::take(buffer))))
    }

    fn take_sum(&self, awaited: Awaited, round: u64, len: usize) -> Result<Option<Completed>, CommError> {
        let gone: Vec<bool> = (0..self.size()).map(|rank| self.ended(rank)).collect();
        let mut rounds = lock(&self.hub.rounds);
        let Some(sum) = rounds.get_mut(&round) else { return Err(CommError::NotPending(awaited)) };
        let mut total = vec![0.0; len];
        for (rank, contribution) in sum.contributions.iter().enumerate() {
            match contribution {
                Some(values) if values.len() == len => {
                    total.iter_mut().zip(values).for_each(|(total, value)| *total += value)
                }
                Some(values) => {
                    return Err(CommError::SumLength { rank: self.rank, here: len, there: values.len() });
                }
                None if gone[rank] => return Err(CommError::PeerGone { awaited, gone: rank }),
                None => return Ok(None),
            }
        }
        sum.collected += 1;
        if sum.collected == sum.contributions.len() {
            rounds.remove(&round);
        }
        Ok(Some(Completed::Reduced(total)))
    }
}

impl Drop for ThreadCommunicator {
    fn drop(&mut self) {
        self.hub.gone[self.rank].store(true, Ordering::Release);
    }
}

impl Communicator for ThreadCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.hub.mailboxes.len()
    }

    fn library(&self) -> String {
        "no MPI, ranks are threads".to_string()
    }

    fn host_name(&self) -> String {
        local_host_name()
    }

    fn post_send(&self, to: usize, tag: u16, bytes: Vec<u8>) -> Result<Pending, CommError> {
        let awaited = checked(self.rank, self.size(), Operation::Send, to, tag)?;
        let key = (self.rank, tag, draw(&self.sent, (to, tag)));
        let taken = Arc::new(AtomicBool::new(bytes.len() <= EAGER_LIMIT));
        let message =
            Message { bytes: bytes.clone(), visible_from: self.visible_from(), taken: Arc::clone(&taken) };
        lock(&self.hub.mailboxes[to]).insert(key, message);
        Ok(Pending { awaited, state: State::Thread(ThreadRequest::Send { taken, bytes }) })
    }

    fn post_receive(
        &self,
        from: usize,
        tag: u16,
        mut buffer: Vec<u8>,
        max_len: usize,
    ) -> Result<Pending, CommError> {
        let awaited = checked(self.rank, self.size(), Operation::Receive, from, tag)?;
        buffer.clear();
        let key = (from, tag, draw(&self.posted, (from, tag)));
        Ok(Pending { awaited, state: State::Thread(ThreadRequest::Receive { key, buffer, max_len }) })
    }

    fn post_sum(&self, mut values: Vec<f64>) -> Result<Pending, CommError> {
        let awaited = checked_sum(self.rank, &mut values)?;
        let round = self.rounds.replace(self.rounds.get() + 1);
        let len = values.len();
        let mut rounds = lock(&self.hub.rounds);
        let empty = || Round { contributions: vec![None; self.size()], collected: 0 };
        rounds.entry(round).or_insert_with(empty).contributions[self.rank] = Some(values);
        Ok(Pending { awaited, state: State::Thread(ThreadRequest::Sum { round, len }) })
    }

    fn test(&self, pending: &mut Pending) -> Result<Option<Completed>, CommError> {
        let awaited = pending.awaited;
        let request = match &mut pending.state {
            State::Thread(request) => request,
            State::Ready(completed) => {
                return completed.take().map(Some).ok_or(CommError::NotPending(awaited));
            }
            #[cfg(feature = "mpi")]
            State::Mpi(_) => return Err(CommError::NotPending(awaited)),
        };
        let completed = match request {
            ThreadRequest::Send { taken, bytes } => {
                let ended = awaited.peer.filter(|&peer| self.ended(peer));
                match (taken.load(Ordering::Acquire), ended) {
                    (true, _) => Some(Completed::Sent(std::mem::take(bytes))),
                    (false, Some(gone)) => return Err(CommError::PeerGone { awaited, gone }),
                    (false, None) => None,
                }
            }
            ThreadRequest::Receive { key, buffer, max_len } => {
                self.take_message(awaited, *key, buffer, *max_len)?
            }
            ThreadRequest::Sum { round, len } => self.take_sum(awaited, *round, *len)?,
        };
        if completed.is_some() {
            pending.state = State::Ready(None);
        }
        Ok(completed)
    }

    fn progress(&self) -> Result<(), CommError> {
        Ok(())
    }
}

/// The next number for `key`.
fn draw(counters: &RefCell<HashMap<(usize, u16), u64>>, key: (usize, u16)) -> u64 {
    let mut counters = counters.borrow_mut();
    let counter = counters.entry(key).or_insert(0);
    *counter += 1;
    *counter
}

/// A rank that panicked holding a lock leaves whole entries behind, never half ones.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::{WaitPolicy, wait_bytes, wait_sum};

    #[test]
    fn receives_match_in_the_order_of_posting_despite_delays() {
        let group = ThreadCommunicator::group_with_delays(2, 7, Duration::from_millis(2));
        ThreadCommunicator::run_group(group, |c| {
            let policy = WaitPolicy::new();
            if c.rank() == 0 {
                let sends: Vec<_> = (0..20).map(|i| c.post_send(1, 5, vec![i]).unwrap()).collect();
                sends.into_iter().for_each(|pending| drop(wait_bytes(c, pending, &policy).unwrap()));
            } else {
                let receives: Vec<_> = (0..20).map(|_| c.post_receive(0, 5, vec![], 1).unwrap()).collect();
                for (i, pending) in receives.into_iter().enumerate().rev() {
                    assert_eq!(wait_bytes(c, pending, &policy).unwrap(), [i as u8]);
                }
            }
        });
    }

    #[test]
    fn sums_are_exact_with_a_slot_a_rank() {
        let sums = ThreadCommunicator::run(5, |c| {
            let mut last = Vec::new();
            for round in 0..50 {
                let mut values = vec![0.0; 5];
                values[c.rank()] = 0.1 * (c.rank() + round) as f64;
                let pending = c.post_sum(values).unwrap();
                last = wait_sum(c, pending, &WaitPolicy::new()).unwrap();
            }
            last
        });
        for sum in sums {
            assert_eq!(sum, [4.9, 5.0, 5.1000000000000005, 5.2, 5.300000000000001]);
        }
    }

    #[test]
    fn deadlines_and_ended_ranks_are_named() {
        let messages = ThreadCommunicator::run(2, |c| {
            if c.rank() == 1 {
                std::thread::sleep(Duration::from_millis(200));
                return Default::default();
            }
            let policy = WaitPolicy::new().with_deadline(Duration::from_millis(20));
            let late = c.post_receive(1, 9, vec![], 8).unwrap().named("p of boundary 3");
            let late = wait_bytes(c, late, &policy).unwrap_err().to_string();
            assert!(policy.seconds_waited() >= 0.02);
            let gone = c.post_send(1, 9, vec![0; 10_000]).unwrap();
            (late, wait_bytes(c, gone, &WaitPolicy::new()).unwrap_err().to_string())
        });
        assert!(
            messages[0].0.starts_with("rank 0 receiving from rank 1 (tag 9), p of boundary 3: nothing after"),
            "{messages:?}"
        );
        assert_eq!(messages[0].1, "rank 0 sending to rank 1 (tag 9): rank 1 has ended");
    }

    #[test]
    fn long_messages_are_refused_by_the_receiver() {
        ThreadCommunicator::run(2, |c| {
            if c.rank() == 0 {
                let pending = c.post_send(1, 1, vec![0; 9]).unwrap();
                wait_bytes(c, pending, &WaitPolicy::new()).unwrap();
            } else {
                let pending = c.post_receive(0, 1, vec![], 8).unwrap();
                let error = wait_bytes(c, pending, &WaitPolicy::new()).unwrap_err();
                assert!(matches!(error, CommError::Truncated { max_len: 8, .. }));
            }
        });
    }
}

//! Ranks that work, send and wait as an iteration does, in simulated time.
//!
//! In an iteration a rank computes the first product of p, waits for the q that the rank below sent in the iteration
//! before, finishes p and sends it down, goes on with everything that needs no neighbour, waits for p from above, makes q and
//! sends it up, and then waits until the sums of the iteration before have come (`admm/iteration.rs`, `train/stage_loop.rs`).
//! The pace is what that settles to: the dearest rank, or the dearest cycle of ranks that wait for each other.
//!
//! A rank has one link, on which its messages leave one after another; what arrives at the same time shares the
//! link of the receiver. Over TCP a message moves only while both ranks are in calls of MPI, but for what the buffers
//! of sockets take ([`Network::window`]).

use std::collections::VecDeque;

use super::network::Network;
use crate::train::by_rank::PartSeconds;

/// What one rank does in an iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RankWork {
    /// Seconds of computing, by part.
    pub parts: PartSeconds,
    /// Calls of MPI in the longest part, between its products.
    pub calls: usize,
    /// Bytes of p that go down.
    pub p_bytes: f64,
    /// Bytes of q that go up.
    pub q_bytes: f64,
}

/// What an iteration takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds.
    pub seconds: f64,
    /// Seconds of computing of the rank that has most to do.
    pub busy: f64,
}

/// From this size on MPI asks the receiver before it sends.
const EAGER: f64 = 65_536.0;
/// Iterations that are run through, and the one from which they count.
const ITERATIONS: usize = 16;
const SETTLED: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Compute(f64),
    AwaitQ,
    SendP,
    AwaitP,
    SendQ,
    /// Waits for the sums of the iteration before, and adds to those of this one.
    Sum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P,
    Q,
}

#[derive(Debug, Clone, Copy)]
struct Transfer {
    to: usize,
    kind: Kind,
    bytes: f64,
    window: f64,
    /// Seconds until the receiver has agreed to it.
    asking: f64,
}

struct Rank {
    steps: Vec<Step>,
    at: usize,
    /// Seconds that the step still computes.
    left: f64,
    iteration: usize,
    queue: VecDeque<Transfer>,
    arrived_p: usize,
    arrived_q: usize,
}

impl Rank {
    fn step(&self) -> Step {
        self.steps[self.at]
    }

    fn is_in_mpi(&self) -> bool {
        matches!(self.step(), Step::AwaitQ | Step::AwaitP | Step::Sum)
    }
}

/// The steps of an iteration of rank `i` of `count`.
fn steps(work: &RankWork, i: usize, count: usize) -> Vec<Step> {
    let (below, above) = (i > 0, i + 1 < count);
    let PartSeconds { begin, p, middle, q, end } = work.parts;
    let mut steps = Vec::new();
    let calls = work.calls.max(1);
    let long = |seconds: f64| std::iter::repeat_n(Step::Compute(seconds / calls as f64), calls);
    // What a rank has no neighbour for belongs to the part before.
    let after_p = if below {
        steps.extend([Step::Compute(begin), Step::AwaitQ, Step::Compute(p), Step::SendP]);
        middle
    } else {
        begin + p + middle
    };
    if above {
        steps.extend(long(after_p));
        steps.extend([Step::AwaitP, Step::Compute(q), Step::SendQ, Step::Compute(end)]);
    } else {
        steps.extend(long(after_p + q + end));
    }
    steps.push(Step::Sum);
    steps
}

/// The pace of ranks in the order of their layers, each of `shards` times the same.
pub fn pace(work: &[RankWork], shards: usize, network: &Network) -> Pace {
    let busy = work.iter().map(|work| work.parts.sum()).fold(0.0, f64::max);
    if work.len() < 2 {
        return Pace { seconds: busy, busy };
    }
    let mut simulation = Simulation::new(work, shards, network);
    let ends = simulation.run();
    Pace { seconds: (ends[ITERATIONS - 1] - ends[SETTLED - 1]) / (ITERATIONS - SETTLED) as f64, busy }
}

struct Simulation<'a> {
    network: &'a Network,
    work: &'a [RankWork],
    ranks: Vec<Rank>,
    now: f64,
    /// Messages on their way: when they arrive, where, and what.
    arriving: Vec<(f64, usize, Kind)>,
    /// By iteration, how many ranks have added to its sums, and when the last of them did.
    posted: Vec<(usize, f64)>,
    sum_latency: f64,
}

impl<'a> Simulation<'a> {
    fn new(work: &'a [RankWork], shards: usize, network: &'a Network) -> Self {
        let rank = |(i, of)| {
            let steps = steps(of, i, work.len());
            Rank { left: 0.0, steps, at: 0, iteration: 0, queue: VecDeque::new(), arrived_p: 0, arrived_q: 0 }
        };
        let mut ranks: Vec<Rank> = work.iter().enumerate().map(rank).collect();
        ranks.iter_mut().for_each(enter);
        let sum_latency = network.sum(work.len() * shards.max(1), 0.0);
        let posted = vec![(0, 0.0); ITERATIONS];
        Self { network, work, ranks, now: 0.0, arriving: Vec::new(), posted, sum_latency }
    }

    /// When each iteration was over on all ranks.
    fn run(&mut self) -> Vec<f64> {
        let count = self.ranks.len();
        while self.posted[ITERATIONS - 1].0 < count {
            while self.settle() {}
            let dt = self.next_event();
            if !dt.is_finite() {
                break;
            }
            self.advance(dt);
        }
        self.posted.iter().map(|(_, at)| *at).collect()
    }

    /// Everything that happens at this moment; whether something did.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        let now = self.now;
        self.arriving.retain(|&(at, to, kind)| {
            let has_come = at <= now;
            if has_come {
                match kind {
                    Kind::P => self.ranks[to].arrived_p += 1,
                    Kind::Q => self.ranks[to].arrived_q += 1,
                }
                changed = true;
            }
            !has_come
        });
        for i in 0..self.ranks.len() {
            while self.ranks[i].iteration < ITERATIONS && self.pass(i) {
                changed = true;
            }
        }
        changed
    }

    /// Takes rank `i` to its next step if nothing keeps it.
    fn pass(&mut self, i: usize) -> bool {
        let (iteration, step) = (self.ranks[i].iteration, self.ranks[i].step());
        let may_go = match step {
            Step::Compute(_) => self.ranks[i].left <= 0.0,
            // q of the iteration before; the first has none to wait for.
            Step::AwaitQ => self.ranks[i].arrived_q >= iteration,
            Step::AwaitP => self.ranks[i].arrived_p > iteration,
            Step::SendP | Step::SendQ => true,
            Step::Sum => match iteration.checked_sub(1).map(|before| self.posted[before]) {
                Some((count, at)) => count == self.ranks.len() && at + self.sum_latency <= self.now,
                None => true,
            },
        };
        if !may_go {
            return false;
        }
        match step {
            Step::SendP => self.send(i, i - 1, Kind::P, self.work[i].p_bytes),
            Step::SendQ => self.send(i, i + 1, Kind::Q, self.work[i].q_bytes),
            Step::Sum => {
                let (count, at) = &mut self.posted[iteration];
                (*count, *at) = (*count + 1, self.now);
            }
            // A call of MPI: what the sockets have sent meanwhile is made up for.
            Step::Compute(_) => {
                let window = self.network.window;
                self.ranks[i].queue.iter_mut().for_each(|transfer| transfer.window = window);
            }
            _ => {}
        }
        let rank = &mut self.ranks[i];
        rank.at += 1;
        if rank.at == rank.steps.len() {
            (rank.at, rank.iteration) = (0, rank.iteration + 1);
        }
        enter(rank);
        true
    }

    fn send(&mut self, from: usize, to: usize, kind: Kind, bytes: f64) {
        let Network { latency, bandwidth, window } = *self.network;
        if bytes <= 0.0 || bandwidth.is_infinite() {
            self.arriving.push((self.now + latency, to, kind));
            return;
        }
        let asking = if bytes > EAGER { 2.0 * latency } else { 0.0 };
        self.ranks[from].queue.push_back(Transfer { to, kind, bytes, window, asking });
    }

    /// Whether the first message of a rank moves, once the receiver has agreed.
    fn flows(&self, from: usize) -> Option<Transfer> {
        let transfer = *self.ranks[from].queue.front()?;
        let both_wait = self.ranks[from].is_in_mpi() && self.ranks[transfer.to].is_in_mpi();
        (both_wait || transfer.window > 0.0).then_some(transfer)
    }

    /// Bytes a second into each rank that receives.
    fn rates(&self) -> Vec<f64> {
        let mut into = vec![0_usize; self.ranks.len()];
        for from in 0..self.ranks.len() {
            if let Some(transfer) = self.flows(from).filter(|transfer| transfer.asking <= 0.0) {
                into[transfer.to] += 1;
            }
        }
        into.into_iter().map(|count| self.network.bandwidth / count.max(1) as f64).collect()
    }

    /// Seconds until something changes.
    fn next_event(&self) -> f64 {
        let rates = self.rates();
        let mut dt = f64::INFINITY;
        for (i, rank) in self.ranks.iter().enumerate() {
            if rank.iteration < ITERATIONS && matches!(rank.step(), Step::Compute(_)) {
                dt = dt.min(rank.left);
            }
            if let Some(transfer) = self.flows(i) {
                let both_wait = rank.is_in_mpi() && self.ranks[transfer.to].is_in_mpi();
                let bytes = if both_wait { transfer.bytes } else { transfer.bytes.min(transfer.window) };
                dt = dt.min(if transfer.asking > 0.0 { transfer.asking } else { bytes / rates[transfer.to] });
            }
        }
        let arrivals = self.arriving.iter().map(|(at, ..)| *at);
        let sums = self.posted.iter().filter(|(count, _)| *count == self.ranks.len());
        let sums = sums.map(|(_, at)| at + self.sum_latency).filter(|at| *at > self.now);
        arrivals.chain(sums).fold(dt, |dt, at| dt.min(at - self.now)).max(0.0)
    }

    fn advance(&mut self, dt: f64) {
        let rates = self.rates();
        let moving: Vec<_> = (0..self.ranks.len()).map(|i| self.flows(i).is_some()).collect();
        self.now += dt;
        for (i, rank) in self.ranks.iter_mut().enumerate() {
            if let Step::Compute(seconds) = rank.steps[rank.at] {
                rank.left -= dt;
                if rank.left <= 1e-12 * seconds {
                    rank.left = 0.0;
                }
            }
            if !moving[i] {
                continue;
            }
            let Some(transfer) = rank.queue.front_mut() else { continue };
            if transfer.asking > 0.0 {
                transfer.asking = if transfer.asking - dt <= 1e-15 { 0.0 } else { transfer.asking - dt };
                continue;
            }
            let moved = dt * rates[transfer.to];
            transfer.bytes -= moved;
            transfer.window = (transfer.window - moved).max(0.0);
            // Less than a byte is rounding.
            if transfer.window < 0.5 {
                transfer.window = 0.0;
            }
            if transfer.bytes < 0.5 {
                self.arriving.push((self.now + self.network.latency, transfer.to, transfer.kind));
                rank.queue.pop_front();
            }
        }
    }
}

/// Begins the step that a rank has come to.
fn enter(rank: &mut Rank) {
    if let Step::Compute(seconds) = rank.step() {
        rank.left = seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(begin: f64, p: f64, middle: f64, q: f64, end: f64) -> RankWork {
        RankWork { parts: PartSeconds { begin, p, middle, q, end }, calls: 4, p_bytes: 1e6, q_bytes: 1e6 }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6 * expected.max(1e-3), "{found} instead of {expected}");
    }

    #[test]
    fn on_a_free_network_the_dearest_rank_sets_the_pace() {
        let work =
            [rank(0.0, 0.0, 1.0, 0.1, 0.1), rank(0.5, 0.2, 0.8, 0.1, 0.1), rank(0.3, 0.1, 0.5, 0.0, 0.0)];
        let pace = pace(&work, 1, &Network::FREE);
        close(pace.seconds, 1.7);
        close(pace.busy, 1.7);
    }

    #[test]
    fn neighbours_that_wait_for_each_other_are_a_cycle() {
        // p: 0.2 to make; q: 0.3; nothing else to do meanwhile. q up, p down and q up again: 0.5, and both transfers.
        let work = [rank(0.0, 0.0, 0.0, 0.3, 0.0), rank(0.0, 0.2, 0.0, 0.0, 0.0)];
        close(pace(&work, 1, &Network::FREE).seconds, 0.5);
        let network = Network { latency: 1e-3, bandwidth: 1e7, window: f64::INFINITY };
        // A message of 1e6 bytes: asked for (2 latencies), 0.1 s on the link, and a latency.
        close(pace(&work, 1, &network).seconds, 0.5 + 2.0 * 0.103);
    }

    #[test]
    fn what_moves_while_ranks_compute_is_hidden_where_the_network_can() {
        let work = [rank(0.0, 0.0, 1.0, 0.1, 0.0), rank(0.4, 0.1, 0.6, 0.0, 0.0)];
        let able = Network { latency: 0.0, bandwidth: 1e7, window: f64::INFINITY };
        close(pace(&work, 1, &able).seconds, 1.1);
        // Not at all from call to call: both messages are waited for.
        let unable = Network { window: 0.0, ..able };
        let slow = pace(&work, 1, &unable).seconds;
        assert!(slow > 1.2, "{slow}");
    }

    #[test]
    fn one_rank_waits_for_nobody() {
        close(pace(&[rank(1.0, 0.0, 1.0, 0.0, 0.0)], 1, &Network::FREE).seconds, 2.0);
    }

    #[test]
    fn sums_over_ranks_are_a_step_behind() {
        // Nothing but latency: the sums of an iteration have the whole next one to arrive in.
        let work = [rank(0.0, 0.0, 0.01, 0.0, 0.0), rank(0.0, 0.0, 0.01, 0.0, 0.0)].map(|work| RankWork {
            p_bytes: 0.0,
            q_bytes: 0.0,
            ..work
        });
        let network = Network { latency: 1e-3, bandwidth: 1e9, window: 0.0 };
        close(pace(&work, 1, &network).seconds, 0.01);
    }
}

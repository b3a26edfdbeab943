//! Sums over the ranks that share the nodes of a run of layers, in the fixed tree.
//!
//! In step j a shard meets the one whose number differs from its own in bit j: each has the sum over an aligned group of
//! 2^j shards, a node of the tree, and both leave with that of 2^(j+1). Addition is commutative to the last bit, so both
//! have the same. Long vectors are halved in each step instead, and put together again on the way back: every rank sends
//! twice the vector in all, whatever the number of shards.

use std::cell::RefCell;
use std::ops::Range;

use super::exchange::ExchangeError;
use super::matrix_messages::MatrixMessages;
use super::{Communicator, WaitPolicy};
use crate::linalg::{NodeShards, Real};
use crate::quantize::{Element, Header, Kind};

/// Shorter vectors are sent whole in every step: fewer messages.
const WHOLE: usize = 4096;
const PURPOSE: &str = "sum over the nodes of other shards";

/// One rank's side of the group.
pub struct ShardGroup<'a> {
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    /// The rank of shard 0.
    first: usize,
    shard: usize,
    /// Training nodes of each shard.
    nodes: Vec<usize>,
    inner: RefCell<Inner<'a>>,
}

struct Inner<'a> {
    messages: MatrixMessages<'a>,
    /// Numbers the messages.
    step: u64,
    failure: Option<ExchangeError>,
}

impl<'a> ShardGroup<'a> {
    /// This rank alone, with all nodes.
    pub fn alone(communicator: &'a dyn Communicator, policy: &'a WaitPolicy) -> Self {
        Self::new(communicator, policy, communicator.rank(), vec![0])
    }

    /// The ranks from `first` on, each a shard with this many training nodes; their number is a power of two.
    pub fn new(
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
        first: usize,
        nodes: Vec<usize>,
    ) -> Self {
        debug_assert!(nodes.len().is_power_of_two());
        let shard = communicator.rank().saturating_sub(first);
        let messages = MatrixMessages::new(communicator, policy);
        let inner = RefCell::new(Inner { messages, step: 0, failure: None });
        Self { communicator, policy, first, shard, nodes, inner }
    }

    /// The same ranks' successors: another group, which goes on counting bytes.
    pub fn succeed(&self, first: usize, nodes: Vec<usize>) -> Self {
        let next = Self::new(self.communicator, self.policy, first, nodes);
        next.inner.borrow_mut().messages.bytes = self.bytes();
        next
    }

    /// Bytes that this rank has sent, headers included.
    pub fn bytes(&self) -> u64 {
        self.inner.borrow().messages.bytes
    }

    /// The number of this rank's shard.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.nodes.len()
    }

    /// What has gone wrong since the last call, if anything has.
    ///
    /// # Errors
    /// That.
    pub fn outcome(&self) -> Result<(), ExchangeError> {
        self.inner.borrow_mut().failure.take().map_or(Ok(()), Err)
    }

    /// The partners of this shard from the nearest to the farthest.
    fn partners(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let shard = self.shard;
        (0..self.nodes.len().ilog2()).map(move |bit| shard ^ (1 << bit))
    }

    /// Runs `work` unless an earlier one has failed, and keeps its error.
    fn attempt(&self, work: impl FnOnce(&mut Inner<'a>) -> Result<(), ExchangeError>) {
        if self.nodes.len() == 1 {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        if inner.failure.is_none()
            && let Err(error) = work(&mut inner)
        {
            inner.failure = Some(error);
        }
    }

    fn add_up<T: Element + std::ops::AddAssign>(
        &self,
        inner: &mut Inner<'a>,
        values: &mut [T],
        buffer: &mut Vec<T>,
    ) -> Result<(), ExchangeError> {
        buffer.clear();
        buffer.resize(values.len(), T::from_f64(0.0));
        if values.len() <= WHOLE {
            for partner in self.partners() {
                inner.swap(self.first + partner, values, buffer)?;
                values.iter_mut().zip(&*buffer).for_each(|(value, &other)| *value += other);
            }
            return Ok(());
        }
        // Halves: each keeps one of them from step to step, and gets the others back in reverse.
        let mut kept = 0..values.len();
        let mut given: Vec<Range<usize>> = Vec::new();
        for partner in self.partners() {
            let middle = kept.start + kept.len() / 2;
            let halves = [kept.start..middle, middle..kept.end];
            let [mine, theirs] = if partner > self.shard {
                halves
            } else {
                let [a, b] = halves;
                [b, a]
            };
            let incoming = &mut buffer[mine.clone()];
            inner.swap(self.first + partner, &values[theirs.clone()], incoming)?;
            values[mine.clone()].iter_mut().zip(incoming).for_each(|(value, other)| *value += *other);
            given.push(theirs);
            kept = mine;
        }
        for (partner, theirs) in self.partners().rev().zip(given.into_iter().rev()) {
            let incoming = &mut buffer[theirs.clone()];
            inner.swap(self.first + partner, &values[kept.clone()], incoming)?;
            values[theirs.clone()].copy_from_slice(incoming);
            kept = kept.start.min(theirs.start)..kept.end.max(theirs.end);
        }
        Ok(())
    }

    /// The elements of the rows of shards `shards`, `columns` wide.
    fn rows_of(&self, shards: Range<usize>, columns: usize) -> Range<usize> {
        let before = |shard: usize| self.nodes[..shard].iter().sum::<usize>() * columns;
        before(shards.start)..before(shards.end)
    }
}

impl Inner<'_> {
    /// Sends `own` and fills `other` with what the partner sends. Receives are posted before sends.
    fn swap<T: Element>(&mut self, partner: usize, own: &[T], other: &mut [T]) -> Result<(), ExchangeError> {
        self.step += 1;
        let step = self.step;
        let header = |length: usize| Header {
            kind: Kind::Sum,
            boundary: 0,
            block: 0,
            iteration: step,
            rows: 1,
            cols: length as u32,
        };
        let incoming = header(other.len());
        let pending = self.messages.post_receive::<T>(partner, &incoming, PURPOSE)?;
        self.messages.send(partner, &header(own.len()), PURPOSE, own)?;
        self.messages.receive(partner, pending, &incoming, other)?;
        self.messages.finish_sends()
    }
}

impl<T: Real> NodeShards<T> for ShardGroup<'_> {
    fn count(&self) -> usize {
        self.nodes.len()
    }

    fn sum(&self, values: &mut [f64]) {
        self.attempt(|inner| self.add_up(inner, values, &mut Vec::new()));
    }

    fn sum_elements(&self, values: &mut [T], buffer: &mut Vec<T>) {
        self.attempt(|inner| self.add_up(inner, values, buffer));
    }

    fn gather(&self, own: &[T], whole: &mut [T]) {
        let columns = own.len() / self.nodes[self.shard].max(1);
        let mut held = self.shard..self.shard + 1;
        let rows = match self.nodes.len() {
            1 => 0..own.len(),
            _ => self.rows_of(held.clone(), columns),
        };
        whole[rows].copy_from_slice(own);
        self.attempt(|inner| {
            for partner in self.partners() {
                let step = held.len();
                let group = partner / step * step..(partner / step + 1) * step;
                let (mine, theirs) =
                    (self.rows_of(held.clone(), columns), self.rows_of(group.clone(), columns));
                let (low, high) = whole.split_at_mut(mine.start.max(theirs.start));
                let (own, other) = match mine.start < theirs.start {
                    true => (&low[mine], &mut high[..theirs.len()]),
                    false => (&high[..mine.len()], &mut low[theirs]),
                };
                inner.swap(self.first + partner, own, other)?;
                held = held.start.min(group.start)..held.end.max(group.end);
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linalg::ScalarSum;
    use crate::parallel::ThreadCommunicator;

    fn value(shard: usize, i: usize) -> f64 {
        1.0 / (1.7 + (shard * 31 + i % 977) as f64)
    }

    /// Above and below the length from which vectors are halved, and odd.
    #[test]
    fn sums_are_those_of_the_tree_on_every_shard() {
        for shards in [1, 2, 4, 8] {
            for length in [1, 5, WHOLE, WHOLE + 1, 3 * WHOLE + 7] {
                let expected: Vec<f32> = (0..length)
                    .map(|i| {
                        let mut tree: Vec<f32> = (0..shards).map(|shard| value(shard, i) as f32).collect();
                        while tree.len() > 1 {
                            tree = tree.chunks(2).map(|pair| pair[0] + pair[1]).collect();
                        }
                        tree[0]
                    })
                    .collect();
                let total = ScalarSum::of((0..shards).map(|shard| value(shard, 3)));
                // One rank before the group, which takes no part in it.
                let all = ThreadCommunicator::run(shards + 1, |communicator| {
                    let policy = WaitPolicy::new();
                    if communicator.rank() == 0 {
                        return (expected.clone(), total);
                    }
                    let group = ShardGroup::new(communicator, &policy, 1, vec![1; shards]);
                    let mut values: Vec<f32> = (0..length).map(|i| value(group.shard(), i) as f32).collect();
                    group.sum_elements(&mut values, &mut Vec::new());
                    let mut sums = [value(group.shard(), 3)];
                    NodeShards::<f32>::sum(&group, &mut sums);
                    group.outcome().unwrap();
                    assert_eq!(group.bytes() > 0, shards > 1);
                    (values, sums[0])
                });
                for (values, sum) in all {
                    assert!(values == expected && sum == total, "{length} on {shards} shards");
                }
            }
        }
    }

    #[test]
    fn rows_come_from_all_shards_in_order() {
        for nodes in [vec![3], vec![2, 5], vec![4, 4, 3, 1], vec![1, 2, 3, 4, 5, 6, 7, 8]] {
            let starts: Vec<usize> = (0..nodes.len()).map(|shard| nodes[..shard].iter().sum()).collect();
            let total: usize = nodes.iter().sum();
            let columns = 3;
            let all = ThreadCommunicator::run(nodes.len(), |communicator| {
                let policy = WaitPolicy::new();
                let group = ShardGroup::new(communicator, &policy, 0, nodes.clone());
                let start = starts[group.shard()];
                let rows = start * columns..(start + nodes[group.shard()]) * columns;
                let own: Vec<f64> = rows.map(|i| i as f64).collect();
                let mut whole = vec![-1.0; total * columns];
                group.gather(&own, &mut whole);
                group.outcome().unwrap();
                whole
            });
            for whole in all {
                assert!(whole.iter().enumerate().all(|(i, &x)| x == i as f64), "{nodes:?}: {whole:?}");
            }
        }
    }

    #[test]
    fn a_failure_is_kept_and_ends_what_follows() {
        let outcomes = ThreadCommunicator::run(2, |communicator| {
            let policy = WaitPolicy::new().with_deadline(std::time::Duration::from_millis(50));
            if communicator.rank() == 1 {
                return true;
            }
            let group = ShardGroup::new(communicator, &policy, 0, vec![1, 1]);
            let mut sums = [1.0];
            NodeShards::<f64>::sum(&group, &mut sums);
            NodeShards::<f64>::sum(&group, &mut sums);
            group.outcome().is_err() && group.outcome().is_ok()
        });
        assert_eq!(outcomes, [true, true]);
    }
}

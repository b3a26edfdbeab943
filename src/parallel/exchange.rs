//! The exchange of p and q with the ranks that hold the layers below and above.
//!
//! Receives are posted before sends, and nothing blocks but the wait for a neighbour's p or q. A block of nodes
//! is a message; the messages of one kind between two ranks arrive in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Instant;

use ndarray::Array2;
use thiserror::Error;

use super::{CommError, Communicator, Completed, Pending, WaitPolicy, wait_bytes};
use crate::admm::Boundary;
use crate::admm::iteration::Neighbours;
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};
use crate::quantize::{
    Header, Kind, LevelSet, MessageError, decode, encode_packed, encode_raw, raw_message_len,
};

/// An exchange that failed.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The communication failed.
    #[error(transparent)]
    Communication(#[from] CommError),
    /// A message was damaged or out of step.
    #[error("rank {rank}, from rank {peer}: {source}")]
    Message {
        /// The receiving rank.
        rank: usize,
        /// The sending rank.
        peer: usize,
        /// What is wrong with it.
        source: MessageError,
    },
}

/// Bytes and messages that a rank has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of p, headers included.
    pub p_bytes: u64,
    /// Bytes of q, headers included.
    pub q_bytes: u64,
    /// Messages of p and q.
    pub messages: u64,
    /// What p, q and u as float32 would take for the boundaries sent over from below: 12 bytes an element.
    pub baseline_bytes: u64,
    /// Bytes of everything else: activations of evaluations and stage starts.
    pub other_bytes: u64,
}

/// Seconds that a rank has spent in the exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExchangeSeconds {
    /// Writing messages.
    pub encode: f64,
    /// Reading messages.
    pub decode: f64,
}

/// One rank's side of the exchange during a stage.
pub struct Exchange<'a> {
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    below: Option<usize>,
    above: Option<usize>,
    iteration: u64,
    p_levels: Option<Vec<LevelSet>>,
    q_levels: Option<Vec<LevelSet>>,
    sends: Vec<Pending>,
    awaited_p: VecDeque<Pending>,
    awaited_q: VecDeque<Pending>,
    awaited_activations: VecDeque<Pending>,
    spare: Vec<Vec<u8>>,
    indices: Vec<u32>,
    /// Bytes and messages since the start of the run.
    pub traffic: Traffic,
    /// Seconds since the start of the run.
    pub seconds: ExchangeSeconds,
}

/// Messages of one kind share a tag.
fn tag(kind: Kind) -> u16 {
    kind as u16
}

impl<'a> Exchange<'a> {
    /// For a rank whose neighbours are `below` and `above`.
    pub fn new(communicator: &'a dyn Communicator, policy: &'a WaitPolicy) -> Self {
        Self {
            communicator,
            policy,
            below: None,
            above: None,
            iteration: 0,
            p_levels: None,
            q_levels: None,
            sends: Vec::new(),
            awaited_p: VecDeque::new(),
            awaited_q: VecDeque::new(),
            awaited_activations: VecDeque::new(),
            spare: Vec::new(),
            indices: Vec::new(),
            traffic: Traffic::default(),
            seconds: ExchangeSeconds::default(),
        }
    }

    /// Starts a stage after `iteration` iterations: the ranks that hold the layers below and above this rank's.
    pub fn begin_stage(&mut self, below: Option<usize>, above: Option<usize>, iteration: u64) {
        (self.below, self.above, self.iteration) = (below, above, iteration);
    }

    /// Starts an iteration: posts the receives of p from above and of q from below, so that no send waits for one.
    /// The level sets are those of the iteration, by boundary (index l − 1).
    ///
    /// # Errors
    /// The communicator refused.
    pub fn begin_iteration<T: Real>(
        &mut self,
        iteration: u64,
        p_levels: Option<&[LevelSet]>,
        q_levels: Option<&[LevelSet]>,
        below: Option<&Boundary<T>>,
        above: Option<&Boundary<T>>,
    ) -> Result<(), ExchangeError> {
        self.iteration = iteration;
        let keep = |sets: &mut Option<Vec<LevelSet>>, new: Option<&[LevelSet]>| match (sets.as_deref(), new) {
            (Some(old), Some(new)) if old == new => {}
            (_, new) => *sets = new.map(<[LevelSet]>::to_vec),
        };
        keep(&mut self.p_levels, p_levels);
        keep(&mut self.q_levels, q_levels);
        if let (Some(rank), Some(boundary)) = (self.above, above) {
            for block in &boundary.blocks {
                let pending = self.post_receive::<T>(rank, Kind::P, block.p.len(), "p of the layer above")?;
                self.awaited_p.push_back(pending);
            }
        }
        if let (Some(rank), Some(boundary)) = (self.below, below) {
            for block in &boundary.blocks {
                let pending = self.post_receive::<T>(rank, Kind::Q, block.q.len(), "q of the layer below")?;
                self.awaited_q.push_back(pending);
            }
        }
        Ok(())
    }

    /// Posts the receives of activations from below, in blocks of these shapes (rows, columns).
    ///
    /// # Errors
    /// The communicator refused.
    pub fn expect_activations<T: Real>(
        &mut self,
        shapes: impl Iterator<Item = (usize, usize)>,
    ) -> Result<(), ExchangeError> {
        if let Some(rank) = self.below {
            for (rows, columns) in shapes {
                let purpose = "activations of the layer below";
                let pending = self.post_receive::<T>(rank, Kind::Activations, rows * columns, purpose)?;
                self.awaited_activations.push_back(pending);
            }
        }
        Ok(())
    }

    /// Receives the next block of activations of boundary `l`.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn receive_activations<T: Real>(
        &mut self,
        l: usize,
        block: usize,
        out: &mut Array2<T>,
    ) -> Result<(), ExchangeError> {
        match (self.below, self.awaited_activations.pop_front()) {
            (Some(rank), Some(pending)) => {
                self.complete(rank, pending, Kind::Activations, l, block, self.iteration, out)
            }
            _ => Ok(()),
        }
    }

    /// Sends a block of activations of boundary `l` to the rank above.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn send_activations<T: Real>(
        &mut self,
        l: usize,
        block: usize,
        values: &Array2<T>,
    ) -> Result<(), ExchangeError> {
        let Some(rank) = self.above else { return Ok(()) };
        let sent = self.send(rank, Kind::Activations, l, block, None, values)?;
        self.traffic.other_bytes += sent;
        Ok(())
    }

    /// Waits until everything sent has left.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn finish_sends(&mut self) -> Result<(), ExchangeError> {
        for pending in std::mem::take(&mut self.sends) {
            let buffer = wait_bytes(self.communicator, pending, self.policy)?;
            self.spare.push(buffer);
        }
        Ok(())
    }

    fn post_receive<T: Real>(
        &mut self,
        from: usize,
        kind: Kind,
        elements: usize,
        purpose: &'static str,
    ) -> Result<Pending, ExchangeError> {
        let buffer = self.spare.pop().unwrap_or_default();
        let longest = raw_message_len::<T>(elements);
        Ok(self.communicator.post_receive(from, tag(kind), buffer, longest)?.named(purpose))
    }

    fn header<T>(kind: Kind, l: usize, block: usize, iteration: u64, values: &Array2<T>) -> Header {
        let (rows, cols) = (values.nrows() as u32, values.ncols() as u32);
        Header { kind, boundary: l as u32, block: block as u32, iteration, rows, cols }
    }

    /// Encodes and sends one block; returns the bytes of the message.
    fn send<T: Real>(
        &mut self,
        to: usize,
        kind: Kind,
        l: usize,
        block: usize,
        levels: Option<&LevelSet>,
        values: &Array2<T>,
    ) -> Result<u64, ExchangeError> {
        let start = Instant::now();
        let header = Self::header(kind, l, block, self.iteration, values);
        let mut message = self.spare.pop().unwrap_or_default();
        let encoded = match levels {
            Some(levels) => {
                self.indices.resize(values.len(), 0);
                levels.indices_of(flat(values), &mut self.indices);
                encode_packed(&header, levels, &self.indices, &mut message)
            }
            None => encode_raw(&header, flat(values), &mut message),
        };
        let rank = self.communicator.rank();
        encoded.map_err(|source| ExchangeError::Message { rank, peer: to, source })?;
        self.seconds.encode += start.elapsed().as_secs_f64();
        let bytes = message.len() as u64;
        self.sends.push(self.communicator.post_send(to, tag(kind), message)?);
        Ok(bytes)
    }

    #[allow(clippy::too_many_arguments)]
    fn complete<T: Real>(
        &mut self,
        from: usize,
        pending: Pending,
        kind: Kind,
        l: usize,
        block: usize,
        iteration: u64,
        out: &mut Array2<T>,
    ) -> Result<(), ExchangeError> {
        let message = wait_bytes(self.communicator, pending, self.policy)?;
        let start = Instant::now();
        let expected = Self::header(kind, l, block, iteration, out);
        let rank = self.communicator.rank();
        decode(&message, &expected, flat_mut(out)).map_err(|source| ExchangeError::Message {
            rank,
            peer: from,
            source,
        })?;
        self.spare.push(message);
        self.seconds.decode += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Tests the sends under way and takes back the buffers of those that have left.
    fn retire(&mut self) -> Result<(), ExchangeError> {
        let mut k = 0;
        while k < self.sends.len() {
            match self.communicator.test(&mut self.sends[k])? {
                Some(Completed::Sent(buffer) | Completed::Received(buffer)) => {
                    self.spare.push(buffer);
                    drop(self.sends.swap_remove(k));
                }
                Some(Completed::Reduced(_)) => drop(self.sends.swap_remove(k)),
                None => k += 1,
            }
        }
        Ok(())
    }
}

impl<T: Real> Neighbours<T> for Exchange<'_> {
    type Error = ExchangeError;

    /// q of the iteration before: its receives were posted then.
    fn receive_q(&mut self, below: &mut Boundary<T>, iteration: u64) -> Result<(), ExchangeError> {
        let Some(rank) = self.below else { return Ok(()) };
        for (k, block) in below.blocks.iter_mut().enumerate() {
            let Some(pending) = self.awaited_q.pop_front() else { return Ok(()) };
            self.complete(rank, pending, Kind::Q, below.index, k, iteration, &mut block.q)?;
        }
        Ok(())
    }

    fn send_p(&mut self, below: &Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.below else { return Ok(()) };
        let levels = self.p_levels.as_ref().and_then(|sets| sets.get(below.index - 1)).cloned();
        for (k, block) in below.blocks.iter().enumerate() {
            self.traffic.p_bytes += self.send(rank, Kind::P, below.index, k, levels.as_ref(), &block.p)?;
            self.traffic.messages += 1;
        }
        Ok(())
    }

    fn receive_p(&mut self, above: &mut Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.above else { return Ok(()) };
        for (k, block) in above.blocks.iter_mut().enumerate() {
            let Some(pending) = self.awaited_p.pop_front() else { return Ok(()) };
            self.complete(rank, pending, Kind::P, above.index, k, self.iteration, &mut block.p)?;
        }
        Ok(())
    }

    fn send_q(&mut self, above: &Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.above else { return Ok(()) };
        let levels = self.q_levels.as_ref().and_then(|sets| sets.get(above.index - 1)).cloned();
        for (k, block) in above.blocks.iter().enumerate() {
            self.traffic.q_bytes += self.send(rank, Kind::Q, above.index, k, levels.as_ref(), &block.q)?;
            self.traffic.messages += 1;
            self.traffic.baseline_bytes += 12 * block.q.len() as u64;
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), ExchangeError> {
        self.retire()?;
        Ok(self.communicator.progress()?)
    }
}

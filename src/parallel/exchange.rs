//! The exchange of p and q with the ranks that hold the layers below and above.
//!
//! Receives are posted before sends, and nothing blocks but the wait for a neighbour's p or q. A block of nodes
//! is a message; the messages of one kind between two ranks arrive in the order in which they were sent. Receives are
//! posted for the longest message there can be; the true length comes with the message.
//!
//! Where p or q is on a level set, both sides keep a [`Stream`] for each block, from the start of a stage on: the
//! activations of the forward pass, rounded, are known to both and stand for the message before the first.

use std::collections::VecDeque;

use ndarray::Array2;
use thiserror::Error;

use super::{CommError, Communicator, Completed, Pending, WaitPolicy, wait_bytes};
use crate::admm::iteration::Neighbours;
use crate::admm::{Boundary, BoundaryBlock};
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};
use crate::quantize::{
    CodecState, Coding, Header, Kind, LevelSet, MessageError, Problem, Scratch, Stream, Wire, decode_raw,
    encode_raw, longest_message_len,
};
use crate::timing::{Part, Phase};

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
        source: Box<MessageError>,
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

/// The level sets of an iteration, by boundary (index l − 1); `None` where a variable is on no level set.
#[derive(Debug, Clone, Default)]
struct IterationLevels {
    iteration: u64,
    p: Option<Vec<LevelSet>>,
    q: Option<Vec<LevelSet>>,
}

/// What both sides of a boundary keep of the messages so far, one [`Stream`] a block.
#[derive(Debug, Default)]
struct Streams {
    sent_p: Vec<Stream>,
    sent_q: Vec<Stream>,
    received_p: Vec<Stream>,
    received_q: Vec<Stream>,
}

/// What a rank keeps of the messages so far as plain data, by block; empty where nothing is on a level set or nothing
/// has been sent over this boundary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExchangeState {
    /// p to the rank below.
    pub sent_p: Vec<CodecState>,
    /// q to the rank above.
    pub sent_q: Vec<CodecState>,
    /// p from the rank above.
    pub received_p: Vec<CodecState>,
    /// q from the rank below.
    pub received_q: Vec<CodecState>,
}

/// One rank's side of the exchange during a stage.
pub struct Exchange<'a> {
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    below: Option<usize>,
    above: Option<usize>,
    iteration: u64,
    /// Of this iteration, and of the one before, whose q is still to come.
    levels: [IterationLevels; 2],
    /// How what is on no level set travels; `None`: as it is.
    wire: Option<Wire>,
    coding: Coding,
    streams: Streams,
    /// Whether the streams of this stage have been started.
    streams_run: bool,
    sends: Vec<Pending>,
    awaited_p: VecDeque<Pending>,
    awaited_q: VecDeque<Pending>,
    awaited_activations: VecDeque<Pending>,
    spare: Vec<Vec<u8>>,
    scratch: Scratch,
    /// Bytes and messages since the start of the run.
    pub traffic: Traffic,
}

/// Streams that start from what both sides know: the rounded activations of the forward pass.
fn start<T: Real>(
    coding: Coding,
    boundary: Option<&Boundary<T>>,
    levels: Option<&[LevelSet]>,
    variable: impl Fn(&BoundaryBlock<T>) -> &Array2<T>,
) -> Vec<Stream> {
    let Some(boundary) = boundary else { return Vec::new() };
    let Some(levels) = levels.and_then(|sets| sets.get(boundary.index - 1)) else { return Vec::new() };
    let stream = |block| {
        let mut stream = Stream::new().with_coding(coding);
        stream.start_from(levels, flat(variable(block)));
        stream
    };
    boundary.blocks.iter().map(stream).collect()
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
            levels: Default::default(),
            wire: None,
            coding: Coding::default(),
            streams: Streams::default(),
            streams_run: false,
            sends: Vec::new(),
            awaited_p: VecDeque::new(),
            awaited_q: VecDeque::new(),
            awaited_activations: VecDeque::new(),
            spare: Vec::new(),
            scratch: Scratch::default(),
            traffic: Traffic::default(),
        }
    }

    /// Sends and expects p and q that are on no level set in this form; whoever updates them rounds them to it.
    pub fn with_wire(mut self, wire: Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Sends level indices in this coding.
    pub fn with_coding(mut self, coding: Coding) -> Self {
        self.coding = coding;
        self
    }

    /// Starts a stage after `iteration` iterations: the ranks that hold the layers below and above this rank's.
    pub fn begin_stage(&mut self, below: Option<usize>, above: Option<usize>, iteration: u64) {
        (self.below, self.above, self.iteration) = (below, above, iteration);
        (self.streams, self.streams_run) = (Streams::default(), false);
    }

    /// What the codecs of this rank keep, for a checkpoint between two iterations.
    pub fn state(&self) -> ExchangeState {
        let plain = |streams: &[Stream]| streams.iter().map(Stream::state).collect();
        let Streams { sent_p, sent_q, received_p, received_q } = &self.streams;
        ExchangeState {
            sent_p: plain(sent_p),
            sent_q: plain(sent_q),
            received_p: plain(received_p),
            received_q: plain(received_q),
        }
    }

    /// Goes on from [`Exchange::state`], after [`Exchange::begin_stage`]. Where it has nothing for a boundary, the
    /// streams start from the p and q that both sides hold when the next iteration begins.
    ///
    /// # Errors
    /// The state contradicts itself.
    pub fn resume(&mut self, state: ExchangeState) -> Result<(), Problem> {
        let streams = |states: Vec<CodecState>| -> Result<Vec<Stream>, Problem> {
            let stream = |state| Ok(Stream::from_state(state)?.with_coding(self.coding));
            states.into_iter().map(stream).collect()
        };
        self.streams = Streams {
            sent_p: streams(state.sent_p)?,
            sent_q: streams(state.sent_q)?,
            received_p: streams(state.received_p)?,
            received_q: streams(state.received_q)?,
        };
        Ok(())
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
        self.levels.swap(0, 1);
        self.levels[0] = IterationLevels {
            iteration,
            p: p_levels.map(<[LevelSet]>::to_vec),
            q: q_levels.map(<[LevelSet]>::to_vec),
        };
        if !std::mem::replace(&mut self.streams_run, true) {
            let below = below.filter(|_| self.below.is_some());
            let above = above.filter(|_| self.above.is_some());
            let begin = |streams: &mut Vec<Stream>, started: Vec<Stream>| {
                if streams.len() != started.len() {
                    *streams = started;
                }
            };
            let Streams { sent_p, sent_q, received_p, received_q } = &mut self.streams;
            begin(sent_p, start(self.coding, below, p_levels, |block| &block.p));
            begin(sent_q, start(self.coding, above, q_levels, |block| &block.q));
            begin(received_p, start(self.coding, above, p_levels, |block| &block.p));
            begin(received_q, start(self.coding, below, q_levels, |block| &block.q));
        }
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
        let sent = self.send(rank, Kind::Activations, l, block, values)?;
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
        let _send = self.policy.clock().enter(Phase::Send);
        let buffer = self.spare.pop().unwrap_or_default();
        let longest = longest_message_len::<T>(elements);
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
        values: &Array2<T>,
    ) -> Result<u64, ExchangeError> {
        let encoding = self.policy.clock().enter(Phase::Encode);
        let header = Self::header(kind, l, block, self.iteration, values);
        let mut message = self.spare.pop().unwrap_or_default();
        let levels = self.levels_of(kind, l, self.iteration);
        let streams = match kind {
            Kind::P => &mut self.streams.sent_p,
            _ => &mut self.streams.sent_q,
        };
        let encoded = match (levels, streams.get_mut(block)) {
            (Some(levels), Some(stream)) => {
                stream.encode(&header, &levels, flat(values), &mut self.scratch, &mut message).map(|_| ())
            }
            _ => encode_raw(&header, self.wire_of::<T>(kind), flat(values), &mut message),
        };
        let rank = self.communicator.rank();
        encoded.map_err(|source| ExchangeError::Message { rank, peer: to, source: Box::new(source) })?;
        drop(encoding);
        let _send = self.policy.clock().enter(Phase::Send);
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
        let _decode = self.policy.clock().enter(Phase::Decode);
        let expected = Self::header(kind, l, block, iteration, out);
        let rank = self.communicator.rank();
        let levels = self.levels_of(kind, l, iteration);
        let streams = match kind {
            Kind::P => &mut self.streams.received_p,
            _ => &mut self.streams.received_q,
        };
        let decoded = match (levels, streams.get_mut(block)) {
            (Some(levels), Some(stream)) => {
                stream.decode(&message, &expected, &levels, flat_mut(out), &mut self.scratch).map(|_| ())
            }
            _ => decode_raw(&message, &expected, self.wire_of::<T>(kind), flat_mut(out)),
        };
        decoded.map_err(|source| ExchangeError::Message { rank, peer: from, source: Box::new(source) })?;
        self.spare.push(message);
        Ok(())
    }

    /// The level set that this variable had in this iteration.
    fn levels_of(&self, kind: Kind, l: usize, iteration: u64) -> Option<LevelSet> {
        let of = self.levels.iter().find(|levels| levels.iteration == iteration)?;
        let sets = match kind {
            Kind::P => of.p.as_ref(),
            Kind::Q => of.q.as_ref(),
            _ => None,
        };
        sets.and_then(|sets| sets.get(l - 1)).copied()
    }

    /// Activations of evaluations travel as they are.
    fn wire_of<T: Real>(&self, kind: Kind) -> Wire {
        match kind {
            Kind::P | Kind::Q => self.wire.unwrap_or_else(Wire::native::<T>),
            _ => Wire::native::<T>(),
        }
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
        self.policy.clock().begin_part(Part::P);
        for (k, block) in below.blocks.iter_mut().enumerate() {
            let Some(pending) = self.awaited_q.pop_front() else { return Ok(()) };
            self.complete(rank, pending, Kind::Q, below.index, k, iteration, &mut block.q)?;
        }
        Ok(())
    }

    fn send_p(&mut self, below: &Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.below else { return Ok(()) };
        for (k, block) in below.blocks.iter().enumerate() {
            self.traffic.p_bytes += self.send(rank, Kind::P, below.index, k, &block.p)?;
            self.traffic.messages += 1;
        }
        self.policy.clock().begin_part(Part::Middle);
        Ok(())
    }

    fn receive_p(&mut self, above: &mut Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.above else { return Ok(()) };
        self.policy.clock().begin_part(Part::Q);
        for (k, block) in above.blocks.iter_mut().enumerate() {
            let Some(pending) = self.awaited_p.pop_front() else { return Ok(()) };
            self.complete(rank, pending, Kind::P, above.index, k, self.iteration, &mut block.p)?;
        }
        Ok(())
    }

    fn send_q(&mut self, above: &Boundary<T>) -> Result<(), ExchangeError> {
        let Some(rank) = self.above else { return Ok(()) };
        for (k, block) in above.blocks.iter().enumerate() {
            self.traffic.q_bytes += self.send(rank, Kind::Q, above.index, k, &block.q)?;
            self.traffic.messages += 1;
            self.traffic.baseline_bytes += 12 * block.q.len() as u64;
        }
        self.policy.clock().begin_part(Part::End);
        Ok(())
    }

    fn progress(&mut self) -> Result<(), ExchangeError> {
        let _send = self.policy.clock().enter(Phase::Send);
        self.retire()?;
        Ok(self.communicator.progress()?)
    }
}

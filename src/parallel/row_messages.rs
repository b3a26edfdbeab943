//! Rows of matrices that pass between ranks, by lists that both sides know, in messages of bounded length.
//!
//! The ranks exchange in rounds: in round k each sends to the rank k above and receives from the rank k below (counted
//! round), message by message, the receive posted first. So a rank has one message of each kind in memory, and the
//! rank that is furthest behind can always go on.

use std::cell::RefCell;

use super::exchange::ExchangeError;
use super::{Communicator, Pending, WaitPolicy, wait_bytes};
use crate::linalg::Real;
use crate::quantize::{
    Header, Kind, LevelSet, Scratch, Stream, Wire, decode_raw, encode_raw, longest_message_len,
};

/// Bytes of numbers in a message. A rank holds four times as much: one message each way, encoded and not.
const MESSAGE_BYTES: usize = 4 << 20;

/// Which rows pass between this rank and each other, by rank, in the order in which they are sent. Those that a rank
/// sends to itself are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowRoutes {
    /// Rows of the source.
    pub send: Vec<Vec<u32>>,
    /// Rows of the target.
    pub receive: Vec<Vec<u32>>,
}

impl RowRoutes {
    /// No rows between any of `ranks` ranks.
    pub fn none(ranks: usize) -> Self {
        Self { send: vec![Vec::new(); ranks], receive: vec![Vec::new(); ranks] }
    }
}

/// What a message is about, so that ranks out of step learn it from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// What passes, in words for an error.
    pub purpose: &'static str,
    /// Power of Ã, or operator.
    pub part: usize,
    /// First of the columns of H.
    pub column: usize,
}

impl Label {
    fn header(&self, block: usize, rows: usize, cols: usize) -> Header {
        Header {
            kind: Kind::State,
            boundary: self.part as u32,
            block: block as u32,
            iteration: self.column as u64,
            rows: rows as u32,
            cols: cols as u32,
        }
    }
}

/// This rank's end of such exchanges; buffers are kept from one to the next.
pub struct RowMessages<'a> {
    /// The ranks.
    pub communicator: &'a dyn Communicator,
    /// How to wait for them.
    pub policy: &'a WaitPolicy,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl<'a> RowMessages<'a> {
    /// Nothing exchanged yet.
    pub fn new(communicator: &'a dyn Communicator, policy: &'a WaitPolicy) -> Self {
        Self { communicator, policy, spare: RefCell::default() }
    }

    /// Passes rows of `source` to rows of the other ranks' `target`, both matrices of `columns` columns. All ranks call
    /// it together, with routes that fit.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn pass<T: Real>(
        &self,
        routes: &RowRoutes,
        label: Label,
        columns: usize,
        source: &[T],
        target: &mut [T],
    ) -> Result<(), ExchangeError> {
        if columns == 0 {
            return Ok(());
        }
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        for (&from, &to) in routes.send[rank].iter().zip(&routes.receive[rank]) {
            row_mut(target, to, columns).copy_from_slice(row(source, from, columns));
        }
        let at_once = rows_of_a_message::<T>(columns);
        let mut values: Vec<T> = Vec::new();
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            let (mut out, mut into) = (routes.send[to].chunks(at_once), routes.receive[from].chunks(at_once));
            for block in 0.. {
                let (out, into) = (out.next(), into.next());
                if out.is_none() && into.is_none() {
                    break;
                }
                let receive =
                    into.map(|rows| self.post_receive::<T>(from, label, rows.len() * columns)).transpose()?;
                let mut sent = None;
                if let Some(rows) = out {
                    values.clear();
                    rows.iter().for_each(|&from| values.extend_from_slice(row(source, from, columns)));
                    sent = Some(self.post(to, label, block, rows.len(), columns, &values)?);
                }
                if let (Some(rows), Some(pending)) = (into, receive) {
                    values.resize(rows.len() * columns, T::zero());
                    self.complete(from, pending, label, block, columns, &mut values)?;
                    for (&to, values) in rows.iter().zip(values.chunks_exact(columns)) {
                        row_mut(target, to, columns).copy_from_slice(values);
                    }
                }
                if let Some(pending) = sent {
                    self.finish(pending)?;
                }
            }
        }
        Ok(())
    }

    /// Sends all of `values`, rows of `columns`, to one rank.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn send<T: Real>(
        &self,
        to: usize,
        label: Label,
        columns: usize,
        values: &[T],
    ) -> Result<(), ExchangeError> {
        let columns = columns.max(1);
        let messages = values.chunks(rows_of_a_message::<T>(columns) * columns);
        for (block, values) in messages.enumerate() {
            let sent = self.post(to, label, block, values.len() / columns, columns, values)?;
            self.finish(sent)?;
        }
        Ok(())
    }

    /// Receives from one rank the `rows` rows that it [sends](RowMessages::send), and hands them to `take`: each time
    /// the first row's number and the values.
    ///
    /// # Errors
    /// The exchange failed, or what `take` says.
    pub fn receive<T: Real, E: From<ExchangeError>>(
        &self,
        from: usize,
        label: Label,
        columns: usize,
        rows: usize,
        mut take: impl FnMut(usize, &[T]) -> Result<(), E>,
    ) -> Result<(), E> {
        let at_once = rows_of_a_message::<T>(columns.max(1));
        let mut values: Vec<T> = Vec::new();
        for (block, first) in (0..rows).step_by(at_once).enumerate() {
            values.resize((rows - first).min(at_once) * columns, T::zero());
            let pending = self.post_receive::<T>(from, label, values.len())?;
            self.complete(from, pending, label, block, columns, &mut values)?;
            take(first, &values)?;
        }
        Ok(())
    }

    /// Exchanges one mask with every other rank: `outgoing(to)` gives the one for rank `to`, and `take` is handed the
    /// one of each rank, of `length` elements. A bit an element travels.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn pass_masks(
        &self,
        label: Label,
        length: usize,
        outgoing: impl Fn(usize) -> Vec<bool>,
        mut take: impl FnMut(usize, &[bool]),
    ) -> Result<(), ExchangeError> {
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        let of = |peer: usize, source| ExchangeError::Message { rank, peer, source: Box::new(source) };
        let levels = |peer: usize, header: &Header| {
            LevelSet::new(0.0, 1.0, 2).map_err(|problem| of(peer, header.error(problem.into())))
        };
        let mut scratch = Scratch::default();
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            let receive = match length {
                0 => None,
                _ => Some(self.post_receive::<f32>(from, label, length)?),
            };
            let mask: Vec<f32> = outgoing(to).into_iter().map(|bit| f32::from(u8::from(bit))).collect();
            let mut sent = None;
            if !mask.is_empty() {
                let header = label.header(0, 1, mask.len());
                let mut message = self.spare.borrow_mut().pop().unwrap_or_default();
                let levels = levels(to, &header)?;
                Stream::new()
                    .encode(&header, &levels, &mask, &mut scratch, &mut message)
                    .map_err(|source| of(to, source))?;
                sent = Some(self.communicator.post_send(to, TAG, message)?.named(label.purpose));
            }
            if let Some(pending) = receive {
                let message = wait_bytes(self.communicator, pending, self.policy)?;
                let header = label.header(0, 1, length);
                let levels = levels(from, &header)?;
                let mut mask = vec![0f32; length];
                Stream::new()
                    .decode(&message, &header, &levels, &mut mask, &mut scratch)
                    .map_err(|source| of(from, source))?;
                self.spare.borrow_mut().push(message);
                take(from, &mask.into_iter().map(|bit| bit > 0.5).collect::<Vec<_>>());
            }
            if let Some(pending) = sent {
                self.finish(pending)?;
            }
        }
        Ok(())
    }

    fn post_receive<T: Real>(
        &self,
        from: usize,
        label: Label,
        elements: usize,
    ) -> Result<Pending, ExchangeError> {
        let buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        let longest = longest_message_len::<T>(elements);
        Ok(self.communicator.post_receive(from, TAG, buffer, longest)?.named(label.purpose))
    }

    fn post<T: Real>(
        &self,
        to: usize,
        label: Label,
        block: usize,
        rows: usize,
        columns: usize,
        values: &[T],
    ) -> Result<Pending, ExchangeError> {
        let mut message = self.spare.borrow_mut().pop().unwrap_or_default();
        let rank = self.communicator.rank();
        encode_raw(&label.header(block, rows, columns), Wire::native::<T>(), values, &mut message)
            .map_err(|source| ExchangeError::Message { rank, peer: to, source: Box::new(source) })?;
        Ok(self.communicator.post_send(to, TAG, message)?.named(label.purpose))
    }

    fn complete<T: Real>(
        &self,
        from: usize,
        pending: Pending,
        label: Label,
        block: usize,
        columns: usize,
        values: &mut [T],
    ) -> Result<(), ExchangeError> {
        let message = wait_bytes(self.communicator, pending, self.policy)?;
        let expected = label.header(block, values.len() / columns.max(1), columns);
        let rank = self.communicator.rank();
        decode_raw(&message, &expected, Wire::native::<T>(), values)
            .map_err(|source| ExchangeError::Message { rank, peer: from, source: Box::new(source) })?;
        self.spare.borrow_mut().push(message);
        Ok(())
    }

    fn finish(&self, pending: Pending) -> Result<(), ExchangeError> {
        let buffer = wait_bytes(self.communicator, pending, self.policy)?;
        self.spare.borrow_mut().push(buffer);
        Ok(())
    }
}

const TAG: u16 = Kind::State as u16;

fn rows_of_a_message<T: Real>(columns: usize) -> usize {
    (MESSAGE_BYTES / (columns * T::SIZE)).max(1)
}

fn row<T>(values: &[T], row: u32, columns: usize) -> &[T] {
    &values[row as usize * columns..][..columns]
}

fn row_mut<T>(values: &mut [T], row: u32, columns: usize) -> &mut [T] {
    &mut values[row as usize * columns..][..columns]
}

//! Rows of matrices that pass between ranks, by lists that both sides know, in messages of bounded length.
//!
//! The ranks exchange in rounds: in round k each sends to the rank k above and receives from the rank k below (counted
//! round), message by message, the receive posted first. So a rank has one message of each kind in memory, and the
//! rank that is furthest behind can always go on.

use std::cell::RefCell;

use super::exchange::ExchangeError;
use super::matrix_messages::MatrixMessages;
use super::{Communicator, Pending, WaitPolicy};
use crate::linalg::Real;
use crate::quantize::{Header, Kind};

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
    fn header(&self, block: usize, elements: usize, columns: usize) -> Header {
        Header {
            kind: Kind::State,
            boundary: self.part as u32,
            block: block as u32,
            iteration: self.column as u64,
            rows: (elements / columns.max(1)) as u32,
            cols: columns as u32,
        }
    }
}

/// This rank's end of such exchanges; buffers are kept from one to the next.
pub struct RowMessages<'a> {
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    messages: RefCell<MatrixMessages<'a>>,
}

impl<'a> RowMessages<'a> {
    /// Nothing exchanged yet.
    pub fn new(communicator: &'a dyn Communicator, policy: &'a WaitPolicy) -> Self {
        let messages = RefCell::new(MatrixMessages::new(communicator, policy));
        Self { communicator, policy, messages }
    }

    /// The ranks.
    pub fn communicator(&self) -> &'a dyn Communicator {
        self.communicator
    }

    /// How to wait for them.
    pub fn policy(&self) -> &'a WaitPolicy {
        self.policy
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
        let (mut leaving, mut coming): (Vec<T>, Vec<T>) = (Vec::new(), Vec::new());
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            let (mut out, mut into) = (routes.send[to].chunks(at_once), routes.receive[from].chunks(at_once));
            for block in 0.. {
                let (out, into) = (out.next(), into.next().unwrap_or_default());
                if out.is_none() && into.is_empty() {
                    break;
                }
                coming.resize(into.len() * columns, T::zero());
                let pending = match into {
                    [] => None,
                    _ => Some(self.post_receive(from, label, block, columns, &coming)?),
                };
                if let Some(rows) = out {
                    leaving.clear();
                    rows.iter().for_each(|&from| leaving.extend_from_slice(row(source, from, columns)));
                    self.post(to, label, block, columns, &leaving)?;
                }
                if let Some(pending) = pending {
                    self.complete(from, pending, label, block, columns, &mut coming)?;
                    for (&to, values) in into.iter().zip(coming.chunks_exact(columns)) {
                        row_mut(target, to, columns).copy_from_slice(values);
                    }
                }
                self.messages.borrow_mut().finish_sends()?;
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
            self.post(to, label, block, columns, values)?;
            self.messages.borrow_mut().finish_sends()?;
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
            let pending = self.post_receive(from, label, block, columns, &values)?;
            self.complete(from, pending, label, block, columns, &mut values)?;
            take(first, &values)?;
        }
        Ok(())
    }

    /// Exchanges one mask with every other rank: `outgoing(to)` gives the one for rank `to`, and `take` is handed the
    /// one of each rank, of `length` elements.
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
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            let out: Vec<f32> = outgoing(to).into_iter().map(|bit| f32::from(u8::from(bit))).collect();
            let mut into = vec![0f32; length];
            let pending = self.post_receive(from, label, 0, 1, &into)?;
            self.post(to, label, 0, 1, &out)?;
            self.complete(from, pending, label, 0, 1, &mut into)?;
            self.messages.borrow_mut().finish_sends()?;
            take(from, &into.into_iter().map(|bit| bit > 0.5).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Posts the receive of a message of as many numbers as `values` has.
    fn post_receive<T: Real>(
        &self,
        from: usize,
        label: Label,
        block: usize,
        columns: usize,
        values: &[T],
    ) -> Result<Pending, ExchangeError> {
        let header = label.header(block, values.len(), columns);
        self.messages.borrow_mut().post_receive::<T>(from, &header, label.purpose)
    }

    fn post<T: Real>(
        &self,
        to: usize,
        label: Label,
        block: usize,
        columns: usize,
        values: &[T],
    ) -> Result<(), ExchangeError> {
        let header = label.header(block, values.len(), columns);
        self.messages.borrow_mut().send(to, &header, label.purpose, values)
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
        let header = label.header(block, values.len(), columns);
        self.messages.borrow_mut().receive(from, pending, &header, values)
    }
}

fn rows_of_a_message<T: Real>(columns: usize) -> usize {
    (MESSAGE_BYTES / (columns * T::SIZE)).max(1)
}

fn row<T>(values: &[T], row: u32, columns: usize) -> &[T] {
    &values[row as usize * columns..][..columns]
}

fn row_mut<T>(values: &mut [T], row: u32, columns: usize) -> &mut [T] {
    &mut values[row as usize * columns..][..columns]
}

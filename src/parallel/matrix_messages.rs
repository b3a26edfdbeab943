//! Matrices of numbers as messages: unrounded, each with a header and a checksum.

use super::exchange::ExchangeError;
use super::{Communicator, Pending, WaitPolicy, wait_bytes};
use crate::quantize::{Element, Header, Wire, decode_raw, encode_raw, longest_message_len};
use crate::timing::Phase;

/// One rank's messages, with the bytes they take. The kind of a header is the tag of its message.
pub struct MatrixMessages<'a> {
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
    spare: Vec<Vec<u8>>,
    sends: Vec<Pending>,
    /// Bytes that this rank has sent, headers included.
    pub bytes: u64,
}

impl<'a> MatrixMessages<'a> {
    /// Nothing sent yet.
    pub fn new(communicator: &'a dyn Communicator, policy: &'a WaitPolicy) -> Self {
        Self { communicator, policy, spare: Vec::new(), sends: Vec::new(), bytes: 0 }
    }

    /// The ranks between which they travel.
    pub fn communicator(&self) -> &'a dyn Communicator {
        self.communicator
    }

    /// Posts the receive of a message like this.
    ///
    /// # Errors
    /// The communicator refused.
    pub fn post_receive<T: Element>(
        &mut self,
        from: usize,
        header: &Header,
        purpose: &'static str,
    ) -> Result<Pending, ExchangeError> {
        let _send = self.policy.clock().enter(Phase::Send);
        let longest = longest_message_len::<T>(header.elements().unwrap_or(usize::MAX));
        let buffer = self.spare.pop().unwrap_or_default();
        Ok(self.communicator.post_receive(from, header.kind as u16, buffer, longest)?.named(purpose))
    }

    /// Waits for a message and writes its numbers into `values`.
    ///
    /// # Errors
    /// The exchange failed, or the message is not what `header` says.
    pub fn receive<T: Element>(
        &mut self,
        from: usize,
        pending: Pending,
        header: &Header,
        values: &mut [T],
    ) -> Result<(), ExchangeError> {
        let message = wait_bytes(self.communicator, pending, self.policy)?;
        let _decode = self.policy.clock().enter(Phase::Decode);
        let rank = self.communicator.rank();
        decode_raw(&message, header, Wire::native::<T>(), values)
            .map_err(|source| ExchangeError::Message { rank, peer: from, source: Box::new(source) })?;
        self.spare.push(message);
        Ok(())
    }

    /// Sends these numbers; [`MatrixMessages::finish_sends`] waits for them to leave.
    ///
    /// # Errors
    /// The communicator refused.
    pub fn send<T: Element>(
        &mut self,
        to: usize,
        header: &Header,
        purpose: &'static str,
        values: &[T],
    ) -> Result<(), ExchangeError> {
        let encoding = self.policy.clock().enter(Phase::Encode);
        let mut message = self.spare.pop().unwrap_or_default();
        let rank = self.communicator.rank();
        encode_raw(header, Wire::native::<T>(), values, &mut message)
            .map_err(|source| ExchangeError::Message { rank, peer: to, source: Box::new(source) })?;
        drop(encoding);
        let _send = self.policy.clock().enter(Phase::Send);
        self.bytes += message.len() as u64;
        let pending = self.communicator.post_send(to, header.kind as u16, message)?.named(purpose);
        self.sends.push(pending);
        Ok(())
    }

    /// Waits until everything sent has left.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn finish_sends(&mut self) -> Result<(), ExchangeError> {
        for pending in self.sends.drain(..) {
            self.spare.push(wait_bytes(self.communicator, pending, self.policy)?);
        }
        Ok(())
    }
}

//! The one small trait behind which MPI sits: post, test, and nothing that blocks.

use super::error::{Awaited, CommError, Operation};
#[cfg(feature = "mpi")]
use super::mpi_requests::MpiRequest;
use super::threads::ThreadRequest;

/// The largest tag that every MPI library accepts (MPI 4.0, section 9.1.2: `MPI_TAG_UB` is at least this).
pub const MAX_TAG: u16 = 32_767;

/// Tags from here on are for the collectives and the communicators themselves.
pub const FIRST_RESERVED_TAG: u16 = 32_000;

/// The result of a completed operation. Buffers go back to who posted them, so that a loop can run without
/// allocating.
#[derive(Debug, PartialEq)]
pub enum Completed {
    /// The message has left; here is its buffer.
    Sent(Vec<u8>),
    /// The message has come, with its true length.
    Received(Vec<u8>),
    /// The sums over all ranks.
    Reduced(Vec<f64>),
}

/// An operation that was posted. [`Communicator::test`] or [`super::wait`] completes it.
///
/// Dropping one that has not completed is allowed when a run is given up: its buffer is then leaked, because
/// MPI may still read or write it, and a receive dropped that way still swallows its message.
#[derive(Debug)]
#[must_use = "an operation that nobody tests may never complete"]
pub struct Pending {
    pub(super) awaited: Awaited,
    pub(super) state: State,
}

/// What a communicator keeps in a [`Pending`].
#[derive(Debug)]
pub(super) enum State {
    /// Complete when posted; empty once handed out.
    Ready(Option<Completed>),
    /// Between threads of one process.
    Thread(ThreadRequest),
    /// An MPI request and its buffers.
    #[cfg(feature = "mpi")]
    Mpi(MpiRequest),
}

impl Pending {
    /// An operation that is already complete, for communicators that need not wait.
    pub fn ready(awaited: Awaited, completed: Completed) -> Self {
        Pending { awaited, state: State::Ready(Some(completed)) }
    }

    /// Says what the operation is for, in the words that an error message shall use.
    pub fn named(mut self, purpose: &'static str) -> Self {
        self.awaited.purpose = purpose;
        self
    }

    /// What is awaited, from whom.
    pub fn awaited(&self) -> Awaited {
        self.awaited
    }
}

/// Ranks 0 to `size() − 1` that exchange messages and sum over all.
///
/// Nothing here blocks: operations are posted and tested, and [`super::wait`] is the one place that waits. Between
/// two ranks, receives with one tag match messages with that tag in the order in which both were posted. Tags up to
/// [`MAX_TAG`]; those from [`FIRST_RESERVED_TAG`] are taken. No rank sends to itself.
///
/// All calls come from the thread that made the communicator (MPI runs with `MPI_THREAD_FUNNELED`).
pub trait Communicator {
    /// This process's number.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// The library underneath, with its version, in one line.
    fn library(&self) -> String;

    /// The name of the machine that this rank runs on.
    fn host_name(&self) -> String;

    /// Sends `bytes` (any length) to rank `to`; completes with [`Completed::Sent`].
    ///
    /// # Errors
    /// `to` does not exist or is this rank, the tag is too large, or MPI refuses.
    fn post_send(&self, to: usize, tag: u16, bytes: Vec<u8>) -> Result<Pending, CommError>;

    /// Receives at most `max_len` bytes from rank `from`; completes with [`Completed::Received`], which holds as
    /// many bytes as were sent. The content of `buffer` is discarded, its allocation is reused.
    ///
    /// # Errors
    /// As [`Communicator::post_send`]; the test fails with [`CommError::Truncated`] for a longer message.
    fn post_receive(
        &self,
        from: usize,
        tag: u16,
        buffer: Vec<u8>,
        max_len: usize,
    ) -> Result<Pending, CommError>;

    /// Sums `values` element by element over all ranks; completes with [`Completed::Reduced`]. All ranks post
    /// their sums in the same order and with the same length.
    ///
    /// The order of summation is up to the library: callers who want the same bits for every number of ranks give
    /// each layer a slot of its own and leave zeros in all others. Negative zeros come back as zeros, for one rank too.
    ///
    /// # Errors
    /// MPI refuses, or the vector is longer than 2³¹ − 1.
    fn post_sum(&self, values: Vec<f64>) -> Result<Pending, CommError>;

    /// Looks once whether `pending` has completed, and gives its buffers back if so.
    ///
    /// # Errors
    /// The operation failed, or `pending` was already handed out.
    fn test(&self, pending: &mut Pending) -> Result<Option<Completed>, CommError>;

    /// Moves messages along without waiting. MPI moves large messages only while it is called: call this every few
    /// milliseconds of computing while anything is outstanding. It costs about a microsecond.
    ///
    /// # Errors
    /// MPI reports a failure.
    fn progress(&self) -> Result<(), CommError>;
}

/// Checks what every implementation must check of a message, and describes it.
pub(super) fn checked(
    rank: usize,
    size: usize,
    operation: Operation,
    peer: usize,
    tag: u16,
) -> Result<Awaited, CommError> {
    if peer >= size || peer == rank {
        return Err(CommError::NoSuchPeer { rank, peer, size });
    }
    if tag > MAX_TAG {
        return Err(CommError::Tag(tag));
    }
    Ok(Awaited { rank, operation, peer: Some(peer), tag, purpose: "" })
}

/// Describes a sum, and clears the sign of zeros: −0 + 0 is 0, so that one rank and many would differ.
pub(super) fn checked_sum(rank: usize, values: &mut [f64]) -> Result<Awaited, CommError> {
    if i32::try_from(values.len()).is_err() {
        return Err(CommError::SumTooLong(values.len()));
    }
    for value in values {
        *value += 0.0;
    }
    Ok(Awaited { rank, operation: Operation::Sum, peer: None, tag: 0, purpose: "" })
}

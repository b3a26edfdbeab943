//! What can go wrong between ranks.

use std::fmt;

/// What a pending operation waits for; part of every message about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A message to another rank.
    Send,
    /// A message from another rank.
    Receive,
    /// A sum over all ranks.
    Sum,
}

/// One operation as people should read it in an error: what, with whom, what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// The rank that waits.
    pub rank: usize,
    /// What it waits for.
    pub operation: Operation,
    /// The other rank; none for a sum.
    pub peer: Option<usize>,
    /// The tag of the message (0 for a sum).
    pub tag: u16,
    /// What the operation is for, in the caller's words ("p of the boundary below"); may be empty.
    pub purpose: &'static str,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.operation, self.peer) {
            (Operation::Send, Some(peer)) => {
                write!(f, "rank {} sending to rank {peer} (tag {})", self.rank, self.tag)?
            }
            (Operation::Receive, Some(peer)) => {
                write!(f, "rank {} receiving from rank {peer} (tag {})", self.rank, self.tag)?
            }
            _ => write!(f, "rank {} summing over all ranks", self.rank)?,
        }
        if self.purpose.is_empty() { Ok(()) } else { write!(f, ", {}", self.purpose) }
    }
}

/// Who may be to blame: a few of them by number.
fn suspects(silent: &[usize]) -> String {
    const NAMED: usize = 8;
    let numbers: Vec<String> = silent.iter().take(NAMED).map(ToString::to_string).collect();
    let more =
        if silent.len() > NAMED { format!(" and {} more", silent.len() - NAMED) } else { String::new() };
    match silent {
        [] => String::new(),
        [rank] => format!("; rank {rank} is silent, slow or dead"),
        _ => format!("; ranks {}{more} are silent, slow or dead", numbers.join(", ")),
    }
}

/// An error of the communication between ranks.
#[derive(Debug, thiserror::Error)]
pub enum CommError {
    /// Nothing came within the limit.
    #[error(
        "{awaited}: nothing after {seconds:.1} s{}", suspects(.silent)
    )]
    Deadline {
        /// What was awaited.
        awaited: Awaited,
        /// How long.
        seconds: f64,
        /// Who did not answer, as far as is known.
        silent: Vec<usize>,
    },
    /// The other rank has ended.
    #[error("{awaited}: rank {gone} has ended")]
    PeerGone {
        /// What was awaited.
        awaited: Awaited,
        /// The rank that is no longer there.
        gone: usize,
    },
    /// A message is longer than the receiver allowed.
    #[error("{awaited}: the message is longer than the {max_len} bytes expected")]
    Truncated {
        /// What was awaited.
        awaited: Awaited,
        /// The longest message that the receiver allowed.
        max_len: usize,
    },
    /// The MPI library reported an error.
    #[error("{awaited}: {call} failed with MPI error {code}: {message}")]
    Mpi {
        /// What was awaited.
        awaited: Awaited,
        /// The MPI function.
        call: &'static str,
        /// Its return value.
        code: i32,
        /// The library's text for it.
        message: String,
    },
    /// A rank was named that does not exist, or the rank itself.
    #[error("rank {rank} cannot exchange with rank {peer}: there are {size} ranks, and none sends to itself")]
    NoSuchPeer {
        /// The calling rank.
        rank: usize,
        /// The rank asked for.
        peer: usize,
        /// The number of ranks.
        size: usize,
    },
    /// A tag above what every MPI library takes.
    #[error("tag {0} is above {max}, the largest that every MPI library accepts", max = super::MAX_TAG)]
    Tag(u16),
    /// More numbers to sum than one MPI call takes.
    #[error("a sum of {0} numbers is more than MPI takes in one call")]
    SumTooLong(usize),
    /// Ranks came to a sum with different lengths.
    #[error("rank {rank} sums {here} numbers where another rank sums {there}")]
    SumLength {
        /// The calling rank.
        rank: usize,
        /// Its number of values.
        here: usize,
        /// The other's.
        there: usize,
    },
    /// Ranks are in different collectives.
    #[error(
        "rank {rank} is in {here}, but rank {peer} is in {there}: all ranks must go through the same steps"
    )]
    Mismatch {
        /// The calling rank.
        rank: usize,
        /// The collective it is in.
        here: String,
        /// The rank it heard from.
        peer: usize,
        /// The collective that one is in.
        there: String,
    },
    /// A message that this program cannot have sent.
    #[error("rank {rank} received an unreadable message from rank {peer} in {during}")]
    Unreadable {
        /// The calling rank.
        rank: usize,
        /// The sender.
        peer: usize,
        /// The collective.
        during: String,
    },
    /// A completed operation was tested again, or by another communicator than the one that posted it.
    #[error("{0}: this operation is not pending here")]
    NotPending(Awaited),
    /// Memory for a message could not be had.
    #[error("no memory for a message of {0} bytes")]
    Memory(usize),
    /// MPI could not be started as needed.
    #[error("MPI could not be started: {0}")]
    Start(String),
    /// The ranks do not know of each other.
    #[error(
        "this process is alone, but {variable}={value} says that {value} were started: the launcher belongs to \
         another MPI than this program ({library}). {remedy}"
    )]
    WrongLauncher {
        /// The environment variable that told.
        variable: &'static str,
        /// Its value.
        value: usize,
        /// The MPI library of this program.
        library: String,
        /// What to do.
        remedy: &'static str,
    },
}

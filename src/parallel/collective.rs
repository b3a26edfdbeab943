//! Operations that all ranks enter together, built on posted messages so that they honour deadlines.
//!
//! These are for start-up, stage changes and shut-down; iterations use [`Communicator::post_sum`] and messages between
//! neighbours. Every part begins with a frame of 64 bytes that says which collective it belongs to: ranks that have
//! got out of step learn it by name rather than by a wrong result.

use std::fmt;

use super::communicator::{Communicator, FIRST_RESERVED_TAG, Pending};
use super::error::CommError;
use super::wait::{WaitPolicy, wait_bytes};

const TAG: u16 = FIRST_RESERVED_TAG;
const FRAME: usize = 64;
const NAME: usize = FRAME - 10;

/// The pattern of a collective, as the frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Broadcast = 1,
    Gather = 2,
}

/// One collective: pattern and the caller's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step<'a> {
    pattern: Pattern,
    name: &'a str,
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = match self.pattern {
            Pattern::Broadcast => "broadcast",
            Pattern::Gather => "gather",
        };
        write!(f, "{pattern} \"{}\"", self.name)
    }
}

impl<'a> Step<'a> {
    fn new(pattern: Pattern, name: &'a str) -> Self {
        let mut end = name.len().min(NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Step { pattern, name: &name[..end] }
    }

    fn frame(&self, len: usize) -> Vec<u8> {
        let mut frame = vec![0; FRAME];
        frame[..8].copy_from_slice(&(len as u64).to_le_bytes());
        frame[8] = self.pattern as u8;
        frame[9] = self.name.len() as u8;
        frame[10..10 + self.name.len()].copy_from_slice(self.name.as_bytes());
        frame
    }

    fn parse(frame: &[u8]) -> Option<(Step<'_>, usize)> {
        let (len, rest) = frame.split_first_chunk::<8>()?;
        let pattern = match rest.first()? {
            1 => Pattern::Broadcast,
            2 => Pattern::Gather,
            _ => return None,
        };
        let name = rest.get(2..2 + usize::from(*rest.get(1)?))?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        Some((Step { pattern, name: std::str::from_utf8(name).ok()? }, len))
    }
}

/// The frame and the content on their way.
fn post_part(
    communicator: &dyn Communicator,
    to: usize,
    step: Step<'_>,
    bytes: Vec<u8>,
) -> Result<[Option<Pending>; 2], CommError> {
    let frame = communicator.post_send(to, TAG, step.frame(bytes.len()))?.named("in a collective");
    let content = match bytes.is_empty() {
        true => None,
        false => Some(communicator.post_send(to, TAG, bytes)?.named("in a collective")),
    };
    Ok([Some(frame), content])
}

fn finish(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    parts: impl IntoIterator<Item = [Option<Pending>; 2]>,
) -> Result<(), CommError> {
    for pending in parts.into_iter().flatten().flatten() {
        wait_bytes(communicator, pending, policy)?;
    }
    Ok(())
}

/// Receives one part, given the posted receive of its frame.
fn receive_part(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    from: usize,
    here: Step<'_>,
    frame: Pending,
) -> Result<Vec<u8>, CommError> {
    let rank = communicator.rank();
    let frame = wait_bytes(communicator, frame, policy)?;
    let unreadable = || CommError::Unreadable { rank, peer: from, during: here.to_string() };
    let (there, len) = Step::parse(&frame).ok_or_else(unreadable)?;
    if here != there {
        return Err(CommError::Mismatch {
            rank,
            here: here.to_string(),
            peer: from,
            there: there.to_string(),
        });
    }
    let mut buffer = Vec::new();
    if len > 0 {
        buffer.try_reserve_exact(len).map_err(|_| CommError::Memory(len))?;
        let content = communicator.post_receive(from, TAG, buffer, len)?.named("in a collective");
        buffer = wait_bytes(communicator, content, policy)?;
        if buffer.len() != len {
            return Err(unreadable());
        }
    }
    Ok(buffer)
}

fn post_frame(communicator: &dyn Communicator, from: usize) -> Result<Pending, CommError> {
    Ok(communicator.post_receive(from, TAG, Vec::with_capacity(FRAME), FRAME)?.named("in a collective"))
}

/// Gives every rank the bytes of rank `root`; what the others pass is ignored. `name` says what for; it is compared.
///
/// # Errors
/// Any [`CommError`]; [`CommError::Mismatch`] if a rank is in another collective.
pub fn broadcast(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    name: &str,
    root: usize,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, CommError> {
    let (rank, size) = (communicator.rank(), communicator.size());
    if root >= size {
        return Err(CommError::NoSuchPeer { rank, peer: root, size });
    }
    let step = Step::new(Pattern::Broadcast, name);
    if rank != root {
        let frame = post_frame(communicator, root)?;
        return receive_part(communicator, policy, root, step, frame);
    }
    let others = (0..size).filter(|&to| to != root);
    let parts =
        others.map(|to| post_part(communicator, to, step, bytes.clone())).collect::<Result<Vec<_>, _>>()?;
    finish(communicator, policy, parts)?;
    Ok(bytes)
}

/// Gives rank 0 the bytes of every rank, by rank; the others get none.
///
/// # Errors
/// As [`broadcast`].
pub fn gather_to_root(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    name: &str,
    bytes: Vec<u8>,
) -> Result<Option<Vec<Vec<u8>>>, CommError> {
    let step = Step::new(Pattern::Gather, name);
    if communicator.rank() != 0 {
        let part = post_part(communicator, 0, step, bytes)?;
        return finish(communicator, policy, [part]).map(|()| None);
    }
    let frames = (1..communicator.size())
        .map(|from| Ok((from, post_frame(communicator, from)?)))
        .collect::<Result<Vec<_>, CommError>>()?;
    let mut gathered = vec![bytes];
    for (from, frame) in frames {
        gathered.push(receive_part(communicator, policy, from, step, frame)?);
    }
    Ok(Some(gathered))
}

/// Returns when all ranks have come here.
///
/// # Errors
/// As [`broadcast`].
pub fn barrier(communicator: &dyn Communicator, policy: &WaitPolicy, name: &str) -> Result<(), CommError> {
    gather_to_root(communicator, policy, name, Vec::new())?;
    broadcast(communicator, policy, name, 0, Vec::new()).map(drop)
}

/// Why [`agree`] gives no value.
#[derive(Debug, thiserror::Error)]
pub enum JointFailure {
    /// At least one rank failed; this is the one with the lowest number. The same on all ranks.
    #[error("{}{message}", if *.size > 1 { format!("rank {rank}: ") } else { String::new() })]
    Failed {
        /// The failing rank.
        rank: usize,
        /// The number of ranks.
        size: usize,
        /// The exit code that it asks for.
        exit_code: u8,
        /// Its message.
        message: String,
    },
    /// The ranks could not even tell each other.
    #[error(transparent)]
    Communication(#[from] CommError),
}

impl JointFailure {
    /// The code that every rank ends with: that of the failing rank, 1 where communication failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            JointFailure::Failed { exit_code, .. } => *exit_code,
            JointFailure::Communication(_) => 1,
        }
    }
}

/// Every rank learns whether any rank failed, so that all go on or all end, with the same code.
///
/// `describe` gives the exit code and the message of an error. Where several ranks fail, the lowest counts.
///
/// # Errors
/// [`JointFailure::Failed`] on all ranks if `result` is an error on any.
pub fn agree<T, E>(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
    name: &str,
    result: Result<T, E>,
    describe: impl FnOnce(&E) -> (u8, String),
) -> Result<T, JointFailure> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let verdict = result.as_ref().err().map(describe).map_or(Vec::new(), |(code, message)| {
        let mut bytes = vec![code];
        bytes.extend_from_slice(message.as_bytes());
        bytes
    });
    let joint = gather_to_root(communicator, policy, name, verdict)?.map_or(Vec::new(), |verdicts| {
        verdicts.iter().enumerate().find(|(_, verdict)| !verdict.is_empty()).map_or(
            Vec::new(),
            |(rank, verdict)| {
                let mut bytes = (rank as u64).to_le_bytes().to_vec();
                bytes.extend_from_slice(verdict);
                bytes
            },
        )
    });
    let joint = broadcast(communicator, policy, name, 0, joint)?;
    let unreadable = || CommError::Unreadable { rank, peer: 0, during: format!("agreement \"{name}\"") };
    match (result, joint.split_first_chunk::<8>()) {
        (_, Some((failed, rest))) => {
            let (&exit_code, message) = rest.split_first().ok_or_else(unreadable)?;
            let message = String::from_utf8_lossy(message).into_owned();
            Err(JointFailure::Failed { rank: u64::from_le_bytes(*failed) as usize, size, exit_code, message })
        }
        (Ok(value), None) if joint.is_empty() => Ok(value),
        _ => Err(unreadable().into()),
    }
}

/// A machine and the ranks on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its ranks, ascending.
    pub ranks: Vec<usize>,
}

/// The machines of all ranks, in the order of their first ranks; the same on every rank.
///
/// # Errors
/// As [`broadcast`].
pub fn hosts(communicator: &dyn Communicator, policy: &WaitPolicy) -> Result<Vec<Host>, CommError> {
    let name = communicator.host_name().replace('\n', " ");
    let gathered = gather_to_root(communicator, policy, "host names", name.into_bytes())?;
    let names = gathered.map_or(Vec::new(), |names| names.join(&b'\n'));
    let names = broadcast(communicator, policy, "host names", 0, names)?;
    let mut hosts: Vec<Host> = Vec::new();
    for (rank, name) in String::from_utf8_lossy(&names).split('\n').enumerate() {
        match hosts.iter_mut().find(|host| host.name == name) {
            Some(host) => host.ranks.push(rank),
            None => hosts.push(Host { name: name.to_string(), ranks: vec![rank] }),
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::ThreadCommunicator;

    #[test]
    fn ranks_in_different_collectives_learn_it_by_name() {
        let errors = ThreadCommunicator::run(2, |communicator| {
            let policy = WaitPolicy::new();
            match communicator.rank() {
                0 => broadcast(communicator, &policy, "settings", 0, vec![1]).err(),
                _ => broadcast(communicator, &policy, "shapes", 0, vec![]).err(),
            }
        });
        let message = errors[1].as_ref().unwrap().to_string();
        assert!(message.contains("rank 1 is in broadcast \"shapes\""), "{message}");
        assert!(message.contains("rank 0 is in broadcast \"settings\""), "{message}");
    }

    #[test]
    fn the_lowest_failing_rank_speaks_for_all() {
        let results = ThreadCommunicator::run(4, |communicator| {
            let rank = communicator.rank();
            let result = if rank == 1 || rank == 3 { Err(rank) } else { Ok(rank) };
            agree(communicator, &WaitPolicy::new(), "data", result, |e| (*e as u8, format!("broken {e}")))
        });
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.exit_code(), 1);
            assert_eq!(error.to_string(), "rank 1: broken 1");
        }
    }

    #[test]
    fn an_error_without_text_is_still_an_error() {
        let results = ThreadCommunicator::run(2, |communicator| {
            let result = if communicator.rank() == 1 { Err(()) } else { Ok(()) };
            agree(communicator, &WaitPolicy::new(), "data", result, |_| (0, String::new())).is_err()
        });
        assert_eq!(results, [true, true]);
    }

    #[test]
    fn names_longer_than_the_frame_are_cut_at_a_character() {
        let name = "ü".repeat(60);
        let step = Step::new(Pattern::Gather, &name);
        let frame = step.frame(5);
        assert_eq!(Step::parse(&frame), Some((step, 5)));
        assert_eq!(step.name.chars().count(), NAME / 2);
    }

    #[test]
    fn hosts_hold_all_ranks() {
        for hosts in ThreadCommunicator::run(3, |c| hosts(c, &WaitPolicy::new()).unwrap()) {
            assert_eq!(hosts.len(), 1);
            assert_eq!(hosts[0].ranks, [0, 1, 2]);
        }
    }
}

//! One process alone: rank 0 of 1.

use super::communicator::{Communicator, Completed, Pending, State, checked, checked_sum};
use super::error::{CommError, Operation};

/// The communicator of a process that runs alone, with or without MPI in the build. Sums return at once; there is
/// nobody to send to, so that every message is refused.
#[derive(Debug, Default, Clone, Copy)]
pub struct SingleProcess;

impl Communicator for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn library(&self) -> String {
        "no MPI, one process".to_string()
    }

    fn host_name(&self) -> String {
        local_host_name()
    }

    fn post_send(&self, to: usize, tag: u16, bytes: Vec<u8>) -> Result<Pending, CommError> {
        let awaited = checked(0, 1, Operation::Send, to, tag)?;
        Ok(Pending::ready(awaited, Completed::Sent(bytes)))
    }

    fn post_receive(
        &self,
        from: usize,
        tag: u16,
        buffer: Vec<u8>,
        _max_len: usize,
    ) -> Result<Pending, CommError> {
        let awaited = checked(0, 1, Operation::Receive, from, tag)?;
        Ok(Pending::ready(awaited, Completed::Received(buffer)))
    }

    fn post_sum(&self, mut values: Vec<f64>) -> Result<Pending, CommError> {
        let awaited = checked_sum(0, &mut values)?;
        Ok(Pending::ready(awaited, Completed::Reduced(values)))
    }

    fn test(&self, pending: &mut Pending) -> Result<Option<Completed>, CommError> {
        let awaited = pending.awaited();
        match &mut pending.state {
            State::Ready(completed) => completed.take().map(Some).ok_or(CommError::NotPending(awaited)),
            _ => Err(CommError::NotPending(awaited)),
        }
    }

    fn progress(&self) -> Result<(), CommError> {
        Ok(())
    }
}

/// The machine's name as the system tells it; "localhost" where it does not.
pub(crate) fn local_host_name() -> String {
    let from_system = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_system.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_string(),
        name => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::{WaitPolicy, agree, barrier, broadcast, gather_to_root, wait_sum};

    #[test]
    fn sums_return_at_once_without_negative_zeros() {
        let pending = SingleProcess.post_sum(vec![1.5, -0.0]).unwrap();
        let sums = wait_sum(&SingleProcess, pending, &WaitPolicy::new()).unwrap();
        assert_eq!(sums[0], 1.5);
        assert!(sums[1].is_sign_positive());
    }

    #[test]
    fn messages_are_refused() {
        assert!(matches!(SingleProcess.post_send(0, 1, vec![]), Err(CommError::NoSuchPeer { .. })));
        assert!(matches!(SingleProcess.post_receive(1, 1, vec![], 8), Err(CommError::NoSuchPeer { .. })));
    }

    #[test]
    fn what_was_handed_out_is_not_pending() {
        let mut pending = SingleProcess.post_sum(vec![1.0]).unwrap();
        assert!(SingleProcess.test(&mut pending).unwrap().is_some());
        assert!(matches!(SingleProcess.test(&mut pending), Err(CommError::NotPending(_))));
    }

    #[test]
    fn collectives_of_one() {
        let policy = WaitPolicy::new();
        assert_eq!(broadcast(&SingleProcess, &policy, "b", 0, vec![7]).unwrap(), vec![7]);
        assert_eq!(gather_to_root(&SingleProcess, &policy, "g", vec![8]).unwrap(), Some(vec![vec![8]]));
        barrier(&SingleProcess, &policy, "w").unwrap();
        let failed: Result<(), &str> = Err("no such file");
        let error = agree(&SingleProcess, &policy, "a", failed, |e| (3, e.to_string())).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert_eq!(error.to_string(), "no such file");
    }
}

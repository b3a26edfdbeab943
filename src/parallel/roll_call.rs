//! Who does not answer, where a message or a sum does not come: a neighbour that is late may itself wait for another.

use std::time::{Duration, Instant};

use super::communicator::{Communicator, Completed, FIRST_RESERVED_TAG, Pending};

const TAG: u16 = FIRST_RESERVED_TAG + 1;

/// The ranks that send no sign of life within `patience`. All ranks that wait call this when their deadlines pass;
/// those that do not are stuck, or dead.
pub(super) fn silent_ranks(communicator: &dyn Communicator, patience: Duration) -> Vec<usize> {
    let own = communicator.rank();
    let others = (0..communicator.size()).filter(|&rank| rank != own);
    let mut calls: Vec<Pending> = Vec::new();
    let mut awaited: Vec<(usize, Option<Pending>)> = Vec::new();
    for rank in others {
        awaited.push((rank, communicator.post_receive(rank, TAG, Vec::new(), 1).ok()));
        calls.extend(communicator.post_send(rank, TAG, vec![1]));
    }
    let start = Instant::now();
    while !awaited.is_empty() && start.elapsed() < patience {
        // Sends move while receives are tested; whether they arrive is for the others to see.
        awaited.retain_mut(|(_, pending)| {
            let answered = pending.as_mut().map(|pending| communicator.test(pending));
            !matches!(answered, Some(Ok(Some(Completed::Received(_)))))
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    calls.retain_mut(|call| !matches!(communicator.test(call), Ok(Some(_))));
    awaited.into_iter().map(|(rank, _)| rank).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::{ThreadCommunicator, WaitPolicy, wait_sum};

    #[test]
    fn who_does_not_come_to_a_sum_is_named() {
        let messages = ThreadCommunicator::run(4, |communicator| {
            if communicator.rank() == 2 {
                std::thread::sleep(Duration::from_millis(1500));
                return String::new();
            }
            let policy = WaitPolicy::new().with_deadline(Duration::from_millis(50));
            let pending = communicator.post_sum(vec![1.0]).unwrap().named("residuals");
            wait_sum(communicator, pending, &policy).unwrap_err().to_string()
        });
        for rank in [0, 1, 3] {
            let message = &messages[rank];
            assert!(
                message.starts_with(&format!("rank {rank} summing over all ranks, residuals: ")),
                "{message}"
            );
            assert!(message.ends_with("; rank 2 is silent, slow or dead"), "{message}");
        }
    }
}

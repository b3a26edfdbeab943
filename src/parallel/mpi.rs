//! The communicator over MPI.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mpi::Threading;
use mpi::environment::{Universe, initialize_with_threading, library_version, processor_name};
use mpi::topology::Communicator as _;

use super::communicator::{Communicator, Completed, Pending, State, checked, checked_sum};
use super::error::{CommError, Operation};
use super::mpi_requests::{Channel, MpiRequest, abort_if_running};
use super::single::local_host_name;

/// The rank, for the panic hook; `usize::MAX` until MPI runs.
static RANK: AtomicUsize = AtomicUsize::new(usize::MAX);

/// All ranks that mpirun or srun started. Dropping it finalises MPI, which cannot be started again.
pub struct MpiCommunicator {
    rank: usize,
    size: usize,
    // Before the universe: fields are dropped in this order, and the channel needs MPI to be running.
    channel: Channel,
    _universe: Universe,
}

impl MpiCommunicator {
    /// Starts MPI with `MPI_THREAD_FUNNELED`: only the thread that calls this may communicate.
    ///
    /// # Errors
    /// [`CommError::Start`] if MPI already runs, offers too little threading, or reports an error.
    pub fn initialise() -> Result<Self, CommError> {
        let start = |reason: &str| CommError::Start(reason.to_string());
        let (universe, threading) = initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| start("it was already started in this process"))?;
        if threading < Threading::Funneled {
            return Err(start("this MPI library allows no threads (MPI_THREAD_FUNNELED is needed)"));
        }
        let world = universe.world();
        let number =
            |n: i32| usize::try_from(n).map_err(|_| start("the library gave a negative rank or size"));
        let (rank, size) = (number(world.rank())?, number(world.size())?);
        let channel = Channel::over_world(&universe, rank, size)?;
        RANK.store(rank, Ordering::Relaxed);
        Ok(MpiCommunicator { rank, size, channel, _universe: universe })
    }

    /// Sends messages above `bytes` as blocks of that many. MPI counts in C ints, so that the block is 1 GiB; tests
    /// use a small one. All ranks may differ in this.
    pub fn set_block_length(&mut self, bytes: u32) {
        self.channel.set_block_length(bytes);
    }
}

impl Communicator for MpiCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn library(&self) -> String {
        mpi_library()
    }

    fn host_name(&self) -> String {
        processor_name().ok().filter(|name| !name.is_empty()).unwrap_or_else(local_host_name)
    }

    fn post_send(&self, to: usize, tag: u16, bytes: Vec<u8>) -> Result<Pending, CommError> {
        let awaited = checked(self.rank, self.size, Operation::Send, to, tag)?;
        let request = MpiRequest::send(&self.channel, awaited, to, bytes)?;
        Ok(Pending { awaited, state: State::Mpi(request) })
    }

    fn post_receive(
        &self,
        from: usize,
        tag: u16,
        buffer: Vec<u8>,
        max_len: usize,
    ) -> Result<Pending, CommError> {
        let awaited = checked(self.rank, self.size, Operation::Receive, from, tag)?;
        let request = MpiRequest::receive(&self.channel, awaited, from, buffer, max_len)?;
        Ok(Pending { awaited, state: State::Mpi(request) })
    }

    fn post_sum(&self, mut values: Vec<f64>) -> Result<Pending, CommError> {
        let awaited = checked_sum(self.rank, &mut values)?;
        if self.size == 1 {
            return Ok(Pending::ready(awaited, Completed::Reduced(values)));
        }
        let request = MpiRequest::sum(&self.channel, awaited, values)?;
        Ok(Pending { awaited, state: State::Mpi(request) })
    }

    fn test(&self, pending: &mut Pending) -> Result<Option<Completed>, CommError> {
        let awaited = pending.awaited;
        let outcome = match &mut pending.state {
            State::Ready(completed) => completed.take().map(Some).ok_or(CommError::NotPending(awaited)),
            State::Mpi(request) => request.test(&self.channel, awaited),
            State::Thread(_) => Err(CommError::NotPending(awaited)),
        };
        if !matches!(outcome, Ok(None)) {
            pending.state = State::Ready(None);
        }
        outcome
    }

    fn progress(&self) -> Result<(), CommError> {
        self.channel.progress()
    }
}

/// The MPI library that this program is linked with, in one line. Needs no running MPI.
pub fn mpi_library() -> String {
    let text = library_version().unwrap_or_default();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let first = text.split([',', '\n']).next().unwrap_or_default().replace("Version:", "");
    match first.split_whitespace().collect::<Vec<_>>().join(" ") {
        line if line.is_empty() => "an MPI library without a name".to_string(),
        line => line,
    }
}

/// From now on a panic on any thread of any rank prints the rank and ends all ranks with status 1. Without it, the
/// others would wait for ever: MPI would be finalised while unwinding.
pub fn install_panic_hook() {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // One thread aborts; a second panic meanwhile only prints.
        let first = !PANICKING.swap(true, Ordering::SeqCst);
        let rank = RANK.load(Ordering::Relaxed);
        if rank != usize::MAX {
            // Not eprintln: it panics when the pipe is closed.
            let _ = writeln!(std::io::stderr(), "rank {rank} panicked, ending all ranks");
        }
        previous(info);
        if first {
            abort_if_running(1);
        }
    }));
}

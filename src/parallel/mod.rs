//! Ranks and what passes between them: one small trait, [`Communicator`], behind which MPI sits; one wait loop,
//! [`wait`]; and the collectives of start-up, stage changes and shut-down.
//!
//! | ranks are | implementation |
//! |---|---|
//! | processes under mpirun or srun | [`MpiCommunicator`] (feature `mpi`) |
//! | one process | [`SingleProcess`] |
//! | threads, in tests | [`ThreadCommunicator`] |

mod collective;
mod communicator;
mod error;
pub mod exchange;
pub mod features;
mod launcher;
mod matrix_messages;
pub mod memory;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
mod mpi_requests;
pub mod node_blocks;
pub mod plan;
pub mod processors;
pub mod redistribute;
mod roll_call;
pub mod row_messages;
pub mod row_shares;
pub mod shard_group;
mod single;
mod threads;
mod wait;

pub use collective::{Host, JointFailure, agree, barrier, broadcast, gather_to_root, hosts};
pub use communicator::{Communicator, Completed, FIRST_RESERVED_TAG, MAX_TAG, Pending};
pub use error::{Awaited, CommError, Operation};
pub use launcher::check_launcher;
#[cfg(feature = "mpi")]
pub use mpi::{MpiCommunicator, install_panic_hook, mpi_library};
pub use single::SingleProcess;
pub(crate) use single::local_host_name;
pub use threads::ThreadCommunicator;
pub use wait::{WaitPolicy, wait, wait_bytes, wait_sum};

/// Starts whatever connects the ranks: MPI with [`install_panic_hook`] where a launcher started this process, else
/// one process alone, without the seconds that MPI takes to start by itself. Refuses a launcher that started several
/// processes that do not know of each other. Call it once, on the main thread.
///
/// # Errors
/// [`CommError::Start`] or [`CommError::WrongLauncher`].
pub fn start() -> Result<Box<dyn Communicator>, CommError> {
    let communicator = start_unchecked()?;
    check_launcher(communicator.size(), &communicator.library(), |name| std::env::var(name).ok())?;
    Ok(communicator)
}

/// Whether this process may become rank 0, told before [`start`] by the launcher's environment. True of rank 0 for
/// certain, and of all where the environment does not tell.
pub fn may_be_rank_zero() -> bool {
    #[cfg(feature = "mpi")]
    if is_launched() {
        return launcher::launched_rank(|name| std::env::var(name).ok()).is_none_or(|rank| rank == 0);
    }
    true
}

#[cfg(feature = "mpi")]
fn is_launched() -> bool {
    launcher::is_launched(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

#[cfg(feature = "mpi")]
fn start_unchecked() -> Result<Box<dyn Communicator>, CommError> {
    if !is_launched() {
        return Ok(Box::new(SingleProcess));
    }
    let communicator = MpiCommunicator::initialise()?;
    install_panic_hook();
    Ok(Box::new(communicator))
}

#[cfg(not(feature = "mpi"))]
fn start_unchecked() -> Result<Box<dyn Communicator>, CommError> {
    Ok(Box::new(SingleProcess))
}

/// Ends all ranks at once with this exit code, without waiting for any: the way out when the others may be stuck.
/// Where [`agree`] still works, use it instead and let every rank return.
pub fn abort(exit_code: u8) -> ! {
    #[cfg(feature = "mpi")]
    mpi_requests::abort_if_running(i32::from(exit_code));
    std::process::exit(i32::from(exit_code))
}

//! How much memory the ranks have taken.

use super::{CommError, Communicator, WaitPolicy, gather_to_root};

/// The most memory that this process has had in use at a time (VmHWM), in bytes; `None` where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?;
    kibibytes.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// [`peak_bytes`] of every rank, by rank, on rank 0; zeros where it is not known. All ranks call it together.
///
/// # Errors
/// As [`gather_to_root`].
pub fn peaks_of_ranks(
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
) -> Result<Option<Vec<u64>>, CommError> {
    let own = peak_bytes().unwrap_or(0).to_le_bytes().to_vec();
    let all = gather_to_root(communicator, policy, "memory", own)?;
    let number = |bytes: Vec<u8>| bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(all.map(|all| all.into_iter().map(number).collect()))
}

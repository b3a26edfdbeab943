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

/// The memory that this process and others on its machine can still take, in bytes: what the system has available, or the
/// limit of its control group (a container's, a job's) where that is lower; `None` where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.split_whitespace().next()?;
    let available = kibibytes.parse::<u64>().ok()? << 10;
    Some(group_limits().into_iter().fold(available, u64::min))
}

/// Limits of this process's control group and of those above it.
fn group_limits() -> Vec<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // number:controllers:path; version 2 has the number 0 and no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            of if of.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for path in std::path::Path::new(path).ancestors() {
            let relative = path.strip_prefix("/").unwrap_or(path);
            let limit = std::fs::read_to_string(std::path::Path::new(root).join(relative).join(file));
            // "max" where there is none.
            limits.extend(limit.ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
}

/// Bytes in words that people read.
pub fn in_words(bytes: u64) -> String {
    match bytes as f64 {
        small if small < 1e9 => format!("{:.0} MB", small / 1e6),
        large if large < 1e12 => format!("{:.1} GB", large / 1e9),
        huge => format!("{:.1} TB", huge / 1e12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linux_machine_tells_of_its_memory() {
        if cfg!(target_os = "linux") {
            let (peak, available) = (peak_bytes().unwrap_or(0), available_bytes().unwrap_or(0));
            assert!(peak > 100_000 && available > peak, "{peak} held, {available} available");
        }
        assert_eq!(in_words(17_592_186_044_416), "17.6 TB");
        assert_eq!(in_words(1_500_000), "2 MB");
    }
}

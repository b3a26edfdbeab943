//! What the operating system says of this process's memory. Nothing where it says nothing: only Linux does.

/// The most memory that this process has held so far, in bytes.
pub fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmHWM:")
}

/// The value of a line such as `VmHWM:     1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let text = "Name:\tx\nVmPeak:\t  200 kB\nVmHWM:\t    12 kB\n";
        assert_eq!(kilobytes(text, "VmHWM:"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "VmRSS:"), None);
        assert_eq!(kilobytes("VmHWM: many kB", "VmHWM:"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_resident().is_some_and(|bytes| bytes > 100_000));
        }
    }
}

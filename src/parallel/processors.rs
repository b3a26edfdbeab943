//! Processors of this host, as the operating system counts them.

/// How many are online, whatever this process is bound to; `None` where the system does not tell.
pub fn online() -> Option<usize> {
    count(&std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

/// How many numbers a list such as `0-3,8` names; `None` where it is no such list.
fn count(list: &str) -> Option<usize> {
    let of_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').map(of_range).sum()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn lists_of_processors_are_counted() {
        for (list, expected) in [("0", 1), ("0-1\n", 2), ("0-3", 4), ("0-1,4,6-7", 5), ("0-3,8,10-11", 7)] {
            assert_eq!(count(list), Some(expected), "{list}");
        }
        for list in ["", "3-1", "x", "0-1,x"] {
            assert_eq!(count(list), None, "{list}");
        }
    }
}

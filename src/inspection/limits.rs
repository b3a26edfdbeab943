//! How much time and memory a file may cost the process that inspects it.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;
/// Processor seconds for any file, and bytes for one more.
const BASE_SECONDS: u64 = 10;
const BYTES_A_SECOND: u64 = 4 * MIB;
/// The wall clock may be this many times slower than the processor: the disk may be.
const WALL_FACTOR: u64 = 3;
/// Bytes of memory for any file, and for each of its bytes: gzip and wider types in memory.
const BASE_MEMORY: u64 = 1024 * MIB;
const MEMORY_FACTOR: u64 = 64;
/// Address space that a program may have taken before it begins, where the system does not say.
const ASSUMED_START: u64 = 4096 * MIB;

/// The limits of an inspection, from the length of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time: 10 s and a second for each 4 MiB.
    pub processor: Duration,
    /// Time by the clock, three times as much.
    pub wall: Duration,
    /// Memory beyond what the program has when it starts, in bytes: 1 GiB and 64 times the file.
    pub memory: u64,
}

impl Limits {
    /// The limits for a file of `bytes` bytes.
    pub fn for_length(bytes: u64) -> Self {
        let seconds = BASE_SECONDS + bytes / BYTES_A_SECOND;
        Limits {
            processor: Duration::from_secs(seconds),
            wall: Duration::from_secs(seconds.saturating_mul(WALL_FACTOR)),
            memory: BASE_MEMORY.saturating_add(bytes.saturating_mul(MEMORY_FACTOR)),
        }
    }

    /// Puts the calling process under these limits for good: processor time, address space, and no core dumps. A
    /// stricter limit that holds already stays.
    ///
    /// # Errors
    /// The system refuses.
    pub fn impose(&self) -> std::io::Result<()> {
        let seconds = self.processor.as_secs();
        lower(Resource::Cpu, seconds, seconds.saturating_add(1))?;
        let space = address_space().unwrap_or(ASSUMED_START).saturating_add(self.memory);
        lower(Resource::As, space, space)?;
        lower(Resource::Core, 0, 0)
    }
}

fn lower(resource: Resource, current: u64, maximum: u64) -> std::io::Result<()> {
    let held = getrlimit(resource);
    let below = |wanted: u64, held: Option<u64>| Some(held.map_or(wanted, |held| held.min(wanted)));
    let wanted = Rlimit { current: below(current, held.current), maximum: below(maximum, held.maximum) };
    Ok(setrlimit(resource, wanted)?)
}

/// Bytes of address space that this process has taken, as Linux tells it.
fn address_space() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().next()?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_file() {
        let small = Limits::for_length(15_000);
        assert_eq!((small.processor.as_secs(), small.wall.as_secs()), (10, 30));
        assert_eq!(small.memory, (1 << 30) + 64 * 15_000);
        let large = Limits::for_length(10 << 30);
        assert_eq!((large.processor.as_secs(), large.memory), (10 + 2560, (1 << 30) + (640 << 30)));
        Limits::for_length(u64::MAX);
    }
}

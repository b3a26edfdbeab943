//! Signals that ask a run to stop (docs/reliability.md).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{exit, signal_name};

/// A second SIGINT or SIGTERM ends the process at once, but not within this time of the first: launchers and batch
/// systems may send the same signal twice.
const PATIENCE: Duration = Duration::from_secs(1);

/// From now on SIGUSR1, SIGUSR2, SIGTERM and SIGINT raise the flag that is returned, and nothing else. A second SIGINT or
/// SIGTERM, at least a second later, ends the process at once.
///
/// Writing past a limit on the size of files (SIGXFSZ) becomes an error of the write.
///
/// # Errors
/// The operating system refuses.
pub fn listen(rank: usize) -> std::io::Result<Arc<AtomicBool>> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let flag = Arc::new(AtomicBool::new(false));
    let (raised, mut signals) = (Arc::clone(&flag), Signals::new([SIGUSR1, SIGUSR2, SIGTERM, SIGINT])?);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or("a signal");
            match first {
                None => {
                    raised.store(true, Ordering::SeqCst);
                    tell(format_args!(
                        "rank {rank}: {name}: the run stops after an iteration, with a checkpoint if it has begun to train"
                    ));
                    first = Some(Instant::now());
                }
                Some(time) if matches!(signal, SIGINT | SIGTERM) && time.elapsed() >= PATIENCE => {
                    tell(format_args!("rank {rank}: {name} once more: ending without a checkpoint"));
                    exit(128 + signal);
                }
                Some(_) => {}
            }
        }
    })?;
    Ok(flag)
}

/// Not eprintln: it panics when the pipe is closed.
fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

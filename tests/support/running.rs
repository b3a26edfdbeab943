//! Programs that are still running: their ranks as processes, to be sent signals. Linux. Test files that include
//! `program.rs` include it with `#[path]`.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command that was started, in a process group of its own.
pub struct Running {
    child: Child,
    streams: [Option<JoinHandle<String>>; 2],
    // Jobs of Open MPI 4 that start and end at the same time remove each other's session folders.
    _session: tempfile::TempDir,
}

/// What it left.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Whether signals can be sent and processes be found here; says so in one line where not.
pub fn is_possible() -> bool {
    let possible = std::path::Path::new("/proc/self/stat").exists();
    if !possible {
        println!("skipped: there is no /proc to find processes in");
    }
    possible
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let session = tempfile::Builder::new().prefix("mpi").tempdir().unwrap();
        command.env("OMPI_MCA_orte_tmpdir_base", session.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let streams = [child.stdout.take().map(collect), child.stderr.take().map(collect)];
        Self { child, streams, _session: session }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The ranks that have started the program, with their processes.
    pub fn ranks(&self) -> BTreeMap<u32, u32> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![self.pid()];
        while let Some(parent) = waiting.pop() {
            if let Some(rank) = rank_of(parent) {
                found.insert(rank, parent);
            }
            waiting.extend(children(parent));
        }
        found
    }

    /// Waits until so many ranks run, or the command has ended.
    pub fn wait_for_ranks(&mut self, count: usize) -> BTreeMap<u32, u32> {
        self.wait_until(|running| running.ranks().len() >= count);
        self.ranks()
    }

    /// Waits until `is_so`, or the command has ended; whether it is so.
    pub fn wait_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = Instant::now() + super::program::LIMIT;
        while !is_so(self) {
            assert!(Instant::now() < end, "nothing of what was waited for came");
            if self.has_ended() {
                return is_so(self);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Waits for the end; what takes longer than `limit` hangs.
    pub fn end(mut self, limit: Duration) -> Ended {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let ranks = self.ranks();
                for &pid in ranks.values() {
                    signal("KILL", pid);
                }
                signal("KILL", self.pid());
                let _ = self.child.wait();
                panic!("did not end within {limit:?}; ranks {ranks:?} were still there");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let [stdout, stderr] = self.streams.map(|stream| stream.unwrap().join().unwrap());
        Ended { status, stdout, stderr }
    }
}

/// Sends a signal by name; whether the process was there.
pub fn signal(name: &str, pid: u32) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// The rank of a process that runs the program under test.
fn rank_of(pid: u32) -> Option<u32> {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    if exe != std::fs::canonicalize(super::program::binary()).ok()? {
        return None;
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variable = |name: &str| {
        let variables = environment.split(|&byte| byte == 0);
        variables.filter_map(|text| std::str::from_utf8(text).ok()).find_map(|text| text.strip_prefix(name))
    };
    let rank = variable("OMPI_COMM_WORLD_RANK=").or_else(|| variable("PMI_RANK="));
    rank.map_or(Some(0), |rank| rank.parse().ok())
}

fn children(pid: u32) -> Vec<u32> {
    // Every thread may have started some.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

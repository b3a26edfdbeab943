//! Starts programs under the mpirun that belongs to the MPI library of this build, with what that mpirun needs to run
//! more ranks than there are processors, and as root. Test files include it with `#[path]`.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The families of launchers, which do not take each other's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    OpenMpi,
    /// MPICH and what is built on it.
    Hydra,
}

/// An mpirun that was found.
#[derive(Debug, Clone)]
pub struct Launcher {
    pub program: String,
    pub flavour: Flavour,
}

impl Launcher {
    /// The launcher for `library`, the name of the MPI library as [`pdadmm_g::parallel::mpi_library`] gives it; none if
    /// none is installed. The environment variable `PDADMM_MPIRUN` names one that is to be used whatever it is.
    pub fn find(library: &str) -> Option<Launcher> {
        let wanted = if library.contains("Open MPI") { Flavour::OpenMpi } else { Flavour::Hydra };
        if let Ok(program) = std::env::var("PDADMM_MPIRUN") {
            let flavour = flavour_of(&program).unwrap_or(wanted);
            return Some(Launcher { program, flavour });
        }
        let names = match wanted {
            Flavour::OpenMpi => ["mpirun.openmpi", "mpirun", "mpiexec"],
            Flavour::Hydra => ["mpirun.mpich", "mpirun", "mpiexec.hydra"],
        };
        let fitting = names.iter().find(|name| flavour_of(name) == Some(wanted))?;
        Some(Launcher { program: fitting.to_string(), flavour: wanted })
    }

    /// `mpirun -n RANKS PROGRAM`, to which arguments of the program can be added. Flags go through the environment
    /// where the launcher allows it.
    pub fn command(&self, ranks: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.program);
        if self.flavour == Flavour::OpenMpi {
            command
                .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
                .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
                // --oversubscribe and --bind-to none, up to version 4 and from version 5.
                .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
                .env("OMPI_MCA_hwloc_base_binding_policy", "none")
                .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
                .env("PRTE_MCA_hwloc_default_binding_policy", "none")
                .env("OMPI_MCA_mpi_yield_when_idle", "1");
        }
        command.arg("-n").arg(ranks.to_string()).arg(program);
        command.stdin(Stdio::null());
        command
    }
}

fn flavour_of(program: &str) -> Option<Flavour> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("Open MPI") || text.contains("OpenRTE") {
        Some(Flavour::OpenMpi)
    } else if text.contains("HYDRA") || text.contains("Intel(R) MPI") {
        Some(Flavour::Hydra)
    } else {
        None
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Outcome {
    /// None if it had to be killed.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    pub seconds: f64,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs `command` to its end, or ends it after `limit`: a job that hangs must not hang the tests.
pub fn run_within(command: &mut Command, limit: Duration) -> std::io::Result<Outcome> {
    let start = Instant::now();
    // Jobs of Open MPI 4 that start and end at the same time remove each other's session folders.
    let session = tempfile::Builder::new().prefix("mpi").tempdir()?;
    command.env("OMPI_MCA_orte_tmpdir_base", session.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = wait_within(&mut child, limit)?;
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    Ok(Outcome { status, stdout, stderr, seconds: start.elapsed().as_secs_f64() })
}

fn wait_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut deadline = Instant::now() + limit;
    let mut asked_to_end = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!asked_to_end).then_some(status));
        }
        if Instant::now() >= deadline {
            if asked_to_end {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            // A launcher that is asked ends its ranks; one that is killed may leave them behind.
            asked_to_end = true;
            deadline = Instant::now() + Duration::from_secs(5);
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

//! Do the batch scripts of jobs/slurm run under a real Slurm, with srun and with mpirun, and does a run that is stopped by
//! a signal go back into the queue and on to the model of a straight run?
//!
//! With `PDADMM_SLURM_TESTS=1` this installs Debian's slurm-wlm and munge where they are missing, and starts a Slurm of
//! this machine alone, which it takes down again. Needs root and Open MPI, and is skipped with a line elsewhere.
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "support/program.rs"]
mod program;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Why it cannot be run here.
fn obstacle() -> Option<String> {
    if std::env::var_os("PDADMM_SLURM_TESTS").is_none() {
        return Some("PDADMM_SLURM_TESTS is not set".into());
    }
    let library = pdadmm_g::parallel::mpi_library();
    if !library.contains("Open MPI") {
        return Some(format!("this build uses {library}; Debian's Slurm starts ranks of Open MPI"));
    }
    let is_root = Command::new("sh").args(["-c", "test $(id -u) -eq 0"]).status();
    if !is_root.is_ok_and(|status| status.success()) {
        return Some("it needs root".into());
    }
    let mut install = Command::new("bash");
    install.arg(repository().join("jobs/install-dependencies.sh")).env("PDADMM_SLURM", "1");
    let outcome = program::run(install.stdin(Stdio::null()));
    let why = || format!("Slurm cannot be installed: {}{}", outcome.stdout, outcome.stderr);
    (!outcome.success()).then(why)
}

/// A Slurm of this machine, which ends with the value.
struct Slurm {
    folder: tempfile::TempDir,
}

impl Slurm {
    fn start() -> Self {
        let slurm = Slurm { folder: tempfile::Builder::new().prefix("pdadmm-slurm").tempdir().unwrap() };
        let outcome = program::run(&mut slurm.script("start"));
        assert!(outcome.success(), "{}{}", outcome.stdout, outcome.stderr);
        slurm
    }

    fn script(&self, what: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(repository().join("tests/support/one-machine-slurm.sh"))
            .arg(what)
            .arg(self.folder.path());
        // Daemons must not keep this test's pipes open.
        command.stdin(Stdio::null());
        command
    }

    /// A command of Slurm.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf")).stdin(Stdio::null());
        command
    }

    /// A fact that `scontrol show job` tells.
    fn fact(&self, job: &str, name: &str) -> String {
        let outcome = program::run(self.command("scontrol").args(["show", "job", job]));
        let facts = outcome.stdout.split_whitespace();
        facts
            .filter_map(|fact| fact.split_once('='))
            .find(|fact| fact.0 == name)
            .map_or(String::new(), |f| f.1.into())
    }

    /// Sends a signal to a job, by these flags of scancel.
    fn signal(&self, job: &str, flags: &[&str]) {
        program::succeed(self.command("scancel").args(flags).arg(job));
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.script("stop").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A folder to submit jobs from.
struct Desk<'a> {
    slurm: &'a Slurm,
    launcher: &'a str,
    folder: tempfile::TempDir,
}

impl<'a> Desk<'a> {
    fn new(slurm: &'a Slurm, launcher: &'a str) -> Self {
        Desk { slurm, launcher, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sbatch(&self, flags: &str, script: &str, arguments: &str) -> Command {
        let mut command = self.with_environment("sbatch");
        command.arg("--parsable").args(flags.split_whitespace());
        command.arg(repository().join("jobs/slurm").join(script)).args(arguments.split_whitespace());
        command
    }

    /// A command with what the jobs that it submits need here.
    fn with_environment(&self, name: &str) -> Command {
        let mut command = self.slurm.command(name);
        command.current_dir(self.folder.path());
        command.env("PDADMM_REPOSITORY", repository()).env("PDADMM_LAUNCHER", self.launcher);
        // The build under test, not one that happens to be in the target folder.
        command.env("PDADMM_PROGRAM", program::binary());
        let folder = Path::new(program::binary()).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", folder.display()));
        // This Slurm has more processors than the machine.
        command.env("PDADMM_BIND", "none").env("OMPI_MCA_mpi_yield_when_idle", "1");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.env("HDF5_USE_FILE_LOCKING", "FALSE");
        command
    }

    /// Submits a job and waits for its end, which must be a good one.
    fn run(&self, flags: &str, script: &str, arguments: &str) {
        let outcome = program::run(&mut self.sbatch(&format!("--wait {flags}"), script, arguments));
        assert!(outcome.success(), "{outcome:?}\n{}", self.logs());
    }

    /// Submits a job; its number.
    fn submit(&self, flags: &str, script: &str, arguments: &str) -> String {
        program::succeed(&mut self.sbatch(flags, script, arguments)).stdout.trim().to_owned()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + program::LIMIT;
        while !is_so() {
            assert!(Instant::now() < end, "{what} did not come\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = entries.filter(|path| path.extension().is_some_and(|e| e == "log"));
        logs.map(|path| format!("{}:\n{}\n", path.display(), std::fs::read_to_string(&path).unwrap()))
            .collect()
    }
}

fn rows(folder: &Path) -> usize {
    let history = std::fs::read(folder.join("history.csv")).unwrap_or_default();
    history.iter().filter(|&&byte| byte == b'\n').count()
}

const SIZE: &str = "--ntasks=3 --cpus-per-task=1";

fn one_run(slurm: &Slurm, launcher: &str) {
    let desk = Desk::new(slurm, launcher);
    // As it is, with its own demonstration.
    desk.run(SIZE, "train.sbatch", "");
    let summary = program::summary(&desk.path("slurm-train/run"));
    assert_eq!((&summary["status"], &summary["ranks"]), (&"finished".into(), &3.into()), "{}", desk.logs());
    // With arguments of its own, and more threads.
    let arguments = "--data slurm-train/graph.h5 --output mine --stages 2,4 --neurons 8 --iterations 5";
    desk.run("--ntasks=2 --cpus-per-task=2", "train.sbatch", arguments);
    let summary = program::summary(&desk.path("mine"));
    assert_eq!((&summary["ranks"], &summary["threads"]), (&2.into(), &2.into()), "{}", desk.logs());
    // What train refuses is the end of the job, with its code.
    let job = program::run(&mut desk.sbatch(&format!("--wait {SIZE}"), "train.sbatch", arguments));
    assert_eq!(job.status.and_then(|status| status.code()), Some(2), "{}", desk.logs());
    assert!(desk.logs().contains("already holds a run"));
}

fn an_array(slurm: &Slurm) {
    let desk = Desk::new(slurm, "srun");
    desk.run("--ntasks=2 --cpus-per-task=1 --array=0-8%3", "array.sbatch", "");
    for (name, ranks) in [("plain", 2), ("eight-bits", 2), ("adam", 2)] {
        for seed in 0..3 {
            let summary = program::summary(&desk.path(&format!("slurm-array/{name}/seed-{seed}")));
            assert_eq!(
                (&summary["status"], &summary["seed"]),
                (&"finished".into(), &seed.into()),
                "{}",
                desk.logs()
            );
            assert_eq!(summary["ranks"], ranks);
        }
    }
    let kept = std::fs::metadata(desk.path("slurm-array/adam/seed-2/model.h5")).unwrap().modified().unwrap();
    desk.run("--ntasks=2 --cpus-per-task=1 --array=8", "array.sbatch", "");
    let now = std::fs::metadata(desk.path("slurm-array/adam/seed-2/model.h5")).unwrap().modified().unwrap();
    assert_eq!(kept, now, "a run that has finished is not repeated");
    let job =
        program::run(&mut desk.sbatch("--wait --ntasks=2 --cpus-per-task=1 --array=9", "array.sbatch", ""));
    assert_eq!(job.status.and_then(|status| status.code()), Some(2), "an index of no pair");
}

/// Stopped twice, once by way of the batch script, as before a time limit, and once on the ranks, as at a preemption.
fn a_run_that_is_stopped_goes_on(slurm: &Slurm, launcher: &str) {
    let desk = Desk::new(slurm, launcher);
    let data = desk.path("data.h5");
    program::generate(&data, 600, 12, 3, 200);
    let settings = "--stages 2,4 --neurons 48 --iterations 4000 --evaluate-every 50";
    let run = desk.path("run");
    let flags = format!("{SIZE} --export=ALL,RUN=run");
    let job = desk.submit(&flags, "preemptible.sbatch", &format!("--data data.h5 {settings}"));
    let restarts = |count: &str| slurm.fact(&job, "Restarts") == count;

    desk.wait_for("the first iterations", || rows(&run) > 200);
    slurm.signal(&job, &["--batch", "--signal=USR1"]);
    desk.wait_for("the first requeue", || restarts("1"));
    let stopped_at = program::summary(&run)["iterations"].as_u64().unwrap() as usize;
    assert_eq!(program::summary(&run)["status"], "interrupted", "{}", desk.logs());

    desk.wait_for("iterations after the first requeue", || rows(&run) > stopped_at + 200);
    if launcher == "srun" {
        // mpirun, a task of the batch step, would turn SIGTERM into an end within a second.
        slurm.signal(&job, &["--signal=TERM"]);
    } else {
        slurm.signal(&job, &["--batch", "--signal=USR1"]);
    }
    desk.wait_for("the second requeue", || restarts("2"));
    desk.wait_for("the end", || ["COMPLETED", "FAILED"].contains(&slurm.fact(&job, "JobState").as_str()));
    assert_eq!(slurm.fact(&job, "JobState"), "COMPLETED", "{}", desk.logs());
    assert_eq!(program::summary(&run)["status"], "finished", "{}", desk.logs());
    let logs = desk.logs();
    assert_eq!(logs.matches("back into the queue").count(), 2, "{logs}");
    assert_eq!(logs.matches("resumed   from").count(), 2, "{logs}");

    let straight = desk.path("straight");
    program::train(program::launcher().as_ref(), 3, &data, &straight, settings);
    for model in ["model.h5", "model-last.h5"] {
        assert_eq!(program::weights(&run.join(model)), program::weights(&straight.join(model)), "{model}");
    }
}

fn a_study_of_scaling(slurm: &Slurm, launcher: &str) {
    let desk = Desk::new(slurm, launcher);
    desk.run("--ntasks=3 --cpus-per-task=1", "scaling.sbatch", "");
    for ranks in [1, 2] {
        let run = desk.path(&format!("slurm-scaling/study/strong-3-layers-{ranks}-ranks/repeat-3"));
        let summary = program::summary(&run);
        assert_eq!(
            (&summary["status"], &summary["ranks"]),
            (&"finished".into(), &ranks.into()),
            "{}",
            desk.logs()
        );
        assert_eq!(summary["by_rank"].as_array().unwrap().len(), ranks);
    }
    assert!(desk.logs().contains("| strong | 3 | 2 |"), "{}", desk.logs());
    // Submitted again, with what it had been given by itself: nothing is left to do.
    let again = "--data slurm-scaling/graph.h5 --output slurm-scaling/study --layers 3";
    desk.run("--ntasks=3 --cpus-per-task=1 --job-name=again", "scaling.sbatch", again);
    let logs = desk.logs();
    assert_eq!(logs.matches("run        strong-3-layers").count(), 2 * 3, "{logs}");
}

/// The blocks of docs/slurm.md that stand below this mark are run as they are; every job that they submit ends well.
fn documented_commands(slurm: &Slurm) {
    let page = std::fs::read_to_string(repository().join("docs/slurm.md")).unwrap();
    let blocks =
        page.split("<!-- slurm test -->\n```bash\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let desk = Desk::new(slurm, "srun");
    std::os::unix::fs::symlink(repository().join("jobs"), desk.path("jobs")).unwrap();
    for block in blocks {
        let mut bash = desk.with_environment("bash");
        let outcome = program::succeed(bash.args(["-euo", "pipefail", "-c", block]));
        let jobs: Vec<&str> =
            outcome.stdout.lines().filter_map(|line| line.strip_prefix("Submitted batch job ")).collect();
        assert!(!jobs.is_empty(), "{block}");
        for job in jobs {
            let state = || slurm.fact(job, "JobState");
            desk.wait_for("the end of a job", || {
                !["PENDING", "RUNNING", "COMPLETING"].contains(&state().as_str())
            });
            assert_eq!(state(), "COMPLETED", "{block}\n{}", desk.logs());
        }
    }
    assert_eq!(program::summary(&desk.path("run"))["ranks"], 4);
    assert_eq!(program::summary(&desk.path("long-run"))["status"], "finished");
}

/// One test, because the machine has room for one Slurm's jobs.
#[test]
fn every_script_runs() {
    if let Some(why) = obstacle() {
        println!("skipped: {why}");
        return;
    }
    let slurm = Slurm::start();
    for launcher in ["srun", "mpirun"] {
        one_run(&slurm, launcher);
        a_study_of_scaling(&slurm, launcher);
        a_run_that_is_stopped_goes_on(&slurm, launcher);
    }
    an_array(&slurm);
    documented_commands(&slurm);
}

//! Whether the launcher that started this process belongs to the MPI library of this program.

use super::error::CommError;

/// Beginnings of the variables that launchers of MPI jobs set: Open MPI, PMI and PMIx (MPICH, Intel, Slurm), Slurm
/// steps, MVAPICH, Cray, Flux, IBM.
#[cfg(feature = "mpi")]
const LAUNCHERS: [&str; 11] = [
    "OMPI_COMM_WORLD",
    "PMI_",
    "PMIX_",
    "MPI_LOCAL",
    "MPIEXEC_",
    "SLURM_STEP",
    "MV2_COMM",
    "PALS_",
    "ALPS_",
    "FLUX_",
    "JSM_",
];

/// Whether a launcher of MPI jobs started this process, by the names of its environment variables.
#[cfg(feature = "mpi")]
pub(super) fn is_launched(names: impl IntoIterator<Item = String>) -> bool {
    names.into_iter().any(|name| LAUNCHERS.iter().any(|start| name.starts_with(start)))
}

/// Variables in which launchers tell a process its rank, the more specific first: under mpirun inside a step of Slurm
/// the step's number is that of mpirun.
#[cfg(feature = "mpi")]
const RANKS: [&str; 9] = [
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "ALPS_APP_PE",
    "FLUX_TASK_RANK",
    "JSM_NAMESPACE_RANK",
    "SLURM_PROCID",
];

/// The rank that this process will have once MPI has started, if the launcher's environment tells.
#[cfg(feature = "mpi")]
pub(super) fn launched_rank(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    RANKS.iter().find_map(|name| variable(name)?.trim().parse().ok())
}

/// Refuses a process that is alone though its launcher started several: each of them would train the whole network
/// and write to the same folder. `variable` looks up an environment variable.
///
/// # Errors
/// [`CommError::WrongLauncher`], saying what to do.
pub fn check_launcher(
    size: usize,
    library: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), CommError> {
    if size > 1 {
        return Ok(());
    }
    let number = |name: &str| variable(name).and_then(|value| value.trim().parse::<usize>().ok());
    let wrong = |variable, value, remedy| {
        Err(CommError::WrongLauncher { variable, value, library: library.to_string(), remedy })
    };
    let mut launched_alone = false;
    for (name, remedy) in [
        (
            "OMPI_COMM_WORLD_SIZE",
            "The launcher is Open MPI's: use the mpirun of this program's MPI, or build the program for Open MPI.",
        ),
        (
            "PMI_SIZE",
            "The launcher is of the MPICH family: use the mpirun of this program's MPI, or build the program for MPICH.",
        ),
    ] {
        match number(name) {
            Some(value) if value > 1 => return wrong(name, value, remedy),
            Some(_) => launched_alone = true,
            None => {}
        }
    }
    // Under mpirun inside Slurm, mpirun's own variables count.
    if launched_alone {
        return Ok(());
    }
    const SLURM: &str =
        "The launcher is Slurm's: use srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH), or mpirun.";
    match number("SLURM_STEP_NUM_TASKS") {
        Some(value) if value > 1 => return wrong("SLURM_STEP_NUM_TASKS", value, SLURM),
        Some(_) => return Ok(()),
        None => {}
    }
    // A batch script, where one process is rightly alone, has a process number too, but belongs to no step.
    let batch_script = variable("SLURM_JOB_ID").is_some()
        && variable("SLURM_STEP_ID").is_none()
        && number("SLURM_PROCID") == Some(0);
    match number("SLURM_NTASKS") {
        Some(value) if value > 1 && variable("SLURM_PROCID").is_some() && !batch_script => {
            wrong("SLURM_NTASKS", value, SLURM)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(size: usize, environment: &[(&str, &str)]) -> Result<(), CommError> {
        check_launcher(size, "some MPI", |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn foreign_launchers_are_recognised() {
        for environment in [
            &[("OMPI_COMM_WORLD_SIZE", "4")][..],
            &[("PMI_SIZE", "2")],
            &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "3")],
            &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0")],
            &[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "1")],
        ] {
            let message = check(1, environment).unwrap_err().to_string();
            assert!(message.contains("belongs to another MPI than this program (some MPI)"), "{message}");
        }
    }

    #[test]
    fn one_process_is_fine_alone() {
        for environment in [
            &[][..],
            &[("OMPI_COMM_WORLD_SIZE", "1")],
            &[("SLURM_NTASKS", "8")],
            &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "1")],
            &[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")],
            &[("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")],
            &[("PMI_SIZE", "many")],
        ] {
            check(1, environment).unwrap();
        }
        check(4, &[("OMPI_COMM_WORLD_SIZE", "4")]).unwrap();
    }

    #[cfg(feature = "mpi")]
    #[test]
    fn the_innermost_launcher_tells_the_rank() {
        let rank = |environment: &[(&str, &str)]| {
            launched_rank(|name| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
            })
        };
        assert_eq!(rank(&[("SLURM_PROCID", "0"), ("OMPI_COMM_WORLD_RANK", "3")]), Some(3));
        assert_eq!(rank(&[("SLURM_PROCID", "2")]), Some(2));
        assert_eq!(rank(&[("PMI_RANK", "0")]), Some(0));
        assert_eq!(rank(&[("PMI_FD", "5"), ("PMI_RANK", "x")]), None);
    }

    #[cfg(feature = "mpi")]
    #[test]
    fn a_plain_shell_is_no_launcher() {
        let is = |names: &[&str]| is_launched(names.iter().map(|name| (*name).to_owned()));
        assert!(!is(&["PATH", "HOME", "SLURM_JOB_ID", "OMPI_MCA_btl", "OMPI_ALLOW_RUN_AS_ROOT"]));
        assert!(is(&["PATH", "OMPI_COMM_WORLD_SIZE"]) && is(&["PMI_RANK"]) && is(&["SLURM_STEP_ID"]));
    }
}

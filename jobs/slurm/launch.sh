# Sourced by the batch scripts of this folder: checks what they need and sets `launcher`, the words that start the ranks.
#
#   PDADMM_LAUNCHER=srun     (default) Slurm starts the ranks. Nothing else knows the allocation as well.
#   PDADMM_LAUNCHER=mpirun   where `srun --mpi=list` does not name the interface that the MPI library wants: the MPI's own
#                            launcher, which reads the allocation from Slurm's environment.
#   PDADMM_MPI=openmpi|mpich the family that pdadmm-g was built for (default: openmpi).
#   PDADMM_SRUN_MPI          what srun's --mpi takes: pmix for Open MPI, pmi2 for MPICH and its family, unless set.
#   PDADMM_BIND=cores|none   whether each rank is bound to its cores (default: cores). `none` where ranks outnumber cores.
#   PDADMM_MPIRUN            another mpirun.
#   PDADMM_PROGRAM           another pdadmm-g than the one built here or on PATH.
#
# A rank is one task of Slurm with --cpus-per-task cores, and computes with as many threads: the scripts hand them to
# --threads. Ranks wait for each other in every iteration, so that the slowest sets the pace: a rank that the kernel moves
# from core to core, or that shares one, costs all of them. Hence binding.

fail() { echo "error: $1" >&2; exit 2; }

[ -n "${SLURM_JOB_ID:-}" ] || fail "this is a script for Slurm: sbatch --account=A --partition=P jobs/slurm/…"
program=${PDADMM_PROGRAM:-}
if [ -z "$program" ]; then
    # The build of this folder goes before an installed one.
    case ${PDADMM_MPI:-openmpi} in mpich) folder=$repository/target-mpich ;; *) folder=$repository/target ;; esac
    program=$(PATH=$folder/release:$PATH command -v pdadmm-g) ||
        fail "no pdadmm-g in $folder/release and on PATH: cargo build --release, or set PDADMM_PROGRAM"
fi

# A script whose steps are of several sizes sets `ranks` itself.
ranks=${ranks:-${SLURM_NTASKS:-1}} threads=${SLURM_CPUS_PER_TASK:-1}
# Factorisations run on one thread; OpenBLAS would start one a core in every rank.
export OPENBLAS_NUM_THREADS=1
# A log has no room for a bar.
export PDADMM_PROGRESS=lines

case ${PDADMM_LAUNCHER:-srun} in
    srun)
        case ${PDADMM_MPI:-openmpi} in mpich) interface=pmi2 ;; *) interface=pmix ;; esac
        # Since Slurm 22.05 steps do not inherit --cpus-per-task. All ranks leave at the same time and with the same code:
        # one that leaves with 75 must not have the others killed, one that dies must (a minute later).
        launcher=(srun "--mpi=${PDADMM_SRUN_MPI:-$interface}" --ntasks="$ranks" --cpus-per-task="$threads"
            --cpu-bind="${PDADMM_BIND:-cores}" --kill-on-bad-exit=0 --wait=60)
        ;;
    mpirun)
        launcher=("${PDADMM_MPIRUN:-mpirun}" -n "$ranks")
        case "$("${launcher[0]}" --version 2>&1 || true) ${PDADMM_BIND:-cores}" in
            *"Open MPI"*" cores") launcher+=(--map-by "slot:PE=$threads" --bind-to core) ;;
            *"Open MPI"*" none") launcher+=(--bind-to none --mca mpi_yield_when_idle 1) ;;
            *" cores") launcher+=(-bind-to "core:$threads") ;; # MPICH's
        esac
        ;;
    *) fail "PDADMM_LAUNCHER is '$PDADMM_LAUNCHER'; use srun or mpirun" ;;
esac
echo "job ${SLURM_JOB_ID}: $ranks ranks x $threads threads on ${SLURM_JOB_NODELIST:-this node}: ${launcher[*]}"

# demo_data FILE: makes a small graph where there is none, so that the scripts have something to do as they are.
demo_data() {
    [ -f "$1" ] || "$program" dataset generate --nodes 3000 --features 64 --classes 5 --output "$1"
}

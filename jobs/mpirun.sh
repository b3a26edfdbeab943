#!/usr/bin/env bash
# mpirun with what this machine needs: more ranks than cores, and root, are allowed, and waiting ranks yield.
#
#   bash jobs/mpirun.sh -n 10 pdadmm-g train …
#
# The launcher is PDADMM_MPIRUN if set, else mpirun (mpirun.mpich where PDADMM_MPI=mpich). It must belong to the MPI
# library that pdadmm-g was built with. On a cluster use srun or the site's own mpirun, which also bind ranks to
# cores: this wrapper turns binding off, since ranks that share a core must be free to move.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

launcher=${PDADMM_MPIRUN:-mpirun}
if ! command -v "$launcher" >/dev/null 2>&1; then
    echo "error: $launcher is not there; run: bash jobs/install-dependencies.sh" >&2
    exit 1
fi

default() { # NAME VALUE: sets and exports it unless the caller has.
    export "$1=${!1:-$2}"
}
# A rank's factorisations run on one thread; OpenBLAS would start as many as there are cores in each rank.
default OPENBLAS_NUM_THREADS 1
case $("$launcher" --version </dev/null 2>&1 || true) in
    *"Open MPI"* | *OpenRTE* | *PRRTE*)
        default OMPI_ALLOW_RUN_AS_ROOT 1
        default OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
        # More ranks than cores, and no binding: up to version 4, and from version 5.
        default OMPI_MCA_rmaps_base_oversubscribe 1
        default OMPI_MCA_hwloc_base_binding_policy none
        default PRTE_MCA_rmaps_default_mapping_policy :oversubscribe
        default PRTE_MCA_hwloc_default_binding_policy none
        # Ranks that wait give their core to those that work.
        default OMPI_MCA_mpi_yield_when_idle 1
        ;;
    *) ;; # MPICH and its family need none of this.
esac
# Ranks are not told that what they print goes to a terminal.
if [ -t 1 ] && [ -t 2 ]; then
    default PDADMM_PROGRESS bar
fi
# Ranks read nothing, and a launcher without a terminal must not wait for one.
exec "$launcher" "$@" </dev/null

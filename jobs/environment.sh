# Sourced by the scripts of this repository: finds cargo, and chooses the MPI family.
#
#   PDADMM_MPI=openmpi (default) | mpich
#
# MPICH builds go to a target folder of their own, so that the two families do not undo each other's build.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if ! command -v cargo >/dev/null 2>&1 && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    . "${CARGO_HOME:-$HOME/.cargo}/env"
fi

case ${PDADMM_MPI:-openmpi} in
    openmpi) ;;
    mpich)
        # Debian keeps both families side by side under these names.
        if command -v mpicc.mpich >/dev/null 2>&1; then
            export MPICC=${MPICC:-mpicc.mpich}
        fi
        if command -v mpirun.mpich >/dev/null 2>&1; then
            export PDADMM_MPIRUN=${PDADMM_MPIRUN:-mpirun.mpich}
        fi
        export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repository/target-mpich}
        ;;
    *)
        echo "error: PDADMM_MPI is '$PDADMM_MPI'; use openmpi or mpich" >&2
        exit 2
        ;;
esac
target=${CARGO_TARGET_DIR:-$repository/target}

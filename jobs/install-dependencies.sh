#!/usr/bin/env bash
# Installs what is needed to build and run pdadmm-g, where it is missing. Debian and Ubuntu; elsewhere it says what
# to install. Can be run again at any time: with everything in place it changes nothing and needs no network.
#
#   bash jobs/install-dependencies.sh
#   PDADMM_MPI=mpich bash jobs/install-dependencies.sh      (MPICH instead of Open MPI)
#   PDADMM_SLURM=1 bash jobs/install-dependencies.sh        (Slurm too, for its test)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

have() { command -v "$1" >/dev/null 2>&1; }
have_library() { have pkg-config && pkg-config --exists "$1" 2>/dev/null; }
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local found
    found=$(compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib*/libclang*.so*' \
        || compgen -G '/usr/lib/*/libclang*.so*' || true)
    [ -n "$found" ]
}

# What to look for, what it is called by people, what Debian calls it.
missing=() packages=()
need() { # DESCRIPTION "PACKAGES" PROBE…
    local description=$1 names=$2
    shift 2
    if ! "$@"; then
        missing+=("$description")
        # shellcheck disable=SC2206
        packages+=($names)
    fi
}

need "a C compiler" "build-essential" have cc
need "make" "build-essential" have make
need "pkg-config" "pkg-config" have pkg-config
need "clang (bindgen reads MPI's headers with it)" "clang" have clang
need "libclang" "libclang-dev" have_libclang
[ -n "${HDF5_DIR:-}" ] || need "HDF5 1.10 or later with headers" "libhdf5-dev" have_library hdf5
need "OpenBLAS with headers" "libopenblas-dev" have_library openblas
case ${PDADMM_MPI:-openmpi} in
    mpich)
        need "MPICH with headers (mpicc)" "libmpich-dev" have "${MPICC:-mpicc.mpich}"
        need "MPICH's mpirun" "mpich" have "${PDADMM_MPIRUN:-mpirun.mpich}"
        ;;
    *)
        need "an MPI library with headers (mpicc)" "libopenmpi-dev" have "${MPICC:-mpicc}"
        need "mpirun" "openmpi-bin" have "${PDADMM_MPIRUN:-mpirun}"
        ;;
esac

if [ -n "${PDADMM_SLURM:-}" ]; then
    have_daemon() { PATH=$PATH:/usr/sbin have "$1"; }
    need "Slurm" "slurm-wlm" have_daemon slurmctld
    need "munge" "munge" have_daemon munged
fi

if [ ${#missing[@]} -gt 0 ]; then
    echo "missing:"
    printf '  %s\n' "${missing[@]}"
    if ! have apt-get; then
        echo "error: this script installs on Debian and Ubuntu only. Install the above by other means: Fedora has" >&2
        echo "  openmpi-devel hdf5-devel openblas-devel clang-devel pkgconf gcc make; clusters have modules for MPI," >&2
        echo "  HDF5 and OpenBLAS. HDF5_DIR, MPICC and LIBCLANG_PATH name parts in unusual places." >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo; then
            echo "error: neither root nor sudo; ask for: apt-get install ${packages[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "installing ${packages[*]}"
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    # Lists of packages may be absent (containers) or too old: fetch them if the first attempt fails.
    if ! "${install[@]}" "${packages[@]}" </dev/null; then
        "${as_root[@]}" apt-get update </dev/null
        "${install[@]}" "${packages[@]}" </dev/null
    fi
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repository/Cargo.toml")
if ! have cargo; then
    echo "error: there is no Rust toolchain. Install one of at least version $wanted from https://rustup.rs:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    exit 1
fi
found=$(cargo --version | sed 's/^cargo \([0-9.]*\).*/\1/')
if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "error: Rust $found is older than $wanted; run: rustup update stable" >&2
    exit 1
fi
echo "everything needed is installed (Rust $found)"

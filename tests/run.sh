#!/usr/bin/env bash
# Runs every test: formatting, lints, unit and integration tests (several start mpirun), the build without MPI.
# Installs what is missing first. Goes through all steps even where one fails, and ends with one line a step.
#
#   bash tests/run.sh
#   PDADMM_MPI=mpich bash tests/run.sh
#
# docs/testing.md names the environment variables that add tests on real data and against independent solutions.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../jobs/environment.sh"
cd "$repository"
bash jobs/install-dependencies.sh

for variable in PDADMM_REFERENCE_TRACES PDADMM_DATASETS; do
    [ -n "${!variable:-}" ] || echo "skipped: the tests that need $variable, which is not set (docs/testing.md)"
done
# Tests that link LAPACK in several threads at once should not each start a thread a core.
export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
# Programs that other threads of a test start inherit the handle, and with it the lock, of a file that it writes.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}
export RUST_BACKTRACE=${RUST_BACKTRACE:-1}

results=() failed=0
step() { # NAME COMMAND…
    local name=$1 start=$SECONDS outcome=ok
    shift
    echo
    echo "== $name: $*"
    "$@" </dev/null || { outcome=FAILED failed=1; }
    results+=("$(printf '%-28s %-7s %4d s' "$name" "$outcome" $((SECONDS - start)))")
}
has_component() { cargo "$1" --version >/dev/null 2>&1; }

if has_component fmt; then
    step "formatting" cargo fmt --check
else
    results+=("formatting                   skipped: cargo fmt is not installed (rustup component add rustfmt)")
fi
if has_component clippy; then
    step "lints" cargo clippy --locked --all-targets -- -D warnings
else
    results+=("lints                        skipped: cargo clippy is not installed (rustup component add clippy)")
fi
step "tests" cargo test --locked --no-fail-fast
step "tests without MPI" cargo test --locked --no-default-features --lib
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

echo
echo "== summary"
printf '%s\n' "${results[@]}"
if [ "$failed" -ne 0 ]; then
    echo "tests/run.sh: FAILED after $SECONDS s"
    exit 1
fi
echo "tests/run.sh: all passed in $SECONDS s"

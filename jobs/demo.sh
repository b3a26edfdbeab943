#!/usr/bin/env bash
# From nothing to a trained, tested model: installs what is missing, builds, makes a graph (no download), trains 10
# layers under mpirun and predicts every node's class.
#
#   bash jobs/demo.sh [FOLDER]        (default: demo)
#
# PDADMM_RANKS sets the number of ranks (default: 5 on machines with at least 5 cores, else 2).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
folder=${1:-demo}

bash "$repository/jobs/install-dependencies.sh"
echo "building (a few minutes the first time)"
cargo build --release --locked --manifest-path "$repository/Cargo.toml"

mkdir -p "$folder"
export PATH=$target/release:$PATH
ranks=${PDADMM_RANKS:-$([ "$(nproc)" -ge 5 ] && echo 5 || echo 2)}
run() {
    echo
    echo "\$ $*"
    "$@"
}
run pdadmm-g dataset generate --nodes 3000 --features 64 --classes 5 --output "$folder/graph.h5" --overwrite
run bash "$repository/jobs/mpirun.sh" -n "$ranks" \
    pdadmm-g train --data "$folder/graph.h5" --output "$folder/run" --layers 10 --overwrite
if pdadmm-g predict --help >/dev/null 2>&1; then
    run bash "$repository/jobs/mpirun.sh" -n "$ranks" \
        pdadmm-g predict --model "$folder/run/model.h5" --data "$folder/graph.h5" \
        --output "$folder/prediction.h5" --overwrite
fi

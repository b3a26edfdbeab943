#!/usr/bin/env bash
# Times the program against a product of matrices that is timed in the same run: docs/performance.md says how to read it.
# About eight minutes on two cores. Nothing else should run on the machine meanwhile.
#
#   bash jobs/benchmark.sh                 # everything
#   bash jobs/benchmark.sh products small large ranks codec
#   PDADMM_MPI=mpich bash jobs/benchmark.sh ranks
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$repository"
export OPENBLAS_NUM_THREADS=1
parts=" ${*:-products small large ranks codec} "
wanted() { [[ $parts == *" $1 "* ]]; }

cargo build --release --quiet
program=$target/release/pdadmm-g
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf '\n== %s\n' "$*"; }
cores=$(nproc)
say "$("$program" --version), $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo 2>/dev/null), $cores cores, $(date -u +%F)"

run() { # NAME RANKS FLAGS…: trains ten layers at once
    local name=$1 ranks=$2
    shift 2
    local start=()
    [ "$ranks" = 1 ] || start=(bash jobs/mpirun.sh -n "$ranks")
    "${start[@]}" "$program" train --data "$scratch/large.h5" --output "$scratch/$name" --overwrite --layers 10 --stages 10 \
        "$@" >"$scratch/$name.log"
}
# Seconds of an iteration: all but the first two, which touch their memory for the first time, and the last, which is
# evaluated. The least of them, since other work on the machine only ever adds.
seconds() {
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") c = i; next }
        { s[NR - 1] = $c } END { for (k = 3; k < NR - 1; k++) { d = s[k] - s[k - 1]; if (!best || d < best) best = d }
        printf "%.5f", best }' "$scratch/$1/history.csv"
}
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }

if wanted products; then
    say "products: GFLOP/s of ours, ndarray, OpenBLAS and faer; the ratio of ours to the best"
    cargo bench --quiet --bench product
fi

if wanted large; then
    say "large: 10 layers of 1,000, 10,000 training nodes, one thread; over 9 products (asked: gradient 4.5, exact 5.5)"
    cargo bench --quiet --bench iteration -- wide
fi

if wanted small; then
    say "small: 10 layers, 140 training nodes, n_0 = 5,732, one thread (asked: 1.5 ms at 100 neurons, 20 ms at 500)"
    cargo bench --quiet --bench iteration -- narrow
fi

if wanted ranks; then
    say "ranks: the large case by gradient steps on $cores cores"
    # n = 1,000, n_0 = 1,000, 10 classes, 10,000 training nodes.
    "$program" dataset generate --nodes 11500 --train-nodes 10000 --features 250 --classes 10 --output "$scratch/large.h5" >/dev/null
    flags=(--neurons 1000 --subproblem gradient --iterations 5 --evaluate-every 5)
    run one 1 "${flags[@]}"
    one=$(seconds one)
    echo "1 rank: $one s an iteration; evaluation $(awk '/^evaluate/ { print $5 }' "$scratch/one.log") of the time at --evaluate-every 5"
    run shards 2 "${flags[@]}" --shards 2
    s=$(seconds shards)
    echo "2 ranks that share the nodes: $s s, $(ratio "$one" "$s") times one rank (asked: 1.9)"
    run layers 2 "${flags[@]}"
    s=$(seconds layers)
    bound=$("$program" plan --data "$scratch/large.h5" --ranks 2 --layers 10 --stages 10 "${flags[@]}" --json |
        awk -F'[:,]' '/"balance"/ { printf "%.2f", 2 * $2; exit }')
    echo "2 ranks with whole layers: $s s, $(ratio "$one" "$s") times one rank (asked: 0.95 of the plan's $bound)"
    run ten 10 "${flags[@]}"
    s=$(seconds ten)
    echo "10 ranks with a layer each: $s s, $(ratio "$one" "$s") times one rank on $cores cores (asked: 0.85 of $cores)"
    sed -n '/^phase/,/^$/p' "$scratch/ten.log"
fi

if wanted codec; then
    say "codec: bytes of float32 a second, encoding and decoding"
    cargo bench --quiet --bench codec -- --warm-up-time 1 --measurement-time 2 both
fi

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

graph() { # NAME NODES TRAINING FEATURES CLASSES
    [ -f "$scratch/$1.h5" ] || "$program" dataset generate --nodes "$2" --train-nodes "$3" --features "$4" --classes "$5" \
        --output "$scratch/$1.h5" >/dev/null
}
run() { # NAME RANKS GRAPH FLAGS…: trains ten layers at once
    local name=$1 ranks=$2 data=$3
    shift 3
    local start=()
    [ "$ranks" = 1 ] || start=(bash jobs/mpirun.sh -n "$ranks")
    "${start[@]}" "$program" train --data "$scratch/$data.h5" --output "$scratch/$name" --overwrite --layers 10 --stages 10 \
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

if wanted large || wanted ranks; then
    # n = 1,000, n_0 = 1,000, 10 classes, 10,000 training nodes. One product n x n by n x N is eight of a block of 1,250 nodes;
    # the mean of the three kinds P W', R W, R' P.
    graph large 11500 10000 250 10
    product=$(cargo bench --quiet --bench product -- f32 1250 1000 |
        awk '/^f32/ && n < 3 { sum += $(NF - 4); n++ } END { print 8 * sum / n / 1e6 }')
    echo "one product n x n by n x N: $product s"
fi
if wanted large; then
    say "large: 10 layers of 1,000, 10,000 training nodes, one rank, one thread; over 9 products (asked: 4.5 and 5.5)"
    for method in gradient exact; do
        run "$method" 1 large --neurons 1000 --subproblem "$method" --iterations 6 --evaluate-every 6
        s=$(seconds "$method")
        echo "$method: $s s an iteration, $(ratio "$s" "9 / $product")"
        sed -n '/^phase/,/^$/p' "$scratch/$method.log"
    done
fi

if wanted small; then
    say "small: 10 layers, 140 training nodes, n_0 = 5,732, one rank (asked: 1.5 ms at 100 neurons, 20 ms at 500)"
    graph small 2708 140 1433 7
    for neurons in 100 500; do
        for method in gradient exact; do
            run "small-$neurons-$method" 1 small --neurons $neurons --subproblem $method --iterations 100 --evaluate-every 100
            awk "BEGIN { printf \"n = %d, %s: %.2f ms an iteration\n\", $neurons, \"$method\", 1e3 * $(seconds "small-$neurons-$method") }"
        done
    done
fi

if wanted ranks; then
    say "ranks: the large case by gradient steps on $cores cores"
    flags=(--neurons 1000 --subproblem gradient --iterations 10 --evaluate-every 10)
    run one 1 large "${flags[@]}"
    one=$(seconds one)
    echo "1 rank: $one s an iteration; evaluation $(awk '/^evaluate/ { print $5 }' "$scratch/one.log") of the time at --evaluate-every 10"
    run shards 2 large "${flags[@]}" --shards 2
    s=$(seconds shards)
    echo "2 ranks that share the nodes: $s s, $(ratio "$one" "$s") times one rank (asked: 1.9)"
    run layers 2 large "${flags[@]}"
    s=$(seconds layers)
    bound=$("$program" plan --data "$scratch/large.h5" --ranks 2 --layers 10 --stages 10 "${flags[@]}" --json |
        awk -F'[:,]' '/"balance"/ { printf "%.2f", 2 * $2; exit }')
    echo "2 ranks with whole layers: $s s, $(ratio "$one" "$s") times one rank (asked: 0.95 of the plan's $bound)"
    run ten 10 large "${flags[@]}"
    s=$(seconds ten)
    echo "10 ranks with a layer each: $s s, $(ratio "$one" "$s") times one rank on $cores cores (asked: 0.85 of $cores)"
    sed -n '/^phase/,/^$/p' "$scratch/ten.log"
fi

if wanted codec; then
    say "codec: bytes of float32 a second, encoding and decoding"
    cargo bench --quiet --bench codec -- --warm-up-time 1 --measurement-time 2 both
fi

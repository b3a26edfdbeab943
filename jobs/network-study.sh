#!/usr/bin/env bash
# Seconds an iteration over slow networks, with p and q as they are, packed and coded: measured, and predicted by
# `pdadmm-g plan --measured` from a run without limits.
#
# Makes "hosts" of network namespaces on this machine, joined by veth links limited by tc tbf (and by jobs/delay-link.py
# where they have a latency), and trains over TCP between them, a rank a host. Needs root, iproute2 and Open MPI; changes nothing outside its own namespaces, which
# it removes at the end. The hosts share this machine's cores: with fewer cores than hosts, computing takes longer
# than on real hosts, and what a slow network costs shows all the less.
#
#   sudo bash jobs/network-study.sh [FOLDER]         (default: network-study)
#
# HOSTS=2 to 4 (default 4)   LAYERS=HOSTS   RATES="100mbit 1gbit", each with a latency if need be: 100mbit/5ms
# WAYS="none packed coded"   BITS=8   ITERATIONS=10   REPEAT=1 (the median of so many runs)
# NEURONS=1000   NODES=20000 (half of them for training)   FLAGS=others of train   BINARY=path of pdadmm-g
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

folder=${1:-network-study}
HOSTS=${HOSTS:-4} RATES=${RATES:-100mbit 1gbit} BITS=${BITS:-8} ITERATIONS=${ITERATIONS:-10}
LAYERS=${LAYERS:-$HOSTS} WAYS=${WAYS:-none packed coded} REPEAT=${REPEAT:-1}
NEURONS=${NEURONS:-1000} NODES=${NODES:-20000} BINARY=${BINARY:-$target/release/pdadmm-g}

refuse() { echo "error: $1" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || refuse "network namespaces need root: sudo bash jobs/network-study.sh"
for tool in ip tc mpirun unshare; do
    command -v "$tool" >/dev/null || refuse "$tool is not there (Debian: iproute2, openmpi-bin, util-linux)"
done
mpirun --version 2>/dev/null | grep -q "Open MPI" || refuse "this script knows the options of Open MPI only"
[[ $HOSTS =~ ^[2-4]$ ]] || refuse "HOSTS is '$HOSTS': from 2 to 4 are possible"
[[ $ITERATIONS =~ ^[0-9]+$ && $ITERATIONS -ge 4 ]] || refuse "ITERATIONS is '$ITERATIONS': at least 4 are needed"
[ -x "$BINARY" ] || refuse "$BINARY is not there: cargo build --release"
BINARY=$(realpath "$BINARY")

mkdir -p "$folder"
folder=$(realpath "$folder")
tag=pdadmm$$ # Names of namespaces and links are this run's own.
subnet=10.213.77
scratch=$(mktemp -d)
clean_up() {
    for ((i = 1; i <= HOSTS; i++)); do ip netns del "$tag-$i" 2>/dev/null || true; done
    ip netns del "$tag-switch" 2>/dev/null || true
    [ -z "${cables:-}" ] || kill "$cables" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# A switch with a port for each host.
ip netns add "$tag-switch"
ip -n "$tag-switch" link add bridge type bridge
ip -n "$tag-switch" link set bridge up
for ((i = 1; i <= HOSTS; i++)); do
    ip netns add "$tag-$i"
    ip -n "$tag-$i" link set lo up
done
cables= # The process that delays frames.
connect() { # MILLISECONDS: (re)makes the links between hosts and switch.
    for ((i = 1; i <= HOSTS; i++)); do ip -n "$tag-switch" link del "port$i" 2>/dev/null || true; done
    [ -z "$cables" ] || { kill "$cables" && wait "$cables" || true; } 2>/dev/null
    cables=
    local names=()
    # Names are unique where the links are made, 15 characters at most.
    for ((i = 1; i <= HOSTS; i++)); do names+=("e$i.$$" "p$i.$$"); done
    if [ "$1" = 0 ]; then
        for ((i = 1; i <= HOSTS; i++)); do ip link add "p$i.$$" type veth peer name "e$i.$$"; done
    else
        # Half of it, as a message passes two links.
        python3 "$(dirname "${BASH_SOURCE[0]}")/delay-link.py" "$(awk "BEGIN { print $1 / 2 }")" "${names[@]}" \
            >"$scratch/cables" &
        cables=$!
        until grep -q ready "$scratch/cables"; do kill -0 "$cables"; sleep 0.05; done
    fi
    for ((i = 1; i <= HOSTS; i++)); do
        ip link set "p$i.$$" netns "$tag-switch" name "port$i"
        ip link set "e$i.$$" netns "$tag-$i" name eth0
        # Few large frames: the delay is to cost no processor.
        [ "$1" = 0 ] || { ip -n "$tag-switch" link set "port$i" mtu 40000; ip -n "$tag-$i" link set eth0 mtu 40000; }
        ip -n "$tag-switch" link set "port$i" master bridge up
        ip -n "$tag-$i" addr add "$subnet.$i/24" dev eth0
        ip -n "$tag-$i" link set eth0 up
    done
}
limit() { # RATE: of every link, in both directions.
    for ((i = 1; i <= HOSTS; i++)); do
        ip netns exec "$tag-switch" tc qdisc replace dev "port$i" root tbf rate "$1" burst 256kb latency 50ms
        ip netns exec "$tag-$i" tc qdisc replace dev eth0 root tbf rate "$1" burst 256kb latency 50ms
    done
}

# What mpirun calls in place of ssh: HOST COMMAND…; a host has a name of its own, as Open MPI tells them apart by it.
cat >"$scratch/agent" <<AGENT
#!/bin/sh
host=\${1##*.}
shift
exec ip netns exec $tag-\$host unshare --uts sh -c "hostname $tag-\$host; \$*"
AGENT
chmod +x "$scratch/agent"

hosts=$(for ((i = 1; i <= HOSTS; i++)); do printf '%s.%s:1,' "$subnet" "$i"; done)
over_hosts() {
    "$scratch/agent" "$subnet.1" env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
        OPENBLAS_NUM_THREADS=1 TMPDIR="$scratch" mpirun -n "$HOSTS" --host "${hosts%,}" --bind-to none \
        --mca plm_rsh_agent "$scratch/agent" --mca pml ob1 --mca btl tcp,self \
        --mca btl_tcp_if_include "$subnet.0/24" --mca oob_tcp_if_include "$subnet.0/24" \
        --mca mpi_yield_when_idle 1 "$@"
}

data=$scratch/graph.h5
"$BINARY" dataset generate --nodes "$NODES" --features 100 --classes 10 --train-nodes $((NODES / 2)) \
    --output "$data" >/dev/null

table=$folder/network.csv
echo "rate,way,ranks,neurons,training_nodes,iterations,seconds_an_iteration,bytes_an_iteration,latency_ms,predicted_seconds" \
    >"$table"
flags_of() { # WAY
    case $1 in
        none) flags=() ;;
        packed) flags=(--quantize pq --bits "$BITS" --coding packed) ;;
        coded) flags=(--quantize pq --bits "$BITS") ;;
    esac
    read -r -a more <<<"${FLAGS:-}"
    flags+=(--operators 0,1 --stages "$LAYERS" --layers "$LAYERS" --neurons "$NEURONS" --iterations "$ITERATIONS"
        --evaluate-every "$ITERATIONS" "${more[@]}")
}
train() { # FOLDER
    over_hosts "$BINARY" train --data "$data" --output "$1" --overwrite --quiet --measure-ranks "${flags[@]}" </dev/null \
        2> >(grep -v "plm:rsh: Warning: setpgid" >&2 || true)
}
json() { awk -F'[:, ]+' -v key="\"$1\"" '$2 == key { print $3; exit }'; } # KEY: its first number in what is read

# What iterations cost where the network costs nothing.
connect 0
for way in $WAYS; do
    flags_of "$way"
    train "$folder/without-limits-$way"
done
printf '%-8s  %-8s  %-7s  %22s  %10s  %6s  %20s\n' rate latency way "seconds an iteration" predicted ratio \
    "bytes an iteration"
for entry in $RATES; do
    rate=${entry%%/*} delay=0
    [ "$entry" = "$rate" ] || delay=${entry#*/}
    delay=${delay%ms}
    connect "$delay"
    limit "$rate"
    for way in $WAYS; do
        flags_of "$way"
        : >"$scratch/measured"
        for ((k = 0; k < REPEAT; k++)); do
            train "$scratch/run"
            # Of rank 0: the mean of all iterations but the first two and those with an evaluation.
            sed -n '/"by_rank"/,$p' "$scratch/run/summary.json" | json seconds >>"$scratch/measured"
        done
        each=$(sort -g "$scratch/measured" | sed -n "$(((REPEAT + 1) / 2))p")
        # 1,448 bytes of a message in a frame of 1,514; nearly all of it where frames are large.
        share=$([ "$delay" = 0 ] && echo 0.956 || echo 0.998)
        bandwidth=$(awk -v rate="$rate" -v share="$share" 'BEGIN {
            unit = tolower(rate); sub(/^[0-9.]+/, "", unit); size["kbit"] = 1e3; size["mbit"] = 1e6; size["gbit"] = 1e9
            printf "%.0fkbit", share * (rate + 0) * size[unit] / 1e3 }')
        predicted=$("$BINARY" plan --data "$data" --measured "$folder/without-limits-$way" --ranks "$HOSTS" --json \
            --latency "$(awk "BEGIN { print $delay + 0.05 }")ms" --bandwidth "$bandwidth" "${flags[@]}" |
            sed -n '/"rows"/,$p' | awk -F'[:, ]+' '$2 == "\"seconds\"" { s = $3 } END { print s }')
        awk -F, -v rate="$rate" -v way="$way" -v ranks="$HOSTS" -v neurons="$NEURONS" -v nodes=$((NODES / 2)) \
            -v table="$table" -v each="$each" -v delay="$delay" -v predicted="$predicted" '
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            { bytes[NR] = $column["bytes_p"] + $column["bytes_q"] }
            END {
                n = NR - 4; sent = (bytes[NR - 1] - bytes[3]) / n
                printf "%-8s  %-8s  %-7s  %22.4f  %10.4f  %6.2f  %20.0f\n", rate, delay " ms", way, each, predicted,
                    predicted / each, sent
                printf "%s,%s,%d,%d,%d,%d,%.5f,%.0f,%s,%.5f\n", rate, way, ranks, neurons, nodes, n, each, sent, delay,
                    predicted >>table
            }' "$scratch/run/history.csv"
    done
done
echo "written to $table"

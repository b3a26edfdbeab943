#!/usr/bin/env bash
# Seconds an iteration over slow networks, with p and q as they are, packed and coded.
#
# Makes "hosts" of network namespaces on this machine, joined by veth links limited by tc tbf, and trains over TCP
# between them, a rank a host. Needs root, iproute2 and Open MPI; changes nothing outside its own namespaces, which
# it removes at the end. The hosts share this machine's cores: with fewer cores than hosts, computing takes longer
# than on real hosts, and what a slow network costs shows all the less.
#
#   sudo bash jobs/network-study.sh [FOLDER]         (default: network-study)
#
# HOSTS=2 to 4 (default 4)   RATES="100mbit 1gbit"   BITS=8   ITERATIONS=10
# NEURONS=1000   NODES=20000 (half of them for training)   BINARY=path of pdadmm-g
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

folder=${1:-network-study}
HOSTS=${HOSTS:-4} RATES=${RATES:-100mbit 1gbit} BITS=${BITS:-8} ITERATIONS=${ITERATIONS:-10}
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
    ip link add "port$i" netns "$tag-switch" type veth peer name eth0 netns "$tag-$i"
    ip -n "$tag-switch" link set "port$i" master bridge up
    ip -n "$tag-$i" addr add "$subnet.$i/24" dev eth0
    ip -n "$tag-$i" link set eth0 up
    ip -n "$tag-$i" link set lo up
done
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
echo "rate,way,ranks,neurons,training_nodes,iterations,seconds_an_iteration,bytes_an_iteration" >"$table"
printf '%-8s  %-7s  %22s  %20s\n' rate way "seconds an iteration" "bytes an iteration"
for rate in $RATES; do
    limit "$rate"
    for way in none packed coded; do
        case $way in
            none) flags=() ;;
            packed) flags=(--quantize pq --bits "$BITS" --coding packed) ;;
            coded) flags=(--quantize pq --bits "$BITS") ;;
        esac
        over_hosts "$BINARY" train --data "$data" --output "$scratch/run" --overwrite --quiet --operators 0,1 \
            --stages "$HOSTS" --layers "$HOSTS" --neurons "$NEURONS" --iterations "$ITERATIONS" \
            --evaluate-every "$ITERATIONS" "${flags[@]}" </dev/null 2> >(grep -v "plm:rsh: Warning: setpgid" >&2 || true)
        # Between the first row and the one before the last, which is evaluated.
        awk -F, -v rate="$rate" -v way="$way" -v ranks="$HOSTS" -v neurons="$NEURONS" -v nodes=$((NODES / 2)) \
            -v table="$table" '
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            { seconds[NR] = $column["seconds"]; bytes[NR] = $column["bytes_p"] + $column["bytes_q"] }
            END {
                n = NR - 3
                each = (seconds[NR - 1] - seconds[2]) / n; sent = (bytes[NR - 1] - bytes[2]) / n
                printf "%-8s  %-7s  %22.3f  %20.0f\n", rate, way, each, sent
                printf "%s,%s,%d,%d,%d,%d,%.4f,%.0f\n", rate, way, ranks, neurons, nodes, n, each, sent >>table
            }' "$scratch/run/history.csv"
    done
done
echo "written to $table"

#!/usr/bin/env bash
# A Slurm of one machine, of its own under a folder: munged, slurmctld and slurmd, with more processors than there are.
# Needs root, and Debian's slurm-wlm and munge (PDADMM_SLURM=1 bash jobs/install-dependencies.sh).
#
#   bash tests/support/one-machine-slurm.sh start FOLDER     then: export SLURM_CONF=FOLDER/slurm.conf
#   bash tests/support/one-machine-slurm.sh stop FOLDER
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
[ $# -eq 2 ] || { echo "usage: $0 start|stop FOLDER" >&2; exit 2; }
mkdir -p "$2"
folder=$(realpath "$2")
export SLURM_CONF=$folder/slurm.conf
PROCESSORS=12

stop() {
    local name pid
    # The node's jobs first, while there is somebody to end them.
    if [ -f "$SLURM_CONF" ] && timeout 5 scontrol ping >/dev/null 2>&1; then
        timeout 10 scancel --full --user=root || true
        for _ in $(seq 50); do [ -n "$(timeout 5 squeue -h || true)" ] || break; sleep 0.2; done
    fi
    for name in slurmd slurmctld munged; do
        pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

start() {
    local host
    mkdir -p "$folder"/{munge,state,spool}
    chmod 755 "$folder" "$folder/munge"
    chmod 700 "$folder/state" "$folder/spool"
    (umask 077; head -c 1024 /dev/urandom >"$folder/munge/key")
    # Two ports that nobody listens to.
    free_port() {
        local port
        while port=$((20000 + RANDOM % 10000)); do
            (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
        done
    }
    host=$(hostname -s)
    cat >"$SLURM_CONF" <<CONF
ClusterName=pdadmm
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that is requeued starts again once its old credential has expired.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=1
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$PROCESSORS State=UNKNOWN
PartitionName=P Nodes=$host Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
CONF
    munged --socket="$folder/munge/socket" --key-file="$folder/munge/key" --log-file="$folder/munge/log" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munge/seed" --force >/dev/null 2>&1
    slurmctld -c >/dev/null 2>&1
    slurmd -c >/dev/null 2>&1
    for _ in $(seq 150); do
        case $(timeout 5 sinfo -h -o %T 2>/dev/null || true) in idle*) echo "$SLURM_CONF"; return ;; esac
        sleep 0.2
    done
    echo "error: the node did not become idle" >&2
    tail -n 20 "$folder"/slurmctld.log "$folder"/slurmd.log "$folder"/munge/log >&2 || true
    stop
    exit 1
}

case $1 in start | stop) "$1" ;; *) echo "error: start or stop, not $1" >&2; exit 2 ;; esac

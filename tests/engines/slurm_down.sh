#!/usr/bin/env bash
# Stops what slurm_up.sh started, by recorded pid only, and removes its state (--keep: keeps it).
set -uo pipefail
L=${AXTX_SLURM_DIR:?set AXTX_SLURM_DIR to the folder that holds the cluster}
export SLURM_CONF=$L/etc/slurm.conf

is() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]; }
stop() { # pidfile command seconds
    local p n=$(($3 * 10))
    p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] && is "$p" "$2" || return 0
    kill -TERM "$p" 2>/dev/null
    while ((n-- > 0)) && is "$p" "$2"; do sleep 0.1; done
    is "$p" "$2" && kill -KILL "$p"
    rm -f "$1"
}

if p=$(cat "$L/run/slurmctld.pid" 2>/dev/null) && is "$p" slurmctld; then
    scancel --user=root --quiet 2>/dev/null        # a job's slurmstepd would outlive slurmd
    for _ in $(seq 100); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
fi
for f in "$L"/run/slurmd-*.pid; do [ -e "$f" ] && stop "$f" slurmd 10; done
stop "$L/run/slurmctld.pid" slurmctld 20
stop "$L/run/slurmdbd.pid" slurmdbd 20
stop "$L/run/mysql.pid" mariadbd 30
stop "$L/run/munged.pid" munged 5
[ "${1:-}" = --keep ] || rm -rf "$L"
echo "slurm_down: stopped" >&2

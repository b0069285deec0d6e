#!/usr/bin/env bash
# A private Slurm cluster with accounting on one Debian host, for tests. Run as root. Idempotent: called again, it
# starts what is not running (the tests use that to end an outage).
#
#   export AXTX_SLURM_DIR=$(mktemp -d /tmp/axtx-slurm-XXXX)   # all state; keep it short, socket paths have a limit
#   tests/engines/slurm_up.sh && . "$AXTX_SLURM_DIR/env.sh"   # SLURM_CONF: all that sbatch and TorchX need
#   tests/engines/slurm_down.sh                               # stops it and removes the state
#
# AXTX_SLURM_NODES (3) node daemons, each with AXTX_SLURM_CPUS (4), which need not be real.
# What runs: munged, mariadbd (a socket only), slurmdbd, slurmctld, slurmd for each node. No systemd, no cgroups;
# everything listens on loopback, on free ports that are chosen once.
set -euo pipefail

L=${AXTX_SLURM_DIR:?set AXTX_SLURM_DIR to the folder that holds the cluster}
NODES=${AXTX_SLURM_NODES:-3}
CPUS=${AXTX_SLURM_CPUS:-4}
[ "$(id -u)" = 0 ] || { echo "slurm_up: needs root" >&2; exit 1; }
[ ${#L} -le 60 ] || { echo "slurm_up: the path $L is too long for a unix socket" >&2; exit 1; }

# --- packages --------------------------------------------------------------------------------------------------------
mkdir -p "$L"/{etc,log,run,ctld,db,munge}
"$(dirname "$0")/apt_install.sh" munge mariadb-server slurmctld slurmd slurmdbd slurm-client

# Slurm binds to what the short host name resolves to (NoInAddrAny); that has to be loopback.
HOST=$(hostname -s)
getent ahostsv4 "$HOST" | awk '{print $1}' | grep -qx '127\..*' || echo "127.0.0.1 $HOST" >>/etc/hosts

# --- ports: free ones below the ephemeral range, so that nobody's outgoing connection takes one during an outage -------
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
        [[ " ${ports[*]-} " == *" $port "* ]] && continue
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { ports+=("$port"); return; }
    done
}
ports=()
if [ -s "$L/etc/ports" ]; then
    read -r -a ports <"$L/etc/ports"
else
    for ((i = 0; i < NODES + 2; i++)); do free_port; done
    echo "${ports[*]}" >"$L/etc/ports"
fi

# --- configuration ---------------------------------------------------------------------------------------------------
chmod 755 "$L" "$L"/{etc,log,run}
cat >"$L/etc/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job may not start again before the credential expired: 120 s by default
AuthInfo=socket=$L/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$L/ctld
SlurmdSpoolDir=$L/run/spool-%n
SlurmctldPidFile=$L/run/slurmctld.pid
SlurmdPidFile=$L/run/slurmd-%n.pid
SlurmctldLogFile=$L/log/slurmctld.log
SlurmdLogFile=$L/log/slurmd-%n.log
# no cgroups, no task binding
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
# a restarted node comes back by itself, and may claim more than the machine has
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldTimeout=30
# for how long a command tries to reach a daemon that is away: 10 s by default
MessageTimeout=5
# how soon a node whose daemon was killed is down
SlurmdTimeout=10
InactiveLimit=0
KillWait=3
MinJobAge=300
# at once, not every 30 s; parts of a heterogeneous job are started by the backfill scheduler only
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,bf_continue
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=10
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=${ports[1]}
# with munge this is no password but the socket used towards slurmdbd
AccountingStoragePass=$L/run/munge.sock
${AXTX_SLURM_EXTRA:-}
$(for ((i = 1; i <= NODES; i++)); do
    echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=${ports[i + 1]} CPUs=$CPUS RealMemory=64000 State=UNKNOWN"
done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
# what runs in this partition is preempted by jobs of another one that comes first, which a test makes
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
CONF

# slurmd initialises its cgroup plugin even when nothing uses it; v2 wants systemd, v1 does nothing until asked.
echo "CgroupPlugin=cgroup/v1" >"$L/etc/cgroup.conf"

cat >"$L/etc/slurmdbd.conf" <<CONF
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=${ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$L/run/munge.sock
CommunicationParameters=NoInAddrAny
CommitDelay=0
LogFile=$L/log/slurmdbd.log
PidFile=$L/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CONF
chmod 600 "$L/etc/slurmdbd.conf"

cat >"$L/etc/my.cnf" <<CONF
[mariadbd]
user=mysql
datadir=$L/db
socket=$L/run/mysql.sock
pid-file=$L/run/mysql.pid
log-error=$L/log/mysql.log
skip-networking
skip-log-bin
performance_schema=OFF
innodb_buffer_pool_size=32M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
key_buffer_size=1M
max_connections=40
CONF

cat >"$L/env.sh" <<CONF
export AXTX_SLURM_DIR=$L
export SLURM_CONF=$L/etc/slurm.conf
CONF
export SLURM_CONF=$L/etc/slurm.conf

# --- daemons ---------------------------------------------------------------------------------------------------------
alive() { # pidfile command
    local p; p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null)" = "$2" ]
}
wait_for() { # seconds what command...
    local end=$((SECONDS + $1)) what=$2; shift 2
    until timeout 5 "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { echo "slurm_up: $what did not become ready; last log lines:" >&2
                               tail -n 15 "$L"/log/*.log >&2 || true; exit 1; }
        sleep 0.05
    done
}

[ -s "$L/munge/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$L/munge/munge.key")
chown -R root:root "$L/munge"; chmod 700 "$L/munge"; chmod 600 "$L/munge/munge.key"
if ! alive "$L/run/munged.pid" munged; then
    rm -f "$L/run/munge.sock"*
    # --force: the socket's folder belongs to us, not to munge
    setsid munged --force --key-file="$L/munge/munge.key" --socket="$L/run/munge.sock" \
        --pid-file="$L/run/munged.pid" --log-file="$L/log/munged.log" --seed-file="$L/munge/seed" \
        --num-threads=2 </dev/null >>"$L/log/munged.out" 2>&1
fi
wait_for 10 munged sh -c "munge -n -S $L/run/munge.sock | unmunge -S $L/run/munge.sock"

if [ ! -d "$L/db/mysql" ]; then
    chown mysql: "$L/db"
    mariadb-install-db --no-defaults --user=mysql --datadir="$L/db" --skip-test-db \
        --auth-root-authentication-method=socket --auth-root-socket-user=root >"$L/log/install-db.log" 2>&1
fi
chown mysql: "$L/run"; touch "$L/log/mysql.log"; chown mysql: "$L/log/mysql.log"
if ! alive "$L/run/mysql.pid" mariadbd; then
    rm -f "$L/run/mysql.pid"
    setsid mariadbd --defaults-file="$L/etc/my.cnf" </dev/null >>"$L/log/mysql.out" 2>&1 &
fi
wait_for 60 mariadbd mariadb --no-defaults -uroot -S "$L/run/mysql.sock" -e 'select 1'

if ! alive "$L/run/slurmdbd.pid" slurmdbd; then
    rm -f "$L/run/slurmdbd.pid"
    MYSQL_UNIX_PORT=$L/run/mysql.sock setsid slurmdbd </dev/null >>"$L/log/slurmdbd.out" 2>&1
fi
wait_for 60 slurmdbd sacctmgr -n list cluster
# Registered before slurmctld starts, which would otherwise remember that there is no such cluster.
sacctmgr -n list cluster | grep -qw tests || sacctmgr -i add cluster tests >/dev/null
if ! alive "$L/run/slurmctld.pid" slurmctld; then
    rm -f "$L/run/slurmctld.pid"
    setsid slurmctld </dev/null >>"$L/log/slurmctld.out" 2>&1
fi
wait_for 60 slurmctld sh -c 'scontrol ping | grep -q "is UP"'
for ((i = 1; i <= NODES; i++)); do
    alive "$L/run/slurmd-n$i.pid" slurmd && continue
    rm -f "$L/run/slurmd-n$i.pid"
    mkdir -p "$L/run/spool-n$i"
    setsid slurmd -N "n$i" </dev/null >>"$L/log/slurmd-n$i.out" 2>&1 ||
        { echo "slurm_up: slurmd n$i did not start:" >&2; tail -n 15 "$L/log/slurmd-n$i".{log,out} >&2; exit 1; }
done
wait_for 60 "all $NODES nodes" bash -c \
    "[ \"\$(sinfo -h -N -o '%N %t' | awk '\$2 ~ /^(idle|mix|alloc|comp)\$/' | wc -l)\" -eq $NODES ]"
echo "slurm_up: $NODES nodes with $CPUS CPUs each, SLURM_CONF=$SLURM_CONF" >&2

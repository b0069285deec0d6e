#!/usr/bin/env bash
# A private Docker engine on a unix socket, for tests. Run as root. Idempotent: called again, it starts what is not
# running. No systemd, no image registry, no iptables.
#
#   export AXTX_DOCKER_DIR=$(mktemp -d /tmp/axtx-docker-XXXX)    # all state; keep it short
#   tests/engines/docker_up.sh && . "$AXTX_DOCKER_DIR/env.sh"    # DOCKER_HOST
#   tests/engines/docker_down.sh                                 # stops it and removes the state
#
# The image `axtx-tests:host` is empty but for the links of a merged /usr: an app that mounts the host's /usr (and
# /etc) read-only runs the host's programs.
set -euo pipefail

D=${AXTX_DOCKER_DIR:?set AXTX_DOCKER_DIR to the folder that holds the engine}
[ "$(id -u)" = 0 ] || { echo "docker_up: needs root" >&2; exit 1; }
[ ${#D} -le 60 ] || { echo "docker_up: the path $D is too long for a unix socket" >&2; exit 1; }
mkdir -p "$D"/{data,exec}

command -v dockerd >/dev/null && command -v curl >/dev/null || "$(dirname "$0")/apt_install.sh" docker.io curl

echo "export AXTX_DOCKER_DIR=$D DOCKER_HOST=unix://$D/docker.sock" >"$D/env.sh"
. "$D/env.sh"
answers() { curl -fsS --max-time 5 --unix-socket "$D/docker.sock" "http://docker/$1" 2>/dev/null; }

p=$(cat "$D/dockerd.pid" 2>/dev/null || true)
if [ -z "$p" ] || [ "$(cat "/proc/$p/comm" 2>/dev/null)" != dockerd ]; then
    rm -f "$D/dockerd.pid"
    # --live-restore: containers outlive the daemon, as on a cluster
    setsid dockerd --host="unix://$D/docker.sock" --data-root="$D/data" --exec-root="$D/exec" \
        --pidfile="$D/dockerd.pid" --live-restore --bridge=none --iptables=false --ip6tables=false --ip-masq=false \
        --ip-forward=false ${AXTX_DOCKER_STORAGE:+--storage-driver=$AXTX_DOCKER_STORAGE} </dev/null >>"$D/dockerd.log" 2>&1 &
fi
for i in $(seq 240); do
    answers _ping >/dev/null && break
    [ "$i" = 240 ] && { tail -30 "$D/dockerd.log" >&2; exit 1; }
    sleep 0.25
done

if ! answers images/axtx-tests:host/json >/dev/null; then
    t=$(mktemp -d)
    mkdir -p "$t"/{usr,etc,tmp,root,proc,sys,dev}
    for l in bin sbin lib lib64; do ln -s "usr/$l" "$t/$l"; done
    chmod 1777 "$t/tmp"
    tar -C "$t" -c . | curl -fsS --unix-socket "$D/docker.sock" -X POST -H 'Content-Type: application/x-tar' \
        --data-binary @- 'http://docker/images/create?fromSrc=-&repo=axtx-tests&tag=host' >/dev/null
    rm -rf "$t"
fi
echo "docker_up: DOCKER_HOST=$DOCKER_HOST, image axtx-tests:host" >&2
